"""Hold-out and folds: stratified, seeded, no group on two sides, every class on both."""

import numpy as np
import pytest

from data import DataError, folds, hold_out

LABELS = np.repeat(["a", "b", "c"], [40, 20, 8])
# four images to a group, and no group within one class only
GROUPS = np.array([f"g{i % 17}" for i in range(68)])
SPLITTERS = {
    "hold_out": lambda **given: [hold_out(**given)],
    "folds": lambda **given: folds(n_folds=4, **given),
}


@pytest.mark.parametrize("split", SPLITTERS.values(), ids=SPLITTERS)
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["images", "groups"])
@pytest.mark.parametrize("seed", range(5))
def test_sides_are_apart_complete_and_stratified(split, groups, seed):
    for train, test in split(labels=LABELS, groups=groups, seed=seed):
        assert sorted([*train, *test]) == list(range(68))
        for side in (train, test):
            assert set(LABELS[side]) == {"a", "b", "c"}
        if groups is None:
            assert [(LABELS[test] == name).sum() for name in "abc"] == [10, 5, 2]
        else:
            assert not set(groups[train]) & set(groups[test])
            assert 12 <= len(test) <= 22


@pytest.mark.parametrize("split", SPLITTERS.values(), ids=SPLITTERS)
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["images", "groups"])
def test_the_seed_decides(split, groups):
    first, again, other = (
        split(labels=LABELS, groups=groups, seed=seed)[0][1].tolist() for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, 7), (0.25, 17), (0.5, 34), (0.9, 61)])
def test_the_fraction_is_met(fraction, expected):
    assert len(hold_out(LABELS, fraction=fraction)[1]) == expected
    assert abs(len(hold_out(LABELS, GROUPS, fraction)[1]) - expected) <= 6


def test_a_class_of_two_is_on_both_sides():
    train, test = hold_out(["a"] * 9 + ["b"] * 2)
    assert {len(train), len(test)} == {8, 3}


def test_a_class_of_two_large_groups_is_on_both_sides():
    labels, groups = ["a"] * 8 + ["b"] * 8, [0] * 4 + [1] * 4 + [2, 3, 4, 5] * 2
    for seed in range(10):
        train, test = hold_out(labels, groups, seed=seed)
        assert {labels[i] for i in train} == {labels[i] for i in test} == {"a", "b"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: hold_out(["a", "a", "b"]),
            "class 'b' has 1 image; a train and a test part need 2",
        ),
        (
            lambda: hold_out(list("aabb"), list("1233")),
            "class 'b' has 1 group; a train and a test part need 2",
        ),
        (lambda: folds(["a"] * 5 + ["b"] * 4), "class 'b' has 4 images; 5 folds need 5"),
        (lambda: folds(list("aabb"), 3, list("1234")), "class 'a' has 2 groups; 3 folds need 3"),
        (lambda: folds(list("aabb"), 1), "n_folds is 1; expected 2 or more"),
        (
            lambda: hold_out(list("aabb"), fraction=1.5),
            "fraction is 1.5; expected a number between 0 and 1",
        ),
        (lambda: hold_out(list("aabb"), list("12")), r"labels \(4,\) and groups \(2,\)"),
    ],
)
def test_too_few(call, message):
    with pytest.raises(DataError, match=message):
        call()
