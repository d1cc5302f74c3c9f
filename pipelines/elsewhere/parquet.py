"""Columns of a Parquet file: lists of numbers, numbers and text, by pyarrow where it is there."""

from collections.abc import Iterator
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from data import DataError
from pipelines.elsewhere.columns import Column

BLOCK_BYTES = 1 << 23  # of a column of lists at a time: beside each value its place is decoded
MOST_ROWS = 1 << 16  # of a block; text and single numbers are small


def parquet_columns(path: str | PathLike, own: frozenset[str]) -> dict[str, Column]:
    """The columns of a Parquet file by name.

    A list of numbers for each row is a matrix. Where no column holds such lists, all columns of
    single numbers beside the names and labels are one, `columns`. Others that are neither numbers
    nor text are left out.

    own : names in small letters of columns that are names and labels, whatever they hold.

    Raises DataError where pyarrow is not installed.
    """
    with _opened(path) as file:
        fields = {field.name: field.type for field in file.schema_arrow}
        n = file.metadata.num_rows
    if n < 0:
        raise ValueError(f"it says that it holds {n} rows")
    lists = [name for name, kind in fields.items() if _is_vectors(kind)]
    found = {name: _lists(path, name, _numpy_type(fields[name].value_type), n) for name in lists}
    numbers = [
        name
        for name, kind in fields.items()
        if _is_number(kind) and name.lower() not in own and not lists
    ]
    if numbers:
        dtype = np.result_type(*(_numpy_type(fields[name]) for name in numbers))
        found["columns"] = Column((n, len(numbers)), dtype, partial(_numbers, path, numbers))
    for name, kind in fields.items():
        if _is_text(kind) or (name.lower() in own and _is_number(kind)):
            found[name] = Column((n,), np.dtype(object), partial(_values, path, name))
    return found


def _opened(path: str | PathLike) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(
            f"{path} is a Parquet file, and pyarrow, which reads it, is not installed: "
            "pip install 'permafrost[parquet]'"
        ) from error
    return ParquetFile(path)


def _batches(path: str | PathLike, rows: int, names: list[str]) -> Iterator[Any]:
    # opened for each column anew: of a thousand shards not all may be open at once
    with _opened(path) as file:
        yield from file.iter_batches(rows, columns=names)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)


def _is_vectors(kind: Any) -> bool:
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return is_list and _is_number(kind.value_type)


def _numpy_type(kind: Any) -> np.dtype:
    # its own to_pandas_dtype wants pandas in some versions
    from pyarrow import array

    return array([], kind).to_numpy(zero_copy_only=False).dtype


def _lists(path: str | PathLike, name: str, dtype: np.dtype, n: int) -> Column:
    """A column of lists, all as long as the first."""
    from pyarrow.compute import list_value_length

    first = next((batch.column(0)[0].as_py() for batch in _batches(path, 1, [name]) if batch), None)
    width = len(first or ())
    step = max(1, min(MOST_ROWS, BLOCK_BYTES // max(1, width * dtype.itemsize)))

    def blocks() -> Iterator[np.ndarray]:
        at = 0
        for batch in _batches(path, step, [name]):
            lengths = list_value_length(batch.column(0)).fill_null(-1).to_numpy()
            for odd in np.flatnonzero(lengths != width)[:1]:
                came = "no list" if lengths[odd] < 0 else f"{lengths[odd]} values"
                raise DataError(
                    f"{path}: row {at + odd} of {name!r} holds {came}, and row 0 {width}: expected "
                    "lists of one length; leave such rows out"
                )
            at += len(batch)
            values = batch.column(0).flatten().to_numpy(zero_copy_only=False)
            yield values.reshape(len(batch), width)

    return Column((n, width), dtype, blocks)


def _numbers(path: str | PathLike, names: list[str]) -> Iterator[np.ndarray]:
    for batch in _batches(path, MOST_ROWS, names):
        by_name = dict(zip(batch.schema.names, batch.columns, strict=True))
        yield np.column_stack([by_name[name].to_numpy(zero_copy_only=False) for name in names])


def _values(path: str | PathLike, name: str) -> Iterator[np.ndarray]:
    for batch in _batches(path, MOST_ROWS, [name]):
        values = np.empty(len(batch), object)
        values[:] = batch.column(0).to_pylist()
        yield values
