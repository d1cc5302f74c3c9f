"""Linear heads solved to the optimum for many problems at once by a batched Newton method."""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri, spotri
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

# how many leading directions of the rows precondition; of few columns all
DIRECTIONS = 64
FEW_COLUMNS = 300
# a step is solved directly where that costs no more than so many steps of conjugate gradients
WORTH = 40
# so many direct steps are solved in float32: enough but where the systems are ill-conditioned
ROUGH = 12
# after so many steps conjugate gradients run in float64: rows that repeat with other labels need it
SLOW = 15
# float32 gradients serve for certificates down to this
LEAST = 1e-5
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
    chances = np.exp(margins - margins.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    return weights * (chances - targets), chances


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
    chances = expit(margins)
    return weights * (chances - targets), weights * chances * (1 - chances)


def _hinge_slope(margins, targets, weights):
    short = np.maximum(1 - targets * margins, 0)
    return -2 * weights * targets * short, 2 * weights * (short > 0)


LOSSES = {
    "softmax": Loss(_softmax_slope, _softmax_bend, _softmax_curvature),
    "sigmoid": Loss(_sigmoid_slope, lambda state, _, u: state * u, lambda state, _: state.mean(axis=2)),
    "squared_hinge": Loss(
        _hinge_slope, lambda state, _, u: state * u, lambda state, _: state.mean(axis=2), piecewise=True
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
        self._keep_directions(np.maximum(values, 0), Q @ turn.astype(np.float32), Q @ turn.astype(np.float32))
        self.step_cost = 4 * self.n * self.size

    def _keep_directions(self, values, into, out):
        """Set the leading directions, the intercept's last, and the mean square of the rows in all others."""
        rank = len(values)
        self.squares = np.r_[values, self.n]
        self.rest = max(self.total - values.sum(), 0) / max(min(self.n, self.size) - 1 - rank, 1)
        self.into, self.out = (np.zeros((self.size, rank + 1), dtype=np.float32) for _ in range(2))
        self.into[:-1, :-1], self.out[:-1, :-1] = into, out
        self.into[-1, -1] = self.out[-1, -1] = 1

    def push(self, x):
        """The margins of solutions (problems, columns, size), in their precision."""
        if x.dtype == np.float32:
            return _flat_product(x, self.rough.T)
        return _flat_product(x[:, :, :-1], self.exact.T) + x[:, :, -1:]

    def pull(self, slope):
        """The gradient of solutions whose margins have this slope, in its precision."""
        if slope.dtype == np.float32:
            return _flat_product(slope, self.rough)
        return np.concatenate([_flat_product(slope, self.exact), slope.sum(axis=2, keepdims=True)], axis=2)

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
            step[:] = -cho_solve(cho_factor(system, overwrite_a=True, check_finite=False), g, check_finite=False)
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
        self._whole = None, None, None

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
        # the factor of all rows serves several problems and steps
        return (self.n - on) ** 3 / 3 + 8 * self.n**2 + self.n**3 / 30

    def solve_directly(self, state, y, x, G, C, exact):
        """Newton steps by the dual of the active set's least squares (Keerthi and DeCoste, 2005).

        (K_ss + 1 + diag(1 / (C state))) alpha = y_s, solved for the change of alpha.
        """
        K = self.exact if exact else self.rough[:-1]
        on = state[:, 0] > 0
        start = x[:, 0, :-1] * on
        ridge = 1 / (C[:, None] * np.where(on, state[:, 0], 1))
        right = (y[:, 0] - start @ self.exact - start.sum(axis=1, keepdims=True) - ridge * start) * on
        right, values = right.astype(K.dtype), ridge[on]
        count = on.sum(axis=1)
        many = (self.cost_of_most(count) < count**3 / 3) & (np.ptp(values) <= 1e-12 * values.max())
        if many.any():
            start[many] += self._solve_most(K, values[0], on[many], right[many])
        for i in np.flatnonzero(~many):
            rows = np.flatnonzero(on[i])
            factor = _factorise(K.take(rows, axis=0).take(rows, axis=1), ridge[i, rows])
            start[i, rows] += cho_solve((factor, True), right[i, rows], check_finite=False)
        return np.column_stack([start, start.sum(axis=1)])[:, None] - x

    def _solve_most(self, K, ridge, on, right):
        """Solutions, zero outside of `on`, from the factor for all rows and its inverse (Woodbury's identity)."""
        if self._whole[0] != (ridge, K.dtype):
            factor = _factorise(K.copy(), ridge)
            potri = dpotri if K.dtype == np.float64 else spotri
            self._whole = (ridge, K.dtype), factor, potri(factor, lower=1)[0].T
        _, factor, inverse = self._whole
        found = cho_solve((factor, True), right.T, check_finite=False).T
        # the right sides of the other rows are free: those that make their solutions zero
        for i, rows in enumerate(map(np.flatnonzero, ~on)):
            if len(rows):
                part = cho_factor(inverse.take(rows, axis=0).take(rows, axis=1).T, lower=True, check_finite=False)
                right[i, rows] = -cho_solve(part, found[i, rows], check_finite=False)
        return cho_solve((factor, True), right.T, check_finite=False).T * on


def _factorise(K, ridge):
    """Cholesky's lower factor of K + 1 + diag(ridge), in the place of K."""
    K += 1
    K[np.diag_indices(len(K))] += ridge
    # symmetric, and transposed in the order that LAPACK works in
    return cho_factor(K.T, lower=True, overwrite_a=True, check_finite=False)[0]


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


def solve(loss, rows, targets, weights, C, *, penalize_intercept=False, start=None, tol=2e-4, max_iter=100):
    """Minimise `C * sum(weights * loss(margins)) + |coef|^2 / 2` for a batch of problems.

    Newton's method with a line search on the slope. Its linear systems by conjugate gradients, all problems in one
    product, preconditioned by the Hessian in the leading directions that there is when every row bends alike;
    directly where few rows bend. Directions are computed in float32, margins and gradients that certify in float64.

    Parameters
    ----------
    loss : str
        A key of `LOSSES`.
    rows : Columns or Products
        The n rows.
    targets : array of shape (1 or problems, columns, n)
        One-hot for softmax, 0 and 1 for sigmoid, -1 and 1 for squared_hinge.
    weights : array of shape (1 or problems, 1, n)
    C : array of shape (problems,)
    penalize_intercept : bool
        Whether `intercept^2 / 2` is added, as LinearSVC does.
    start : pair of arrays (problems, columns, size - 1) and (problems, columns), or None
        Coefficients and intercepts to start from; None is zero.
    tol : float
        The certificate to reach; a ConvergenceWarning says when `max_iter` steps did not.
    """
    loss, C = LOSSES[loss], np.asarray(C, dtype=np.float64)
    targets = np.broadcast_to(targets, (len(C), *targets.shape[1:]))
    weights = np.broadcast_to(weights, (len(C), *weights.shape[1:]))
    ridge = np.outer(1 / C, [1.0, float(penalize_intercept)])
    X, M = np.zeros((*targets.shape[:2], rows.size)), np.zeros(targets.shape)
    if start is not None:
        X[:, :, :-1], X[:, :, -1] = start
        M = rows.push(X)
    certificate, n_iter = np.full(len(C), np.inf), np.zeros(len(C), dtype=int)
    active, spent = np.arange(len(C)), np.zeros(len(C), dtype=int)
    slope, state = loss.slope(M, targets, weights)
    kind = np.float32 if rows.pulls and tol > LEAST else np.float64
    for count in range(max_iter + 1):
        G, bound = _gradient(
            loss, rows, slope.astype(kind), state, X[active], M[active], weights[active], ridge[active]
        )
        # what passes with float32 products has to pass with exact ones
        passed = np.flatnonzero(bound <= tol)
        if len(passed) and kind is np.float32:
            part = active[passed]
            M[part] = rows.push(X[part])
            slope[passed], state[passed] = loss.slope(M[part], targets[part], weights[part])
            G[passed], bound[passed] = _gradient(
                loss, rows, slope[passed], state[passed], X[part], M[part], weights[part], ridge[part]
            )
        certificate[active] = bound
        left = bound > tol
        active, slope, state, G = (part[left] for part in (active, slope, state, G))
        if not len(active) or count == max_iter:
            break
        x, m, y, o, r = (part[active] for part in (X, M, targets, weights, ridge))
        on = np.count_nonzero(state, axis=(1, 2))
        few = rows.direct_cost(on) < np.maximum(spent[active], WORTH) * rows.step_cost
        few |= rows.cost_of_most(on) < spent[active] * rows.step_cost
        few &= loss.piecewise & penalize_intercept
        step, push = np.empty_like(x), np.empty_like(m)
        if few.any():
            step[few] = rows.solve_directly(state[few], y[few], x[few], G[few], C[active[few]], count >= ROUGH)
            push[few] = rows.push(step[few])
        if not few.all():
            step[~few], moved, tried = _newton_step(
                loss, rows, *(part[~few] for part in (state, o, G, r)), np.float32 if count < SLOW else np.float64
            )
            push[~few] = rows.push(step[~few]) if kind is np.float64 else moved
            spent[active[~few]] = tried
        t, slope, state = _line_search(loss, rows, x, m, step, push, slope, y, o, r)
        X[active], M[active] = x + t * step, m + t * push
        n_iter[active] += 1
    if len(active):
        warnings.warn(
            f"{len(active)} of {len(C)} problems stopped after {max_iter} steps, {certificate.max():.1g} "
            f"from the optimum, expected {tol:.1g}; leave out the largest C ({C[active].max():.1g})",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Solution(X[:, :, :-1], X[:, :, -1], certificate, n_iter)


def _leading_directions(apply, size):
    """Leading eigenvectors, roughly, of a symmetric (size, size) matrix: (size, rank), by subspace iteration.

    Halko et al., 2011; the directions go into no result.
    """
    Q = np.random.default_rng(0).standard_normal((size, min(DIRECTIONS, size)), dtype=np.float32)
    for _ in range(2):
        Q = np.linalg.qr(apply(Q))[0]
    return Q


def _flat_product(stack, matrix):
    """(problems, columns, a) times (a, b) as one matrix product."""
    problems, columns, size = stack.shape
    return (stack.reshape(problems * columns, size) @ matrix).reshape(problems, columns, matrix.shape[1])


def _inner(one, two):
    """Inner products (problems,)."""
    return np.einsum("pkn,pkn->p", one, two)


def _gradient(loss, rows, slope, state, x, m, weights, ridge):
    """The gradient of solutions and their certificates."""
    G = rows.pull(slope)
    G[:, :, :-1] += ridge[:, :1, None] * x[:, :, :-1]
    G[:, :, -1] += ridge[:, 1:] * x[:, :, -1]
    unit = rows.total / rows.n + 1e-12
    curvature = np.where(ridge[:, 1:] > 0, ridge[:, 1:], rows.n * loss.curvature(state, weights) + 1e-12)
    above = np.sum((G[:, :, -1] / curvature) ** 2, axis=1)
    above += unit * np.maximum(rows.products(G, G), 0) / ridge[:, 0] ** 2
    below = unit * np.maximum(rows.products(x, x, m), 0) + np.sum(x[:, :, -1] ** 2, axis=1)
    return G, np.sqrt(above / np.maximum(below, 1e-24))


def _newton_step(loss, rows, state, weights, G, ridge, kind, forcing=0.1, max_iter=200):
    """Solve H x = -G by conjugate gradients in `kind` until the residual fell by `forcing`.

    Problems that are done leave the batch. Returns x, its margins, and how many steps each took.
    """
    bend = loss.curvature(state, weights)[:, :, None]
    penalties = np.concatenate([np.repeat(ridge[:, :1], len(rows.squares) - 1, axis=1), ridge[:, 1:]], axis=1)
    rest = 1 / (ridge[:, :1, None] + bend * rows.rest + 1e-12)
    leading = 1 / (penalties[:, None] + bend * rows.squares + 1e-12) - rest
    state, weights, leading, rest, ridge, residual = (
        part.astype(kind) for part in (state, weights, leading, rest, ridge, -G)
    )

    def precondition(residual):
        found = _flat_product(leading * _flat_product(residual, rows.into), rows.out.T)
        found += rest * residual
        return found, rows.push(found)

    def products(one, two, pushed):
        return rows.products(one, two, pushed), _inner(one[:, :, -1:], two[:, :, -1:])

    x, push = np.zeros_like(residual), np.zeros((*residual.shape[:2], rows.n), dtype=kind)
    taken = np.zeros(len(G), dtype=int)
    direction, pushed = precondition(residual)
    size = sum(products(residual, direction, pushed))
    goal, live = forcing**2 * size, np.arange(len(G))
    for _ in range(max_iter):
        bent = loss.bend(state, weights, pushed)
        square, constant = products(direction, direction, pushed)
        curvature = _inner(pushed, bent) + ridge[:, 0] * square + ridge[:, 1] * constant
        # what is left in directions that no row has is rounding
        sound = curvature > 1e-6 * ridge[:, 0] * np.abs(square)
        length = np.where(sound, size / np.where(sound, curvature, 1), 0)[:, None, None]
        x[live] += length * direction
        push[live] += length * pushed
        taken[live] += 1
        bent = rows.pull(bent)
        bent[:, :, :-1] += ridge[:, :1, None] * direction[:, :, :-1]
        bent[:, :, -1] += ridge[:, 1:] * direction[:, :, -1]
        bent *= length
        residual -= bent
        scaled, moved = precondition(residual)
        old, size = size, sum(products(residual, scaled, moved))
        going = sound & (size > goal[live])
        if not going.any():
            break
        turn = (size / np.maximum(old, 1e-30))[:, None, None]
        direction, pushed = scaled + turn * direction, moved + turn * pushed
        if not going.all():
            live, state, weights, leading, rest, ridge, residual, direction, pushed, size = (
                part[going] for part in (live, state, weights, leading, rest, ridge, residual, direction, pushed, size)
            )
    return x.astype(np.float64), push.astype(np.float64), taken


def _line_search(loss, rows, x, m, step, push, slope, y, o, ridge):
    """Step lengths (problems, 1, 1) where the slope along the step nearly vanishes, and slope and state there.

    The objective is convex: Newton's method on its slope, kept between a falling and a rising point.
    """
    moved, squared = rows.products(x, step, push), rows.products(step, step, push)
    linear = ridge[:, 0] * moved + ridge[:, 1] * _inner(x[:, :, -1:], step[:, :, -1:])
    square = ridge[:, 0] * squared + ridge[:, 1] * _inner(step[:, :, -1:], step[:, :, -1:])
    first = np.abs(_inner(slope, push) + linear)
    t, low, high = np.ones(len(x)), np.zeros(len(x)), np.full(len(x), np.inf)
    slope, state = loss.slope(m + push, y, o)
    at = np.arange(len(x))
    for _ in range(40):
        part, here = push[at], t[at]
        fall = _inner(slope[at], part) + linear[at] + here * square[at]
        low[at], high[at] = np.where(fall < 0, here, low[at]), np.where(fall < 0, high[at], here)
        off = np.abs(fall) > FLAT * first[at]
        if not off.any():
            break
        at, part, here, fall = at[off], part[off], here[off], fall[off]
        rise = _inner(part, loss.bend(state[at], o[at], part)) + square[at]
        better = here - fall / np.maximum(rise, 1e-300)
        outside = (better <= low[at]) | (better >= high[at]) | (better > 4 * here)
        t[at] = np.where(outside, np.where(np.isinf(high[at]), 2 * here, (low[at] + high[at]) / 2), better)
        slope[at], state[at] = loss.slope(m[at] + t[at, None, None] * part, y[at], o[at])
    return t[:, None, None], slope, state
