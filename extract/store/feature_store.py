"""The FeatureStore: features by (recipe, tap, image id), kept on disk, read in any order."""

import contextlib
import errno
import itertools
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from data.urls import as_place, is_url
from extract.errors import unreadable, unwritable
from extract.files import (
    NoFile,
    again_where_gone,
    note_use,
    opened,
    refuse_writing,
    write_text,
)
from extract.pooling import Tap
from extract.recipe import Recipe
from extract.store.id_index import holdings, is_behind, list_index, update_index
from extract.store.part_writer import PartWriter
from extract.store.parts import (
    DamagedPart,
    Part,
    as_keys,
    finished_names,
    indexed_part,
    is_passed_over,
    pass_over,
    read_index,
    set_aside,
    stamp_of,
    wrong_bytes_set_aside,
)
from extract.store.remote_parts import ANEW_SECONDS, RECIPE_FILE, RemoteParts, mirror_of
from extract.store.row_index import row_index
from extract.store.rows_on_disk import Column, WrongBytes, gather
from extract.store.sorted_ids import Holding, SortedIds
from extract.store.upkeep import join_small_parts

# of a look at the parts while other processes join them: both, as on a machine with many at work
# one look may take as long as a join
LOOKS, LOOK_SECONDS = 5, 10.0
GONE = {errno.ENOENT, getattr(errno, "ESTALE", errno.ENOENT)}  # the latter from a file server
log = logging.getLogger(__name__)
# folders where this process could write no index of ids
_without_index: set[Path] = set()


def default_cache() -> Path:
    """The platform's folder for what can be made again."""
    import platformdirs

    return platformdirs.user_cache_path("permafrost")


@dataclass(frozen=True)
class Known:
    """What lies in a recipe's folder; as nothing there changes, a process shares it.

    parts : by name and stamp. files : of ids, by name.
    """

    parts: dict[tuple, Part] = field(default_factory=dict)
    files: dict[str, SortedIds] = field(default_factory=dict)


@lru_cache(maxsize=32)
def _known(folder: Path) -> Known:
    return Known()


