"""Which images train and which test: hold-out and folds, by class, never splitting a group."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from data.names import as_utf8, counted
from data.samples import DataError, Samples

# by how many standard deviations of chance a class's held-out part may miss the fraction before
# images are moved for it: the less slack, the more of them move when a label is mended
DEVIATIONS = 3.0
MOST = 2.0  # times the fraction: no class has more of it held out by chance
SMALL = 12  # a class of fewer images needs them to train: chance takes a third more at most


def split_rows(
    samples: Samples,
    seed: int,
    fraction: float = 0.25,
    keys: Sequence | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on and to test on: the split that was given, else some held out.

    Parameters
    ----------
    samples : Samples
        With labels, where no split is given.
    seed : int
        Of the draw.
    fraction : float, default=0.25
        About what share of every class is held out.
    keys : array of shape (n,), optional
        As for `hold_out`; by default the paths.

    Returns
    -------
    train, test : ndarray of int
        Sorted rows; no group is on both sides.

    Raises
    ------
    DataError
        For a given split with an empty side or a group on both, and for classes too small to be on
        both sides.

    Examples
    --------
    >>> import numpy as np
    >>> samples = Samples(tuple("abcd"), split=np.array(["train", "test", "train", "train"]))
    >>> split_rows(samples, seed=0)
    (array([0, 2, 3]), array([1]))
    """
    if samples.split is None:
        keys = samples.paths if keys is None else keys
        return hold_out(_labels_of(samples), samples.groups, fraction, seed, keys)
    train = np.flatnonzero(samples.split == "train")
    test = np.flatnonzero(samples.split == "test")
    for rows, name in ((train, "training"), (test, "test")):
        if not len(rows):
            raise DataError(
                f"{samples.name} has a split without {name} images: expected both parts"
            )
    refuse_shared_groups(samples, train, test)
    return train, test


def refuse_shared_groups(samples: Samples, train: np.ndarray, test: np.ndarray) -> None:
    """DataError for a group on both sides: it would make the test figures too good."""
    if samples.groups is None:
        return
    shared = np.intersect1d(samples.groups[train], samples.groups[test]).tolist()
    if shared:
        raise DataError(
            f"{counted(len(shared), 'group')}, {shared[0]!r} among them, "
            f"{'has' if len(shared) == 1 else 'have'} images in both train and test: "
            "give each group to one side"
        )


