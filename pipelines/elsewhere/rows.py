"""What the rows of a table from elsewhere are called, and whether they can be used."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from data import DataError, read_corrections
from data.corrections import DROP
from data.names import counted
from pipelines.elsewhere.columns import column_of, read_text


def check_rows(
    source: str,
    array: str,
    features: np.ndarray,
    names: Sequence[str],
    labels: np.ndarray | None,
) -> None:
    """Raise DataError for rows of features (n, d) that can't be used.

    >>> check_rows("made", "X", np.eye(2), ("a", "b"), None)
    """
    said = f"{source}: {array} is {features.shape}"
    if features.ndim != 2:
        raise DataError(
            f"{said}, expected (n, d); flatten or average what each row has more, or name another "
            "array"
        )
    if not features.size:
        raise DataError(f"{said}, expected one row and one value a row at least")
    for kind, column in (("names", names), ("labels", labels)):
        if column is not None and len(column) != len(features):
            raise DataError(
                f"{len(column)} {kind} came for {len(features)} rows of {source}: expected one for "
                "each"
            )
    _check_names(source, names)
    _check_finite(source, array, features, names)


def _check_names(source: str, names: Sequence[str]) -> None:
    if len(set(names)) == len(names):
        return
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if (before := first.setdefault(name, row)) != row:
            raise DataError(
                f"{source}: rows {before} and {row} are both named {name!r}, expected a name of "
                "its own for each; leave one of them out"
            )


def _check_finite(source: str, array: str, features: np.ndarray, names: Sequence[str]) -> None:
    # a sum that is finite has no other terms; one that is not may be beyond float32 alone
    with np.errstate(over="ignore", invalid="ignore"):
        suspected = np.flatnonzero(~np.isfinite(features.sum(axis=1)))
    odd = [row for row in suspected.tolist() if not np.isfinite(features[row]).all()]
    if odd:
        raise DataError(
            f"{source}: {array} has NaN, infinite values or such beyond float32 in "
            f"{len(odd)} of {counted(len(names), 'row')}, first {names[odd[0]]!r}: expected finite "
            "ones; leave these rows out"
        )


def read_labels(path: str | PathLike, given: Any, names: Sequence[str]) -> np.ndarray | None:
    """(n,) object: labels as text: a table's, by the rows' names, or such as come row by row.

    >>> read_labels("one.npz", [3, 4], ("a", "b")).tolist()
    ['3', '4']
    """
    if given is None:
        return None
    if isinstance(given, (str, PathLike)):
        return _labels_by_name(path, given, read_corrections(given), names)
    return as_labels(given)


def as_labels(given: Sequence | np.ndarray) -> np.ndarray:
    """(n,) object: labels that come row by row, as text, empty where there is none.

    >>> as_labels([None, "a", float("nan"), 3]).tolist()
    ['', 'a', '', '3']
    """
    if isinstance(given, np.ndarray) and given.ndim != 1:
        raise DataError(f"labels came as {given.shape}, expected (n,), one for each row")
    # in an array of another type None and NaN beside text would be text themselves
    values = np.empty(len(given), object)
    values[:] = list(given)
    return read_text(column_of(values))


def _labels_by_name(
    path: str | PathLike, table: str | PathLike, given: Mapping[str, str], names: Sequence[str]
) -> np.ndarray:
    """(n,) object: what a table says of each name, in the names' order."""
    known = set(names)
    strange = [name for name in given if name not in known]
    if strange:
        raise DataError(
            f"{table} has {counted(len(strange), 'path')} that no row of {path} is named, first "
            f"{strange[0]!r}: expected names such as {names[0]!r}"
        )
    own = [given.get(name, "").strip() for name in names]
    return np.array(["" if label == DROP else label for label in own], object)
