"""Reading a bundle: every file by its checksum, every value as if an enemy had written it."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data import Reading
from data.names import counted
from extract import (
    Backbone,
    ExtractError,
    FeatureExtractor,
    FeatureStore,
    ReadOnlyStore,
    load_backbone,
)
from extract.backbones import COPIED, named_backbone, scheme_of
from extract.engines import choose_device, lacks_numerics
from extract.extractor import JoinedExtractor
from extract.preprocessing import name_of
from extract.recipe import reading_of
from heads import Calibration
from heads.blended import BlendedHead, Member, check_probable
from heads.catalog import find_name, steps_of
from heads.fitted import check_fitted
from heads.rows import grow_tree, put_rows
from pipelines.bundle.description import ACCURACY, DEFINITION, read_description
from pipelines.bundle.exchange import find_folder
from pipelines.bundle.files import (
    FILE,
    HEAD,
    MODEL,
    PLACES,
    ROWS,
    WEIGHTS,
    check_file,
    numbered,
    read_array,
    read_file,
    refuse_others,
)
from pipelines.bundle.head_file import read_head
from pipelines.bundle.reference_files import read_reference
from pipelines.classifier import ImageClassifier, MeasuredAccuracy
from pipelines.errors import BundleError
from pipelines.exploration.reference import Reference

READS = 3  # of a bundle that is replaced while it is read


@dataclass(frozen=True)
class _Place:
    """Where and how a loaded classifier computes its features."""

    cache: Any
    device: str
    on_warning: Callable


@dataclass(frozen=True)
class _Heads:
    """What is read of a bundle before its network: what it says, its heads, its reference."""

    folder: Path
    content: dict
    head: Any
    rows: np.ndarray | None
    reference: Reference | None


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
        The folder that `save_classifier` wrote, or a run's folder with it inside.
    backbone : Backbone, torch module, or list of such
        The network of a bundle whose backbone is one's own; of several in the bundle's order, each
        once, whatever views it is used in. A bundle never imports code it names.
    cache, device
        As in `FeatureExtractor`; of a `ReadOnlyStore` features are read, and none are written.
    on_warning : callable
        Called with one line where this machine can't compute as the training did and float32 is
        used.

    Returns
    -------
    ImageClassifier

    Raises
    ------
    BundleError
        The folder is no bundle or not as it was written, or the network or its weights differ from
        those it was trained with.
    """
    read = _read(_inside_run(Path(path)))
    folder, content = read.folder, read.content
    place = _Place(cache, device, on_warning)
    extractors = _load_extractors(folder, content, backbone, place)
    extractor = extractors[0] if len(extractors) == 1 else JoinedExtractor(extractors)
    names = set(ImageClassifier().get_params())
    params = extractors[0].get_params(deep=False)
    params = {name: value for name, value in params.items() if name in names}
    calibration = _calibration(content["calibration"])
    classifier = ImageClassifier(head=read.head, **params)
    classifier.assemble(
        extractor, read.head, calibration, read.rows, content["fitted_on"], read.reference
    )
    if ACCURACY in content:
        classifier.accuracy_ = MeasuredAccuracy(**content[ACCURACY])
    return classifier


def _inside_run(path: Path) -> Path:
    """The bundle's own folder where its run's is given."""
    inside = path / MODEL
    return inside if inside.is_dir() and not (path / FILE).exists() else path


def _read(path: Path) -> _Heads:
    """Read all but the network; again where another bundle took this one's place meanwhile."""
    for _ in range(READS - 1):
        folder = find_folder(path)
        before = _identity(folder)
        try:
            return _read_folder(folder)
        except BundleError:
            if _identity(find_folder(path)) == before:
                raise
    return _read_folder(find_folder(path))


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _read_folder(folder: Path) -> _Heads:
    content = read_description(folder)
    files = content["files"]
    refuse_others(folder, files)
    for number in range(len(content["extractors"])):
        if numbered(WEIGHTS, number) in files:
            check_file(folder, numbered(WEIGHTS, number), files[numbered(WEIGHTS, number)])
    reference = read_reference(folder, content)
    if content["members"] is not None:
        return _Heads(folder, content, _load_blend(folder, content), None, reference)
    width = sum(sum(own["widths"]) for own in content["extractors"])
    names = [ROWS] if ROWS in files else []
    head, rows = _load_head(folder, content, HEAD, names, width)
    _check_probable(folder, head, content["calibration"])
    return _Heads(folder, content, head, rows, reference)


