"""Cholesky's factors by LAPACK called directly."""

import numpy as np
import pytest

from heads.lapack import factorise, invert, solve_factorised


@pytest.mark.parametrize(("kind", "close"), [(np.float32, 1e-3), (np.float64, 1e-10)])
@pytest.mark.parametrize("n", [1, 7, 60])
def test_solutions_and_inverse_are_those_of_the_matrix(n, kind, close):
    rng = np.random.default_rng(0)
    Z, right = rng.normal(size=(n, n)), rng.normal(size=(3, n))
    A = Z @ Z.T + n * np.eye(n)
    factor = factorise(A.astype(kind))
    solved = solve_factorised(factor, right.astype(kind))
    assert solved.dtype == kind
    assert solved @ A == pytest.approx(right, abs=close * np.abs(right).max())
    upper = np.triu(invert(factor.copy()))
    assert (upper + np.triu(upper, 1).T) @ A == pytest.approx(np.eye(n), abs=close)


def test_an_indefinite_matrix_is_refused():
    with pytest.raises(
        np.linalg.LinAlgError, match="potrf: the matrix of 3 rows is not positive definite"
    ):
        factorise(np.diag([1.0, -1.0, 1.0]))
