"""The samples of a run: read with their test part, grouped by their paths, and split."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from data import (
    DataError,
    Samples,
    correct_labels,
    label_samples,
    make_folds,
    read_corrections,
    read_images,
    split_rows,
)
from data.corrections import DROP, near_name
from data.names import counted
from data.splits import refuse_shared_groups
from pipelines.errors import WrongCall
from pipelines.exploration.copies import Copies, group_copies
from pipelines.parts import refuse_small_classes
from pipelines.report.split import NEW, TEST, TRAIN
from pipelines.settings import RunSettings

SAME = ("exact", "copy", "edited")  # mirrored pictures are listed, and stay apart


@dataclass(frozen=True)
class Split:
    """Which samples train and which test.

    train, test : rows of the samples. folds : (train, validation) index pairs into `train`.
    groups : (n,) of all samples, near copies together where they are kept so; None where each is
    alone.
    """

    train: np.ndarray
    test: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]
    groups: np.ndarray | None


@dataclass(frozen=True)
class SamplesRead:
    """The images and labels are known; nothing is computed yet."""

    samples: Samples


def read_samples(
    images: str | Samples, test: str | None = None, class_level: int | None = None
) -> Samples:
    """The labelled samples of a folder, manifest or named set; samples are taken as they are.

    test : test images, laid out alike, whose samples are joined as the split's test part.
    class_level : how deep the class folders lie in both, as in `read_image_folder`.

    Raises DataError where nothing labelled is found, WrongCall where the two don't go together.
    """
    if isinstance(images, Samples):
        samples = images
    else:
        samples = read_images(images, class_level=class_level)
    if test is None:
        return samples
    images = samples.name if isinstance(images, Samples) else images
    if samples.split is not None:
        raise WrongCall(
            f"--test {test} was given and {images} has a split inside: leave one of them out"
        )
    other = read_images(test, class_level=class_level)
    if samples.pixels is not None or other.pixels is not None or other.split is not None:
        raise WrongCall("--test takes folders or manifests of image files without a split inside")
    strange = sorted(set(other.classes) - set(samples.classes))
    if strange:
        raise WrongCall(
            f"class {strange[0]!r} of {test} is not among those of {images}: "
            f"{', '.join(samples.classes)}"
        )
    _refuse_shared(samples.paths, other.paths, f"--test {test}", images)
    return _joined(samples, other)


def read_any(images: str, class_level: int | None = None) -> Samples:
    """Samples with labels where the layout has them, else without, and with a note that says why.

    A class level that was asked for must fit.
    """
    try:
        return read_images(images, class_level=class_level)
    except DataError as error:
        if class_level is not None:
            raise
        samples = read_images(images, labelled=False)
        return replace(samples, notes=(*samples.notes, f"labels are not used: {error}"))


def read_labelled(images: str | Samples, settings: RunSettings) -> Samples:
    """The samples of a run, with the labels of its table laid over theirs, or given to them.

    Images without labels have those of the table; so do images whose folders are none of the
    classes that it names, nor like one, such as photos by year with the clusters of `explore`.
    """
    if settings.labels is None:
        return read_samples(images, settings.test, settings.class_level)
    table = read_corrections(settings.labels)
    is_asked = settings.test is not None or settings.class_level is not None
    try:
        samples = read_samples(images, settings.test, settings.class_level)
    except DataError:  # no labels that are there
        if is_asked or isinstance(images, Samples):
            raise
        return label_samples(read_images(images, labelled=False), table)
    if samples.labels is None:
        return label_samples(samples, table)
    named = {label.strip() for label in table.values()} - {"", DROP}
    # one label alone that is no class is a slip, which is told; so is one that is nearly a class
    if is_asked or len(named) < 2 or any(near_name(label, samples.classes) for label in named):
        return correct_labels(samples, table)
    if not isinstance(images, Samples):
        samples = read_images(images, labelled=False)
    return label_samples(samples, table)


def _refuse_shared(train: Sequence[str], test: Sequence[str], given: str, images: str) -> None:
    """Refuse test images that are trained on too; the same files, by whatever links and folders."""
    real = cache(os.path.realpath)  # of folders: a link to one file is a copy, found by its bytes

    def place(path: str) -> tuple[str, str]:
        folder, name = os.path.split(path)
        return real(folder), name

    trained = set(map(place, train))
    shared = [path for path in test if place(path) in trained]
    if shared:
        raise WrongCall(
            f"{given}: {len(shared)} of its {counted(len(test), 'image')} are among those of "
            f"{images} too, first {shared[0]}: give images that are not trained on"
        )


def _joined(train: Samples, test: Samples) -> Samples:
    both = (train, test)
    groups = None
    if any(part.groups is not None for part in both):
        # an image without a group is one of its own
        groups = np.concatenate(
            [part.groups if part.groups is not None else _alone(part.paths) for part in both]
        )
    return Samples(
        paths=train.paths + test.paths,
        labels=np.concatenate([part.labels for part in both]),
        classes=train.classes,
        groups=groups,
        split=["train"] * len(train) + ["test"] * len(test),
        name=train.name,
        passed_over=Counter(train.passed_over) + Counter(test.passed_over),
        problems=train.problems + test.problems,
        notes=train.notes + test.notes,
    )


def _alone(paths: Sequence[str]) -> list[str]:
    return [f"image {path}" for path in paths]


def group_by_path(samples: Samples, pattern: str | None) -> Samples:
    """Samples grouped by what a pattern finds in their paths: its first (…), or all of it.

    An image in whose path it finds nothing is alone. Raises WrongCall for no pattern, one that
    matches no path, or samples with groups of their own.
    """
    if pattern is None:
        return samples
    if samples.groups is not None:
        raise WrongCall(
            f"--groups {pattern} was given and {samples.name} has groups of its own: "
            "leave one of them out"
        )
    try:
        found = [re.search(pattern, path) for path in samples.paths]
    except re.error as error:
        raise WrongCall(
            f"--groups {pattern}: no regular expression ({error}), "
            "expected one such as patient[0-9]+"
        ) from error
    if not any(found):
        raise WrongCall(
            f"--groups {pattern} matches no path, such as {samples.paths[0]}: "
            "expected one that does"
        )
    groups = [_subject(match, path) for match, path in zip(found, samples.paths, strict=True)]
    return replace(samples, groups=groups)


def _subject(match: re.Match | None, path: str) -> str:
    """What a pattern found in a path; an optional (…) may have found nothing."""
    found = match and (match[1] if match.re.groups else match[0])
    return f"image {path}" if found is None else found


def split_samples(
    samples: Samples,
    copies: Sequence[Copies],
    n_folds: int,
    seed: int,
    keys: Sequence[str] | None = None,
    sides: np.ndarray | None = None,
) -> Split:
    """Training and test rows and folds, near copies together on one side.

    keys : what tells the images from one another for good, by which they are held out; by default
        their paths.
    sides : (n,) "train", "test", or "" for images that an earlier run's split has not.

    A given split stays as it is; what is to train only is in no test part. Raises DataError where a
    class is too small for the parts.
    """
    keys = samples.paths if keys is None else keys
    grouped = with_groups(samples, copies, keys)
    try:
        train, test = _usual_parts(samples, grouped, seed, keys)
        if sides is not None:
            if samples.train_only is not None:
                sides = np.where(samples.train_only, TRAIN, sides)
            train, test = _as_known(samples, grouped.groups, sides, test)
        refuse_small_classes(grouped, train, n_folds)
        return Split(train, test, make_folds(grouped, train, n_folds, seed), grouped.groups)
    except DataError as error:
        if grouped is samples:
            raise
        raise DataError(
            f"{error}; near copies are kept together: --duplicates drop or keep may help"
        ) from None


def _usual_parts(
    samples: Samples, grouped: Samples, seed: int, keys: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows where no earlier run says so: as given, else drawn from all but what
    is to train only and the like of it, so that such images change nothing of the test part."""
    if samples.split is not None:
        return split_rows(samples, seed, keys=keys)
    if samples.train_only is None:
        return split_rows(grouped, seed, keys=keys)
    fixed = samples.train_only
    if grouped.groups is not None:
        fixed = np.isin(grouped.groups, grouped.groups[fixed])
    free = np.flatnonzero(~fixed)
    _, test = split_rows(grouped[free], seed, keys=[keys[row] for row in free.tolist()])
    return np.setdiff1d(np.arange(len(samples)), free[test]), free[test]


