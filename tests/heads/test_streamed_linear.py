"""Linear heads of all folds by common passes: each reaches the optimum of its own fold."""

import numpy as np
import pytest

from heads import streamed_linear
from heads.blocks import Blocks
from heads.linear import PROBLEMS, fit_iterative
from heads.reduction import Fold
from heads.streamed_folds import StreamedFold, share_moments
from heads.streamed_linear import Part, fit_streamed, score_streamed

GRID = [{"C": C} for C in (1.0, 0.01)]


def searched(in_slices, n=240, d=10, constant=None):
    """Blocks, all rows, two folds of them, and the same in memory.

    constant : a column that does not vary in the first fold.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) * np.geomspace(10, 0.1, d) + rng.normal(size=d)
    codes = (X[:, :3] / X[:, :3].std(axis=0) + rng.normal(size=(n, 3))).argmax(axis=1)
    if constant is not None:
        X[::2, constant] = 1e3
    blocks = Blocks(in_slices(X), 2)
    whole = StreamedFold(blocks, np.arange(n), np.arange(0))
    splits = [(np.arange(0, n, 2), np.arange(1, n, 2)), (np.arange(150), np.arange(150, n))]
    parts = [Part(StreamedFold(blocks, *split), codes, None) for split in splits]
    share_moments(blocks, [whole, *(part.fold for part in parts)])
    return blocks, whole, parts, [Fold(X, *split) for split in splits]


@pytest.mark.parametrize("most", [1 << 24, 1], ids=["together", "one by one"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_each_fold_has_the_coefficients_of_the_fold_in_memory(name, most, in_slices, monkeypatch):
    monkeypatch.setattr(streamed_linear, "MOST_MARGINS", most)
    blocks, whole, parts, folds = searched(in_slices)
    found = fit_streamed(name, blocks, whole, parts, GRID)
    for part, fitted, fold in zip(parts, found, folds, strict=True):
        expected = fit_iterative(name, tol=1e-7)(fold, part.trained_codes, GRID, None)
        assert (fitted.certificate <= 2e-4).all()
        for i in range(len(GRID)):
            coef = fold.coefficients(expected.coef[i], expected.by_rows)
            size = np.linalg.norm(coef)
            assert np.linalg.norm(fitted.coef[i] - coef) <= 1e-3 * size
            assert fitted.intercept[i] == pytest.approx(expected.intercept[i], abs=1e-3 * size)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_column_that_does_not_vary_in_a_fold_counts_for_nothing_there(name, in_slices):
    blocks, whole, parts, _ = searched(in_slices, constant=4)
    found = fit_streamed(name, blocks, whole, parts, GRID)
    assert not found[0].coef[..., 4].any()
    assert found[1].coef[..., 4].all()


def test_held_out_rows_are_scored_in_the_fold_s_order(in_slices):
    blocks, whole, parts, folds = searched(in_slices)
    found = fit_streamed("logistic", blocks, whole, parts, GRID)
    scored = score_streamed(blocks, [part.fold for part in parts], found)
    for fitted, answers, fold in zip(found, scored, folds, strict=True):
        for i, answer in enumerate(answers):
            expected = fold.others @ fitted.coef[i].T + fitted.intercept[i]
            assert answer.scores == pytest.approx(expected, abs=1e-9)
            assert (answer.labels == expected.argmax(axis=1)).all()
