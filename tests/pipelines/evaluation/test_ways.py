"""Tests of pipelines/evaluation/ways.py."""

import numpy as np
import pytest
from scipy.stats import binomtest

from pipelines.evaluation.scoring import SCORINGS
from pipelines.evaluation.ways import (
    EQUAL,
    Way,
    calibrated,
    choose_share,
    choose_way,
    compare_ways,
    describe_way,
    join,
    parts_of,
)

ACCURACY = SCORINGS["accuracy"]


def shares_of(codes, right, sure=0.9):
    """(n, 2) probabilities, `sure` of the class where it is right, of the other elsewhere."""
    said = np.where(right, codes, 1 - codes)
    found = np.full((len(codes), 2), 1 - sure)
    found[np.arange(len(codes)), said] = sure
    return found


@pytest.fixture
def codes():
    return np.arange(40) % 2


def way(name, codes, n_right, sure=0.9, **cost):
    shares = shares_of(codes, np.arange(len(codes)) < n_right, sure)
    return Way(name, shares, shares, **cost)


def test_parts_hold_each_row_once_and_the_classes_evenly(codes):
    parts = parts_of(codes)
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    assert {tuple(np.bincount(codes[rows])) for rows in parts} == {(4, 4)}


def test_a_group_is_in_one_part_and_the_classes_stay_about_even(codes):
    groups = np.array([f"subject {i}" for i in range(20)])[np.arange(40) % 20]  # two of each class
    parts = parts_of(codes, groups)
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    assert [len(set(groups[rows])) for rows in parts] == [4] * 5
    assert {tuple(np.bincount(codes[rows])) for rows in parts} == {(4, 4)}


def test_two_groups_are_two_parts_and_one_is_parted(codes):
    assert [len(rows) for rows in parts_of(codes, codes)] == [20, 20]
    whole = parts_of(codes, np.zeros(40))
    assert [rows.tolist() for rows in whole] == [rows.tolist() for rows in parts_of(codes)]


def test_no_image_of_a_group_takes_part_in_joining_another_of_it(codes):
    frozen, tuned = shares_of(codes, np.arange(40) < 30), shares_of(codes, np.arange(40) >= 10)
    groups = np.arange(40) // 4
    changed = tuned.copy()
    changed[0] = changed[0][::-1]
    _, before = join(frozen, tuned, codes, groups=groups)
    _, after = join(frozen, changed, codes, groups=groups)
    assert np.array_equal(before[1:4], after[1:4])
    assert not np.array_equal(before[4:], after[4:])


def test_balanced_classes_are_calibrated_as_if_they_came_equally_often():
    """Answers that say nothing are as likely of a class of ten as of one of thirty."""
    codes = np.repeat([0, 1], [30, 10])
    nothing = np.full((40, 2), 0.5)
    assert calibrated(nothing, codes, 2)[:, 0].mean() > 0.7
    balanced = calibrated(nothing, codes, 2, "balanced")
    assert balanced == pytest.approx(np.full((40, 2), 0.5), abs=0.02)
    assert join(nothing, nothing, codes, "balanced")[1] == pytest.approx(balanced)


def test_a_lead_of_chance_leaves_both_half_of_it(codes):
    """One image more of forty is within a standard error; twelve more are not."""
    first = shares_of(codes, np.arange(40) >= 14)
    assert choose_share(first, shares_of(codes, np.arange(40) < 27), codes) == EQUAL
    assert choose_share(first, shares_of(codes, np.arange(40) < 38), codes) > EQUAL


def test_the_better_of_two_has_all_of_the_share(codes):
    right, wrong = (shares_of(codes, np.full(40, own)) for own in (True, False))
    assert choose_share(wrong, right, codes) == 1
    assert choose_share(right, wrong, codes) == 0
    assert choose_share(right, right, codes) == EQUAL


def test_what_errs_elsewhere_is_joined_and_answers_better_than_either(codes):
    first = shares_of(codes, np.arange(40) >= 10)
    second = shares_of(codes, np.arange(40) < 30)
    third = (first + second) / 2
    share, joined = join(first, second, codes)
    assert share == 0.5
    loss = [-np.log(own[np.arange(40), codes]).mean() for own in (first, second, joined)]
    assert loss[2] < min(loss[:2])
    assert np.array_equal(joined.argmax(axis=1), third.argmax(axis=1))


def test_no_image_takes_part_in_its_own_joining(codes):
    """Whatever is answered to some images, the joined answers to others of their part stay."""
    frozen, tuned = shares_of(codes, np.arange(40) < 30), shares_of(codes, np.arange(40) >= 10)
    part = parts_of(codes)[0]
    changed = tuned.copy()
    changed[part[0]] = changed[part[0]][::-1]
    _, before = join(frozen, tuned, codes)
    _, after = join(frozen, changed, codes)
    assert np.array_equal(before[part[1:]], after[part[1:]])


