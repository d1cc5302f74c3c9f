"""Every file below a cache and what it is there for; nothing is opened and no link followed."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from extract.errors import unreadable

RECIPE_FOLDER = re.compile(r"[0-9a-f]{32}")
ODD_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link that leads to no file",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Kind(StrEnum):
    """What a file of a cache is there for."""

    PART = "part"
    RECIPE = "recipe"
    INDEX = "index"  # of the ids of a recipe's parts
    IDS = "ids"
    CARD = "card"
    SCRIPT = "script"
    FOUND = "found"
    NETWORK = "tuned network"
    HISTORY = "history"  # of a tuned network's training
    MIRRORED = "mirrored"  # what a mirror has seen at its URL
    CHECKPOINT = "unfinished training"
    TEMPORARY = "temporary"
    SET_ASIDE = "set aside"
    STRANGER = "stranger"  # the store did not put it there


# what is remembered, and networks that were tuned: by folder, what its files are there for
FOLDERS = {
    "ids": {".json": Kind.IDS},
    "remote": {".json": Kind.MIRRORED},
    "backbones": {".json": Kind.CARD},
    "page": {".json": Kind.SCRIPT},
    "found": {".json": Kind.FOUND},
    "tuned": {
        ".safetensors": Kind.NETWORK,
        ".json": Kind.HISTORY,
        ".checkpoint": Kind.CHECKPOINT,
    },
}
FOLDERS_OF_RECIPE = {"parts": {".h5": Kind.PART}, "index": {".index": Kind.INDEX}}


@dataclass(frozen=True)
class CacheFile:
    """One name below a cache.

    recipe_id : of the recipe whose folder it is in, else empty.
    n_bytes : size of a file, else 0.
    changed : when it was last changed, in seconds since 1970.
    odd : what it is in place of a file, such as `a FIFO`; empty for a file.
    """

    path: Path
    kind: Kind
    recipe_id: str
    n_bytes: int
    changed: float
    odd: str


def cache_files(cache: Path) -> list[CacheFile]:
    """All names below a cache, in their order; ExtractError where a folder can't be read."""
    try:
        return list(_all_files(cache))
    except OSError as error:
        raise unreadable(cache, error) from error


def _all_files(cache: Path) -> Iterator[CacheFile]:
    for entry in _entries(cache):
        if _is_folder(entry) and RECIPE_FOLDER.fullmatch(entry.name):
            yield from _recipe_files(entry)
        elif _is_folder(entry) and entry.name in FOLDERS:
            for one in _entries(entry):
                yield from _as_file(one, _kind(one.name, FOLDERS[entry.name]))
        else:
            yield from _as_file(entry, _kind(entry.name, {}))


def _recipe_files(folder: os.DirEntry) -> Iterator[CacheFile]:
    for entry in _entries(folder):
        if entry.name in FOLDERS_OF_RECIPE and _is_folder(entry):
            for one in _entries(entry):
                kind = _kind(one.name, FOLDERS_OF_RECIPE[entry.name])
                yield from _as_file(one, kind, folder.name)
        else:
            kind = Kind.RECIPE if entry.name == "recipe.json" else _kind(entry.name, {})
            yield from _as_file(entry, kind, folder.name)


def _entries(folder: os.PathLike[str]) -> list[os.DirEntry]:
    """What is in a folder by name; nothing where it was removed meanwhile."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _is_folder(entry: os.DirEntry) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _kind(name: str, ours: Mapping[str, Kind]) -> Kind:
    """What a file is there for, in a folder where these suffixes are ours."""
    if name.startswith(".tmp-"):
        return Kind.TEMPORARY
    if name.endswith(".damaged"):
        return Kind.SET_ASIDE
    return ours.get(os.path.splitext(name)[1], Kind.STRANGER)


def _as_file(entry: os.DirEntry, kind: Kind, recipe_id: str = "") -> Iterator[CacheFile]:
    """The name as a CacheFile; none where it was removed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        own = entry.stat(follow_symlinks=False)
        yield CacheFile(
            path=Path(entry.path),
            kind=kind,
            recipe_id=recipe_id,
            n_bytes=own.st_size if stat.S_ISREG(own.st_mode) else 0,
            changed=own.st_mtime,
            odd=_oddness(entry, own.st_mode),
        )


def _oddness(entry: os.DirEntry, mode: int) -> str:
    """What stands in the place of a file; a link that leads to one is as good."""
    if stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and os.path.isfile(entry)):
        return ""
    return ODD_TYPES[stat.S_IFMT(mode)]
