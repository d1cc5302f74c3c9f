"""Training rows as the solver sees them: by columns, by inner products, or by those of many folds.

A basis decides what a solution's numbers stand for. The solver asks it for margins (`push`), for
gradients (`pull`), for inner products of solutions, and for a preconditioner.
"""

from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from heads.lapack import factorise, invert, solve_factorised
from heads.preconditioner import (
    FEW_COLUMNS,
    ROUNDING_32,
    Preconditioner,
    flat_product,
    inner,
    leading_directions,
)

# about so many direct steps use one inverse for all rows, so each pays this part of it
SHARED_BY = 16
# inner products are exact to about this, relative to the largest: what is smaller is rounding
ROUNDING = 1e-9
# numbers on the diagonal are one number where they differ by no more than this part
EQUAL = 1e-12


@dataclass(frozen=True)
class Pieces:
    """What a direct step takes of problems of one column: where they are on a quadratic piece.

    Attributes
    ----------
    state : array of shape (problems, 1, n)
        Second derivatives of the loss, zero for the rows that do not bend.
    targets : array of shape (problems, 1, n)
    solutions, gradient : arrays of shape (problems, 1, size)
    C : array of shape (problems,)
    """

    state: np.ndarray
    targets: np.ndarray
    solutions: np.ndarray
    gradient: np.ndarray
    C: np.ndarray

    def part(self, which: slice) -> "Pieces":
        """Some of the problems."""
        return Pieces(
            self.state[which],
            self.targets[which],
            self.solutions[which],
            self.gradient[which],
            self.C[which],
        )


class Columns:
    """Rows by columns: a solution is (coefficients, intercept), its margins those times [Z, 1].

    Parameters
    ----------
    Z : array of shape (n, r), float64
        Its columns centred, as `reduction` makes them.

    Attributes
    ----------
    n, size : int
        Rows, and numbers in a solution's column (r and the intercept).
    total : float
        The rows' squares summed.
    step_cost : int
        Multiplications of a step of conjugate gradients, for a problem.
    factors : array of shape (problems, 1, size) or None
        By what each problem multiplies the columns, see `scaled`.
    """

    # whether a gradient takes a matrix product
    pulls = True
    rounding = 0.0

    def __init__(self, Z: np.ndarray) -> None:
        self.n = len(Z)
        self.size = Z.shape[1] + 1
        self.factors: np.ndarray | None = None
        # directions are computed on a float32 copy: half the bytes, half the time
        self.exact = Z
        self.rough = np.ones((self.n, self.size), dtype=np.float32)
        self.rough[:, :-1] = Z
        self.total = np.einsum("ij,ij->", Z, Z)
        Z32 = self.rough[:, :-1]
        if self.size <= FEW_COLUMNS:
            Q = np.eye(self.size - 1, dtype=np.float32)
        else:
            Q = leading_directions(lambda Q: Z32.T @ (Z32 @ Q), self.size - 1)
        found = Z32 @ Q
        # so few values: float64 costs nothing
        values, turn = np.linalg.eigh((found.T @ found).astype(np.float64))
        directions = Q @ turn.astype(np.float32)
        self.preconditioner = Preconditioner.of(
            np.maximum(values, 0), directions, directions, self.n, self.total
        )
        self.step_cost = 4 * self.n * self.size

    def scaled(self, factors: np.ndarray) -> "Columns":
        """The same rows for a batch each of whose problems sees the columns times its own factors.

        factors : array of shape (problems, 1, size), the intercept's 1; for losses that take no
            direct steps
        """
        basis = copy(self)
        basis.factors = factors
        return basis

    def of(self, problems: np.ndarray) -> "Columns":
        """The rows as some problems of the batch see them."""
        return self if self.factors is None else self.scaled(self.factors[problems])

    def _factored(self, solutions: np.ndarray) -> np.ndarray:
        if self.factors is None:
            return solutions
        return solutions * self.factors.astype(solutions.dtype)

    def push(self, solutions: np.ndarray) -> np.ndarray:
        """The margins of solutions (problems, columns, size), in their precision."""
        solutions = self._factored(solutions)
        if solutions.dtype == np.float32:
            return flat_product(solutions, self.rough.T)
        return flat_product(solutions[:, :, :-1], self.exact.T) + solutions[:, :, -1:]

    def pull(self, slope: np.ndarray) -> np.ndarray:
        """The gradient of solutions whose margins have this slope, in its precision."""
        if slope.dtype == np.float32:
            return self._factored(flat_product(slope, self.rough))
        coefficients = flat_product(slope, self.exact)
        intercepts = slope.sum(axis=2, keepdims=True)
        return self._factored(np.concatenate([coefficients, intercepts], axis=2))

    def precondition(self, gradient: np.ndarray, bend: np.ndarray, ridge: np.ndarray) -> np.ndarray:
        """See `Preconditioner.apply`; factors, being near 1, are left out."""
        return self.preconditioner.apply(gradient, bend, ridge)

    def products(
        self, one: np.ndarray, two: np.ndarray, pushed: np.ndarray | None = None
    ) -> np.ndarray:
        """Inner products (problems,) of the coefficients of two batches of solutions.

        pushed : the margins of `two` where they are known, which saves some bases a product
        """
        return inner(one[:, :, :-1], two[:, :, :-1])

    def direct_cost(self, on: np.ndarray) -> np.ndarray:
        """Multiplications that a direct step on so many rows takes, in float32's time."""
        return 2 * (on * self.size**2 + self.size**3 / 3)

    def cost_of_most(self, on: np.ndarray) -> np.ndarray:
        """The same, where it starts from all rows and takes out those that do not count."""
        return np.full(len(on), np.inf)

    def solve_directly(self, pieces: Pieces, exact: bool) -> np.ndarray:
        """Newton steps (problems, 1, size), an intercept penalised as a coefficient.

        (sum of bend_i [z_i, 1] [z_i, 1]^T + I / C) step = -gradient, always in float64.
        """
        steps = np.empty_like(pieces.gradient)
        for i, strength in enumerate(pieces.C):
            bend = pieces.state[i, 0]
            on = np.flatnonzero(bend)
            part = np.column_stack([self.exact[on], np.ones(len(on))])
            system = (part * bend[on, None]).T @ part
            system[np.diag_indices(self.size)] += 1 / strength
            # a copy: LAPACK writes solutions in the place of the right-hand side
            right = pieces.gradient[i].copy()
            steps[i] = -solve_factorised(factorise(system), right)
        return steps


