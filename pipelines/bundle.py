"""The bundle: a trained classifier as a folder that predicts from image files, with no code inside."""

import contextlib
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

from extract import Backbone, ExtractError, FeatureExtractor, Recipe, recipe_of
from extract.engines import NUMERICS, choose_device, lacks_numerics
from extract.weights import is_file_source, save_weights
from heads import (
    BlendedHead,
    Calibration,
    Member,
    find_name,
    put_rows,
    take_rows,
    trusted_types,
)
from pipelines.classifier import ImageClassifier
from pipelines.joined import JoinedExtractor, extractors_of

SCHEMA = 1
OURS = ("torchvision.", "permafrost.")  # architectures that are built from their name alone
KEYS = {"extractors", "classes", "calibration"}
EXTRACTOR_KEYS = {"recipe", "backbone", "size", "taps"}
RECIPE_KEYS = {field.name for field in fields(Recipe)}
FILE, HEAD, ROWS, PLACES, WEIGHTS = (
    "bundle.json",
    "head.skops",
    "rows.npy",
    "places.npy",
    "weights.safetensors",
)
PACKAGES = ("permafrost", "torch", "torchvision", "scikit-learn", "numpy", "skops")


class BundleError(ValueError):
    """A bundle that can't be written or read, or whose weights differ from this machine's; one clear line."""


def save_classifier(classifier: ImageClassifier, path) -> Path:
    """Write a fitted classifier as a folder of JSON, skops, numpy rows that a head keeps, and local weights.

    Raises BundleError where the folder already holds something else.
    """
    folder = Path(path)
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / FILE).exists())
    ):
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
    extractors = [
        _write_extractor(own, i, folder)
        for i, own in enumerate(extractors_of(classifier.extractor_))
    ]
    fitted_members = classifier.head_.members if isinstance(classifier.head_, BlendedHead) else ()
    if fitted_members:
        members = _dump_members(fitted_members, folder)
    else:
        head, rows = take_rows(classifier.head_, classifier.rows_)
        _dump_head(head, folder / HEAD)
        if rows is not None:
            np.save(folder / ROWS, rows, allow_pickle=False)
    calibration = classifier.calibration_
    content = {
        "schema": SCHEMA,
        "extractors": extractors,
        "classes": classifier.classes_.tolist(),
        "calibration": calibration and calibration.to_dict(),
        "members": members if fitted_members else None,
        "versions": {name: _version(name) for name in PACKAGES},
    }
    (folder / FILE).write_text(
        json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _write_extractor(extractor, number, folder):
    backbone = extractor.load_backbone()
    if is_file_source(backbone.weights):
        save_weights(backbone, folder / _numbered(WEIGHTS, number))
    return {
        "recipe": json.loads(extractor.recipe().to_json()),
        "backbone": {
            "name": backbone.name,
            "weights": backbone.card.weights,
            "seed": backbone.seed,
        },
        "size": backbone.size,
        "taps": [str(tap) for tap in extractor.taps()],
    }


def _numbered(name, number):
    """`head.skops` -> `head-1.skops`."""
    stem, ending = name.split(".")
    return f"{stem}-{number}.{ending}"


def _dump_members(fitted_members, folder):
    """Write a blend's heads, and the rows they keep once for all heads on the same columns -> its description."""
    taken = [take_rows(member.estimator, member.rows) for member in fitted_members]
    tables = {}
    for number, (member, (head, rows)) in enumerate(zip(fitted_members, taken, strict=True)):
        _dump_head(head, folder / _numbered(HEAD, number))
        if rows is not None:
            tables.setdefault(member.columns, []).append((number, rows))
    kept_in = {}
    for table, own in enumerate(tables.values()):
        shared, places = _distinct([rows for _, rows in own])
        np.save(folder / _numbered(ROWS, table), shared, allow_pickle=False)
        for (number, _), where in zip(own, places, strict=True):
            np.save(folder / _numbered(PLACES, number), where, allow_pickle=False)
            kept_in[number] = table
    return [
        {
            "columns": list(member.columns),
            "weight": member.weight,
            "calibration": member.calibration and member.calibration.to_dict(),
            "rows": kept_in.get(number),
        }
        for number, member in enumerate(fitted_members)
    ]


def _distinct(arrays):
    """Arrays (m, d) -> (their distinct rows, for each array the places of its rows among these)."""
    joined = np.ascontiguousarray(np.concatenate(arrays))
    keys = joined.view(np.dtype((np.void, joined.dtype.itemsize * joined.shape[1]))).ravel()
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    ends = np.cumsum([len(rows) for rows in arrays])[:-1]
    return joined[first], np.split(places.ravel().astype(np.uint32), ends)


def _dump_head(head, file):
    skops = _import_skops()
    skops.dump(head, file, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    strange = set(skops.get_untrusted_types(file=file)) - set(trusted_types())
    if strange:
        raise BundleError(
            f"a head that holds {', '.join(sorted(strange))} can't be kept in a bundle: use a head of the catalogue"
        )


def load_classifier(
    path, *, backbone=None, cache=False, device="auto", on_warning=warnings.warn
) -> ImageClassifier:
    """A fitted ImageClassifier from a bundle; by default it keeps no features on disk.

    backbone : the network (a Backbone or torch module) of a bundle whose backbone is one's own, or a list of such
        in the bundle's order where it has several; a bundle never imports code it names.

    on_warning : called with one line where this machine can't compute as the training did and float32 is used.

    Raises BundleError where the folder is no bundle, or the network or its weights differ from those it was
    trained with.
    """
    folder, content = Path(path), _read(Path(path))
    given = list(backbone) if isinstance(backbone, (list, tuple)) else [backbone]
    extractors = []
    for number, kept in enumerate(content["extractors"]):
        own = not kept["recipe"]["architecture"].startswith(OURS)
        network = given.pop(0) if given and (own or len(content["extractors"]) == 1) else None
        weights = folder / _numbered(WEIGHTS, number)
        extractors.append(
            _load_extractor(folder, kept, network, weights, cache, device, on_warning)
        )
    extractor = extractors[0] if len(extractors) == 1 else JoinedExtractor(extractors)
    head, rows = (
        _load_blend(folder, content["members"]) if content.get("members") else _load_head(folder)
    )
    width = sum(one.load_backbone().card.width(tap) for one in extractors for tap in one.taps())
    if getattr(head, "n_features_in_", width) != width:
        raise BundleError(
            f"{folder}: its taps give {width} features, its head takes {head.n_features_in_}: copy it again"
        )
    names = set(ImageClassifier().get_params())
    params = {
        name: value for name, value in extractors[0].get_params(deep=False).items() if name in names
    }
    calibration = content["calibration"] and Calibration.from_dict(content["calibration"])
    return ImageClassifier(head=head, **params).assemble(extractor, head, calibration, rows)


def _load_extractor(folder, kept, network, weights_file, cache, device, on_warning):
    source, recipe = kept["backbone"], kept["recipe"]
    if network is None and not recipe["architecture"].startswith(OURS):
        raise BundleError(
            f"{folder} was trained on {source['name']}, which is one's own, and a bundle holds no code: "
            "use load_classifier(path, backbone=…) in a script"
        )
    weights = source["weights"] if network is None else None
    if weights_file.exists() and not isinstance(network, Backbone):
        weights = str(weights_file)
    extractor = FeatureExtractor(
        layer="+".join(kept["taps"]),
        backbone=network if network is not None else source["name"],
        weights=weights,
        size=None if isinstance(network, Backbone) else _size(kept["size"]),
        seed=source["seed"],
        numerics=_usable_numerics(recipe["numerics"], device, on_warning),
        device=device,
        cache=cache,
        flips="+" in recipe["view"],
    )
    _check_same(folder, recipe, extractor)
    return extractor


def _usable_numerics(numerics, device, on_warning):
    reason = lacks_numerics(numerics, choose_device(device))
    if reason is None:
        return numerics
    on_warning(
        f"trained in {numerics}, predicting in float32: {reason}; labels may differ for close cases"
    )
    return "float32"


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
        raise BundleError(
            f"{folder} is no bundle ({error}): expected the model folder that a run wrote"
        ) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"{folder} has schema {schema!r}, expected {SCHEMA}: use a matching version"
        )
    if (
        not set(content) >= KEYS
        or not content["extractors"]
        or not all(map(_is_whole, content["extractors"]))
    ):
        raise BundleError(f"{folder / FILE} lacks what a run writes: copy the whole bundle again")
    for numerics in (kept["recipe"]["numerics"] for kept in content["extractors"]):
        if numerics not in NUMERICS:
            raise BundleError(
                f"{folder} has numerics {numerics!r}, expected one of {', '.join(NUMERICS)}"
            )
    return content


def _is_whole(kept):
    recipe = kept.get("recipe") if isinstance(kept, dict) and set(kept) >= EXTRACTOR_KEYS else None
    return isinstance(recipe, dict) and set(recipe) >= RECIPE_KEYS


def _load_blend(folder, members):
    fitted_members = []
    try:
        for number, member in enumerate(members):
            table = member["rows"]
            files = (
                ()
                if table is None
                else (folder / _numbered(ROWS, table), folder / _numbered(PLACES, number))
            )
            head, rows = _load_head(folder, _numbered(HEAD, number), files)
            calibration = member["calibration"] and Calibration.from_dict(member["calibration"])
            start, stop = map(int, member["columns"])
            fitted_members.append(
                Member(
                    find_name(head) or "",
                    {},
                    float(member["weight"]),
                    estimator=head,
                    calibration=calibration,
                    columns=(start, stop),
                    rows=rows,
                )
            )
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"{folder / FILE}: a member lacks {error}; copy the whole bundle again"
        ) from error
    return BlendedHead(fitted_members), None


