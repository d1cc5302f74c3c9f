"""One part: an immutable HDF5 file of rows, its checksums, and what becomes of a damaged one."""

import contextlib
import logging
import os
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from extract.files import refuse_writing, written_aside
from extract.store.description import Description, Layout, read_description
from extract.store.outline import draw_outline
from extract.store.rows_on_disk import Column, WrongBytes, opened_part
from extract.store.sorted_ids import Entry, Holding

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 19  # of whole rows: a chunk is what one checksum covers and one read fetches
IDS, TAPS = "ids", "taps/"
INDEX_SUFFIX = ".index"

# damaged parts that this process found and could not rename
_passed_over: set[tuple] = set()


class Rows(Protocol):
    """(n, d) rows given a slice at a time: an array, or what has not been read or joined yet."""

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


class DamagedPart(KeyError):
    """Rows that aren't kept, or not any more: a part whose bytes have changed is set aside."""


class Part:
    """What is known of one part without reading its rows; never changes, as the part doesn't.

    recipe : id of the recipe that its rows are of.
    taps : names of the columns.
    rows : how many it has.
    size : of the file, in bytes.
    digest : of its description, and so of all that it holds.
    holding : the file that holds its ids, where one does; then nothing of the part itself is read
        before its rows are asked for.
    """

    def __init__(
        self,
        path: Path,
        held: Entry,
        recipe: str,
        taps: Iterable[str],
        holding: Holding | None = None,
    ) -> None:
        self.path = path
        self.recipe = recipe
        self.taps = frozenset(taps)
        self.rows, self.size, self.digest = held.rows, held.size, held.digest
        self.holding = holding
        self._keys: np.ndarray | None = None
        self._stamp: tuple | None = None
        self._columns: dict[str, Column] = {}
        self._provenance: Mapping[str, str] = {}

    @property
    def keys(self) -> np.ndarray:
        """(n,) S16, the image ids; in memory only of a part whose ids no file holds."""
        return read_index(self.path).keys if self._keys is None else self._keys

    @property
    def provenance(self) -> Mapping[str, str]:
        """Of the rows, as it stands in the file's attributes."""
        self._look()
        return self._provenance

    def column(self, name: str) -> Column:
        """Where a tap's rows lie in the file; WrongBytes where the file is not the one indexed."""
        self._look()
        return self._columns[name]

    def check(self) -> None:
        """Read every row; WrongBytes where one is not as written."""
        self._look()
        for column in self._columns.values():
            column.check()

    def describe(self, described: Description, keys: np.ndarray | None = None) -> None:
        """Take what the file says of itself, and its ids where they are to be in memory."""
        self._keys = keys
        self._provenance = described.provenance
        self._columns = {
            name.removeprefix(TAPS): described.column(self.path, self.size, name)
            for name in described.datasets
            if name.startswith(TAPS)
        }

    def _look(self) -> None:
        """Read the description of a part that the listing did not, again where it has changed."""
        if self.holding is None:
            return
        stamp = stamp_of(self.path)
        if stamp == self._stamp:
            return
        size, described = read_whole_description(self.path)
        if (described.digest, size) != (self.digest, self.size):
            reason = f"{self.path.name} is another part than the one whose ids it holds"
            raise WrongBytes(self.holding.file.path, reason)
        self.describe(described)
        self._stamp = stamp


def stamp_of(path: Path) -> tuple:
    """What changes with a part's file."""
    try:
        stat = os.stat(path)
    except OSError:
        opened_part(path).close()  # says so where it is a link to nothing
        raise
    return path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns


def as_keys(ids: np.ndarray) -> np.ndarray:
    """(n, 16) uint8 image ids as (n,) S16, which numpy sorts and compares whole."""
    return np.ascontiguousarray(ids).view("S16").reshape(-1)


def read_index(path: Path) -> Part:
    """The ids and taps of a part, all but its rows checked.

    Raises
    ------
    WrongBytes
        The file is not as it was written, or no part at all; it is left where it is.
    OSError
        It can't be read, or is gone.
    """
    size, described = read_whole_description(path)
    every = np.arange(described.rows)
    ids = np.empty((described.rows, 16), np.uint8)
    described.column(path, size, IDS).copy(every, every, ids)
    taps = [name.removeprefix(TAPS) for name in described.datasets if name.startswith(TAPS)]
    held = Entry(path.name, size, described.rows, described.digest)
    part = Part(path, held, described.recipe, taps)
    part.describe(described, as_keys(ids))
    return part


def indexed_part(path: Path, holding: Holding) -> Part:
    """A part as the file that holds its ids knows it; nothing of its own file is read."""
    held = holding.file.held
    return Part(path, held.parts[holding.number], held.recipe, held.taps, holding)


