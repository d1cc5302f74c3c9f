"""Linear heads solved to the optimum, many problems at once, each with a bound on its error."""

import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from heads.bases import Basis, Pieces
from heads.batch import TINY, Batch, each
from heads.losses import LOSSES
from heads.newton import descend_by_newton
from heads.streamed_columns import StreamedColumns

# a certificate is taken after so many steps, then at distances that grow from GROWTH by doubling,
# or when the gradient's length has shrunk to its aim: AIM of the length that would be near enough
FIRST_CHECK = 2
GROWTH = 20
AIM = 0.7
# so many float32 steps drift away from the exact margins by too much to go on
DRIFT = 30
# after so many steps directions are computed in float64: rows that repeat with other labels need it
SLOW = 150
# direct steps are chosen where so many cost less than the steps that the gradients' rate still asks
SWEEPS = 4
# so many direct steps are solved in float32: enough but where the systems are ill-conditioned
ROUGH = 8
# of conjugate gradients, unless the caller has less patience
MOST_STEPS = 4000
# direct steps end in a few; where they take so many, they circle
MOST_SWEEPS = 100
# a certificate that falls more slowly than this, in a step's logarithm, does not fall
SLOWEST = 1e-9
# the most of the last direction in the next: more of it is rounding
MOST_TURN = 100


@dataclass(frozen=True)
class Problems:
    """A batch of problems: each minimises `C * sum(weights * loss(margins)) + |coef|^2 / 2`.

    Attributes
    ----------
    loss : str
        A key of `LOSSES`.
    targets : array of shape (1 or problems, columns, n)
        One-hot for softmax, 0 and 1 for sigmoid, -1 and 1 for squared_hinge.
    weights : array of shape (1 or problems, 1, n)
    C : array of shape (problems,)
    penalize_intercept : bool
        Whether `intercept^2 / 2` is added, as LinearSVC does.
    follows : array of shape (problems,), int, or None
        The problem, of a smaller C, from whose solution direct steps start; -1 is none.
    """

    loss: str
    targets: np.ndarray
    weights: np.ndarray
    C: np.ndarray
    penalize_intercept: bool = False
    follows: np.ndarray | None = None

    def part(self, which: np.ndarray) -> "Problems":
        """Some of the problems; what follows one that is not among them follows none."""
        follows = None
        if self.follows is not None:
            # the last place stands for -1
            place = np.full(len(self.C) + 1, -1)
            place[which] = np.arange(len(which))
            follows = place[self.follows[which]]
        return replace(
            self,
            targets=self.targets[which],
            weights=self.weights[which],
            C=self.C[which],
            follows=follows,
        )


class Solution(NamedTuple):
    """Optima of a batch.

    Attributes
    ----------
    coef : array of shape (problems, columns, size - 1)
        Coefficients for `Columns`, combinations of the rows for `Products`.
    intercept : array of shape (problems, columns)
    certificate : array of shape (problems,)
        Bound on the relative error that the gradient left over allows: the objective, divided by
        C, is 1/C strongly convex, so |coef - optimum| <= C |gradient|. An intercept without
        penalty counts by its own curvature.
    n_iter : array of shape (problems,), int
    """

    coef: np.ndarray
    intercept: np.ndarray
    certificate: np.ndarray
    n_iter: np.ndarray


def solve(
    problems: Problems,
    basis: Basis,
    *,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    tol: float = 2e-4,
    max_iter: int = MOST_STEPS,
    quiet: bool = False,
) -> Solution:
    """Solve a batch of problems to the optimum.

    Nonlinear conjugate gradients with exact line searches on the margins: a step takes two matrix
    products, of all problems at once. They are preconditioned by the Hessian that there is when
    every row bends alike, in the leading directions. A piecewise quadratic loss goes on by
    Newton's direct steps where these are sooner done. Directions are computed in float32,
    certificates in float64. Over rows that are read in blocks see `newton.descend_by_newton`.

    Parameters
    ----------
    problems : Problems
    basis : Columns, StreamedColumns, Products or Stack
        The n rows.
    start : pair of arrays (problems, columns, size - 1) and (problems, columns), or None
        Coefficients and intercepts to start from; None is zero.
    tol : float
        The certificate to reach.
    max_iter : int
        Steps of conjugate gradients, or of Newton's over rows that are read in blocks.
    quiet : bool
        Whether to leave out the ConvergenceWarning for what did not reach `tol`; its certificate
        tells as well.

    References
    ----------
    Polak and Ribiere (1969), "Note sur la convergence de methodes de directions conjuguees".
    Nocedal and Wright (2006), "Numerical Optimization", chapter 5.2: the restart of PR+.
    """
    if isinstance(basis, StreamedColumns):
        batch = _start_batch(problems, basis, start, np.float64)
        descend_by_newton(batch, tol, max_iter)
    else:
        # steps are taken in float32, twice as fast; what they reach is certified in float64
        batch = _start_batch(problems, basis, start)
        limits = _Limits(
            tol,
            max_iter,
            first_check=FIRST_CHECK if start is None else 0,
            pieces=batch.loss.piecewise and problems.penalize_intercept,
        )
        _descend(batch, limits)
        if limits.pieces:
            _solve_stopped(batch, problems.follows, tol)
    if not quiet:
        _warn_of_stopped(batch, tol)
    X = batch.solutions
    return Solution(X[:, :, :-1], X[:, :, -1], batch.bound, batch.n_iter)