def _check_probable(folder: Path, head: Any, calibration: dict | None) -> None:
    try:
        check_probable(head, _calibration(calibration))
    except ValueError as error:
        raise BundleError(f"can't use {folder}: {error}; make the bundle again") from error


def _calibration(numbers: dict | None) -> Calibration | None:
    return None if numbers is None else Calibration.from_dict(numbers)


def _load_blend(folder: Path, content: dict) -> BlendedHead:
    described = content["members"]
    return BlendedHead(
        [_load_member(folder, content, number, own) for number, own in enumerate(described)]
    )


def _load_member(folder: Path, content: dict, number: int, described: dict) -> Member:
    names, table = [], described["rows"]
    if table is not None:
        names = [numbered(ROWS, table), numbered(PLACES, number)]
    start, stop = described["columns"]
    head, rows = _load_head(folder, content, numbered(HEAD, number), names, stop - start)
    _check_probable(folder, head, described["calibration"])
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
    folder: Path, content: dict, name: str, names: Sequence[str], width: int
) -> tuple[Any, np.ndarray | None]:
    """A head that takes `width` features and the rows it keeps, of `names` (rows, their places)."""
    files = content["files"]
    data = read_file(folder, name, files[name])
    arrays = [read_file(folder, own, files[own]) for own in names]
    try:
        head, rows = read_head(data), _read_rows(arrays, names, width)
        if rows is not None:
            put_rows(head, rows)
        grow_tree(head)
        if hasattr(steps_of(head)[-1], "n_jobs"):
            steps_of(head)[-1].n_jobs = None  # how many processes to use is this machine's to say
        check_fitted(head, width, content["classes"])
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(
            f"can't read {folder / name}: {reason}; copy the whole bundle again, or make it again"
        ) from error
    return head, rows


def _read_rows(arrays: Sequence[bytes], names: Sequence[str], width: int) -> np.ndarray | None:
    """Rows of `width` finite numbers; of a blend those at its member's places."""
    if not arrays:
        return None
    rows, name = read_array(arrays[0], names[0]), names[0]
    if rows.dtype not in (np.float16, np.float32) or rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(
            f"{name} holds {rows.dtype} {rows.shape}, expected rows of {width} features"
        )
    if len(arrays) == 2:
        places = read_array(arrays[1], names[1])
        if places.dtype.kind != "u" or places.ndim != 1 or (places >= len(rows)).any():
            raise ValueError(f"{names[1]} holds places that {name} has not")
        rows = rows[places]
    rows = rows.astype(np.float32)  # kept as float16 where that is exact
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} holds values that are no finite numbers")
    return rows


def _load_extractors(
    folder: Path, content: dict, given: Any, place: _Place
) -> list[FeatureExtractor]:
    """The extractors of a bundle; networks of one's own are taken from those given, in order."""
    networks = _networks(folder, content["extractors"], given)
    extractors = []
    for number, (extractor, network) in enumerate(
        zip(content["extractors"], networks, strict=True)
    ):
        weights = folder / numbered(WEIGHTS, number)
        own_weights = str(weights) if weights.name in content["files"] else None
        extractors.append(_load_extractor(folder, extractor, network, own_weights, place))
    return extractors


def _networks(folder: Path, described: Sequence[dict], given: Any) -> list:
    """For each extractor its network of those given, or None; a backbone in two views takes one."""
    networks = list(given) if isinstance(given, (list, tuple)) else [given]
    networks = [network for network in networks if network is not None]
    backbones = [_backbone_of(extractor) for extractor in described]
    distinct = dict(zip(backbones, described, strict=True))
    takers = [
        backbone
        for backbone, extractor in distinct.items()
        if len(distinct) == 1 or named_backbone(extractor["recipe"]["architecture"]) is None
    ]
    if len(networks) > len(takers):
        raise BundleError(
            f"got {counted(len(networks), 'network')} for {folder}, expected {len(takers)}: one "
            "for each backbone of one's own, in the bundle's order"
        )
    of_backbone = dict(zip(takers, networks, strict=False))  # a missing one is named on loading
    return [of_backbone.get(backbone) for backbone in backbones]


def _backbone_of(described: dict) -> str:
    """What tells the backbone of an extractor from others', whatever view it is used in."""
    recipe = {name: value for name, value in described["recipe"].items() if name != "view"}
    return json.dumps([described["backbone"], described["size"], recipe], sort_keys=True)


