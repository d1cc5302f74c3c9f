"""Every byte of a cache read and compared with its checksums; what is damaged put out of use."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.backbones.tuned import describe_tuned
from extract.errors import ExtractError
from extract.files import is_sealed, read_remembered
from extract.recipe import SCHEMA
from extract.store.cache_files import CacheFile, Kind, cache_files
from extract.store.feature_store import FeatureStore
from extract.store.inspection import recipe_values
from extract.store.parts import put_aside, read_index
from extract.store.rows_on_disk import WrongBytes
from extract.store.sorted_ids import read_sorted_ids
from extract.weights import digest_of, file_sha256, read_state_dict


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written.

    reason : what is wrong with it.
    repaired : what was done about it, empty where nothing was.
    """

    path: Path
    reason: str
    repaired: str = ""


@dataclass(frozen=True)
class Verified:
    """What a look at every byte of a cache found.

    Attributes
    ----------
    cache : Path
    n_files, n_bytes : int
        That were read.
    damaged : tuple of Damage
    unread : tuple of Path
        Folders of recipes of another schema, which this version does not read.
    strangers : tuple of Path
        What the store did not put there; left as it is.
    """

    cache: Path
    n_files: int
    n_bytes: int
    damaged: tuple[Damage, ...]
    unread: tuple[Path, ...]
    strangers: tuple[Path, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged, or not any more."""
        return all(one.repaired for one in self.damaged)


def verify_cache(
    cache: str | os.PathLike | None = None,
    repair: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Read every byte that a cache holds and compare it with its checksums.

    Parameters
    ----------
    cache : path or None
        Folder; None is the platform's user cache folder.
    repair : bool
        Set damaged parts and tuned networks aside and forget damaged memories and unfinished
        trainings; what they held is computed again by the next run that asks for it.
    on_progress : callable or None
        Called with the bytes looked at so far and those in all.

    Returns
    -------
    Verified

    Raises
    ------
    ExtractError
        Where the folder can't be read.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from extract import FeatureStore, Recipe, Tap, verify_cache
    >>> store = FeatureStore(tempfile.mkdtemp())
    >>> with store.writer(Recipe("net", "digest", "preprocessing", "float32")) as writer:
    ...     writer.add(np.zeros((1, 16), np.uint8), {Tap("last", "avg"): np.float32([[1, 2]])})
    >>> found = verify_cache(store.cache)
    >>> found.n_files, found.whole
    (2, True)
    """
    folder = FeatureStore(cache).cache
    files = cache_files(folder)
    others = _of_another_schema(files)
    ours = [file for file in files if file.kind in CHECKS and file.recipe_id not in others]
    total = sum(file.n_bytes for file in ours)
    damaged: list[Damage] = []
    done = 0
    for file in ours:
        reason = _what_is_wrong(file)
        if reason:
            done_about_it = _repair(file) if repair else ""
            damaged.append(Damage(file.path, reason, done_about_it))
        done += file.n_bytes
        if on_progress is not None:
            on_progress(done, total)
    strangers = tuple(file.path for file in files if file.kind == Kind.STRANGER)
    unread = tuple(folder / recipe_id for recipe_id in sorted(others))
    return Verified(folder, len(ours), done, tuple(damaged), unread, strangers)


def _of_another_schema(files: Sequence[CacheFile]) -> set[str]:
    """Ids of the recipes whose parts this version does not read."""
    recipes = {file.recipe_id: recipe_values(file) for file in files if file.kind == Kind.RECIPE}
    return {name for name, values in recipes.items() if values and values["schema"] != SCHEMA}


def _what_is_wrong(file: CacheFile) -> str:
    """Empty where nothing is, or where the file was removed meanwhile."""
    if file.odd:
        return f"{file.odd} in the place of a file"
    try:
        return CHECKS[file.kind](file)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"it can't be read: {error.strerror or error}"


def _check_part(file: CacheFile) -> str:
    try:
        part = read_index(file.path)
        if part.recipe != file.recipe_id:
            return f"its rows are of another recipe, {part.recipe}"
        part.check()
    except WrongBytes as error:
        return str(error)
    return ""


def _check_index(file: CacheFile) -> str:
    try:
        found = read_sorted_ids(file.path)
        if found.held.recipe != file.recipe_id:
            return f"its ids are of another recipe, {found.held.recipe}"
        found.check()
    except WrongBytes as error:
        return str(error)
    return ""


def _check_recipe(file: CacheFile) -> str:
    if recipe_values(file) is None and file.path.exists():
        return "it is not what its folder's name stands for"
    return ""


def _check_memory(file: CacheFile) -> str:
    if read_remembered(file.path) is None and file.path.exists():
        return "it is not as it was written, or was written by an earlier version"
    return ""


def _check_network(file: CacheFile) -> str:
    """Its tensors by the file's own digest, and all of it by what its training left beside it."""
    history = read_remembered(file.path.with_suffix(".json"))
    if history is not None and file_sha256(file.path) != history["sha256"]:
        return "it is not the network that its training wrote"
    try:
        if digest_of(read_state_dict(file.path)) != describe_tuned(file.path)["digest"]:
            return "it holds other tensors than were written into it"
    except ExtractError as error:
        return str(error) if file.path.exists() else ""
    return ""


def _check_checkpoint(file: CacheFile) -> str:
    return "" if is_sealed(file.path) else "it is not as it was written"


CHECKS: dict[Kind, Callable[[CacheFile], str]] = {
    Kind.PART: _check_part,
    Kind.RECIPE: _check_recipe,
    Kind.INDEX: _check_index,
    Kind.IDS: _check_memory,
    Kind.MIRRORED: _check_memory,
    Kind.CARD: _check_memory,
    Kind.SCRIPT: _check_memory,
    Kind.FOUND: _check_memory,
    Kind.NETWORK: _check_network,
    Kind.HISTORY: _check_memory,
    Kind.CHECKPOINT: _check_checkpoint,
}


def _repair(file: CacheFile) -> str:
    """Put a damaged file out of use -> what was done, empty where nothing could be."""
    if file.kind == Kind.RECIPE:
        _pass_on_use(file)
    if file.kind in (Kind.PART, Kind.NETWORK) or file.odd:
        return "set aside" if put_aside(file.path) else ""
    with contextlib.suppress(OSError):
        file.path.unlink(missing_ok=True)
        return "removed"
    return ""


def _pass_on_use(recipe: CacheFile) -> None:
    """Note a recipe's last use, which goes with its recipe.json, at the last of its parts."""
    parts = sorted(recipe.path.parent.glob("parts/[!.]*.h5"))
    with contextlib.suppress(OSError):  # else it is as long unused as its parts say
        if parts and parts[-1].lstat().st_mtime < recipe.changed:
            os.utime(parts[-1], (recipe.changed, recipe.changed))
