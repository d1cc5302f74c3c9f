"""Linear SVMs with a squared hinge in their dual: exact Newton steps on the support vectors, warm along C."""

import warnings
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri, spotri
from sklearn.exceptions import ConvergenceWarning

# the least share of the kernel's trace that 1 / (2 C) is taken for: below it lies rounding
LEAST = 1e-13
# so many steps are solved in float32: enough but where the systems are ill-conditioned
ROUGH = 6


def solve_hinge(K, targets, weights, C, *, tol=2e-4, max_iter=50):
    """Minimise `C * sum(weights * max(0, 1 - targets * m)^2) + alpha K alpha / 2`, m = K alpha, for every target and C.

    Newton's method on the rows that fall short of their margin (Keerthi and DeCoste, 2005): with these alone,
    (K_ss + diag(1 / (2 C weights))) alpha = y_s is the optimum. The system is solved as it stands where the rows
    are few; where they are many, from the inverse for all rows, corrected for those that do not count (Woodbury's
    identity). The line search is exact, each C starts from the solution for the next smaller one.

    Parameters
    ----------
    K : array of shape (n, n), float64
        Inner products of the centred rows + 1: the intercept is penalised as a coefficient.
    targets : array of shape (k, n)
        -1 and 1.
    weights : array of shape (k, n)
    C : array of shape (strengths,)
    tol : float
        The certificate to reach; a ConvergenceWarning says where `max_iter` steps did not.

    Returns
    -------
    alpha : array of shape (strengths, k, n)
        The coefficients are `alpha @ rows`, the intercepts `alpha.sum(axis=2)`.
    certificate, n_iter : arrays of shape (strengths, k)
        As in `Solution`.
    """
    C = np.asarray(C, dtype=np.float64)
    order, K32 = np.argsort(C), K.astype(np.float32)
    alphas = np.zeros((len(C), *targets.shape))
    certificates, n_iter = np.full(alphas.shape[:2], np.inf), np.zeros(alphas.shape[:2], dtype=int)
    alpha, m = np.zeros(targets.shape), np.zeros(targets.shape)
    for i in order:
        n_iter[i], certificates[i] = _descend(K, K32, targets, weights, C[i], alpha, m, tol, max_iter)
        alphas[i] = alpha
    failed = certificates > tol
    if failed.any():
        warnings.warn(
            f"{failed.sum()} of {failed.size} problems stopped after {max_iter} steps, {certificates.max():.1g} "
            f"from the optimum, expected {tol:.1g}; leave out the largest C ({C[failed.any(axis=1)].max():.1g})",
            ConvergenceWarning,
            stacklevel=2,
        )
    return alphas, certificates, n_iter