class FeatureStore:
    """Features by (recipe, tap, image id), kept on disk and never changed once written.

    Many processes may write into one store at once.

    Parameters
    ----------
    cache : path, URL or None
        Folder; None is the platform's user cache folder. At a URL of a file system that fsspec
        knows, such as s3://bucket/cache, every part is in a folder of this machine as well, its
        mirror, from which rows are read: parts of others are brought there before rows are looked
        for, own ones are taken to the URL as they are finished.

    Attributes
    ----------
    cache : Path
        The folder, or the mirror.
    url : str or None

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from extract import FeatureStore, Recipe, Tap
    >>> store, tap = FeatureStore(tempfile.mkdtemp()), Tap("features.14", "avg")
    >>> recipe = Recipe("net", "digest", "preprocessing", "float32")
    >>> ids = np.arange(48, dtype=np.uint8).reshape(3, 16)
    >>> with store.writer(recipe) as writer:
    ...     writer.add(ids[:2], {tap: np.float32([[1, 2], [3, 4]])})
    >>> store.missing(recipe, [tap], ids).ravel()
    array([False, False,  True])
    >>> store.read(recipe, [tap], ids[[1, 0]])
    array([[3., 4.],
           [1., 2.]], dtype=float32)
    """

    def __init__(self, cache: str | os.PathLike | None = None) -> None:
        place = None if cache is None else as_place(cache)
        self.url = place if place is not None and is_url(place) else None
        if self.url is not None:
            self.cache = mirror_of(self.url, default_cache() / "mirrors")
        else:
            self.cache = default_cache() if place is None else Path(place)
        self._remote = RemoteParts(self.url, self.cache) if self.url is not None else None

    def missing(self, recipe: Recipe, taps: Sequence[Tap], ids: np.ndarray) -> np.ndarray:
        """Which rows aren't kept.

        Parameters
        ----------
        recipe : Recipe
        taps : sequence of Tap
        ids : (n, 16) uint8

        Returns
        -------
        (n, taps) bool
        """
        keys, names = as_keys(ids), [str(tap) for tap in taps]
        if self._remote is not None:
            self._remote.bring(recipe.id, after=ANEW_SECONDS)
        for _ in _looks():
            with self._joined_meanwhile():
                return _missing(self._list(recipe), names, keys)
        return np.ones((len(ids), len(taps)), bool)

    def read(self, recipe: Recipe, taps: Sequence[Tap], ids: np.ndarray) -> np.ndarray:
        """Rows in the order of `ids`, the taps' columns side by side.

        A chunk's checksum is looked at when the chunk is first read in this process.

        Parameters
        ----------
        recipe : Recipe
        taps : sequence of Tap
        ids : (n, 16) uint8

        Returns
        -------
        (n, d) float32

        Raises
        ------
        DamagedPart
            Where a row isn't kept, or its bytes aren't those that were written.
        ExtractError
            Where the disk can't be read.
        """
        keys = as_keys(ids)
        names = [str(tap) for tap in taps]
        for _ in _looks():
            with self._joined_meanwhile():
                return _read(self._list(recipe), names, keys)
        raise DamagedPart(f"the parts that hold {', '.join(names)} are gone")

    def prepare(self, recipe: Recipe) -> None:
        """Make the recipe's folder; ExtractError where the cache can't be written."""
        try:
            again_where_gone(partial(self._make_folder, recipe))
        except OSError as error:
            raise unwritable(self.cache, error) from error
        note_use(self._folder(recipe) / RECIPE_FILE)  # else what is kept may be pruned meanwhile

    def writer(
        self,
        recipe: Recipe,
        stored: type = np.float32,
        provenance: Mapping[str, Any] | None = None,
    ) -> PartWriter:
        """A context whose `add(ids, {tap: rows})` keeps rows; a part is finished every 10 s.

        Parameters
        ----------
        recipe : Recipe
        stored : numpy type
            Rows that overflow float16 are kept as float32.
        provenance : mapping, optional
            Becomes attributes of the parts.
        """
        self.prepare(recipe)
        folder = self._folder(recipe) / "parts"
        keep = None if self._remote is None else self._remote.take
        return PartWriter(
            folder, partial(self._make_folder, recipe), stored, provenance or {}, keep
        )

    def compact(self, recipe: Recipe) -> int:
        """Join small parts, the new one first, then unlink the old -> how many were joined.

        The ids of many rows are then written into an index, which later processes open.
        """
        folder = self._folder(recipe) / "parts"
        joined = join_small_parts(folder, lambda: self._list(recipe))
        if self._remote is not None:
            self._remote.replace(recipe.id, joined)
        return len(joined)

    def _make_folder(self, recipe: Recipe) -> None:
        (self._folder(recipe) / "parts").mkdir(parents=True, exist_ok=True)
        self._describe(recipe)

    def _describe(self, recipe: Recipe) -> None:
        """The recipe beside its parts; the folder's name is the checksum of what it should say."""
        file, text = self._folder(recipe) / RECIPE_FILE, recipe.to_json()
        try:
            with opened(file) as found:
                right = found.read(2 * len(text)) == text.encode()
        except (NoFile, FileNotFoundError):
            right = False
        except OSError:  # another user's: rows are read and kept without it
            right = True
        if not right:
            write_text(file, text)

    def _folder(self, recipe: Recipe) -> Path:
        return self.cache / recipe.id

    def _list(self, recipe: Recipe) -> list[Part]:
        """The recipe's parts, oldest first; where the index is far behind them it is made anew."""
        folder = self._folder(recipe).absolute()
        note_use(folder / RECIPE_FILE)
        if self._remote is not None:
            self._remote.bring(recipe.id)
        parts: list[Part] = []
        for _ in _looks():
            with self._joined_meanwhile():
                parts = list_parts(folder / "parts")
                if not keep_index(folder, parts):
                    return parts
        return parts

    @contextlib.contextmanager
    def _joined_meanwhile(self) -> Iterator[None]:
        """Passes over what was listed and is gone, or was set aside: a further look finds it."""
        try:
            yield
        except WrongBytes as error:
            set_aside(error.path, error)
        except OSError as error:
            if error.errno not in GONE:
                raise unreadable(self.cache, error) from error


