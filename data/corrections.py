"""Corrections of labels, laid over samples while their files stay as they are."""

import csv
import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from data.images import FilePath
from data.names import counted, from_cell, listed_briefly
from data.samples import DataError, Samples

DROP = "drop"  # in place of a label: the image takes no part


def read_corrections(file: FilePath) -> dict[str, str]:
    """The corrected labels that a table lists.

    Parameters
    ----------
    file : path
        A .csv with the columns `path` and `label`, such as a run's page copies; other columns are
        passed over. A label of `drop` leaves the image out.

    Returns
    -------
    dict of str to str
        Label, or `drop`, by path as it is written.

    Raises
    ------
    DataError
        For a table that can't be read or lacks a column, and, with its line, for a row without a
        path or label, or with another label than a line before.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pathlib.Path(folder, "fixes.csv")
    ...     _ = table.write_text("path,label\\na.jpg,cat\\nb.jpg,drop\\n")
    ...     read_corrections(table)
    {'a.jpg': 'cat', 'b.jpg': 'drop'}
    """
    found: dict[str, str] = {}
    try:
        with open(file, newline="", encoding="utf-8-sig") as opened:
            rows = csv.DictReader(opened)
            lacking = [name for name in ("path", "label") if name not in (rows.fieldnames or ())]
            if lacking:
                raise DataError(f"{file} has no column {lacking[0]!r}: expected path,label")
            for row in rows:
                path, label = (from_cell((row[name] or "").strip()) for name in ("path", "label"))
                where = f"{file} line {rows.line_num}"
                if not path or not label:
                    raise DataError(f"{where} lacks a path or a label: expected both, or {DROP}")
                if found.setdefault(path, label) != label:
                    raise DataError(
                        f"{where} gives {path} the label {label!r}, and a line before "
                        f"{found[path]!r}: leave one of them out"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"can't read {file} ({reason}): expected a CSV of path,label") from error
    return found


def correct_labels(samples: Samples, corrections: Mapping[str, str]) -> Samples:
    """Samples with other labels, and without those that are to be dropped.

    Parameters
    ----------
    samples : Samples
        With labels.
    corrections : mapping of str to str
        As `read_corrections` gives; paths as the samples have them, or others of the same files.
        A file that is no sample is one more, to train on where there is a split.

    Returns
    -------
    Samples
        With a note of how many were given another label, dropped and added.

    Raises
    ------
    DataError
        For a path that is no sample's and no file, and a label that is no class.

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
    n_known, samples = len(samples), _with_new(samples, corrections)
    assert samples.labels is not None  # they were there
    rows = _rows(samples, list(corrections))
    labels = np.array(samples.labels, object)
    for (path, label), row in zip(corrections.items(), rows, strict=True):
        if label != DROP and label not in samples.classes:
            raise DataError(
                f"the corrected label {label!r} of {path} is no class: expected {DROP} or one of "
                f"{listed_briefly(samples.classes)}"
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
        note += f", {int((~dropped[n_known:]).sum())} added"
    return replace(
        kept,
        passed_over=samples.passed_over,
        problems=samples.problems,
        notes=(*samples.notes, note),
    )


def _with_new(samples: Samples, corrections: Mapping[str, str]) -> Samples:
    """Samples and, behind them, the files with a label that are none of them yet."""
    if samples.pixels is not None:
        return samples
    known = {*samples.paths, *map(os.path.realpath, samples.paths)}
    new = [
        path
        for path in corrections
        if path not in known and os.path.realpath(path) not in known and os.path.isfile(path)
    ]
    if not new:
        return samples

    def longer(column: np.ndarray | None, more: list[str]) -> np.ndarray | None:
        return None if column is None else np.array([*column.tolist(), *more])

    return replace(
        samples,
        paths=(*samples.paths, *new),
        labels=longer(samples.labels, [samples.classes[0]] * len(new)),  # until they are corrected
        groups=longer(samples.groups, new),
        split=longer(samples.split, ["train"] * len(new)),
    )


def _rows(samples: Samples, paths: list[str]) -> list[int]:
    """The sample of each path; DataError for those that have none."""
    row_of = {path: row for row, path in enumerate(samples.paths)}
    absent = [path for path in paths if path not in row_of]
    if absent and samples.pixels is None:
        real = {os.path.realpath(path): row for row, path in enumerate(samples.paths)}
        row_of |= {path: real[own] for path in absent if (own := os.path.realpath(path)) in real}
        absent = [path for path in absent if path not in row_of]
    if absent:
        raise DataError(
            f"{len(absent)} of {counted(len(paths), 'corrected path')} "
            f"{'is' if len(absent) == 1 else 'are'} no image of {samples.name}, first {absent[0]}: "
            "expected paths as in images.csv, or of files"
        )
    return [row_of[path] for path in paths]
