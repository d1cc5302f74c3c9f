"""The bundle: a trained classifier as a folder that predicts from image files, with no code inside."""

import contextlib
import copy
import importlib
import importlib.metadata
import json
import sys
import tempfile
import warnings
import zipfile
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

from extract import Backbone, ExtractError, FeatureExtractor, Recipe, recipe_of
from extract.engines import NUMERICS, choose_device, lacks_numerics
from extract.weights import is_file_source, save_weights
from heads import Calibration
from pipelines.blending import BlendedHead, Voter
from pipelines.classifier import ImageClassifier

SCHEMA = 1
OURS = ("torchvision.", "permafrost.")  # architectures that are built from their name alone
KEYS = {"recipe", "backbone", "size", "taps", "classes", "calibration"}
RECIPE_KEYS = {field.name for field in fields(Recipe)}
FILE, HEAD, ROWS, WEIGHTS = "bundle.json", "head.skops", "rows.npy", "weights.safetensors"
# where a classifier keeps training rows
ROW_KEEPERS = {"SVC": "support_vectors_", "KNeighborsClassifier": "_fit_X"}
PACKAGES = ("permafrost", "torch", "torchvision", "scikit-learn", "numpy", "skops")
# what heads are made of beyond what skops trusts by itself; no other type is ever loaded
TRUSTED_TYPES = (
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.EuclideanDistance32",
    "sklearn._loss.loss.HalfMultinomialLoss",
)


class BundleError(ValueError):
    """A bundle that can't be written or read, or whose weights differ from this machine's; one clear line."""


def save_classifier(classifier: ImageClassifier, path) -> Path:
    """Write a fitted classifier as a folder of JSON, skops, numpy rows that a head keeps, and local weights.

    Raises BundleError where the folder already holds something else.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / FILE).exists())):
        raise BundleError(f"{folder} exists and is no bundle: choose another path")
    with _folder_aside(folder) as aside:
        _write(classifier, aside)
    return folder


@contextlib.contextmanager
def _folder_aside(folder):
    """A temporary folder beside `folder` that takes its place as a whole on leaving without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as work:
        aside = Path(work, "new")
        aside.mkdir()
        yield aside
        if folder.exists():
            folder.rename(Path(work, "old"))
        aside.rename(folder)


