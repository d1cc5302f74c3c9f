"""Cholesky's factors by SciPy's LAPACK without the interpreter's lock, which scipy.linalg holds all the while.

Matrices are symmetric, C-ordered, float32 or float64, and worked on in place: LAPACK sees their transposes, so a
"lower" factor or inverse fills the upper triangle.
"""

import ctypes

import numpy as np
from scipy.linalg import cython_lapack


def _routine(name, pointers):
    """A LAPACK routine, from the capsule that SciPy keeps for other languages, and the type of its integers."""
    capsule, api = ctypes.py_object(cython_lapack.__pyx_capi__[name]), ctypes.pythonapi
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api)
    )
    # the name is the signature: builds of SciPy differ in the width of integers
    signature = get_name(capsule)
    integer = ctypes.c_int if b"char *, int *" in signature else ctypes.c_int64
    # CFUNCTYPE lets go of the lock during the call
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * pointers)(
        get_pointer(capsule, signature)
    ), integer


_KINDS = {np.dtype(np.float32): "s", np.dtype(np.float64): "d"}
_ROUTINES = {
    kind + name: _routine(kind + name, pointers)
    for kind in _KINDS.values()
    for name, pointers in {"potrf": 5, "potri": 5, "potrs": 8}.items()
}


def _call(name, A, *arrays):
    if not len(A):
        return
    routine, integer = _ROUTINES[_KINDS[A.dtype] + name]
    n, info = integer(len(A)), integer()
    # right-hand sides: their number, the factor, its stride, the sides, their stride
    sides = [ctypes.byref(integer(len(arrays[0])))] if arrays else []
    data = [pointer for part in (A, *arrays) for pointer in (part.ctypes.data, ctypes.byref(n))]
    routine(b"L", ctypes.byref(n), *sides, *data, ctypes.byref(info))
    if info.value:
        raise np.linalg.LinAlgError(
            f"{name}: the matrix of {len(A)} rows is not positive definite (at {info.value})"
        )


def factorise(A):
    """A replaced by its factor."""
    _call("potrf", A)
    return A


def invert(factor):
    """The inverse of what was factorised, one triangle, in the place of the factor."""
    _call("potri", factor)
    return factor


def solve_factorised(factor, right):
    """Solutions (m, n) of right-hand sides (m, n), in their place."""
    _call("potrs", factor, right)
    return right
