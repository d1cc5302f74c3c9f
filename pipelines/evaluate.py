"""The leaderboard: every tap with every head by cross-validation on the training rows, and the test of the best."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from joblib import Parallel, delayed

from heads import HEADS, Calibration, HeadSearchCV, fit_calibration, head_scores, make_head, screen_features
from pipelines.scores import balanced_accuracy, corrected_accuracy, wilson_interval

SEARCHED = 12


@dataclass(frozen=True)
class Source:
    """Where a leaderboard row's features come from."""

    backbone: str
    layer: str
    pooling: str
    dim: int
    view: str = "plain"


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard: a tap and a head with its best parameters.

    cv_accuracy: share of the training images predicted right while out of fold; cv_low, cv_high: its Wilson
    interval at 95 %. cv_log_loss: mean negative log of the calibrated out-of-fold probability of the true class;
    it orders rows of equal accuracy. seconds: what the head's search on this tap took. members: of a blend, else None.
    """

    backbone: str
    view: str
    layer: str | None
    pooling: str | None
    dim: int
    head: str
    params: dict
    members: list | None
    cv_accuracy: float
    cv_low: float
    cv_high: float
    cv_log_loss: float
    seconds: float


@dataclass
class Leaderboard:
    """Rows best first, with what the choice and the calibration need of each.

    right: (candidates, n) bool over every parameter tried. corrected: accuracy of the choice with its luck taken
    out, and its interval. sources, oof: by row, where its features come from and
    its out-of-fold scores (n, classes).
    """

    rows: list[Row]
    sources: list[int]
    oof: list[np.ndarray]
    right: np.ndarray
    classes: np.ndarray
    corrected: tuple[float, float, float]


def screen_sources(
    features: Callable[[int], np.ndarray],
    n_sources: int,
    labels: np.ndarray,
    *,
    n_jobs: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[list[int], dict[int, float]]:
    """Which sources are worth the full search -> (their indices in order, {index of each other one: its score}).

    Up to SEARCHED sources are all searched. Of more, those with the best leave-one-out accuracy of ridge regression
    are; that accuracy saw every label, so it ranks sources and estimates nothing.
    """
    if n_sources <= SEARCHED:
        return list(range(n_sources)), {}
    jobs = (delayed(screen_features)(features(i), labels) for i in range(n_sources))
    scores = []
    for score in Parallel(n_jobs=n_jobs, return_as="generator", pre_dispatch=n_jobs)(jobs):
        scores.append(score)
        if on_progress:
            on_progress(len(scores))
    best = sorted(range(n_sources), key=lambda i: (-round(scores[i], 9), i))
    return sorted(best[:SEARCHED]), {i: scores[i] for i in best[SEARCHED:]}


def make_leaderboard(
    features: Callable[[int], np.ndarray],
    sources: Sequence[Source],
    labels: np.ndarray,
    folds: list[tuple[np.ndarray, np.ndarray]],
    heads: Sequence[str] = tuple(HEADS),
    *,
    seed: int = 0,
    n_jobs: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> Leaderboard:
    """Cross-validate every head on every source over the same folds.

    features : index of a source -> its (n, d) float32 training rows; called once for each.
    labels : (n,) class names. folds : (train, validation) index pairs.
    on_progress : called with the number of sources done.

    Raises ValueError for an unknown head.
    """
    jobs = (delayed(_search)(features(i), labels, folds, heads, seed) for i in range(len(sources)))
    found = []
    for searched in Parallel(n_jobs=n_jobs, return_as="generator", pre_dispatch=n_jobs)(jobs):
        found.append(searched)
        if on_progress:
            on_progress(len(found))
    entries = [
        (_row(sources[i], head, result, labels), i, result["oof"])
        for i, (results, _) in enumerate(found)
        for head, result in results.items()
    ]
    entries.sort(key=lambda entry: (-round(entry[0].cv_accuracy, 9), round(entry[0].cv_log_loss, 9), entry[0].dim))
    right = np.concatenate([right for _, right in found])
    rows, places, oof = map(list, zip(*entries, strict=True))
    return Leaderboard(rows, places, oof, right, np.unique(labels), corrected_accuracy(right, seed=seed))


def _search(X, labels, folds, heads, seed):
    """Per head its best candidate with its out-of-fold scores; and (candidates, n) bool of what was right."""
    search = HeadSearchCV(list(heads), cv=folds, refit=False, random_state=seed).fit(X, labels)
    names = np.array([params["head"] for params in search.cv_results_["params"]])
    predicted = [search.classes_[scores.argmax(axis=1)] for scores in search.oof_scores_]
    right = np.array([labels == guess for guess in predicted])
    seconds = (search.cv_results_["mean_fit_time"] + search.cv_results_["mean_score_time"]) * len(folds)
    results = {}
    for head in heads:
        mine = np.flatnonzero(names == head)
        if not len(mine):  # every parameter of its grid asks for more images than there are
            continue
        best = mine[right[mine].mean(axis=1).round(12).argmax()]
        results[head] = {
            "params": {k: v for k, v in search.cv_results_["params"][best].items() if k != "head"},
            "right": int(right[best].sum()),
            "oof": np.asarray(search.oof_scores_[best]),
            "seconds": float(seconds[mine].sum()),
        }
    return results, right


def _row(source, head, result, labels):
    n = len(labels)
    low, high = wilson_interval(result["right"], n)
    return Row(
        **asdict(source),
        head=head,
        params=result["params"],
        members=None,
        cv_accuracy=result["right"] / n,
        cv_low=low,
        cv_high=high,
        cv_log_loss=_log_loss(result["oof"], labels),
        seconds=round(result["seconds"], 3),
    )


def _log_loss(oof, labels):
    classes = np.unique(labels)
    shares = fit_calibration(oof, labels, classes).probabilities(oof)
    own = shares[np.arange(len(labels)), np.searchsorted(classes, labels)]
    return float(-np.log(np.maximum(own, np.finfo(float).tiny)).mean())


@dataclass(frozen=True)
class Fitted:
    """The chosen head on all training rows, with the calibration of its scores where it has no probabilities."""

    head: object
    calibration: Calibration | None


def fit_chosen(board: Leaderboard, features: np.ndarray, labels: np.ndarray) -> Fitted:
    """Fit the best row's head on the training rows (n, d)."""
    row = board.rows[0]
    head = make_head(row.head, **row.params).fit(features, labels)
    calibration = None
    if not hasattr(head, "predict_proba"):
        calibration = fit_calibration(board.oof[0], labels, board.classes)
    return Fitted(head, calibration)


