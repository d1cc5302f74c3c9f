"""The kept features: immutable HDF5 parts below one folder per recipe, read back by image id."""

import contextlib
import logging
import os
import time
import uuid
import zlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from extract.errors import ExtractError, unreadable, unwritable
from extract.files import sync_folder, write_text, written_aside
from extract.pooling import Tap
from extract.recipe import Recipe

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 19
PART_SECONDS = 10.0
PART_BYTES = 256 << 20
SMALL_PARTS = 8
STALE_SECONDS = 24 * 3600.0
LOOKS = 5


def default_cache() -> Path:
    """The platform's folder for what can be made again."""
    import platformdirs

    return platformdirs.user_cache_path("permafrost")


class DamagedPart(KeyError):
    """Rows that aren't kept, or not any more: a part whose bytes are not those that were written is set aside."""


@dataclass
class _Part:
    """What is known of one part without reading its rows; ids are sorted, `rows` says where each lies."""

    path: Path
    ids: np.ndarray
    rows: np.ndarray
    taps: frozenset[str]
    size: int
    checked: set = field(default_factory=set)

    def locate(self, ids):
        """(n,) S16 ids -> (n,) row in the part, -1 where it isn't there."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[place] == ids, self.rows[place], -1)


class FeatureStore:
    """Features by (recipe, tap, image id), kept on disk and never changed once written.

    cache : folder; None is the platform's user cache folder. Many processes may write into one store at once.
    """

    def __init__(self, cache=None):
        self.cache = Path(cache) if cache is not None else default_cache()
        self._parts: dict[Path, _Part] = {}

    def missing(self, recipe: Recipe, taps: list[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, 16) uint8 ids -> (n, taps) bool, True where a row isn't kept."""
        keys, gone = _keys(ids), np.ones((len(ids), len(taps)), bool)
        for part in self._list(recipe):
            here = [i for i, tap in enumerate(taps) if str(tap) in part.taps]
            if here and len(keys):
                gone[np.ix_(part.locate(keys) >= 0, here)] = False
        return gone

    def read(self, recipe: Recipe, taps: list[Tap], ids: np.ndarray) -> np.ndarray:
        """(n, d) float32 rows in the order of `ids`, the taps' columns side by side; DamagedPart if one is missing."""
        return np.concatenate([self._read_tap(recipe, tap, ids) for tap in taps], axis=1)

    def prepare(self, recipe: Recipe) -> None:
        """Make the recipe's folder; ExtractError where the cache can't be written."""
        folder = self._folder(recipe)
        try:
            (folder / "parts").mkdir(parents=True, exist_ok=True)
            if not (folder / "recipe.json").exists():
                write_text(folder / "recipe.json", recipe.to_json())
        except OSError as error:
            raise unwritable(self.cache, error) from error

    def writer(self, recipe: Recipe, stored=np.float32, provenance: dict | None = None) -> "PartWriter":
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
        keys = np.unique(np.concatenate([part.ids for part in parts]))
        ids = np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, keys.itemsize)
        columns = {}
        with _opened(parts[0].path) as file:
            provenance = dict(file.attrs)
        for name in sorted(parts[0].taps):
            columns[name] = _gather(parts, name, keys, stored=True)
        write_part(parts[0].path.parent, ids, columns, provenance)
        for part in parts:
            self._parts.pop(part.path, None)
            part.path.unlink(missing_ok=True)
        sync_folder(parts[0].path.parent)

    def _read_tap(self, recipe, tap, ids):
        keys = _keys(ids)
        for _ in range(LOOKS):
            parts = [part for part in self._list(recipe) if str(tap) in part.taps]
            try:
                return _gather(parts, str(tap), keys)
            except FileNotFoundError:  # joined into another part since it was listed
                continue
            except OSError as error:
                raise unreadable(self.cache, error) from error
        raise DamagedPart(f"the parts that hold {tap} are gone")

    def _folder(self, recipe):
        return self.cache / recipe.id

    def _list(self, recipe):
        folder = self._folder(recipe) / "parts"
        try:
            for _ in range(LOOKS):
                with contextlib.suppress(FileNotFoundError):  # joined into another part since it was listed
                    return self._look(folder)
            return [part for part in self._parts.values() if part.path.parent == folder]
        except OSError as error:
            raise unreadable(self.cache, error) from error

    def _look(self, folder):
        if not folder.exists():
            return []
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".h5"))
        paths = [folder / name for name in names if not name.startswith(".")]
        for path in {known for known in self._parts if known.parent == folder}.difference(paths):
            del self._parts[path]
        for path in paths:
            if path not in self._parts:
                with contextlib.suppress(DamagedPart):  # its rows count as missing
                    self._parts[path] = _read_index(path)
        return [self._parts[path] for path in paths if path in self._parts]


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
        if getattr(error, "errno", None):  # the system's word, not the file's: gone, too many open files
            raise
        set_aside(path)
        raise DamagedPart(f"{path}: {error}") from error


def set_aside(path: Path) -> None:
    """Rename a damaged part so that its rows count as missing."""
    log.warning("the kept part %s is damaged: it is set aside and its rows are computed again", path)
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
        self._ids, self._rows, self._bytes, self._since = [], {}, 0, time.monotonic()
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
        self._ids.append(ids)
        for tap, values in rows.items():
            self._rows.setdefault(str(tap), []).append(as_stored(values, self._stored))
            self._bytes += values.nbytes
        if self._bytes >= PART_BYTES or time.monotonic() - self._since >= PART_SECONDS / 2:
            self.flush()

    def flush(self) -> None:
        """Start writing what was added; waits only for the part before."""
        if self._ids:
            self._writing.result()
            ids = np.concatenate(self._ids)
            columns = {name: _concatenate(blocks) for name, blocks in self._rows.items()}
            self._writing = self._thread.submit(self._write, ids, columns)
        self._ids, self._rows, self._bytes, self._since = [], {}, 0, time.monotonic()

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


def _concatenate(blocks):
    wide = any(block.dtype == np.float32 for block in blocks)
    return np.concatenate([block.astype(np.float32) if wide else block for block in blocks])


def write_part(folder: Path, ids: np.ndarray, columns: dict[str, np.ndarray], provenance: dict) -> Path:
    """One finished part: (n, 16) uint8 ids and (n, d) columns by tap, written aside, synced and renamed."""
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
    rows = max(1, min(len(values), CHUNK_BYTES // max(1, values.itemsize * values.shape[1])))
    dataset = group.create_dataset(name, data=values, chunks=(rows, values.shape[1]))
    dataset.attrs["crc32"] = np.array(
        [zlib.crc32(np.ascontiguousarray(values[at : at + rows])) for at in range(0, len(values), rows)],
        np.uint32,
    )


def _read_index(path):
    with _opened(path) as file:
        dataset = file["ids"]
        ids, step = dataset[:], dataset.chunks[0]
        for chunk, at in enumerate(range(0, len(ids), step)):
            _check(dataset, chunk, ids[at : at + step])
        taps = frozenset(file["taps"])
    keys = _keys(ids)
    order = np.argsort(keys, kind="stable")
    return _Part(path, keys[order], order, taps, path.stat().st_size)


def _check(dataset, chunk, block):
    if zlib.crc32(block) != dataset.attrs["crc32"][chunk]:
        raise ValueError(f"wrong checksum of {dataset.name}")


def _keys(ids):
    return np.ascontiguousarray(ids).view("S16").reshape(-1)


def _gather(parts: Iterable[_Part], name: str, keys: np.ndarray, stored: bool = False) -> np.ndarray:
    out, open_rows = None, np.arange(len(keys))
    for part in parts:
        rows = part.locate(keys[open_rows])
        here = rows >= 0
        if not here.any():
            continue
        with _opened(part.path) as file:
            dataset = file["taps"][name]
            if out is None:
                out = np.empty((len(keys), dataset.shape[1]), dataset.dtype if stored else np.float32)
            if stored and dataset.dtype.itemsize > out.itemsize:
                out = out.astype(dataset.dtype)
            _read_rows(part, dataset, rows[here], out, open_rows[here])
        open_rows = open_rows[~here]
        if not len(open_rows):
            break
    if out is None or len(open_rows):
        raise DamagedPart(f"{len(open_rows)} of {len(keys)} rows of {name} are not kept")
    return out


def _read_rows(part, dataset, rows, out, where):
    """Copy `rows` of a part into `out[where]`, chunk by chunk; a chunk's checksum is looked at once a process."""
    order = np.argsort(rows)
    rows, where = rows[order], where[order]
    step = dataset.chunks[0]
    chunks, starts = np.unique(rows // step, return_index=True)
    for chunk, first, last in zip(chunks, starts, [*starts[1:], len(rows)], strict=True):
        block = dataset[chunk * step : (chunk + 1) * step]
        if (dataset.name, chunk) not in part.checked:
            _check(dataset, chunk, block)
            part.checked.add((dataset.name, chunk))
        out[where[first:last]] = block[rows[first:last] - chunk * step]


def _remove_stale(folder):
    """Drop what a killed process left half written."""
    for path in folder.glob(".tmp-*"):
        with contextlib.suppress(FileNotFoundError):  # finished or dropped meanwhile
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def export_features(file, features: dict[str, np.ndarray], paths, labels=None, classes=(), split=None) -> Path:
    """One plain HDF5 file: `features/<tap>` (n, d), `paths`, and `labels`, `classes`, `split` where known.

    Text is stored as UTF-8; three lines of h5py read it: `f = h5py.File(file)`, `X = f["features/TAP"][:]`,
    `y = f["labels"].asstr()[:]`.
    """
    text = h5py.string_dtype()
    with written_aside(Path(file)) as aside, h5py.File(aside, "w") as out:
        for name, values in features.items():
            out.create_dataset(f"features/{name}", data=values)
        for name, values in {"paths": paths, "labels": labels, "classes": classes, "split": split}.items():
            if values is not None and len(values):
                out.create_dataset(name, data=[_printable(value) for value in values], dtype=text)
    return Path(file)


def _printable(value):
    return str(value).encode("utf-8", "surrogateescape")