class _Inverse(NamedTuple):
    """The factor and the inverse of K + 1 + ridge I, and what they were made for."""

    ridge: float
    dtype: np.dtype
    factor: np.ndarray
    inverse: np.ndarray


class _Combinations:
    """What all bases have in common whose solutions are combinations of the rows.

    The gradient, too, is a combination: the slope itself, without a product.
    """

    pulls = False
    rounding = ROUNDING
    n: int

    def pull(self, slope: np.ndarray) -> np.ndarray:
        """As `Columns.pull`."""
        return np.concatenate([slope, slope.sum(axis=2, keepdims=True)], axis=2)

    def push(self, solutions: np.ndarray) -> np.ndarray:
        """As `Columns.push`."""
        raise NotImplementedError

    def products(
        self, one: np.ndarray, two: np.ndarray, pushed: np.ndarray | None = None
    ) -> np.ndarray:
        """As `Columns.products`: one^T K two, K two being margins less the intercept."""
        if pushed is None:
            pushed = self.push(two)
        return inner(one[:, :, :-1], pushed - two[:, :, -1:])

    def direct_cost(self, on: np.ndarray) -> np.ndarray:
        """As `Columns.direct_cost`."""
        return on**3 / 3

    def cost_of_most(self, on: np.ndarray) -> np.ndarray:
        """As `Columns.cost_of_most`: a factor of the rows taken out, two solutions, the inverse."""
        # solutions wait for memory: 8 n^2 in place of 4
        return (self.n - on) ** 3 / 3 + 8 * self.n**2 + self.n**3 / SHARED_BY


