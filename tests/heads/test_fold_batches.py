"""Folds solved together have the solutions of folds solved one by one."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from heads import fold_batches, linear
from heads.fold_batches import CrossValidation, solve_together
from heads.fold_passes import share_grams, share_moments
from heads.linear import PROBLEMS, fit_iterative
from heads.reduction import Fold

ROWS = [{"C": 1e-3}, {"C": 10.0}, {"C": 0.1}]


def folds_of(d, k, n=95, splits=3):
    rng = np.random.default_rng(0)
    y = np.arange(n) % k
    X = rng.normal(size=(k, d))[y] + 1.5 * rng.normal(size=(n, d))
    whole = Fold(X, np.arange(n), np.arange(0))
    folds = [
        Fold(X, *split)
        for split in StratifiedKFold(splits, shuffle=True, random_state=0).split(X, y)
    ]
    share_moments(X, [whole, *folds])
    share_grams(X, [whole, *folds])
    return whole, folds, y


@pytest.mark.parametrize("size", ["few", "two batches", "many batches"])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("d", [20, 200])
@pytest.mark.parametrize("name", PROBLEMS)
def test_folds_together_equal_folds_alone(name, d, k, size, monkeypatch):
    if size == "many batches":
        monkeypatch.setattr(fold_batches, "MANY_ROWS", 0)
        monkeypatch.setattr(fold_batches, "MANY_VALUES", 1000)
    whole, folds, y = folds_of(d, k)
    weights = [np.linspace(1, 2, k)] * 4
    validation = CrossValidation(whole, folds, y, weights)
    spent = solve_together(validation, {name: ROWS}, few=size == "few")
    assert spent[name] > 0
    together = name == "logistic" or d == 200
    for fold in folds:
        assert (name in fold.solved) == together
        if not together:
            continue
        found, (_, others, _) = fold.solved[name], folds_of(d, k)
        alone = next(other for other in others if np.array_equal(other.rows, fold.rows))
        expected = fit_iterative(name)(alone, y[fold.rows[: fold.n]], ROWS, weights[0])
        assert (found.certificate <= linear.TOL).all()
        for i in range(len(ROWS)):
            ours, theirs = (
                fold.others @ coefficients(fold, part, i).T + part.intercept[i]
                for part in (found, expected)
            )
            assert ours == pytest.approx(theirs, abs=1e-3 * np.abs(theirs).max())


def coefficients(fold, found, i):
    """On the columns of `fold.train`."""
    return found.coef[i] @ fold.train if found.by_rows else found.coef[i]


def test_a_fold_that_lacks_a_class_is_left_to_be_fitted_alone():
    whole, folds, y = folds_of(200, 3)
    missing = np.flatnonzero(y > 0)
    short = Fold(whole.X, missing[:60], missing[60:])
    validation = CrossValidation(whole, [short, *folds[1:]], y, [None] * 4)
    solve_together(validation, {"logistic": ROWS})
    assert "logistic" not in short.solved
    assert all("logistic" in fold.solved for fold in folds[1:])
