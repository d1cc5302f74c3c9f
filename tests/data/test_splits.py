"""Hold-out and folds: stratified, seeded, no group on two sides, every class on both."""

import numpy as np
import pytest

from data import DataError, Samples, folds, hold_out, make_folds, split_rows
from data.splits import refuse_shared_groups

TRIALS, MANY = 40, 2000  # draws of which it is counted how many images move
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
        # the quarter of each class, give or take what chance does
        counts = [(LABELS[test] == name).sum() for name in "abc"]
        if groups is None:
            assert all(
                abs(a - b) <= c for a, b, c in zip(counts, (10, 5, 2), (8, 5, 2), strict=True)
            )
            assert 16 <= len(test) <= 18
        else:
            assert not set(groups[train]) & set(groups[test])
            assert 8 <= len(test) <= 28


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
    assert abs(len(hold_out(LABELS, fraction=fraction)[1]) - expected) <= 1
    assert abs(len(hold_out(LABELS, GROUPS, fraction)[1]) - expected) <= 12


def sides(labels, keys, groups=None):
    """{key: whether it is held out}."""
    _, test = hold_out(labels, groups, keys=keys)
    held = set(test.tolist())
    return {key: row in held for row, key in enumerate(keys)}


def moved(before, after):
    return sum(before[key] != after[key] for key in before.keys() & after.keys())


