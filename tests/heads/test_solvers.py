"""The batched solver: its certificate holds, and every loss reaches its optimum."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from heads import solvers
from heads.bases import Columns, Products, Stack
from heads.losses import LOSSES
from heads.solvers import Problems, solve

VALUES = {
    "softmax": lambda m, y: logsumexp(m, axis=0) - np.sum(y * m, axis=0),
    "sigmoid": lambda m, y: np.logaddexp(0, m) - y * m,
    "squared_hinge": lambda m, y: np.maximum(1 - y * m, 0) ** 2,
}


def by_columns(Z):
    """The rows, and the coefficients of a solution."""
    return Columns(Z), lambda found: found.coef


def by_products(Z):
    return Products(Z @ Z.T), lambda found: found.coef @ Z


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
        margins = W[:, :-1] @ Z.T + W[:, -1:]
        penalty = np.sum(W[:, :-1] ** 2) + penalize * np.sum(W[:, -1] ** 2)
        slope = LOSSES[loss].slope(margins[None], targets, weights)[0][0]
        gradient = np.c_[C * slope @ Z + W[:, :-1], C * slope.sum(axis=1) + penalize * W[:, -1]]
        return C * np.sum(
            weights[0] * VALUES[loss](margins, targets[0])
        ) + penalty / 2, gradient.ravel()

    return value


@pytest.mark.parametrize("basis", [by_columns, by_products])
@pytest.mark.parametrize("penalize", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_reaches_the_optimum_for_every_strength_at_once(loss, penalize, basis):
    Z, targets, weights = problem(loss)
    C = np.array([1e-3, 0.1, 10.0])
    rows, coefficients = basis(Z)
    found = solve(Problems(loss, targets, weights, C, penalize), rows)
    assert (found.certificate <= 2e-4).all()
    for i, strength in enumerate(C):
        value = objective(loss, Z, targets, weights, strength, penalize)
        start = np.zeros(targets.shape[1] * (Z.shape[1] + 1))
        best = minimize(
            value, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000}
        )
        coef = best.x.reshape(targets.shape[1], -1)[:, :-1]
        assert np.linalg.norm(coefficients(found)[i] - coef) <= 1e-3 * np.linalg.norm(coef)


@pytest.mark.parametrize("basis", [by_columns, by_products])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_certificate_bounds_the_error(loss, basis):
    Z, targets, weights = problem(loss)
    C = np.array([1e-2, 1.0])
    rows, coefficients = basis(Z)
    problems = Problems(loss, targets, weights, C, penalize_intercept=True)
    exact = coefficients(solve(problems, rows, tol=1e-9))
    for tol in (1e-1, 1e-2, 1e-3):
        found = solve(problems, rows, tol=tol)
        rough = coefficients(found)
        error = np.linalg.norm(rough - exact, axis=(1, 2)) / np.linalg.norm(rough, axis=(1, 2))
        # the certificate measures margins, intercept included: allow for its share of the norm
        assert (error <= 3 * found.certificate + 1e-7).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_equals_its_problems_alone(loss):
    Z, targets, weights = problem(loss)
    C, rows = np.array([1e-2, 1.0, 100.0]), Columns(Z)
    together = solve(Problems(loss, targets, weights, C), rows).coef
    alone = np.concatenate(
        [solve(Problems(loss, targets, weights, C[i : i + 1]), rows).coef for i in range(3)]
    )
    assert together == pytest.approx(alone, abs=1e-3 * np.abs(alone).max())


@pytest.mark.parametrize("basis", [by_columns, by_products])
def test_direct_steps_and_conjugate_gradients_find_one_optimum(basis, monkeypatch):
    Z, targets, weights = problem("squared_hinge", n=200, r=60)
    rows, coefficients = basis(Z)
    problems = Problems(
        "squared_hinge", targets, weights, np.array([0.01, 1.0, 100.0]), penalize_intercept=True
    )
    found = []
    for worth in (0, 10**9):
        monkeypatch.setattr(solvers, "SWEEPS", worth)
        found.append(coefficients(solve(problems, rows, tol=1e-6)))
    assert found[0] == pytest.approx(found[1], abs=1e-5 * np.abs(found[0]).max())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_stack_solves_each_problem_on_its_own_rows(loss):
    penalize = loss == "squared_hinge"
    made = [problem(loss, n=n, r=40, seed=seed) for seed, n in enumerate([60, 60, 59])]
    C = np.array([1e-2, 1.0])
    alone = [solve(Problems(loss, y, w, C, penalize), Products(Z @ Z.T)) for Z, y, w in made]
    pad = [((0, 0), (0, 0), (0, 60 - len(Z))) for Z, _, _ in made]
    parts = [Products(np.pad(Z @ Z.T, (0, 60 - len(Z)))) for Z, _, _ in made]
    y, w = (
        np.concatenate(
            [
                np.repeat(np.pad(part[i], width), 2, axis=0)
                for part, width in zip(made, pad, strict=True)
            ]
        )
        for i in (1, 2)
    )
    stack = Stack(parts, np.repeat(np.arange(3), 2))
    found = solve(Problems(loss, y, w, np.tile(C, 3), penalize), stack)
    assert (found.certificate <= 2e-4).all()
    for i, (Z, _, _) in enumerate(made):
        expected, coef = alone[i].coef @ Z, found.coef[2 * i : 2 * i + 2, :, : len(Z)] @ Z
        assert coef == pytest.approx(expected, abs=1e-3 * np.abs(expected).max())
        assert found.intercept[2 * i : 2 * i + 2] == pytest.approx(alone[i].intercept, abs=2e-3)


def test_direct_steps_start_from_the_solution_they_follow(monkeypatch):
    monkeypatch.setattr(solvers, "SWEEPS", 0)
    Z, targets, weights = problem("squared_hinge", n=200, r=60)
    C = np.array([0.01, 1.0, 100.0])
    problems = Problems("squared_hinge", targets, weights, C, penalize_intercept=True)
    free = solve(problems, Products(Z @ Z.T), tol=1e-6)
    after = solve(replace(problems, follows=np.array([-1, 0, 1])), Products(Z @ Z.T), tol=1e-6)
    assert after.coef @ Z == pytest.approx(free.coef @ Z, abs=1e-5 * np.abs(free.coef @ Z).max())


def test_a_matrix_without_factor_leaves_the_problem_unsolved(monkeypatch):
    def refuse(*_):
        raise np.linalg.LinAlgError

    monkeypatch.setattr(solvers, "SWEEPS", 0)
    monkeypatch.setattr(Products, "solve_directly", refuse)
    Z, targets, weights = problem("squared_hinge", n=200, r=60)
    problems = Problems(
        "squared_hinge", targets, weights, np.array([100.0]), penalize_intercept=True
    )
    with pytest.warns(ConvergenceWarning, match="1 of 1 problems stopped"):
        solve(problems, Products(Z @ Z.T))


def digits(products):
    """Pixels, or as many products of two pixels each, of 1,080 scans; and their digits."""
    pixels, y = load_digits(return_X_y=True)
    X = pixels[:1080]
    if products:
        one, two = np.random.default_rng(0).integers(0, 64, size=(2, products))
        X = X[:, one] * X[:, two]
    return StandardScaler().fit_transform(X), y[:1080]


@pytest.mark.parametrize(
    ("products", "basis"),
    [(0, by_columns), (576, by_columns), (576, by_products), (1500, by_products)],
)
def test_squared_hinge_never_stalls_on_real_features(products, basis):
    Z, y = digits(products)
    rows, _ = basis(Z)
    signs = np.where(y == np.arange(0, 10, 3)[:, None], 1.0, -1.0)[:, None]
    start = None
    for strength in np.logspace(-3, 3, 7):
        C = np.full(len(signs), strength)
        problems = Problems(
            "squared_hinge", signs, np.ones((1, 1, 1080)), C, penalize_intercept=True
        )
        found = solve(problems, rows, start=start)
        assert (found.certificate <= 2e-4).all()
        start = found.coef, found.intercept


def test_too_few_steps_are_said():
    Z, targets, weights = problem("softmax")
    problems = Problems("softmax", targets, weights, np.array([1.0, 10.0]))
    with pytest.warns(ConvergenceWarning, match="2 of 2 problems stopped after 2 steps"):
        solve(problems, Columns(Z), max_iter=2)


@pytest.mark.parametrize(
    "rows", [Columns(np.zeros((60, 0))), Columns(np.zeros((60, 3))), Products(np.zeros((60, 60)))]
)
@pytest.mark.parametrize("loss", LOSSES)
def test_features_without_rank_leave_the_intercept(loss, rows):
    _, targets, weights = problem(loss)
    found = solve(Problems(loss, targets, weights, np.array([1.0])), rows)
    assert np.isfinite(found.intercept).all()
    assert found.intercept.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_neither_the_start_nor_the_preconditioner_moves_the_optimum(loss):
    Z, targets, weights = problem(loss, n=200, r=100)
    problems = Problems(loss, targets, weights, np.array([1e-2, 1.0]))
    plain = solve(problems, Columns(Z))
    rng = np.random.default_rng(0)
    start = rng.normal(size=plain.coef.shape), rng.normal(size=plain.intercept.shape)
    turned = np.linalg.qr(rng.normal(size=(100, 100)))[0]
    rows = Columns(Z @ turned)
    other = solve(problems, rows, start=(start[0] @ turned, start[1]))
    assert (other.certificate <= 2e-4).all()
    assert other.coef @ turned.T == pytest.approx(plain.coef, abs=1e-3 * np.abs(plain.coef).max())
    again = solve(problems, rows, start=(other.coef, other.intercept))
    assert (again.n_iter == 0).all()