def _load_head(folder, name=HEAD, files=None):
    """A head and the rows it keeps: of `files` (rows, their places), or all those of the one file there may be."""
    skops, file = _import_skops(), folder / name
    files = ([folder / ROWS] if (folder / ROWS).exists() else []) if files is None else files
    try:
        head = skops.load(file, trusted=list(trusted_types()))
        arrays = [np.load(file, allow_pickle=False) for file in files]
        if not arrays:
            return head, None
        rows = (arrays[0][arrays[1]] if len(arrays) > 1 else arrays[0]).astype(np.float32)
        put_rows(head, rows)
        return head, rows
    except skops.exceptions.UntrustedTypesFoundException as error:
        raise BundleError(
            f"{file} holds types that no head has: {error}; it is not loaded"
        ) from error
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, IndexError) as error:
        raise BundleError(f"can't read {file}: {error}; copy the whole bundle again") from error


def _check_same(folder, kept, extractor):
    try:
        backbone = extractor.load_backbone()
        here = asdict(recipe_of(backbone, kept["numerics"], kept["view"]))
    except ExtractError as error:
        raise BundleError(f"{folder} needs its backbone: {error}") from error
    for name, value in here.items():
        if kept[name] != value:
            raise BundleError(
                f"{folder} was trained with {name} {str(kept[name])[:40]!r}, this machine has {str(value)[:40]!r}: "
                "use the backbone and version it was trained with"
            )


def _size(size):
    return tuple(size) if isinstance(size, list) else size


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
