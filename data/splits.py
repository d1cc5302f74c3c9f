"""Which images train and which test: hold-out and folds, by class, never splitting a group."""

from collections.abc import Sequence

import numpy as np

from data.samples import DataError, Samples


def split_rows(
    samples: Samples, seed: int, fraction: float = 0.25
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
        return hold_out(_labels_of(samples), samples.groups, fraction, seed)
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
            f"{len(shared)} groups, {shared[0]!r} among them, have images in both train and test: "
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
) -> tuple[np.ndarray, np.ndarray]:
    """Hold some images out for testing, stratified by class.

    Parameters
    ----------
    labels : array of shape (n,)
        Class names.
    groups : array of shape (n,), optional
        All images of a group land on the same side.
    fraction : float, default=0.25
        About what share of every class is held out; above 0 and below 1.
    seed : int, default=0
        Of the draw.

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
    >>> train, test = hold_out(["cat"] * 8 + ["dog"] * 4)
    >>> len(train), len(test)
    (9, 3)
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction is {fraction}; expected a number between 0 and 1")
    labels = np.asarray(labels)
    _check_counts(labels, groups, 2, "a train and a test part")
    rng = np.random.default_rng(seed)
    if groups is None:
        is_test = _draw_images(labels, fraction, rng)
    else:
        is_test = _draw_groups(labels, groups, fraction, rng)
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


def _draw_images(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) bool: which images are held out, the fraction of each class but never none or all."""
    is_test = np.zeros(len(labels), bool)
    for name in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == name))
        count = np.clip(round(fraction * len(rows)), 1, len(rows) - 1)
        is_test[rows[:count]] = True
    return is_test


def _draw_groups(
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    fraction: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(n,) bool: which images are held out, whole groups of them.

    Groups, shuffled and large ones first, go to the test side where that brings the classes nearer
    to `fraction`; then a side that lacks a class is given its smallest group that can be spared.
    """
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    names, class_of = np.unique(labels, return_inverse=True)
    # what portion of each class a group holds, (groups, classes): rare classes count like others
    portions = np.zeros((group_of.max() + 1, class_of.max() + 1))
    np.add.at(portions, (group_of, class_of), 1)
    portions /= portions.sum(0)
    order = rng.permutation(len(portions))
    # stable: groups of one size stay shuffled
    order = order[np.argsort(-portions[order].sum(1), kind="stable")]
    in_test = np.zeros(len(portions), bool)
    for group in order:
        gap = fraction - portions[in_test].sum(0)
        in_test[group] = np.square(gap - portions[group]).sum() < np.square(gap).sum()
    for side in (True, False):
        _fill(in_test, side, portions, names, order[::-1])
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
