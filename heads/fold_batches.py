"""The linear heads of all folds solved in a few large batches, where that is faster."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed

from heads.bases import Columns, Stack
from heads.linear import (
    PATIENCE,
    PROBLEMS,
    TOL,
    Grid,
    HeadProblems,
    fit_iterative,
    solved_by_rows,
)
from heads.reduction import Fold
from heads.solvers import Problems, Solution, solve

# how near the optimum the start of other solutions has to be
START = 1e-2
# folds of more rows are solved by a thread each, fewer in two batches
MANY_ROWS = 1200
# so many margins are solved for in two batches; a batch of folds at one C may have as many
MANY_VALUES = 1 << 21
# so many of a fold's standard deviations its means may lie away from those of all rows, to be
# solved over their columns
NEAR = 3


@dataclass(frozen=True)
class CrossValidation:
    """What a search's folds are made of.

    Attributes
    ----------
    whole : Fold
        Of all rows, none held out.
    folds : sequence of Fold
    codes : array of shape (n_all,)
        Class numbers of all rows.
    class_weights : sequence of arrays (classes,) or None
        Of all rows, then of every fold.
    """

    whole: Fold
    folds: Sequence[Fold]
    codes: np.ndarray
    class_weights: Sequence[np.ndarray | None]

    def complete(self) -> list["_Complete"]:
        """The folds whose training rows have every class."""
        found = []
        for fold, class_weights in zip(self.folds, self.class_weights[1:], strict=True):
            codes = self.codes[fold.rows[: fold.n]]
            if len(np.unique(codes)) == self.codes.max() + 1:
                found.append(_Complete(fold, codes, class_weights))
        return found


class _Complete(NamedTuple):
    """A fold with every class, the class numbers (n,) of its training rows, and its weights."""

    fold: Fold
    codes: np.ndarray
    class_weights: np.ndarray | None


def solve_together(
    validation: CrossValidation,
    heads: Mapping[str, Grid],
    n_jobs: int | None = None,
    few: bool = False,
) -> dict[str, float]:
    """Solve the heads of `PROBLEMS` for all folds at once, where that pays: sets their `solved`.

    At d > n in batches over the folds' inner products: a hundred problems take the interpreter's
    time of one, and two threads seldom wait for one another. At d <= n the logistic head from a
    common start (see `_solve_tall`). Folds that lack a class, or are of too many rows for both
    ways, are left to be fitted one by one. The batches are the same for every `n_jobs`: it changes
    no bit.

    Parameters
    ----------
    validation : CrossValidation
    heads : dict of str to list of dict
        The grid of each head.
    n_jobs : int or None
        Threads.
    few : bool
        Whether there is too little work for two threads.

    Returns
    -------
    dict of str to float
        Seconds for each fold.
    """
    spent = {}
    folds = [validation.whole, *validation.folds]
    complete = validation.complete()
    # of one fold the start on all rows would cost as much as it saves
    several = len(validation.folds) > 1
    for name, grid in heads.items():
        started = time.perf_counter()
        if complete and all(solved_by_rows(name, part.fold) for part in complete):
            _solve_wide(name, complete, grid, n_jobs, few)
        elif name == "logistic" and several and not any(fold.reduced for fold in folds):
            _solve_tall(validation, complete, grid, n_jobs)
        spent[name] = (time.perf_counter() - started) / len(validation.folds)
    return spent


def _in_batches(
    solve_batch: Callable[[np.ndarray], Sequence[np.ndarray]],
    lane: np.ndarray,
    n_jobs: int | None,
) -> list[np.ndarray]:
    """What `solve_batch` finds for the numbers of each lane, arrays in the order of the numbers."""
    batches = [np.flatnonzero(lane == part) for part in np.unique(lane)]
    solved = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(solve_batch)(batch) for batch in batches
    )
    order = np.concatenate(batches).argsort()
    return [np.concatenate(part)[order] for part in zip(*solved, strict=True)]


def _solve_wide(
    name: str, complete: list[_Complete], grid: Grid, n_jobs: int | None, few: bool
) -> None:
    """All folds by their inner products."""
    n = max(part.fold.n for part in complete)
    parts = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(part.fold.products_among)(n) for part in complete
    )
    made = [PROBLEMS[name](part.codes, grid, part.class_weights) for part in complete]
    joint = _joint_problems(made, n)
    owners = np.repeat(np.arange(len(made)), len(made[0].half))
    lanes = 2 if n <= MANY_ROWS else len(made) + 1
    if few:
        lanes = 1

    def solve_batch(batch: np.ndarray) -> Solution:
        basis = Stack(parts, owners[batch])
        return solve(joint.part(batch), basis, tol=TOL, max_iter=PATIENCE, quiet=True)

    found = _in_batches(solve_batch, _lanes_of(made) % lanes, n_jobs)
    for i, (fold, _, _) in enumerate(complete):
        coef, intercept, certificate, n_iter = (array[owners == i] for array in found)
        if (certificate <= TOL).all():
            solution = Solution(coef[:, :, : fold.n], intercept, certificate, n_iter)
            fold.solved[name] = made[i].fitted(solution, len(grid), by_rows=True)
        else:
            fold.refine()


def _lanes_of(made: list[HeadProblems]) -> np.ndarray:
    """The lane of each problem: whole folds, which make wider products."""
    lanes = [np.full(len(head.half), i) for i, head in enumerate(made)]
    if len(made) % 2 == 1:  # the last of an odd number is halved
        lanes[-1] = made[-1].half + len(made) - 1
    return np.concatenate(lanes)


def _joint_problems(made: list[HeadProblems], n: int) -> Problems:
    """The problems of all folds as one batch, all of n rows: those a fold lacks have weight 0."""
    targets = []
    weights = []
    follows = []
    before = 0
    for head in made:
        problems = head.problems
        lacking = ((0, 0), (0, 0), (0, n - problems.targets.shape[2]))
        targets.append(np.pad(problems.targets, lacking))
        weights.append(np.pad(problems.weights, lacking))
        if problems.follows is not None:
            follows.append(np.where(problems.follows < 0, -1, problems.follows + before))
        before += len(problems.C)
    first = made[0].problems
    return Problems(
        first.loss,
        np.concatenate(targets),
        np.concatenate(weights),
        np.tile(first.C, len(made)),
        first.penalize_intercept,
        np.concatenate(follows) if follows else None,
    )


def _solve_tall(
    validation: CrossValidation, complete: list[_Complete], grid: Grid, n_jobs: int | None
) -> None:
    """The logistic head on all rows, roughly, where the folds start from; then the folds.

    The start is half the folds' work. All folds together are solved over the columns of all rows,
    held-out ones of weight 0, each fold's scale as factors: one wide product takes half the time
    of as many narrow ones. Each solution is certified by its own gradient, so the start moves it
    by no more than the certificate allows.
    """
    whole = validation.whole
    columns = whole.columns  # made here, not by every thread
    made = PROBLEMS["logistic"](validation.codes, grid, validation.class_weights[0])
    if not _set_starts(validation, grid, made.half, n_jobs):
        return
    near = [part for part in complete if _fits_columns_of(whole, part.fold)]
    # many values at once leave the cache, and memory
    values = len(near) * (validation.codes.max() + 1) * whole.n
    if not near or values > MANY_VALUES:
        return
    # one batch for each C, or two in all
    lane = np.arange(len(grid)) if len(grid) * values > MANY_VALUES else made.half

    def solve_batch(batch: np.ndarray) -> list[np.ndarray]:
        return _solve_scaled(columns, validation, near, [grid[i] for i in batch])

    found = _in_batches(solve_batch, lane, n_jobs)
    for i, (fold, _, _) in enumerate(near):
        coef, intercept, certificate, n_iter = (array[:, i] for array in found)
        intercept = intercept + coef @ _offsets(whole, fold)
        solution = Solution(coef, intercept, certificate, n_iter)
        fold.solved["logistic"] = made.fitted(solution, len(grid), by_rows=False)


def _set_starts(
    validation: CrossValidation, grid: Grid, half: np.ndarray, n_jobs: int | None
) -> bool:
    """Set `starts` of all folds from a rough solution on all rows; False where it is too rough."""
    whole = validation.whole
    rough = fit_iterative("logistic", tol=START, max_iter=PATIENCE, quiet=True)

    def start_batch(batch: np.ndarray) -> list[np.ndarray]:
        some = [grid[i] for i in batch]
        found = rough(whole, validation.codes, some, validation.class_weights[0])
        return [found.coef, found.intercept, found.certificate]

    coefs, intercepts, certificates = _in_batches(start_batch, half, n_jobs)
    if (certificates > START).any():
        return False
    for params, coef, intercept in zip(grid, coefs, intercepts, strict=True):
        for fold in [whole, *validation.folds]:
            # the same margins from features that the fold shifts and scales in its own way
            shift = (fold.mean - whole.mean) / whole.scale
            start = coef * (fold.scale / whole.scale), intercept + coef @ shift
            fold.starts[params["C"]] = start
    return True


def _offsets(whole: Fold, fold: Fold) -> np.ndarray:
    """How far a fold's means (d,) lie from those of all rows, in its standard deviations."""
    return (fold.mean - whole.mean) / fold.scale


