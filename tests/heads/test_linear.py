"""A head's problems: who follows whom, which batch they belong to, and what becomes of them."""

import numpy as np
import pytest

from heads.linear import PROBLEMS, fit_iterative
from heads.reduction import Fold

CODES = np.arange(30) % 3


def test_each_class_of_the_svm_follows_itself_at_the_next_smaller_strength():
    grid = [{"C": 1.0}, {"C": 0.01}, {"C": 0.1}]
    made = PROBLEMS["linear_svm"](CODES, grid, None)
    assert made.problems.follows.tolist() == [6, 7, 8, -1, -1, -1, 3, 4, 5]
    assert made.problems.C.tolist() == [1.0] * 3 + [0.01] * 3 + [0.1] * 3
    assert made.problems.penalize_intercept
    # a class and what it follows are solved in one batch
    follows = made.problems.follows
    assert (made.half[follows >= 0] == made.half[follows[follows >= 0]]).all()


def test_a_part_of_the_problems_follows_its_own_numbers():
    grid = [{"C": 1.0}, {"C": 0.01}, {"C": 0.1}]
    problems = PROBLEMS["linear_svm"](CODES, grid, None).problems
    part = problems.part(np.array([0, 3, 6]))
    assert part.follows.tolist() == [2, -1, 1]
    assert part.C.tolist() == [1.0, 0.01, 0.1]
    assert problems.part(np.array([0, 3])).follows.tolist() == [-1, -1]


@pytest.mark.parametrize("k", [2, 3])
def test_two_classes_have_one_column(k):
    made = PROBLEMS["logistic"](np.arange(30) % k, [{"C": 1.0}], None)
    assert made.problems.loss == ("softmax" if k == 3 else "sigmoid")
    assert made.problems.targets.shape == (1, 3 if k == 3 else 1, 30)


def test_a_start_of_other_columns_is_not_taken():
    X = np.random.default_rng(0).normal(size=(30, 4))
    fold = Fold(X, np.arange(30), np.arange(0))
    expected = fit_iterative("logistic")(fold, CODES, [{"C": 1.0}], None)
    fold.starts[1.0] = np.ones((1, 4)), np.ones(1)
    found = fit_iterative("logistic")(fold, CODES, [{"C": 1.0}], None)
    assert (found.coef == expected.coef).all()