def probabilities(head, calibration: Calibration | None, features: np.ndarray) -> np.ndarray:
    """(n, d) features -> (n, classes) probabilities by the head itself, or by the calibration of its scores."""
    if calibration is None:
        return head.predict_proba(features)
    return calibration.probabilities(head_scores(head, features))


def describe_choice(board: Leaderboard, labels: np.ndarray, predicted: np.ndarray) -> dict:
    """The `chosen` block of results.json from the test rows' labels and predictions, both (n,) class names."""
    right = int((labels == predicted).sum())
    test_low, test_high = wilson_interval(right, len(labels))
    corrected, corrected_low, corrected_high = board.corrected
    return {
        **asdict(board.rows[0]),
        "cv_corrected": corrected,
        "cv_corrected_low": corrected_low,
        "cv_corrected_high": corrected_high,
        "cv_corrected_among": len(board.right),
        "test_accuracy": right / len(labels),
        "test_low": test_low,
        "test_high": test_high,
        "test_balanced_accuracy": balanced_accuracy(labels, predicted),
    }


def timer():
    """A stopwatch: each call gives the seconds since the one before."""
    last = time.perf_counter()

    def lap():
        nonlocal last
        now = time.perf_counter()
        passed, last = now - last, now
        return round(passed, 3)

    return lap
