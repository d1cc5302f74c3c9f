"""Folders of images: which files are images, which folders are classes, which are a split."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from data.images import FilePath, file_problem
from data.layout import SPLIT_NAMES, folder_of_classes, parts_of_split, refuse_unclear_level
from data.listing import (
    SUFFIXES,
    Entry,
    Kind,
    has_image_suffix,
    is_folder,
    kind_of,
    scan,
    why_hidden,
)
from data.names import counted, listed_briefly, shown
from data.samples import NOT_USED, DataError, Samples
from data.urls import as_place, real_path

LOOSE = "image outside the class folders"
EMPTY_CLASS = "class folder without images"
BESIDE_SPLIT = "folder without images beside the split"
READ_ALREADY, ABOVE = "link to a folder already read", "link to a folder above it"
# reasons that name what they count, and how they name several
SEVERAL = {
    LOOSE: "images outside the class folders",
    EMPTY_CLASS: "class folders without images",
    BESIDE_SPLIT: "folders without images beside the split",
    READ_ALREADY: "links to folders already read",
    ABOVE: "links to folders above them",
}
# a folder of numbered suffixes is counted in one number
MANY_SUFFIXES = 50


# names in a folder: (folders, images, others)
Listing: TypeAlias = tuple[list[str], list[str], list[str]]


@dataclass
class Found:
    """Images as they are met, column by column, with what was passed over and what was noted.

    A column holds None throughout where it is not known. `strict`: a folder that can't be read is
    an error, where it would take a class's images away in silence; else it is a problem.
    """

    strict: bool = False
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
        kinds: dict[Kind, list[str]] = {kind: [] for kind in Kind}
        try:
            with scan(folder) as entries:
                for entry in entries:
                    if not self._is_hidden(entry.name):
                        kind = kind_of(entry)
                        if kind is not Kind.IMAGE or self._is_usual(entry):
                            kinds[kind].append(entry.name)
        except OSError as error:
            if self.strict:
                raise DataError(
                    f"{folder}: can't be read ({error.strerror}), and images of its class may be "
                    "there; make it readable, or move it away"
                ) from error
            self.problems.append((folder, f"can't be read ({error.strerror})"))
        if kinds[Kind.LINK_ABOVE]:
            self.passed_over[ABOVE] += len(kinds[Kind.LINK_ABOVE])
        return sorted(kinds[Kind.FOLDER]), sorted(kinds[Kind.IMAGE]), kinds[Kind.OTHER]

    def _is_hidden(self, name: str) -> bool:
        reason = why_hidden(name)
        if reason:
            self.passed_over[reason] += 1
        return reason is not None

    def _is_usual(self, entry: Entry) -> bool:
        """Whether what is named like an image may be one."""
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
            real = real_path(here)
            if real in entered:
                self.passed_over[READ_ALREADY] += 1
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


def read_image_folder(
    folder: FilePath, labelled: bool = True, class_level: int | None = None
) -> Samples:
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
    class_level : int, optional
        How deep below `folder`, or below each part of its split, the class folders lie: 2 where
        `siteA/ants` and `siteB/ants` are one class. By default 1, and nested folders whose names
        come again are refused.

    Returns
    -------
    Samples
        Paths sorted within each class; `passed_over` counts what was not taken, by suffix or
        reason, `problems` names what can't be an image though its name says so, `notes` says how
        the folder was read.

    Raises
    ------
    DataError
        For a folder that is missing or can't be read, has no images, has no class folders, has a
        test class that is missing in train, or whose class folders could be of several levels.

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
    folder = as_place(folder)
    reason = _no_folder(folder)
    if reason:
        raise DataError(f"{folder}: {reason}; give a folder of images")
    if class_level is not None and class_level < 1:
        raise DataError(f"class_level={class_level}: expected 1 or more, 1 for {folder}/CLASS")
    found = Found(strict=labelled)
    if labelled:
        _read_classes(folder, found, class_level)
    else:
        found.add(found.images(folder), None, None)
    if not found.paths:
        raise DataError(
            f"{folder}: no images found ({_met(found)}); expected files like {' '.join(SUFFIXES)}"
        )
    return found.samples(os.path.basename(os.path.abspath(folder)))


def _no_folder(folder: str) -> str | None:
    """Why something is no folder of images, or None."""
    try:
        return None if is_folder(folder) else file_problem(folder) or "is a file"
    except OSError as error:  # of a URL
        return f"can't be read ({error.strerror})"


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
    found = images_among(paths)
    return found.paths, found.problems


def images_among(paths: FilePath | Iterable[FilePath]) -> Found:
    """What `find_images` finds, with what was passed over."""
    found = Found()
    for each in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = as_place(each)
        if _no_folder(path) is None:
            found.add(found.images(path), None, None)
        elif found.is_file(path):
            found.add([path], None, None)
    return found


def counted_reasons(passed_over: Mapping[str, int]) -> list[str]:
    """`3 .txt`, `1 image outside the class folders`, …, the most frequent first."""
    order = sorted(passed_over, key=lambda reason: (-passed_over[reason], reason))
    return [counted(passed_over[reason], reason, SEVERAL.get(reason, reason)) for reason in order]


def _read_classes(folder: str, found: Found, level: int | None) -> None:
    """Every image in a class folder, of each part of the split where the folders are these."""
    if level is None:
        folder, notes = folder_of_classes(folder)
        found.notes += notes
    listing = found.entries(folder)
    parts = parts_of_split(folder, listing[0])
    if parts is None:
        _read_part(folder, None, found, listing, level)
        return
    found.pass_over_loose(*listing[1:])
    for name, part in parts.items():
        if part is None:
            found.passed_over[BESIDE_SPLIT] += 1
        else:
            below = os.path.join(folder, name)
            _read_part(below, part, found, found.entries(below), level)


def _read_part(
    folder: str, part: str | None, found: Found, listing: Listing, level: int | None
) -> None:
    if listing[1] and not listing[0]:
        expected = os.path.join(folder, "CLASS", "image.jpg")
        loose = counted(len(listing[1]), "image")
        raise DataError(f"{folder}: {loose} but no class folders; expected {expected}")
    if level is None:
        refuse_unclear_level(folder)
    empty = []
    for name, places in _class_folders(folder, found, listing, level or 1).items():
        images = sorted(path for place in places for path in found.images(place))
        if not images:
            empty.append(name)
        found.add(images, name, part)
    if empty:
        found.passed_over[EMPTY_CLASS] += len(empty)
        what = counted(len(empty), "empty class folder").partition(" ")[2]
        found.notes.append(f"{NOT_USED}{what} in {folder}: {listed_briefly(empty)}")


def _class_folders(folder: str, found: Found, listing: Listing, level: int) -> dict[str, list[str]]:
    """By class, its folders, so many levels below."""
    level_above = {folder: listing}
    for _ in range(level - 1):
        for _, loose, others in level_above.values():
            found.pass_over_loose(loose, others)
        below = [os.path.join(path, name) for path, own in level_above.items() for name in own[0]]
        level_above = {path: found.entries(path) for path in below}
    classes: dict[str, list[str]] = {}
    for path, (folders, loose, others) in level_above.items():
        found.pass_over_loose(loose, others)
        _refuse_lost_links(path, others)
        for name in folders:
            classes.setdefault(name, []).append(os.path.join(path, name))
    if not classes and level > 1:
        raise DataError(
            f"{folder}: no folders {level} levels below it; class_level={level} expects "
            f"{os.path.join(folder, *['*'] * (level - 1), 'CLASS')}"
        )
    _refuse_one_as_two(classes)
    return dict(sorted(classes.items()))


def _refuse_lost_links(folder: str, names: Sequence[str]) -> None:
    """Refuse what may be the link to a class's folder, and leads nowhere."""
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.splitext(name)[1] and os.path.islink(path) and not os.path.exists(path):
            raise DataError(
                f"{path}: {file_problem(path)}, and may be a class; mend or remove the link"
            )


def _refuse_one_as_two(classes: Mapping[str, Sequence[str]]) -> None:
    """Refuse a link beside class folders to another of them: its images would be of both."""
    places = [(name, path) for name, paths in classes.items() for path in paths]
    if not any(os.path.islink(path) for _, path in places):
        return
    first: dict[str, str] = {}
    for name, path in places:
        other = first.setdefault(os.path.realpath(path), name)
        if other != name:
            raise DataError(
                f"{path}: is one folder with the class {other}, by a link; leave one of them out"
            )


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


def _met(found: Found) -> str:
    """What was met where no image is."""
    reasons = counted_reasons(found.passed_over)
    if found.problems:
        path, reason = found.problems[0]
        reasons.append(f"{counted(len(found.problems), 'problem')}, first {path}: {reason}")
    return f"passed over: {', '.join(reasons) or 'nothing'}"
