"""Truncated Newton steps for rows that are read in blocks: a pass over them for every product."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from heads.batch import TINY, Batch, add_penalty, each
from heads.losses import Loss
from heads.preconditioner import inner
from heads.streamed_columns import StreamedColumns

# Newton's system is solved to LEAST_SOLVED of the gradient's length or better, the more exactly the
# nearer the optimum is, but no better than to AIM of what the certificate asks for or to
# MOST_SOLVED, beyond which float32 products are rounding
LEAST_SOLVED, MOST_SOLVED = 0.3, 1e-4
AIM = 0.3
# of conjugate gradients for one step, and of steps
MOST_INNER = 1000
MOST_STEPS = 200
# a certificate that does not fall by a tenth in STALLED steps, while solutions hardly move (by less
# than STILL of what is asked for, or than rounding), is as low as rounding lets it be; over a loss
# of pieces the gradient may grow for a while as the objective falls: for up to PATIENT steps
STALLED, PATIENT = 8, 64
FALLEN = 0.9
STILL, ROUNDING = 1e-2, 1e-8


def descend_by_newton(whole: Batch, tol: float, max_iter: int) -> None:
    """Newton's steps for a batch, each by conjugate gradients; problems leave as they are solved.

    Features that few rows have are what this is for: a row that is told surely bends hardly at
    all, and one such direction is enough to keep nonlinear conjugate gradients going for hundreds
    of steps, as what is left along it goes on changing all the others' curvature. Linear ones, the
    curvature held, take a few steps more for each.

    What conjugate gradients multiply is in float32, which costs a step some of its digits, and the
    next makes up for it; margins, gradients and certificates are in float64.

    Parameters
    ----------
    whole : Batch
        On `StreamedColumns`, its margins float64.
    tol : float
        The certificate to reach.
    max_iter : int
        Newton's steps; MOST_STEPS at most.

    References
    ----------
    Dembo and Steihaug (1983), "Truncated-Newton algorithms for large-scale unconstrained
    optimization". Eisenstat and Walker (1996), "Choosing the forcing terms in an inexact Newton
    method".
    """
    batch = whole
    first: np.ndarray | None = None
    least = np.full(len(batch.numbers), np.inf)
    since = np.zeros(len(batch.numbers), dtype=int)
    moved = np.ones(len(batch.numbers), dtype=bool)
    most = min(max_iter, MOST_STEPS)
    for count in range(most + 1):
        gradient = batch.gradient()
        batch.certify(gradient)
        fallen = batch.bound < FALLEN * least
        least = np.where(fallen, batch.bound, least)
        since = np.where(fallen, 0, since + 1)
        going = (since < STALLED) | (moved & (since < PATIENT))
        left = np.flatnonzero((batch.bound > tol) & going)
        if count == most or not len(left):
            break
        square = inner(gradient, gradient)
        first = square if first is None else first
        if len(left) < len(batch.numbers):
            whole.take_over(batch)
            batch, gradient, square = batch.part(left), gradient[left], square[left]
            first, least, since = first[left], least[left], since[left]
        # the root of how far the length has come, as Eisenstat and Walker have it
        part = (square / np.maximum(first, TINY)) ** 0.25
        enough = np.maximum(AIM * tol / batch.bound, MOST_SOLVED)
        part = np.minimum(np.maximum(part, enough), LEAST_SOLVED)
        step = _System.of(batch).solve(gradient, part)
        before = batch.solutions
        batch.move(gradient, step, batch.basis.push(step))
        change = inner(batch.solutions - before, batch.solutions - before)
        still = max(STILL * tol, ROUNDING) ** 2
        moved = change > still * inner(batch.solutions, batch.solutions)
    whole.take_over(batch)


@dataclass
class _System:
    """Newton's system of a batch where it is: its Hessian, held, and what preconditions it.

    Attributes
    ----------
    weights, state : as in `Batch`, float32
    coupling : (problems, columns, columns), as `Loss.coupling` gives it
    ridge : as in `Batch`
    """

    loss: Loss
    basis: StreamedColumns
    weights: np.ndarray
    state: np.ndarray
    coupling: np.ndarray
    ridge: np.ndarray

    @classmethod
    def of(cls, batch: Batch) -> "_System":
        return cls(
            batch.loss,
            cast(StreamedColumns, batch.basis),
            batch.weights,
            batch.state.astype(np.float32),
            batch.loss.coupling(batch.state, batch.weights),
            batch.ridge,
        )

    def part(self, which: np.ndarray) -> "_System":
        return _System(
            self.loss,
            self.basis.of(which),
            self.weights[which],
            self.state[which],
            self.coupling[which],
            self.ridge[which],
        )

    def times(self, direction: np.ndarray) -> np.ndarray:
        """The Hessian times a direction (problems, columns, size), by one pass."""

        def bend(place: slice, margins: np.ndarray) -> np.ndarray:
            return self.loss.bend(self.state[:, :, place], self.weights[:, :, place], margins)

        found = self.basis.curve(direction, bend)
        if self.loss.sums_to_zero:
            # what rounding leaves there, no row resists
            found -= found.mean(axis=1, keepdims=True)
        add_penalty(found, self.ridge, direction)
        return found

    def solve(self, gradient: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Steps that leave of the gradient's length no more than a part (problems,)."""
        steps = np.zeros_like(gradient)
        system, at = self, np.arange(len(gradient))
        goal = part**2 * inner(gradient, gradient)
        left = gradient
        scaled = system._precondition(left)
        size = inner(left, scaled)
        direction = -scaled
        for _ in range(MOST_INNER):
            curved = system.times(direction)
            t = size / np.maximum(inner(direction, curved), TINY)
            steps[at] += each(t, steps) * direction
            before = left
            left = left + each(t, left) * curved
            on = inner(left, left) > goal
            if not on.any():
                break
            scaled = system._precondition(left)
            # from what has changed: products are rounded, and directions stay conjugate by it
            turn = inner(left - before, scaled) / np.maximum(size, TINY)
            size = inner(left, scaled)
            direction = each(turn, direction) * direction - scaled
            if not on.all():
                at, left, direction, size, goal = (
                    array[on] for array in (at, left, direction, size, goal)
                )
                system = system.part(np.flatnonzero(on))
        return steps

    def _precondition(self, gradient: np.ndarray) -> np.ndarray:
        return self.basis.precondition_coupled(gradient, self.coupling, self.ridge)
