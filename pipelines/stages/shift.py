"""How far images without labels lie from the labelled ones, and what can be done about it."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data import DataError, Samples, read_corrections
from data.corrections import DROP, labels_of
from data.names import counted, listed_briefly
from pipelines.errors import WrongCall
from pipelines.evaluation.corrections import FEWEST, correct_shift, judge_corrections
from pipelines.evaluation.leaderboard import BLEND
from pipelines.exploration.shift import FEWEST as FEWEST_OF_CLASS
from pipelines.exploration.shift import HALVES, Shift, find_shift
from pipelines.features import FeatureTable
from pipelines.outcome import Found, Job

Tables = tuple[FeatureTable, FeatureTable]  # of the labelled images and of the others


def read_target_labels(
    file: str | Path | None, samples: Samples, classes: Sequence[str], stands: np.ndarray
) -> tuple[dict[str, str], dict[str, str]]:
    """By path the label, or `drop`, of those of the images without labels that a table has one for;
    and of those that a table has one for though they take no part.

    stands : (n,) of each image the row that stays of it and its copies, to which a label of any of
    them goes; -1 where none does.

    Raises DataError for a table that can't be read, names another image, or gives two labels to
    copies, WrongCall for a label that is no class, and for fewer labels than can choose.
    """
    if file is None:
        return {}, {}
    labels = labels_of(samples, read_corrections(file))
    found: dict[int, int] = {}  # by row that stays, the one that the table names
    beside: dict[str, str] = {}
    for row in np.flatnonzero(labels != "").tolist():
        path, label, stays = samples.paths[row], labels[row], int(stands[row])
        if label not in (DROP, *classes):
            raise WrongCall(
                f"--target-labels {file}: the label {label!r} of {path} is no class: "
                f"expected one of {listed_briefly(classes)}"
            )
        if stays < 0:
            beside[path] = label
        elif labels[before := found.setdefault(stays, row)] != label:
            raise DataError(
                f"--target-labels {file}: {path} is given the label {label!r}, and its copy "
                f"{samples.paths[before]} {labels[before]!r}: leave one of them out"
            )
    n_labels = sum(labels[row] != DROP for row in found.values())
    if n_labels < FEWEST:
        more = f", and {len(beside)} that can't be used" if beside else ""
        raise WrongCall(
            f"--target-labels {file}: {counted(n_labels, 'image')} with a label{more}: "
            f"expected {FEWEST} or more, by which corrections are compared"
        )
    return {samples.paths[stays]: labels[row] for stays, row in found.items()}, beside


def judge_shift(
    job: Job,
    found: Found,
    tables: Tables,
    otherwise: tuple[str, np.ndarray],
    alone: np.ndarray,
) -> tuple[dict, str, np.ndarray]:
    """The `shift` of results.json, and by what and how the images without labels are answered.

    Features are aligned only where some class has moved: where the two differ in no more than how
    common their classes are, means that are brought together part what belongs together.

    tables : of the labelled images and of the others. otherwise : name and (m, classes) of the
    answers that stand so far. alone : (m, classes) by labels alone.
    """
    shift, source = _look_for_shift(job, found, tables, alone)
    described = {"tap": asdict(tables[0].sources[source]), **_describe(shift), "corrections": None}
    if shift is None or not shift.moved:
        return described, *otherwise
    described["corrections"], taken, answers = _correct(job, found, tables, otherwise)
    return described, taken, answers


def _look_for_shift(
    job: Job, found: Found, tables: Tables, alone: np.ndarray
) -> tuple[Shift | None, int]:
    """How far the two lie apart in the deepest tap, None of too few images; and that tap's
    number."""
    (labelled, others), names = tables, found.board.classes.astype(str)
    source = labelled.last()
    train, new = labelled.read(source, found.split.train), others.read_same(labelled, source)
    if min(len(train), len(new)) < HALVES * FEWEST_OF_CLASS:
        return None, source
    out_of_fold = found.board.probabilities[found.place]
    predicted = names[out_of_fold.argmax(axis=1)], names[alone.argmax(axis=1)]
    return find_shift(train, new, predicted, job.settings.seed), source


def _describe(shift: Shift | None) -> dict:
    if shift is None:
        return {"differs": None, "whole": None, "classes": []}
    return {
        "differs": shift.whole.differs,
        "whole": asdict(shift.whole),
        "classes": [
            _describe_class(shift, name) for name in dict.fromkeys([*shift.classes, *shift.shares])
        ],
    }


def _describe_class(shift: Shift, name: str) -> dict:
    own, (of_labelled, of_others) = shift.classes.get(name), shift.shares[name]
    return {
        "name": name,
        "moved": None if own is None else own.differs,
        "apart": None if own is None else asdict(own),
        "share_labelled": of_labelled,
        "share_unlabelled": of_others,
    }


def _correct(
    job: Job, found: Found, tables: Tables, otherwise: tuple[str, np.ndarray]
) -> tuple[dict, str, np.ndarray]:
    """What each correction says of the images without labels, and which of them answers."""
    board = found.board
    # of a blend each tap would have to be aligned by itself
    best = next(place for place, row in enumerate(board.rows) if row.head != BLEND)
    source = board.members[best][0].source
    answers = dict([otherwise]) | correct_shift(
        found.table.read(source, found.split.train),
        np.searchsorted(board.classes, found.labels),
        found.split.folds,
        tables[1].read_same(found.table, source),
        job.settings.class_weight,
    )
    rows, codes = _with_labels(job, tables[1], board.classes)
    judged = judge_corrections(answers, rows, codes)
    described = {"tap": asdict(found.table.sources[source]), **judged}
    return described, judged["taken"], answers[judged["taken"]]


def _with_labels(
    job: Job, others: FeatureTable, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of images that have a label after all, and their class numbers."""
    known = job.unlabelled.labels if job.unlabelled else {}
    labels = np.array([known.get(path, DROP) for path in others.samples.paths], object)
    rows = np.flatnonzero(labels != DROP)
    return rows, np.searchsorted(classes, labels[rows].astype(classes.dtype))
