"""Tests of pipelines/exploration/selection.py: every kind is asked for once, by a typical image."""

import numpy as np
import pytest

from pipelines.exploration import selection
from pipelines.exploration.copies import Copies
from pipelines.exploration.selection import choose_typical, find_askable, find_typicality


def make_kinds(sizes, seed=0):
    """(places, kind) of kinds far apart, with so many images each."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(len(sizes)), sizes)
    return 10 * np.eye(len(sizes))[kind] + rng.normal(0, 0.5, (len(kind), len(sizes))), kind


def test_each_kind_is_asked_for_once_the_largest_first():
    places, kind = make_kinds([40, 10, 25, 3])
    found = choose_typical(places, 4)
    assert kind[found.rows].tolist() == [0, 2, 1, 3]
    assert found.alike.tolist() == [40, 25, 10, 3]


def test_the_image_asked_for_lies_densest():
    places, kind = make_kinds([30, 30])
    for row in choose_typical(places, 2).rows:
        own = np.flatnonzero(kind == kind[row])
        others = np.linalg.norm(places[own][:, None] - places[own], axis=2)
        nearest = np.sort(others, axis=1)[:, 1:21].mean(axis=1)
        assert own[nearest.argmin()] == row


def test_kinds_with_a_label_are_not_asked_for():
    places, kind = make_kinds([20, 20, 20, 20])
    labelled = np.array([0, 25])
    found = choose_typical(places, 2, labelled)
    assert sorted(kind[found.rows].tolist()) == [2, 3]


@pytest.mark.parametrize(("n", "labelled", "expected"), [(0, [], 0), (3, [0, 1], 0), (9, [], 2)])
def test_nothing_more_is_asked_for_than_there_is(n, labelled, expected):
    places = np.array([[0.0, 1.0], [4.0, 1.0]])
    found = choose_typical(places, n, np.array(labelled, int))
    assert len(found.rows) == len(found.alike) == expected


def test_of_images_all_alike_one_is_asked_for():
    assert choose_typical(np.ones((6, 2)), 4).rows.tolist() == [0]


def test_typicality_is_the_same_in_blocks(monkeypatch):
    places, _ = make_kinds([15, 9])
    whole = find_typicality(places, 5)
    monkeypatch.setattr(selection, "BLOCK", 7)
    assert np.allclose(find_typicality(places, 5), whole)
    assert find_typicality(places[:1]).tolist() == [0.0]


def test_of_copies_one_is_askable_and_none_of_what_is_known():
    pairs = [Copies(0, 4, "copy", 1.0), Copies(1, 2, "edited", 1.0), Copies(3, 5, "mirrored", 1.0)]
    found = find_askable(7, pairs, flat=np.array([6]), labelled=np.array([4]))
    assert found.tolist() == [1, 3, 5]  # mirrored pictures are two
