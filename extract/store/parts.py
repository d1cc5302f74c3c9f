"""One part: an immutable HDF5 file of rows, its checksums, and what becomes of a damaged one."""

import contextlib
import logging
import os
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from extract.errors import ExtractError
from extract.files import written_aside
from extract.store.rows_on_disk import Column, WrongBytes

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 19  # of whole rows: a chunk is what one checksum covers and one read fetches


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

    keys : (n,) S16, the image ids.
    taps : names of the columns.
    size : of the file, in bytes.
    """

    def __init__(self, path: Path, keys: np.ndarray, taps: frozenset[str], size: int) -> None:
        self.path = path
        self.keys = keys
        self.taps = taps
        self.size = size
        self._columns: dict[str, Column] = {}

    def column(self, name: str) -> Column:
        """Where a tap's rows lie in the file, asked of HDF5 once."""
        if name not in self._columns:
            with opened(self.path) as file:
                self._columns[name] = _column_of(self.path, self.size, file["taps"][name])
        return self._columns[name]


def as_keys(ids: np.ndarray) -> np.ndarray:
    """(n, 16) uint8 image ids as (n,) S16, which numpy sorts and compares whole."""
    return np.ascontiguousarray(ids).view("S16").reshape(-1)


def read_index(path: Path) -> Part:
    """The ids and taps of a part; DamagedPart where they are not as written."""
    with opened(path) as file:
        dataset = file["ids"]
        ids, step = dataset[:], dataset.chunks[0]
        for chunk, at in enumerate(range(0, len(ids), step)):
            if zlib.crc32(ids[at : at + step]) != dataset.attrs["crc32"][chunk]:
                raise ValueError(f"wrong checksum of {dataset.name}")
        return Part(path, as_keys(ids), frozenset(file["taps"]), path.stat().st_size)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file of a part; what it should not hold sets it aside and raises DamagedPart."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
        # with an error number it is the system's word, not the file's: gone, too many open files
        if getattr(error, "errno", None):
            raise
        set_aside(path)
        raise DamagedPart(f"{path}: {error}") from error


@contextlib.contextmanager
def wrong_bytes_set_aside() -> Iterator[None]:
    """Within it, a part whose rows are not as written is set aside and raises DamagedPart."""
    try:
        yield
    except WrongBytes as error:
        set_aside(error.path)
        raise DamagedPart(f"{error.path}: {error}") from error


def set_aside(path: Path) -> None:
    """Rename a damaged part so that its rows count as missing."""
    log.warning(
        "the kept part %s is damaged: it is set aside and its rows are computed again", path
    )
    try:
        with contextlib.suppress(FileNotFoundError):  # another process was first
            os.replace(path, path.with_suffix(".damaged"))
    except OSError as error:
        raise ExtractError(
            f"the kept part {path} is damaged and can't be renamed ({error.strerror}): remove it"
        ) from error


def write_part(
    folder: Path,
    ids: np.ndarray,
    columns: Mapping[str, Rows],
    provenance: Mapping[str, Any],
) -> Path:
    """One finished part: written aside, synced, renamed -> its path.

    ids: (n, 16) uint8. columns: (n, d) by tap. provenance: attributes of the file.

    One chunk of a column is asked for at a time.

    Raises ValueError for a column that has not one row an id.
    """
    for name, values in columns.items():
        if len(values) != len(ids):
            raise ValueError(f"{name} has {len(values)} rows, expected {len(ids)}, one an id")
    path = Path(folder) / f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.h5"
    with written_aside(path) as aside, h5py.File(aside, "w", locking=False) as file:
        file.attrs.update(provenance)
        _write_rows(file, "ids", ids)
        group = file.create_group("taps")
        for name, values in columns.items():
            _write_rows(group, name, values)
        file.flush()
    return path


def _write_rows(group: h5py.Group, name: str, values: Rows) -> None:
    n, width = values.shape
    step = max(1, min(n, CHUNK_BYTES // max(1, values.dtype.itemsize * width)))
    dataset = group.create_dataset(name, values.shape, values.dtype, chunks=(step, width))
    checksums = []
    # a chunk at a time: HDF5 holds the interpreter's lock while it writes
    for at in range(0, n, step):
        block = np.ascontiguousarray(values[at : at + step])
        checksums.append(zlib.crc32(block.data))
        if len(block) < step:
            block = np.concatenate([block, np.zeros((step - len(block), width), block.dtype)])
        dataset.id.write_direct_chunk((at, 0), block)
    dataset.attrs["crc32"] = np.array(checksums, np.uint32)


def _column_of(path: Path, size: int, dataset: h5py.Dataset) -> Column:
    """The place of each chunk; ValueError where rows are missing or a chunk isn't whole rows."""
    (n, width), (step, across), item = dataset.shape, dataset.chunks, dataset.dtype.itemsize
    chunks = [dataset.id.get_chunk_info_by_coord((at, 0)) for at in range(0, n, step)]
    checksums = dataset.attrs["crc32"][:]
    if n != len(dataset.file["ids"]):
        raise ValueError(f"{dataset.name} has {n} rows of {len(dataset.file['ids'])}")
    plain = (
        across == width
        and not dataset.id.get_create_plist().get_nfilters()
        and len(checksums) == len(chunks)
    )
    if not plain or any(chunk.size != step * width * item for chunk in chunks):
        raise ValueError(f"{dataset.name} is not in plain chunks of whole rows")
    return Column(
        path=path,
        file_size=size,
        dtype=dataset.dtype,
        shape=(n, width),
        step=step,
        offsets=np.array([chunk.byte_offset for chunk in chunks], np.int64),
        checksums=checksums,
        checked=np.zeros(len(chunks), bool),
    )