def read_whole_description(path: Path) -> tuple[int, Description]:
    """A part's size in bytes and its description, as `read_index` raises."""
    with opened_part(path) as file:
        return os.fstat(file.fileno()).st_size, read_description(path, file)


@contextlib.contextmanager
def wrong_bytes_set_aside() -> Iterator[None]:
    """Within it, a part whose rows are not as written is set aside and raises DamagedPart."""
    try:
        yield
    except WrongBytes as error:
        set_aside(error.path, error)
        raise DamagedPart(f"{error.path}: {error}") from error


def set_aside(path: Path, reason: object) -> None:
    """Rename what is no part, or no whole one, so that its rows count as missing.

    Of an index of ids, which is made anew, nothing counts as missing.
    """
    if is_passed_over(path):
        return
    what, then = "part", "its rows are computed again"
    if path.suffix == INDEX_SUFFIX:
        what, then = "index", "is made anew"
    log.warning("the kept %s %s is damaged (%s): it is set aside and %s", what, path, reason, then)
    if not put_aside(path):
        _passed_over.add(_mark(path))


def put_aside(path: Path) -> bool:
    """Rename a file, or what stands in its place -> whether nobody meets it any more."""
    aside = path.with_suffix(".damaged")
    for name in (aside, aside.with_name(f"{path.stem}-{uuid.uuid4().hex[:8]}.damaged")):
        try:
            refuse_writing()
            os.replace(path, name)
            return True
        except FileNotFoundError:  # another process was first
            return True
        except OSError:  # a folder stands there, or nothing can be renamed here
            continue
    return False


def pass_over(path: Path, reason: object) -> None:
    """Say once that a part can't be read, and leave it where it is."""
    log.warning("the kept part %s is passed over: %s", path, reason)
    _passed_over.add(_mark(path))


def finished_names(folder: Path, suffix: str) -> list[str]:
    """Names of a folder's files that end so, in no order; one with a dot before it is unfinished.

    Raises OSError where the folder can't be listed.
    """
    with os.scandir(folder) as entries:
        return [
            entry.name
            for entry in entries
            if entry.name.endswith(suffix) and not entry.name.startswith(".")
        ]


def is_passed_over(path: Path) -> bool:
    """Whether it was found damaged by this process and could not be renamed."""
    return bool(_passed_over) and _mark(path) in _passed_over


def _mark(path: Path) -> tuple:
    try:
        stat = os.lstat(path)
    except OSError:
        return (path,)
    return path, stat.st_ino, stat.st_size, stat.st_mtime_ns


def write_part(
    folder: Path,
    recipe: str,
    ids: np.ndarray,
    columns: Mapping[str, Rows],
    provenance: Mapping[str, Any],
) -> Path:
    """One finished part: written aside, synced, renamed -> its path.

    recipe: its id. ids: (n, 16) uint8. columns: (n, d) by tap. provenance: attributes of the file.

    One chunk of a column is asked for at a time.

    Raises ValueError for a column that has not one row an id.
    """
    for name, values in columns.items():
        if len(values) != len(ids):
            raise ValueError(f"{name} has {len(values)} rows, expected {len(ids)}, one an id")
    datasets = {IDS: ids, **{TAPS + name: values for name, values in columns.items()}}
    provenance = {name: str(value) for name, value in provenance.items()}
    outline = draw_outline(
        {name: (values.shape, values.dtype, _step(values)) for name, values in datasets.items()},
        provenance,
    )
    path = Path(folder) / f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.h5"
    with written_aside(path) as aside, open(aside, "wb") as file:
        described = Description(
            recipe=recipe,
            rows=len(ids),
            datasets={
                name: _write_rows(file, values, outline.offsets[name])
                for name, values in datasets.items()
            },
            provenance=provenance,
            size=outline.size,
            rest=0,
        )
        described = replace(described, rest=outline.write(file, described.gaps()))
        file.seek(outline.size)
        file.write(described.to_bytes())
    return path


def _step(values: Rows) -> int:
    """How many rows a chunk has."""
    n, width = values.shape
    return max(1, min(n, CHUNK_BYTES // max(1, values.dtype.itemsize * width)))


def _write_rows(file: BinaryIO, values: Rows, offsets: list[int]) -> Layout:
    (n, width), step = values.shape, _step(values)
    checksums = []
    for at, offset in zip(range(0, n, step), offsets, strict=True):
        block = np.ascontiguousarray(values[at : at + step])
        padding = bytes((step - len(block)) * width * block.itemsize)
        checksums.append(zlib.crc32(padding, zlib.crc32(block.data)))
        file.seek(offset)
        file.write(block.data)
        file.write(padding)
    return Layout(values.dtype.str, width, step, offsets, checksums)
