"""The bases agree on margins, gradients and steps, whatever a solution's numbers stand for."""

import numpy as np
import pytest

from heads.bases import Columns, Pieces, Products, Stack


def rows_of(n=50, r=8, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, r)) * np.geomspace(10, 0.1, r)
    return Z - Z.mean(axis=0)


def solutions(n, seed=0):
    """Two problems of three columns, as combinations of n rows with intercepts."""
    return np.random.default_rng(seed).normal(size=(2, 3, n + 1))


def as_coefficients(x, Z):
    return np.concatenate([x[:, :, :-1] @ Z, x[:, :, -1:]], axis=2)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_solution_has_the_same_margins_and_products_in_every_basis(kind):
    Z = rows_of()
    columns, products = Columns(Z), Products(Z @ Z.T)
    stack = Stack([products, products], np.array([0, 1]))
    x = solutions(50).astype(kind)
    w = as_coefficients(x, Z).astype(kind)
    expected = columns.push(w)
    for basis in (products, stack):
        margins = basis.push(x)
        assert margins.dtype == expected.dtype == kind
        assert margins == pytest.approx(expected, abs=1e-4 * float(np.abs(expected).max()))
        close = pytest.approx(columns.products(w, w), rel=1e-3 if kind is np.float32 else 1e-9)
        assert basis.products(x, x) == close
        assert basis.products(x, x, margins) == close


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_gradient_is_what_margins_change_by(kind):
    Z = rows_of()
    slope = np.random.default_rng(1).normal(size=(2, 3, 50)).astype(kind)
    by_columns = Columns(Z).pull(slope)
    w = np.random.default_rng(2).normal(size=by_columns.shape)
    expected = np.einsum("pkn,pkn->p", slope, Columns(Z).push(w))
    assert np.einsum("pkn,pkn->p", by_columns, w) == pytest.approx(expected, rel=1e-4)
    by_rows = Products(Z @ Z.T).pull(slope)
    assert as_coefficients(by_rows, Z) == pytest.approx(by_columns, abs=1e-4)


def test_factors_count_as_columns_that_are_multiplied():
    Z = rows_of()
    factors = np.random.default_rng(3).uniform(0.5, 2, size=(2, 1, 9))
    factors[:, :, -1] = 1
    scaled = Columns(Z).scaled(factors)
    w = np.random.default_rng(2).normal(size=(2, 3, 9))
    slope = np.random.default_rng(1).normal(size=(2, 3, 50))
    for i in range(2):
        other = Columns(Z * factors[i, 0, :-1])
        one = np.array([i])
        assert scaled.of(one).push(w[one]) == pytest.approx(other.push(w[one]))
        assert scaled.of(one).pull(slope[one]) == pytest.approx(other.pull(slope[one]))


@pytest.mark.parametrize("n", [50, 52])
def test_a_preconditioner_of_all_directions_is_the_inverse_hessian(n):
    Z = rows_of(n)
    columns = Columns(Z)
    gradient = np.random.default_rng(1).normal(size=(2, 3, 9))
    bend, ridge = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]), np.array([[0.5, 0.0], [2.0, 2.0]])
    found = columns.precondition(gradient, bend, ridge)
    B = np.c_[Z, np.ones(n)]
    for i in range(2):
        for k in range(3):
            hessian = bend[i, k] * B.T @ B + np.diag([ridge[i, 0]] * 8 + [ridge[i, 1]])
            expected = np.linalg.solve(hessian, gradient[i, k])
            assert found[i, k] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def pieces_of(Z, on, C):
    """Two problems from the zero solution, squared hinge, on the rows `on`."""
    y = np.where(np.random.default_rng(4).random((2, 1, len(Z))) > 0.5, 1.0, -1.0)
    state = 2.0 * on[:, None]
    x = np.zeros((2, 1, len(Z) + 1))
    return Pieces(state, y, x, Products(Z @ Z.T).pull(-state * y), np.full(2, C))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("most", [False, True])
def test_direct_steps_by_rows_and_by_columns_are_one_step(most, exact, monkeypatch):
    Z = rows_of(60, 40)
    rng = np.random.default_rng(5)
    on = rng.random((2, 60)) < 0.9
    pieces = pieces_of(Z, on, C=1.0)
    products = Products(Z @ Z.T)
    cost = (lambda on: on * 0.0) if most else (lambda on: np.full(len(on), np.inf))
    monkeypatch.setattr(products, "cost_of_most", cost)
    found = as_coefficients(products.solve_directly(pieces, exact), Z)
    assert (products._for_all_rows is not None) == most
    by_columns = Pieces(
        pieces.state,
        pieces.targets,
        np.zeros((2, 1, 41)),
        as_coefficients(pieces.gradient, Z),
        pieces.C,
    )
    expected = Columns(Z).solve_directly(by_columns, True)
    assert found == pytest.approx(expected, abs=1e-3 * np.abs(expected).max())


def test_the_inverse_for_all_rows_is_made_once_for_a_ridge():
    Z = rows_of(60, 40)
    products = Products(Z @ Z.T)
    on = np.ones((1, 60), dtype=bool)
    on[0, :5] = False
    for ridge, again in ((0.5, False), (0.5, True), (0.25, False)):
        before = products._for_all_rows
        products._solve_most(products.exact, ridge, on, np.ones((1, 60)) * on)
        assert (products._for_all_rows is before) == again
