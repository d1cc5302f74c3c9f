"""Cholesky's factors by SciPy's LAPACK without the interpreter's lock, which scipy.linalg holds.

Matrices are symmetric, C-ordered, float32 or float64, and worked on in place: LAPACK, whose order
is Fortran's, sees their transposes, so a "lower" factor or inverse fills the upper triangle.
"""

import ctypes
from collections.abc import Callable

import numpy as np
from scipy.linalg import cython_lapack

Integer = type[ctypes.c_int] | type[ctypes.c_int64]


def _routine(name: str, pointers: int) -> tuple[Callable[..., None], Integer]:
    """A LAPACK routine of so many arguments, all pointers, and the type of its integers.

    It comes from the capsule that SciPy keeps for code in other languages: a pointer under a name.
    """
    capsule = ctypes.py_object(cython_lapack.__pyx_capi__[name])
    api = ctypes.pythonapi
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api)
    )
    # the name is the signature: builds of SciPy differ in the width of integers
    signature = get_name(capsule)
    integer = ctypes.c_int if b"char *, int *" in signature else ctypes.c_int64
    # CFUNCTYPE lets go of the lock during the call, PYFUNCTYPE would hold it
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * pointers)
    return kind(get_pointer(capsule, signature)), integer


_KINDS = {np.dtype(np.float32): "s", np.dtype(np.float64): "d"}
# factor, inverse and solution, with their numbers of arguments
_ARGUMENTS = {"potrf": 5, "potri": 5, "potrs": 8}
_ROUTINES = {
    kind + name: _routine(kind + name, pointers)
    for kind in _KINDS.values()
    for name, pointers in _ARGUMENTS.items()
}


def _call(name: str, A: np.ndarray, right: np.ndarray | None = None) -> None:
    """Call a routine on a matrix (n, n), and on right-hand sides (m, n) where it takes them."""
    if not len(A):
        return
    routine, integer = _ROUTINES[_KINDS[A.dtype] + name]
    n = ctypes.byref(integer(len(A)))
    info = integer()
    if right is None:
        routine(b"L", n, A.ctypes.data, n, ctypes.byref(info))
    else:
        sides = ctypes.byref(integer(len(right)))
        routine(b"L", n, sides, A.ctypes.data, n, right.ctypes.data, n, ctypes.byref(info))
    if info.value:
        raise np.linalg.LinAlgError(
            f"{name}: the matrix of {len(A)} rows is not positive definite (at {info.value})"
        )


def factorise(A: np.ndarray) -> np.ndarray:
    """Cholesky's factor of A, in its place.

    Raises
    ------
    numpy.linalg.LinAlgError
        A is not positive definite.
    """
    _call("potrf", A)
    return A


def invert(factor: np.ndarray) -> np.ndarray:
    """The inverse of what was factorised, one triangle, in the place of the factor."""
    _call("potri", factor)
    return factor


def solve_factorised(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solutions (m, n) of right-hand sides (m, n), of the factor's dtype, in their place."""
    _call("potrs", factor, right)
    return right
