"""The linear heads that are solved step by step, on one fold for all values of their grids."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from heads.bases import Basis
from heads.fold_passes import MOST_SHARED_ROWS
from heads.reduction import Fold
from heads.solvers import MOST_STEPS, Problems, Solution, solve

# the certificate that solutions reach
TOL = 2e-4
# steps by products before columns are tried
PATIENCE = 300

# a head's candidates: their parameters by scikit-learn's names
Grid = Sequence[Mapping[str, Any]]


def one_hot(codes: np.ndarray) -> np.ndarray:
    """(n,) class numbers as (n, classes) of 0 and 1."""
    return np.eye(codes.max() + 1)[codes]


class Fitted(NamedTuple):
    """A linear head on one fold, for every candidate of a grid.

    Attributes
    ----------
    coef : array of shape (candidates, k, r)
        k is 1 for two classes, as in scikit-learn. On the columns of `fold.train`, or combinations
        of the fold's training rows where `by_rows`.
    intercept : array of shape (candidates, k)
    certificate, n_iter : arrays of shape (candidates,)
        As in `solvers.Solution`, the worst of a candidate's problems; zero for closed forms.
    by_rows : bool
    """

    coef: np.ndarray
    intercept: np.ndarray
    certificate: np.ndarray
    n_iter: np.ndarray
    by_rows: bool = False


# (fold, codes, grid, class weights or None) -> the head for every candidate
HeadFit = Callable[[Fold, np.ndarray, Grid, np.ndarray | None], Fitted]


@dataclass(frozen=True)
class HeadProblems:
    """A head on one fold for every candidate of a grid, as the solver takes it.

    Attributes
    ----------
    problems : Problems
        Several for a candidate where a head solves its classes apart.
    half : array of shape (problems,)
        0 or 1: two batches of like work, `problems.follows` staying in one.
    """

    problems: Problems
    half: np.ndarray

    def fitted(self, found: Solution, candidates: int, by_rows: bool) -> Fitted:
        """The solution of a grid of so many candidates as the head's."""
        coef, intercept, certificate, n_iter = (
            part.reshape(candidates, -1, *part.shape[2:]) for part in found
        )
        if self.problems.loss == "softmax":
            # a number added to all intercepts changes nothing; scikit-learn's sum to zero
            intercept = intercept - intercept.mean(axis=1, keepdims=True)
        return Fitted(coef, intercept, certificate.max(axis=1), n_iter.max(axis=1), by_rows)


def _strengths(grid: Grid) -> np.ndarray:
    return np.array([params["C"] for params in grid], dtype=np.float64)


def _logistic(codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None) -> HeadProblems:
    """LogisticRegression: softmax for several classes, sigmoid for two."""
    weights = np.ones(len(codes)) if class_weights is None else class_weights[codes]
    targets = one_hot(codes).T
    loss = "softmax"
    if len(targets) == 2:
        loss = "sigmoid"
        targets = targets[1:]
    C = _strengths(grid)
    # the largest C takes the most steps: 0, 1, 1, 0 from there on
    rank = (-C).argsort(kind="stable").argsort()
    half = (rank % 4 == 1) | (rank % 4 == 2)
    problems = Problems(
        loss,
        np.broadcast_to(targets, (len(C), *targets.shape)),
        np.broadcast_to(weights, (len(C), 1, len(weights))),
        C,
    )
    return HeadProblems(problems, half.astype(int))


def _linear_svm(codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None) -> HeadProblems:
    """LinearSVC: squared hinge, one class against the rest, the intercept penalised too.

    As in LIBLINEAR, the weight of a class counts for its own rows against the rest, not for the
    rest.
    """
    k = codes.max() + 1
    signs = 2 * one_hot(codes).T - 1
    weights = np.ones(signs.shape)
    if class_weights is not None:
        others = 1.0 if k > 2 else class_weights[codes]
        weights = np.where(signs > 0, class_weights[:, None], others)
    if k == 2:
        signs = signs[1:]
        weights = weights[1:]
    C = _strengths(grid)
    classes = np.arange(len(signs))
    # of each candidate the one of the next smaller C, -1 for the smallest
    order = C.argsort(kind="stable")
    before = np.full(len(C), -1)
    before[order[1:]] = order[:-1]
    follows = np.where(before[:, None] < 0, -1, before[:, None] * len(signs) + classes)
    problems = Problems(
        "squared_hinge",
        np.tile(signs, (len(C), 1))[:, None],
        np.tile(weights, (len(C), 1))[:, None],
        np.repeat(C, len(classes)),
        penalize_intercept=True,
        follows=follows.ravel(),
    )
    return HeadProblems(problems, half=np.tile(classes % 2, len(C)))


PROBLEMS = {"logistic": _logistic, "linear_svm": _linear_svm}


def solved_by_rows(name: str, fold: Fold) -> bool:
    """Whether solutions of a head are sought as combinations of the training rows."""
    # for the SVM they pay from fewer columns on: few rows bend, and these are solved directly
    wide = fold.reduced if name == "logistic" else fold.n < 2 * fold.d
    return wide and fold.n <= MOST_SHARED_ROWS and not fold.refined


def basis_of(name: str, fold: Fold) -> Basis:
    """The fold's rows as the head of this name is solved over them."""
    return fold.products if solved_by_rows(name, fold) else fold.columns


def fit_iterative(
    name: str, tol: float = TOL, max_iter: int = MOST_STEPS, quiet: bool = False
) -> HeadFit:
    """How a head of `PROBLEMS` is fitted; `tol`, `max_iter` and `quiet` as `solve` takes them."""

    def fit(fold: Fold, codes: np.ndarray, grid: Grid, class_weights: np.ndarray | None) -> Fitted:
        made = PROBLEMS[name](codes, grid, class_weights)
        if solved_by_rows(name, fold):
            basis = basis_of(name, fold)
            found = solve(made.problems, basis, tol=tol, max_iter=PATIENCE, quiet=True)
            if (found.certificate <= tol).all():
                return made.fitted(found, len(grid), by_rows=True)
            fold.refine()
        start = _start_of(fold, grid, made.problems) if name == "logistic" else None
        basis = basis_of(name, fold)
        found = solve(made.problems, basis, start=start, tol=tol, max_iter=max_iter, quiet=quiet)
        return made.fitted(found, len(grid), by_rows=False)

    return fit


def _start_of(fold: Fold, grid: Grid, problems: Problems) -> tuple[np.ndarray, np.ndarray] | None:
    """The fold's starts, where it has one for every candidate, of as many columns."""
    columns = problems.targets.shape[1]
    coefs = []
    intercepts = []
    for params in grid:
        start = fold.starts.get(params["C"])
        if start is None or len(start[1]) != columns:
            return None
        coefs.append(start[0])
        intercepts.append(start[1])
    return np.stack(coefs), np.stack(intercepts)