def _as_known(
    samples: Samples, groups: np.ndarray | None, sides: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows: known images where they were, new ones with those of their group,
    else where the usual rule has them, which is `test`."""
    refuse_shared_groups(samples, *(np.flatnonzero(sides == side) for side in (TRAIN, TEST)))
    is_test = np.isin(np.arange(len(sides)), test)
    if groups is not None:
        # of near copies that were on both sides; a new one in the test trains nothing on the test
        for side in (TRAIN, TEST):
            is_test[np.isin(groups, groups[sides == side])] = side == TEST
    is_test[sides != NEW] = sides[sides != NEW] == TEST
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    for rows, part in ((train, "training"), (test, "test")):
        absent = np.setdiff1d(samples.labels, samples.labels[rows])
        if len(absent):
            raise DataError(
                f"class {str(absent[0])!r} has no {part} image by the split that --split names: "
                "leave it out, or mend the labels"
            )
    return train, test


def with_groups(samples: Samples, copies: Sequence[Copies], keys: Sequence[str]) -> Samples:
    """Samples whose near copies share a group; unchanged where there are none.

    A group is named for good: by the first of its members' own groups, or of their keys.
    """
    if not any(pair.kind in SAME for pair in copies):
        return samples
    joined = group_copies(len(samples), copies, samples.groups, SAME)
    own = keys if samples.groups is None else samples.groups
    names: dict[str, str] = {}
    for group, name in zip(joined, own, strict=True):
        names[group] = min(names.get(group, str(name)), str(name))
    return replace(samples, groups=[names[group] for group in joined])
