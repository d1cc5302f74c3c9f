"""The bundle: a trained classifier as a folder that predicts from image files, with no code inside."""

import copy
import importlib
import importlib.metadata
import json
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

from extract import ExtractError, FeatureExtractor, load_backbone
from extract.engines import choose_device, lacks_numerics
from extract.weights import is_file_source, save_weights
from heads import Calibration
from pipelines.classifier import ImageClassifier

SCHEMA = 1
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
    folder.mkdir(parents=True, exist_ok=True)
    extractor = classifier.extractor_
    backbone, recipe = extractor.load_backbone(), extractor.recipe()
    if is_file_source(backbone.weights):
        save_weights(backbone, folder / WEIGHTS)
    head, rows = take_rows(classifier.head_, classifier.rows_)
    _import_skops().dump(head, folder / HEAD, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    (folder / ROWS).unlink(missing_ok=True)
    if rows is not None:
        np.save(folder / ROWS, rows, allow_pickle=False)
    calibration = classifier.calibration_
    content = {
        "schema": SCHEMA,
        "recipe": json.loads(recipe.to_json()),
        "backbone": {"name": backbone.name, "weights": backbone.weights, "seed": extractor.seed},
        "size": extractor.size,
        "taps": [str(tap) for tap in extractor.taps()],
        "classes": classifier.classes_.tolist(),
        "calibration": calibration and calibration.to_dict(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    (folder / FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


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
    local = (folder / WEIGHTS).exists()
    if backbone is None and not content["recipe"]["architecture"].startswith("torchvision."):
        raise BundleError(f"{folder} was trained on {source['name']}, which is not torchvision's: pass backbone=…")
    extractor = FeatureExtractor(
        layer="+".join(content["taps"]),
        backbone=backbone if backbone is not None else source["name"],
        weights=str(folder / WEIGHTS) if local else (None if backbone is not None else source["weights"]),
        size=_size(content["size"]),
        seed=source["seed"],
        numerics=_usable_numerics(content["recipe"]["numerics"], device, on_warning),
        device=device,
        cache=cache,
    )
    _check_same(folder, content["recipe"], extractor)
    head, rows = _load_head(folder)
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
    if content.get("schema") != SCHEMA:
        raise BundleError(f"{folder} has schema {content.get('schema')!r}, expected {SCHEMA}: use a matching version")
    return content


def _load_head(folder):
    skops, rows = _import_skops(), None
    try:
        head = skops.load(folder / HEAD, trusted=list(TRUSTED_TYPES))
        if (folder / ROWS).exists():
            rows = np.load(folder / ROWS, allow_pickle=False).astype(np.float32)
            put_rows(head, rows)
        return head, rows
    except skops.exceptions.UntrustedTypesFoundException as error:
        raise BundleError(f"{folder / HEAD} holds types that no head has: {error}; it is not loaded") from error
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise BundleError(f"can't read {folder / HEAD}: {error}; copy the whole bundle again") from error


def _check_same(folder, kept, extractor):
    try:
        card = load_backbone(extractor.backbone, extractor.weights, seed=extractor.seed, size=extractor.size).card
    except ExtractError as error:
        raise BundleError(f"{folder} needs its backbone: {error}") from error
    here = {"architecture": card.architecture, "weights": card.digest, "preprocessing": card.transform_id}
    for name, value in here.items():
        if kept[name] != value:
            raise BundleError(
                f"{folder} was trained with {name} {kept[name][:24]}…, this machine has {value[:24]}…: "
                "use the backbone it was trained with"
            )


def _size(size):
    return tuple(size) if isinstance(size, list) else size


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
