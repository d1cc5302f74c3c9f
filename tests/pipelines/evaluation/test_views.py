"""A first look says which views lower the log loss of a blend enough to be worth a pass."""

import numpy as np
import pytest

from pipelines.evaluation.views import LOOK, WORTH, choose_views, draw_look

LABELS = np.repeat([*"abc"], 40)


def features_of(strength, seed):
    """(120, 20) noise around a class mean as far from the others as `strength`."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(seed + 100).normal(size=(3, 20))
    return strength * np.repeat(means, 40, axis=0) + rng.normal(size=(120, 20))


def seen(*arrays, views):
    return choose_views(lambda source: arrays[source], views, LABELS)


def test_a_view_that_knows_more_is_used():
    found = seen(features_of(0.3, 0), features_of(0.5, 1), views=["plain", "whole"])
    assert found.used == ("plain", "whole")
    assert found.gains["whole"] > 0.2
    assert found.looked_at == 120
    assert found.left_out == {}


@pytest.mark.parametrize("other", ["noise", "same"])
def test_a_view_that_says_nothing_new_is_left_out(other):
    plain = features_of(0.4, 0)
    further = plain if other == "same" else np.random.default_rng(5).normal(size=(120, 20))
    found = seen(plain, further, views=["plain", "flipped"])
    assert found.used == ("plain",)
    assert found.gains["flipped"] == found.left_out["flipped"] < WORTH


def test_of_two_alike_one_is_used():
    further = features_of(0.5, 1)
    found = seen(features_of(0.3, 0), further, further, views=["plain", "flipped", "whole"])
    assert found.used == ("plain", "flipped")
    assert found.left_out["whole"] < WORTH


def test_taps_of_a_view_are_taken_together():
    arrays = [features_of(0.2, 0), features_of(0.3, 1), features_of(0.2, 2), features_of(0.6, 3)]
    found = seen(*arrays, views=["plain", "plain", "whole", "whole"])
    alone = seen(arrays[1], arrays[3], views=["plain", "whole"])
    assert found.gains["whole"] == pytest.approx(alone.gains["whole"], abs=0.15)


def test_a_look_takes_of_every_class_its_share():
    labels = np.array(["many"] * 900 + ["few"] * 100)
    rows = np.arange(0, 1000, 2)
    look = draw_look(labels, rows, seed=0)
    assert len(look) == LOOK
    assert set(look) <= set(rows)
    assert np.all(np.diff(look) > 0)
    assert abs((labels[look] == "few").sum() - 20) <= 1
    assert not np.array_equal(look, draw_look(labels, rows, seed=1))


def test_few_images_are_all_looked_at():
    rows = np.arange(7, 7 + LOOK + 10)
    assert np.array_equal(draw_look(np.repeat("a", 500), rows, seed=0), rows)