class Products(_Combinations):
    """Rows by inner products: a solution is (alpha, intercept), its coefficients alpha times rows.

    Half the work of columns where these are as many as the rows, and no row is needed.

    Parameters
    ----------
    K : array of shape (n, n), float64
        Inner products of the rows, centred.
    """

    def __init__(self, K: np.ndarray) -> None:
        self.n = len(K)
        self.size = len(K) + 1
        self.exact = K
        self.rough = np.ones((self.size, self.n), dtype=np.float32)
        self.rough[:-1] = K
        self.total = K.trace()
        K32 = self.rough[:-1]
        Q = leading_directions(lambda Q: K32 @ Q, self.n)
        values, turn = np.linalg.eigh((Q.T @ (K32 @ Q)).astype(np.float64))
        above = values > ROUNDING_32 * values.max(initial=0)
        values = values[above]
        # combinations of the rows whose coefficients have length 1
        out = Q @ (turn[:, above] / np.sqrt(values)).astype(np.float32)
        self.preconditioner = Preconditioner.of(values, K32 @ out, out, self.n, self.total)
        self.step_cost = 2 * self.n**2
        self._for_all_rows: _Inverse | None = None

    def of(self, problems: np.ndarray) -> "Products":
        """As `Columns.of`."""
        return self

    def push(self, solutions: np.ndarray) -> np.ndarray:
        """As `Columns.push`."""
        if solutions.dtype == np.float32:
            return flat_product(solutions, self.rough)
        return flat_product(solutions[:, :, :-1], self.exact) + solutions[:, :, -1:]

    def precondition(self, gradient: np.ndarray, bend: np.ndarray, ridge: np.ndarray) -> np.ndarray:
        """See `Preconditioner.apply`."""
        return self.preconditioner.apply(gradient, bend, ridge)

    def solve_directly(self, pieces: Pieces, exact: bool) -> np.ndarray:
        """Newton steps (problems, 1, size), an intercept penalised as a coefficient.

        By the dual of the least squares on the rows s that bend (Keerthi and DeCoste, 2005, "A
        modified finite Newton method for fast solution of large scale linear SVMs"):
        (K_ss + 1 + diag(1 / (C state))) alpha_s = y_s, and intercept = sum of alpha. It is solved
        for the change of alpha, which has fewer digits to get right; in float32 unless `exact`.
        """
        K = self.exact if exact else self.rough[:-1]
        on = pieces.state[:, 0] > 0
        alpha = pieces.solutions[:, 0, :-1] * on
        ridge = 1 / (pieces.C[:, None] * np.where(on, pieces.state[:, 0], 1))
        margins = alpha @ self.exact
        # what alpha leaves of y_s, in float64: the float32 system only has to make it smaller
        right = pieces.targets[:, 0] - margins - alpha.sum(axis=1, keepdims=True) - ridge * alpha
        right = (right * on).astype(K.dtype)
        values = ridge[on]
        count = on.sum(axis=1)
        # one factor serves all only where they add one number to the diagonal
        alike = len(values) > 0 and np.ptp(values) <= EQUAL * values.max()
        many = (self.cost_of_most(count) < count**3 / 3) & alike
        if many.any():
            alpha[many] += self._solve_most(K, values[0], on[many], right[many])
        for i in np.flatnonzero(~many):
            rows = np.flatnonzero(on[i])
            factor = _factorise_shifted(K.take(rows, axis=0).take(rows, axis=1), ridge[i, rows])
            alpha[i, rows] += solve_factorised(factor, right[i : i + 1, rows])[0]
        return np.column_stack([alpha, alpha.sum(axis=1)])[:, None] - pieces.solutions

    def _solve_most(
        self, K: np.ndarray, ridge: float, on: np.ndarray, right: np.ndarray
    ) -> np.ndarray:
        """Solutions, zero outside of `on`, from the factor for all rows and its inverse.

        The system of the rows `on` is that of all rows where right-hand sides r of the others make
        their solutions zero: (A^-1)_oo r_o = -(A^-1 right)_o (Woodbury's identity).
        """
        # read once into a name of its own: other threads may replace it, no lock is needed
        known = self._for_all_rows
        if known is None or known.ridge != ridge or known.dtype != K.dtype:
            factor = _factorise_shifted(K.copy(), ridge)
            known = _Inverse(ridge, K.dtype, factor, invert(factor.copy()))
            self._for_all_rows = known
        found = solve_factorised(known.factor, right.copy())
        for i, others in enumerate(~on):
            rows = np.flatnonzero(others)
            if len(rows):
                part = factorise(known.inverse.take(rows, axis=0).take(rows, axis=1))
                right[i, rows] = -solve_factorised(part, found[i : i + 1, rows])[0]
        return solve_factorised(known.factor, right) * on


def _factorise_shifted(K: np.ndarray, ridge: float | np.ndarray) -> np.ndarray:
    """Cholesky's factor of K + 1 + diag(ridge), in the place of K."""
    K += 1
    K[np.diag_indices(len(K))] += ridge
    return factorise(K)


class Stack(_Combinations):
    """Several `Products` of as many rows each, as the folds have: each problem has its own.

    Parameters
    ----------
    parts : list of Products
    owners : array of shape (problems,), int
        The number of each problem's part, ascending.
    """

    def __init__(self, parts: list[Products], owners: np.ndarray) -> None:
        self.parts = parts
        self.owners = owners
        self.n = parts[0].n
        self.size = parts[0].size
        self.step_cost = parts[0].step_cost
        self.total = np.array([part.total for part in parts])[owners]
        ends = np.searchsorted(owners, np.arange(len(parts) + 1))
        self.spans = []
        for i, part in enumerate(parts):
            if ends[i] < ends[i + 1]:
                self.spans.append((part, slice(ends[i], ends[i + 1])))

    def of(self, problems: np.ndarray) -> "Stack":
        """As `Columns.of`."""
        return Stack(self.parts, self.owners[problems])

    def push(self, solutions: np.ndarray) -> np.ndarray:
        """As `Columns.push`."""
        return _joined([part.push(solutions[span]) for part, span in self.spans])

    def precondition(self, gradient: np.ndarray, bend: np.ndarray, ridge: np.ndarray) -> np.ndarray:
        """See `Preconditioner.apply`."""
        found = [
            part.precondition(gradient[span], bend[span], ridge[span]) for part, span in self.spans
        ]
        return _joined(found)

    def solve_directly(self, pieces: Pieces, exact: bool) -> np.ndarray:
        """As `Products.solve_directly`."""
        return _joined([part.solve_directly(pieces.part(span), exact) for part, span in self.spans])


Basis = Columns | Products | Stack


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """One array of all; of one no copy is made."""
    return np.concatenate(arrays) if len(arrays) != 1 else arrays[0]
