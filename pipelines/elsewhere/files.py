"""What one file from elsewhere holds, whatever its format: a table of readers by suffix."""

import contextlib
import csv
import math
import os
import re
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from os import PathLike
from tokenize import TokenError
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from data import DataError
from extract import ExtractError
from extract.store.foreign import opened_hdf5
from extract.tensors import read_tensors
from pipelines.elsewhere.columns import Column, column_of, joined, rows_per_block
from pipelines.elsewhere.parquet import parquet_columns

# names by which other programs call them, in small letters; the first that is there counts
FEATURES = ("features", "embeddings", "embedding", "x")
NAMES = (
    *("filenames", "filename", "file_names", "file_name", "paths", "path", "image_path"),
    *("names", "name", "ids", "id", "key"),
    # what pandas calls the index of its rows
    *("", "unnamed: 0", "__index_level_0__"),
)
LABELS = ("labels", "label", "targets", "target", "class", "y")
OWN = frozenset({*NAMES, *LABELS})
SHARD = re.compile(r"features_\d+")
UNREADABLE = (
    *(OSError, ValueError, KeyError, NotImplementedError, EOFError),
    *(zipfile.BadZipFile, zlib.error, csv.Error),
)
DELIMITERS = ",;\t"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

Columns: TypeAlias = dict[str, Column]


@contextlib.contextmanager
def opened(path: str | PathLike) -> Iterator[Columns]:
    """The arrays of a file by name, which can be read while the context lasts.

    Raises DataError for a file that can't be read, or of a kind that is not; so do the columns.

    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/one.npy"
    >>> np.save(path, np.eye(2))
    >>> with opened(path) as columns:
    ...     columns["features"].in_words()
    '(2, 2) float64'
    """
    suffix = suffix_of(path)
    if suffix not in READERS:
        raise DataError(
            f"{path}: no embeddings are read from a {suffix or 'file without a suffix'}: expected "
            f"one of {', '.join(READERS)}, or a folder; save the array with numpy.save"
        )
    with contextlib.ExitStack() as files:
        with telling(path, f"a {suffix} file"):
            columns = files.enter_context(READERS[suffix](path))
        # what is done with the columns is none of this file's: it may be one of many
        yield {
            name: replace(column, blocks=partial(_told, path, column))
            for name, column in columns.items()
        }


def _told(path: str | PathLike, column: Column) -> Iterator[np.ndarray]:
    left = column.shape[0]
    with telling(path, f"a {suffix_of(path)} file"):
        for block in column.blocks():
            left -= len(block)
            if left >= 0:
                yield block
        # else rows would be what was in memory before
        if left:
            raise ValueError(f"it holds {column.shape[0] - left} rows and says {column.shape[0]}")


def suffix_of(path: str | PathLike) -> str:
    """The end of a file's name in small letters, such as `.npy`."""
    return os.path.splitext(path)[1].lower()


@contextlib.contextmanager
def telling(path: str | PathLike, kind: str) -> Iterator[None]:
    """What libraries raise for what they can't read as a DataError of one line.

    kind : what it should be, such as `a .npy file`.
    """
    try:
        yield
    except DataError:
        raise
    except ExtractError as error:
        raise DataError(str(error)) from error
    except UNREADABLE as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, OSError) and error.strerror:
            said = error.strerror
        raise DataError(f"{path} can't be read as {kind} ({said}): make it anew") from error


@contextlib.contextmanager
def _npy(path: str | PathLike) -> Iterator[Columns]:
    yield {"features": _npy_column(partial(open, path, "rb"), os.path.getsize(path))}


@contextlib.contextmanager
def _npz(path: str | PathLike) -> Iterator[Columns]:
    with zipfile.ZipFile(path) as archive:
        yield {
            member.filename.removesuffix(".npy"): _npy_column(
                partial(archive.open, member), member.file_size
            )
            for member in archive.infolist()
            if member.filename.endswith(".npy")
        }


def _npy_column(open_file: Callable[[], Any], size: int) -> Column:
    """An array as numpy saves it: its header is read, and what it declares held against the size.

    Pickled objects are never loaded: of an array of objects the type alone is known.
    """
    with open_file() as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"version {version} of numpy's format holds no plain array")
        try:
            shape, is_fortran, dtype = HEADERS[version](file)
        except (TypeError, TokenError) as error:  # where it is no dictionary of Python's
            raise ValueError("its header is damaged") from error
        begin = file.tell()
    if not dtype.hasobject and begin + math.prod(shape) * dtype.itemsize > size:
        raise ValueError("it ends too early")

    def blocks() -> Iterator[np.ndarray]:
        if dtype.hasobject:
            raise ValueError("it holds pickled objects, which are not loaded")
        with open_file() as file:
            file.seek(begin)
            yield from _npy_blocks(file, shape, dtype, is_fortran)

    return Column(shape, dtype, blocks)


