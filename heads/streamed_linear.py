"""The linear heads of all folds on rows read in blocks: common passes for folds and strengths."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from heads.blocks import Blocks
from heads.calibration import as_columns
from heads.fold_batches import NEAR
from heads.fold_scores import Scored
from heads.linear import PROBLEMS, TOL, Fitted, Grid, HeadProblems
from heads.solvers import Problems, Solution, solve
from heads.streamed_columns import StreamedColumns
from heads.streamed_folds import StreamedFold

# so many margins are solved for at a time, about two gigabytes in all
MOST_MARGINS = 1 << 24


@dataclass(frozen=True)
class Part:
    """A fold, the class numbers (n_all,) of all rows, and the weights (classes,) of the classes.

    Classes that the training rows lack have no number: a row of theirs has 0, and counts 0 times.
    """

    fold: StreamedFold
    codes: np.ndarray
    class_weights: np.ndarray | None

    @property
    def classes(self) -> int:
        """Of the training rows."""
        return int(self.codes.max()) + 1

    @property
    def trained_codes(self) -> np.ndarray:
        """Of the training rows alone, in the fold's order."""
        return self.codes[self.fold.rows[: self.fold.n]]

    def problems(self, name: str, params: Mapping[str, Any]) -> Problems:
        """What one candidate solves, over all rows."""
        made = PROBLEMS[name](self.codes, [params], self.class_weights).problems
        return Problems(
            made.loss,
            made.targets.astype(np.float32),
            (made.weights * self.fold.counts).astype(np.float32),
            made.C,
            made.penalize_intercept,
        )


class _Job(NamedTuple):
    """One candidate on one fold, by their numbers."""

    candidate: int
    part: int


def fit_streamed(
    name: str, blocks: Blocks, whole: StreamedFold, parts: Sequence[Part], grid: Grid
) -> list[Fitted]:
    """A head of `PROBLEMS` on every fold, for every candidate of a grid: to the same optimum.

    The folds' problems are solved in the same passes, over the rows as `whole` standardises them;
    a fold whose means lie far from all rows' is solved over its own.

    Parameters
    ----------
    name : str
    blocks : Blocks
    whole : StreamedFold
        Of all rows.
    parts : sequence of Part
    grid : sequence of dict

    Returns
    -------
    list of Fitted
        Of every part.
    """
    near = [_is_near(whole, part.fold) for part in parts]
    together: dict[int, list[int]] = {}
    for i, part in enumerate(parts):
        # folds of as many classes; one that is far from the others has a group of its own
        together.setdefault(part.classes if near[i] else -1 - i, []).append(i)
    found: dict[int, Fitted] = {}
    for own in together.values():
        group = [parts[i] for i in own]
        center = whole if near[own[0]] else group[0].fold
        for i, fitted in zip(own, _fit_group(name, blocks, center, group, grid), strict=True):
            found[i] = fitted
    return [found[i] for i in range(len(parts))]


def _is_near(whole: StreamedFold, fold: StreamedFold) -> bool:
    """Whether its rows, standardised as all rows are, keep their digits in float32."""
    varying = fold.varying
    apart = np.abs(fold.mean - whole.mean)[varying] / fold.scale[varying]
    wider = (whole.scale[varying] / fold.scale[varying]).max(initial=0)
    return bool(apart.max(initial=0) < NEAR and wider < NEAR)


def _fit_group(
    name: str, blocks: Blocks, center: StreamedFold, group: Sequence[Part], grid: Grid
) -> list[Fitted]:
    """Folds of as many classes over the rows as one of them, or all rows, standardises them."""
    solved: dict[_Job, Solution] = {}
    for jobs in _batches(blocks.n * group[0].classes, len(group), grid):
        each = [group[job.part].problems(name, grid[job.candidate]) for job in jobs]
        count = len(each[0].C)
        joint = _joined(each)
        basis = _columns_for(center, [group[job.part].fold for job in jobs], count)
        found = solve(joint, basis, tol=TOL)
        for i, job in enumerate(jobs):
            place = slice(i * count, (i + 1) * count)
            solved[job] = Solution(*(array[place] for array in found))
    fitted = []
    for part in range(len(group)):
        own = [solved[_Job(i, part)] for i in range(len(grid))]
        whole = Solution(*(np.concatenate(arrays) for arrays in zip(*own, strict=True)))
        made = HeadProblems(joint, np.zeros(len(whole.certificate)))
        answer = made.fitted(whole, len(grid), by_rows=False)
        # steps that folds share leave a little where it is zero, and the rows held out may be far
        answer.coef[..., ~group[part].fold.varying] = 0
        fitted.append(answer)
    return fitted


def _columns_for(
    center: StreamedFold, folds: Sequence[StreamedFold], count: int
) -> StreamedColumns:
    """The rows as these folds' problems see them, so many of each in turn."""
    if all(fold is center for fold in folds):
        return center.columns
    views = [_view(center, fold) for fold in folds]
    offsets, factors = (np.repeat(np.stack(own), count, 0) for own in zip(*views, strict=True))
    return center.columns.seen(offsets, factors)


def _batches(margins: int, parts: int, grid: Grid) -> Iterator[list[_Job]]:
    """Jobs that are solved together, of so many margins each: like C, which take as many steps.

    The batches are of about one size: a few jobs left over would cost nearly as many passes.
    """
    order = np.argsort([params["C"] for params in grid], kind="stable")
    jobs = [_Job(int(candidate), part) for candidate in order for part in range(parts)]
    most = max(1, MOST_MARGINS // margins)
    for own in np.array_split(np.arange(len(jobs)), -(-len(jobs) // most)):
        yield [jobs[i] for i in own]


def _view(center: StreamedFold, fold: StreamedFold) -> tuple[np.ndarray, np.ndarray]:
    """Offset and factor (1, d) by which a fold sees the rows as `center` standardises them."""
    offset = (fold.mean - center.mean) / center.scale
    # a column that does not vary in the fold is zero there
    factor = np.where(fold.varying, center.scale / fold.scale, 0)
    return offset[None], factor[None]


def _joined(each: Sequence[Problems]) -> Problems:
    first = each[0]
    return Problems(
        first.loss,
        np.concatenate([problems.targets for problems in each]),
        np.concatenate([problems.weights for problems in each]),
        np.concatenate([problems.C for problems in each]),
        first.penalize_intercept,
    )


def score_streamed(
    blocks: Blocks, folds: Sequence[StreamedFold], fitted: Sequence[Fitted]
) -> list[list[Scored]]:
    """What linear heads answer on the held-out rows: for every fold, of every candidate."""
    scores = [
        np.empty((fold.m, *found.intercept.shape))
        for fold, found in zip(folds, fitted, strict=True)
    ]

    def work(place: slice, rows: np.ndarray) -> None:
        for fold, found, own in zip(folds, fitted, scores, strict=True):
            among, inside = fold.held_out(place)
            if len(among):
                coef = found.coef.reshape(-1, blocks.d)
                margins = fold.standardise(rows[inside]) @ coef.T
                own[among] = margins.reshape(-1, *found.intercept.shape) + found.intercept

    blocks.run(work)
    return [
        [_answer(own[:, i], certificate) for i, certificate in enumerate(found.certificate)]
        for found, own in zip(fitted, scores, strict=True)
    ]


def _answer(margins: np.ndarray, certificate: float) -> Scored:
    scores = as_columns(margins)
    return Scored(scores, scores.argmax(axis=1), certificate)
