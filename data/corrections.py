"""Corrections of labels, laid over samples while their files stay as they are."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from io import TextIOWrapper

import numpy as np

from data.images import FilePath, is_file
from data.listing import is_there, open_file
from data.manifests import delimiter_of
from data.names import counted, from_cell, listed_briefly
from data.samples import DataError, Samples
from data.urls import real_path

DROP = "drop"  # in place of a label: the image takes no part
NEAR = 0.75  # share of its letters that a miswritten name has in their order, as difflib counts


def read_corrections(file: FilePath) -> dict[str, str]:
    """The corrected labels that a table lists.

    Parameters
    ----------
    file : path
        A .csv with the columns `path` and `label`, in letters of any case and separated by commas,
        semicolons or tabs, such as a run's page copies; other columns are passed over. A label of
        `drop` leaves the image out; an empty one says that there is none yet.

    Returns
    -------
    dict of str to str
        Label, `drop` or nothing, by path; as they are written, spaces too.

    Raises
    ------
    DataError
        For a table that can't be read or lacks a column, and, with its line, for a row without a
        path, or with another label than a line before.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pathlib.Path(folder, "fixes.csv")
    ...     _ = table.write_text("path,label\\na.jpg,cat\\nb.jpg,drop\\nc.jpg,\\n")
    ...     read_corrections(table)
    {'a.jpg': 'cat', 'b.jpg': 'drop', 'c.jpg': ''}
    """
    found: dict[str, str] = {}
    try:
        with open_file(file) as raw, TextIOWrapper(raw, "utf-8-sig", newline="") as opened:
            first = opened.readline()
            opened.seek(0)
            rows = csv.DictReader(opened, delimiter=delimiter_of(first.lower()))
            rows.fieldnames = _header(file, rows.fieldnames or ())
            for row in rows:
                _take(found, row, f"{file} line {rows.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"can't read {file} ({reason}): expected a CSV of path,label") from error
    return found


def _header(file: FilePath, names: Sequence[str]) -> list[str]:
    """The names of the columns in small letters; DataError where one is lacking or there twice."""
    small = [name.strip().lower() for name in names]
    for name in ("path", "label"):
        if name not in small:
            raise DataError(
                f"{file} has no column {name!r}, but {', '.join(names) or 'none'}: expected "
                "path,label"
            )
        if small.count(name) > 1:
            raise DataError(f"{file} has two columns {name!r}: leave one of them out")
    return small


def _take(found: dict[str, str], row: Mapping[str, str | None], where: str) -> None:
    """Put one more row among those found."""
    # a name may begin or end with a space: whether it does is settled beside the samples
    path, label = (from_cell(row[name] or "") for name in ("path", "label"))
    if not path.strip():
        raise DataError(f"{where} lacks a path: every row needs one")
    if not label.strip():
        found.setdefault(path, "")
        return
    known = found.get(path) or label
    if known != label:
        raise DataError(
            f"{where} gives {path} the label {label!r}, and a line before {known!r}: leave one of "
            "them out"
        )
    found[path] = label


def correct_labels(samples: Samples, corrections: Mapping[str, str]) -> Samples:
    """Samples with other labels, and without those that are to be dropped.

    Parameters
    ----------
    samples : Samples
        With labels.
    corrections : mapping of str to str
        As `read_corrections` gives; paths as the samples have them, or others of the same files.
        A file that is no sample is one more, always trained on. A path without a label is skipped.

    Returns
    -------
    Samples
        With a note of how many were given another label, dropped, added and skipped.

    Raises
    ------
    DataError
        For a path that is no sample's and no file, a label that is no class, and two paths of one
        image that contradict one another.

    Examples
    --------
    >>> samples = Samples(("a.jpg", "b.jpg", "c.jpg"), labels=["cat", "dog", "cat"])
    >>> correct_labels(samples, {"a.jpg": "dog", "b.jpg": "drop"}).labels.tolist()
    ['dog', 'cat']
    """
    if samples.labels is None:
        raise DataError(f"{samples.name} has no labels: expected some to correct")
    if DROP in samples.classes:
        raise DataError(
            f"{samples.name} has a class {DROP!r}, which leaves images out among corrections: "
            "give the class another name"
        )
    n_empty = sum(not label.strip() for label in corrections.values())
    corrections = {
        _path_meant(samples, path): _label_meant(samples, path, label)
        for path, label in corrections.items()
        if label.strip()
    }
    n_known, samples = len(samples), _with_new(samples, corrections)
    assert samples.labels is not None  # they were there
    rows = _rows(samples, list(corrections))
    labels = np.array(samples.labels, object)
    first: dict[int, str] = {}
    for (path, label), row in zip(corrections.items(), rows, strict=True):
        before = first.setdefault(row, path)
        if corrections[before] != label:
            raise DataError(
                f"{path} is given the label {label!r}, and {before}, the same image, "
                f"{corrections[before]!r}: leave one of them out"
            )
        labels[row] = label
    dropped = labels == DROP
    relabelled = ~dropped & (labels != samples.labels)
    kept = replace(samples, labels=np.where(dropped, samples.labels, labels))[~dropped]
    note = (
        f"corrected: {counted(int(relabelled[:n_known].sum()), 'image')} with another label, "
        f"{int(dropped[:n_known].sum())} dropped"
    )
    if len(samples) > n_known:
        note += f", {int((~dropped[n_known:]).sum())} added to train on"
    if n_empty:
        note += f", {n_empty} without a label skipped"
    return replace(
        kept,
        passed_over=samples.passed_over,
        problems=samples.problems,
        notes=(*samples.notes, note),
    )


def label_samples(samples: Samples, labels: Mapping[str, str]) -> Samples:
    """Samples without labels given those of a table; what has none there is left out.

    Parameters
    ----------
    samples : Samples
        Their own labels, if any, are passed over.
    labels : mapping of str to str
        As `read_corrections` gives; paths as the samples have them, or others of the same files.

    Returns
    -------
    Samples
        With a note of how many were left out.

    Raises
    ------
    DataError
        For a path that is no sample's, two paths of one image that contradict one another, and a
        table that names no class.

    Examples
    --------
    >>> samples = Samples(("a.jpg", "b.jpg", "c.jpg"))
    >>> label_samples(samples, {"a.jpg": "dog", "b.jpg": "drop", "c.jpg": ""})
    Samples('images': 1 image, 1 class)
    """
    column = labels_of(samples, labels)
    kept = (column != "") & (column != DROP)
    if not kept.any():
        raise DataError(
            f"the table gives none of {counted(len(samples), 'image')} of {samples.name} a label: "
            "expected a class for some of them"
        )
    # the classes of before, if any, are none of those that the table names
    labelled = replace(samples, labels=np.where(kept, column, ""), classes=())[kept]
    n_dropped = int((column == DROP).sum())
    note = (
        f"labelled by a table: {counted(int(kept.sum()), 'image')}; {n_dropped} dropped, "
        f"{int((column == '').sum())} without a label left out"
    )
    return replace(
        labelled,
        classes=tuple(np.unique(column[kept]).tolist()),
        passed_over=samples.passed_over,
        problems=samples.problems,
        notes=(*samples.notes, note),
    )


def labels_of(samples: Samples, labels: Mapping[str, str]) -> np.ndarray:
    """What a table says of each sample.

    Parameters
    ----------
    samples : Samples
    labels : mapping of str to str
        As `read_corrections` gives; paths as the samples have them, or others of the same files.

    Returns
    -------
    ndarray of shape (n,), object
        A label without the spaces around it, `drop`, or nothing.

    Raises
    ------
    DataError
        For a path that is no sample's, and two paths of one image that contradict one another.

    Examples
    --------
    >>> labels_of(Samples(("a.jpg", "b.jpg")), {"b.jpg": "cat "}).tolist()
    ['', 'cat']
    """
    given = {
        _path_meant(samples, path): label.strip() for path, label in labels.items() if label.strip()
    }
    found = np.full(len(samples), "", object)
    for (path, label), row in zip(given.items(), _rows(samples, list(given)), strict=True):
        if found[row] not in ("", label):
            raise DataError(
                f"{path} is given the label {label!r}, and another path of the same image "
                f"{found[row]!r}: leave one of them out"
            )
        found[row] = label
    return found


def _path_meant(samples: Samples, path: str) -> str:
    """A path as it is written, or without the spaces around it where nothing else is there."""
    if path == path.strip() or path in samples.paths or is_there(path):
        return path
    return path.strip()


def _label_meant(samples: Samples, path: str, label: str) -> str:
    """A label that is `drop` or a class, or is one without the spaces around it."""
    names = (DROP, *samples.classes)
    for own in (label, label.strip()):
        if own in names:
            return own
    near = near_name(label, names)
    raise DataError(
        f"the corrected label {label!r} of {path} is no class: expected {DROP} or one of "
        f"{listed_briefly(samples.classes)}" + (f"; did you mean {near}?" if near else "")
    )


def near_name(label: str, names: Iterable[str]) -> str | None:
    """The name that a label most likely means: but for case and spaces, or a slip or two.

    >>> near_name("Daisy ", ["daisies", "daisy"]), near_name("2019", ["daisy"])
    ('daisy', None)
    """
    plain = {name.strip().casefold(): name for name in names}
    near = get_close_matches(label.strip().casefold(), plain, 1, NEAR)
    return plain[near[0]] if near else None


def _with_new(samples: Samples, corrections: Mapping[str, str]) -> Samples:
    """Samples and, behind them, the files with a label that are none of them yet."""
    other = set(corrections).difference(samples.paths)
    if samples.pixels is not None or not other:
        return samples
    known = set(map(real_path, samples.paths))
    new = {
        real: path
        for path in reversed(list(corrections))  # of two ways to one file the first is kept
        if path in other and (real := real_path(path)) not in known and is_file(path)
    }
    if not new:
        return samples
    more = list(reversed(new.values()))

    def longer(column: np.ndarray | None, more: list) -> np.ndarray | None:
        return None if column is None else np.array([*column.tolist(), *more])

    train_only = np.zeros(len(samples), bool) if samples.train_only is None else samples.train_only
    return replace(
        samples,
        paths=(*samples.paths, *more),
        labels=longer(samples.labels, [samples.classes[0]] * len(more)),  # until they are corrected
        groups=longer(samples.groups, more),
        split=longer(samples.split, ["train"] * len(more)),
        train_only=longer(train_only, [True] * len(more)),
    )


def _rows(samples: Samples, paths: list[str]) -> list[int]:
    """The sample of each path; DataError for those that have none."""
    row_of = {path: row for row, path in enumerate(samples.paths)}
    absent = [path for path in paths if path not in row_of]
    if absent and samples.pixels is None:
        real = {real_path(path): row for row, path in enumerate(samples.paths)}
        row_of |= {path: real[own] for path in absent if (own := real_path(path)) in real}
        absent = [path for path in absent if path not in row_of]
    if absent:
        raise DataError(
            f"{len(absent)} of {counted(len(paths), 'path')} with a label "
            f"{'is' if len(absent) == 1 else 'are'} no image of {samples.name}, first {absent[0]}: "
            "expected paths as in the tables of a run, or of files"
        )
    return [row_of[path] for path in paths]
