"""Which images train and which test: hold-out and folds, stratified by class, never splitting a group."""

import numpy as np

from data.samples import DataError, Samples


def hold_out(labels, groups=None, fraction=0.25, seed=0):
    """(train, test): sorted indices, about `fraction` of every class on the test side.

    labels   (n,) class names; groups (n,) or None: all images of a group land on the same side
    Every class is on both sides; DataError where one has a single image, or is in a single group.
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction is {fraction}; expected a number between 0 and 1")
    labels = np.asarray(labels)
    _check_counts(labels, groups, 2, "a train and a test part")
    rng = np.random.default_rng(seed)
    is_test = (
        _draw_images(labels, fraction, rng)
        if groups is None
        else _draw_groups(labels, groups, fraction, rng)
    )
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def folds(labels, n_folds=5, groups=None, seed=0):
    """[(train, validation), ...]: sorted indices of shuffled folds, stratified, never splitting a group.

    Every class is on both sides of every fold; DataError where one has fewer images, or groups, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = np.asarray(labels)
    if n_folds < 2:
        raise DataError(f"n_folds is {n_folds}; expected 2 or more")
    _check_counts(labels, groups, n_folds, f"{n_folds} folds")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    parts = list(kind(n_folds, shuffle=True, random_state=seed).split(labels, labels, groups))
    for side in (side for part in parts for side in part):
        absent = np.setdiff1d(labels, labels[side])
        if len(absent):
            raise DataError(
                f"class {str(absent[0])!r} can't be in every fold with these groups; use fewer folds"
            )
    return parts


def split_rows(
    samples: Samples, seed: int, fraction: float = 0.25
) -> tuple[np.ndarray, np.ndarray]:
    """(training rows, test rows): as given, else about `fraction` held out, stratified."""
    if samples.split is None:
        return hold_out(samples.labels, samples.groups, fraction, seed)
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
    """A group on both sides of a given split would make its test figures too good."""
    if samples.groups is None:
        return
    shared = sorted(set(samples.groups[train]) & set(samples.groups[test]))
    if shared:
        raise DataError(
            f"{len(shared)} groups, {shared[0]!r} among them, have images in both train and test: "
            "give each group to one side"
        )


def make_folds(
    samples: Samples, train: np.ndarray, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cross-validation folds of the training rows, as index pairs into them."""
    groups = None if samples.groups is None else samples.groups[train]
    return folds(samples.labels[train], n_folds, groups, seed)


def _draw_images(labels, fraction, rng):
    is_test = np.zeros(len(labels), bool)
    for name in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == name))
        is_test[rows[: np.clip(round(fraction * len(rows)), 1, len(rows) - 1)]] = True
    return is_test


def _draw_groups(labels, groups, fraction, rng):
    """Groups, shuffled and large ones first, go to the test side where that brings the classes nearer to
    `fraction`; then every class that a side lacks is given its smallest group that can be spared."""
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    _, class_of = np.unique(labels, return_inverse=True)
    shares = np.zeros((group_of.max() + 1, class_of.max() + 1))  # of each class's images, by group
    np.add.at(shares, (group_of, class_of), 1)
    shares /= shares.sum(0)
    order = rng.permutation(len(shares))
    order = order[np.argsort(-shares[order].sum(1), kind="stable")]
    in_test = np.zeros(len(shares), bool)
    for group in order:
        gap = fraction - shares[in_test].sum(0)
        in_test[group] = np.square(gap - shares[group]).sum() < np.square(gap).sum()
    for side in (True, False):
        _fill(in_test, side, shares, labels, class_of, order[::-1])
    return in_test[group_of]


def _fill(in_test, side, shares, labels, class_of, order):
    for missing in np.flatnonzero(shares[in_test == side].sum(0) == 0):
        for group in order:
            if shares[group, missing] and in_test[group] != side:
                in_test[group] = side
                if shares[in_test != side].sum(0).all():
                    break
                in_test[group] = not side
        else:
            name = str(labels[class_of == missing][0])
            raise DataError(
                f"class {name!r} can't be on both sides with these groups; give a test part yourself"
            )


def _check_counts(labels, groups, needed, purpose):
    """Every class has at least `needed` images, or groups where these are given."""
    if labels.ndim != 1 or (groups is not None and np.shape(groups) != labels.shape):
        raise DataError(
            f"labels {labels.shape} and groups {np.shape(groups)}; expected one of each per image"
        )
    unit = "image" if groups is None else "group"
    pairs = (
        np.arange(len(labels))
        if groups is None
        else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    for name in np.unique(labels):
        count = len(np.unique(pairs[labels == name]))
        if count < needed:
            raise DataError(
                f"class {str(name)!r} has {count} {unit}{'s' * (count != 1)}; {purpose} need {needed}"
            )