def moved_by_chance(trials, classes, per_group=1):
    """Units (images, or groups of one class) moved over many draws of 200 images -> for each of
    "relabelled", "added" and "removed" an array of counts, the relabelled unit itself left out."""
    rng = np.random.default_rng(classes)
    found = {"relabelled": [], "added": [], "removed": []}
    for trial in range(trials):
        labels = np.sort(np.arange(200) % classes)
        unit = np.array([f"{trial}/{i // per_group}" for i in range(200)])
        keys = [f"{trial}: {i}" for i in range(200)]

        def held(labels, keys, unit):
            _, test = hold_out(labels, None if per_group == 1 else unit, keys=keys)
            return dict(zip(unit, np.isin(np.arange(len(unit)), test), strict=True))

        before = held(labels, keys, unit)
        mended, one = labels.copy(), rng.integers(200)
        mended[one] = (mended[one] + rng.integers(1, classes)) % classes
        after = held(mended, keys, unit)
        found["relabelled"].append(moved(before, after) - (before[unit[one]] != after[unit[one]]))
        more = np.array([f"{trial}/new {i // per_group}" for i in range(10)])
        added = np.append(labels, np.arange(10) // per_group % classes)
        after = held(added, [*keys, *(f"{trial}: new {i}" for i in range(10))], [*unit, *more])
        found["added"].append(moved(before, after))
        rows = np.flatnonzero(~np.isin(unit, rng.choice(np.unique(unit), 10 // per_group, False)))
        after = held(labels[rows], [keys[row] for row in rows], unit[rows])
        found["removed"].append(moved(before, after))
    return {name: np.array(counts) for name, counts in found.items()}


@pytest.mark.parametrize(
    ("trials", "classes"),
    [
        *((TRIALS, classes) for classes in (2, 4, 10)),
        *(pytest.param(MANY, classes, marks=pytest.mark.slow) for classes in (2, 4, 10)),
    ],
)
def test_a_mended_label_and_new_images_move_hardly_any_image(trials, classes):
    found = moved_by_chance(trials, classes)
    assert max(found["relabelled"]) <= (1 if trials == TRIALS else 2)
    assert (found["relabelled"] > 1).mean() <= 0.001
    assert (found["relabelled"] > 0).mean() <= 0.02
    # how many of ten lie below the line is binomial: 2 % of draws are 3 or more beyond the mean
    for kind in ("added", "removed"):
        assert (found[kind] > 3).mean() <= 0.05
        assert max(found[kind]) <= 6


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_of_groups_hardly_any_other_moves(classes):
    found = moved_by_chance(TRIALS, classes, per_group=3)
    assert (found["relabelled"] > 1).mean() <= 0.02
    assert max(found["relabelled"]) <= 2
    assert (found["added"] > 3).mean() <= 0.04
    assert (found["removed"] > 3).mean() <= 0.04


@pytest.mark.parametrize("groups", [1, 3])
def test_no_class_is_held_out_by_more_than_half(groups):
    for trial in range(TRIALS):
        labels = np.sort(np.arange(200) % 10)
        unit = [f"{trial}/{i // groups}" for i in range(200)]
        _, test = hold_out(labels, None if groups == 1 else unit, keys=unit)
        held = np.bincount(labels[test], minlength=10)
        assert held.min() >= 1
        assert held.max() <= (10 if groups == 1 else 13)


def test_the_order_of_the_images_means_nothing():
    rng = np.random.default_rng(0)
    keys = [f"image {i}" for i in range(68)]
    order = rng.permutation(68)
    shuffled = sides(LABELS[order], [keys[i] for i in order])
    assert shuffled == sides(LABELS, keys)
    by_group = sides(LABELS[order], [keys[i] for i in order], GROUPS[order])
    assert by_group == sides(LABELS, keys, GROUPS)


def test_a_group_stays_where_it_is_when_others_come():
    keys = [f"image {i}" for i in range(68)]
    before = sides(LABELS, keys, GROUPS)
    more = [*keys, *(f"new {i}" for i in range(8))]
    after = sides([*LABELS, *"aabbccab"], more, [*GROUPS, *(f"h{i // 2}" for i in range(8))])
    assert moved(before, after) <= 4


def test_keys_may_be_of_any_kind():
    for keys in (range(68), [b"%d" % i for i in range(68)], [f"caf\udce9 {i}" for i in range(68)]):
        assert len(hold_out(LABELS, keys=keys)[1]) in (16, 17, 18)


def test_a_class_of_two_is_on_both_sides():
    train, test = hold_out(["a"] * 9 + ["b"] * 2)
    assert {len(train), len(test)} == {8, 3}


def test_a_small_class_keeps_what_it_trains_on():
    labels = np.array(["many"] * 200 + ["few"] * 4)
    for seed in range(50):
        _, test = hold_out(labels, seed=seed)
        assert (labels[test] == "few").sum() == 1


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


def samples(**fields):
    return Samples([f"{i}.jpg" for i in range(68)], labels=LABELS, **fields)


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["images", "groups"])
def test_without_a_split_a_quarter_is_held_out(groups):
    for got, expected in zip(
        split_rows(samples(groups=groups), 3),
        hold_out(LABELS, groups, 0.25, 3, samples().paths),
        strict=True,
    ):
        assert got.tolist() == expected.tolist()


def test_a_given_split_is_taken_whatever_the_seed():
    given = np.resize(["train", "test", "train"], 68)
    for seed in range(3):
        train, test = split_rows(samples(split=given), seed)
        assert train.tolist() == np.flatnonzero(given == "train").tolist()
        assert test.tolist() == np.flatnonzero(given == "test").tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": ["train"] * 68}, "images has a split without test images: expected both parts"),
        ({"split": ["test"] * 68}, "images has a split without training images"),
        (
            {"split": ["train"] * 34 + ["test"] * 34, "groups": GROUPS},
            "17 groups, 'g0' among them, have images in both train and test",
        ),
    ],
)
def test_given_splits_that_can_not_be_used(fields, message):
    with pytest.raises(DataError, match=message):
        split_rows(samples(**fields), 0)


def test_a_group_on_both_sides_is_refused():
    every = samples(groups=GROUPS)
    refuse_shared_groups(every, *split_rows(every, 0))
    refuse_shared_groups(samples(), np.arange(40), np.arange(30, 68))
    with pytest.raises(DataError, match="'g3' among them"):
        refuse_shared_groups(every, np.array([3]), np.array([20]))


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["images", "groups"])
def test_folds_of_the_training_rows_are_places_in_them(groups):
    every = samples(groups=groups)
    train, _ = split_rows(every, 0)
    made = make_folds(every, train, 3, seed=1)
    own = None if groups is None else groups[train]
    for got, expected in zip(made, folds(LABELS[train], 3, own, seed=1), strict=True):
        assert [side.tolist() for side in got] == [side.tolist() for side in expected]


@pytest.mark.parametrize("split", [None, ["train", "test"]])
def test_images_without_labels_have_no_folds(split):
    unlabelled = Samples(["a.jpg", "b.jpg"], split=split, name="mine")
    with pytest.raises(DataError, match="mine has no labels: expected one for each image"):
        make_folds(unlabelled, *split_rows(unlabelled, 0), seed=0)
