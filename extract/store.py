"""The kept features: immutable HDF5 parts below one folder per recipe, read back by image id."""

import contextlib
import logging
import os
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from extract.errors import ExtractError, unreadable, unwritable
from extract.files import sync_folder, write_text, written_aside
from extract.gather import Column, WrongBytes, gather
from extract.pooling import Tap
from extract.recipe import Recipe

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 19
PART_SECONDS = 10.0
PART_BYTES = 256 << 20
WAITING_BYTES = 64 << 20
SMALL_PARTS = 8
STALE_SECONDS = 24 * 3600.0
LOOKS = 5


def default_cache() -> Path:
    """The platform's folder for what can be made again."""
    import platformdirs

    return platformdirs.user_cache_path("permafrost")


class DamagedPart(KeyError):
    """Rows that aren't kept, or not any more: a part whose bytes are not those that were written is set aside."""


class _Part:
    """What is known of one part without reading its rows; never changes, as the part doesn't."""

    def __init__(self, path: Path, keys: np.ndarray, taps: frozenset[str], size: int):
        self.path, self.keys, self.taps, self.size = path, keys, taps, size
        self._columns: dict[str, Column] = {}

    def column(self, name: str) -> Column:
        """Where a tap's rows lie in the file, asked of HDF5 once."""
        if name not in self._columns:
            with _opened(self.path) as file:
                self._columns[name] = _column_of(self.path, self.size, file["taps"][name])
        return self._columns[name]


class _Table:
    """Which part and row each id has; the first part that has an id counts."""

    def __init__(self, parts: tuple[_Part, ...]):
        self.parts = parts
        self.keys = np.concatenate([part.keys for part in parts])
        self.starts = np.cumsum([0, *(len(part.keys) for part in parts)])
        self._order = np.argsort(self.keys, kind="stable")
        self._sorted = self.keys[self._order]
        self._heads = _heads(self._sorted)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """(n,) S16 ids -> (n,) place among the parts' rows, one part's after another's; -1 where it isn't there."""
        if not len(self._sorted):
            return np.full(len(keys), -1)
        last = len(self._sorted) - 1
        near = np.minimum(np.searchsorted(self._heads, _heads(keys)), last)
        unsure = np.flatnonzero(
            self._sorted[near] != keys
        )  # not there, or not the only one with this head
        near[unsure] = np.minimum(np.searchsorted(self._sorted, keys[unsure]), last)
        return np.where(self._sorted[near] == keys, self._order[near], -1)

    def split(self, places: np.ndarray):
        """(n,) places -> for each part with one or more: (part, its rows, ascending, where in `places` they stand)."""
        where = np.argsort(places)
        cuts = np.searchsorted(places[where], self.starts)
        for part, start, at, end in zip(self.parts, self.starts, cuts, cuts[1:], strict=False):
            if at < end:
                yield part, places[where[at:end]] - start, where[at:end]


@lru_cache(maxsize=32)
def _known(folder: Path) -> dict[tuple, _Part]:
    """The parts of a folder by name and stamp: as they never change, all stores of a process share what is known."""
    return {}


@lru_cache(maxsize=4)
def _table(parts: tuple[_Part, ...]) -> _Table:
    """The same for every tap that these parts hold."""
    return _Table(parts)


class _Joined(Sequence):
    """One tap's rows of several parts as one array-like (n, d), read when they are asked for."""

    def __init__(self, table: _Table, name: str, places: np.ndarray):
        self._table, self._name, self._places = table, name, places
        columns = [part.column(name) for part in table.parts]
        self.dtype = np.result_type(*(column.dtype for column in columns))
        self.shape = (len(places), columns[0].shape[1])

    def __len__(self):
        return len(self._places)

    def __getitem__(self, rows: slice) -> np.ndarray:
        places = self._places[rows]
        out = np.empty((len(places), self.shape[1]), self.dtype)
        gather(
            (part.column(self._name), here, where, out)
            for part, here, where in self._table.split(places)
        )
        return out


class _Stacked(Sequence):
    """Blocks of rows as one array-like (n, d), joined where they are asked for and no further."""

    def __init__(self, blocks: list[np.ndarray]):
        self._blocks = blocks
        self._starts = np.cumsum([0, *map(len, blocks)])
        self.dtype = np.result_type(*blocks)
        self.shape = (int(self._starts[-1]), *blocks[0].shape[1:])

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        at, end, _ = rows.indices(len(self))
        first, last = (
            np.searchsorted(self._starts, at, "right") - 1,
            np.searchsorted(self._starts, end),
        )
        blocks = [
            self._blocks[i][max(0, at - self._starts[i]) : end - self._starts[i]]
            for i in range(first, last)
        ]
        return np.concatenate(blocks, dtype=self.dtype)


