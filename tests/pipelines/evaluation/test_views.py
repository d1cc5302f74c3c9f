"""A first look says which views lower the log loss of a blend enough to be worth a pass."""

import numpy as np
import pytest

from pipelines.evaluation.views import FIRST, LOOK, WORTH, Look, choose_views, draw_look, look_twice

LABELS = np.repeat([*"abc"], 40)


def features_of(strength, seed):
    """(120, 20) noise around a class mean as far from the others as `strength`."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(seed + 100).normal(size=(3, 20))
    return strength * np.repeat(means, 40, axis=0) + rng.normal(size=(120, 20))


def seen(*arrays, views):
    return choose_views(Look(lambda source: arrays[source], views, LABELS))


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
    assert abs((labels[look] == "few").sum() - LOOK / 10) <= 1
    assert not np.array_equal(look, draw_look(labels, rows, seed=1))


def test_few_images_are_all_looked_at():
    rows = np.arange(7, 7 + LOOK)
    assert np.array_equal(draw_look(np.repeat("a", 500), rows, seed=0), rows)


class Seeing:
    """500 images of three classes in further views of given strengths; what was asked for."""

    def __init__(self, **strengths):
        self.strengths = {"plain": 0.3, **strengths}
        self.labels = np.repeat([*"abcde"], 100)
        self.asked = []

    def __call__(self, rows, further):
        self.asked.append((len(rows), list(further)))
        arrays = [self.of(view)[rows] for view in ("plain", *further)]
        return Look(arrays.__getitem__, ["plain", *further], self.labels[rows])

    def of(self, view):
        rng = np.random.default_rng(sorted(self.strengths).index(view))
        return self.strengths[view] * np.repeat(rng.normal(size=(5, 20)), 100, axis=0) + rng.normal(
            size=(500, 20)
        )

    def choose(self, n=500):
        further = [view for view in self.strengths if view != "plain"]
        return look_twice(self, further, self.labels, np.arange(n) * (500 // n), seed=0)


def test_a_second_look_is_of_the_promising_views_alone():
    seeing = Seeing(flipped=0.0, whole=0.6)
    found = seeing.choose()
    assert seeing.asked == [(FIRST, ["flipped", "whole"]), (LOOK, ["whole"])]
    assert found.used == ("plain", "whole")
    assert set(found.gains) == {"flipped", "whole"}
    assert found.looked_at == LOOK


def test_where_no_view_is_promising_there_is_one_look(monkeypatch):
    monkeypatch.setattr("pipelines.evaluation.views.PROMISING", 1.0)
    seeing = Seeing(flipped=0.0, whole=0.0)
    found = seeing.choose()
    assert seeing.asked == [(FIRST, ["flipped", "whole"])]
    assert found.used == ("plain",)
    assert found.looked_at == FIRST


def test_of_few_images_there_is_one_look_at_all():
    seeing = Seeing(whole=0.6)
    assert seeing.choose(100).used == ("plain", "whole")
    assert seeing.asked == [(100, ["whole"])]


def test_copies_of_an_image_in_its_group_make_no_view_look_good():
    rng = np.random.default_rng(0)
    plain = features_of(0.4, 0)
    labels, twice = LABELS[::2], np.arange(120) // 2  # two copies of each image
    labels = labels[twice]
    own = rng.normal(size=(60, 200))[twice]  # knows each image, and nothing of its class
    arrays = [np.repeat(plain[::2], 2, axis=0) + rng.normal(size=(120, 20)), own]

    def gain(groups):
        return choose_views(Look(arrays.__getitem__, ["plain", "whole"], labels, groups)).gains

    assert gain(None)["whole"] > 0.5
    assert gain(twice)["whole"] < WORTH
