"""Linear heads solved to the optimum for many problems at once."""

import warnings
from copy import copy
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from heads.lapack import factorise, invert, solve_factorised

# how many leading directions of the rows precondition, and one of at least how many rows; of few columns all
DIRECTIONS = 32
ROWS_EACH = 25
FEW_COLUMNS = 300
# a certificate is taken after so many steps, then at growing distances, or when the gradient has shrunk to its aim
FIRST_CHECK, GROWTH = 2, 20
# so many float32 steps drift away from the exact margins by too much to go on
DRIFT = 30
AIM = 0.7
# a certificate that is zero counts as this
TINY = 1e-30
# after so many steps directions are computed in float64: rows that repeat with other labels need it
SLOW = 150
# direct steps are chosen where so many cost less than the steps that the gradients' rate still asks for
SWEEPS = 4
# so many direct steps share the inverse for all rows, about
SHARED_BY = 16
# so many direct steps are solved in float32: enough but where the systems are ill-conditioned
ROUGH = 8
MOST_SWEEPS = 100
# the largest share of the last direction in the next: more of it is rounding
MOST_TURN = 100
# inner products are exact to about this share of the largest: what is smaller is rounding
ROUNDING = 1e-9
# the share of its slope at which a line search ends
FLAT = 0.1


class Loss(NamedTuple):
    """A loss on margins of shape (problems, columns, n), with its derivatives.

    slope : (margins, targets, weights) -> first derivative and `state`, which holds the second
    bend : (state, weights, direction) -> second derivative times a direction
    curvature : (state, weights) -> (problems, columns), its mean over the rows
    piecewise : whether it is piecewise quadratic: Newton's step on the rows that bend is the optimum of their piece
    """

    slope: callable
    bend: callable
    curvature: callable
    piecewise: bool = False


def _softmax_slope(margins, targets, weights):
    chances = margins - margins.max(axis=1, keepdims=True)
    np.exp(chances, out=chances)
    chances /= chances.sum(axis=1, keepdims=True)
    # what the target lacks to 1 is the sum of the others: the difference has too few digits in float32
    slope = chances * (1 - targets)
    slope -= targets * slope.sum(axis=1, keepdims=True)
    slope *= weights
    return slope, chances


def _softmax_bend(chances, weights, direction):
    pushed = chances * direction
    pushed -= chances * pushed.sum(axis=1, keepdims=True)
    pushed *= weights
    return pushed


def _softmax_curvature(chances, weights):
    k = chances.shape[1]
    # at equal chances the second derivative is 1/k on the directions that sum to zero, not 1/k (1 - 1/k)
    return np.mean(weights * chances * (1 - chances), axis=2) * k / (k - 1)


def _sigmoid_slope(margins, targets, weights):
    signs = 2 * targets - 1
    wrong = expit(-signs * margins)
    return -signs * weights * wrong, weights * wrong * (1 - wrong)


def _hinge_slope(margins, targets, weights):
    short = np.maximum(1 - targets * margins, 0)
    return -2 * weights * targets * short, 2 * weights * (short > 0)


LOSSES = {
    "softmax": Loss(_softmax_slope, _softmax_bend, _softmax_curvature),
    "sigmoid": Loss(
        _sigmoid_slope, lambda state, _, u: state * u, lambda state, _: state.mean(axis=2)
    ),
    "squared_hinge": Loss(
        _hinge_slope,
        lambda state, _, u: state * u,
        lambda state, _: state.mean(axis=2),
        piecewise=True,
    ),
}


