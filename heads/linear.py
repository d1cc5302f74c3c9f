"""The linear heads that are solved step by step, for many folds at once."""

import time
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed

from heads.reduction import MOST_SHARED_ROWS
from heads.solvers import Stack, solve

# how near the optimum the start of other solutions has to be
START = 1e-2
# the certificate that solutions reach
TOL = 2e-4
# steps by products before columns are tried
PATIENCE = 300
# folds of more rows are solved by a thread each, fewer in two batches
MANY_ROWS = 1200
# so many margins are solved for in two batches; a batch of folds at one C may have as many
MANY_VALUES = 1 << 21
# so many of a fold's standard deviations its means may lie away from those of all rows, to share their columns
NEAR = 3


def one_hot(codes):
    """(n,) class numbers as (n, classes) of 0 and 1."""
    return np.eye(codes.max() + 1)[codes]


class Fitted(NamedTuple):
    """A linear head on one fold, for every row of parameters.

    coef : (rows, k, r), k being 1 for two classes as in scikit-learn; on the columns of `fold.train`, or
        combinations of the fold's training rows where `by_rows`
    intercept : (rows, k)
    certificate, n_iter : (rows,), zero for closed forms
    """

    coef: np.ndarray
    intercept: np.ndarray
    certificate: np.ndarray
    n_iter: np.ndarray
    by_rows: bool = False


class Problems(NamedTuple):
    """A head on one fold for every row of parameters, as `solvers.solve` takes it.

    half : (problems,), 0 or 1: two batches of like work, `follows` staying in one
    """

    loss: str
    targets: np.ndarray
    weights: np.ndarray
    C: np.ndarray
    follows: np.ndarray
    half: np.ndarray

    def fitted(self, found, rows, by_rows):
        """A solution of `rows` rows of parameters as the head's."""
        coef, intercept, certificate, n_iter = (
            part.reshape(rows, -1, *part.shape[2:]) for part in found
        )
        if (
            self.loss == "softmax"
        ):  # a number added to all intercepts changes nothing; scikit-learn's sum to zero
            intercept = intercept - intercept.mean(axis=1, keepdims=True)
        return Fitted(coef, intercept, certificate.max(axis=1), n_iter.max(axis=1), by_rows)


def _logistic(codes, rows, class_weights):
    """LogisticRegression: softmax for several classes, sigmoid for two."""
    weights = np.ones(len(codes)) if class_weights is None else class_weights[codes]
    targets = one_hot(codes).T
    loss, targets = ("softmax", targets) if len(targets) > 2 else ("sigmoid", targets[1:])
    C = np.array([row["C"] for row in rows], dtype=np.float64)
    # the largest C takes the most steps: 0, 1, 1, 0 from there on
    rank = (-C).argsort(kind="stable").argsort()
    half = (rank % 4 == 1) | (rank % 4 == 2)
    repeated = (np.broadcast_to(part, (len(C), *part.shape)) for part in (targets, weights[None]))
    return Problems(loss, *repeated, C, np.full(len(C), -1), half.astype(int))


def _linear_svm(codes, rows, class_weights):
    """LinearSVC: squared hinge, one class against the rest, the intercept penalised as a coefficient.

    As in LIBLINEAR, the weight of a class counts for its own rows against the rest, not for the rest.
    """
    k = codes.max() + 1
    signs = 2 * one_hot(codes).T - 1
    weights = np.ones(signs.shape)
    if class_weights is not None:
        weights = np.where(
            signs > 0, class_weights[:, None], 1.0 if k > 2 else class_weights[codes]
        )
    if k == 2:
        signs, weights = signs[1:], weights[1:]
    C, classes = np.array([row["C"] for row in rows], dtype=np.float64), np.arange(len(signs))
    order, before = C.argsort(kind="stable"), np.full(len(C), -1)
    before[order[1:]] = order[:-1]
    follows = np.where(before[:, None] < 0, -1, before[:, None] * len(signs) + classes).ravel()
    signs, weights = (np.tile(part, (len(C), 1))[:, None] for part in (signs, weights))
    return Problems(
        "squared_hinge",
        signs,
        weights,
        np.repeat(C, len(classes)),
        follows,
        np.tile(classes % 2, len(C)),
    )


PROBLEMS = {"logistic": _logistic, "linear_svm": _linear_svm}


def _by_rows(name, fold):
    """Whether solutions are sought as combinations of the training rows."""
    # for the SVM they pay from fewer columns on: few rows bend, and these are solved directly
    wide = fold.reduced if name == "logistic" else fold.n < 2 * fold.d
    return wide and fold.n <= MOST_SHARED_ROWS and not fold.refined


