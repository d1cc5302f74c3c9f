"""Reads what the user names (a folder, a manifest, a named set) into Samples."""

import csv
import difflib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO, TypeAlias

import numpy as np

from data.images import FilePath, file_problem
from data.samples import DataError, Samples

logger = logging.getLogger(__name__)

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
# what folders and the column `split` may say; in Samples val is one of the other two
SPLITS_GIVEN = ("train", "val", "test")
COLUMNS = ("path", "label", "group", "split")

# an image as it was found: path, label, split as given, group; None for what is not known of any
Row: TypeAlias = tuple[str, str | None, str | None, str | None]
# a manifest's rows as they stand, each with its line number
NumberedRows: TypeAlias = Iterator[tuple[int, dict]]


def read_images(source: FilePath, labelled: bool = True) -> Samples:
    """The images of a folder, a manifest or a named set.

    Parameters
    ----------
    source : path or str
        A class-per-folder directory (`read_image_folder`), a .csv or .jsonl manifest
        (`read_manifest`), or a named set such as "digits" (`read_named_set`). A named set wins over
        a folder of the same name; write "./digits" for the folder.
    labelled : bool, default=True
        Whether labels are read, and needed.

    Returns
    -------
    Samples

    Raises
    ------
    DataError
        For a source of another kind, and as the reader of its kind does.

    Examples
    --------
    >>> read_images("digits")
    Samples('digits': 1797 images, 10 classes)
    """
    source = os.fspath(source)
    for is_such, read in READERS:
        if is_such(source):
            return read(source, labelled)
    raise DataError(_unknown_source(source))