class Columns:
    """Rows by their columns: a solution is (coefficients, intercept), its margins those times [Z, 1].

    Parameters
    ----------
    Z : array of shape (n, r), float64
        Its columns centred, as `reduction` makes them.
    """

    pulls = True  # a gradient takes a matrix product
    rounding = 0.0
    factors = None

    def __init__(self, Z):
        self.n, self.size, self.exact = len(Z), Z.shape[1] + 1, Z
        self.rough = np.ones((self.n, self.size), dtype=np.float32)
        self.rough[:, :-1] = Z
        self.total = np.einsum("ij,ij->", Z, Z)
        Z32 = self.rough[:, :-1]
        if self.size <= FEW_COLUMNS:
            Q = np.eye(self.size - 1, dtype=np.float32)
        else:
            Q = _leading_directions(lambda Q: Z32.T @ (Z32 @ Q), self.size - 1)
        found = Z32 @ Q
        values, turn = np.linalg.eigh((found.T @ found).astype(np.float64))
        self._keep_directions(
            np.maximum(values, 0), Q @ turn.astype(np.float32), Q @ turn.astype(np.float32)
        )
        self.step_cost = 4 * self.n * self.size

    def _keep_directions(self, values, into, out):
        """Set the leading directions, the intercept's last, and the mean square of the rows in all others."""
        rank = len(values)
        self.rest = max(self.total - values.sum(), 0) / max(min(self.n, self.size) - 1 - rank, 1)
        if rank and rank >= self.size - 1:  # nothing is left, and what no row has is rounding
            self.rest = values[values >= 1e-6 * values.max()].min()
            values = np.maximum(values, self.rest)
        self.squares = np.r_[values, self.n]
        self.into, self.out = (np.zeros((self.size, rank + 1), dtype=np.float32) for _ in range(2))
        self.into[:-1, :-1], self.out[:-1, :-1] = into, out
        self.into[-1, -1] = self.out[-1, -1] = 1

    def scaled(self, factors):
        """The same rows for a batch each of whose problems sees the columns times its own factors.

        factors : array of shape (problems, 1, size), the intercept's 1; for losses that take no direct steps
        """
        rows = copy(self)
        rows.factors = factors
        return rows

    def of(self, problems):
        """The rows as some problems of the batch see them."""
        return self if self.factors is None else self.scaled(self.factors[problems])

    def _factored(self, x):
        return x if self.factors is None else x * self.factors.astype(x.dtype)

    def push(self, x):
        """The margins of solutions (problems, columns, size), in their precision."""
        x = self._factored(x)
        if x.dtype == np.float32:
            return _flat_product(x, self.rough.T)
        return _flat_product(x[:, :, :-1], self.exact.T) + x[:, :, -1:]

    def pull(self, slope):
        """The gradient of solutions whose margins have this slope, in its precision."""
        if slope.dtype == np.float32:
            return self._factored(_flat_product(slope, self.rough))
        return self._factored(
            np.concatenate(
                [_flat_product(slope, self.exact), slope.sum(axis=2, keepdims=True)], axis=2
            )
        )

    def precondition(self, G, bend, ridge):
        """G times the inverse Hessian that there is when every row bends alike, by (problems, columns).

        ridge : array of shape (problems, 2), the penalties of coefficients and intercept
        """
        penalties = np.concatenate(
            [np.repeat(ridge[:, :1], len(self.squares) - 1, axis=1), ridge[:, 1:]], axis=1
        )
        rest = 1 / (ridge[:, :1, None] + bend[:, :, None] * self.rest + 1e-12)
        leading = 1 / (penalties[:, None] + bend[:, :, None] * self.squares + 1e-12) - rest
        found = _flat_product(leading.astype(G.dtype) * _flat_product(G, self.into), self.out.T)
        found += rest.astype(G.dtype) * G
        return found

    def products(self, x, y, pushed=None):
        """Inner products (problems,) of the coefficients of x and y, `pushed` being the margins of y."""
        return _inner(x[:, :, :-1], y[:, :, :-1])

    def direct_cost(self, on):
        """Multiplications that a direct step on so many rows takes, in float32's time."""
        return 2 * (on * self.size**2 + self.size**3 / 3)

    def cost_of_most(self, on):
        """The same, where it starts from all rows and takes out those that do not count."""
        return np.full(len(on), np.inf)

    def solve_directly(self, state, y, x, G, C, exact):
        """Newton steps (problems, 1, size) of problems of one column, an intercept penalised."""
        steps = np.empty_like(G)
        for step, bend, g, c in zip(steps[:, 0], state[:, 0], G[:, 0], C, strict=True):
            on = np.flatnonzero(bend)
            part = np.column_stack([self.exact[on], np.ones(len(on))])
            system = (part * bend[on, None]).T @ part
            system[np.diag_indices(self.size)] += 1 / c
            step[:] = -solve_factorised(factorise(system), g[None].copy())[0]
        return steps