class _Limits(NamedTuple):
    """When to stop.

    first_check : the first step at which all are certified
    pieces : whether problems are left unsolved where direct steps are sooner done
    """

    tol: float
    max_iter: int
    first_check: int
    pieces: bool


def _start_batch(
    problems: Problems,
    basis: Basis,
    start: tuple[np.ndarray, np.ndarray] | None,
    kind: type[np.floating] = np.float32,
) -> Batch:
    """Where a batch starts, its margins in a numpy type."""
    C = np.asarray(problems.C, dtype=np.float64)
    n = len(C)
    targets = np.broadcast_to(problems.targets, (n, *problems.targets.shape[1:]))
    weights = np.broadcast_to(problems.weights, (n, *problems.weights.shape[1:]))
    X = np.zeros((*targets.shape[:2], basis.size))
    if start is None:
        margins: np.ndarray = np.zeros(targets.shape, dtype=kind)
    else:
        X[:, :, :-1], X[:, :, -1] = start
        margins = basis.push(X.astype(kind))
    loss = LOSSES[problems.loss]
    targets = targets.astype(np.float32)
    weights = weights.astype(np.float32)
    slope, state = loss.slope(margins, targets, weights)
    return Batch(
        loss,
        basis,
        numbers=np.arange(n),
        targets=targets,
        weights=weights,
        C=C,
        ridge=np.outer(1 / C, [1.0, float(problems.penalize_intercept)]),
        solutions=X,
        margins=margins,
        slope=slope,
        state=state,
        bound=np.full(n, np.inf),
        n_iter=np.zeros(n, dtype=int),
    )


@dataclass
class _Memory:
    """What conjugate gradients remember of the last step of each problem.

    step, push : the direction, and its margins
    gradient : of the last step
    size : (problems,), <gradient, preconditioned gradient>
    goal : (problems,), the size at which the next certificate is taken
    since : (problems,), the step of the last certificate
    """

    step: np.ndarray
    push: np.ndarray
    gradient: np.ndarray
    size: np.ndarray
    goal: np.ndarray
    since: np.ndarray

    @classmethod
    def blank(cls, batch: Batch) -> "_Memory":
        n = len(batch.numbers)
        return cls(
            step=np.zeros_like(batch.solutions, dtype=np.float32),
            push=np.zeros_like(batch.margins, dtype=np.float32),
            gradient=np.zeros_like(batch.solutions, dtype=np.float32),
            size=np.ones(n),
            goal=np.zeros(n),
            since=np.zeros(n),
        )

    def part(self, which: np.ndarray) -> "_Memory":
        return _Memory(
            self.step[which],
            self.push[which],
            self.gradient[which],
            self.size[which],
            self.goal[which],
            self.since[which],
        )

    def turn(self, batch: Batch) -> None:
        """The next direction: -M g + beta * the last, M being the preconditioner.

        beta = max(<g - g_last, M g> / <g_last, M_last g_last>, 0), by Polak and Ribiere.
        """
        basis = batch.basis
        gradient = batch.gradient()
        scaled = basis.precondition(gradient, batch.curvature(), batch.ridge)
        moved = basis.push(scaled)
        size = batch.product(gradient, scaled, moved)
        astray = np.flatnonzero(~(size > 0))
        if len(astray):  # rounding left a direction that does not fall: the gradient does
            scaled[astray] = gradient[astray]
            moved[astray] = basis.of(astray).push(gradient[astray])
            size = batch.product(gradient, scaled, moved)
        # a length that rounding made negative starts anew
        last = np.where(self.size > 0, self.size, np.inf)
        beta = (size - batch.product(self.gradient, scaled, moved)) / last
        beta = np.clip(beta, 0, MOST_TURN)
        self.step = each(beta, gradient) * self.step - scaled
        self.push = each(beta, gradient) * self.push - moved
        self.gradient = gradient
        self.size = size


