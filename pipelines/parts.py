"""Refuses a split of which images left out have taken too much, and says what became of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data import DataError, Samples
from data.names import counted
from pipelines.report.split import NEW, TEST, TRAIN, KnownSplit

if TYPE_CHECKING:
    from pipelines.features import FeatureTable

PARTS = {TRAIN: "training", TEST: "test"}


@dataclass(frozen=True)
class Loss:
    """One way for images to be gone: what one of them, or several, are, and what to do about it."""

    one: str
    several: str
    remedy: str


UNREAD = Loss("can't be read", "can't be read", "mend them")
CONTRADICTED = Loss(
    "has a copy with another label", "have copies with other labels", "mend the labels"
)
TESTED = Loss(
    "is an exact duplicate of a test image, which is not trained on",
    "are exact duplicates of test images, which are not trained on",
    "take them out of the test part, or give other training images",
)
COPIES = Loss(
    "is a near copy of an image that stays",
    "are near copies of images that stay",
    "--duplicates group or keep lets them stay",
)
ELSEWHERE = Loss(
    "is an exact duplicate of an image that stays",
    "are exact duplicates of images that stay",
    "give other images",
)


def refuse_lost(samples: Samples, table: "FeatureTable", known: KnownSplit | None) -> None:
    """DataError for a part, or a class that is tested, of which no training image is left.

    samples : as they were read. table : once bad images and copies are settled. known : the split
        of an earlier run, where it is taken.
    """
    ids = table.features[0].extraction.ids
    if samples.split is not None:
        sides = samples.split
    elif known is not None:
        sides = known.of(ids)
    else:
        return
    gone = np.ones(len(samples), bool)
    gone[table.places] = False
    own = sides[table.places]
    for part, words in PARTS.items():
        # images that the split has not may come to either part
        if not np.isin(own, (part, NEW)).any():
            why = _why(samples, table, np.flatnonzero(gone & (sides == part)))
            raise DataError(f"{samples.name} has no {words} image left{why}")
    absent = _absent(table.samples.labels, own)
    if len(absent):
        n_test = int(np.sum((table.samples.labels == absent[0]) & (own == TEST)))
        rows = np.flatnonzero(gone & (sides == TRAIN) & (samples.labels == absent[0]))
        why = _why(samples, table, rows) or ": give it some, or leave it out of the test part"
        others = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise DataError(
            f"class {str(absent[0])!r}{others} has {counted(n_test, 'test image')} and none "
            f"{'left ' if len(rows) else ''}to train on{why}"
        )


def refuse_small_classes(samples: Samples, train: np.ndarray, n_folds: int) -> None:
    """DataError for a class with fewer training images, or groups of them, than folds."""
    unit = "image" if samples.groups is None else "group"
    units = np.arange(len(samples)) if samples.groups is None else samples.groups
    is_train = np.isin(np.arange(len(samples)), train)
    counts = {}
    for name in np.unique(samples.labels[is_train]):
        own = samples.labels == name
        counts[name] = [len(np.unique(units[rows])) for rows in (own & is_train, own)]
    name, (n_train, n) = min(counts.items(), key=lambda item: item[1])
    if n_train >= n_folds:
        return
    remedy = f"--cv {n_train} needs no more" if n_train > 1 else "give it more, or leave it out"
    raise DataError(
        f"class {str(name)!r} has {counted(n, unit)}, {n_train} of them to train on, and "
        f"{n_folds} folds need {n_folds} of these: {remedy}"
    )


def _absent(labels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Classes that are tested, and of which no image is or may be trained on."""
    return np.setdiff1d(labels[sides == TEST], labels[sides != TEST])


def _why(samples: Samples, table: "FeatureTable", rows: Sequence[int] | np.ndarray) -> str:
    """`: 3 are exact duplicates of …, 2 can't be read; what to do`; empty for no rows."""
    stay = {own.tobytes(): i for i, own in enumerate(table.ids)}
    ids = table.features[0].extraction.ids
    unread = {row for done in table.passes for row in done.bad}
    listed = {path for path, _ in table.bad}

    def loss(row: int) -> Loss:
        if row in unread:
            return UNREAD
        if samples.paths[row] in listed:
            return CONTRADICTED
        kept = stay.get(ids[row].tobytes())
        if kept is None:
            return COPIES
        split = table.samples.split
        return TESTED if split is not None and split[kept] == TEST else ELSEWHERE

    counts = Counter(map(loss, np.asarray(rows).tolist()))
    if not counts:
        return ""
    parts = [counted(count, own.one, own.several) for own, count in counts.most_common()]
    remedies = [own.remedy for own, _ in counts.most_common()]
    return f": {', '.join(parts)}; {', '.join(remedies)}"