class Products(Columns):
    """Rows by their inner products: a solution is (alpha, intercept), its coefficients alpha times the rows.

    Half the work of columns where these are as many as the rows, and no row is needed.

    Parameters
    ----------
    K : array of shape (n, n), float64
        Inner products of the rows, centred.
    """

    pulls = False
    rounding = ROUNDING

    def __init__(self, K):
        self.n, self.size, self.exact = len(K), len(K) + 1, K
        self.rough = np.ones((self.size, self.n), dtype=np.float32)
        self.rough[:-1] = K
        self.total = K.trace()
        K32 = self.rough[:-1]
        Q = _leading_directions(lambda Q: K32 @ Q, self.n)
        values, turn = np.linalg.eigh((Q.T @ (K32 @ Q)).astype(np.float64))
        kept = values > 1e-6 * values.max(initial=0)
        out = Q @ (turn[:, kept] / np.sqrt(values[kept])).astype(np.float32)
        self._keep_directions(values[kept], K32 @ out, out)
        self.step_cost = 2 * self.n**2
        self._whole = None, None

    def push(self, x):
        if x.dtype == np.float32:
            return _flat_product(x, self.rough)
        return _flat_product(x[:, :, :-1], self.exact) + x[:, :, -1:]

    def pull(self, slope):
        return np.concatenate([slope, slope.sum(axis=2, keepdims=True)], axis=2)

    def products(self, x, y, pushed=None):
        return _inner(x[:, :, :-1], (self.push(y) if pushed is None else pushed) - y[:, :, -1:])

    def direct_cost(self, on):
        return on**3 / 3

    def cost_of_most(self, on):
        return (self.n - on) ** 3 / 3 + 8 * self.n**2 + self.n**3 / SHARED_BY

    def solve_directly(self, state, y, x, G, C, exact):
        """Newton steps by the dual of the active set's least squares (Keerthi and DeCoste, 2005).

        (K_ss + 1 + diag(1 / (C state))) alpha = y_s, solved for the change of alpha.
        """
        K = self.exact if exact else self.rough[:-1]
        on = state[:, 0] > 0
        start = x[:, 0, :-1] * on
        ridge = 1 / (C[:, None] * np.where(on, state[:, 0], 1))
        right = (
            y[:, 0] - start @ self.exact - start.sum(axis=1, keepdims=True) - ridge * start
        ) * on
        right, values = right.astype(K.dtype), ridge[on]
        count = on.sum(axis=1)
        alike = len(values) > 0 and np.ptp(values) <= 1e-12 * values.max()
        many = (self.cost_of_most(count) < count**3 / 3) & alike
        if many.any():
            start[many] += self._solve_most(K, values[0], on[many], right[many])
        for i in np.flatnonzero(~many):
            rows = np.flatnonzero(on[i])
            factor = _factorise(K.take(rows, axis=0).take(rows, axis=1), ridge[i, rows])
            start[i, rows] += solve_factorised(factor, right[i : i + 1, rows])[0]
        return np.column_stack([start, start.sum(axis=1)])[:, None] - x

    def _solve_most(self, K, ridge, on, right):
        """Solutions, zero outside of `on`, from the factor for all rows and its inverse (Woodbury's identity)."""
        kept = self._whole  # one name for one tuple: batches in other threads replace it
        if kept[:2] != (ridge, K.dtype):
            factor = _factorise(K.copy(), ridge)
            self._whole = kept = ridge, K.dtype, factor, invert(factor.copy())
        *_, factor, inverse = kept
        found = solve_factorised(factor, right.copy())
        # the right sides of the other rows are free: those that make their solutions zero
        for i, rows in enumerate(map(np.flatnonzero, ~on)):
            if len(rows):
                part = factorise(inverse.take(rows, axis=0).take(rows, axis=1))
                right[i, rows] = -solve_factorised(part, found[i : i + 1, rows])[0]
        return solve_factorised(factor, right) * on


