"""The chosen row: fitted on all training rows, scored once on the test rows."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from heads import HEADS, Calibration, as_logits, fit_calibration
from heads.blended import BlendedHead, Member
from heads.rows import training_rows
from heads.search import fit_head
from pipelines.evaluation.leaderboard import BLEND, Leaderboard, Row
from pipelines.evaluation.learning_curve import learning_curve
from pipelines.evaluation.metrics import (
    measure,
    per_class_recall,
    per_class_recall_intervals,
)
from pipelines.evaluation.random_views import labels_of
from pipelines.evaluation.search import Search


def choose_row(board: Leaderboard, how: str = "best") -> int:
    """The place of the row to use: the best, or the simplest of those tied with it.

    The best is the blend where it does no worse than the best row alone does when it, too, is
    chosen without the fold that scores it: the first row's own score was helped by being the best
    of many; and where the first row does not beat it beyond chance: an average of several heads
    hangs less on which images happened to be trained on. Else it is the first row.
    """
    if how == "simplest":
        return simplest(board.rows, np.array([row.tied for row in board.rows]))
    blend = next((place for place, row in enumerate(board.rows) if row.head == BLEND), 0)
    own = board.rows[blend]
    return blend if own.cv_score >= board.nested or own.tied else 0


def simplest(rows: Sequence[Row], tied: np.ndarray) -> int:
    """The place of the simplest leaderboard row among the tied.

    Fewest members (a blend has several, each a head), then a head that keeps no training rows, then
    the narrowest features, then the better score: the earlier row.

    rows : leaderboard rows, best first, with `head`, `dim` and `members`.
    """

    def cost(place: int) -> tuple:
        row = rows[place]
        if row.head == BLEND:
            return len(row.members or ()), 0, row.dim, place
        return 1, HEADS[row.head].cost, row.dim, place

    return min((int(place) for place in np.flatnonzero(tied)), key=cost)


@dataclass(frozen=True)
class ChosenHead:
    """The chosen head on all training rows.

    sources : whose features, joined in this order, it takes.
    estimator : the fitted head, or BlendedHead.
    calibration : of its scores, of a blend those of its probabilities.
    rows : the training rows it keeps, unscaled, for the bundle.
    """

    sources: list[int]
    estimator: Any
    calibration: Calibration | None
    rows: np.ndarray | None


def fit_chosen(
    board: Leaderboard,
    place: int,
    read: Callable[[int], np.ndarray],
    labels: np.ndarray,
    class_weight: str | None = None,
) -> ChosenHead:
    """Fit a row's heads on the training rows.

    read : a source's features (n, d), or with random views of the images below.
    """
    members = board.members[place]
    sources = sorted({member.source for member in members})
    fitted: dict[int, Member] = {}
    start = 0
    for source in sources:  # one source's features at a time: they may be wide
        features = read(source)
        columns = start, start + features.shape[1]
        start = columns[1]
        for i, member in enumerate(members):
            if member.source == source:
                own = _fit_member(member, features, labels, class_weight)
                fitted[i] = replace(own, columns=columns)
    if len(members) == 1:
        alone = fitted[0]
        return ChosenHead(sources, alone.estimator, alone.calibration, alone.rows)
    calibration = fit_calibration(board.blend_logits, labels, board.classes, class_weight)
    blend = BlendedHead([fitted[i] for i in range(len(members))])
    return ChosenHead(sources, blend, calibration, None)


def _fit_member(
    member: Member, features: np.ndarray, labels: np.ndarray, class_weight: str | None
) -> Member:
    of_all = labels_of(features, labels)
    head = fit_head(member.head, member.params, features, of_all, class_weight)
    logits = as_logits(member.oof, HEADS[member.head].scores)
    calibration = fit_calibration(logits, labels, np.unique(labels), class_weight)
    rows = training_rows(head, features)
    return replace(member, estimator=head, calibration=calibration, rows=rows)


def average_views(chosen: ChosenHead, n_views: int, width: int) -> ChosenHead:
    """The heads on each of several views of an image, all views alike in the mean.

    What a head says is calibrated before it is averaged, what a blend says after.

    n_views : the features that the result takes are those of the first view, of the second, and so
    on. width : of all sources in one view.

    Examples
    --------
    >>> from heads import make_head
    >>> head = make_head("logistic").fit([[0.0], [1.0]], ["a", "b"])
    >>> both = average_views(ChosenHead([0], head, None, None), 2, 1).estimator
    >>> [(member.weight, member.columns) for member in both.members]
    [(0.5, (0, 1)), (0.5, (1, 2))]
    """
    members: Sequence[Member]
    if isinstance(chosen.estimator, BlendedHead):
        members, calibration = chosen.estimator.members, chosen.calibration
    else:
        own = {"estimator": chosen.estimator, "calibration": chosen.calibration}
        members = [Member("", {}, **own, columns=(0, width), rows=chosen.rows)]
        calibration = None
    moved = [
        replace(
            member,
            weight=member.weight / n_views,
            columns=tuple(column + view * width for column in member.columns),
        )
        for view in range(n_views)
        for member in members
    ]
    return replace(chosen, estimator=BlendedHead(moved), calibration=calibration, rows=None)


def trace_curve(
    board: Leaderboard,
    place: int,
    read: Callable[[int], np.ndarray],
    labels: np.ndarray,
    search: Search,
) -> dict:
    """The `learning_curve` of results.json: of the row, a blend as the blend that it is."""
    row, members = board.rows[place], board.members[place]
    sources = sorted({member.source for member in members})
    # read when it is their turn: they may be wide
    by_source = (
        (read(source), [member for member in members if member.source == source])
        for source in sources
    )
    found = learning_curve(by_source, labels, search)
    names = ("backbone", "view", "layer", "pooling", "tap", "head", "params")
    return {**{name: getattr(row, name) for name in names}, **asdict(found)}


def describe_choice(
    board: Leaderboard,
    place: int,
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    seed: int = 0,
) -> dict:
    """The `chosen` block of results.json.

    labels, predicted : (n,) class names of the test rows. probabilities : (n, classes).
    """
    measured = measure(labels, predicted, probabilities, board.classes, seed=seed)
    corrected, corrected_low, corrected_high = board.corrected
    accuracy = measured["accuracy"]
    scoring = board.scoring
    # a loss is its negative: the signed ends change places
    ends = sorted(scoring.sign * figure for figure in measured[scoring.metric].values())
    return {
        **asdict(board.rows[place]),
        "why": _reason(board, place),
        "cv_nested": board.nested,
        "cv_corrected": corrected,
        "cv_corrected_low": corrected_low,
        "cv_corrected_high": corrected_high,
        "cv_corrected_among": board.tried,
        "test_accuracy": accuracy["value"],
        "test_low": accuracy["low"],
        "test_high": accuracy["high"],
        "test_score": scoring.sign * measured[scoring.metric]["value"],
        "test_score_low": ends[0],
        "test_score_high": ends[-1],
        "test_balanced_accuracy": measured["balanced_accuracy"]["value"],
        "test_metrics": {name: _if_told(own) for name, own in measured.items()},
        "test_recall": per_class_recall(labels, predicted),
        "test_recall_intervals": per_class_recall_intervals(labels, predicted),
    }


def _if_told(figure: dict[str, float]) -> dict[str, float | None]:
    """A figure that is none, as of a class without an image, is null: JSON has no word for NaN."""
    return {name: None if np.isnan(value) else value for name, value in figure.items()}


def _reason(board: Leaderboard, place: int) -> str:
    """Why this row: "best" (the table's first), "simplest", or of a blend below the first "nested"
    (no worse than a single row that is chosen in the same way) or "tied" (not beaten by one beyond
    chance).
    """
    row = board.rows[place]
    if place == 0:
        return "best"
    if row.head != BLEND:
        return "simplest"
    return "nested" if row.cv_score >= board.nested else "tied"
