"""Tests of pipelines/exploration/maps.py: neighbours stay neighbours, and no set is too odd."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from pipelines.exploration.maps import even_order, map_images


def clusters(n_each=20, n=4, width=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n), n_each)
    return 8 * rng.normal(size=(n, width))[labels] + rng.normal(size=(len(labels), width)), labels


def test_images_of_one_kind_lie_together():
    features, labels = clusters()
    places = map_images(features).places
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()


def test_the_same_seed_gives_the_same_places_with_any_number_of_threads():
    features, _ = clusters(n_each=60, width=300)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(map_images(features, seed=3).places)
    assert np.array_equal(*found)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 10, 40])
@pytest.mark.parametrize("width", [1, 2, 60])
def test_few_images_and_few_features_have_places(n, width):
    places = map_images(np.random.default_rng(0).normal(size=(n, width))).places
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()
    assert n < 3 or len(np.unique(places, axis=0)) == n


@pytest.mark.parametrize("scale", [0, 1, 1e-30, 1e30])
def test_images_that_are_all_alike_lie_in_one_place(scale):
    found = map_images(np.full((30, 8), scale, np.float32))
    assert not found.places.any()
    assert "principal components" in found.method


def test_half_of_the_images_may_be_alike():
    features = np.vstack([np.ones((15, 8)), np.random.default_rng(0).normal(size=(15, 8))])
    assert np.isfinite(map_images(features).places).all()


def test_the_method_says_what_was_done():
    assert map_images(clusters(n_each=4)[0]).method == (
        "t-SNE of 16 principal components, perplexity 5, 400 steps"
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_beginning_of_an_even_order_holds_each_stratum_by_its_share(seed):
    strata = np.random.default_rng(seed).permutation(np.repeat(["a", "b", "c"], [700, 250, 3]))
    order = even_order(strata, seed)
    assert sorted(order) == list(range(len(strata)))
    for n in (3, 10, 95, 400):
        counts = np.array([np.sum(strata[order[:n]] == name) for name in "abc"])
        assert (np.abs(counts - n * np.array([700, 250, 3]) / len(strata)) < 2).all()
        assert counts.min() >= 1
    assert not np.array_equal(order, even_order(strata, seed + 1))
