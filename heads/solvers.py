"""Linear heads solved to the optimum for many regularisation strengths at once: a batched Newton method."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

# steps on fewer support vectors than this share of the columns are solved directly
FEW = 0.4
# how many leading directions of the rows precondition
DIRECTIONS = 64


class Loss(NamedTuple):
    """A loss on margins of shape (problems, columns, n), with its derivatives.

    value : (margins, targets, weights) -> (problems,)
    slope : (margins, targets, weights) -> first derivative and `state`, which holds the second
    bend : (state, weights, direction) -> second derivative times a direction
    curvature : (state, weights) -> (problems, columns), its mean over the rows
    piecewise : whether it is piecewise quadratic: Newton's step on the rows that bend is the optimum of their piece
    """

    value: callable
    slope: callable
    bend: callable
    curvature: callable
    piecewise: bool = False


def _softmax(margins):
    chances = np.exp(margins - margins.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    return chances


def _softmax_value(margins, targets, weights):
    top = margins.max(axis=1)
    logs = np.log(np.exp(margins - top[:, None]).sum(axis=1)) + top
    return np.sum(weights[:, 0] * (logs - np.sum(targets * margins, axis=1)), axis=1)


def _softmax_slope(margins, targets, weights):
    chances = _softmax(margins)
    return weights * (chances - targets), chances


def _softmax_bend(chances, weights, direction):
    pushed = chances * direction
    pushed -= chances * pushed.sum(axis=1, keepdims=True)
    return weights * pushed


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
    "softmax": Loss(_softmax_value, _softmax_slope, _softmax_bend, _softmax_curvature),
    "sigmoid": Loss(
        lambda m, y, w: np.sum(w * (np.logaddexp(0, m) - y * m), axis=(1, 2)),
        _sigmoid_slope,
        lambda state, _, u: state * u,
        lambda state, _: state.mean(axis=2),
    ),
    "squared_hinge": Loss(
        lambda m, y, w: np.sum(w * np.maximum(1 - y * m, 0) ** 2, axis=(1, 2)),
        _hinge_slope,
        lambda state, _, u: state * u,
        lambda state, _: state.mean(axis=2),
        piecewise=True,
    ),
}


@dataclass(frozen=True)
class Solution:
    """Optima of a batch.

    Attributes
    ----------
    coef : array of shape (problems, columns, r)
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
    Z,
    targets,
    weights,
    C,
    *,
    penalize_intercept=False,
    gram=None,
    orthogonal=False,
    start=None,
    tol=2e-4,
    max_iter=100,
):
    """Minimise `C * sum(weights * loss(Z @ coef + intercept)) + |coef|^2 / 2` for a batch of problems.

    Newton's method; its linear systems by conjugate gradients, all problems in one product, preconditioned by
    the Hessian that there is when every row bends alike and the columns of `Z` are centred, as `reduction` makes
    them. Directions are computed in float32, gradients in float64: where it stops is as exact as float64 is.

    Parameters
    ----------
    loss : str
        A key of `LOSSES`.
    Z : array of shape (n, r), float64
    targets : array of shape (1 or problems, columns, n)
        One-hot for softmax, 0 and 1 for sigmoid, -1 and 1 for squared_hinge.
    weights : array of shape (1 or problems, 1, n)
    C : array of shape (problems,)
    penalize_intercept : bool
        Whether `intercept^2 / 2` is added, as LinearSVC does.
    gram : array of shape (n, n), or None
        `Z @ Z.T + 1`, for squared_hinge, to take from it what steps on few support vectors need.
    orthogonal : bool
        Whether the columns of Z are: the Hessian that preconditions is then diagonal, and known in full. If not,
        it is taken in the leading directions of Z and as a mean in all others.
    start : pair of arrays (problems, columns, r) and (problems, columns), or None
        Coefficients and intercepts to start from; None is zero.
    tol : float
        The certificate to reach; a ConvergenceWarning says when `max_iter` steps did not.
    """
    loss, C = LOSSES[loss], np.asarray(C, dtype=np.float64)
    A = np.column_stack([Z, np.ones(len(Z))])
    A32 = A.astype(np.float32)
    squares = np.einsum("ij,ij->j", A, A)
    unit = np.r_[np.full(Z.shape[1], np.sqrt(squares[:-1].sum() / len(Z)) + 1e-12), 1.0]
    squares, turn = (squares, None) if orthogonal or not Z.shape[1] else _leading_directions(A32, squares[:-1].sum())
    ridge = np.outer(1 / C, np.r_[np.ones(Z.shape[1]), float(penalize_intercept)])[:, None]
    targets = np.broadcast_to(targets, (len(C), *targets.shape[1:]))
    weights = np.broadcast_to(weights, (len(C), *weights.shape[1:]))
    W, M = np.zeros((*targets.shape[:2], A.shape[1])), np.zeros(targets.shape)
    if start is not None:
        W[:, :, :-1], W[:, :, -1] = start
        M = _flat_product(W, A.T)
    certificate, n_iter = np.full(len(C), np.inf), np.zeros(len(C), dtype=int)
    active = np.arange(len(C))
    for _ in range(max_iter):
        w, m, y, o, r = (part[active] for part in (W, M, targets, weights, ridge))
        slope, state = loss.slope(m, y, o)
        G = _flat_product(slope, A) + r * w
        bend = loss.curvature(state, o)[:, :, None]
        inverse = 1 / (bend * squares + (r if turn is None else _in_directions(r, len(squares))) + 1e-12)
        bound = unit * G * np.where(r > 0, C[active, None, None], inverse[:, :, -1:])
        certificate[active] = _norms(bound) / np.maximum(_norms(unit * w), 1e-12)
        left = certificate[active] > tol
        if not left.any():
            break
        active, w, m, y, o, r, G, state, inverse = (part[left] for part in (active, w, m, y, o, r, G, state, inverse))
        few = loss.piecewise & (np.count_nonzero(state, axis=(1, 2)) < FEW * Z.shape[1])
        step, push = np.empty_like(w), np.empty_like(m)
        if few.any():
            step[few], push[few] = _exact_step(state[few], y[few], w[few], m[few], C[active[few]], A, gram)
        if not few.all():
            rest = (part[~few] for part in (state, o, G, inverse, r))
            step[~few], push[~few] = _newton_step(loss, *rest, A32, turn)
        t = _line_search(loss, m, push, y, o, w, step, r, np.sum(G * step, axis=(1, 2)))[:, None, None]
        W[active], M[active] = w + t * step, m + t * push
        n_iter[active] += 1
    else:
        warnings.warn(
            f"{len(active)} of {len(C)} problems stopped after {max_iter} steps, {certificate.max():.1g} "
            f"from the optimum, expected {tol:.1g}; leave out the largest C ({C[active].max():.1g})",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Solution(W[:, :, :-1], W[:, :, -1], certificate, n_iter)


def _leading_directions(A32, total):
    """(eigenvalues of the leading directions, the mean of the others and the intercept's), the directions.

    Of the columns of A32 but the last, roughly, by subspace iteration (Halko et al., 2011): the directions go
    into no result.
    """
    Z, rank = A32[:, :-1], min(DIRECTIONS, A32.shape[1] - 1)
    Q = np.random.default_rng(0).standard_normal((Z.shape[1], rank), dtype=np.float32)
    for _ in range(3):
        Q = np.linalg.qr(Z.T @ (Z @ Q))[0]
    found = Z @ Q
    values, vectors = np.linalg.eigh((found.T @ found).astype(np.float64))
    values = np.maximum(values, 0)
    rest = max(total - values.sum(), 0) / max(Z.shape[1] - rank, 1)
    turn = np.vstack([Q @ vectors.astype(np.float32), np.zeros((1, rank), dtype=np.float32)])
    return np.r_[values, rest, len(Z)], turn


def _in_directions(ridge, size):
    """The penalties of the directions, all alike, and of the intercept: (problems, 1, size)."""
    return np.concatenate([np.repeat(ridge[:, :, :1], size - 1, axis=2), ridge[:, :, -1:]], axis=2)


def _norms(stack):
    return np.sqrt(np.sum(stack * stack, axis=(1, 2)))


def _exact_step(state, y, w, m, C, A, gram):
    """Newton steps of the squared hinge by its dual on the support vectors, (n_s, n_s) each.

    The active set's least squares (Keerthi and DeCoste, 2005): (K_ss + diag(1 / (C state))) alpha = y_s.
    """
    alphas = np.zeros((len(C), len(A)))
    for alpha, c, bend, signs in zip(alphas, C, state[:, 0], y[:, 0], strict=True):
        on = np.flatnonzero(bend)
        system = A[on] @ A[on].T if gram is None else gram[np.ix_(on, on)]
        system[np.diag_indices(len(on))] += 1 / (c * bend[on])
        factor = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
        alpha[on] = cho_solve(factor, signs[on], check_finite=False)
    coef = alphas @ A
    return coef[:, None] - w, (coef @ A.T if gram is None else alphas @ gram)[:, None] - m


def _flat_product(stack, matrix):
    """(problems, columns, a) times (a, b) as one matrix product."""
    return (stack.reshape(-1, stack.shape[2]) @ matrix).reshape(*stack.shape[:2], matrix.shape[1])


def _precondition(residual, inverse, turn):
    """The inverse of the Hessian there is when rows bend alike: by the leading eigenvectors, the rest as one."""
    if turn is None:
        return inverse * residual
    leading, rest = inverse[:, :, : turn.shape[1]], inverse[:, :, turn.shape[1] :]
    found = _flat_product((leading - rest[:, :, :1]) * _flat_product(residual, turn), turn.T)
    found += rest[:, :, :1] * residual
    found[:, :, -1] = rest[:, :, 1] * residual[:, :, -1]
    return found


def _newton_step(loss, state, weights, G, inverse, ridge, A32, turn, forcing=0.25, max_iter=200):
    """Solve H x = -G by conjugate gradients in float32 until the residual fell by `forcing`.

    Returns x and the margins' change A x. Problems that are done leave the batch.
    """
    state, weights, inverse, ridge = (part.astype(np.float32) for part in (state, weights, inverse, ridge))
    residual = -G.astype(np.float32)
    x, push = np.zeros_like(residual), np.zeros((*residual.shape[:2], len(A32)), dtype=np.float32)
    scaled = _precondition(residual, inverse, turn)
    size = np.sum(residual * scaled, axis=(1, 2))
    goal = forcing**2 * size
    direction, live = scaled, np.arange(len(G))
    for _ in range(max_iter):
        moved = _flat_product(direction, A32.T)
        bent = _flat_product(loss.bend(state, weights, moved), A32) + ridge * direction
        length = (size / np.maximum(np.sum(direction * bent, axis=(1, 2)), 1e-30))[:, None, None]
        x[live] += length * direction
        push[live] += length * moved
        residual -= length * bent
        scaled = _precondition(residual, inverse, turn)
        old, size = size, np.sum(residual * scaled, axis=(1, 2))
        direction = scaled + (size / np.maximum(old, 1e-30))[:, None, None] * direction
        going = size > goal[live]
        if not going.any():
            break
        if not going.all():
            live, state, weights, inverse, ridge, residual, direction, size = (
                part[going] for part in (live, state, weights, inverse, ridge, residual, direction, size)
            )
    return x.astype(np.float64), push.astype(np.float64)


def _line_search(loss, m, push, y, o, w, step, ridge, slope):
    """Step lengths (problems,) by Armijo's rule with halving."""
    linear = np.sum(ridge * w * step, axis=(1, 2))
    square = np.sum(ridge * step * step, axis=(1, 2)) / 2
    start = loss.value(m, y, o)
    t = np.ones(len(m))
    for _ in range(30):
        value = loss.value(m + t[:, None, None] * push, y, o) + t * linear + t * t * square
        high = value > start + 1e-4 * t * slope + 1e-10 * np.abs(start)
        if not high.any():
            break
        t[high] /= 2
    return t