def _looks() -> Iterator[None]:
    """Once, and again for as long as it may be that what was listed has been joined meanwhile."""
    end = time.monotonic() + LOOK_SECONDS
    for done in itertools.count():
        if done >= LOOKS and time.monotonic() > end:
            return
        yield


def list_parts(folder: Path) -> list[Part]:
    """The parts of a folder, oldest first; what is none, or damaged, is set aside."""
    known = _known(folder)
    # without a folder too, what is known of it is forgotten: it may have been removed
    names = finished_names(folder, ".h5") if folder.exists() else []
    files = list_index(folder.parent, known.files)
    held = holdings(files, set(names))
    here: dict[tuple, Part] = {}
    for name in sorted(names):
        path = folder / name
        if is_passed_over(path):
            continue
        try:
            key = _key(path, held.get(name))
            here[key] = known.parts[key] = known.parts.get(key) or _find_part(path, held.get(name))
        except WrongBytes as error:  # its rows count as missing
            set_aside(path, error)
        except PermissionError as error:
            pass_over(path, error)
    for key in set(known.parts).difference(here):
        known.parts.pop(key, None)
    return list(here.values())


def keep_index(folder: Path, parts: Sequence[Part]) -> bool:
    """Write the ids of many rows into the index of a recipe's folder -> whether it has changed.

    Where that can't be done the ids are in memory, as of few rows.
    """
    files = [file for _, file in sorted(_known(folder / "parts").files.items())]  # just listed
    if folder in _without_index or not is_behind(files, parts):
        return False
    try:
        refuse_writing()
    except OSError:  # in this thread, and now
        return False
    try:
        update_index(folder, files, parts)
    except (OSError, MemoryError) as error:
        if getattr(error, "errno", None) in GONE:
            raise
        _without_index.add(folder)
        log.debug("no index of the ids in %s: %s", folder, error)
        return False
    return True


def _key(path: Path, holding: Holding | None) -> tuple:
    """What a part is known by; of one that an index holds its file is not looked at."""
    return stamp_of(path) if holding is None else (path.name, holding.file.path.name)


def _find_part(path: Path, holding: Holding | None) -> Part:
    if holding is not None:
        return indexed_part(path, holding)
    part = read_index(path)
    if part.recipe != path.parent.parent.name:
        raise WrongBytes(path, f"its rows are of another recipe, {part.recipe}")
    return part


def _holding(parts: Sequence[Part], name: str) -> tuple[Part, ...]:
    """Those of the parts that hold a tap."""
    return tuple(part for part in parts if name in part.taps)


def _missing(parts: Sequence[Part], names: Sequence[str], keys: np.ndarray) -> np.ndarray:
    """(n,) S16 ids -> (n, names) bool."""
    gone = np.ones((len(keys), len(names)), bool)
    found: dict[tuple[Part, ...], np.ndarray] = {}
    for i, name in enumerate(names):
        holding = _holding(parts, name)
        if not holding:
            continue
        if holding not in found:
            found[holding] = row_index(holding).find(keys) >= 0
        gone[found[holding], i] = False
    return gone


def _read(parts: Sequence[Part], names: Sequence[str], keys: np.ndarray) -> np.ndarray:
    """(n,) S16 ids -> (n, d) float32, the columns of each name side by side."""
    places: dict[tuple[Part, ...], np.ndarray] = {}
    wanted: list[list[tuple[Column, np.ndarray, np.ndarray]]] = []
    widths = []
    for name in names:
        holding = _holding(parts, name)
        if holding and holding not in places:
            places[holding] = row_index(holding).find(keys)
        lacking = int((places[holding] < 0).sum()) if holding else len(keys)
        if lacking or not holding:
            raise DamagedPart(f"{lacking} of {len(keys)} rows of {name} are not kept")
        split = row_index(holding).split(places[holding])
        pieces = [(part.column(name), rows, where) for part, rows, where in split]
        first = pieces[0][0] if pieces else holding[0].column(name)
        widths.append(first.shape[1])
        wanted.append(pieces)
    out = np.empty((len(keys), sum(widths)), np.float32)
    at = np.cumsum([0, *widths])
    with wrong_bytes_set_aside():
        gather(
            (*piece, out[:, at[i] : at[i + 1]])
            for i, pieces in enumerate(wanted)
            for piece in pieces
        )
    return out
