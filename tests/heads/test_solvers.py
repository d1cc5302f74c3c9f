"""The batched Newton solver: its certificate holds, and every loss reaches its optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from heads.solvers import LOSSES, solve


def problem(loss, n=60, r=12, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, r))
    Z = np.linalg.qr(Z - Z.mean(axis=0))[0] * np.geomspace(30, 0.3, r)
    y = (Z[:, :3] @ rng.normal(size=(3, 3)) + rng.normal(size=(n, 3))).argmax(axis=1)
    onehot = np.eye(3)[y].T
    targets = {"softmax": onehot, "sigmoid": onehot[:1], "squared_hinge": 2 * onehot[:1] - 1}[loss]
    return Z, targets[None], rng.uniform(0.5, 2.0, size=(1, 1, n))


def objective(loss, Z, targets, weights, C, penalize):
    def value(v):
        W = v.reshape(targets.shape[1], -1)
        margins = (W[:, :-1] @ Z.T + W[:, -1:])[None]
        penalty = np.sum(W[:, :-1] ** 2) + penalize * np.sum(W[:, -1] ** 2)
        slope, _ = LOSSES[loss].slope(margins, targets, weights)
        gradient = np.c_[C * slope[0] @ Z + W[:, :-1], C * slope[0].sum(axis=1) + penalize * W[:, -1]]
        return C * LOSSES[loss].value(margins, targets, weights)[0] + penalty / 2, gradient.ravel()

    return value


@pytest.mark.parametrize("penalize", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_reaches_the_optimum_for_every_strength_at_once(loss, penalize):
    Z, targets, weights = problem(loss)
    C = np.array([1e-3, 0.1, 10.0])
    found = solve(loss, Z, targets, weights, C, penalize_intercept=penalize)
    assert (found.certificate <= 2e-4).all()
    for i, strength in enumerate(C):
        value = objective(loss, Z, targets, weights, strength, penalize)
        start = np.zeros(targets.shape[1] * (Z.shape[1] + 1))
        best = minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
        coef = best.x.reshape(targets.shape[1], -1)[:, :-1]
        assert np.linalg.norm(found.coef[i] - coef) <= 1e-3 * np.linalg.norm(coef)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_certificate_bounds_the_error(loss):
    Z, targets, weights = problem(loss)
    C = np.array([1e-2, 1.0])
    exact = solve(loss, Z, targets, weights, C, penalize_intercept=True, tol=1e-9).coef
    for tol in (1e-1, 1e-2, 1e-3):
        rough = solve(loss, Z, targets, weights, C, penalize_intercept=True, tol=tol)
        error = np.linalg.norm(rough.coef - exact, axis=(1, 2)) / np.linalg.norm(rough.coef, axis=(1, 2))
        # the certificate measures margins, intercept included: allow for its share of the norm
        assert (error <= 3 * rough.certificate + 1e-7).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_equals_its_problems_alone(loss):
    Z, targets, weights = problem(loss)
    C = [1e-2, 1.0, 100.0]
    together = solve(loss, Z, targets, weights, C).coef
    alone = np.concatenate([solve(loss, Z, targets, weights, [strength]).coef for strength in C])
    assert together == pytest.approx(alone, abs=1e-3 * np.abs(alone).max())


def test_few_support_vectors_are_solved_exactly():
    Z, targets, weights = problem("squared_hinge", n=200, r=60)
    C = [0.01, 1.0, 100.0]
    gram = Z @ Z.T + 1
    exact = solve("squared_hinge", Z, targets, weights, C, penalize_intercept=True, gram=gram, orthogonal=True)
    iterated = solve("squared_hinge", Z, targets, weights, C, penalize_intercept=True, tol=1e-6)
    assert (exact.certificate <= 2e-4).all()
    assert exact.coef == pytest.approx(iterated.coef, abs=1e-3 * np.abs(iterated.coef).max())


def test_too_few_steps_are_said():
    Z, targets, weights = problem("softmax")
    with pytest.warns(ConvergenceWarning, match="2 of 2 problems stopped after 2 steps"):
        solve("softmax", Z, targets, weights, [1.0, 10.0], max_iter=2)


@pytest.mark.parametrize("loss", LOSSES)
def test_features_without_rank_leave_the_intercept(loss):
    _, targets, weights = problem(loss)
    found = solve(loss, np.zeros((60, 0)), targets, weights, [1.0])
    assert np.isfinite(found.intercept).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_neither_the_start_nor_the_preconditioner_moves_the_optimum(loss):
    Z, targets, weights = problem(loss, n=200, r=100)
    C = [1e-2, 1.0]
    plain = solve(loss, Z, targets, weights, C, orthogonal=True)
    rng = np.random.default_rng(0)
    start = rng.normal(size=plain.coef.shape), rng.normal(size=plain.intercept.shape)
    turned = np.linalg.qr(rng.normal(size=(100, 100)))[0]
    other = solve(loss, Z @ turned, targets, weights, C, start=(start[0] @ turned, start[1]))
    assert (other.certificate <= 2e-4).all()
    assert other.coef @ turned.T == pytest.approx(plain.coef, abs=1e-3 * np.abs(plain.coef).max())
    again = solve(loss, Z @ turned, targets, weights, C, start=(other.coef, other.intercept))
    assert (again.n_iter == 0).all()