def _descend(whole: Batch, limits: _Limits) -> None:
    """Conjugate gradients for a batch; problems leave it as they are solved."""
    batch = whole.part(np.arange(len(whole.numbers)))
    memory = _Memory.blank(batch)
    check = limits.first_check
    for count in range(limits.max_iter + 1):
        if count == SLOW:
            batch.widen()
        memory.turn(batch)
        everyone = count in (check, limits.max_iter)
        due = np.flatnonzero((memory.size <= memory.goal) | everyone)
        if count == check:
            check = 2 * check + GROWTH
        if len(due):
            out = due[_certify_due(batch, memory, due, count, limits)]
            if len(out):
                whole.take_over(batch, out)
                left = np.setdiff1d(np.arange(len(batch.numbers)), out)
                batch = batch.part(left)
                memory = memory.part(left)
            if not len(batch.numbers):
                break
        if count < limits.max_iter:
            batch.move(memory.gradient, memory.step, memory.push)
    whole.take_over(batch)


def _certify_due(
    batch: Batch, memory: _Memory, due: np.ndarray, count: int, limits: _Limits
) -> np.ndarray:
    """Certificates of the problems `due`, and when to take the next: which of them leave."""
    before = batch.bound[due]
    since = count - memory.since[due]
    exact = due
    if batch.basis.pulls or count < DRIFT:  # float32 tells what is worth exact products
        batch.certify(memory.gradient)
        exact = due[(batch.bound[due] <= limits.tol) | (count == limits.max_iter)]
    if len(exact):
        batch.refresh(exact)
    bound = np.maximum(batch.bound[due], TINY)
    # sizes are squares of the gradient's length, which the certificate is proportional to
    memory.goal[due] = memory.size[due] * np.minimum(AIM * limits.tol / bound, AIM) ** 2
    memory.since[due] = count
    out = bound <= limits.tol
    if limits.pieces:
        coming = _coming_steps(bound, before, since, limits.tol)
        out |= _sooner_solved(batch.basis, batch.state[due], coming)
    return out


def _coming_steps(
    bound: np.ndarray, before: np.ndarray, since: np.ndarray, tol: float
) -> np.ndarray:
    """Steps (problems,) until `tol`, by the rate at which the bound fell `since` the one before."""
    rate = np.log(np.maximum(before / bound, 1)) / np.maximum(since, 1)
    return np.where(np.isinf(before), GROWTH, np.log(bound / tol) / np.maximum(rate, SLOWEST))


def _sooner_solved(basis: Basis, state: np.ndarray, coming: np.ndarray) -> np.ndarray:
    """Whether direct steps cost less than so many steps of gradients to come."""
    on = np.count_nonzero(state, axis=(1, 2))
    direct = np.minimum(basis.direct_cost(on), basis.cost_of_most(on))
    return SWEEPS * direct < coming * basis.step_cost


def _solve_stopped(batch: Batch, follows: np.ndarray | None, tol: float) -> None:
    """Direct steps for the problems that have no certificate yet, those of the smallest C first."""
    if not (batch.bound > tol).any():
        return
    for strength in np.unique(batch.C):
        hard = np.flatnonzero((strength == batch.C) & (batch.bound > tol))
        if follows is not None:
            warm = hard[follows[hard] >= 0]
            batch.solutions[warm] = batch.solutions[follows[warm]]
        if len(hard):
            _solve_pieces(batch, hard, tol)


def _solve_pieces(whole: Batch, which: np.ndarray, tol: float) -> None:
    """Newton's direct steps for some problems of a batch, all of one C."""
    batch = whole.exact_part(which)
    for count in range(MOST_SWEEPS + 1):
        gradient = batch.gradient()
        batch.certify(gradient)
        whole.take_over(batch)
        left = np.flatnonzero(batch.bound > tol)
        if not len(left) or count == MOST_SWEEPS:
            break
        batch = batch.part(left)
        gradient = gradient[left]
        step = _direct_step(batch, gradient, rough=count < ROUGH)
        if step is None:
            break
        batch.move(gradient, step, batch.basis.push(step))


def _direct_step(batch: Batch, gradient: np.ndarray, rough: bool) -> np.ndarray | None:
    """Newton's step, in float64 where float32 is not enough; None where neither is."""
    pieces = Pieces(batch.state, batch.targets, batch.solutions, gradient, batch.C)
    for exact in [False, True] if rough else [True]:
        try:
            return batch.basis.solve_directly(pieces, exact)
        except np.linalg.LinAlgError:
            pass
    return None


def _warn_of_stopped(batch: Batch, tol: float) -> None:
    lost = ~(batch.bound <= tol)
    if lost.any():
        warnings.warn(
            f"{lost.sum()} of {len(lost)} problems stopped after {batch.n_iter[lost].max()} steps, "
            f"{batch.bound.max():.1g} from the optimum, expected {tol:.1g}; "
            f"leave out the largest C ({batch.C[lost].max():.1g})",
            ConvergenceWarning,
            stacklevel=3,
        )
