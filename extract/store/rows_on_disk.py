"""Rows of immutable files by their place, copied in any order on all cores."""

import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path

import numpy as np

from extract.cores import cores
from extract.files import NoFile, opened

TASK_BYTES = 8 << 20


class WrongBytes(ValueError):
    """A file whose bytes are not those that were written; `path` says which."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def opened_part(path: Path) -> BufferedReader:
    """A part opened for reading; WrongBytes where it is no plain file, OSError where it is gone."""
    try:
        return opened(path)
    except NoFile as error:
        raise WrongBytes(path, str(error)) from error


@dataclass(frozen=True, eq=False)
class Column:
    """Where the (n, d) rows of one dataset lie in a file.

    They lie in chunks of `step` whole rows, as they are in memory.

    offsets, checksums: (chunks,) byte offset and CRC-32 of each. checked: (chunks,) bool, set once
    a chunk's checksum was found right. file_size: in bytes; a file of another size is not read.
    """

    path: Path
    file_size: int
    dtype: np.dtype
    shape: tuple[int, int]
    step: int
    offsets: np.ndarray
    checksums: np.ndarray
    checked: np.ndarray

    def copy(self, rows: np.ndarray, where: np.ndarray, out: np.ndarray) -> None:
        """`out[where]` = the rows (m,), ascending; WrongBytes if the file isn't as written."""
        buffer = np.empty((self.step, self.shape[1]), self.dtype)
        # opened for the copy alone: a mapping hinders unlinking on Windows, and where a disk fails
        # it kills the process
        with self._opened() as file:
            for chunk, at, end in self._runs(rows):
                inside = rows[at:end] - chunk * self.step
                block, first = self._read(file, chunk, inside[0], inside[-1] + 1, buffer)
                out[where[at:end]] = widened(block[inside - first], out.dtype)

    def check(self) -> None:
        """Read every chunk, checked or not; WrongBytes if one isn't as written."""
        buffer = np.empty((self.step, self.shape[1]), self.dtype)
        self.checked[:] = False
        with self._opened() as file:
            for chunk in range(len(self.offsets)):
                self._read(file, chunk, 0, 0, buffer)

    def tasks(self, rows: np.ndarray) -> Iterator[slice]:
        """Cut the rows (m,), ascending, into slices in separate chunks, worth a thread each."""
        chunk_bytes = self.step * self.shape[1] * self.dtype.itemsize
        rows_per_task = self.step * max(1, TASK_BYTES // chunk_bytes)
        cuts = np.flatnonzero(np.diff(rows // rows_per_task)) + 1
        return map(slice, [0, *cuts], [*cuts, len(rows)])

    def _runs(self, rows: np.ndarray) -> Iterator[tuple[int, int, int]]:
        """(chunk, at, end): rows[at:end] lie in that chunk."""
        chunks = rows // self.step
        cuts = np.flatnonzero(np.diff(chunks)) + 1
        starts = [0, *cuts.tolist()]
        ends = [*cuts.tolist(), len(rows)]
        return zip(chunks[starts].tolist(), starts, ends, strict=True)

    def _opened(self) -> BufferedReader:
        file = opened_part(self.path)
        if os.fstat(file.fileno()).st_size != self.file_size:
            file.close()
            raise WrongBytes(self.path, f"its size is not {self.file_size} bytes")
        return file

    def _read(
        self, file: BufferedReader, chunk: int, first: int, end: int, buffer: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """Rows `first` to `end` of a chunk, or all where it is not checked yet -> it, its first."""
        check = not self.checked[chunk]
        if check:
            first, end = 0, self.step  # the last chunk's padding is in its checksum, too
        block = buffer[: end - first]
        file.seek(self.offsets[chunk] + first * block.strides[0])
        if file.readinto(block.data) != block.nbytes:
            raise WrongBytes(self.path, "it ends too early")
        if check:
            if zlib.crc32(block.data) != self.checksums[chunk]:
                raise WrongBytes(self.path, f"wrong checksum of chunk {chunk}")
            self.checked[chunk] = True
        return block, first


def widened(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """float16 values as float32, bit for bit as `astype` does and several times as fast.

    A float16 shifted into a float32's place is 2**112 too small, the subnormal ones too;
    infinities and NaN come out as 65536 and more, which no other float16 is, and go through
    `astype`. Values of other types are given back as they are.
    """
    if values.dtype != np.float16 or dtype != np.float32:
        return values
    out = np.empty(values.shape, np.float32)
    bits = out.view(np.int32)
    np.copyto(bits, values.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    # the shift spread the sign over the three bits between it and the exponent
    np.bitwise_and(bits, ~(7 << 28), out=bits)
    np.multiply(out, np.float32(2.0**112), out=out)
    if values.size and not (out.min() > -65536 and out.max() < 65536):
        return values.astype(np.float32)
    return out


def gather(wanted: Iterable[tuple[Column, np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """For each (column, rows, where, out): `out[where]` = its rows, one or more, ascending.

    Raises WrongBytes as `Column.copy` does, and OSError for a file that can't be read.
    """
    tasks = [
        partial(column.copy, rows[part], where[part], out)
        for column, rows, where, out in wanted
        for part in column.tasks(rows)
    ]
    threads = min(cores(), len(tasks))
    if threads < 2:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda task: task(), tasks):
            pass
