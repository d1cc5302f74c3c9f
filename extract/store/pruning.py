"""A cache made smaller: what was not used for long is removed, the longest unused first."""

import contextlib
import errno
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.errors import unwritable
from extract.files import USED_SECONDS, is_abandoned
from extract.store.cache_files import FOLDERS_OF_RECIPE, CacheFile, Kind, cache_files
from extract.store.feature_store import RECIPE_FILE, FeatureStore

# a use is noted once an hour at most: what was used this short a time ago may be in use
GRACE_SECONDS = 2 * USED_SECONDS
USELESS = (Kind.SET_ASIDE, Kind.TEMPORARY)  # nobody reads these
# of another machine's process it can't be told whether it lives; where it does, it writes anew
STALE_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Removable:
    """One thing of a cache that can be removed and made again.

    path : the recipe's folder, or the file.
    files : what is unlinked, in this order.
    last_use : seconds since 1970.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...]
    n_bytes: int
    last_use: float


@dataclass(frozen=True)
class Pruned:
    """What became of a cache.

    Attributes
    ----------
    cache : Path
    removed : tuple of Removable
        In this order.
    n_in_use : int
        Recipes, memories and networks that would have been removed, but were used of late.
    bytes_left : int
    """

    cache: Path
    removed: tuple[Removable, ...]
    n_in_use: int
    bytes_left: int

    @property
    def n_bytes(self) -> int:
        """Of all that was removed."""
        return sum(one.n_bytes for one in self.removed)


def prune_cache(
    cache: str | os.PathLike | None = None,
    older_than: float | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove what was not used for long; without an age or a size, only what nobody reads.

    A recipe goes as a whole, and a tuned network with the history of its training. What was used in
    the last two hours stays, and a process that loses its features nevertheless computes them
    again. Files that were set aside, and those that killed processes left half written, are removed
    in any case.

    Parameters
    ----------
    cache : path or None
        Folder; None is the platform's user cache folder.
    older_than : float or None
        Seconds since the last use, above which it is removed.
    max_bytes : int or None
        What may be left; above it the longest unused is removed.
    dry_run : bool
        Say what would be removed and leave it.

    Returns
    -------
    Pruned

    Raises
    ------
    ExtractError
        Where the folder can't be read or changed.

    Examples
    --------
    >>> import tempfile
    >>> from extract import prune_cache
    >>> done = prune_cache(tempfile.mkdtemp(), older_than=30 * 24 * 3600, max_bytes=20 * 10**9)
    >>> done.n_bytes, done.removed
    (0, ())
    """
    folder = FeatureStore(cache).cache
    now = time.time()
    found = list(_removables(folder, now))
    found.sort(key=lambda one: (one.kind not in USELESS, one.last_use))
    left = sum(one.n_bytes for one in found)
    removed: list[Removable] = []
    in_use = 0
    for one in found:
        too_old = older_than is not None and now - one.last_use > older_than
        too_much = max_bytes is not None and left > max_bytes
        if not (one.kind in USELESS or too_old or too_much):
            continue
        if _is_in_use(one, now):
            in_use += 1
        elif dry_run or _remove(folder, one):
            removed.append(one)
            left -= one.n_bytes
    return Pruned(folder, tuple(removed), in_use, left)


def _removables(cache: Path, now: float) -> Iterator[Removable]:
    """What can be removed of a cache; what the store did not put there is none of it."""
    by_recipe: dict[str, list[CacheFile]] = defaultdict(list)
    tuned: dict[Path, list[CacheFile]] = defaultdict(list)
    for file in cache_files(cache):
        written = file.kind == Kind.TEMPORARY and not _is_stale(file, now)
        if file.kind in (Kind.PART, Kind.RECIPE, Kind.INDEX) or (written and file.recipe_id):
            by_recipe[file.recipe_id].append(file)
        elif file.kind in (Kind.HISTORY, Kind.NETWORK):
            tuned[file.path.with_suffix("")].append(file)
        elif file.kind != Kind.STRANGER and not written:
            yield Removable(file.kind, file.path, (file.path,), file.n_bytes, file.changed)
    for recipe_id, files in by_recipe.items():
        yield _whole_recipe(cache / recipe_id, files)
    for files in tuned.values():
        yield _whole_network(files)


def _is_stale(file: CacheFile, now: float) -> bool:
    """Whether nobody goes on writing a temporary file."""
    return is_abandoned(file.path.name) or now - file.changed > STALE_SECONDS


def _whole_recipe(folder: Path, files: Sequence[CacheFile]) -> Removable:
    """All of a recipe's files; the last use is that of a part being written, where there is one."""
    # what says where rows are goes before the rows
    parts = [file for kind in (Kind.INDEX, Kind.PART) for file in files if file.kind == kind]
    size = sum(file.n_bytes for file in files if file.kind != Kind.TEMPORARY)
    latest = max(file.changed for file in files)
    return Removable(Kind.RECIPE, folder, tuple(file.path for file in parts), size, latest)


def _whole_network(files: Sequence[CacheFile]) -> Removable:
    """A tuned network and its history, whose time says when the network was last used."""
    first, *rest = sorted(files, key=lambda file: file.kind != Kind.NETWORK)
    size, latest = sum(file.n_bytes for file in files), max(file.changed for file in files)
    paths = tuple(file.path for file in (first, *rest))
    return Removable(first.kind, first.path, paths, size, latest)


def _is_in_use(one: Removable, now: float) -> bool:
    """Whether it was used of late, looked at once more: a long prune takes its time."""
    if one.kind in USELESS:
        return False
    latest = one.last_use
    for path in (one.path / RECIPE_FILE if one.kind == Kind.RECIPE else one.path, *one.files[-1:]):
        with contextlib.suppress(OSError):
            latest = max(latest, path.lstat().st_mtime)
    return now - latest < GRACE_SECONDS


def _remove(cache: Path, one: Removable) -> bool:
    """Whether its files are gone; a folder in a file's place stays where something is in it.

    What another process writes meanwhile stays too, and with it the recipe's folder.
    """
    try:
        for path in one.files:
            _remove_file(path)
        if one.kind == Kind.RECIPE:
            folders = [one.path / name for name in FOLDERS_OF_RECIPE]
            for folder in folders:
                _remove_file(folder)
            if not any(folder.exists() for folder in folders):
                _remove_file(one.path / RECIPE_FILE)
                _remove_file(one.path)
    except OSError as error:
        raise unwritable(cache, error) from error
    return not any(os.path.lexists(path) for path in one.files)


def _remove_file(path: Path) -> None:
    """Remove a file or an empty folder; a full one stays, and nothing is no error."""
    try:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise
