"""Folders of images: which files are images, which folders are classes, which are a split."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import TypeAlias

import numpy as np

from data.images import FilePath, file_problem
from data.names import shown
from data.samples import DataError, Samples

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".jp2", ".j2k", ".j2c", ".jpx", ".jpf"),
    *(".apng", ".mpo"),
)
# taken where the module that reads them is installed
NEWER_SUFFIXES = {
    ".heic": "pillow_heif",
    ".heif": "pillow_heif",
    ".hif": "pillow_heif",
    ".avif": "PIL._avif",
    ".jxl": "imagecodecs",
}
# images of kinds that are not read
UNREAD_SUFFIXES = (
    *(".svg", ".psd", ".dcm", ".exr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2"),
    *(".orf", ".mp4", ".mov"),
)
# how the parts of a split are called; in Samples val is one of the other two
SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "tst"),
}
_PART = re.compile(r"(.*?)[-_ .]?(?:set|data|images|imgs|split)?[-_ .]?(?:20[0-9][0-9])?")
# what programs leave beside images; hidden names are passed over besides
LEFT_BY_PROGRAMS = ("@eadir", "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "#recycle")
HIDDEN, BY_PROGRAMS, LOOSE = "hidden", "left by other programs", "image outside the class folders"
QUIET = (HIDDEN, BY_PROGRAMS)  # counted, and not worth a line on the screen
# a folder of numbered suffixes is counted in one number
MANY_SUFFIXES = 50


# names in a folder: (folders, images, others)
Listing: TypeAlias = tuple[list[str], list[str], list[str]]


@dataclass
class Found:
    """Images as they are met, column by column, with what was passed over and what was noted.

    A column holds None throughout where it is not known.
    """

    paths: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, paths: Sequence[str], label: str | None, split: str | None) -> None:
        """Images of one class and one part of the split."""
        self.paths += paths
        self.labels += [label] * len(paths)
        self.splits += [split] * len(paths)

    def samples(self, name: str) -> Samples:
        """The samples, with train, val and test turned into train and test."""
        labels = _column(self.labels)
        split = self._sides()
        if split is not None and labels is not None:
            _check_test_classes(name, labels, split)
        if labels is not None:
            self.notes += _alike(np.unique(labels).tolist())
        return Samples(
            paths=tuple(self.paths),
            labels=labels,
            groups=_column(self.groups),
            split=split,
            name=name,
            passed_over=dict(self.passed_over),
            problems=tuple(self.problems),
            notes=tuple(self.notes),
        )

    def _sides(self) -> np.ndarray | None:
        """ "train" or "test" for every row; None where all are of one part: that splits nothing."""
        present = set(self.splits)
        if len(present) < 2:
            return None
        test = "test" if "test" in present else "val"
        if present == set(SPLIT_NAMES):
            self.notes.append(
                "a split into train, val and test: val joins train, where folds are made anew; "
                "test is the test part"
            )
        return np.array(["test" if split == test else "train" for split in self.splits])

    def entries(self, folder: str) -> Listing:
        """What is in a folder, folders and images sorted; links are followed.

        What is hidden or left by other programs is counted alone.
        """
        kinds: Listing = ([], [], [])
        try:
            with os.scandir(folder) as scan:
                for entry in scan:
                    if not self._is_hidden(entry.name) and self._is_usual(entry):
                        kinds[_kind(entry)].append(entry.name)
        except OSError as error:
            self.problems.append((folder, f"can't be read ({error.strerror})"))
        return sorted(kinds[0]), sorted(kinds[1]), kinds[2]

    def _is_hidden(self, name: str) -> bool:
        reason = _hidden(name)
        if reason:
            self.passed_over[reason] += 1
        return reason is not None

    def _is_usual(self, entry: os.DirEntry) -> bool:
        """Whether what is named like an image may be one; a folder is told where it is met."""
        if _kind(entry) != 1:
            return True
        # the folder's listing knows regular files already: a stat for each is saved
        return entry.is_file(follow_symlinks=False) or self.is_file(entry.path)

    def images(self, folder: str) -> list[str]:
        """Sorted paths of all images below `folder`."""
        images: list[str] = []
        # each real folder is entered once, so that links in a circle end
        entered: set[str] = set()
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            real = os.path.realpath(here)
            if real in entered:
                self.passed_over["link to a folder already read"] += 1
                continue
            entered.add(real)
            folders, files, others = self.entries(here)
            self.pass_over_files(others)
            images += [os.path.join(here, name) for name in files]
            for name in folders:
                path = os.path.join(here, name)
                if has_image_suffix(name):
                    self.problems.append((path, "is a directory"))
                else:
                    waiting.append(path)
        return sorted(images)

    def is_file(self, path: str) -> bool:
        """Whether it is a regular file; why not is a problem."""
        reason = file_problem(path)
        if reason:
            self.problems.append((path, reason))
        return reason is None

    def pass_over_files(self, names: Iterable[str]) -> None:
        """Count files that are no images, by suffix."""
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if not suffix:
                suffix = "without a suffix"
            elif len(suffix) > 12 or (
                suffix not in self.passed_over and len(self.passed_over) > MANY_SUFFIXES
            ):
                suffix = "of other suffixes"
            self.passed_over[shown(suffix)] += 1

    def pass_over_loose(self, images: Sequence[str], others: Sequence[str]) -> None:
        """Count files outside the class folders."""
        if images:  # a Counter would keep the reason with its zero
            self.passed_over[LOOSE] += len(images)
        self.pass_over_files(others)


def read_image_folder(folder: FilePath, labelled: bool = True) -> Samples:
    """The images of a folder with one sub-folder per class, at any depth below it.

    Where the sub-folders are the parts of a split, such as train/ and test/, Training/ and
    Testing/, train/, valid/ and test/, these hold the class folders; with all three, the
    validation part joins train. A single folder that holds nothing but class folders or a split is
    entered. Images are known by suffix, see SUFFIXES; links are followed; no image is opened.

    Parameters
    ----------
    folder : path
        The folder that holds the class folders.
    labelled : bool, default=True
        False takes every image below `folder`, flat or nested, without labels.

    Returns
    -------
    Samples
        Paths sorted within each class; `passed_over` counts what was not taken, by suffix or
        reason, `problems` names what can't be an image though its name says so, `notes` says how
        the folder was read.

    Raises
    ------
    DataError
        For a folder that is missing, has no images, has no class folders, has a test class that
        is missing in train, or whose sub-folders could be classes or a split.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         pathlib.Path(folder, name).mkdir()
    ...         pathlib.Path(folder, name, "1.jpg").touch()
    ...     read_image_folder(folder).labels.tolist()
    ['cat', 'dog']
    """
    folder = os.fspath(folder)
    reason = None if os.path.isdir(folder) else file_problem(folder) or "is a file"
    if reason:
        raise DataError(f"{folder}: {reason}; give a folder of images")
    found = Found()
    if labelled:
        _read_classes(folder, found)
    else:
        found.add(found.images(folder), None, None)
    if not found.paths:
        raise DataError(
            f"{folder}: no images found ({_counts(found)}); "
            f"expected files like {' '.join(SUFFIXES)}"
        )
    return found.samples(os.path.basename(os.path.abspath(folder)))


def find_images(
    paths: FilePath | Iterable[FilePath],
) -> tuple[list[str], list[tuple[str, str]]]:
    """The images among files and folders given by hand.

    Parameters
    ----------
    paths : path or iterable of paths
        Folders are searched to any depth by suffix; a file that is named is taken whatever its
        suffix.

    Returns
    -------
    images : list of str
        Paths in the order of `paths`, sorted within each folder.
    problems : list of (path, reason)
        What can't be an image.

    Examples
    --------
    >>> find_images("nowhere.jpg")
    ([], [('nowhere.jpg', 'no such file')])
    """
    found = Found()
    images: list[str] = []
    for each in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = os.fspath(each)
        if os.path.isdir(path):
            images += found.images(path)
        elif found.is_file(path):
            images.append(path)
    return images, found.problems


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


def _read_classes(folder: str, found: Found) -> None:
    """Every image in a class folder, of each part of the split where the folders are these."""
    folder = _enter_single(folder, found)
    listing = found.entries(folder)
    parts = _parts(folder, listing[0])
    if parts is None:
        _read_part(folder, None, found, listing)
        return
    found.pass_over_loose(*listing[1:])
    for name, part in parts.items():
        if part is None:
            found.passed_over["folder without images beside the split"] += 1
        else:
            below = os.path.join(folder, name)
            _read_part(below, part, found, found.entries(below))


def _enter_single(folder: str, found: Found) -> str:
    """The folder that holds the classes: below folders that hold one folder and no images."""
    while True:
        inside = [name for name, _ in _listed(folder, folders=True) if _has_images(folder, name)]
        if len(inside) != 1 or next(_listed(folder, folders=False), None):
            return folder
        below = os.path.join(folder, inside[0])
        sub_folders = sum(_has_images(below, name) for name, _ in _listed(below, folders=True))
        if not sub_folders or next(_listed(below, folders=False), None):
            return folder
        if sub_folders == 1 and not _holds_folders(below):
            return folder
        found.notes.append(f"{folder} holds the one folder {inside[0]}: read from there")
        folder = below


def _holds_folders(folder: str) -> bool:
    """Whether a folder's own sub-folders hold folders."""
    return any(
        next(_listed(os.path.join(folder, name), folders=True), None)
        for name, _ in _listed(folder, folders=True)
    )


def _parts(folder: str, names: Sequence[str]) -> dict[str, str | None] | None:
    """By folder, the part of a split that it is; None where the folders are classes.

    Folders beside a split that hold no image are no part of it.
    """
    parts = {name: part_of_split(name) for name in names}
    given = Counter(part for part in parts.values() if part)
    others = (name for name, part in parts.items() if part is None and _has_images(folder, name))
    if "train" in given and len(given) > 1 and next(others, None) is None:
        if given.most_common(1)[0][1] > 1:
            part = given.most_common(1)[0][0]
            twice = [name for name in names if parts[name] == part]
            raise DataError(
                f"{folder}: {' and '.join(twice)} are both a {part} part by their names; "
                "join or rename them"
            )
        return parts
    _refuse_two_readings(folder, [name for name in names if _has_images(folder, name)])
    return None


def _refuse_two_readings(folder: str, names: Sequence[str]) -> None:
    """Refuse folders that hold the same sub-folders: the classes may be these or those."""
    if len(names) < 2:
        return
    below = [_sub_folders(os.path.join(folder, name)) for name in names[:20]]
    same = set.intersection(*below)
    is_part = any(part_of_split(name) for name in names)
    if len(same) < 2 or not (is_part or all(each == same for each in below)):
        return
    tops, subs = _few(names), _few(sorted(same))
    raise DataError(
        f"{folder}: its folders {tops} all hold the same folders {subs}, and two readings are "
        f"possible: if {subs} are the classes, name the others train and test or join them; "
        f"if {tops} are the classes, list the images in a manifest (path,label)"
    )