def make_folds(
    samples: Samples, train: np.ndarray, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cross-validation folds of the training rows.

    Parameters
    ----------
    samples : Samples
        With labels.
    train : ndarray of shape (n_train,), int
        The rows to train on.
    n_folds : int
        2 or more.
    seed : int
        Of the shuffle.

    Returns
    -------
    list of (train, validation)
        As of `folds`: places in `train`, not rows of `samples`.

    Raises
    ------
    DataError
        As `folds` does.

    Examples
    --------
    >>> import numpy as np
    >>> samples = Samples(tuple("abcdef"), labels=np.array(list("xyxyxy")))
    >>> validations = [side for _, side in make_folds(samples, np.array([2, 3, 4, 5]), 2, seed=0)]
    >>> sorted(np.concatenate(validations).tolist())
    [0, 1, 2, 3]
    """
    groups = None if samples.groups is None else samples.groups[train]
    return folds(_labels_of(samples)[train], n_folds, groups, seed)


def hold_out(
    labels: Sequence | np.ndarray,
    groups: Sequence | np.ndarray | None = None,
    fraction: float = 0.25,
    seed: int = 0,
    keys: Sequence | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hold some images out for testing, stratified by class.

    Whether an image is held out follows from its key, or its group's name, and the seed: the
    fraction of all is held out that these place lowest, and of a class that would have far too few
    or too many (three standard deviations of chance, or none) the images nearest to the line change
    sides. So a label that is mended, an image added or taken away moves hardly any other, and
    figures from before and after can be compared:

    - A mended label moves no image where its old and its new class are within those bounds, and at
      most one in each that is not: of 200 images in up to 10 classes none in 99 of 100 draws, a
      second one in less than 1 of 1000; of classes of under a dozen images, which are held to
      tighter bounds, a second one in up to 1 of 20.
    - m more images move as many as of them come to lie below the line more or fewer than the
      fraction, which is a binomial count: of 10, at most 3 in 97 of 100 draws. It is the limit of
      every rule that holds out an exact number, those placed lowest.
    - With groups the same holds of groups, each with all of its images.

    Parameters
    ----------
    labels : array of shape (n,)
        Class names.
    groups : array of shape (n,), optional
        All images of a group land on the same side.
    fraction : float, default=0.25
        About what share of every class is held out, give or take what chance does to so many; above
        0 and below 1.
    seed : int, default=0
        Of the draw.
    keys : array of shape (n,), optional
        What tells the images from one another for good, such as ids; by default their places.

    Returns
    -------
    train, test : ndarray of int
        Sorted indices; every class is on both sides.

    Raises
    ------
    DataError
        Where a class has a single image, or is in a single group.

    Examples
    --------
    >>> labels = ["cat"] * 8 + ["dog"] * 4
    >>> train, test = hold_out(labels)
    >>> [labels[row] for row in test]
    ['cat', 'cat', 'dog']
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction is {fraction}; expected a number between 0 and 1")
    labels = np.asarray(labels)
    _check_counts(labels, groups, 2, "a train and a test part")
    if groups is None:
        keys = range(len(labels)) if keys is None else keys
        is_test = _draw_images(labels, _place(keys, seed), fraction)
    else:
        is_test = _draw_groups(labels, groups, fraction, seed)
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def folds(
    labels: Sequence | np.ndarray,
    n_folds: int = 5,
    groups: Sequence | np.ndarray | None = None,
    seed: int = 0,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Shuffled folds of cross-validation, stratified by class.

    Parameters
    ----------
    labels : array of shape (n,)
        Class names.
    n_folds : int, default=5
        2 or more.
    groups : array of shape (n,), optional
        No group is on both sides of a fold.
    seed : int, default=0
        Of the shuffle.

    Returns
    -------
    list of (train, validation)
        Sorted indices; every class is on both sides of every fold.

    Raises
    ------
    DataError
        Where a class has fewer images, or groups, than there are folds.

    Examples
    --------
    >>> [(len(train), len(validation)) for train, validation in folds(["cat", "dog"] * 6, 3)]
    [(8, 4), (8, 4), (8, 4)]
    """
    # imported here: scikit-learn takes longer to import than a folder takes to read
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = np.asarray(labels)
    if n_folds < 2:
        raise DataError(f"n_folds is {n_folds}; expected 2 or more")
    _check_counts(labels, groups, n_folds, f"{n_folds} folds")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    made = list(kind(n_folds, shuffle=True, random_state=seed).split(labels, labels, groups))
    # scikit-learn does its best with groups, and says nothing where a class is missing from a side
    for train, validation in made:
        for side in (train, validation):
            absent = np.setdiff1d(labels, labels[side])
            if len(absent):
                raise DataError(
                    f"class {str(absent[0])!r} can't be in every fold with these groups; "
                    "use fewer folds"
                )
    return made


def _labels_of(samples: Samples) -> np.ndarray:
    if samples.labels is None:
        raise DataError(f"{samples.name} has no labels: expected one for each image")
    return samples.labels


def _place(keys: Sequence | np.ndarray, seed: int) -> np.ndarray:
    """(n,) float in [0, 1) that each key has under this seed, whatever the others are."""
    places = [
        int.from_bytes(hashlib.blake2b(f"{seed}|{key}".encode(), digest_size=8).digest())
        for key in map(_text, keys)
    ]
    return np.array(places, np.uint64) / 2.0**64


def _text(key: object) -> str:
    return as_utf8(str(key))


def _bounds(count: int, fraction: float) -> tuple[int, int]:
    """How many of so many may be held out: the fraction give or take chance, never none or all."""
    slack = max(1.0, DEVIATIONS * math.sqrt(fraction * (1 - fraction) * count))
    low = math.ceil(fraction * count - slack)
    high = math.floor(min(fraction * count + slack, MOST * fraction * count))
    if count < SMALL:
        high = min(high, math.floor(fraction * count * 4 / 3))
    return max(low, 1), min(max(high, 1), count - 1)


def _draw_images(labels: np.ndarray, place: np.ndarray, fraction: float) -> np.ndarray:
    """(n,) bool: which images are held out: the fraction of all that is placed lowest.

    Only where a class would have too few or too many by that are the nearest to it moved, so that
    what is added, removed or given another label hardly moves any other image.
    """
    is_test = np.zeros(len(labels), bool)
    is_test[np.argsort(place, kind="stable")[: round(fraction * len(labels))]] = True
    for name in np.unique(labels):
        rows = np.flatnonzero(labels == name)
        rows = rows[np.argsort(place[rows], kind="stable")]
        count = np.clip(is_test[rows].sum(), *_bounds(len(rows), fraction))
        is_test[rows] = np.arange(len(rows)) < count
    return is_test


def _draw_groups(
    labels: np.ndarray, groups: Sequence | np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """(n,) bool: which images are held out, whole groups of them: the fraction placed lowest.

    Of classes that have too few or too many by that, the groups nearest to it change sides where
    this brings the classes together nearer to it; then a side that lacks a class is given its
    nearest group that can be spared.
    """
    kinds, group_of = np.unique(np.asarray(groups), return_inverse=True)
    names, class_of = np.unique(labels, return_inverse=True)
    # what portion of each class a group holds, (groups, classes): rare classes count like others
    portions = np.zeros((len(kinds), len(names)))
    np.add.at(portions, (group_of, class_of), 1)
    sizes = portions.sum(0)
    portions /= sizes
    place = _place(kinds.tolist(), seed)
    in_test = np.zeros(len(kinds), bool)
    order = np.argsort(place, kind="stable")
    # a group that lies across the end is in where the larger part of it is
    middles = np.cumsum(np.bincount(group_of)[order]) - np.bincount(group_of)[order] / 2
    in_test[order[middles < round(fraction * len(labels))]] = True
    # as of images: of few large groups chance makes more of a difference
    chance = np.sqrt(fraction * (1 - fraction) * np.square(portions).sum(0))
    slack = np.maximum(1 / sizes, np.minimum(DEVIATIONS * chance, (MOST - 1) * fraction))
    share = portions[in_test].sum(0)
    for group in np.argsort(np.abs(place - fraction), kind="stable"):
        beyond = np.maximum(np.abs(share - fraction) - slack, 0)
        if not beyond.any():
            break
        moved = share + (portions[group] if not in_test[group] else -portions[group])
        if np.maximum(np.abs(moved - fraction) - slack, 0).sum() < beyond.sum():
            share, in_test[group] = moved, not in_test[group]
    for side in (True, False):
        _fill(in_test, side, portions, names, order if side else order[::-1])
    return in_test[group_of]


def _fill(
    in_test: np.ndarray, side: bool, portions: np.ndarray, names: np.ndarray, order: np.ndarray
) -> None:
    """Move groups to the side, in place, until it has every class."""
    for missing in np.flatnonzero(portions[in_test == side].sum(0) == 0):
        for group in order:
            if portions[group, missing] == 0 or in_test[group] == side:
                continue
            in_test[group] = side
            other_has_all = portions[in_test != side].sum(0).all()
            if other_has_all:
                break
            in_test[group] = not side
        else:
            raise DataError(
                f"class {str(names[missing])!r} can't be on both sides with these groups; "
                "give a test part yourself"
            )


def _check_counts(
    labels: np.ndarray, groups: Sequence | np.ndarray | None, needed: int, purpose: str
) -> None:
    """Every class has at least `needed` images, or groups where these are given."""
    groups_shape = () if groups is None else np.asarray(groups).shape
    if labels.ndim != 1 or (groups is not None and groups_shape != labels.shape):
        raise DataError(
            f"labels {labels.shape} and groups {groups_shape}; expected one of each per image"
        )
    if groups is None:
        unit = "image"
        unit_of = np.arange(len(labels))
    else:
        unit = "group"
        unit_of = np.unique(np.asarray(groups), return_inverse=True)[1]
    for name in np.unique(labels):
        count = len(np.unique(unit_of[labels == name]))
        if count < needed:
            plural = "" if count == 1 else "s"
            raise DataError(
                f"class {str(name)!r} has {count} {unit}{plural}; {purpose} need {needed}"
            )
