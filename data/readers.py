"""Reads what the user names (a folder, a manifest, a named set) into Samples."""

import csv
import difflib
import json
import logging
import os
from collections import Counter
from itertools import chain

import numpy as np

from data.images import file_problem
from data.samples import DataError, Samples

logger = logging.getLogger(__name__)

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
PARTS = ("train", "val", "test")


def read_images(source, labelled=True):
    """Samples of a class-per-folder directory, a .csv or .jsonl manifest, or a named set such as "digits".

    A named set wins over a folder of the same name; write "./digits" for the folder. Raises DataError.
    """
    source = os.fspath(source)
    read = next((read for is_such, read in READERS if is_such(source)), None)
    if read is None:
        raise DataError(_unknown_source(source))
    return read(source, labelled)


def read_image_folder(folder, labelled=True):
    """Samples of a folder with one sub-folder per class, images at any depth below it.

    Where the only sub-folders are train/ and val/ or test/, these are the split and hold the class folders;
    with all three, val/ joins train/. With `labelled=False` every image below `folder` is taken, flat or
    nested, without labels. Images are known by suffix, see SUFFIXES; links are followed; paths are sorted.

    Raises DataError for a folder that is missing, has no images, has no class folders, or has a test class
    that is missing in train.
    """
    folder = os.fspath(folder)
    reason = None if os.path.isdir(folder) else file_problem(folder) or "is a file"
    if reason:
        raise DataError(f"{folder}: {reason}; give a folder of images")
    found = _Found()
    if not labelled:
        rows = [(path, None, None, None) for path in found.images(folder)]
    else:
        rows = _rows_by_class(folder, found)
    if not rows:
        raise DataError(
            f"{folder}: no images found ({_counts(found)}); expected files like {' '.join(SUFFIXES)}"
        )
    return _samples(os.path.basename(os.path.abspath(folder)), rows, found)


