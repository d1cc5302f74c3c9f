"""The differences that a run's advice rests on: of rows on the same images, chosen without luck.

Each has an interval that holds at 95 % together with those of all the others, and one of four
verdicts by an equivalence margin.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.stats import norm

from pipelines.evaluation.baselines import UNTRAINED
from pipelines.evaluation.comparison import choose_without_fold, difference_interval
from pipelines.evaluation.intervals import LEVEL
from pipelines.evaluation.leaderboard import BLEND, Entry, Leaderboard, Row
from pipelines.evaluation.search import Search

BETTER, WORSE, SAME, OPEN = "better", "worse", "same", "can't tell"
# two points of accuracy: less is worth nobody's second thought
MARGIN = 0.02
COMPARED = 9  # comparisons of a run, those made here and two that are told from other figures
# Bonferroni (Dunn, 1961): all of them hold at once in 95 % of the runs
TOGETHER = 1 - (1 - LEVEL) / COMPARED
# of fewer training images the folds' heads are so alike that their answers err together
FEWEST = 30
# where more images than so many times those there are would be needed, no number is named
FAR = 50


@dataclass(frozen=True)
class Difference:
    """One score less another, on the same images.

    first, second : what is compared, in words. first_score, second_score : where the row of each
        side is chosen without the fold that scores it.
    low, high : at `level`. verdict : as of `judge`.
    images_to_tell : about how many of the images compared on, training images for all but `test`,
        would end a "can't tell"; None where that is no question, or too many.
    too_few : whether there is no verdict because the images are too few for any.
    """

    first: str
    second: str
    first_score: float
    second_score: float
    difference: float
    low: float
    high: float
    level: float
    margin: float
    verdict: str
    images_to_tell: int | None
    too_few: bool


def judge(low: float, high: float, margin: float = MARGIN) -> str:
    """What an interval of a difference says.

    "same" where it lies within the margin of 0 (equivalence: Schuirmann, 1987), else "better" above
    0, "worse" below it, and "can't tell" for all others.
    """
    if -margin < low and high < margin:
        return SAME
    if low > 0:
        return BETTER
    return WORSE if high < 0 else OPEN


def images_to_tell(low: float, high: float, n: int, margin: float = MARGIN) -> int | None:
    """About how many images would end a "can't tell", more than n; None for above FAR times n.

    A half-width falls with the square root of the images. They tell where it is less than the
    difference is from 0, or from the margin.
    """
    centre, half = abs(low + high) / 2, (high - low) / 2
    away = max(centre, margin - centre)
    wanted = n * (half / away) ** 2
    return None if wanted > FAR * n else max(round_up(wanted), n + 1)


def round_up(count: float) -> int:
    """Two digits of a number that is only about right."""
    digits = 10 ** max(int(np.log10(count)) - 1, 0)
    return int(np.ceil(round(count / digits, 6)) * digits)


def widen(value: float, low: float, high: float) -> tuple[float, float]:
    """The ends of a 95 % interval for one that holds together with the others."""
    ratio = norm.ppf((1 + TOGETHER) / 2) / norm.ppf((1 + LEVEL) / 2)
    return value - ratio * (value - low), value + ratio * (high - value)


def difference_of(
    names: tuple[str, str],
    scores: tuple[float, float],
    ends: tuple[float, float],
    n: int,
    fewest: int = FEWEST,
) -> Difference:
    """The difference with its verdict, from an interval that is there.

    n : images. fewest : of fewer there is no verdict.
    """
    low, high = ends
    verdict = judge(low, high)
    more = images_to_tell(low, high, n) if verdict == OPEN else None
    too_few = n < fewest
    if too_few:
        more = fewest if verdict != OPEN else more and max(more, fewest)
        verdict = OPEN
    return Difference(
        first=names[0],
        second=names[1],
        first_score=float(scores[0]),
        second_score=float(scores[1]),
        difference=float(scores[0] - scores[1]),
        low=float(low),
        high=float(high),
        level=TOGETHER,
        margin=MARGIN,
        verdict=verdict,
        images_to_tell=more,
        too_few=too_few,
    )


def compare_rows(
    board: Leaderboard,
    place: int,
    baselines: Sequence[Entry],
    layers: Mapping[str, Sequence[str]],
    labels: np.ndarray,
    search: Search,
) -> dict[str, dict | None]:
    """The `comparisons` block of results.json, but for those of other figures.

    `depth`: the rows of earlier layers against those of the last, of the best single row's
    backbone. `pretraining`: the network against itself untrained, by the baselines' head where that
    was searched. `simple`: the single rows against the best of pixels, colours and Gabor filters;
    `simple_learnt`: that one against the majority class. `learnt`: the single rows against the
    majority class. `choice`: the chosen row, where it is not the table's first, against the single
    rows. `networks`: the rows of the best single row's backbone against those of the next. None
    where one of the sides has no row.

    place : of the chosen row. layers : by backbone, all that were asked for, in order of depth.
    """
    sides = _Sides(board, baselines, labels, search)
    alone = sides.rows(lambda row: row.head != BLEND)
    majority = sides.baselines(lambda row: row.tap is None)
    simple = sides.baselines(
        lambda row: row.tap is not None and not row.backbone.endswith(UNTRAINED)
    )
    untrained = sides.baselines(lambda row: row.backbone.endswith(UNTRAINED))
    same_head = sides.rows(lambda row: bool(untrained) and row.head == untrained[0].row.head)
    simple = sorted(simple, key=lambda side: -side.row.cv_score)[:1]
    chosen = [sides.of_row(place)] if place else []
    found = {
        "depth": sides.compare(*sides.by_depth(layers)),
        "pretraining": sides.compare(same_head or alone, untrained),
        "simple": sides.compare(alone, simple),
        "simple_learnt": sides.compare(simple, majority),
        "learnt": sides.compare(alone, majority),
        "choice": sides.compare(chosen, alone),
        "networks": sides.compare_backbones(),
    }
    return {name: asdict(own) if own else None for name, own in found.items()}


@dataclass(frozen=True)
class _Side:
    row: Row
    facts: np.ndarray


class _Sides:
    """Rows by groups, each with what the scoring makes of its out-of-fold answers."""

    def __init__(
        self, board: Leaderboard, baselines: Sequence[Entry], labels: np.ndarray, search: Search
    ) -> None:
        self.search = search
        self.codes = np.unique(labels, return_inverse=True)[1]
        self._baselines = [_Side(entry.row, entry.facts) for entry in baselines]
        self._board = [
            _Side(row, search.scoring.facts(self.codes, own.argmax(axis=1), own))
            for row, own in zip(board.rows, board.probabilities, strict=True)
        ]

    def rows(self, wanted: Callable[[Row], bool]) -> list[_Side]:
        """Of those that saw every fold."""
        return [side for side in self._board if wanted(side.row) and not side.row.stopped]

    def baselines(self, wanted: Callable[[Row], bool]) -> list[_Side]:
        return [side for side in self._baselines if wanted(side.row)]

    def of_row(self, place: int) -> _Side:
        return self._board[place]

    def by_depth(self, layers: Mapping[str, Sequence[str]]) -> tuple[list[_Side], list[_Side]]:
        best = next(side.row for side in self._board if side.row.head != BLEND)
        own = list(layers.get(best.backbone, ()))
        same = self.rows(lambda row: row.backbone == best.backbone and row.layer in own)
        return (
            [side for side in same if side.row.layer != own[-1]],
            [side for side in same if side.row.layer == own[-1]],
        )

    def compare_backbones(self) -> Difference | None:
        """The two whose best single rows stand highest."""
        by_backbone: dict[str, list[_Side]] = {}
        for side in self.rows(lambda row: row.head != BLEND):
            by_backbone.setdefault(side.row.backbone, []).append(side)
        if len(by_backbone) < 2:
            return None
        first, second = list(by_backbone)[:2]
        found = self.compare(by_backbone[first], by_backbone[second])
        return found and replace(found, first=first, second=second)

    def compare(self, first: Sequence[_Side], second: Sequence[_Side]) -> Difference | None:
        if not first or not second:
            return None
        scoring, seed = self.search.scoring, self.search.seed or 0
        pair = np.array(
            [
                choose_without_fold(
                    np.array([side.facts for side in group]), self.codes, self.search.folds, scoring
                )
                for group in (first, second)
            ]
        )
        scores = scoring.values(self.codes, pair)
        _, low, high = difference_interval(pair, scoring, self.codes, seed, TOGETHER)
        names = (_name(first), _name(second))
        return difference_of(names, (scores[0], scores[1]), (low, high), len(self.codes))


def _name(sides: Sequence[_Side]) -> str:
    row = sides[0].row
    return BLEND if row.head == BLEND else str(row.layer or row.tap or row.backbone)


def compare_others(curve: Mapping | None, chosen: Mapping, sizes: tuple[int, int]) -> dict:
    """The two comparisons that are told from figures with intervals of their own.

    `more_images`: the last doubling of training images, all less half of them. `test`: the test
    score less the corrected one, the ends by MOVER (Zou & Donner, 2008), as they come of other
    images.

    sizes : training and test images.
    """
    more = None
    if curve is not None and curve["gain"] is not None:
        points = curve["points"]
        ends = widen((curve["gain_low"] + curve["gain_high"]) / 2, *_ends(curve, "gain"))
        scores = (points[-1]["accuracy"], points[-2]["accuracy"])
        more = difference_of(("all images", "half of them"), scores, ends, sizes[0])
    test, corrected = chosen["test_score"], chosen["cv_corrected"]
    low, high = _ends(chosen, "test_score")
    corrected_low, corrected_high = _ends(chosen, "cv_corrected")
    ends = (
        test - corrected - np.hypot(test - low, corrected_high - corrected),
        test - corrected + np.hypot(high - test, corrected - corrected_low),
    )
    ends = widen(test - corrected, *ends)
    tested = difference_of(
        ("test", "cross-validation"), (test, corrected), ends, sizes[1], fewest=0
    )
    return {"more_images": asdict(more) if more else None, "test": asdict(tested)}


def _ends(figures: Mapping, name: str) -> tuple[float, float]:
    return figures[f"{name}_low"], figures[f"{name}_high"]