def read_image_folder(folder: FilePath, labelled: bool = True) -> Samples:
    """The images of a folder with one sub-folder per class, at any depth below it.

    Where the only sub-folders are train/ and val/ or test/, these are the split and hold the class
    folders; with all three, val/ joins train/. Images are known by suffix, see SUFFIXES; links are
    followed; no image is opened.

    Parameters
    ----------
    folder : path
        The folder that holds the class folders.
    labelled : bool, default=True
        False takes every image below `folder`, flat or nested, without labels.

    Returns
    -------
    Samples
        Paths sorted within each class; `passed_over` counts what was not taken, `problems` names
        what can't be an image though its name says so.

    Raises
    ------
    DataError
        For a folder that is missing, has no images, has no class folders, or has a test class that
        is missing in train.

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
    found = _Found()
    rows: list[Row]
    if labelled:
        rows = _rows_by_class(folder, found)
    else:
        rows = [(path, None, None, None) for path in found.images(folder)]
    if not rows:
        raise DataError(
            f"{folder}: no images found ({_counts(found)}); "
            f"expected files like {' '.join(SUFFIXES)}"
        )
    return _samples(os.path.basename(os.path.abspath(folder)), rows, found)


def read_manifest(path: FilePath, labelled: bool = True) -> Samples:
    """The images that a table lists.

    Parameters
    ----------
    path : path
        A .csv with the header `path,label[,group][,split]`, or a .jsonl with an object of these
        keys on each line; in UTF-8. Its paths are absolute or relative to its own folder. `split`
        is train, val or test; val joins train where there is a test part.
    labelled : bool, default=True
        False reads no labels, and needs none.

    Returns
    -------
    Samples
        In the table's order; missing files are in `problems`.

    Raises
    ------
    DataError
        With the line number, for a row that can't be used; for a table that can't be read, or of
        which no file is there.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, "1.jpg").touch()
    ...     table = pathlib.Path(folder, "pets.csv")
    ...     _ = table.write_text("path,label\\n1.jpg,cat\\n")
    ...     read_manifest(table)
    Samples('pets': 1 images, 1 classes)
    """
    path = os.fspath(path)
    if not _is_manifest(path):
        raise DataError(
            f"{path}: not a manifest by its name; expected one ending in {' or '.join(MANIFESTS)}"
        )
    found = _Found()
    table = _read_table(path, found)
    _check_table(path, table, ("path", "label") if labelled else ("path",))
    folder = os.path.dirname(path)
    rows: list[Row] = []
    for _, cells in table:
        file_path = os.path.join(folder, cells["path"])
        if found.is_file(file_path):
            label = cells.get("label") if labelled else None
            rows.append((file_path, label, cells.get("split"), cells.get("group")))
    if not rows:
        raise DataError(
            f"{path}: none of its {len(table)} files is there, first {': '.join(found.problems[0])}"
        )
    return _samples(os.path.splitext(os.path.basename(path))[0], rows, found)


def read_named_set(name: str, labelled: bool = True) -> Samples:
    """The images of a set that is known by name, as pixels.

    Parameters
    ----------
    name : str
        "digits" (scikit-learn's 1,797 scans of 8 x 8), or "torchvision:NAME" with the name of a
        class in `torchvision.datasets`, which is downloaded where it is not there yet.
    labelled : bool, default=True
        Whether labels are read.

    Returns
    -------
    Samples
        With names such as "digits/0001" as paths.

    Raises
    ------
    DataError
        For a name that is not known, and for a set that can't be downloaded or read.

    Examples
    --------
    >>> read_named_set("digits").inputs.shape
    (1797, 8, 8, 3)
    """
    if not _is_named_set(name):
        raise DataError(_unknown_source(name))
    if name == "digits":
        return _digits(labelled)
    from data.torchvision_sets import read_torchvision_set

    return read_torchvision_set(name.removeprefix("torchvision:"), labelled=labelled)


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
    found = _Found()
    images: list[str] = []
    for each in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = os.fspath(each)
        if os.path.isdir(path):
            images += found.images(path)
        elif found.is_file(path):
            images.append(path)
    return images, found.problems


class _Found:
    """What was met on the way: `passed_over` counts by reason, `problems` are (path, reason)."""

    def __init__(self) -> None:
        self.passed_over: Counter[str] = Counter()
        self.problems: list[tuple[str, str]] = []

    def entries(self, folder: str) -> tuple[list[os.DirEntry], list[os.DirEntry]]:
        """(folders, files) in `folder`, sorted by name, without hidden ones; links are followed."""
        try:
            with os.scandir(folder) as scan:
                every = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            self.problems.append((folder, f"can't be read ({error.strerror})"))
            return [], []
        shown = [entry for entry in every if not entry.name.startswith(".")]
        self.pass_over("hidden", len(every) - len(shown))
        folders = [entry for entry in shown if _is_folder(entry)]
        files = [entry for entry in shown if not _is_folder(entry)]
        return folders, files

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
                self.pass_over("link to a folder already read")
                continue
            entered.add(real)
            folders, files = self.entries(here)
            images += [entry.path for entry in files if self.is_image(entry)]
            for entry in folders:
                if _has_image_suffix(entry.path):
                    self.problems.append((entry.path, "is a directory"))
                else:
                    waiting.append(entry.path)
        return sorted(images)

    def is_image(self, entry: os.DirEntry) -> bool:
        """Whether a file is an image by its name; what it is else is counted or a problem."""
        if _has_image_suffix(entry.path):
            # the folder's listing knows regular files already: a stat for each is saved
            return entry.is_file(follow_symlinks=False) or self.is_file(entry.path)
        self.pass_over("other suffix")
        return False

    def is_file(self, path: str) -> bool:
        """Whether it is a regular file; why not is a problem."""
        reason = file_problem(path)
        if reason:
            self.problems.append((path, reason))
        return reason is None

    def pass_over(self, reason: str, count: int = 1) -> None:
        if count:  # a Counter would keep the reason with its zero
            self.passed_over[reason] += count

    def pass_over_loose(self, files: Sequence[os.DirEntry]) -> int:
        """Count files outside the class folders -> how many of them are images."""
        loose = sum(_has_image_suffix(entry.path) for entry in files)
        self.pass_over("image outside the class folders", loose)
        self.pass_over("other suffix", len(files) - loose)
        return loose


def _rows_by_class(folder: str, found: _Found) -> list[Row]:
    """Every image in a class folder, of each split where the folders are these."""
    folders, files = found.entries(folder)
    names = {entry.name for entry in folders}
    is_split = "train" in names and len(names) > 1 and names <= set(SPLITS_GIVEN)
    if not is_split:
        return _rows_of_split(folder, folders, files, None, found)
    found.pass_over_loose(files)
    rows = []
    for entry in folders:
        class_folders, loose_files = found.entries(entry.path)
        rows += _rows_of_split(entry.path, class_folders, loose_files, entry.name, found)
    return rows


def _rows_of_split(
    folder: str,
    folders: Sequence[os.DirEntry],
    files: Sequence[os.DirEntry],
    split: str | None,
    found: _Found,
) -> list[Row]:
    loose = found.pass_over_loose(files)
    if loose and not folders:
        expected = os.path.join(folder, "CLASS", "image.jpg")
        raise DataError(f"{folder}: {loose} images but no class folders; expected {expected}")
    rows: list[Row] = []
    for entry in folders:
        images = found.images(entry.path)
        if not images:
            found.pass_over("class folder without images")
        rows += [(image, entry.name, split, None) for image in images]
    return rows


def _samples(name: str, rows: Sequence[Row], found: _Found) -> Samples:
    """Samples of rows, with train, val and test turned into train and test."""
    paths = tuple(path for path, _, _, _ in rows)
    labels = _column([label for _, label, _, _ in rows])
    split = _sides(name, [split for _, _, split, _ in rows])
    groups = _column([group for _, _, _, group in rows])
    if split is not None and labels is not None:
        _check_test_classes(name, labels, split)
    return Samples(
        paths=paths,
        labels=labels,
        groups=groups,
        split=split,
        name=name,
        passed_over=dict(found.passed_over),
        problems=tuple(found.problems),
    )


def _column(values: Sequence[str | None]) -> np.ndarray | None:
    """An array of str, or None where the rows have none: all have one, or none has."""
    return None if values[0] is None else np.array(values, dtype=str)


def _sides(name: str, given: Sequence[str | None]) -> np.ndarray | None:
    """ "train" or "test" for every row.

    val is the test part where there is no other, else it joins train. None where no split was
    given, or all are the same: that splits nothing.
    """
    present = set(given)
    if len(present) < 2:
        return None
    test = "test" if "test" in present else "val"
    if present == set(SPLITS_GIVEN):
        logger.info("%s: val joins train, test is the test part", name)
    return np.array(["test" if split == test else "train" for split in given])


def _check_test_classes(name: str, labels: np.ndarray, split: np.ndarray) -> None:
    unseen = np.setdiff1d(labels[split == "test"], labels[split == "train"])
    if len(unseen):
        raise DataError(
            f"{name}: class {str(unseen[0])!r} has test images but none in train; add or drop some"
        )


def _read_table(path: str, found: _Found) -> list[tuple[int, dict[str, str]]]:
    """(line number, known columns) of every row of a manifest."""
    read = MANIFESTS[os.path.splitext(path)[1].lower()]
    try:
        # -sig: spreadsheets put a mark before the header. newline="": csv wants line ends untouched
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = [(line, _cells(path, line, row, found)) for line, row in read(path, file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: can't be read as a manifest in UTF-8 ({error})") from error
    if not table:
        raise DataError(f"{path}: has no rows; expected path,label[,group][,split]")
    return table


def _csv_rows(path: str, file: TextIO) -> NumberedRows:
    """(line number, {column: text}) of every row under the header."""
    reader = csv.DictReader(file, strict=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    if header and "path" not in header:
        raise DataError(
            f"{path} has the columns {', '.join(header)}; expected path,label[,group][,split]"
        )
    for row in reader:
        # DictReader puts cells beyond the header under None
        if None in row:
            raise DataError(
                f"{path}, line {reader.line_num}: more cells than the header has; quote commas"
            )
        yield reader.line_num, {key.strip(): text for key, text in row.items()}


def _json_rows(path: str, file: TextIO) -> NumberedRows:
    """(line number, object) of every line that is not blank."""
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise DataError(
                f"{path}, line {line}: not JSON ({error}); expected one object per line"
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {line}: {text.strip()[:40]!r} came; "
                "expected an object with path and label"
            )
        yield line, row


def _cells(path: str, line: int, row: dict, found: _Found) -> dict[str, str]:
    """The row's known columns that hold something, as text."""
    cells: dict[str, str] = {}
    for key, value in row.items():
        if key not in COLUMNS:
            found.pass_over(f"unknown column {key!r}")
        elif _is_text(key, value):
            # a file's name may begin or end with a space
            cells[key] = value if key == "path" else str(value).strip()
        elif value is not None:
            raise DataError(f"{path}, line {line}: {key} is {value!r}; expected text")
    cells = {key: text for key, text in cells.items() if text.strip()}
    if cells.get("split", "train") not in SPLITS_GIVEN:
        raise DataError(
            f"{path}, line {line}: split is {cells['split']!r}; "
            f"expected one of {', '.join(SPLITS_GIVEN)}"
        )
    return cells


def _is_text(key: str, value: object) -> bool:
    """Whether JSON's value serves: a string, or a whole number for a label, group or split."""
    # type() is not isinstance(): true and false are whole numbers to Python
    return isinstance(value, str) or (key != "path" and type(value) is int)


def _check_table(
    path: str, table: Sequence[tuple[int, dict[str, str]]], needed: Sequence[str]
) -> None:
    """Every row has what is needed, and a group or split wherever another row has one."""
    used = {key for _, cells in table for key in cells}
    optional = sorted(used - {"label", *needed})
    for line, cells in table:
        for key in needed:
            if key not in cells:
                raise DataError(f"{path}, line {line}: no {key}; every row needs one")
        for key in optional:
            if key not in cells:
                raise DataError(
                    f"{path}, line {line}: no {key}; other rows have one; all or none must"
                )


def _digits(labelled: bool) -> Samples:
    # imported here: scikit-learn takes longer to import than a folder takes to read
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # scanned in 17 steps, 0 to 16
    gray = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return Samples(
        paths=tuple(f"digits/{number:04d}" for number in range(1, len(gray) + 1)),
        labels=bunch.target.astype(str) if labelled else None,
        pixels=np.repeat(gray[..., None], 3, axis=3),
        name="digits",
    )


def _is_folder(entry: os.DirEntry) -> bool:
    # a link costs a stat, so only links pay for it
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _has_image_suffix(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _is_named_set(source: str) -> bool:
    return source == "digits" or source.startswith("torchvision:")


def _is_manifest(source: str) -> bool:
    return os.path.splitext(source)[1].lower() in MANIFESTS and not os.path.isdir(source)


def _unknown_source(source: str) -> str:
    near = difflib.get_close_matches(source, ["digits"], 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    what = "is a file of another kind" if os.path.exists(source) else "no such file or folder"
    return (
        f"{source}: {what}{hint}; expected a folder of images, "
        f"a manifest ({', '.join(MANIFESTS)}), digits, or torchvision:NAME"
    )


def _counts(found: _Found) -> str:
    counts = found.passed_over + Counter(problem=len(found.problems))
    listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    return f"passed over: {listed or 'nothing'}"


# by suffix, what reads the open file; the path goes into its errors
MANIFESTS: dict[str, Callable[[str, TextIO], NumberedRows]] = {
    ".csv": _csv_rows,
    ".jsonl": _json_rows,
}

# whether a source is of this kind, and what reads it; the first that fits is taken
READERS: tuple[tuple[Callable[[str], bool], Callable[[str, bool], Samples]], ...] = (
    (_is_named_set, read_named_set),
    (_is_manifest, read_manifest),
    (os.path.isdir, read_image_folder),
)