def _factorise(K, ridge):
    """Cholesky's factor of K + 1 + diag(ridge), in the place of K."""
    K += 1
    K[np.diag_indices(len(K))] += ridge
    return factorise(K)


class Stack(Products):
    """Several `Products` of as many rows each, as the folds have: each problem has its own.

    Parameters
    ----------
    parts : list of Products
    owners : array of shape (problems,), int
        The number of each problem's part, ascending.
    """

    def __init__(self, parts, owners):
        self.parts, self.owners = parts, owners
        self.n, self.size, self.step_cost = parts[0].n, parts[0].size, parts[0].step_cost
        self.total = np.array([part.total for part in parts])[owners]
        ends = np.searchsorted(owners, np.arange(len(parts) + 1))
        self.spans = [
            (part, slice(*span))
            for part, *span in zip(parts, ends, ends[1:], strict=False)
            if np.ptp(span)
        ]

    def of(self, problems):
        return Stack(self.parts, self.owners[problems])

    def _by_part(self, method, *arrays, **options):
        found = [
            getattr(part, method)(*(array[span] for array in arrays), **options)
            for part, span in self.spans
        ]
        return np.concatenate(found) if len(found) != 1 else found[0]

    def push(self, x):
        return self._by_part("push", x)

    def precondition(self, G, bend, ridge):
        return self._by_part("precondition", G, bend, ridge)

    def solve_directly(self, state, y, x, G, C, exact):
        return self._by_part("solve_directly", state, y, x, G, C, exact=exact)


class Solution(NamedTuple):
    """Optima of a batch.

    coef : array of shape (problems, columns, size - 1)
        Coefficients for `Columns`, combinations of the rows for `Products`.
    intercept : array of shape (problems, columns)
    certificate : array of shape (problems,)
        Bound on the relative error that the gradient left over allows: the objective is 1/C strongly convex,
        so |coef - optimum| <= C |gradient|. An intercept without penalty counts by its own curvature.
    n_iter : array of shape (problems,), int
    """

    coef: np.ndarray
    intercept: np.ndarray
    certificate: np.ndarray
    n_iter: np.ndarray