def _descend(K, K32, targets, weights, C, alpha, m, tol, max_iter):
    """Solve for one C, changing `alpha` and `m` in place; returns the steps and certificates (k,)."""
    unit = np.mean(K.diagonal()) - 1 + 1e-12
    ridge = np.maximum(1 / (2 * C * weights), LEAST * K.trace())
    systems = _Systems(K32, ridge)
    certificate, n_iter = np.zeros(len(alpha)), np.zeros(len(alpha), dtype=int)
    live = np.arange(len(alpha))
    for step in range(max_iter + 1):
        a, y, r = alpha[live], targets[live], ridge[live]
        short = 1 - y * m[live]
        on = short > 0
        # one reading of K for both: what the gradient leaves over, and the start of the next solution
        left, start = a - y * np.maximum(short, 0) / r, a * on
        both = np.vstack([left, start]) @ K
        bound = _length(left, both[: len(live)], unit) / np.maximum(_length(a, m[live], unit), 1e-12)
        certificate[live], going = bound, bound > tol
        if not going.any():
            break
        live, a, y, r, on, start = (part[going] for part in (live, a, y, r, on, start))
        started = both[len(both) // 2 :][going]
        if step == ROUGH:
            systems = _Systems(K, ridge)
        change = systems.solve(live, on, (y - started - r * start) * on)
        goal, moved = start + change, started + change @ K
        t = _line_search(a, m[live], goal, moved, y, r)[:, None]
        alpha[live] = a + t * (goal - a)
        m[live] += t * (moved - m[live])
        n_iter[live] += 1
    return n_iter, certificate


class _Systems:
    """K + diag(ridge) restricted to some rows, for one C, solved in the precision of K."""

    def __init__(self, K, ridge):
        self.K, self.ridge = K, ridge.astype(K.dtype)
        self.alike = (ridge == ridge[0]).all()

    @cached_property
    def factor(self):
        """Cholesky's factor for all rows."""
        return self._factorise(self.K.copy(), self.ridge[0])

    @cached_property
    def inverse(self):
        """The inverse for all rows, its upper triangle."""
        potri = dpotri if self.K.dtype == np.float64 else spotri
        return potri(self.factor, lower=1)[0].T

    @staticmethod
    def _factorise(system, ridge):
        system[np.diag_indices(len(system))] += ridge
        # symmetric, and transposed in the order that LAPACK works in
        return cho_factor(system.T, lower=True, overwrite_a=True, check_finite=False)[0]

    def solve(self, problems, on, right):
        """Solutions (problems, n), zero outside of `on`, of the rows `on` for `right`, zero outside of `on` too."""
        right = right.astype(self.K.dtype)
        found = np.zeros_like(right)
        many = self.alike & (2 * np.count_nonzero(on, axis=1) > on.shape[1])
        for i in np.flatnonzero(~many):
            rows = np.flatnonzero(on[i])
            factor = self._factorise(self.K[np.ix_(rows, rows)], self.ridge[problems[i], rows])
            found[i, rows] = cho_solve((factor, True), right[i, rows], check_finite=False)
        if many.any():
            found[many] = self._solve_many(on[many], right[many])
        return found.astype(np.float64)

    def _solve_many(self, on, right):
        found = cho_solve((self.factor, True), right.T, check_finite=False).T
        if on.all():
            return found
        # the right sides of the other rows are free: those that make their solutions zero
        for i, part in enumerate(on):
            rows = np.flatnonzero(~part)
            if len(rows):
                factor = cho_factor(
                    self.inverse[np.ix_(rows, rows)].T, lower=True, overwrite_a=True, check_finite=False
                )
                right[i, rows] = -cho_solve(factor, found[i, rows], check_finite=False)
        return cho_solve((self.factor, True), right.T, check_finite=False).T * on


def _length(alpha, m, unit):
    """Norm of the coefficients and intercept of `alpha`, the coefficients counted by `unit` squared."""
    intercept = alpha.sum(axis=1) ** 2
    return np.sqrt(np.maximum(unit * (np.sum(alpha * m, axis=1) - intercept), 0) + intercept)


def _line_search(alpha, m, goal, moved, y, ridge):
    """The step lengths (problems,) that minimise the objective, a piecewise quadratic, from `alpha` to `goal`."""
    step, push = goal - alpha, y * (moved - m)
    short = 1 - y * m
    constant = np.sum(alpha * y * push, axis=1)
    square = np.sum(step * y * push, axis=1)
    # the slope at t: constant + t square - sum over short - t push > 0 of push (short - t push) / ridge
    first, second = push * short / ridge, push * push / ridge
    on = short > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        turns = np.where((push > 0) == on, short / push, np.inf)
    turns[push == 0] = np.inf
    order = np.argsort(turns, axis=1)
    sign = np.where(on, -1.0, 1.0)
    shown = np.take_along_axis(turns, order, axis=1)
    start1, start2 = np.sum(first * on, axis=1, keepdims=True), np.sum(second * on, axis=1, keepdims=True)
    zero = np.zeros((len(m), 1))
    sums1 = start1 + np.hstack([zero, np.cumsum(np.take_along_axis(sign * first, order, 1), axis=1)])
    sums2 = start2 + np.hstack([zero, np.cumsum(np.take_along_axis(sign * second, order, 1), axis=1)])
    # on the segment before turn j the slope is constant - sums1 + t (square + sums2): its zero
    zeros = (sums1 - constant[:, None]) / np.maximum(square[:, None] + sums2, 1e-300)
    ends = np.hstack([shown, np.full((len(m), 1), np.inf)])
    return np.take_along_axis(zeros, (zeros <= ends).argmax(axis=1)[:, None], 1)[:, 0]
