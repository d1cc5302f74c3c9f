"""The bundle: a trained classifier as a folder without code, which predicts from image files."""

import contextlib
import importlib
import importlib.metadata
import json
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from data import Reading
from extract import Backbone, ExtractError, FeatureExtractor, Recipe, recipe_of
from extract.engines import NUMERICS, choose_device, lacks_numerics
from extract.extractor import JoinedExtractor, extractors_of
from extract.preprocessing import WITH_FLIPS
from extract.recipe import reading_of
from extract.weights import is_file_source, save_weights
from heads import Calibration
from heads.blended import BlendedHead, Member
from heads.catalog import find_name, trusted_types
from heads.rows import put_rows, take_rows
from pipelines.classifier import ImageClassifier
from pipelines.errors import BundleError

SCHEMA = 1
OURS = ("torchvision.", "permafrost.")  # architectures that are built from their name alone
KEYS = {"extractors", "classes", "calibration"}
EXTRACTOR_KEYS = {"recipe", "backbone", "size", "taps"}
RECIPE_KEYS = {field.name for field in fields(Recipe)}
FILE = "bundle.json"
HEAD = "head.skops"
ROWS = "rows.npy"
PLACES = "places.npy"
WEIGHTS = "weights.safetensors"
PACKAGES = ("permafrost", "torch", "torchvision", "scikit-learn", "numpy", "skops")


def save_classifier(classifier: ImageClassifier, path: str | Path) -> Path:
    """Write a fitted classifier as a folder: JSON, skops, rows that a head keeps, local weights.

    Parameters
    ----------
    classifier : fitted ImageClassifier
    path : str or Path
        A folder that is not there, is empty, or holds a bundle, which is then replaced as a whole.

    Returns
    -------
    Path

    Raises
    ------
    BundleError
        The folder holds something else, or the head is of types that no bundle may hold.
    """
    folder = Path(path)
    if _holds_something_else(folder):
        raise BundleError(f"{folder} exists and is no bundle: choose another path")
    with _folder_aside(folder) as aside:
        _write(classifier, aside)
    return folder


def _holds_something_else(folder: Path) -> bool:
    if not folder.exists():
        return False
    if not folder.is_dir():
        return True
    return any(folder.iterdir()) and not (folder / FILE).exists()