def solve(
    loss,
    rows,
    targets,
    weights,
    C,
    *,
    penalize_intercept=False,
    start=None,
    follows=None,
    tol=2e-4,
    max_iter=4000,
    quiet=False,
):
    """Minimise `C * sum(weights * loss(margins)) + |coef|^2 / 2` for a batch of problems.

    Nonlinear conjugate gradients (Polak and Ribiere, 1969) with exact line searches on the margins: a step takes
    two matrix products, of all problems at once. Preconditioned by the Hessian in the leading directions that there
    is when every row bends alike. A piecewise quadratic loss goes on by Newton's direct steps where these are
    sooner done. Directions are computed in float32, certificates in float64.

    Parameters
    ----------
    loss : str
        A key of `LOSSES`.
    rows : Columns, Products or Stack
        The n rows.
    targets : array of shape (1 or problems, columns, n)
        One-hot for softmax, 0 and 1 for sigmoid, -1 and 1 for squared_hinge.
    weights : array of shape (1 or problems, 1, n)
    C : array of shape (problems,)
    penalize_intercept : bool
        Whether `intercept^2 / 2` is added, as LinearSVC does.
    start : pair of arrays (problems, columns, size - 1) and (problems, columns), or None
        Coefficients and intercepts to start from; None is zero.
    follows : array of shape (problems,), int, or None
        The problem, of a smaller C, from whose solution direct steps start; -1 is none.
    tol : float
        The certificate to reach.
    max_iter : int
        Steps of conjugate gradients.
    quiet : bool
        Whether to leave out the ConvergenceWarning for what did not reach `tol`; its certificate tells as well.
    """
    loss, C = LOSSES[loss], np.asarray(C, dtype=np.float64)
    targets = np.broadcast_to(targets, (len(C), *targets.shape[1:]))
    weights = np.broadcast_to(weights, (len(C), *weights.shape[1:]))
    X = np.zeros((*targets.shape[:2], rows.size))
    if start is not None:
        X[:, :, :-1], X[:, :, -1] = start
    batch = _Batch(
        loss,
        rows,
        at=np.arange(len(C)),
        x=X,
        m=np.zeros(targets.shape, dtype=np.float32)
        if start is None
        else rows.push(X.astype(np.float32)),
        y=targets.astype(np.float32),
        o=weights.astype(np.float32),
        C=C,
        ridge=np.outer(1 / C, [1.0, float(penalize_intercept)]),
        bound=np.full(len(C), np.inf),
        n_iter=np.zeros(len(C), dtype=int),
    )
    pieces = loss.piecewise and penalize_intercept
    found = _descend(batch, tol, max_iter, 0 if start else FIRST_CHECK, pieces)
    if pieces and (found.bound > tol).any():
        for strength in np.unique(C):
            hard = np.flatnonzero((strength == C) & (found.bound > tol))
            if follows is not None:
                warm = hard[follows[hard] >= 0]
                found.x[warm] = found.x[follows[warm]]
            if len(hard):
                found.put(hard, _solve_pieces(found.part(hard), tol))
    X, certificate, n_iter = found.x, found.bound, found.n_iter
    lost = ~(certificate <= tol)
    if lost.any() and not quiet:
        warnings.warn(
            f"{lost.sum()} of {len(C)} problems stopped after {n_iter[lost].max()} steps, {certificate.max():.1g} "
            f"from the optimum, expected {tol:.1g}; leave out the largest C ({C[lost].max():.1g})",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Solution(X[:, :, :-1], X[:, :, -1], certificate, n_iter)


class _Batch:
    """Arrays of shape (problems, ...) of what there is of every problem; `loss` and `rows` are of all."""

    def __init__(self, loss, rows, **arrays):
        vars(self).update(arrays, loss=loss, rows=rows)
        if "slope" not in arrays:
            self.slope, self.state = loss.slope(self.m, self.y, self.o)

    def part(self, which):
        """Some of the problems."""
        arrays = {
            name: value[which]
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        return _Batch(self.loss, self.rows.of(which), **arrays)

    def put(self, which, found, at=slice(None), names=("x", "bound", "n_iter")):
        """Take over what another batch found, in its places `at`, for some of the problems."""
        for name in names:
            getattr(self, name)[which] = getattr(found, name)[at]

    def certify(self, G):
        """Set `bound`, given the gradient."""
        rows, ridge, x = self.rows, self.ridge, self.x
        unit = rows.total / rows.n + 1e-12
        # what rounding of the rows' products may hide
        hidden = rows.rounding * rows.total
        flat = np.where(
            ridge[:, 1:] > 0, ridge[:, 1:], rows.n * self.loss.curvature(self.state, self.o) + 1e-12
        )
        above = np.sum((G[:, :, -1] / flat) ** 2, axis=1)
        above += (
            unit * (np.maximum(rows.products(G, G), 0) + hidden * _inner(G, G)) / ridge[:, 0] ** 2
        )
        below = unit * np.maximum(rows.products(x, x, self.m) - hidden * _inner(x, x), 0)
        below += np.sum(x[:, :, -1] ** 2, axis=1)
        self.bound = np.sqrt(above / np.maximum(below, 1e-24))

    def refresh(self, which):
        """Margins and certificates of some of the problems from float64 products."""
        rows, x = self.rows.of(which), self.x[which]
        part = _Batch(
            self.loss,
            rows,
            x=x,
            m=rows.push(x),
            y=self.y[which],
            o=self.o[which],
            ridge=self.ridge[which],
        )
        part.certify(part.gradient(part.slope))
        self.put(which, part, names=("m", "slope", "state", "bound"))

    def gradient(self, slope):
        G = self.rows.pull(slope)
        G[:, :, :-1] += self.ridge[:, :1, None] * self.x[:, :, :-1]
        G[:, :, -1] += self.ridge[:, 1:] * self.x[:, :, -1]
        return G

    def product(self, one, two, pushed):
        """Inner products (problems,) with solutions whose margins are `pushed`, intercepts included."""
        return self.rows.products(one, two, pushed) + _inner(one[:, :, -1:], two[:, :, -1:])

    def move(self, G, step, push):
        """Go along a step, where it falls, until the slope along it nearly vanishes; G is the gradient.

        The objective is convex: Newton's method on its slope, kept between a falling and a rising point.
        """
        loss, y, o, m, old = self.loss, self.y, self.o, self.m, self.slope
        square = self.ridge[:, 0] * self.rows.products(step, step, push)
        square += self.ridge[:, 1] * _inner(step[:, :, -1:], step[:, :, -1:])
        first = self.product(G, step, push)
        rise = _inner(push, loss.bend(self.state, o, push)) + square
        # what is left in directions that no row has is rounding
        at = np.flatnonzero((first < 0) & (rise > 1e-6 * np.abs(square)))
        t, low, high = np.zeros(len(first)), np.zeros(len(first)), np.full(len(first), np.inf)
        t[at] = -first[at] / rise[at]
        self.slope, self.state = loss.slope(m + _each(t, m) * push, y, o)
        for _ in range(40):
            part, here = _some(push, at), t[at]
            # from the difference of the slopes: float32 has too few digits for that of their products
            fall = (
                first[at] + _inner(_some(self.slope, at) - _some(old, at), part) + here * square[at]
            )
            low[at], high[at] = (
                np.where(fall < 0, here, low[at]),
                np.where(fall < 0, high[at], here),
            )
            off = np.abs(fall) > FLAT * np.abs(first[at])
            if not off.any():
                break
            at, part, here, fall = at[off], part[off], here[off], fall[off]
            rise = _inner(part, loss.bend(self.state[at], o[at], part)) + square[at]
            better = here - fall / np.maximum(rise, 1e-30 * np.abs(fall))
            outside = (better <= low[at]) | (better >= high[at]) | (better > 4 * here)
            t[at] = np.where(
                outside, np.where(np.isinf(high[at]), 2 * here, (low[at] + high[at]) / 2), better
            )
            self.slope[at], self.state[at] = loss.slope(
                m[at] + _each(t[at], m) * part, y[at], o[at]
            )
        self.x, self.m = self.x + _each(t, self.x) * step, m + _each(t, m) * push
        self.n_iter = self.n_iter + 1


def _each(values, like):
    """One value (problems,) per problem, as (problems, 1, 1) in the precision of an array."""
    return values.astype(like.dtype)[:, None, None]


def _some(array, at):
    return array if len(at) == len(array) else array[at]


def _descend(whole, tol, max_iter, check, pieces):
    """Conjugate gradients for a batch; `check` is the first step at which all are certified.

    With `pieces`, problems are left unsolved where direct steps are sooner done. Returns the batch.
    """
    batch, n = whole.part(np.arange(len(whole.at))), len(whole.at)
    batch.goal, batch.then, batch.size = np.zeros(n), np.zeros(n), np.ones(n)
    batch.step, batch.push, batch.old = (
        np.zeros_like(part, dtype=np.float32) for part in (batch.x, batch.m, batch.x)
    )
    for count in range(max_iter + 1):
        if count == SLOW:
            batch.m, batch.slope, batch.state = (
                part.astype(float) for part in (batch.m, batch.slope, batch.state)
            )
            batch.refresh(np.arange(len(batch.at)))
        rows, G = batch.rows, batch.gradient(batch.slope)
        scaled = rows.precondition(G, batch.loss.curvature(batch.state, batch.o), batch.ridge)
        moved = rows.push(scaled)
        size = batch.product(G, scaled, moved)
        astray = np.flatnonzero(~(size > 0))
        if len(astray):  # rounding left a direction that does not fall: the gradient does
            scaled[astray] = G[astray]
            moved[astray] = rows.of(astray).push(G[astray])
            size = batch.product(G, scaled, moved)
        # a length that rounding made negative starts anew
        turn = (size - batch.product(batch.old, scaled, moved)) / np.where(
            batch.size > 0, batch.size, np.inf
        )
        turn = np.clip(turn, 0, MOST_TURN)
        batch.step = _each(turn, G) * batch.step - scaled
        batch.push = _each(turn, G) * batch.push - moved
        batch.old, batch.size = G, size
        due = np.flatnonzero((size <= batch.goal) | (count in (check, max_iter)))
        if count == check:
            check = 2 * check + GROWTH
        if len(due):
            before, since = batch.bound[due], count - batch.then[due]
            exact = due
            if rows.pulls or count < DRIFT:  # float32 tells what is worth exact products
                batch.certify(G)
                exact = due[(batch.bound[due] <= tol) | (count == max_iter)]
            if len(exact):
                batch.refresh(exact)
            bound = np.maximum(batch.bound[due], TINY)
            batch.goal[due], batch.then[due] = (
                size[due] * np.minimum(AIM * tol / bound, AIM) ** 2,
                count,
            )
            out = bound <= tol
            if pieces:
                out |= _sooner_solved(rows, batch.state[due], bound, before, since, tol)
            if out.any():
                whole.put(batch.at[due[out]], batch, due[out])
                batch = batch.part(np.setdiff1d(np.arange(len(size)), due[out]))
            if not len(batch.at):
                break
        if count < max_iter:
            batch.move(batch.old, batch.step, batch.push)
    whole.put(batch.at, batch)
    return whole


def _sooner_solved(rows, state, bound, before, since, tol):
    """Whether direct steps cost less than the gradients' steps to come, by their rate since the last certificate."""
    on = np.count_nonzero(state, axis=(1, 2))
    rate = np.log(np.maximum(before / bound, 1)) / np.maximum(since, 1)
    coming = np.where(np.isinf(before), GROWTH, np.log(bound / tol) / np.maximum(rate, 1e-9))
    return (
        SWEEPS * np.minimum(rows.direct_cost(on), rows.cost_of_most(on)) < coming * rows.step_cost
    )


def _solve_pieces(whole, tol):
    """Newton's direct steps for problems of one C; returns the batch."""
    whole.m = whole.rows.push(whole.x)
    whole.slope, whole.state = whole.loss.slope(whole.m, whole.y, whole.o)
    batch = whole.part(np.arange(len(whole.at)))
    batch.at = np.arange(len(whole.at))
    for count in range(MOST_SWEEPS + 1):
        G = batch.gradient(batch.slope)
        batch.certify(G)
        whole.put(batch.at, batch)
        left = np.flatnonzero(batch.bound > tol)
        if not len(left) or count == MOST_SWEEPS:
            break
        batch, G = batch.part(left), G[left]
        step = _direct_step(batch, G, rough=count < ROUGH)
        if step is None:
            break
        batch.move(G, step, batch.rows.push(step))
    return whole


def _direct_step(batch, G, rough):
    """Newton's step, in float64 where float32 is not enough; None where neither is."""
    for exact in [False, True] if rough else [True]:
        try:
            return batch.rows.solve_directly(batch.state, batch.y, batch.x, G, batch.C, exact)
        except np.linalg.LinAlgError:
            pass
    return None


def _leading_directions(apply, size):
    """Leading eigenvectors, roughly, of a symmetric (size, size) matrix: (size, rank), by subspace iteration.

    Halko et al., 2011; the directions go into no result.
    """
    Q = np.random.default_rng(0).standard_normal(
        (size, min(DIRECTIONS, -(-size // ROWS_EACH))), dtype=np.float32
    )
    for _ in range(2):
        Q = np.linalg.qr(apply(Q))[0]
    return Q


def _flat_product(stack, matrix):
    """(problems, columns, a) times (a, b) as one matrix product."""
    problems, columns, size = stack.shape
    return (stack.reshape(problems * columns, size) @ matrix).reshape(
        problems, columns, matrix.shape[1]
    )


def _inner(one, two):
    """Inner products (problems,), float64."""
    return np.einsum("pkn,pkn->p", one, two).astype(np.float64)