def _npy_blocks(
    file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, is_fortran: bool
) -> Iterator[np.ndarray]:
    # columns after columns: no row is there before all are
    step = shape[0] if is_fortran else rows_per_block(shape, dtype)
    width = math.prod(shape[1:])
    for at in range(0, shape[0], max(1, step)):
        n = min(step, shape[0] - at)
        values = np.frombuffer(file.read(n * width * dtype.itemsize), dtype)
        yield values.reshape((n, *shape[1:]), order="F" if is_fortran else "C")


@contextlib.contextmanager
def _hdf5(path: str | PathLike) -> Iterator[Columns]:
    with opened_hdf5(path) as found:
        columns = {name: column_of(values) for name, values in found.items() if values.shape}
        shards = [name for name in columns if SHARD.fullmatch(name)]
        if shards and len(shards) == len(columns):  # as thingsvision splits what is too large
            shards.sort(key=lambda name: int(name.removeprefix("features_")))
            columns = {"features": joined([columns[name] for name in shards], shards)}
        yield columns


@contextlib.contextmanager
def _mat(path: str | PathLike) -> Iterator[Columns]:
    """A MATLAB file; where each variable is one row, as thingsvision writes, they are the names."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path)
    except (MatReadError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(str(error)) from error
    arrays = {name: value for name, value in found.items() if not name.startswith("__")}
    shapes = {value.shape for value in arrays.values()}
    is_named = {name.lower() for name in arrays} & {*FEATURES, *OWN}
    if len(shapes) == 1 and next(iter(shapes))[0] == 1 and not is_named:
        names = np.array(list(arrays), object)
        arrays = {"features": np.concatenate(list(arrays.values())), "names": names}
    yield {
        name: column_of(_flat(values) if name.lower() in OWN else values)
        for name, values in arrays.items()
    }


def _flat(values: np.ndarray) -> np.ndarray:
    """A row, a column or a cell array of MATLAB's, which has no arrays of one axis, as (n,)."""
    cells = [
        value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
        for value in values.ravel().tolist()
    ]
    return np.array([cell.rstrip() if isinstance(cell, str) else cell for cell in cells], object)


@contextlib.contextmanager
def _tensors(path: str | PathLike) -> Iterator[Columns]:
    yield {name: column_of(value) for name, value in read_tensors(path).items() if value.shape}


@contextlib.contextmanager
def _parquet(path: str | PathLike) -> Iterator[Columns]:
    yield parquet_columns(path, OWN)


@contextlib.contextmanager
def _numbers(path: str | PathLike) -> Iterator[Columns]:
    """Numbers apart by white space, a line a row, without a header, as numpy.savetxt writes."""
    yield {"features": column_of(np.loadtxt(path, np.float32, ndmin=2))}


@contextlib.contextmanager
def _csv(path: str | PathLike) -> Iterator[Columns]:
    """A table of numbers; with a header its names and labels are columns of their own.

    All of it is read at once, as float32.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(DELIMITERS, key=first.count)
        cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        rows = csv.reader(file, delimiter=delimiter)
        # pandas calls columns without names by their numbers
        is_header = cells == [*map(str, range(len(cells)))] or not all(map(is_number, cells))
        header = [cell.strip() for cell in next(rows)] if cells and is_header else []
        yield _csv_columns(path, rows, header, len(cells))


def _csv_columns(path: str | PathLike, rows: Any, header: list[str], width: int) -> Columns:
    text: dict[str, list[str]] = {name: [] for name in header if name.lower() in OWN}
    at = {name: header.index(name) for name in text}
    numeric = [place for place in range(width) if place not in at.values()]
    values = array("f")
    n = 0
    for cells in rows:
        if not cells:
            continue
        if len(cells) != width:
            raise ValueError(f"line {rows.line_num} has {len(cells)} cells, and line 1 {width}")
        for name, column in text.items():
            column.append(cells[at[name]])
        try:
            values.extend(float(cells[place]) for place in numeric)
        except ValueError:
            odd = next(place for place in numeric if not is_number(cells[place]))
            said = f"column {header[odd]!r}" if header else f"cell {odd + 1}"
            raise DataError(
                f"{path}, line {rows.line_num}: {said} is {cells[odd]!r}, expected a number; "
                f"leave the column out, or call it path or label if it is that"
            ) from None
        n += 1
    matrix = np.frombuffer(values, np.float32) if n * len(numeric) else np.empty(0, np.float32)
    found = {name: column_of(np.array(column, object)) for name, column in text.items()}
    return {"features": column_of(matrix.reshape(n, len(numeric)))} | found


def is_number(cell: str) -> bool:
    """Whether a cell of a table is a number, written in any way that Python reads."""
    with contextlib.suppress(ValueError):
        float(cell)
        return True
    return False


Reader: TypeAlias = Callable[[str | PathLike], AbstractContextManager[Columns]]
# by suffix, what reads the file
READERS: dict[str, Reader] = {
    ".npy": _npy,
    ".npz": _npz,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".mat": _mat,
    ".pt": _tensors,
    ".pth": _tensors,
    ".parquet": _parquet,
    ".csv": _csv,
    ".txt": _numbers,
}
