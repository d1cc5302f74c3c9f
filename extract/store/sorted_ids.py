"""A file of sorted image ids with the place of each, searched a block at a time.

Of 10 million ids a process keeps the first of every block, a megabyte; the blocks stay on the disk
and in the system's page cache. They are read rather than mapped: a mapping hinders unlinking on
Windows, and where a disk fails, or another machine removes the file, it kills the process.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from extract.files import written_aside
from extract.store.rows_on_disk import WrongBytes, opened_part

SCHEMA = 1  # a file of another is left alone and written anew
BLOCK = np.dtype([("keys", "S16", 256), ("places", "<i8", 256)])  # one checksum covers each
ROWS_OF_BLOCK = 256
MAGIC = b"permafrost index"
DIGEST_BYTES = 16
END = struct.Struct(f"<QQ{DIGEST_BYTES}s{len(MAGIC)}s")  # blocks, the text's length, digest, whose
AT_ONCE = 4096  # blocks in memory while ids are looked up: 24 MB
STRETCH = 2048  # and of each source while they are merged
LEN_FENCE, LEN_CRC = 16, 4
LAST = b"\xff" * 16  # fills the last block

Run = tuple[np.ndarray, np.ndarray]  # (n,) S16 ids, ascending; (n,) int64 places


@dataclass(frozen=True)
class Entry:
    """A part whose ids a file holds.

    name, size: of the part's file. rows: that it has. digest: of its description, and so of all.
    """

    name: str
    size: int
    rows: int
    digest: str


@dataclass(frozen=True)
class Held:
    """What a file of ids says of itself.

    recipe: id of the parts' recipe. taps: which every part has. parts: their rows follow one
    another in the places. rows: ids in the file.
    """

    recipe: str
    taps: tuple[str, ...]
    parts: tuple[Entry, ...]
    rows: int


class SortedIds:
    """An open file of ids; it never changes.

    path : where it is. held : what it is about.
    """

    def __init__(self, path: Path, held: Held, fences: np.ndarray, checksums: np.ndarray) -> None:
        self.path = path
        self.held = held
        self.starts = starts_of([entry.rows for entry in held.parts])
        self.fences = fences
        self._checksums = checksums

    def find(self, keys: np.ndarray, to: np.ndarray) -> np.ndarray:
        """(n,) S16 ids -> (n,) places, -1 if not there.

        to : (parts,) where each part's rows start among the places, -1 for a part that is to be
            passed over; of several others that have an id any counts, and always the same.

        Raises
        ------
        WrongBytes
            A block isn't as it was written.
        OSError
            The file can't be read, or is gone.
        """
        found = np.full(len(keys), -1)
        order = np.argsort(heads_of(keys))  # searched in their order, many are found twice as fast
        blocks = np.searchsorted(self.fences, keys[order], "right") - 1
        with opened_part(self.path) as file:
            while len(order):
                again = np.argsort(blocks, kind="stable")
                order, blocks = order[again], blocks[again]
                # what comes before the first block is nowhere
                for touched in _cut(np.unique(blocks[blocks >= 0]), AT_ONCE):
                    own = order[slice(*np.searchsorted(blocks, [touched[0], touched[-1] + 1]))]
                    there, places = self._read(file, touched)
                    found[own] = _look_up(
                        heads_of(there), there, keys[own], partial(_placed, places, self.starts, to)
                    )
                # of an id with which a block begins, the block before may end with it as well
                left = (found[order] < 0) & (blocks > 0)
                left &= keys[order] == self.fences[np.maximum(blocks, 0)]
                order, blocks = order[left], blocks[left] - 1
        return found

    def between(self, first: bytes, end: bytes | None) -> Run:
        """The ids from `first` on that come before `end`, and their places; raises as `find`."""
        at = max(0, int(np.searchsorted(self.fences, first, "right")) - 1)
        stop = len(self.fences)
        if end is not None:
            stop = int(np.searchsorted(self.fences, end))
        if at >= stop:
            return np.empty(0, "S16"), np.empty(0, np.int64)
        with opened_part(self.path) as file:
            keys, places = self._read(file, np.arange(at, stop))
        return _slice(keys, places, first, end)

    def check(self) -> None:
        """Read every block; WrongBytes where one is not as written."""
        with opened_part(self.path) as file:
            for some in _cut(np.arange(len(self.fences)), AT_ONCE):
                self._read(file, some)

    def _read(self, file: BinaryIO, blocks: np.ndarray) -> Run:
        """The ids of blocks, ascending, and their places."""
        found = np.empty(len(blocks), BLOCK)
        data = found.view(np.uint8).data
        for run in np.split(np.arange(len(blocks)), np.flatnonzero(np.diff(blocks) > 1) + 1):
            file.seek(int(blocks[run[0]]) * BLOCK.itemsize)
            into = data[run[0] * BLOCK.itemsize : (run[-1] + 1) * BLOCK.itemsize]
            if file.readinto(into) != len(into):  # type: ignore[attr-defined]
                raise WrongBytes(self.path, "it ends too early")
        # each time: a wrong place is another image's row, and to look costs less than to read
        for i, block in enumerate(blocks):
            crc = zlib.crc32(data[i * BLOCK.itemsize : (i + 1) * BLOCK.itemsize])
            if crc != self._checksums[block]:
                raise WrongBytes(self.path, f"wrong checksum of block {block}")
        keys, places = found["keys"].reshape(-1), found["places"].reshape(-1)
        if len(blocks) and blocks[-1] == len(self.fences) - 1:  # what fills the last one is no id
            n = len(keys) - (len(self.fences) * ROWS_OF_BLOCK - self.held.rows)
            return keys[:n], places[:n]
        return keys, places


@dataclass(frozen=True)
class Holding:
    """Where a part's ids are: the file of ids, and which of its parts it is."""

    file: SortedIds
    number: int


