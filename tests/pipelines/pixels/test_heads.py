"""Tests of pipelines/pixels/heads.py: scores of maps are those of the joined activations."""

import numpy as np
import pytest

from pipelines.pixels.grids import enlarge, middles
from pipelines.pixels.heads import PIXEL_HEADS, choose


def made(n_classes, seed=0):
    """Rows (n, 5) of classes with means of their own, from six images, and maps of 2 + 3
    channels."""
    rng = np.random.default_rng(seed)
    y = np.arange(300) % n_classes
    X = (rng.normal(size=(300, 5)) + 2 * rng.normal(size=(n_classes, 5))[y]).astype(np.float32)
    maps = [
        rng.normal(size=(2, 8, 6)).astype(np.float32),
        rng.normal(size=(3, 4, 3)).astype(np.float32),
    ]
    return X, y, np.arange(300) // 50, maps


def fitted(head, X, y, groups):
    return PIXEL_HEADS[head].fit(X, y, choose(X, y, groups, [5], 0), 0)


def joined(maps, height, width):
    """(height * width, channels) of enlarged maps."""
    wide = [enlarge(own, middles(height), middles(width)) for own in maps]
    return np.concatenate(wide).reshape(5, -1).T


@pytest.mark.parametrize("n_classes", [2, 3])
def test_weighing_before_enlarging_gives_what_weighing_after_it_does(n_classes):
    X, y, groups, maps = made(n_classes)
    estimator = fitted("logistic", X, y, groups)
    scores = PIXEL_HEADS["logistic"].score(estimator, maps).at(middles(20), middles(16))
    powers = np.exp(scores - scores.max(axis=0))
    found = (powers / powers.sum(axis=0)).reshape(n_classes, -1).T
    expected = estimator.predict_proba(joined(maps, 20, 16))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_forest_answers_on_the_finest_grid(monkeypatch):
    monkeypatch.setattr("pipelines.pixels.heads.BAND", 12)  # two rows at a time
    X, y, groups, maps = made(3)
    forest = fitted("forest", X, y, groups)
    scores = PIXEL_HEADS["forest"].score(forest, maps).at(middles(8), middles(6))
    expected = forest.predict_proba(joined(maps, 8, 6)).T.reshape(3, 8, 6)
    np.testing.assert_allclose(np.exp(scores), np.maximum(expected, 1e-6), rtol=1e-5)


def test_pixels_of_one_image_are_enough():
    X, y, groups, _ = made(2)
    assert fitted("logistic", X, y, np.zeros_like(groups)).score(X, y) > 0.9


def test_layers_by_which_images_are_known_by_heart_are_left_out():
    """Five channels tell the class, and forty which image it is."""
    X, y, _, _ = made(2)
    groups = np.arange(300) // 5
    own = np.random.default_rng(1).normal(size=(60, 40))[groups]
    wide = np.hstack([X, own]).astype(np.float32)
    noisy = np.where(np.arange(300) % 7 == 0, 1 - y, y)
    assert choose(wide, noisy, groups, [5, 45], 0).end == 5
    assert choose(wide, noisy, groups, [45], 0).end == 45
    useless = np.hstack([own[:, :5], X]).astype(np.float32)
    assert choose(useless, noisy, groups, [5, 10], 0).end == 10