def read_manifest(path, labelled=True):
    """Samples of a table: CSV with the header `path,label[,group][,split]`, or JSON lines with these keys.

    Paths are absolute or relative to the manifest's folder. `split` is train, val or test; val joins train
    where there is a test part. Missing files go to `problems`. With `labelled=False` labels are not read.

    Raises DataError, with the line number, for a row that can't be used.
    """
    path = os.fspath(path)
    if not _is_manifest(path):
        raise DataError(
            f"{path}: not a manifest by its name; expected one ending in {' or '.join(MANIFESTS)}"
        )
    read = MANIFESTS[os.path.splitext(path)[1].lower()]
    found = _Found()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = [(line, _cells(path, line, row, found)) for line, row in read(path, file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: can't be read as a manifest in UTF-8 ({error})") from error
    if not table:
        raise DataError(f"{path}: has no rows; expected path,label[,group][,split]")
    _check_table(path, table, ("path", "label") if labelled else ("path",))
    folder = os.path.dirname(path)
    rows = []
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


def read_named_set(name, labelled=True):
    """Samples of "digits" (scikit-learn's 1,797 scans, 8 x 8) or "torchvision:NAME", as pixels in memory."""
    if not _is_named_set(name):
        raise DataError(_unknown_source(name))
    if name == "digits":
        return _digits(labelled)
    from data.torchvision_sets import read_torchvision_set

    return read_torchvision_set(name.removeprefix("torchvision:"), labelled=labelled)


def find_images(paths):
    """(image paths, problems) of files and folders given by hand, in their order.

    Folders are searched to any depth by suffix; a file that is named is taken whatever its suffix.
    `problems` are (path, reason) of what can't be an image.
    """
    found, images = _Found(), []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = os.fspath(path)
        if os.path.isdir(path):
            images += found.images(path)
        elif found.is_file(path):
            images.append(path)
    return images, found.problems


class _Found:
    """What was met on the way: `passed_over` counts by reason, `problems` are (path, reason)."""

    def __init__(self):
        self.passed_over = Counter()
        self.problems = []

    def entries(self, folder):
        """(folders, files) in `folder` as sorted os.DirEntry, without hidden ones; links are followed."""
        try:
            with os.scandir(folder) as scan:
                every = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            self.problems.append((folder, f"can't be read ({error.strerror})"))
            return [], []
        shown = [entry for entry in every if not entry.name.startswith(".")]
        self.pass_over("hidden", len(every) - len(shown))
        folders = [entry for entry in shown if _is_folder(entry)]
        return folders, [entry for entry in shown if not _is_folder(entry)]

    def images(self, folder):
        """Sorted paths of all images below `folder`; each real folder is entered once, so link cycles end."""
        images, entered, waiting = [], set(), [folder]
        while waiting:
            here = waiting.pop()
            real = os.path.realpath(here)
            if real in entered:
                self.pass_over("link to a folder already read")
                continue
            entered.add(real)
            folders, files = self.entries(here)
            images += [entry.path for entry in files if self.is_image(entry)]
            waiting += [entry.path for entry in folders if not _has_image_suffix(entry.path)]
            self.problems += [
                (entry.path, "is a directory") for entry in folders if _has_image_suffix(entry.path)
            ]
        return sorted(images)

    def is_image(self, entry):
        if _has_image_suffix(entry.path):
            return entry.is_file(follow_symlinks=False) or self.is_file(entry.path)
        self.pass_over("other suffix")
        return False

    def is_file(self, path):
        reason = file_problem(path)
        if reason:
            self.problems.append((path, reason))
        return reason is None

    def pass_over(self, reason, count=1):
        if count:
            self.passed_over[reason] += count

    def pass_over_loose(self, files):
        loose = sum(_has_image_suffix(entry.path) for entry in files)
        self.pass_over("image outside the class folders", loose)
        self.pass_over("other suffix", len(files) - loose)
        return loose


def _rows_by_class(folder, found):
    """(path, label, part, group) of every image in a class folder."""
    folders, files = found.entries(folder)
    names = {entry.name for entry in folders}
    if not ("train" in names and len(names) > 1 and names <= set(PARTS)):
        return _rows_of_part(folder, folders, files, None, found)
    found.pass_over_loose(files)
    rows = []
    for part in folders:
        rows += _rows_of_part(part.path, *found.entries(part.path), part.name, found)
    return rows


def _rows_of_part(folder, folders, files, part, found):
    loose = found.pass_over_loose(files)
    if loose and not folders:
        expected = os.path.join(folder, "CLASS", "image.jpg")
        raise DataError(f"{folder}: {loose} images but no class folders; expected {expected}")
    rows = []
    for entry in folders:
        images = found.images(entry.path)
        found.pass_over("class folder without images", not images)
        rows += [(image, entry.name, part, None) for image in images]
    return rows


def _samples(name, rows, found):
    """Samples of rows (path, label, part, group), with the parts turned into train and test."""
    paths, labels, parts, groups = zip(*rows, strict=True)
    split = _sides(name, parts)
    if split is not None and labels[0] is not None:
        _check_test_classes(name, labels, split)
    return Samples(
        paths=paths,
        labels=None if labels[0] is None else labels,
        groups=None if groups[0] is None else groups,
        split=split,
        name=name,
        passed_over=dict(found.passed_over),
        problems=tuple(found.problems),
    )


def _sides(name, parts):
    """ "train" or "test" for every part: val is the test part where there is no other, else it joins train.

    None where there are no parts, or all are the same: that splits nothing.
    """
    present = set(parts)
    if len(present) < 2:
        return None
    test = "test" if "test" in present else "val"
    if present == set(PARTS):
        logger.info("%s: val joins train, test is the test part", name)
    return np.array(["test" if part == test else "train" for part in parts])


def _check_test_classes(name, labels, split):
    labels = np.array(labels)
    unseen = np.setdiff1d(labels[split == "test"], labels[split == "train"])
    if len(unseen):
        raise DataError(
            f"{name}: class {str(unseen[0])!r} has test images but none in train; add or drop some"
        )


def _csv_rows(path, file):
    """(line number, {column: text}) of every row under the header."""
    reader = csv.DictReader(file, strict=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    if header and "path" not in header:
        raise DataError(
            f"{path} has the columns {', '.join(header)}; expected path,label[,group][,split]"
        )
    for row in reader:
        if None in row:
            raise DataError(
                f"{path}, line {reader.line_num}: more cells than the header has; quote commas"
            )
        yield reader.line_num, {key.strip(): text for key, text in row.items()}


def _json_rows(path, file):
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
                f"{path}, line {line}: {text.strip()[:40]!r} came; expected an object with path and label"
            )
        yield line, row


COLUMNS = ("path", "label", "group", "split")


def _cells(path, line, row, found):
    """The row's known columns that hold something, as text."""
    cells = {}
    for key, value in row.items():
        if key not in COLUMNS:
            found.pass_over(f"unknown column {key!r}")
        elif _is_text(key, value):
            cells[key] = value if key == "path" else str(value).strip()
        elif value is not None:
            raise DataError(f"{path}, line {line}: {key} is {value!r}; expected text")
    cells = {key: text for key, text in cells.items() if text.strip()}
    if cells.get("split", "train") not in PARTS:
        raise DataError(
            f"{path}, line {line}: split is {cells['split']!r}; expected one of {', '.join(PARTS)}"
        )
    return cells


def _is_text(key, value):
    return isinstance(value, str) or (key != "path" and type(value) is int)


def _check_table(path, table, needed):
    """Every row has what is needed, and a group or split wherever another row has one."""
    used = set(chain.from_iterable(cells for _, cells in table)) - {"label"}
    for line, cells in table:
        for key in (*needed, *sorted(used - set(needed))):
            if key not in cells:
                why = (
                    "every row needs one"
                    if key in needed
                    else "other rows have one; all or none must"
                )
                raise DataError(f"{path}, line {line}: no {key}; {why}")


def _digits(labelled):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    gray = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return Samples(
        paths=tuple(f"digits/{number:04d}" for number in range(1, len(gray) + 1)),
        labels=bunch.target.astype(str) if labelled else None,
        pixels=np.repeat(gray[..., None], 3, axis=3),
        name="digits",
    )


def _is_folder(entry):
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _has_image_suffix(path):
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _is_named_set(source):
    return source == "digits" or source.startswith("torchvision:")


def _is_manifest(source):
    return os.path.splitext(source)[1].lower() in MANIFESTS and not os.path.isdir(source)


def _unknown_source(source):
    near = difflib.get_close_matches(source, ["digits"], 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    what = "is a file of another kind" if os.path.exists(source) else "no such file or folder"
    return (
        f"{source}: {what}{hint}; expected a folder of images, a manifest ({', '.join(MANIFESTS)}), digits, "
        "or torchvision:NAME"
    )


def _counts(found):
    counts = found.passed_over + Counter(problem=len(found.problems))
    return "passed over: " + (
        ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "nothing"
    )


MANIFESTS = {".csv": _csv_rows, ".jsonl": _json_rows}

# whether a source is of this kind, and what reads it; the first that fits is taken
READERS = (
    (_is_named_set, read_named_set),
    (_is_manifest, read_manifest),
    (os.path.isdir, read_image_folder),
)
