"""One array of a file from elsewhere: its shape and type first, its rows when they are wanted."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data import DataError

BLOCK_BYTES = 1 << 26  # of an array in memory beside what is made of it
NOTHING = "NAType", "NaTType"


@dataclass(frozen=True)
class Column:
    """An array of n rows that has not been read.

    shape, dtype : as it lies in the file. blocks : gives its rows in their order, some at a time.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[], Iterator[np.ndarray]]

    @property
    def is_matrix(self) -> bool:
        """Whether it may be features: numbers, a row for each of what they are of."""
        return len(self.shape) == 2 and self.is_numeric

    @property
    def is_numeric(self) -> bool:
        """Whether it holds real numbers."""
        return self.dtype.kind in "fiub"

    def in_words(self) -> str:
        """Such as `(10, 512) float16`."""
        return f"{self.shape} {self.dtype.name}"


def rows_per_block(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """How many rows of an array are read at a time."""
    width = math.prod(shape[1:]) * dtype.itemsize
    return max(1, BLOCK_BYTES // max(1, width))


def column_of(values: Any) -> Column:
    """Of what has a shape and a type and gives slices of rows: an array, a dataset of HDF5.

    >>> column_of(np.eye(3, dtype=np.float16)).in_words()
    '(3, 3) float16'
    """
    step = rows_per_block(values.shape, values.dtype)

    def blocks() -> Iterator[np.ndarray]:
        for at in range(0, len(values), step):
            yield values[at : at + step]

    return Column(tuple(values.shape), values.dtype, blocks)


def joined(columns: Sequence[Column], names: Sequence[str]) -> Column:
    """The rows of several under one another; DataError where their widths differ.

    names : of the columns' files, for the error.

    >>> both = joined([column_of(np.zeros((2, 3))), column_of(np.ones((1, 3)))], ["0.npy", "1.npy"])
    >>> both.shape, np.concatenate(list(both.blocks()))[:, 0].tolist()
    ((3, 3), [0.0, 0.0, 1.0])
    """
    first = columns[0]
    for column, name in zip(columns, names, strict=True):
        if column.shape[1:] != first.shape[1:] or len(column.shape) != len(first.shape):
            raise DataError(
                f"{name} holds {column.in_words()}, and {names[0]} {first.in_words()}: expected "
                "rows of one width; make the files anew"
            )

    def blocks() -> Iterator[np.ndarray]:
        for column in columns:
            yield from column.blocks()

    dtype = np.result_type(*(column.dtype for column in columns))
    n = sum(column.shape[0] for column in columns)
    return Column((n, *first.shape[1:]), dtype, blocks)


def read_text(column: Column) -> np.ndarray:
    """(n,) object: names or labels as text, empty where there is none; whole numbers as such.

    >>> read_text(column_of(np.array([b"a", b""]))).tolist()
    ['a', '']
    """
    values = [value for block in column.blocks() for value in np.asarray(block).tolist()]
    text = np.empty(len(values), object)
    text[:] = [_as_text(value) for value in values]
    return text


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    is_float = isinstance(value, (float, np.floating))
    # what tables hold where there is no value; pandas has two of its own
    if value is None or (is_float and np.isnan(value)) or type(value).__name__ in NOTHING:
        return ""
    # a column of whole numbers with gaps comes as floats
    if is_float and value.is_integer():
        return str(int(value))
    return str(value)


def read_features(column: Column) -> np.ndarray:
    """(n, d) float32, filled block by block, so that no second copy of it is ever there."""
    out = np.empty(column.shape, np.float32)
    at = 0
    with np.errstate(over="ignore"):  # what float32 doesn't hold is told as infinite, row by row
        for block in column.blocks():
            out[at : at + len(block)] = block
            at += len(block)
    return out