def test_the_best_on_the_validation_images_is_kept_and_of_equals_the_simpler(codes):
    ways = [way("poor", codes, 20), way("blend", codes, 38, n_heads=5), way("one", codes, 38)]
    place, tied = choose_way(ways, codes, ACCURACY)
    assert (ways[place].name, tied.tolist()) == ("one", [False, True, True])


def test_log_loss_chooses_where_accuracy_is_asked_for(codes):
    ways = [way("timid", codes, 38, 0.6), way("sure", codes, 38, 0.95)]
    assert choose_way(ways, codes, ACCURACY)[0] == 1


def test_the_simplest_that_is_not_beaten_is_kept_where_that_is_asked_for(codes):
    ways = [
        way("simple", codes, 37),
        way("blend", codes, 38, n_networks=2, n_heads=5),
        way("poor", codes, 20),
    ]
    assert ways[choose_way(ways, codes, ACCURACY)[0]].name == "blend"
    assert ways[choose_way(ways, codes, ACCURACY, "simplest")[0]].name == "simple"


@pytest.mark.parametrize(("right", "kept"), [(38, "joined"), (37, "joined"), (25, "one")])
def test_what_joins_networks_is_kept_unless_it_is_beaten_beyond_chance(codes, right, kept):
    ways = [
        way("frozen", codes, 38, 0.91, n_networks=2, n_heads=5),  # of two views
        way("one", codes, 38, 0.92, n_weights=1),
        way("joined", codes, right, n_networks=3, n_heads=6, n_weights=1),
    ]
    assert ways[choose_way(ways, codes, ACCURACY)[0]].name == kept


@pytest.mark.parametrize("how", ["best", "simplest"])
def test_what_learnt_nothing_is_not_kept(codes, how):
    """Whatever luck it had with the validation images."""
    ways = [
        way("frozen", codes, 30, n_heads=5),
        way("tuned", codes, 40, n_weights=1, learnt=False),
        way("joined", codes, 40, n_networks=2, n_heads=6, n_weights=1, learnt=False),
    ]
    assert choose_way(ways, codes, ACCURACY, how)[0] == 0


def test_weights_of_its_own_make_a_way_less_simple(codes):
    ways = [way("tuned", codes, 38, n_weights=1), way("one", codes, 37)]
    assert ways[choose_way(ways, codes, ACCURACY, "simplest")[0]].name == "one"


def test_no_test_image_takes_part_in_the_choice(codes):
    first, second = way("a", codes, 38), way("b", codes, 30)
    swapped = [
        Way("a", first.validation, second.test),
        Way("b", second.validation, first.test),
    ]
    chosen = choose_way([first, second], codes, ACCURACY)
    assert chosen[0] == choose_way(swapped, codes, ACCURACY)[0] == 0


def test_differences_are_paired_and_hold_together(codes):
    ways = [way("a", codes, 30), way("b", codes, 34), way("c", codes, 40)]
    found = compare_ways(ways, codes)
    assert [(own["first"], own["second"]) for own in found] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert [own["difference"] for own in found] == pytest.approx([0.1, 0.25, 0.15])
    assert [(own["n_gained"], own["n_lost"]) for own in found] == [(4, 0), (10, 0), (6, 0)]
    assert [own["p_mcnemar"] for own in found] == [2 * 0.5**4, 2 * 0.5**10, 2 * 0.5**6]
    assert {own["level"] for own in found} == {1 - 0.05 / 3}
    assert all(own["low"] < own["difference"] < own["high"] for own in found)


def test_mcnemars_test_is_that_of_a_coin(codes):
    right = np.ones(40, bool)
    first, second = right.copy(), right.copy()
    first[:3], second[3:10] = False, False
    ways = [
        Way(name, shares_of(codes, own), shares_of(codes, own))
        for name, own in (("a", first), ("b", second))
    ]
    (found,) = compare_ways(ways, codes)
    assert (found["n_gained"], found["n_lost"]) == (3, 7)
    assert found["p_mcnemar"] == binomtest(3, 10).pvalue


def test_ways_that_never_differ_have_a_wide_interval_and_no_evidence(codes):
    (found,) = compare_ways([way("a", codes, 40), way("b", codes, 40)], codes)
    assert found["p_mcnemar"] == 1
    assert found["low"] < 0 < found["high"]


def test_a_way_is_told_with_intervals(codes):
    found = describe_way(way("a", codes, 38), codes, codes, ACCURACY, seed=0)
    assert found["validation_accuracy"] == found["validation_score"] == 0.95
    accuracy = found["test_metrics"]["accuracy"]
    assert accuracy["low"] < accuracy["value"] == 0.95 < accuracy["high"]
    loss = -(38 * np.log(0.9) + 2 * np.log(0.1)) / 40
    assert found["validation_log_loss"] == pytest.approx(loss)