class SortedRun:
    """Ids in memory with what a file of them has.

    keys : (n,) S16, ascending. places : (n,) int64. rows : of the parts they are of.
    """

    def __init__(self, keys: np.ndarray, places: np.ndarray, rows: Sequence[int]) -> None:
        self.starts = starts_of(rows)
        self.fences = keys[::ROWS_OF_BLOCK]
        self._heads = heads_of(keys)
        self._run = keys, places

    def find(self, keys: np.ndarray, to: np.ndarray) -> np.ndarray:
        """As a file's."""
        own, places = self._run
        return _look_up(self._heads, own, keys, partial(_placed, places, self.starts, to))

    def between(self, first: bytes, end: bytes | None) -> Run:
        """The ids from `first` on that come before `end`, and their places."""
        return _slice(*self._run, first, end)


def sorted_run(keys: np.ndarray) -> Run:
    """(n,) S16 ids in any order -> ascending, with their places; equal ones keep their order.

    Examples
    --------
    >>> keys, places = sorted_run(np.array([b"b" * 16, b"a" * 16, b"b" * 16]))
    >>> places.tolist()
    [1, 0, 2]
    """
    # the first halves as numbers are sorted five times as fast; ids that differ behind them alone,
    # as they never do by chance, are sorted whole
    order = np.argsort(heads_of(keys), kind="stable")
    if (keys[order[1:]] < keys[order[:-1]]).any():
        order = np.argsort(keys, kind="stable")
    return keys[order], order


def is_first(keys: np.ndarray) -> np.ndarray:
    """(n,) bool: which of ascending ids are not the one before once more."""
    return np.append(True, keys[1:] != keys[:-1])[: len(keys)]


def heads_of(keys: np.ndarray) -> np.ndarray:
    """The first halves of (n,) S16 ids as numbers in the same order: found three times as fast."""
    return keys.view(">u8")[::2].astype(np.uint64)


def starts_of(rows: Sequence[int]) -> np.ndarray:
    """Where each of several blocks of rows starts, and the end: (len(rows) + 1,) int64."""
    return np.cumsum([0, *rows], dtype=np.int64)