def basis_of(name, fold):
    """The fold's rows as the head of this name is solved over them."""
    return fold.products if _by_rows(name, fold) else fold.columns


def fit_iterative(name, tol=TOL, **given):
    """(fold, codes, rows of parameters, class weights or None) -> Fitted, of one of `PROBLEMS`."""

    def fit(fold, codes, rows, class_weights):
        problems = PROBLEMS[name](codes, rows, class_weights)
        options = {
            "penalize_intercept": name == "linear_svm",
            "follows": problems.follows,
            "tol": tol,
        } | given
        if _by_rows(name, fold):
            found = solve(
                *_of(problems, basis_of(name, fold)),
                **options | {"max_iter": PATIENCE, "quiet": True},
            )
            if (found.certificate <= tol).all():
                return problems.fitted(found, len(rows), by_rows=True)
            fold.refine()
        starts = [fold.starts.get(row["C"]) for row in rows] if name == "logistic" else [None]
        usable = all(
            start is not None and len(start[1]) == problems.targets.shape[1] for start in starts
        )
        start = [np.stack(part) for part in zip(*starts, strict=True)] if usable else None
        found = solve(*_of(problems, basis_of(name, fold)), start=start, **options)
        return problems.fitted(found, len(rows), by_rows=False)

    return fit


def _of(problems, basis):
    return problems.loss, basis, problems.targets, problems.weights, problems.C


def solve_together(whole, folds, codes, heads, class_weights, n_jobs=None, few=False):
    """Solve the heads of `PROBLEMS` for all folds at once, where that pays: sets `solved` of the folds.

    At d > n in batches over the folds' inner products: a hundred problems take the interpreter's time of one, and
    two threads seldom wait for one another. At d <= n the logistic head from a common start (see `_solve_tall`).
    Folds that lack a class, or are of too many rows for both ways, are left to be fitted one by one. The batches are
    the same for every `n_jobs`: it changes no bit.

    Parameters
    ----------
    whole, folds : Fold and list of Fold
    codes : array of shape (n_all,)
    heads : dict of str to list of dict
        Rows of parameters of each head.
    class_weights : list of arrays (classes,) or None
        Of all rows, then of every fold.
    few : bool
        Whether there is too little work for two threads.

    Returns
    -------
    dict of str to float
        Seconds for each fold.
    """
    spent = {}
    full = [
        (fold, weights)
        for fold, weights in zip(folds, class_weights[1:], strict=True)
        if len(np.unique(codes[fold.rows[: fold.n]])) == codes.max() + 1
    ]
    for name, rows in heads.items():
        started = time.perf_counter()
        if full and all(_by_rows(name, fold) for fold, _ in full):
            _solve_wide(name, full, codes, rows, n_jobs, few)
        elif name == "logistic" and not any(fold.reduced for fold in [whole, *folds]):
            _solve_tall(whole, folds, full, codes, rows, class_weights[0], n_jobs)
        spent[name] = (time.perf_counter() - started) / len(folds)
    return spent


def _in_batches(solve_batch, lane, n_jobs):
    """Arrays of what `solve_batch(their numbers)` finds for the problems of each lane, back in the problems' order."""
    batches = [np.flatnonzero(lane == part) for part in np.unique(lane)]
    solved = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(solve_batch)(batch) for batch in batches
    )
    order = np.concatenate(batches).argsort()
    return [np.concatenate(part)[order] for part in zip(*solved, strict=True)]


def _solve_wide(name, folds, codes, rows, n_jobs, few):
    """All folds by their inner products."""
    n, count = max(fold.n for fold, _ in folds), len(folds)
    parts = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(fold.products_among)(n) for fold, _ in folds
    )
    each = [PROBLEMS[name](codes[fold.rows[: fold.n]], rows, weights) for fold, weights in folds]
    size = len(each[0].C)
    owners = np.repeat(np.arange(count), size)
    # whole folds make wider products; of an odd number the last is halved
    lanes = 1 if few else 2 if n <= MANY_ROWS else count + 1
    lane = np.concatenate(
        [
            problems.half + i if i == count - 1 and i % 2 == 0 else np.full(size, i)
            for i, problems in enumerate(each)
        ]
    )
    targets, weights = (
        np.concatenate(
            [np.pad(part, ((0, 0), (0, 0), (0, n - part.shape[2]))) for part in of_folds]
        )
        for of_folds in zip(
            *((problems.targets, problems.weights) for problems in each), strict=True
        )
    )
    follows = np.concatenate(
        [np.where(p.follows < 0, -1, p.follows + i * size) for i, p in enumerate(each)]
    )

    def solve_batch(batch):
        place = np.full(count * size + 1, -1)
        place[batch] = np.arange(len(batch))
        return solve(
            each[0].loss,
            Stack(parts, owners[batch]),
            targets[batch],
            weights[batch],
            np.tile(each[0].C, count)[batch],
            penalize_intercept=name == "linear_svm",
            follows=place[follows[batch]],
            tol=TOL,
            max_iter=PATIENCE,
            quiet=True,
        )

    found = _in_batches(solve_batch, lane % lanes, n_jobs)
    for i, (fold, _) in enumerate(folds):
        coef, intercept, certificate, n_iter = (part[owners == i] for part in found)
        if (certificate <= TOL).all():
            solution = coef[:, :, : fold.n], intercept, certificate, n_iter
            fold.solved[name] = each[i].fitted(solution, len(rows), by_rows=True)
        else:
            fold.refine()


