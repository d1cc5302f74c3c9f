"""Tests of pipelines/exploration/reference.py, on made features."""

import numpy as np
import pytest

from pipelines.exploration import reference as reference_file
from pipelines.exploration.reference import Names, fit_reference


def made(n, seed, d=40, classes=3):
    """Rows like activations behind a ReLU, around a few centres -> rows, class of each."""
    centres = np.abs(np.random.default_rng(0).normal(0, 3, (classes, d)))
    rng = np.random.default_rng(seed)
    of = rng.integers(0, classes, n)
    return np.maximum(centres[of] + rng.normal(0, 1, (n, d)), 0).astype(np.float32), of


def names_of(n):
    paths = np.array([f"{i}.jpg" for i in range(n)], object)
    return Names(paths, np.full(n, "a", object), np.zeros((n, 16), np.uint8))


def folds_of(n, n_folds=5):
    return by_fold(np.arange(n) % n_folds)


def by_fold(of):
    return [(np.flatnonzero(of != fold), np.flatnonzero(of == fold)) for fold in np.unique(of)]


def fitted(features, **how):
    return fit_reference(features, folds_of(len(features)), names_of(len(features)), **how)


@pytest.mark.parametrize("shift", [0, -2])
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_of_images_like_the_training_ones_a_share_is_as_unfamiliar(share, shift):
    """With negative features too, whose rows are not scaled to length one."""
    below = []
    for seed in range(1, 6):
        reference = fitted(made(400, seed)[0] + shift)
        assert reference.unit == (shift == 0)
        below.append(np.mean(reference.familiarity(made(400, 100 + seed)[0] + shift) < share))
    # all training images lie nearer than those of the other folds did: a little fewer, never more
    assert 0.5 * share < np.mean(below) < share + 0.02


def test_strangers_are_less_familiar_than_nearly_all_training_images():
    reference = fitted(made(400, 1)[0])
    strangers = np.abs(np.random.default_rng(9).normal(0, 3, (100, 40))).astype(np.float32)
    assert (reference.familiarity(strangers) < 0.05).mean() > 0.98
    assert reference.familiarity(np.zeros((1, 40), np.float32))[0] < 0.05


def test_what_is_left_off_the_axes_counts():
    """A stranger that differs where the training images never vary lies on none of their axes."""
    known = made(200, 1)[0]
    known[:, -5:] = 0
    reference = fitted(known)
    stranger = known[:20] + np.eye(40, dtype=np.float32)[-1] * 30
    assert (reference.familiarity(stranger) < 0.05).all()


def test_the_nearest_are_those_of_all_distances():
    known, _ = made(300, 1)
    new, _ = made(50, 2)
    reference = fitted(known)
    rows, distances = reference.nearest(new, k=3)
    units = [own / np.linalg.norm(own, axis=1, keepdims=True) for own in (new, known)]
    exact = np.linalg.norm(units[0][:, None] - units[1][None], axis=2)
    np.testing.assert_array_equal(rows, np.argsort(exact, axis=1)[:, :3])
    # float16, and 40 axes of 40
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :3], atol=2e-3)


def test_an_image_alone_has_the_neighbours_that_it_has_among_others(monkeypatch):
    reference = fitted(made(300, 1)[0])
    new = made(50, 2)[0]
    whole = reference.nearest(new)[0]
    monkeypatch.setattr(reference_file, "BLOCK", 300 * 7)
    np.testing.assert_array_equal(reference.nearest(new)[0], whole)
    assert [reference.nearest(new[[i]])[0][0].tolist() for i in range(9)] == whole[:9].tolist()


def test_copies_in_one_fold_do_not_make_new_images_look_strange():
    known = made(200, 1)[0]
    doubled = np.repeat(known[:100], 2, axis=0)
    pairs = by_fold(np.arange(200) // 2 % 5)
    apart = fit_reference(doubled, pairs, names_of(200)).judged
    mixed = fit_reference(doubled, folds_of(200), names_of(200)).judged
    assert np.median(apart) > 1.1 * np.median(mixed)


def test_columns_of_the_classifier_that_are_not_its_own_are_passed_over():
    known, new = made(200, 1)[0], made(50, 2)[0]
    alone, beside = fitted(known), fitted(known, start=7)
    joined = np.hstack([np.full((50, 7), np.nan, np.float32), new, np.full((50, 3), np.nan)])
    np.testing.assert_array_equal(beside.familiarity(joined), alone.familiarity(new))
    with pytest.raises(ValueError, match="expected 47 a row or more"):
        beside.familiarity(new)


def test_more_training_images_keep_the_scale():
    known, more = made(200, 1)[0], made(300, 3)[0]
    first = fitted(known)
    again = first.of_more(np.vstack([known, more]), names_of(500))
    assert len(again) == 500
    np.testing.assert_array_equal(again.judged, first.judged)


@pytest.mark.parametrize(("n", "d"), [(4, 1), (5, 3), (30, 2000), (6000, 4)])
def test_sizes(n, d):
    features = np.abs(np.random.default_rng(0).normal(1, 1, (n, d))).astype(np.float32)
    reference = fit_reference(features, folds_of(n, 2), names_of(n))
    familiarity = reference.familiarity(features)
    assert (familiarity > 0).all()
    assert (familiarity <= 1).all()


def test_wide_features_have_few_axes():
    features = np.abs(np.random.default_rng(0).normal(1, 1, (40, 100_000))).astype(np.float32)
    reference = fit_reference(features, folds_of(40, 2), names_of(40))
    assert reference.axes.nbytes < 3e6


def test_images_that_are_all_the_same():
    reference = fitted(np.ones((20, 5), np.float32))
    assert reference.familiarity(np.ones((1, 5), np.float32)).tolist() == [1.0]
