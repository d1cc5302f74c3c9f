"""The linear solver's preconditioner: the Hessian's inverse in the rows' leading directions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# leading directions that precondition: this many, but no more than one for so many rows (fewer
# rows do not tell directions apart); of so few columns all
DIRECTIONS = 32
ROWS_EACH = 25
FEW_COLUMNS = 300
# eigenvalues found in float32 are rounding below this part of the largest
ROUNDING_32 = 1e-6
# keeps a quotient finite where neither penalty nor curvature is left
NO_CURVATURE = 1e-12
# a mean square whose inverse is nothing: of the directions that are left where none is
NOTHING_LEFT = 1e200


@dataclass(frozen=True)
class Preconditioner:
    """The inverse Hessian that there is when every row bends alike, in the leading directions.

    With orthonormal directions v_i, in which the rows' squares sum to s_i, the Hessian
    `bend Z^T Z + ridge` has the eigenvalues `bend s_i + ridge`; all other directions count by one
    mean square. The intercept is a direction of its own, of square n. Frangella, Tropp and Udell
    (2023), "Randomized Nystrom preconditioning", is of this form.

    Attributes
    ----------
    squares : array of shape (rank + 1,), float64
        s_i, the intercept's last.
    rest : float
        Mean square of the rows in every other direction.
    into, out : arrays of shape (size, rank + 1), float32
        A gradient times `into` is its part in each direction; `out` holds the directions.
    """

    squares: np.ndarray
    rest: float
    into: np.ndarray
    out: np.ndarray

    @classmethod
    def of(
        cls, values: np.ndarray, into: np.ndarray, out: np.ndarray, n: int, total: float
    ) -> "Preconditioner":
        """From the leading directions and their squares; `total` is of all n rows' squares."""
        rank = len(values)
        size = len(into) + 1
        rest = max(total - values.sum(), 0) / max(min(n, size) - 1 - rank, 1)
        if rank and rank >= size - 1:  # nothing is left, and what no row has is rounding
            rest = values[values >= ROUNDING_32 * values.max()].min()
            values = np.maximum(values, rest)
        return cls(np.r_[values, n], rest, _with_intercept(into), _with_intercept(out))

    @classmethod
    def of_all(cls, values: np.ndarray, directions: np.ndarray, n: int) -> "Preconditioner":
        """From all directions (size, size), none left to a mean: `apply` subtracts nothing.

        What it would subtract, the inverse in the least direction, drowns that in the leading ones
        by float32's rounding.
        """
        values = np.maximum(values, ROUNDING_32 * values.max(initial=0))
        whole = _with_intercept(directions)
        return cls(np.r_[values, n], NOTHING_LEFT, whole, whole)

    def apply(self, gradient: np.ndarray, bend: np.ndarray, ridge: np.ndarray) -> np.ndarray:
        """The gradient (problems, columns, size) times the inverse, in the gradient's precision.

        bend : array of shape (problems, columns), the mean second derivative
        ridge : array of shape (problems, 2), the penalties of coefficients and intercept
        """
        penalties = np.concatenate(
            [np.repeat(ridge[:, :1], len(self.squares) - 1, axis=1), ridge[:, 1:]], axis=1
        )
        rest = 1 / (ridge[:, :1, None] + bend[:, :, None] * self.rest + NO_CURVATURE)
        leading = 1 / (penalties[:, None] + bend[:, :, None] * self.squares + NO_CURVATURE) - rest
        parts = flat_product(gradient, self.into)
        found = flat_product(leading.astype(gradient.dtype) * parts, self.out.T)
        found += rest.astype(gradient.dtype) * gradient
        return found


def _with_intercept(directions: np.ndarray) -> np.ndarray:
    """(size - 1, rank) directions with one more, the intercept's."""
    size, rank = directions.shape
    full = np.zeros((size + 1, rank + 1), dtype=np.float32)
    full[:-1, :-1] = directions
    full[-1, -1] = 1
    return full


def leading_directions(apply: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
    """Leading eigenvectors, roughly, of a symmetric (size, size) matrix: (size, rank), float32.

    Subspace iteration from random directions: Halko, Martinsson and Tropp (2011), "Finding
    structure with randomness". Two rounds do, as the directions go into no result.
    """
    rank = min(DIRECTIONS, -(-size // ROWS_EACH))
    Q = np.random.default_rng(0).standard_normal((size, rank), dtype=np.float32)
    for _ in range(2):
        Q = np.linalg.qr(apply(Q))[0]
    return Q


def flat_product(stack: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(problems, columns, a) times (a, b) as one matrix product, not as one for each problem."""
    problems, columns, size = stack.shape
    flat = stack.reshape(problems * columns, size) @ matrix
    return flat.reshape(problems, columns, matrix.shape[1])


def inner(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Inner products (problems,) of arrays (problems, columns, n), as float64."""
    return np.einsum("pkn,pkn->p", one, two).astype(np.float64)
