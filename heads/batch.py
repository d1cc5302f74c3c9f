"""A batch of problems on their way: where each is, how near the optimum, and a step on a line."""

from dataclasses import dataclass

import numpy as np

from heads.bases import Basis
from heads.losses import Loss
from heads.preconditioner import inner

# a line search ends where so much of its slope is left, or after so many trials
FLAT = 0.1
MOST_TRIALS = 40
# Newton's point is a leap where it is so many times as far as the last
LEAP = 4
# below this part of the penalty's, curvature is that of directions that no row has: rounding
FLOOR = 1e-6
# a certificate, a length or a curvature that is zero counts as this where it divides
TINY = 1e-30
# these keep quotients finite: where no row has any length or bends, and where the solution is zero
EMPTY = 1e-12
NOTHING = 1e-24


@dataclass
class Batch:
    """Where each problem of a batch is. All arrays are (problems, ...).

    The objective is divided by C: sum(weights * loss) + ridge / 2 |coef|^2, with ridge = 1/C.

    Attributes
    ----------
    numbers : (problems,), the places in the batch that this one is a part of
    targets, weights : as in `Problems`, float32
    C : (problems,)
    ridge : (problems, 2), penalties of the coefficients and of the intercept
    solutions : (problems, columns, size), float64
    margins, slope, state : (problems, columns, n), float32, after `SLOW` steps, in direct ones and
        over rows that are read in blocks float64; the last two as `Loss.slope` gives them
    bound : (problems,), the certificates as last taken
    n_iter : (problems,)
    """

    loss: Loss
    basis: Basis
    numbers: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    C: np.ndarray
    ridge: np.ndarray
    solutions: np.ndarray
    margins: np.ndarray
    slope: np.ndarray
    state: np.ndarray
    bound: np.ndarray
    n_iter: np.ndarray

    def part(self, which: np.ndarray) -> "Batch":
        """Copies of some of the problems."""
        return Batch(
            self.loss,
            self.basis.of(which),
            numbers=self.numbers[which],
            targets=self.targets[which],
            weights=self.weights[which],
            C=self.C[which],
            ridge=self.ridge[which],
            solutions=self.solutions[which],
            margins=self.margins[which],
            slope=self.slope[which],
            state=self.state[which],
            bound=self.bound[which],
            n_iter=self.n_iter[which],
        )

    def exact_part(self, which: np.ndarray) -> "Batch":
        """Copies of some of the problems, their margins from float64 products of the solutions."""
        part = self.part(which)
        part.margins = part.basis.push(part.solutions)
        part.slope, part.state = self.loss.slope(part.margins, part.targets, part.weights)
        return part

    def take_over(self, found: "Batch", which: np.ndarray | slice = slice(None)) -> None:
        """Solutions, certificates and steps of some problems of a part, by their `numbers`."""
        numbers = found.numbers[which]
        self.solutions[numbers] = found.solutions[which]
        self.bound[numbers] = found.bound[which]
        self.n_iter[numbers] = found.n_iter[which]

    def widen(self) -> None:
        """Go on in float64."""
        self.margins = self.margins.astype(np.float64)
        self.slope = self.slope.astype(np.float64)
        self.state = self.state.astype(np.float64)
        self.refresh(np.arange(len(self.numbers)))

    def refresh(self, which: np.ndarray) -> None:
        """Margins and certificates of some of the problems from float64 products."""
        part = self.exact_part(which)
        part.certify(part.gradient())
        self.margins[which] = part.margins
        self.slope[which] = part.slope
        self.state[which] = part.state
        self.bound[which] = part.bound

    def gradient(self) -> np.ndarray:
        """Of the objective divided by C, (problems, columns, size), in the slope's precision."""
        gradient = self.basis.pull(self.slope)
        add_penalty(gradient, self.ridge, self.solutions)
        return gradient

    def curvature(self) -> np.ndarray:
        """The mean second derivative of the loss, (problems, columns)."""
        return self.loss.curvature(self.state, self.weights)

    def product(self, one: np.ndarray, two: np.ndarray, pushed: np.ndarray) -> np.ndarray:
        """Inner products (problems,), intercepts included; `pushed` are the margins of `two`."""
        return self.basis.products(one, two, pushed) + inner(one[:, :, -1:], two[:, :, -1:])

    def certify(self, gradient: np.ndarray) -> None:
        """Set `bound`, as `Solution.certificate` says, from strong convexity.

        bound^2 = (u |C g|^2 + |g_b / f|^2) / (u |coef|^2 + |b|^2): g and g_b are the gradients by
        coefficients and intercepts b, f is the curvature along an intercept, and u, the mean square
        of the rows, weighs coefficients by what they do to the margins, as intercepts do.
        """
        basis = self.basis
        X = self.solutions
        unit = basis.total / basis.n + EMPTY
        # what rounding of the rows' products may hide: added above, taken off below
        hidden = basis.rounding * basis.total
        own = basis.n * self.curvature() + EMPTY
        flat = np.where(self.ridge[:, 1:] > 0, self.ridge[:, 1:], own)
        square = np.maximum(basis.products(gradient, gradient), 0)
        square += hidden * inner(gradient, gradient)
        above = np.sum((gradient[:, :, -1] / flat) ** 2, axis=1)
        above += unit * square / self.ridge[:, 0] ** 2
        length = basis.products(X, X, self.margins) - hidden * inner(X, X)
        below = unit * np.maximum(length, 0)
        below += np.sum(X[:, :, -1] ** 2, axis=1)
        self.bound = np.sqrt(above / np.maximum(below, NOTHING))

    def move(self, gradient: np.ndarray, step: np.ndarray, push: np.ndarray) -> None:
        """Go along a step, where it falls, until the slope along it nearly vanishes.

        `push` are the margins of the step. Of phi(t) = objective(solutions + t step), convex,
        phi'(t) = <gradient, step> + <slope(margins + t push) - slope(margins), push>
        + t ridge |step|^2: nothing but margins is needed for another t.
        """
        square = self.ridge[:, 0] * self.basis.products(step, step, push)
        square += self.ridge[:, 1] * inner(step[:, :, -1:], step[:, :, -1:])
        first = self.product(gradient, step, push)
        t = self._search(push, first, square)
        self.solutions = self.solutions + each(t, self.solutions) * step
        self.margins = self.margins + each(t, self.margins) * push
        self.n_iter = self.n_iter + 1

    def _search(self, push: np.ndarray, first: np.ndarray, square: np.ndarray) -> np.ndarray:
        """The zero of phi' of `move`, and slope and state there: (problems,), 0 where it rises.

        Newton's method on phi', bracketed by a falling and a rising point. `first` is phi'(0),
        `square` the penalty's part of phi''.
        """
        loss = self.loss
        margins = self.margins
        old = self.slope
        rise = inner(push, loss.bend(self.state, self.weights, push)) + square
        # what is left in directions that no row has is rounding
        at = np.flatnonzero((first < 0) & (rise > FLOOR * np.abs(square)))
        t = np.zeros(len(first))
        low = np.zeros(len(first))
        high = np.full(len(first), np.inf)
        t[at] = -first[at] / rise[at]
        there = margins + each(t, margins) * push
        self.slope, self.state = loss.slope(there, self.targets, self.weights)
        for _ in range(MOST_TRIALS):
            along = _some(push, at)
            here = t[at]
            # from the difference of the slopes: float32 has too few digits for that of products
            turned = _some(self.slope, at) - _some(old, at)
            fall = first[at] + inner(turned, along) + here * square[at]
            low[at] = np.where(fall < 0, here, low[at])
            high[at] = np.where(fall < 0, high[at], here)
            off = np.abs(fall) > FLAT * np.abs(first[at])
            if not off.any():
                break
            at = at[off]
            along = along[off]
            here = here[off]
            fall = fall[off]
            rise = inner(along, loss.bend(self.state[at], self.weights[at], along)) + square[at]
            newton = here - fall / np.maximum(rise, TINY * np.abs(fall))
            t[at] = _within(newton, here, low[at], high[at])
            there = margins[at] + each(t[at], margins) * along
            self.slope[at], self.state[at] = loss.slope(there, self.targets[at], self.weights[at])
        return t


def _within(better: np.ndarray, here: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Newton's point; where it leaves (low, high) or leaps, their middle or twice as far."""
    outside = (better <= low) | (better >= high) | (better > LEAP * here)
    return np.where(outside, np.where(np.isinf(high), 2 * here, (low + high) / 2), better)


def add_penalty(gradient: np.ndarray, ridge: np.ndarray, solutions: np.ndarray) -> None:
    """Add that of the penalties (problems, 2) at solutions; of a direction, what it is bent by."""
    gradient[:, :, :-1] += ridge[:, :1, None] * solutions[:, :, :-1]
    gradient[:, :, -1] += ridge[:, 1:] * solutions[:, :, -1]


def each(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """One value (problems,) per problem, as (problems, 1, 1) in the precision of an array."""
    return values.astype(like.dtype)[:, None, None]


def _some(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The rows `at`, ascending; all of them without a copy."""
    return array if len(at) == len(array) else array[at]
