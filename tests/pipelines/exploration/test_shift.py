"""Two sets of images told apart, or not."""

import numpy as np
import pytest

from pipelines.exploration.shift import _interval, find_shift


def drawn(n, m, d=20, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, d)), random.normal(size=(m, d))


def test_of_one_kind_no_more_than_one_in_twenty_differ():
    differing = [find_shift(*drawn(40, 60, seed=seed)).whole.differs for seed in range(100)]
    assert sum(differing) <= 5


def test_more_features_than_images_tell_no_more_apart():
    differing = [find_shift(*drawn(30, 30, 300, seed)).whole.differs for seed in range(40)]
    assert sum(differing) <= 2


def test_what_has_moved_is_told_apart():
    first, second = drawn(80, 60)
    found = find_shift(first, second + 1).whole
    assert found.differs
    assert found.value > 0.95
    assert (found.n_first, found.n_second) == (80, 60)
    assert found.low < found.value < found.high


def test_all_told_apart_has_an_interval_of_some_width():
    first, second = drawn(20, 20)
    found = find_shift(first, second + 50).whole
    assert (found.value, found.high) == (1, 1)
    assert 0.5 < found.low < 1


def test_which_class_moved():
    first, second = drawn(120, 120)
    names = np.array(["ants", "bees", "wasps"])[np.arange(120) % 3]
    second[names == "bees"] += 2
    found = find_shift(first, second, (names, names))
    assert next(iter(found.classes)) == "bees"
    assert [name for name, own in found.classes.items() if own.differs] == ["bees"]


def test_shares_are_of_what_is_predicted_and_few_images_of_a_class_are_not_told_apart():
    first, second = drawn(30, 40)
    found = find_shift(first, second, (["a"] * 27 + ["b"] * 3, ["a"] * 20 + ["b"] * 20))
    assert found.shares == {"a": (0.9, 0.5), "b": (0.1, 0.5)}
    assert list(found.classes) == ["a"]


def test_a_seed_repeats():
    first, second = drawn(30, 40)
    assert find_shift(first, second, seed=3) == find_shift(first, second, seed=3)


def test_intervals_hold_as_often_as_they_say():
    """Of scores of two normal distributions, whose area is known."""
    from scipy.stats import norm, rankdata

    random, n, m = np.random.default_rng(0), 40, 30
    true = norm.cdf(1 / np.sqrt(2))
    held = 0
    for _ in range(300):
        scores = np.concatenate([random.normal(0, 1, n), random.normal(1, 1, m)])
        value = (rankdata(scores)[n:].sum() - m * (m + 1) / 2) / (n * m)
        low, high = _interval(value, n, m, 0.95)
        held += low <= true <= high
    assert 0.91 <= held / 300 <= 0.99


@pytest.mark.parametrize("shapes", [((9, 4), (20, 4)), ((20, 4), (20, 5)), ((20,), (20,))])
def test_what_can_not_be_told_apart_is_refused(shapes):
    with pytest.raises(ValueError, match="10 rows or more each"):
        find_shift(*map(np.zeros, shapes))