@contextlib.contextmanager
def _folder_aside(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` as a whole, unless an error leaves it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as work:
        aside = Path(work, "new")
        aside.mkdir()
        yield aside
        if folder.exists():
            folder.rename(Path(work, "old"))
        aside.rename(folder)


def _write(classifier: ImageClassifier, folder: Path) -> None:
    extractors = extractors_of(classifier.extractor_)
    members = None
    if isinstance(classifier.head_, BlendedHead):
        members = _write_members(classifier.head_.members, folder)
    else:
        head, rows = take_rows(classifier.head_, classifier.rows_)
        _write_head(head, folder / HEAD)
        if rows is not None:
            np.save(folder / ROWS, rows, allow_pickle=False)
    content = {
        "schema": SCHEMA,
        "extractors": [_write_extractor(own, i, folder) for i, own in enumerate(extractors)],
        "classes": classifier.classes_.tolist(),
        "calibration": _as_numbers(classifier.calibration_),
        "members": members,
        "versions": {name: _version(name) for name in PACKAGES},
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


def _write_extractor(extractor: FeatureExtractor, number: int, folder: Path) -> dict:
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


def _numbered(name: str, number: int) -> str:
    """`head.skops` -> `head-1.skops`."""
    stem, ending = name.split(".")
    return f"{stem}-{number}.{ending}"


def _write_members(members: Sequence[Member], folder: Path) -> list[dict]:
    """Write a blend's heads -> their description; heads on the same columns share their rows."""
    rows_by_columns: dict[Any, list[tuple[int, np.ndarray]]] = {}
    for number, member in enumerate(members):
        head, rows = take_rows(member.estimator, member.rows)
        _write_head(head, folder / _numbered(HEAD, number))
        if rows is not None:
            rows_by_columns.setdefault(member.columns, []).append((number, rows))
    table_of = {}
    for table, own in enumerate(rows_by_columns.values()):
        distinct, places = _distinct([rows for _, rows in own])
        np.save(folder / _numbered(ROWS, table), distinct, allow_pickle=False)
        for (number, _), places_of_member in zip(own, places, strict=True):
            np.save(folder / _numbered(PLACES, number), places_of_member, allow_pickle=False)
            table_of[number] = table
    return [
        {
            "columns": list(member.columns),
            "weight": member.weight,
            "calibration": _as_numbers(member.calibration),
            "rows": table_of.get(number),
        }
        for number, member in enumerate(members)
    ]


def _as_numbers(calibration: Calibration | None) -> dict | None:
    return None if calibration is None else calibration.to_dict()


def _distinct(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Arrays (m, d) -> (their distinct rows, for each array the places of its rows among these)."""
    joined = np.ascontiguousarray(np.concatenate(arrays))
    # as one opaque value a row, so that rows are compared bit by bit and sorted at once
    opaque = np.dtype((np.void, joined.dtype.itemsize * joined.shape[1]))
    _, first, places = np.unique(
        joined.view(opaque).ravel(), return_index=True, return_inverse=True
    )
    ends = np.cumsum([len(rows) for rows in arrays])[:-1]
    return joined[first], np.split(places.ravel().astype(np.uint32), ends)


def _write_head(head: Any, file: Path) -> None:
    skops = _import_skops()
    skops.dump(head, file, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    strange = set(skops.get_untrusted_types(file=file)) - set(trusted_types())
    if strange:
        raise BundleError(
            f"a head that holds {', '.join(sorted(strange))} can't be kept in a bundle: "
            "use a head of the catalogue"
        )


@dataclass(frozen=True)
class _Place:
    """Where and how a loaded classifier computes its features."""

    cache: Any
    device: str
    on_warning: Callable


def load_classifier(
    path: str | Path,
    *,
    backbone: Any = None,
    cache: Any = False,
    device: str = "auto",
    on_warning: Callable = warnings.warn,
) -> ImageClassifier:
    """A fitted ImageClassifier from a bundle; by default it keeps no features on disk.

    Parameters
    ----------
    path : str or Path
        The folder that `save_classifier` wrote.
    backbone : Backbone, torch module, or list of such
        The network of a bundle whose backbone is one's own; of several in the bundle's order. A
        bundle never imports code it names.
    cache, device
        As in `FeatureExtractor`.
    on_warning : callable
        Called with one line where this machine can't compute as the training did and float32 is
        used.

    Returns
    -------
    ImageClassifier

    Raises
    ------
    BundleError
        The folder is no bundle, or the network or its weights differ from those it was trained
        with.
    """
    folder = Path(path)
    content = _read(folder)
    place = _Place(cache, device, on_warning)
    extractors = _load_extractors(folder, content["extractors"], backbone, place)
    extractor = extractors[0] if len(extractors) == 1 else JoinedExtractor(extractors)
    if content.get("members"):
        head, rows = _load_blend(folder, content["members"]), None
    else:
        head, rows = _load_head(folder)
    width = sum(own.load_backbone().card.width(tap) for own in extractors for tap in own.taps())
    if getattr(head, "n_features_in_", width) != width:
        raise BundleError(
            f"{folder}: its taps give {width} features, its head takes {head.n_features_in_}: "
            "copy it again"
        )
    names = set(ImageClassifier().get_params())
    params = extractors[0].get_params(deep=False)
    params = {name: value for name, value in params.items() if name in names}
    calibration = _calibration(content["calibration"])
    return ImageClassifier(head=head, **params).assemble(extractor, head, calibration, rows)


def _calibration(numbers: dict | None) -> Calibration | None:
    return None if numbers is None else Calibration.from_dict(numbers)


def _load_extractors(
    folder: Path, described: Sequence[dict], given: Any, place: _Place
) -> list[FeatureExtractor]:
    """The extractors of a bundle; networks of one's own are taken from those given, in order."""
    networks = list(given) if isinstance(given, (list, tuple)) else [given]
    extractors = []
    for number, extractor in enumerate(described):
        is_ours = extractor["recipe"]["architecture"].startswith(OURS)
        network = None
        if networks and (not is_ours or len(described) == 1):
            network = networks.pop(0)
        weights = folder / _numbered(WEIGHTS, number)
        extractors.append(_load_extractor(folder, extractor, network, weights, place))
    return extractors


def _load_extractor(
    folder: Path, described: dict, network: Any, weights_file: Path, place: _Place
) -> FeatureExtractor:
    source, recipe = described["backbone"], described["recipe"]
    if network is None and not recipe["architecture"].startswith(OURS):
        raise BundleError(
            f"{folder} was trained on {source['name']}, which is one's own, and a bundle holds no "
            "code: use load_classifier(path, backbone=…) in a script"
        )
    weights = source["weights"] if network is None else None
    if weights_file.exists() and not isinstance(network, Backbone):
        weights = str(weights_file)
    size, reading = described["size"], _reading(folder, recipe)
    extractor = FeatureExtractor(
        layer="+".join(described["taps"]),
        backbone=network if network is not None else source["name"],
        weights=weights,
        size=None if isinstance(network, Backbone) else _as_tuple(size),
        seed=source["seed"],
        numerics=_usable_numerics(recipe["numerics"], place),
        device=place.device,
        cache=place.cache,
        flips=recipe["view"] == str(WITH_FLIPS),
        intensity=reading.intensity,
        page=reading.page + 1,
        channels=reading.channels,
    )
    _check_same(folder, recipe, extractor)
    return extractor


def _reading(folder: Path, recipe: dict) -> Reading:
    """How the training images were read, and new ones are."""
    try:
        return reading_of(recipe["decode"])
    except ValueError as error:
        raise BundleError(f"{folder} was trained with another {error}") from error


def _as_tuple(size: Any) -> Any:
    # JSON has no tuples
    return tuple(size) if isinstance(size, list) else size


def _usable_numerics(numerics: str, place: _Place) -> str:
    reason = lacks_numerics(numerics, choose_device(place.device))
    if reason is None:
        return numerics
    place.on_warning(
        f"trained in {numerics}, predicting in float32: {reason}; labels may differ for close cases"
    )
    return "float32"


def _import_skops() -> Any:
    """Import skops without torch.

    It imports every module of scikit-learn, and one of those takes seconds to import torch where it
    is there; a None in `sys.modules` makes that import fail at once, as where it is not.
    """
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]  # what import reads as "not there"
    try:
        return importlib.import_module("skops.io")
    finally:
        if hide:
            del sys.modules["torch"]


def _read(folder: Path) -> dict:
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
    described = content["extractors"] if set(content) >= KEYS else []
    if not described or not all(map(_is_whole, described)):
        raise BundleError(f"{folder / FILE} lacks what a run writes: copy the whole bundle again")
    for extractor in described:
        numerics = extractor["recipe"]["numerics"]
        if numerics not in NUMERICS:
            raise BundleError(
                f"{folder} has numerics {numerics!r}, expected one of {', '.join(NUMERICS)}"
            )
    return content


def _is_whole(extractor: Any) -> bool:
    if not isinstance(extractor, dict) or not set(extractor) >= EXTRACTOR_KEYS:
        return False
    recipe = extractor["recipe"]
    return isinstance(recipe, dict) and set(recipe) >= RECIPE_KEYS


def _load_blend(folder: Path, described: Sequence[dict]) -> BlendedHead:
    try:
        return BlendedHead(
            [_load_member(folder, number, own) for number, own in enumerate(described)]
        )
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"{folder / FILE}: a member lacks {error}; copy the whole bundle again"
        ) from error


def _load_member(folder: Path, number: int, described: dict) -> Member:
    table = described["rows"]
    files = []
    if table is not None:
        files = [folder / _numbered(ROWS, table), folder / _numbered(PLACES, number)]
    head, rows = _load_head(folder, _numbered(HEAD, number), files)
    start, stop = map(int, described["columns"])
    return Member(
        head=find_name(head) or "",
        params={},
        weight=float(described["weight"]),
        estimator=head,
        calibration=_calibration(described["calibration"]),
        columns=(start, stop),
        rows=rows,
    )


def _load_head(
    folder: Path, name: str = HEAD, files: Sequence[Path] | None = None
) -> tuple[Any, np.ndarray | None]:
    """A head and the rows it keeps, of `files` (rows, their places) or of the one there may be."""
    skops, file = _import_skops(), folder / name
    if files is None:
        files = [folder / ROWS] if (folder / ROWS).exists() else []
    try:
        head = skops.load(file, trusted=list(trusted_types()))
        arrays = [np.load(own, allow_pickle=False) for own in files]
        if not arrays:
            return head, None
        rows = arrays[0] if len(arrays) == 1 else arrays[0][arrays[1]]
        rows = rows.astype(np.float32)  # kept as float16 where that is exact
        put_rows(head, rows)
        return head, rows
    except skops.exceptions.UntrustedTypesFoundException as error:
        raise BundleError(
            f"{file} holds types that no head has: {error}; it is not loaded"
        ) from error
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, IndexError) as error:
        raise BundleError(f"can't read {file}: {error}; copy the whole bundle again") from error


def _check_same(folder: Path, trained: dict, extractor: FeatureExtractor) -> None:
    """Refuse a network here that differs from the one the bundle was trained with."""
    try:
        backbone = extractor.load_backbone()
        reading = _reading(folder, trained)
        here = asdict(recipe_of(backbone, trained["numerics"], trained["view"], reading))
    except ExtractError as error:
        raise BundleError(f"{folder} needs its backbone: {error}") from error
    for name, value in here.items():
        if trained[name] != value:
            raise BundleError(
                f"{folder} was trained with {name} {str(trained[name])[:40]!r}, "
                f"this machine has {str(value)[:40]!r}: "
                "use the backbone and version it was trained with"
            )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