def _solve_tall(whole, folds, full, codes, rows, class_weights, n_jobs):
    """The logistic head on all rows, roughly, where the folds start from: half their work; then the folds.

    All folds together are solved over the columns of all rows, held-out ones of weight 0, each fold's scale as
    factors: one wide product takes half the time of as many narrow ones. Each solution is certified by its own
    gradient, so the start moves it by no more than the certificate allows.
    """
    columns = whole.columns  # made here, not by every thread
    problems = _logistic(codes, rows, class_weights)
    rough = fit_iterative("logistic", tol=START, max_iter=PATIENCE, quiet=True)

    def start_batch(batch):
        found = rough(whole, codes, [rows[i] for i in batch], class_weights)
        return found.coef, found.intercept, found.certificate

    coefs, intercepts, certificates = _in_batches(start_batch, problems.half, n_jobs)
    if (certificates > START).any():
        return
    for row, coef, intercept in zip(rows, coefs, intercepts, strict=True):
        for fold in [whole, *folds]:
            shift = (fold.mean - whole.mean) / whole.scale
            fold.starts[row["C"]] = coef * (fold.scale / whole.scale), intercept + coef @ shift
    near = [
        (fold, weights)
        for fold, weights in full
        if 2 * fold.n > whole.n and np.abs(_offsets(whole, fold)).max(initial=0) < NEAR
    ]
    # many values at once leave the cache, and memory
    values = len(near) * (codes.max() + 1) * whole.n
    if not near or values > MANY_VALUES:
        return
    large = len(rows) * values > MANY_VALUES
    found = _in_batches(
        lambda batch: _solve_scaled(columns, whole, near, codes, [rows[i] for i in batch]),
        np.arange(len(rows)) if large else problems.half,
        n_jobs,
    )
    for i, (fold, _) in enumerate(near):
        coef, intercept, *rest = (part[:, i] for part in found)
        solution = coef, intercept + coef @ _offsets(whole, fold), *rest
        fold.solved["logistic"] = problems.fitted(solution, len(rows), by_rows=False)


def _offsets(whole, fold):
    return (fold.mean - whole.mean) / fold.scale


def _solve_scaled(columns, whole, folds, codes, rows):
    """The logistic head of folds, given with their class weights, over the columns of all rows.

    Returns a solution's arrays as (rows, folds, ...).
    """
    problems, shape = _logistic(codes, rows, None), (len(rows), len(folds))
    weights, factors = np.zeros((len(folds), 1, whole.n)), np.ones((len(folds), 1, whole.d + 1))
    for (fold, class_weights), weight, factor in zip(
        folds, weights[:, 0], factors[:, 0], strict=True
    ):
        train = fold.rows[: fold.n]
        weight[:] = np.bincount(train, minlength=whole.n)  # a row may be drawn twice
        weight *= 1 if class_weights is None else class_weights[codes]
        # a column that does not vary in the fold is zero there
        factor[:-1] = np.where(fold.varying, whole.scale / fold.scale, 0)
    starts = [
        (np.where(fold.varying, fold.starts[row["C"]][0], 0), whole.starts[row["C"]][1])
        for row in rows
        for fold, _ in folds
    ]
    found = solve(
        problems.loss,
        columns.scaled(np.tile(factors, (len(rows), 1, 1))),
        problems.targets[:1],
        np.tile(weights, (len(rows), 1, 1)),
        np.repeat(problems.C, len(folds)),
        start=[np.stack(part) for part in zip(*starts, strict=True)],
        tol=TOL,
    )
    return [part.reshape(*shape, *part.shape[1:]) for part in found]