def _write(classifier, folder):
    extractor = classifier.extractor_
    backbone, recipe = extractor.load_backbone(), extractor.recipe()
    if is_file_source(backbone.weights):
        save_weights(backbone, folder / WEIGHTS)
    voters = classifier.head_.voters if isinstance(classifier.head_, BlendedHead) else ()
    if not voters:
        _dump_head(classifier.head_, classifier.rows_, folder)
    for number, voter in enumerate(voters):
        _dump_head(voter.head, voter.rows, folder, _numbered(number))
    calibration = classifier.calibration_
    content = {
        "schema": SCHEMA,
        "recipe": json.loads(recipe.to_json()),
        "backbone": {"name": backbone.name, "weights": backbone.card.weights, "seed": backbone.seed},
        "size": backbone.size,
        "taps": [str(tap) for tap in extractor.taps()],
        "classes": classifier.classes_.tolist(),
        "calibration": calibration and calibration.to_dict(),
        "members": [_describe_voter(voter) for voter in voters] or None,
        "versions": {name: _version(name) for name in PACKAGES},
    }
    (folder / FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _describe_voter(voter):
    calibration = voter.calibration and voter.calibration.to_dict()
    return {"columns": list(voter.columns), "weight": voter.weight, "calibration": calibration}


def _numbered(number):
    """(file of a member's head, file of its rows)."""
    return tuple(f"{stem}-{number}.{ending}" for stem, ending in (name.split(".") for name in (HEAD, ROWS)))


def _dump_head(head, rows, folder, names=(HEAD, ROWS)):
    head, rows = take_rows(head, rows)
    file = folder / names[0]
    skops = _import_skops()
    if rows is not None:
        np.save(folder / names[1], rows, allow_pickle=False)
    skops.dump(head, file, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    strange = set(skops.get_untrusted_types(file=file)) - set(TRUSTED_TYPES)
    if strange:
        raise BundleError(
            f"a head that holds {', '.join(sorted(strange))} can't be kept in a bundle: use a head of the catalogue"
        )


def load_classifier(path, *, backbone=None, cache=False, device="auto", on_warning=warnings.warn) -> ImageClassifier:
    """A fitted ImageClassifier from a bundle; by default it keeps no features on disk.

    backbone : the network (a Backbone or torch module) of a bundle whose backbone is one's own; a bundle never
        imports code it names.

    on_warning : called with one line where this machine can't compute as the training did and float32 is used.

    Raises BundleError where the folder is no bundle, or the network or its weights differ from those it was
    trained with.
    """
    folder, content = Path(path), _read(Path(path))
    source = content["backbone"]
    if backbone is None and not content["recipe"]["architecture"].startswith(OURS):
        raise BundleError(
            f"{folder} was trained on {source['name']}, which is one's own, and a bundle holds no code: "
            "use load_classifier(path, backbone=…) in a script"
        )
    weights = source["weights"] if backbone is None else None
    if (folder / WEIGHTS).exists() and not isinstance(backbone, Backbone):
        weights = str(folder / WEIGHTS)
    extractor = FeatureExtractor(
        layer="+".join(content["taps"]),
        backbone=backbone if backbone is not None else source["name"],
        weights=weights,
        size=None if isinstance(backbone, Backbone) else _size(content["size"]),
        seed=source["seed"],
        numerics=_usable_numerics(content["recipe"]["numerics"], device, on_warning),
        device=device,
        cache=cache,
    )
    card = _check_same(folder, content["recipe"], extractor)
    head, rows = _load_blend(folder, content["members"]) if content.get("members") else _load_head(folder)
    width = sum(card.width(tap) for tap in extractor.taps())
    if getattr(head, "n_features_in_", width) != width:
        raise BundleError(
            f"{folder}: its taps give {width} features, its head takes {head.n_features_in_}: copy it again"
        )
    names = set(ImageClassifier().get_params())
    params = {name: value for name, value in extractor.get_params(deep=False).items() if name in names}
    calibration = content["calibration"] and Calibration.from_dict(content["calibration"])
    return ImageClassifier(head=head, **params).assemble(extractor, head, calibration, rows)


def _usable_numerics(numerics, device, on_warning):
    reason = lacks_numerics(numerics, choose_device(device))
    if reason is None:
        return numerics
    on_warning(f"trained in {numerics}, predicting in float32: {reason}; labels may differ for close cases")
    return "float32"


def take_rows(head, rows):
    """A fitted head and the training rows it keeps, unscaled -> (the head without them, the rows as narrow as exact).

    Kept features are float16 or float32 before the scaler and float32 or float64 behind it. They are taken only
    where scaling them again gives the very same numbers; else the head stays whole and rows are None.
    """
    if rows is None:
        return head, None
    name = ROW_KEEPERS[type(head[-1]).__name__]
    scaled = getattr(head[-1], name)
    with np.errstate(over="ignore"):
        half = rows.astype(np.float16)
    rows = half if np.array_equal(half, rows) else rows
    if not np.array_equal(_scaled(head, rows, scaled.dtype), scaled):
        return head, None
    slim = copy.copy(head[-1])
    setattr(slim, name, np.empty((0, rows.shape[1]), scaled.dtype))
    return Pipeline([head.steps[0], (head.steps[1][0], slim)]), rows


def put_rows(head, rows) -> None:
    """Give a head loaded from a bundle its training rows back, scaled."""
    name = ROW_KEEPERS[type(head[-1]).__name__]
    setattr(head[-1], name, _scaled(head, rows, getattr(head[-1], name).dtype))


def _scaled(head, rows, dtype):
    return np.ascontiguousarray(head[0].transform(rows.astype(np.float32)), dtype=dtype)


def _import_skops():
    """Import skops without torch: it imports every module of scikit-learn, and one of those takes seconds for torch."""
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None
    try:
        return importlib.import_module("skops.io")
    finally:
        if hide:
            del sys.modules["torch"]


def _read(folder):
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder} is no bundle ({error}): expected the model folder that a run wrote") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise BundleError(f"{folder} has schema {schema!r}, expected {SCHEMA}: use a matching version")
    recipe = content.get("recipe")
    if not set(content) >= KEYS or not isinstance(recipe, dict) or not set(recipe) >= RECIPE_KEYS:
        raise BundleError(f"{folder / FILE} lacks what a run writes: copy the whole bundle again")
    if recipe["numerics"] not in NUMERICS:
        raise BundleError(f"{folder} has numerics {recipe['numerics']!r}, expected one of {', '.join(NUMERICS)}")
    return content


def _load_blend(folder, members):
    voters = []
    try:
        for number, member in enumerate(members):
            head, rows = _load_head(folder, _numbered(number))
            calibration = member["calibration"] and Calibration.from_dict(member["calibration"])
            start, stop = map(int, member["columns"])
            voters.append(Voter(head, calibration, (start, stop), float(member["weight"]), rows))
    except (KeyError, TypeError) as error:
        raise BundleError(f"{folder / FILE}: a member lacks {error}; copy the whole bundle again") from error
    return BlendedHead(voters), None


def _load_head(folder, names=(HEAD, ROWS)):
    skops, rows = _import_skops(), None
    file, rows_file = (folder / name for name in names)
    try:
        head = skops.load(file, trusted=list(TRUSTED_TYPES))
        if rows_file.exists():
            rows = np.load(rows_file, allow_pickle=False).astype(np.float32)
            put_rows(head, rows)
        return head, rows
    except skops.exceptions.UntrustedTypesFoundException as error:
        raise BundleError(f"{file} holds types that no head has: {error}; it is not loaded") from error
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise BundleError(f"can't read {file}: {error}; copy the whole bundle again") from error


def _check_same(folder, kept, extractor):
    try:
        card = extractor.load_backbone().card
    except ExtractError as error:
        raise BundleError(f"{folder} needs its backbone: {error}") from error
    here = asdict(recipe_of(extractor.load_backbone(), kept["numerics"]))
    for name, value in here.items():
        if kept[name] != value:
            raise BundleError(
                f"{folder} was trained with {name} {str(kept[name])[:40]!r}, this machine has {str(value)[:40]!r}: "
                "use the backbone and version it was trained with"
            )
    return card


def _size(size):
    return tuple(size) if isinstance(size, list) else size


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
