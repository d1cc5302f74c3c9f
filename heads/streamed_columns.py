"""Rows read in blocks as the linear solver sees them: every product of a step is one pass."""

from collections.abc import Callable
from copy import copy

import numpy as np

from heads.bases import Columns
from heads.blocks import Blocks
from heads.preconditioner import Preconditioner, leading_directions

# of up to so many columns all directions precondition: their Gram matrix takes the time of a few
# steps and saves most of them
MOST_DIRECTIONS = 4096
# a second derivative of less than this part of the largest is rounding: a class that is told
# surely, or counts for little, has one of about 1 / (C n)
FLAT = 1e-12

# (place, margins (problems, columns, rows of the block)) -> as many
Bend = Callable[[slice, np.ndarray], np.ndarray]


class StreamedColumns(Columns):
    """As `bases.Columns`, of rows that are read anew for every product.

    Gradients and certificates are taken in float64, the Hessian's products in float32.

    Parameters
    ----------
    blocks : Blocks
    mean, scale : arrays of shape (d,)
        By which the rows z are standardised.
    counts : array of shape (n,)
        How often each row is trained on: what the preconditioner is made of.

    Attributes
    ----------
    offsets, factors : arrays of shape (problems, 1, d) or None
        Each problem sees the rows `(z - offset) * factor`: as its own fold would standardise them.
    """

    def __init__(
        self, blocks: Blocks, mean: np.ndarray, scale: np.ndarray, counts: np.ndarray
    ) -> None:
        self.blocks = blocks
        self.mean = mean
        self.scale = scale
        self.n = blocks.n
        self.size = blocks.d + 1
        self.offsets: np.ndarray | None = None
        self.factors: np.ndarray | None = None
        if blocks.d <= MOST_DIRECTIONS:
            self._take_all_directions(counts)
        else:
            self._take_leading_directions(counts)

    def _take_all_directions(self, counts: np.ndarray) -> None:
        gram = self._weighted(counts, None)
        self.total = gram.trace()
        values, directions = np.linalg.eigh(gram)
        self.preconditioner = Preconditioner.of_all(values, directions.astype(np.float32), self.n)

    def _take_leading_directions(self, counts: np.ndarray) -> None:
        Q = leading_directions(lambda Q: self._weighted(counts, Q), self.size - 1)
        inside = Q.T @ self._weighted(counts, Q)
        values, turn = np.linalg.eigh(inside.astype(np.float64))
        directions = Q @ turn.astype(np.float32)
        # a standardised column has as many squares as there are rows
        self.total = float(counts.sum()) * (self.size - 1)
        self.preconditioner = Preconditioner.of(
            np.maximum(values, 0), directions, directions, self.n, self.total
        )

    def _centred(self, rows: np.ndarray) -> np.ndarray:
        """Rows less their means, float64; coefficients and gradients are divided by the scale."""
        Z: np.ndarray = rows.astype(np.float64)
        Z -= self.mean
        return Z

    def _standardised(self, rows: np.ndarray) -> np.ndarray:
        """Rows in float32, their means taken off before digits are lost."""
        if rows.dtype == np.float64:
            return (self._centred(rows) / self.scale).astype(np.float32)
        Z = np.empty(rows.shape, np.float32)
        np.subtract(rows, self.mean, out=Z, casting="same_kind")
        Z *= (1 / self.scale).astype(np.float32)
        return Z

    def _weighted(self, counts: np.ndarray, Q: np.ndarray | None) -> np.ndarray:
        """Z^T diag(counts) Z, or that times Q, in float32 by blocks that are summed in float64."""

        def work(place: slice, rows: np.ndarray) -> np.ndarray:
            Z = self._standardised(rows)
            Z *= np.sqrt(counts[place, None]).astype(np.float32)
            return Z.T @ (Z if Q is None else Z @ Q)

        width = self.size - 1 if Q is None else Q.shape[1]
        total = self.blocks.summed(work, (self.size - 1, width))
        return total if Q is None else total.astype(np.float32)

    def seen(self, offsets: np.ndarray, factors: np.ndarray) -> "StreamedColumns":
        """The same rows for a batch each of whose problems is of a fold of its own."""
        basis = copy(self)
        basis.offsets = offsets
        basis.factors = factors
        return basis

    def of(self, problems: np.ndarray) -> "StreamedColumns":
        """As `Columns.of`."""
        if self.offsets is None or self.factors is None:
            return self
        return self.seen(self.offsets[problems], self.factors[problems])

    def push(self, solutions: np.ndarray) -> np.ndarray:
        """As `Columns.push`, always in float64."""
        problems, columns, _ = solutions.shape
        flat, intercept = self._by_rows(solutions)
        flat = flat / self.scale
        margins = np.empty((problems * columns, self.n))

        def work(place: slice, rows: np.ndarray) -> None:
            np.matmul(flat, self._centred(rows).T, out=margins[:, place])

        self.blocks.run(work)
        margins = margins.reshape(problems, columns, self.n)
        margins += intercept
        return margins

    def pull(self, slope: np.ndarray) -> np.ndarray:
        """As `Columns.pull`, always in float64.

        Near the optimum a gradient is the small difference of large sums: over as many rows as
        these, float32's roundings make steps astray before the certificate is reached.
        """
        flat = slope.reshape(-1, self.n)

        def work(place: slice, rows: np.ndarray) -> np.ndarray:
            return flat[:, place] @ self._centred(rows)

        total = self.blocks.summed(work, (len(flat), self.size - 1))
        return self._of_rows(total / self.scale, slope.sum(axis=2, keepdims=True))

    def curve(self, direction: np.ndarray, bend: Bend) -> np.ndarray:
        """`pull` of what `bend` makes of the margins of a direction, by one pass, in float32."""
        problems, columns, _ = direction.shape
        flat, intercept = (part.astype(np.float32) for part in self._by_rows(direction))

        def work(place: slice, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            Z = self._standardised(rows)
            margins = (flat @ Z.T).reshape(problems, columns, -1)
            margins += intercept
            bent = bend(place, margins)
            return bent.reshape(len(flat), -1) @ Z, bent.sum(axis=2, keepdims=True)

        total = np.zeros((problems * columns, self.size - 1))
        ends = np.zeros((problems, columns, 1))
        for found, end in self.blocks.over(work):
            total += found
            ends += end
        return self._of_rows(total, ends)

    def _by_rows(self, solutions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (problems x columns, d) of the standardised rows, and intercepts."""
        coef = solutions[:, :, :-1]
        intercept = solutions[:, :, -1:]
        if self.offsets is not None and self.factors is not None:
            coef = coef * self.factors
            intercept = intercept - np.sum(coef * self.offsets, axis=2, keepdims=True)
        return coef.reshape(-1, self.size - 1), intercept

    def _of_rows(self, total: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The gradient whose products with the standardised rows these are."""
        coef = total.reshape(*intercept.shape[:2], -1)
        if self.offsets is not None and self.factors is not None:
            coef = (coef - intercept * self.offsets) * self.factors
        return np.concatenate([coef, intercept], axis=2)

    def precondition_coupled(
        self, gradient: np.ndarray, bend: np.ndarray, ridge: np.ndarray
    ) -> np.ndarray:
        """The gradient times the inverse of `bend (x) Z^T Z + ridge`, Kronecker's product.

        With all directions of the rows known it is by far the better part of the Hessian, where
        what couples the columns (problems, columns, columns) is in it: columns of one softmax bend
        together, and not at all along a number added to all. A fold's means and scales, near all
        rows', are left out.
        """
        values, turn = np.linalg.eigh(bend.astype(np.float64))
        turn = turn.astype(gradient.dtype)
        found = self.preconditioner.apply(
            turn.transpose(0, 2, 1) @ gradient, np.maximum(values, 0), ridge
        )
        # an intercept without penalty and curvature stays where it is
        flat = (values < FLAT * values.max(axis=1, keepdims=True)) & (ridge[:, 1:] == 0)
        found[:, :, -1][flat] = 0
        return turn @ found