class FeatureStore:
    """Features by (recipe, tap, image id), kept on disk and never changed once written.

    cache : folder; None is the platform's user cache folder. Many processes may write into one store at once.
    """

    def __init__(self, cache=None):
        self.cache = Path(cache) if cache is not None else default_cache()

    def missing(self, recipe: Recipe, taps: list[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, 16) uint8 ids -> (n, taps) bool, True where a row isn't kept."""
        keys, gone, found = _keys(ids), np.ones((len(ids), len(taps)), bool), {}
        parts = self._list(recipe)
        for i, tap in enumerate(taps):
            held = _holding(parts, str(tap))
            if held and held not in found:
                found[held] = _table(held).find(keys) >= 0
            if held:
                gone[found[held], i] = False
        return gone

    def read(self, recipe: Recipe, taps: list[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, d) float32 rows in the order of `ids`, the taps' columns side by side; DamagedPart if one is missing.

        A chunk's checksum is looked at when the chunk is first read in this process.
        """
        keys, names = _keys(ids), [str(tap) for tap in taps]
        for _ in range(LOOKS):
            try:
                return _read(self._list(recipe), names, keys)
            except FileNotFoundError:  # joined into another part since it was listed
                continue
            except OSError as error:
                raise unreadable(self.cache, error) from error
        raise DamagedPart(f"the parts that hold {', '.join(names)} are gone")

    def prepare(self, recipe: Recipe) -> None:
        """Make the recipe's folder; ExtractError where the cache can't be written."""
        folder = self._folder(recipe)
        try:
            (folder / "parts").mkdir(parents=True, exist_ok=True)
            if not (folder / "recipe.json").exists():
                write_text(folder / "recipe.json", recipe.to_json())
        except OSError as error:
            raise unwritable(self.cache, error) from error

    def writer(
        self, recipe: Recipe, stored=np.float32, provenance: dict | None = None
    ) -> "PartWriter":
        """A context into which rows of this recipe are added; it finishes a part at least every 10 s."""
        self.prepare(recipe)
        return PartWriter(self._folder(recipe) / "parts", stored, provenance or {})

    def compact(self, recipe: Recipe) -> int:
        """Join small parts with the same taps, the new one first, then unlink the old -> parts joined.

        Nothing is lost where that can't be done: the parts stay as they are.
        """
        joined = 0
        with _unless_hindered(self.cache):
            for batch in self._small_parts(recipe):
                self._join(batch)
                joined += len(batch)
            _remove_stale(self._folder(recipe) / "parts")
        return joined

    def _small_parts(self, recipe):
        for taps in {part.taps for part in self._list(recipe)}:
            small = [p for p in self._list(recipe) if p.taps == taps and p.size < PART_BYTES // 2]
            while len(small) > SMALL_PARTS:
                batch, size = [], 0
                while small and size < PART_BYTES:
                    size += small[0].size
                    batch.append(small.pop(0))
                yield batch

    def _join(self, parts):
        """One part with the rows of all, in the order they lie in; of an id that comes twice the first is kept."""
        table = _Table(tuple(parts))
        places = np.sort(np.unique(table.keys, return_index=True)[1])
        keys = table.keys[places]
        with _opened(parts[0].path) as file:
            provenance = dict(file.attrs)
        columns = {name: _Joined(table, name, places) for name in sorted(parts[0].taps)}
        with _wrong_bytes_set_aside():
            write_part(
                parts[0].path.parent,
                keys.view(np.uint8).reshape(-1, keys.itemsize),
                columns,
                provenance,
            )
        for part in parts:
            part.path.unlink(missing_ok=True)
        sync_folder(parts[0].path.parent)

    def _folder(self, recipe):
        return self.cache / recipe.id

    def _list(self, recipe):
        folder = self._folder(recipe) / "parts"
        try:
            for _ in range(LOOKS):
                with contextlib.suppress(
                    FileNotFoundError
                ):  # joined into another part since it was listed
                    return self._look(folder)
            return list(_known(folder.absolute()).values())
        except OSError as error:
            raise unreadable(self.cache, error) from error

    def _look(self, folder):
        if not folder.exists():
            return []
        known, here = _known(folder.absolute()), {}
        with os.scandir(folder.absolute()) as entries:
            names = [
                entry
                for entry in entries
                if entry.name.endswith(".h5") and not entry.name.startswith(".")
            ]
        for entry in sorted(names, key=lambda entry: entry.name):
            stat = entry.stat()
            stamp = entry.name, stat.st_ino, stat.st_size, stat.st_mtime_ns
            part = known.get(stamp)
            if part is None:
                with contextlib.suppress(DamagedPart):  # its rows count as missing
                    part = known[stamp] = _read_index(Path(entry.path))
            if part is not None:
                here[stamp] = part
        for stamp in set(known).difference(here):
            known.pop(stamp, None)
        return list(here.values())


@contextlib.contextmanager
def _wrong_bytes_set_aside():
    try:
        yield
    except WrongBytes as error:
        set_aside(error.path)
        raise DamagedPart(f"{error.path}: {error}") from error


@contextlib.contextmanager
def _unless_hindered(cache):
    try:
        yield
    except FileNotFoundError:
        log.debug("another process joins the parts of %s", cache)
    except DamagedPart as error:
        log.debug("not joined: %s", error)
    except OSError as error:
        log.warning("the parts in %s can't be joined: %s", cache, error)


@contextlib.contextmanager
def _opened(path):
    """The HDF5 file of a part; what it should not hold sets it aside and raises DamagedPart."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
        if getattr(
            error, "errno", None
        ):  # the system's word, not the file's: gone, too many open files
            raise
        set_aside(path)
        raise DamagedPart(f"{path}: {error}") from error


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


class PartWriter:
    """Collects rows and writes them as immutable parts on a thread of its own."""

    def __init__(self, folder: Path, stored, provenance: dict):
        self._folder, self._stored, self._provenance = folder, stored, provenance
        self._added, self._bytes, self._since = [], 0, time.monotonic()
        self._thread, self._writing = ThreadPoolExecutor(1), Future()
        self._writing.set_result(None)
        self.seconds, self.rows_kept = 0.0, 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            self.flush()
            self._writing.result()
        finally:
            self._thread.shutdown()

    def add(self, ids: np.ndarray, rows: dict[Tap, np.ndarray]) -> None:
        """(n, 16) uint8 ids and (n, d) float32 rows for each tap; all calls name the same taps."""
        kept = {str(tap): as_stored(values, self._stored) for tap, values in rows.items()}
        self._added.append((ids, kept))  # in one step: an interrupt falls before it or after it
        self._bytes += sum(values.nbytes for values in kept.values())
        if self._bytes >= WAITING_BYTES or time.monotonic() - self._since >= PART_SECONDS / 2:
            self.flush()

    def flush(self) -> None:
        """Start writing what was added; waits only for the part before."""
        if self._added:
            self._writing.result()
            ids = np.concatenate([ids for ids, _ in self._added])
            columns = {
                name: _Stacked([kept[name] for _, kept in self._added])
                for name in self._added[0][1]
            }
            self._writing = self._thread.submit(self._write, ids, columns)
        self._added, self._bytes, self._since = [], 0, time.monotonic()

    def _write(self, ids, columns):
        started = time.monotonic()
        try:
            write_part(self._folder, ids, columns, self._provenance)
        except OSError as error:
            raise unwritable(self._folder.parent.parent, error) from error
        self.rows_kept += len(ids)
        self.seconds += time.monotonic() - started


def as_stored(values: np.ndarray, stored) -> np.ndarray:
    """(n, d) float32 rows in the type they are kept in; a row that overflows float16 stays float32, alone."""
    if stored is not np.float16:
        return values.astype(stored, copy=False)
    wide = np.abs(values).max(axis=1, initial=0) > np.finfo(np.float16).max
    if not wide.any():
        return values.astype(np.float16)
    with np.errstate(over="ignore"):
        return np.where(wide[:, None], values, values.astype(np.float16).astype(np.float32))


def write_part(
    folder: Path, ids: np.ndarray, columns: Mapping[str, Sequence], provenance: dict
) -> Path:
    """One finished part: (n, 16) uint8 ids and (n, d) columns by tap, written aside, synced and renamed.

    columns: arrays, or what has their dtype, shape and slices of rows; one chunk of them is asked for at a time.

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


def _write_rows(group, name, values):
    n, width = values.shape
    step = max(1, min(n, CHUNK_BYTES // max(1, values.dtype.itemsize * width)))
    dataset = group.create_dataset(name, values.shape, values.dtype, chunks=(step, width))
    checksums = []
    for at in range(
        0, n, step
    ):  # a chunk at a time: HDF5 holds the interpreter's lock while it writes
        block = np.ascontiguousarray(values[at : at + step])
        checksums.append(zlib.crc32(block))
        if len(block) < step:
            block = np.concatenate([block, np.zeros((step - len(block), width), block.dtype)])
        dataset.id.write_direct_chunk((at, 0), block)
    dataset.attrs["crc32"] = np.array(checksums, np.uint32)


def _column_of(path, size, dataset):
    """The place of each chunk; ValueError where rows are missing or the chunks aren't whole rows as in memory."""
    (n, width), (step, across), item = dataset.shape, dataset.chunks, dataset.dtype.itemsize
    chunks = [dataset.id.get_chunk_info_by_coord((at, 0)) for at in range(0, n, step)]
    checksums = dataset.attrs["crc32"][:]
    plain = (
        across == width
        and not dataset.id.get_create_plist().get_nfilters()
        and len(checksums) == len(chunks)
    )
    if n != len(dataset.file["ids"]):
        raise ValueError(f"{dataset.name} has {n} rows of {len(dataset.file['ids'])}")
    if not plain or any(chunk.size != step * width * item for chunk in chunks):
        raise ValueError(f"{dataset.name} is not in plain chunks of whole rows")
    offsets = [chunk.byte_offset for chunk in chunks]
    return Column(
        path, size, dataset.dtype, (n, width), step, offsets, checksums, np.zeros(len(chunks), bool)
    )


def _read_index(path):
    with _opened(path) as file:
        dataset = file["ids"]
        ids, step = dataset[:], dataset.chunks[0]
        for chunk, at in enumerate(range(0, len(ids), step)):
            _check(dataset, chunk, ids[at : at + step])
        return _Part(path, _keys(ids), frozenset(file["taps"]), path.stat().st_size)


def _check(dataset, chunk, block):
    if zlib.crc32(block) != dataset.attrs["crc32"][chunk]:
        raise ValueError(f"wrong checksum of {dataset.name}")


def _heads(keys):
    """The first halves of (n,) S16 ids as numbers in the same order: found in a third of the time."""
    return keys.view(">u8")[::2].astype(np.uint64)


def _keys(ids):
    return np.ascontiguousarray(ids).view("S16").reshape(-1)


def _holding(parts, name):
    return tuple(part for part in parts if name in part.taps)


def _read(parts, names, keys):
    """(n,) S16 ids -> (n, d) float32, the columns of each name side by side."""
    found, wanted, widths = {}, [], []
    for name in names:
        held = _holding(parts, name)
        if held and held not in found:
            found[held] = _table(held).find(keys)
        lacking = int((found[held] < 0).sum()) if held else len(keys)
        if lacking or not held:
            raise DamagedPart(f"{lacking} of {len(keys)} rows of {name} are not kept")
        pieces = [
            (part.column(name), rows, where)
            for part, rows, where in _table(held).split(found[held])
        ]
        widths.append((pieces[0][0] if pieces else held[0].column(name)).shape[1])
        wanted.append(pieces)
    out, at = np.empty((len(keys), sum(widths)), np.float32), np.cumsum([0, *widths])
    with _wrong_bytes_set_aside():
        gather(
            (*piece, out[:, at[i] : at[i + 1]])
            for i, pieces in enumerate(wanted)
            for piece in pieces
        )
    return out


def _remove_stale(folder):
    """Drop what a killed process left half written."""
    for path in folder.glob(".tmp-*"):
        with contextlib.suppress(FileNotFoundError):  # finished or dropped meanwhile
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def export_features(
    file, features: dict[str, np.ndarray], paths, labels=None, classes=(), split=None
) -> Path:
    """One plain HDF5 file: `features/<tap>` (n, d), `paths`, and `labels`, `classes`, `split` where known.

    Text is stored as UTF-8; three lines of h5py read it: `f = h5py.File(file)`, `X = f["features/TAP"][:]`,
    `y = f["labels"].asstr()[:]`.
    """
    text = h5py.string_dtype()
    with written_aside(Path(file)) as aside, h5py.File(aside, "w") as out:
        for name, values in features.items():
            out.create_dataset(f"features/{name}", data=values)
        for name, values in {
            "paths": paths,
            "labels": labels,
            "classes": classes,
            "split": split,
        }.items():
            if values is not None and len(values):
                out.create_dataset(name, data=[_printable(value) for value in values], dtype=text)
    return Path(file)


def _printable(value):
    return str(value).encode("utf-8", "surrogateescape")
