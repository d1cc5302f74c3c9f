"""The channel that decides is the one that is found to be used most."""

import doctest

import numpy as np
import pytest
from scipy.stats import f_oneway

from heads import HEADS, make_head
from pipelines.evaluation import channels
from pipelines.evaluation.channels import by_channel, channel_use, f_statistic


@pytest.fixture
def task():
    """60 images of three classes, five channels in two cells each: the fourth alone tells."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 20)
    features = rng.normal(size=(60, 10))
    features[:, 6:8] += 3 * np.repeat([0, 1, 2], 20)[:, None]
    return features, labels


@pytest.mark.parametrize("name", HEADS)
def test_the_channel_that_tells_is_used_most(task, name):
    features, labels = task
    use, by = channel_use(make_head(name).fit(features, labels), features, labels, 5)
    assert use.argmax() == 3
    assert by == ("weights" if HEADS[name].is_linear else "differences")
    assert use.shape == (5,)
    if by == "weights":
        assert use.sum() == pytest.approx(1)


def test_of_joined_features_the_layers_own_columns_count(task):
    features, labels = task
    joined = np.hstack([10 * features, features])
    head = make_head("logistic").fit(joined, labels)
    use, _ = channel_use(head, joined, labels, 5, columns=slice(10, 20))
    assert use.argmax() == 3


def test_a_scale_of_ones_own_does_not_change_the_use(task):
    features, labels = task
    scale = np.repeat([1, 100, 1, 0.01, 1], 2)
    own, other = (
        channel_use(make_head("logistic").fit(X, labels), X, labels, 5)[0]
        for X in (features, features * scale)
    )
    np.testing.assert_allclose(own, other, rtol=1e-3)


def test_two_poolings_of_a_channel_are_side_by_side():
    average, most = np.arange(6).reshape(2, 3), np.arange(10, 16).reshape(2, 3)
    found = by_channel(np.hstack([average, most]), 3, n_parts=2)
    np.testing.assert_array_equal(found, np.stack([average, most], axis=2))


def test_the_statistic_is_scipys(task):
    features, labels = task
    expected = f_oneway(*(features[labels == name] for name in "abc")).statistic
    np.testing.assert_allclose(f_statistic(features, labels), expected)


def test_what_never_varies_tells_nothing():
    assert f_statistic(np.ones((6, 2)), np.array([0, 0, 1, 1, 2, 2])).tolist() == [0, 0]
    assert f_statistic(np.ones((3, 1)), np.zeros(3)).tolist() == [0]


def test_its_examples_run():
    assert doctest.testmod(channels).failed == 0