def read_sorted_ids(path: Path) -> SortedIds:
    """The file without its blocks, all but these checked.

    Raises
    ------
    WrongBytes
        It is not as it was written, or of another schema.
    OSError
        It can't be read, or is gone.
    """
    with opened_part(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _parsed(path, file, size)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise WrongBytes(path, str(error) or type(error).__name__) from error


def _parsed(path: Path, file: BinaryIO, size: int) -> SortedIds:
    if size < END.size:
        raise ValueError(f"{size} bytes are no index")
    file.seek(size - END.size)
    n_blocks, n_text, digest, magic = END.unpack(file.read(END.size))
    n_tail = n_blocks * (LEN_FENCE + LEN_CRC) + n_text
    if magic != MAGIC or n_blocks * BLOCK.itemsize + n_tail + END.size != size:
        raise ValueError("it does not end as an index of this version does")
    file.seek(n_blocks * BLOCK.itemsize)
    tail = file.read(n_tail)
    if _digest(tail) != digest:
        raise ValueError("wrong checksum of what it says of itself")
    values = json.loads(tail[n_blocks * (LEN_FENCE + LEN_CRC) :])
    if values.pop("schema") != SCHEMA:
        raise ValueError(f"it is not of schema {SCHEMA}")
    entries = tuple(Entry(*entry) for entry in values.pop("parts"))
    held = Held(parts=entries, taps=tuple(values.pop("taps")), **values)
    fences = np.frombuffer(tail, "S16", n_blocks)
    checksums = np.frombuffer(tail, "<u4", n_blocks, n_blocks * LEN_FENCE)
    return SortedIds(path, held, fences, checksums)


def write_sorted_ids(
    path: Path,
    held: Held,
    sources: Sequence[SortedIds | SortedRun],
    starts: Sequence[np.ndarray],
) -> None:
    """Merge sources of ids into one file; an id that several parts have is kept for each.

    held : of the file, but for its number of ids. starts : for each source where each of its parts
    starts in the file's places, -1 for a part that is left out.

    A stretch of ids is in memory at a time. Raises as `SortedIds.find` does, and OSError where the
    file can't be written.
    """
    fences, checksums, rows = [], [], 0
    with written_aside(path) as aside, open(aside, "wb") as file:
        for keys, places in _whole_blocks(merged(sources, starts)):
            blocks = _as_blocks(keys, places)
            fences.append(keys[::ROWS_OF_BLOCK])
            checksums += [
                zlib.crc32(block.data)
                for block in blocks.view(np.uint8).reshape(len(blocks), BLOCK.itemsize)
            ]
            rows += len(keys)
            file.write(blocks.data)
        values = {**asdict(held), "rows": rows, "schema": SCHEMA}
        values["parts"] = [list(asdict(entry).values()) for entry in held.parts]
        text = json.dumps(values, sort_keys=True).encode()
        tail = np.concatenate(fences).tobytes() + np.array(checksums, "<u4").tobytes() + text
        file.write(tail + END.pack(len(checksums), len(text), _digest(tail), MAGIC))


def moved(places: np.ndarray, starts: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Places over parts that start at `starts`, as they are where these start at `to`.

    -1 of a part that starts at -1, and of a place that is -1.

    Examples
    --------
    >>> moved(np.array([0, 4, 7, -1]), np.array([0, 5, 9]), np.array([20, -1])).tolist()
    [20, 24, -1, -1]
    """
    part = np.searchsorted(starts, places, "right") - 1
    found = to[np.maximum(part, 0)]
    return np.where((part >= 0) & (found >= 0), found + places - starts[part], -1)


def merged(sources: Sequence[SortedIds | SortedRun], starts: Sequence[np.ndarray]) -> Iterator[Run]:
    """What the sources hold, ascending, a stretch at a time."""
    cuts = np.sort(np.concatenate([source.fences for source in sources]))[:: len(sources) * STRETCH]
    # an id may come before the first cut, if only by being the first of a shorter source
    for first, end in zip([b"", *cuts[1:]], [*cuts[1:], None], strict=True):
        own = [source.between(first, end) for source in sources]
        keys = np.concatenate([keys for keys, _ in own])
        places = np.concatenate(
            [
                moved(places, source.starts, to)
                for (_, places), source, to in zip(own, sources, starts, strict=True)
            ]
        )
        there = places >= 0
        keys, places = keys[there], places[there]
        order = np.argsort(keys, kind="stable")  # of sorted pieces in no more than one look
        yield keys[order], places[order]


def _whole_blocks(runs: Iterator[Run]) -> Iterator[Run]:
    """The same ids cut so that all but the last give whole blocks."""
    keys, places = np.empty(0, "S16"), np.empty(0, np.int64)
    for more_keys, more_places in runs:
        keys, places = np.append(keys, more_keys), np.append(places, more_places)
        n = len(keys) // ROWS_OF_BLOCK * ROWS_OF_BLOCK
        if n:
            yield keys[:n], places[:n]
            keys, places = keys[n:], places[n:]
    if len(keys):
        yield keys, places


def _as_blocks(keys: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(n,) ids and places -> blocks, the last one filled."""
    blocks = np.zeros(-(-len(keys) // ROWS_OF_BLOCK), BLOCK)
    room = len(blocks) * ROWS_OF_BLOCK - len(keys)
    blocks["keys"] = np.append(keys, np.full(room, LAST)).reshape(-1, ROWS_OF_BLOCK)
    blocks["places"] = np.append(places, np.full(room, -1)).reshape(-1, ROWS_OF_BLOCK)
    return blocks


def _placed(places: np.ndarray, starts: np.ndarray, to: np.ndarray, near: np.ndarray) -> np.ndarray:
    return moved(places[near], starts, to)


def _look_up(
    heads: np.ndarray,
    keys: np.ndarray,
    wanted: np.ndarray,
    place: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """(m,) places of the wanted ids among sorted ones with these heads, -1 if not there.

    place : from numbers of the sorted ids to places, -1 for one to pass over.
    """
    found = np.full(len(wanted), -1)
    if not len(keys):
        return found
    last = len(keys) - 1
    near = np.minimum(np.searchsorted(heads, heads_of(wanted)), last)
    unsure = np.flatnonzero(keys[near] != wanted)  # not there, or not the only one with this head
    near[unsure] = np.minimum(np.searchsorted(keys, wanted[unsure]), last)
    left = np.flatnonzero(keys[near] == wanted)
    while len(left):
        found[left] = place(near[left])
        left = left[(found[left] < 0) & (near[left] < last)]
        near[left] += 1
        left = left[keys[near[left]] == wanted[left]]
    return found


def _slice(keys: np.ndarray, places: np.ndarray, first: bytes, end: bytes | None) -> Run:
    at = int(np.searchsorted(keys, first))
    stop = len(keys) if end is None else int(np.searchsorted(keys, end))
    return keys[at:stop], places[at:stop]


def _cut(values: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (values[at : at + size] for at in range(0, len(values), size))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
