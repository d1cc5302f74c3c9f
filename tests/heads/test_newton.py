"""Newton's steps over rows read in blocks: to the optimum, in few passes, and no further."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from heads import newton
from heads.bases import Columns
from heads.blocks import Blocks
from heads.solvers import Problems, solve
from heads.streamed_columns import StreamedColumns


@pytest.fixture
def passes(monkeypatch):
    """A list as long as the passes that were taken over rows."""
    taken, over = [], Blocks.over
    monkeypatch.setattr(Blocks, "over", lambda self, work: taken.append(1) or over(self, work))
    return taken


def streamed(X, in_slices):
    wide = X.astype(np.float64)
    return StreamedColumns(
        Blocks(in_slices(X)), wide.mean(axis=0), wide.std(axis=0), np.ones(len(X))
    )


def standardised(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


def with_rare_features(n=1000, d=12, rare=3):
    """Rows of four classes; some that are told surely have a feature each that no other row has."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    margins = X @ rng.normal(size=(d, 4))
    y = (margins + 2 * rng.normal(size=(n, 4))).argmax(axis=1)
    sure = np.argsort(-margins.max(axis=1))[:rare]
    y[sure] = margins[sure].argmax(axis=1)
    own = np.zeros((n, rare))
    own[sure, np.arange(rare)] = 1
    return np.hstack([X, own]), y


def softmax(y, C):
    onehot = np.eye(y.max() + 1)[y].T
    return Problems(
        "softmax",
        np.broadcast_to(onehot, (len(C), *onehot.shape)),
        np.ones((len(C), 1, len(y))),
        np.array(C),
    )


def test_features_that_few_rows_have_cost_few_passes(in_slices, passes):
    """Nonlinear conjugate gradients took 3,000 steps of two passes each."""
    X, y = with_rare_features()
    found = solve(softmax(y, [1.0, 1000.0]), streamed(X, in_slices))
    assert (found.certificate <= 2e-4).all()
    assert found.n_iter.max() <= 15
    assert len(passes) <= 400
    for coef, C in zip(found.coef, [1.0, 1000.0], strict=True):
        known = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12)
        expected = known.fit(standardised(X), y).coef_
        assert np.linalg.norm(coef - expected) <= 2e-4 * np.linalg.norm(expected)


def test_classes_that_a_line_parts_have_an_optimum_too(in_slices):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 5))
    y = (X[:, 0] > 0).astype(float)
    X[:, 0] += y - 0.5
    C = np.array([1e-6, 1e6])
    problems = Problems("sigmoid", np.tile(y, (2, 1, 1)), np.ones((2, 1, 200)), C)
    found = solve(problems, streamed(X, in_slices))
    assert (found.certificate <= 2e-4).all()
    Z = standardised(X)
    # where the penalty is all, coefficients are a gradient step from zero
    assert found.coef[0, 0] == pytest.approx(1e-6 * (y - y.mean()) @ Z, rel=1e-3)
    assert ((Z @ found.coef[1, 0] + found.intercept[1] > 0) == y).all()


def test_what_rounding_forbids_is_not_tried_for_long(in_slices, monkeypatch):
    monkeypatch.setattr(newton, "MOST_INNER", 50)
    X, y = with_rare_features()
    with pytest.warns(ConvergenceWarning, match="stopped after"):
        found = solve(softmax(y, [1.0]), streamed(X, in_slices), tol=1e-18)
    assert 1e-18 < found.certificate[0] < 1e-8
    assert found.n_iter[0] <= 40


def test_steps_end_where_there_may_be_no_more(in_slices):
    X, y = with_rare_features()
    with pytest.warns(ConvergenceWarning, match="2 of 2 problems stopped after 2 steps"):
        found = solve(softmax(y, [1.0, 10.0]), streamed(X, in_slices), max_iter=2)
    assert found.n_iter.tolist() == [2, 2]
    solve(softmax(y, [1.0, 10.0]), streamed(X, in_slices), max_iter=2, quiet=True)


def test_steps_go_on_from_a_start(in_slices, passes):
    X, y = with_rare_features()
    basis = streamed(X, in_slices)
    found = solve(softmax(y, [1.0]), basis, tol=1e-6)
    passes.clear()
    again = solve(softmax(y, [1.0]), basis, start=(found.coef, found.intercept))
    assert again.n_iter[0] == 0
    assert len(passes) == 2  # its margins, and their gradient
    assert (again.coef == found.coef).all()


def test_a_problem_that_is_solved_leaves_the_others_as_they_are(in_slices):
    X, y = with_rare_features()
    together = solve(softmax(y, [1e-4, 1.0, 100.0]), streamed(X, in_slices))
    assert (together.certificate <= 2e-4).all()
    assert together.n_iter[0] < together.n_iter[2]
    for i, C in enumerate([1e-4, 1.0, 100.0]):
        alone = solve(softmax(y, [C]), streamed(X, in_slices))
        assert together.n_iter[i] == alone.n_iter[0]
        assert together.coef[i] == pytest.approx(alone.coef[0], rel=1e-3, abs=1e-5)


def test_gradients_that_grow_for_a_while_are_waited_for(in_slices):
    """Over pieces the gradient's length rises from step to step as the objective falls."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(100, 60))
    y = (X @ rng.normal(size=(60, 3)) + 2 * rng.normal(size=(100, 3))).argmax(axis=1)
    signs = (2 * np.eye(3)[y].T - 1)[:, None]
    weights = np.ones((3, 1, 100))
    weights[..., ::5] = 0
    problems = Problems("squared_hinge", signs, weights, np.full(3, 10.0), True)
    found = solve(problems, streamed(X, in_slices))
    assert (found.certificate <= 2e-4).all()
    expected = solve(problems, Columns(standardised(X)))
    assert found.coef == pytest.approx(expected.coef, abs=4e-4 * np.abs(expected.coef).max())


def test_a_class_that_counts_for_little_has_an_intercept_too(in_slices, passes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = np.arange(600) % 3
    X[y == 2] += 1
    whole = softmax(y, [100.0])
    weights = np.where(y == 2, 1e-7, 1.0)[None, None]
    problems = Problems("softmax", whole.targets, weights, whole.C)
    found = solve(problems, streamed(X, in_slices))
    assert found.certificate[0] <= 2e-4
    assert len(passes) <= 200


@pytest.mark.parametrize(
    ("kind", "scale", "shift"),
    [
        (np.float64, 1, 1e8),
        (np.float32, 1, 1e3),
        (np.float32, 1e37, 0),
        (np.float64, 1e45, 0),
        (np.float64, 1e-45, 0),
    ],
)
def test_one_feature_may_be_far_from_zero_or_from_one(kind, scale, shift, in_slices, passes):
    X, y = with_rare_features(rare=0)
    X[:, 0] = X[:, 0] * scale + shift
    X = X.astype(kind)
    known = solve(softmax(y, [1.0]), Columns(standardised(X.astype(np.float64))), tol=1e-6)
    passes.clear()
    found = solve(softmax(y, [1.0]), streamed(X, in_slices))
    assert found.certificate[0] <= 2e-4
    assert found.coef == pytest.approx(known.coef, abs=4e-4 * np.abs(known.coef).max())
    assert len(passes) <= 60
