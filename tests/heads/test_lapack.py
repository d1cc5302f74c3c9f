"""Cholesky's factors by LAPACK called directly."""

import ctypes

import numpy as np
import pytest
from scipy.linalg import cython_lapack

from heads import lapack
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


@pytest.mark.parametrize("name", sorted(lapack._ROUTINES))
def test_scipy_hands_out_lapacks_routines(name):
    table = getattr(cython_lapack, "__pyx_capi__", None)
    assert table is not None, (
        "scipy.linalg.cython_lapack no longer has `__pyx_capi__`, the table of LAPACK's pointers; "
        "`heads.lapack` needs another way to them"
    )
    assert name in table, f"scipy.linalg.cython_lapack no longer hands out {name}"
    capsule = repr(table[name])
    assert "capsule object" in capsule, f"SciPy's {name} is no longer a PyCapsule but {capsule}"
    arguments = capsule.split("(", 1)[1].rsplit(")", 1)[0].split(", ")
    assert len(arguments) == lapack._ARGUMENTS[name[1:]], (
        f"SciPy's {name} no longer takes {lapack._ARGUMENTS[name[1:]]} pointers: {capsule}"
    )
    assert arguments[0] == "char *", f"SciPy's {name} no longer starts with `char *`: {capsule}"
    integer = {ctypes.c_int: "int *", ctypes.c_int64: "int64_t *"}
    _, kind = lapack._ROUTINES[name]
    assert arguments[1].endswith(integer[kind]), (
        f"SciPy's {name} counts by another integer than {kind.__name__}: {capsule}"
    )


def test_factors_are_computed_without_the_interpreters_lock():
    factor = lapack._ROUTINES["dpotrf"][0]
    assert not type(factor)._flags_ & ctypes._FUNCFLAG_PYTHONAPI, (
        "LAPACK is called with the interpreter's lock held: other threads wait for it"
    )
