"""The leaderboard: every tap with every head by cross-validation on the training rows, and the test of the best."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from joblib import Parallel, delayed

from heads import (
    HEADS,
    HeadSearchCV,
    blend_candidates,
    fit_calibration,
    oof_probabilities,
    screen_features,
)
from pipelines.scores import (
    corrected_accuracy,
    log_loss,
    nadeau_bengio_interval,
    tied_with_best,
    wilson_interval,
)

SEARCHED = 12
BLEND = "blend"


@dataclass(frozen=True)
class Source:
    """Where a leaderboard row's features come from."""

    backbone: str
    layer: str | None
    pooling: str | None
    dim: int
    view: str = "plain"


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard: a tap and a head with its best parameters, or a blend of several such.

    cv_accuracy: share of the training images predicted right while out of fold; cv_low, cv_high: its Wilson
    interval at 95 %; cv_fold_low, cv_fold_high: Nadeau & Bengio's, of the folds' accuracies, which allows for other
    training images too and is wide with few folds. cv_log_loss: mean negative log of the calibrated out-of-fold
    probability of the true class; it orders rows of equal accuracy.
    seconds: what the search on this tap took. members: of a blend, each with its tap, head, parameters and weight.
    tied: whether the best row does not beat this one beyond chance.
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
    cv_fold_low: float
    cv_fold_high: float
    tied: bool = False


@dataclass(frozen=True)
class Part:
    """A head of a leaderboard row: a row has one, a blend several. oof: its out-of-fold scores (n, classes)."""

    source: int
    head: str
    params: dict
    weight: float
    oof: np.ndarray


@dataclass
class Leaderboard:
    """Rows best first, with what the choice and the fit need of each.

    parts: by row, the heads it is made of. oof: by row, out-of-fold scores (n, classes), of a blend nested
    probabilities. right: (candidates, n) bool over every parameter tried. corrected: accuracy of the choice with
    its luck taken out, and its interval.
    """

    rows: list[Row]
    parts: list[list[Part]]
    oof: list[np.ndarray]
    right: np.ndarray
    classes: np.ndarray
    corrected: tuple[float, float, float]
    nested: float

    def probabilities(self, place: int, labels: np.ndarray) -> np.ndarray:
        """(n, classes) out-of-fold probabilities of a row, calibrated where its head has none."""
        row, oof = self.rows[place], self.oof[place]
        return oof if row.head == BLEND else oof_probabilities(oof, HEADS[row.head].scores, labels, self.classes)


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
    classes = np.unique(labels)
    parts = [
        (Part(i, head, result["params"], 1.0, result["oof"]), round(result["seconds"], 3))
        for i, (results, _) in enumerate(found)
        for head, result in results.items()
    ]
    entries = [
        (describe_row(sources[p.source], p.head, p.params, p.oof, labels, folds, seconds), [p], p.oof)
        for p, seconds in parts
    ]
    entries.sort(key=_place)
    nested = _nested_accuracy(np.array([is_right(oof, labels) for _, _, oof in entries]), folds)
    right = np.concatenate([right for _, right in found])
    blended = _blend(entries, sources, labels, classes, folds)
    if blended is not None:
        entries = sorted([*entries, blended], key=_place)
        right = np.concatenate([right, [is_right(blended[2], labels)]])
    rows, parts, oof = map(list, zip(*entries, strict=True))
    tied = tied_with_best(np.array([is_right(scores, labels) for scores in oof]), seed=seed)
    rows = [replace(row, tied=bool(as_good)) for row, as_good in zip(rows, tied, strict=True)]
    return Leaderboard(rows, parts, oof, right, classes, corrected_accuracy(right, seed=seed), nested)


def _place(entry):
    row = entry[0]
    return -round(row.cv_accuracy, 9), round(row.cv_log_loss, 9), row.dim


def _nested_accuracy(right, folds):
    """Share right of the row that is best without a fold, on that fold; of equals the earlier row."""
    best = [np.delete(right, val, axis=1).mean(axis=1).round(12).argmax() for _, val in folds]
    return float(np.concatenate([right[row, val] for row, (_, val) in zip(best, folds, strict=True)]).mean())


def is_right(oof: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) bool: whether the highest of an image's out-of-fold scores (n, classes) is that of its label."""
    return np.unique(labels)[oof.argmax(axis=1)] == labels


def _blend(entries, sources, labels, classes, folds):
    """The entry of the best row's backbone's rows blended, best first; None where one alone is all there is to it."""
    backbone = entries[0][0].backbone
    candidates = [parts[0] for row, parts, _ in entries if row.backbone == backbone]
    started = time.perf_counter()
    shares = [oof_probabilities(part.oof, HEADS[part.head].scores, labels, classes) for part in candidates]
    found = blend_candidates(shares, np.searchsorted(classes, labels), [val for _, val in folds])
    chosen = np.flatnonzero(found.weights)
    if len(chosen) < 2:
        return None
    chosen = sorted(chosen, key=lambda i: (-found.weights[i], i))
    parts = [replace(candidates[i], weight=float(found.weights[i])) for i in chosen]
    seconds = round(time.perf_counter() - started, 3)
    row = _describe_blend(sources, parts, found.probabilities, labels, folds, seconds)
    return row, parts, found.probabilities


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
            "oof": np.asarray(search.oof_scores_[best]),
            "seconds": float(seconds[mine].sum()),
        }
    return results, right


def describe_row(source: Source, head: str, params: dict, oof: np.ndarray, labels: np.ndarray, folds, seconds) -> Row:
    """The leaderboard row of one head on one source, from its out-of-fold scores (n, classes)."""
    right = is_right(oof, labels)
    low, high = wilson_interval(right.sum(), len(right))
    fold_low, fold_high = _fold_interval(right, folds)
    classes = np.unique(labels)
    shares = fit_calibration(oof, labels, classes).probabilities(oof)
    loss = log_loss(np.searchsorted(classes, labels), None, shares)
    return Row(**asdict(source), head=head, params=params, members=None, cv_accuracy=float(right.mean()), cv_low=low,
               cv_high=high, cv_log_loss=loss, seconds=seconds, cv_fold_low=fold_low,
               cv_fold_high=fold_high)  # fmt: skip


def _describe_blend(sources, parts, shares, labels, folds, seconds):
    """The row of a blend; what it joins has no tap or parameters of its own."""
    first = sources[parts[0].source]
    dim = sum({part.source: sources[part.source].dim for part in parts}.values())
    joined = Source(first.backbone, None, None, dim, first.view)
    row = describe_row(joined, BLEND, {}, shares, labels, folds, seconds)
    loss = log_loss(np.unique(labels, return_inverse=True)[1], None, shares)
    return replace(row, cv_log_loss=loss, members=[_member(sources[part.source], part) for part in parts])


def _member(source, part):
    tap = {"tap": f"{source.layer}:{source.pooling}", "backbone": source.backbone}
    return {**tap, "head": part.head, "params": part.params, "weight": part.weight}


def _fold_interval(right, folds):
    by_fold = [right[val].mean() for _, val in folds]
    return nadeau_bengio_interval(by_fold, *np.mean([[len(train), len(val)] for train, val in folds], axis=0))


def timer():
    """A stopwatch: each call gives the seconds since the one before."""
    last = time.perf_counter()

    def lap():
        nonlocal last
        now = time.perf_counter()
        passed, last = now - last, now
        return round(passed, 3)

    return lap
