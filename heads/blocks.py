"""Rows that are given a slice at a time, and passes over them in blocks: more than memory holds."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
from joblib import Parallel, delayed

# values of a block: 16 MiB in float32, and a matrix product of many columns is at full speed
BLOCK_VALUES = 1 << 22
# a file mapped into memory is read block by block above this: the search in memory would take ten
# times as much
MOST_MAPPED = 1 << 28

Found = TypeVar("Found")


class Rows(Protocol):
    """(n, d) rows given a slice at a time, such as an HDF5 dataset."""

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


def is_streamed(X: Any) -> bool:
    """Whether a search reads these rows block by block, never all at once.

    Parameters
    ----------
    X : what `fit` is given

    Returns
    -------
    bool
        For what has `shape`, `dtype`, a length and slices and is no array, and for a `numpy.memmap`
        of more than 256 MiB; an array in memory is never streamed.

    Examples
    --------
    >>> is_streamed(np.zeros((3, 2))), is_streamed([[0.0, 1.0]])
    (False, False)
    """
    if isinstance(X, np.ndarray):
        return isinstance(X, np.memmap) and X.nbytes > MOST_MAPPED
    return (
        isinstance(getattr(X, "dtype", None), np.dtype)
        and len(getattr(X, "shape", ())) >= 2
        # sparse matrices have neither
        and hasattr(X, "__getitem__")
        and hasattr(X, "__len__")
        and not hasattr(X, "nnz")
    )


def check_rows(X: Rows, labels: int) -> None:
    """Refuse rows that a search can't take, before any is read.

    Raises
    ------
    ValueError
        They are no floats, of no two dimensions, empty, or not as many as the labels.
    """
    if X.dtype.kind != "f":
        raise ValueError(f"X holds {X.dtype}, expected floats; convert it")
    if len(X.shape) != 2:
        raise ValueError(f"X has shape {tuple(X.shape)}, expected (rows, features)")
    if 0 in X.shape or X.shape[0] != labels:
        raise ValueError(
            f"X has shape {tuple(X.shape)} and y {labels} labels, expected a row for each"
        )


class Blocks:
    """Passes over rows, by threads: blocks are read one after the other, worked on side by side.

    Parameters
    ----------
    rows : Rows
    n_jobs : int or None
        Threads; a pass gives the same bits with any number.

    Attributes
    ----------
    n, d : int
    """

    def __init__(self, rows: Rows, n_jobs: int | None = None) -> None:
        self.rows = rows
        self.n_jobs = n_jobs
        self.n, self.d = rows.shape

    def slices(self) -> Iterator[slice]:
        """The blocks' places, in order."""
        step = max(1, BLOCK_VALUES // max(self.d, 1))
        for start in range(0, self.n, step):
            yield slice(start, min(start + step, self.n))

    def over(self, work: Callable[[slice, np.ndarray], Found]) -> Iterator[Found]:
        """`work(place, rows)` of every block, in their order."""
        # each block is read as it is sent to a thread: never more of them than wait for one
        return Parallel(n_jobs=self.n_jobs, prefer="threads", return_as="generator")(
            delayed(work)(place, np.asarray(self.rows[place])) for place in self.slices()
        )

    def summed(
        self, work: Callable[[slice, np.ndarray], np.ndarray], shape: tuple[int, ...]
    ) -> np.ndarray:
        """What `work` gives of every block, of one shape, added up in float64."""
        total = np.zeros(shape)
        for found in self.over(work):
            total += found
        return total

    def run(self, work: Callable[[slice, np.ndarray], None]) -> None:
        """`work` of every block, for what it writes elsewhere."""
        for _ in self.over(work):
            pass
