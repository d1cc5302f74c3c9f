"""The training images in a bundle: plain arrays and their names, checked as all of it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.bundle.files import read_array, read_file
from pipelines.errors import BundleError
from pipelines.exploration.reference import Names, Reference

AXES, ROWS = "reference-axes.npy", "reference-rows.npy"
JUDGED, IDS = "reference-judged.npy", "reference-ids.npy"
NAMES = "reference-names.json"
REFERENCE_FILES = {AXES, ROWS, JUDGED, IDS, NAMES}
ID_BYTES = 16


def write_reference(reference: Reference, folder: Path) -> dict:
    """Write a reference's files -> what bundle.json says of it."""
    names = reference.names
    arrays = {AXES: reference.axes, ROWS: reference.rows, JUDGED: reference.judged, IDS: names.ids}
    for name, array in arrays.items():
        np.save(folder / name, np.ascontiguousarray(array), allow_pickle=False)
    words = {
        "paths": [str(path) for path in names.paths],
        "labels": [str(label) for label in names.labels],
    }
    # escaped: bytes of a name that are no UTF-8 are halves of surrogates
    (folder / NAMES).write_bytes(json.dumps(words).encode("ascii"))
    return {"columns": list(reference.columns), "unit": reference.unit}


def read_reference(folder: Path, content: dict) -> Reference | None:
    """The reference of a bundle, None of one without.

    Raises BundleError where its files are not as they were written, or don't fit one another.
    """
    described = content.get("reference")
    if described is None:
        return None
    files = content["files"]
    try:
        axes, rows, judged, ids = (
            read_array(read_file(folder, name, files[name]), name)
            for name in (AXES, ROWS, JUDGED, IDS)
        )
        words = json.loads(read_file(folder, NAMES, files[NAMES]))
        start, stop = described["columns"]
        _check_arrays(axes, rows, judged, stop - start)
        names = _checked_names(words, ids, len(rows))
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"can't read the training images of {folder}: {error}; copy the whole bundle again"
        ) from error
    return Reference((start, stop), described["unit"], axes, rows, judged, names)


def _check_arrays(axes: np.ndarray, rows: np.ndarray, judged: np.ndarray, width: int) -> None:
    """ValueError for arrays that a reference of such features has not."""
    kinds = (np.float16, np.float32)
    if axes.dtype not in kinds or axes.ndim != 2 or len(axes) != width or axes.shape[1] < 2:
        raise ValueError(f"{AXES} holds {axes.dtype} {axes.shape}, expected {width} rows")
    if rows.dtype not in kinds or rows.ndim != 2 or rows.shape[1] != axes.shape[1] or not len(rows):
        raise ValueError(f"{ROWS} holds {rows.dtype} {rows.shape}, expected {axes.shape[1]} a row")
    if judged.dtype != np.float32 or judged.ndim != 1 or (np.diff(judged) < 0).any():
        raise ValueError(f"{JUDGED} holds {judged.dtype} {judged.shape}, expected sorted distances")
    for name, array in ((AXES, axes), (ROWS, rows), (JUDGED, judged)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are no finite numbers")


def _checked_names(words: Any, ids: np.ndarray, n: int) -> Names:
    """ValueError for names that are not those of `n` images."""
    if ids.dtype != np.uint8 or ids.shape != (n, ID_BYTES):
        raise ValueError(f"{IDS} holds {ids.dtype} {ids.shape}, expected {n} ids")
    if not isinstance(words, dict) or set(words) != {"paths", "labels"}:
        raise ValueError(f"{NAMES} holds other names than paths and labels")
    for name, column in words.items():
        if not isinstance(column, list) or len(column) != n:
            raise ValueError(f"{NAMES} has no {name} of {n} images")
        if not all(isinstance(word, str) for word in column):
            raise ValueError(f"{NAMES} has {name} that are no text")
    return Names(np.array(words["paths"], object), np.array(words["labels"], object), ids)
