"""Writing a bundle: JSON, skops, rows that a head keeps, local weights, and their checksums."""

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from extract import FeatureExtractor
from extract.backbones import is_copied
from extract.extractor import extractors_of
from extract.weights import save_weights
from heads import Calibration
from heads.blended import BlendedHead, Member, check_probable
from heads.fitted import check_fitted
from heads.rows import take_rows, without_tree
from pipelines.bundle.description import (
    ACCURACY,
    DEFINITION,
    REFERENCE,
    SCHEMA,
    read_description,
    render,
)
from pipelines.bundle.exchange import folder_aside
from pipelines.bundle.files import FILE, HEAD, PLACES, ROWS, WEIGHTS, describe_files, numbered
from pipelines.bundle.head_file import write_head
from pipelines.bundle.reference_files import write_reference
from pipelines.classifier import ImageClassifier
from pipelines.errors import BundleError

PACKAGES = ("permafrost", "torch", "torchvision", "scikit-learn", "numpy", "skops")


def save_classifier(classifier: ImageClassifier, path: str | Path) -> Path:
    """Write a fitted classifier as a folder: JSON, skops, rows that are kept, local weights.

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
        The classifier is not fitted, the folder holds something else, or the head is of types that
        no bundle may hold.
    """
    if not isinstance(classifier, ImageClassifier):
        raise BundleError(f"got {type(classifier).__name__}, expected a fitted ImageClassifier")
    if not hasattr(classifier, "head_"):
        raise BundleError("the ImageClassifier is not fitted: call fit(X, y), then save it")
    folder = Path(path)
    refuse_overwriting(folder)
    with folder_aside(folder) as aside:
        write_bundle(classifier, aside)
    return folder


def refuse_overwriting(folder: Path) -> None:
    """Raise BundleError where a bundle would take the place of something else."""
    if _holds_something_else(folder):
        raise BundleError(f"{folder} exists and is no bundle: choose another path")


def _holds_something_else(folder: Path) -> bool:
    if not folder.exists():
        return False
    if not folder.is_dir():
        return True
    return any(folder.iterdir()) and not (folder / FILE).exists()


def write_bundle(classifier: ImageClassifier, folder: Path) -> None:
    """Write a fitted classifier's files into an empty folder, which is nobody's yet.

    Raises BundleError as `save_classifier` does.
    """
    extractors = extractors_of(classifier.extractor_)
    described = [_write_extractor(own, i, folder) for i, own in enumerate(extractors)]
    classes = classifier.classes_.tolist()
    members = None
    if isinstance(classifier.head_, BlendedHead):
        members = _write_members(classifier.head_.members, folder, classes)
    else:
        width = sum(sum(own["widths"]) for own in described)
        _refuse_improbable(classifier.head_, classifier.calibration_)
        rows = _write_head(classifier.head_, classifier.rows_, (width, classes), folder / HEAD)
        if rows is not None:
            np.save(folder / ROWS, rows, allow_pickle=False)
    known: dict[str, dict] = {}
    if classifier.reference_ is not None:
        known[REFERENCE] = write_reference(classifier.reference_, folder)
    if classifier.accuracy_ is not None:
        known[ACCURACY] = asdict(classifier.accuracy_)
    content = {
        "schema": SCHEMA,
        "extractors": described,
        "classes": classes,
        "fitted_on": classifier.fitted_on_,
        "calibration": _as_numbers(classifier.calibration_),
        "members": members,
        **known,
        "versions": {name: _version(name) for name in PACKAGES},
        "files": describe_files(folder),
    }
    (folder / FILE).write_bytes(render(content))
    read_description(folder)


def _write_extractor(extractor: FeatureExtractor, number: int, folder: Path) -> dict:
    backbone = extractor.load_backbone()
    card = backbone.card
    if is_copied(backbone.name, card.weights):
        save_weights(backbone, folder / numbered(WEIGHTS, number))
    source = {"name": backbone.name, "weights": card.weights, "seed": backbone.seed}
    return {
        "recipe": json.loads(extractor.recipe().to_json()),
        "backbone": source if card.definition is None else {**source, DEFINITION: card.definition},
        "size": backbone.size,
        "taps": [str(tap) for tap in extractor.taps()],
        "widths": [backbone.card.width(tap) for tap in extractor.taps()],
    }


def _write_members(members: Sequence[Member], folder: Path, classes: list) -> list[dict]:
    """Write a blend's heads -> their description; heads on the same columns share their rows."""
    rows_by_columns: dict[Any, list[tuple[int, np.ndarray]]] = {}
    first_columns: dict[int, Any] = {}  # of a head that is on several views: its rows are the same
    for number, member in enumerate(members):
        takes = member.columns[1] - member.columns[0], classes
        file = folder / numbered(HEAD, number)
        _refuse_improbable(member.estimator, member.calibration)
        rows = _write_head(member.estimator, member.rows, takes, file)
        if rows is not None:
            columns = first_columns.setdefault(id(member.estimator), member.columns)
            rows_by_columns.setdefault(columns, []).append((number, rows))
    table_of = {}
    for table, own in enumerate(rows_by_columns.values()):
        distinct, places = _distinct([rows for _, rows in own])
        np.save(folder / numbered(ROWS, table), distinct, allow_pickle=False)
        for (number, _), places_of_member in zip(own, places, strict=True):
            np.save(folder / numbered(PLACES, number), places_of_member, allow_pickle=False)
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


def _refuse_improbable(head: Any, calibration: Calibration | None) -> None:
    try:
        check_probable(head, calibration)
    except ValueError as error:
        raise BundleError(f"a head can't be kept in a bundle: {error}") from error


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


def _write_head(
    head: Any, rows: np.ndarray | None, takes: tuple[int, list], file: Path
) -> np.ndarray | None:
    """Write a head that takes so many features and has these classes -> rows to keep beside it."""
    slim, rows = take_rows(head, rows)
    try:
        write_head(without_tree(slim), file)
        check_fitted(head, *takes)
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"a head can't be kept in a bundle: {error}; use a head of the catalogue"
        ) from error
    return rows


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