def _load_extractor(
    folder: Path, described: dict, network: Any, weights_file: str | None, place: _Place
) -> FeatureExtractor:
    source, recipe = described["backbone"], described["recipe"]
    name = named_backbone(recipe["architecture"])
    if network is None and name is None:
        raise BundleError(
            f"{folder} was trained on {source['name'][:80]}, which is one's own, and a bundle "
            "holds no code: use load_classifier(path, backbone=…) in a script"
        )
    if network is None and not _is_named(source, name):
        raise BundleError(
            f"{folder} names backbone {source['name'][:80]!r} for {name}: copy it again"
        )
    weights = source["weights"] if network is None else None
    if weights_file is not None and not isinstance(network, Backbone):
        weights = weights_file
    size, reading = described["size"], _reading(folder, recipe)
    if network is None and DEFINITION in source:
        network = _defined(folder, described, weights_file or source["weights"], place)
        weights = None
    extractor = FeatureExtractor(
        layer="+".join(described["taps"]),
        backbone=network if network is not None else name,
        weights=weights,
        size=None if isinstance(network, Backbone) else _as_tuple(size),
        seed=source["seed"],
        numerics=_usable_numerics(recipe["numerics"], place),
        device=place.device,
        cache=place.cache,
        view=name_of(recipe["view"]),
        intensity=reading.intensity,
        page=reading.page + 1,
        channels=reading.channels,
    )
    _check_same(folder, described, extractor)
    return extractor


def _is_named(source: dict, name: str | None) -> bool:
    """Whether the name that was typed may mean this one: a tag or a folder stands behind some.

    One of Hugging Face alone would make this machine look for it: what defines it has to be there.
    """
    typed = source["name"]
    if scheme_of(typed) == "tuned":
        return typed == f"tuned:{name}" and DEFINITION in source
    if name is not None and scheme_of(name) == "hf" and DEFINITION not in source:
        return False
    return (
        typed == name
        if name is None or scheme_of(name) not in COPIED
        else (scheme_of(typed) == scheme_of(name))
    )


def _defined(folder: Path, described: dict, weights: str, place: _Place) -> Backbone:
    """The network that the bundle itself defines, of the weights beside it."""
    source = described["backbone"]
    typed = source["name"]
    is_tuned = scheme_of(typed) == "tuned"  # of the network that the architecture names
    try:
        return load_backbone(
            typed if is_tuned else named_backbone(described["recipe"]["architecture"]),
            weights,
            seed=source["seed"],
            size=_as_tuple(described["size"]),
            cache=_memory(place.cache),
            definition=source[DEFINITION],
        )
    except ExtractError as error:
        raise BundleError(f"{folder} needs its backbone: {error}") from error


def _memory(cache: Any) -> Path | None:
    """Where what is known of a network is remembered beside such features; None for nowhere."""
    if cache is False:
        return None
    return cache.cache if isinstance(cache, ReadOnlyStore) else FeatureStore(cache).cache


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
    if numerics == "float32" and place.device == "auto":
        return numerics  # computed anywhere: a store that holds all rows spares torch's import
    reason = lacks_numerics(numerics, choose_device(place.device))
    if reason is None:
        return numerics
    place.on_warning(
        f"trained in {numerics}, predicting in float32: {reason}; labels may differ for close cases"
    )
    return "float32"


def _check_same(folder: Path, described: dict, extractor: FeatureExtractor) -> None:
    """Refuse a network here that differs from the one the bundle was trained with."""
    trained = described["recipe"]
    try:
        backbone = extractor.load_backbone()
        # these two are this machine's to choose: other numerics are warned of
        here = replace(extractor.recipe(), numerics=trained["numerics"], view=trained["view"])
        widths = [backbone.card.width(tap) for tap in extractor.taps()]
    except ExtractError as error:
        raise BundleError(f"{folder} needs its backbone: {error}") from error
    for name, value in asdict(here).items():
        if trained[name] != value:
            raise BundleError(
                f"{folder} was trained with {name} {str(trained[name])[:40]!r}, "
                f"this machine has {str(value)[:40]!r}: "
                "use the backbone and version it was trained with"
            )
    if widths != described["widths"]:
        raise BundleError(
            f"{folder}: its taps give {sum(widths)} features, its head takes "
            f"{sum(described['widths'])}: copy it again"
        )
