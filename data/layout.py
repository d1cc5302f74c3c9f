"""How a folder's sub-folders are meant: as classes, as parts of a split, or above the classes."""

import os
import re
from collections import Counter
from collections.abc import Sequence

from data.listing import Kind, has_images, holds_image, listed
from data.names import listed_briefly
from data.samples import DataError
from data.urls import real_path

# how the parts of a split are called; in Samples val is one of the other two
SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "tst"),
}
_PART = re.compile(r"(.*?)[-_ .]?(?:set|data|images|imgs|split)?[-_ .]?(?:20[0-9][0-9])?")


def part_of_split(name: str) -> str | None:
    """The part of a split that a name says: "train", "val", "test", or None.

    Examples
    --------
    >>> [part_of_split(name) for name in ("Training", "test_set", "val2017", "cat")]
    ['train', 'test', 'val', None]
    """
    match = _PART.fullmatch(name.strip().lower())
    core = match[1] if match else ""
    return next((part for part, names in SPLIT_NAMES.items() if core in names), None)


def folder_of_classes(folder: str) -> tuple[str, list[str]]:
    """The folder that holds the classes, below those that hold one folder and no images, and notes.

    Only where all is below one folder.
    """
    notes: list[str] = []
    while True:
        inside = _filled(folder)
        if len(inside) != 1 or holds_image(folder):
            return folder, notes
        below = os.path.join(folder, inside[0])
        sub_folders = _filled(below)
        if not sub_folders or holds_image(below):
            return folder, notes
        if len(sub_folders) == 1 and not _holds_folders(below):
            return folder, notes
        notes.append(f"{folder} holds the one folder {inside[0]}: read from there")
        folder = below


def parts_of_split(folder: str, names: Sequence[str]) -> dict[str, str | None] | None:
    """By folder, the part of a split that it is; None where the folders are no split.

    Folders beside a split that hold no image are no part of it.
    """
    parts = {name: part_of_split(name) for name in names}
    given = Counter(part for part in parts.values() if part)
    others = (
        name
        for name, part in parts.items()
        if part is None and has_images(os.path.join(folder, name))
    )
    if "train" not in given or len(given) < 2 or next(others, None) is not None:
        return None
    if given.most_common(1)[0][1] > 1:
        part = given.most_common(1)[0][0]
        twice = [name for name in names if parts[name] == part]
        raise DataError(
            f"{folder}: {' and '.join(twice)} are both a {part} part by their names; "
            "join or rename them"
        )
    return parts


def refuse_unclear_level(folder: str) -> None:
    """Refuse nested folders whose names come again below others: which level is the class?

    `siteA/ants`, `siteB/ants` may be of two classes or of one, and more so the deeper they lie. A
    level of one name alone (`cat/images`, `dog/images`) can't be the classes, and what holds images
    itself beside folders is one.
    """
    levels: list[list[str]] = []  # the names of each
    above = [folder]
    entered: set[str] = set()  # so that links in a circle end
    while above:
        below = {path: _filled(path) for path in above}
        names = Counter(name for own in below.values() for name in own)
        levels.append(sorted(names))
        again = sorted(name for name, count in names.items() if count > 1)
        if again and len(names) > 1:
            raise DataError(_question(folder, levels, again))
        paths = [os.path.join(path, name) for path, own in below.items() for name in own]
        above = [path for path in paths if _first_time(path, entered)]
        bare = [path for path in above if not holds_image(path)]
        if not any(next(listed(path, Kind.FOLDER), None) for path in bare):
            return


def _question(folder: str, levels: Sequence[Sequence[str]], again: Sequence[str]) -> str:
    # a level of one name holds no classes
    possible = [(i, names) for i, names in enumerate(levels, 1) if len(names) > 1]
    number = {2: "two", 3: "three"}.get(len(possible), str(len(possible)))
    readings = ", ".join(
        f"class_level={i} if {listed_briefly(names)} are the classes"
        for i, names in reversed(possible)
    )
    return (
        f"{folder}: {listed_briefly(again)} come again below several of its folders, so that "
        f"{number} readings are possible; give {readings} (a split has folders train and test)"
    )


def _first_time(path: str, entered: set[str]) -> bool:
    real = real_path(path)
    first = real not in entered
    entered.add(real)
    return first


def _filled(folder: str) -> list[str]:
    """The folders in a folder that hold images, at any depth."""
    return [name for name in listed(folder, Kind.FOLDER) if has_images(os.path.join(folder, name))]


def _holds_folders(folder: str) -> bool:
    """Whether a folder's own sub-folders hold folders."""
    return any(
        next(listed(os.path.join(folder, name), Kind.FOLDER), None)
        for name in listed(folder, Kind.FOLDER)
    )
