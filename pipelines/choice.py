"""The chosen row: fitted on all training rows, scored once on the test rows."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from heads import (
    BlendedHead,
    Calibration,
    Member,
    fit_calibration,
    fit_head,
    log_probabilities,
    training_rows,
)
from pipelines.evaluate import BLEND, Leaderboard
from pipelines.learning_curve import learning_curve
from pipelines.scores import measure, per_class_recall, simplest


def choose_row(board: Leaderboard, how: str = "best") -> int:
    """The place of the row to use: the best, or the simplest of those tied with it.

    The best is the blend where it does no worse than the best row alone does when it, too, is chosen without the
    fold that scores it: the first row's own score was helped by being the best of many. Else it is the first row.
    """
    if how == "simplest":
        return simplest(board.rows, np.array([row.tied for row in board.rows]))
    blend = next((place for place, row in enumerate(board.rows) if row.head == BLEND), 0)
    return blend if board.rows[blend].cv_score >= board.nested else 0


@dataclass(frozen=True)
class Fitted:
    """The chosen head on all training rows.

    sources: whose features, joined in this order, it takes. calibration: of its scores where it has no
    probabilities, and of a blend's. rows: the training rows it keeps, unscaled, for the bundle.
    """

    sources: list[int]
    head: object
    calibration: Calibration | None
    rows: np.ndarray | None


def fit_chosen(
    board: Leaderboard,
    place: int,
    read: Callable[[int], np.ndarray],
    labels: np.ndarray,
    class_weight: str | None = None,
) -> Fitted:
    """Fit a row's heads on the training rows; `read` gives a source's features (n, d)."""
    parts = board.parts[place]
    sources = sorted({part.source for part in parts})
    fitted, start = {}, 0
    for source in sources:
        features = read(source)
        columns, start = (start, start + features.shape[1]), start + features.shape[1]
        for i, part in enumerate(parts):
            if part.source == source:
                own = _fit_member(part, features, labels, board.classes, class_weight)
                fitted[i] = replace(own, columns=columns)
    if len(parts) == 1:
        alone = fitted[0]
        return Fitted(sources, alone.estimator, alone.calibration, alone.rows)
    calibration = fit_calibration(log_probabilities(board.oof[place]), labels, board.classes)
    return Fitted(sources, BlendedHead([fitted[i] for i in range(len(parts))]), calibration, None)


def _fit_member(part: Member, features, labels, classes, class_weight) -> Member:
    head = fit_head(part.head, part.params, features, labels, class_weight)
    calibration = (
        None if hasattr(head, "predict_proba") else fit_calibration(part.oof, labels, classes)
    )
    rows = training_rows(head, features)
    return replace(part, estimator=head, calibration=calibration, rows=rows)


def trace_curve(
    board: Leaderboard,
    place: int,
    read: Callable[[int], np.ndarray],
    labels: np.ndarray,
    folds: list,
    *,
    class_weight: str | None = None,
    n_jobs: int = 1,
    seed: int = 0,
) -> dict:
    """The `learning_curve` block of results.json, in accuracy: of the row, or of a blend's heaviest member."""
    part = board.parts[place][0]
    row = next(
        i for i, parts in enumerate(board.parts) if len(parts) == 1 and parts[0].oof is part.oof
    )
    found = learning_curve(
        read(part.source),
        labels,
        folds,
        part.head,
        part.params,
        class_weight=class_weight,
        n_jobs=n_jobs,
        seed=seed,
    )
    names = ("backbone", "view", "layer", "pooling", "tap", "head", "params")
    about = {name: getattr(board.rows[row], name) for name in names}
    return {**about, **asdict(found)}


def describe_choice(
    board: Leaderboard,
    place: int,
    labels: np.ndarray,
    predicted: np.ndarray,
    shares: np.ndarray,
    seed: int = 0,
) -> dict:
    """The `chosen` block of results.json from the test rows' labels and predictions, (n,) class names, and
    probabilities, (n, classes)."""
    measured = measure(labels, predicted, shares, board.classes, seed=seed)
    corrected, corrected_low, corrected_high = board.corrected
    accuracy, balanced = measured["accuracy"], measured["balanced_accuracy"]
    scoring = board.scoring
    own = sorted(scoring.sign * figure for figure in measured[scoring.metric].values())
    return {
        **asdict(board.rows[place]),
        "cv_corrected": corrected,
        "cv_corrected_low": corrected_low,
        "cv_corrected_high": corrected_high,
        "cv_corrected_among": board.tried,
        "test_accuracy": accuracy["value"],
        "test_low": accuracy["low"],
        "test_high": accuracy["high"],
        "test_score": scoring.sign * measured[scoring.metric]["value"],
        "test_score_low": own[0],
        "test_score_high": own[-1],
        "test_balanced_accuracy": balanced["value"],
        "test_metrics": measured,
        "test_recall": per_class_recall(labels, predicted),
    }
