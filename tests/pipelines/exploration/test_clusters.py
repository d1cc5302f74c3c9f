"""Tests of pipelines/exploration/clusters.py: made groups are found, and their number with them."""

import numpy as np
import pytest

from pipelines.exploration.clusters import (
    Stability,
    choose_number,
    find_clusters,
    find_dense,
    find_places,
    has_groups,
    measure_stability,
    numbers_to_try,
)


def make_groups(n_groups, each=30, spread=0.15, seed=0):
    """(places, group) of points around the corners of a simplex."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), each)
    return np.eye(n_groups)[group] + rng.normal(0, spread, (len(group), n_groups)), group


def test_groups_are_found_and_numbered_by_size():
    places, group = make_groups(3)
    rows = np.r_[0:30, 30:60, 60:70]  # the last has ten
    found = find_clusters(places[rows], 3)
    assert np.bincount(found).tolist() == [30, 30, 10]
    assert set(found[60:]) == {2}
    assert len({(a, b) for a, b in zip(found, group[rows], strict=True)}) == 3


def test_there_are_no_more_clusters_than_images_that_differ():
    places = np.repeat([[0.0], [1.0]], 5, axis=0)
    assert find_clusters(places, 7).max() == 1
    assert find_clusters(places[:1], 3).tolist() == [0]


@pytest.mark.parametrize("n_groups", [3, 6])
def test_the_number_of_groups_is_the_most_stable_one(n_groups):
    places, _ = make_groups(n_groups, each=20)
    found = measure_stability(places, [n_groups - 1, n_groups, n_groups + 1])
    assert choose_number(found) == n_groups
    assert found[1].agreement > 0.95
    assert has_groups(found)


def test_a_cloud_without_groups_agrees_no_more_than_its_reference():
    cloud = np.random.default_rng(1).normal(size=(200, 5))
    for own in measure_stability(cloud, [2, 6]):
        assert abs(own.agreement - own.reference) < 0.25


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ([], 1),
        ([(2, 0.9, 0.02, 0.5), (3, 0.9, 0.02, 0.5)], 3),  # as stable
        ([(2, 0.9, 0.02, 0.5), (3, 0.89, 0.02, 0.5), (4, 0.87, 0.02, 0.5)], 3),
        ([(2, 0.97, 0.0, 0.96), (3, 0.8, 0.0, 0.3)], 3),  # two clusters of a cloud come again too
        ([(2, 1.0, 0.0, 1.0), (3, 1.0, 0.0, 1.0)], 3),  # images all alike
    ],
)
def test_the_largest_of_the_most_stable_numbers_is_taken(rows, number):
    assert choose_number([Stability(*row, excess=3.0) for row in rows]) == number


def test_noise_is_not_told_as_groups():
    """By the error of their own agreement all three of these would be."""
    for seed in (2, 3, 10):
        cloud = np.random.default_rng(seed).normal(size=(40, 8))
        found = measure_stability(cloud, [3], seed)
        assert found[0].corrected > 2 * found[0].corrected_error
        assert not has_groups(found)


def test_clusters_repeat_with_their_seed():
    places, _ = make_groups(4, spread=0.4)
    assert measure_stability(places, [5], 7) == measure_stability(places, [5], 7)
    assert find_clusters(places, 5, 2).tolist() == find_clusters(places, 5, 2).tolist()


@pytest.mark.parametrize(("n", "numbers"), [(3, []), (4, [2]), (100, [2, 3, 4, 5, 6, 7, 8, 9, 10])])
def test_numbers_grow_with_the_images(n, numbers):
    assert numbers_to_try(n) == numbers
    assert max(numbers_to_try(10_000)) <= 30


def test_density_leaves_strangers_out():
    places, group = make_groups(3, spread=0.02)
    strangers = 5 + 3 * np.eye(3)
    found = find_dense(np.vstack([places[:80], strangers]))
    assert found[-3:].tolist() == [-1, -1, -1]
    assert len({*zip(found[:80].tolist(), group[:80].tolist(), strict=True)}) == 3
    assert np.bincount(found[:80]).tolist() == [30, 30, 20]
    assert find_dense(places[:9]).tolist() == [-1] * 9  # too few for two clusters of five


def test_strong_channels_do_not_drown_the_others():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 40)
    weak = np.where(group[:, None] == np.arange(2), 4.0, 0.0) + rng.uniform(0, 0.5, (80, 2))
    strong = rng.uniform(0, 40, (80, 1))
    found = find_clusters(find_places(np.hstack([weak, strong])), 2)
    assert len({*zip(found.tolist(), group.tolist(), strict=True)}) == 2


def test_places_of_one_image_and_of_images_all_alike():
    assert find_places(np.ones((1, 4))).tolist() == [[0.0]]
    places = find_places(np.ones((5, 4)))
    assert np.allclose(places, 0)
    assert find_clusters(places, 3).tolist() == [0] * 5