def _fits_columns_of(whole: Fold, fold: Fold) -> bool:
    """Whether a fold has rows enough to be worth it, and means near enough for all digits."""
    return 2 * fold.n > whole.n and np.abs(_offsets(whole, fold)).max(initial=0) < NEAR


def _solve_scaled(
    columns: Columns, validation: CrossValidation, complete: list[_Complete], grid: Grid
) -> list[np.ndarray]:
    """The logistic head of folds over the columns of all rows.

    Returns a solution's arrays as (candidates, folds, ...).
    """
    whole = validation.whole
    problems = PROBLEMS["logistic"](validation.codes, grid, None).problems
    weights = np.zeros((len(complete), 1, whole.n))
    factors = np.ones((len(complete), 1, whole.d + 1))
    for i, (fold, _, class_weights) in enumerate(complete):
        # a row may be drawn twice
        weights[i, 0] = np.bincount(fold.rows[: fold.n], minlength=whole.n)
        if class_weights is not None:
            weights[i, 0] *= class_weights[validation.codes]
        # a column that does not vary in the fold is zero there
        factors[i, 0, :-1] = np.where(fold.varying, whole.scale / fold.scale, 0)
    coefs = []
    intercepts = []
    for params in grid:
        for fold, _, _ in complete:
            coefs.append(np.where(fold.varying, fold.starts[params["C"]][0], 0))
            intercepts.append(whole.starts[params["C"]][1])
    scaled = Problems(
        problems.loss,
        problems.targets[:1],
        np.tile(weights, (len(grid), 1, 1)),
        np.repeat(problems.C, len(complete)),
    )
    basis = columns.scaled(np.tile(factors, (len(grid), 1, 1)))
    found = solve(scaled, basis, start=(np.stack(coefs), np.stack(intercepts)), tol=TOL)
    return [array.reshape(len(grid), len(complete), *array.shape[1:]) for array in found]