def _sub_folders(folder: str) -> set[str]:
    """Names of the folders in a folder; none where images lie beside them: it is a class then."""
    if next(_listed(folder, folders=False), None):
        return set()
    return {name for name, _ in _listed(folder, folders=True)}


def _listed(folder: str, folders: bool) -> Iterator[tuple[str, os.DirEntry]]:
    """(name, entry) of what shows in a folder: its folders, or its images."""
    wanted = 0 if folders else 1
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if _hidden(entry.name) is None and _kind(entry) == wanted:
                    yield entry.name, entry
    except OSError:  # told when it is read for its images
        return


def _has_images(folder: str, name: str) -> bool:
    """Whether any image lies below; the first that is met ends the search."""
    entered: set[str] = set()
    waiting = [os.path.join(folder, name)]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in entered:
            continue
        entered.add(real)
        if next(_listed(here, folders=False), None):
            return True
        waiting += [os.path.join(here, sub) for sub, _ in _listed(here, folders=True)]
    return False


def _read_part(folder: str, part: str | None, found: Found, listing: Listing) -> None:
    folders, loose, others = listing
    found.pass_over_loose(loose, others)
    if loose and not folders:
        expected = os.path.join(folder, "CLASS", "image.jpg")
        raise DataError(f"{folder}: {len(loose)} images but no class folders; expected {expected}")
    for name in folders:
        images = found.images(os.path.join(folder, name))
        if not images:
            found.passed_over["class folder without images"] += 1
        found.add(images, name, part)


def _hidden(name: str) -> str | None:
    """Why a name is not looked at, or None."""
    if name.startswith("."):
        return HIDDEN
    return BY_PROGRAMS if name.lower() in LEFT_BY_PROGRAMS else None


def _kind(entry: os.DirEntry) -> int:
    """0 for a folder, 1 for an image by its name, 2 for any other file."""
    # a link costs a stat, so only links pay for it
    if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path)):
        return 0
    return 1 if has_image_suffix(entry.name) else 2


def has_image_suffix(path: str) -> bool:
    """Whether a name ends as that of an image does that can be read here."""
    return os.path.splitext(path)[1].lower() in readable_suffixes()


@cache
def readable_suffixes() -> frozenset[str]:
    """SUFFIXES, and the newer ones for which a reader is installed."""
    newer = (suffix for suffix, module in NEWER_SUFFIXES.items() if find_spec(module))
    return frozenset({*SUFFIXES, *newer})


def _column(values: Sequence[str | None]) -> np.ndarray | None:
    """An array of str, or None where the rows have none: all have one, or none has."""
    return None if not values or values[0] is None else np.array(values, dtype=str)


def _check_test_classes(name: str, labels: np.ndarray, split: np.ndarray) -> None:
    unseen = np.setdiff1d(labels[split == "test"], labels[split == "train"])
    if len(unseen):
        raise DataError(
            f"{name}: class {str(unseen[0])!r} has test images but none in train; add or drop some"
        )


def _alike(classes: Sequence[str]) -> Iterator[str]:
    """A note for class names that differ in case or spaces alone."""
    first: dict[str, str] = {}
    for name in classes:
        key = " ".join(name.replace("_", " ").replace("-", " ").split()).casefold()
        other = first.setdefault(key, name)
        if other != name:
            yield f"classes {other!r} and {name!r} are almost one name: two classes, or one?"


def _few(names: Sequence[str]) -> str:
    """The first names of a list."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _counts(found: Found) -> str:
    counts = found.passed_over + Counter(problem=len(found.problems))
    listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    return f"passed over: {listed or 'nothing'}"
