"""Features brought from one place to another."""

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power

from heads.alignment import ALIGNMENTS, align_subspaces, coral, standardise


@pytest.fixture
def places():
    """60 and 50 rows of 8 features, moved, turned and scaled against each other."""
    random = np.random.default_rng(0)
    source = random.normal(size=(60, 8)) @ random.normal(size=(8, 8))
    return source, random.normal(size=(50, 8)) @ random.normal(size=(8, 8)) + 5


def test_coral_is_that_of_the_whole_matrices(places):
    source, target = places
    mean, scale = source.mean(0), source.std(0)
    rows, others = (source - mean) / scale, (target - target.mean(0)) / scale
    covariances = [np.cov(own.T) + np.eye(8) for own in (rows, others)]
    expected = rows @ fractional_matrix_power(covariances[0], -0.5)
    expected = expected @ fractional_matrix_power(covariances[1], 0.5)
    aligned = coral(source, target)
    np.testing.assert_allclose(aligned.source, expected, atol=1e-9)
    np.testing.assert_allclose(aligned.target(target), others, atol=1e-12)


def test_coral_of_more_features_than_rows():
    random = np.random.default_rng(1)
    source, target = random.normal(size=(12, 40)), random.normal(2, 3, size=(9, 40))
    mean, scale = source.mean(0), source.std(0)
    rows, others = (source - mean) / scale, (target - target.mean(0)) / scale
    covariances = [np.cov(own.T) + np.eye(40) for own in (rows, others)]
    expected = rows @ fractional_matrix_power(covariances[0], -0.5)
    expected = expected @ fractional_matrix_power(covariances[1], 0.5)
    np.testing.assert_allclose(coral(source, target).source, expected, atol=1e-8)


def test_standardised_places_have_the_same_moments(places):
    aligned = standardise(*places)
    for rows in (aligned.source, aligned.target(places[1])):
        np.testing.assert_allclose(rows.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(rows.std(0), 1)


def test_subspaces_of_one_place_are_its_own_components():
    rows = np.random.default_rng(2).normal(size=(40, 30))
    aligned = align_subspaces(rows, rows)
    np.testing.assert_allclose(aligned.source, aligned.target(rows), atol=1e-9)
    assert aligned.source.shape == (40, 20)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_a_head_that_moved_away_answers_again(name):
    """Two classes along one feature; in the other place all is moved and one scale is another's."""
    random = np.random.default_rng(3)
    labels = np.arange(200) % 2
    source = random.normal(size=(200, 6)) * [1, 1, 1, 1, 1, 2] + 4 * labels[:, None] * np.eye(6)[0]
    target = (source + 0.1 * random.normal(size=(200, 6))) * [3, 1, 1, 1, 1, 1] - 30

    def right(rows, others):
        centres = [rows[labels == own].mean(0) for own in (0, 1)]
        found = np.linalg.norm(others - centres[0], axis=1) > np.linalg.norm(
            others - centres[1], axis=1
        )
        return (found == labels).mean()

    aligned = ALIGNMENTS[name](source, target)
    assert right(source, target) == 0.5
    assert right(aligned.source, aligned.target(target)) > 0.9


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_features_that_stand_still_and_few_rows_are_no_trouble(name):
    random = np.random.default_rng(4)
    source, target = random.normal(size=(3, 5)), random.normal(size=(2, 5))
    source[:, 0] = target[:, 1] = 7
    aligned = ALIGNMENTS[name](source, target)
    new = aligned.target(random.normal(size=(4, 5)))
    assert np.isfinite(aligned.source).all()
    assert np.isfinite(new).all()
    assert new.shape == (4, aligned.source.shape[1])
