"""The HDF5 bytes of a part without its rows: HDF5 lays them out in memory, we write to the disk.

So a full disk is an OSError like any other, where HDF5 would say RuntimeError and keep the file
open, and rows are written without the interpreter's lock.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import h5py


@dataclass(frozen=True)
class Outline:
    """Where each chunk goes, and the bytes around the chunks.

    offsets : of the chunks of each dataset, from the file's start.
    pieces : (offset, bytes) in the order they were written; what none covers is zero.
    size : of the whole.
    """

    offsets: dict[str, list[int]]
    pieces: list[tuple[int, bytes]]
    size: int

    def write(self, file: BinaryIO, gaps: Iterable[tuple[int, int]]) -> int:
        """Fill the gaps (start, end) between the chunks -> the CRC-32 of all of them."""
        crc = 0
        for start, end in gaps:
            if start == end:
                continue
            block = _between(self.pieces, start, end)
            crc = zlib.crc32(block, crc)
            file.seek(start)
            file.write(block)
        return crc


def draw_outline(
    datasets: Mapping[str, tuple[tuple[int, ...], np.dtype, int]], attributes: Mapping[str, str]
) -> Outline:
    """Lay out datasets, given as (shape (n, d), type, rows of a chunk), and attributes of the file.

    Examples
    --------
    >>> outline = draw_outline({"ids": ((5, 16), np.dtype(np.uint8), 2)}, {})
    >>> np.diff(outline.offsets["ids"]).tolist()
    [32, 32]
    """
    import h5py  # not above: who reads the store needs none of it

    sketch = Sketch()
    offsets = {}
    with h5py.File(sketch, "w") as file:
        file.attrs.update(attributes)
        for name, (shape, dtype, step) in datasets.items():
            chunks = (step, *shape[1:])
            dataset = file.create_dataset(name, shape, dtype, chunks=chunks, dcpl=room_alone())
            offsets[name] = [
                dataset.id.get_chunk_info_by_coord((at, 0)).byte_offset
                for at in range(0, shape[0], step)
            ]
    return Outline(offsets, sketch.pieces, sketch.size)


def room_alone() -> "h5py.h5p.PropDCID":
    """Of a dataset whose place in the file is kept free, and nothing written there."""
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return plan


class Sketch:
    """A file that HDF5 writes to, of which only what was written is kept."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.size = 0
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: bytes) -> int:
        self.pieces.append((self._at, bytes(data)))
        self._at += len(data)
        self.size = max(self.size, self._at)
        return len(data)

    def read(self, size: int) -> bytes:
        found = _between(self.pieces, self._at, self._at + size)
        self._at += size
        return found

    def readinto(self, buffer: memoryview) -> int:
        buffer[:] = self.read(len(buffer))
        return len(buffer)

    def truncate(self, size: int) -> int:
        self.size = size
        return size

    def flush(self) -> None:
        """There is nothing behind it."""


def _between(pieces: list[tuple[int, bytes]], start: int, end: int) -> bytes:
    out = bytearray(end - start)
    for offset, piece in pieces:
        at, until = max(offset, start), min(offset + len(piece), end)
        if at < until:
            out[at - start : until - start] = piece[at - offset : until - offset]
    return bytes(out)
