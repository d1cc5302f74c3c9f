"""The leaderboard: every tap with every head by cross-validation on the training rows, and the test of the best."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from joblib import Parallel, delayed

from heads import (
    HEADS,
    HeadSearchCV,
    Member,
    blend_candidates,
    fit_calibration,
    oof_probabilities,
    screen_features,
)
from pipelines.scores import (
    ACCURACY,
    corrected_score,
    log_loss,
    nadeau_bengio_interval,
    score_interval,
    tied_with_best,
    wilson_interval,
)
from pipelines.scoring import Scoring, best_first, head_facts, no_score

SEARCHED = 12
BLEND = "blend"


@dataclass(frozen=True)
class Source:
    """Where a leaderboard row's features come from.

    layer, pooling: None where several taps are joined. tap: as `FeatureExtractor(layer=…)` takes it, such as
    `a:avg` or `a:avg+b:grid3`. view: `plain`, or `plain+flipped` where both are averaged.
    """

    backbone: str
    layer: str | None
    pooling: str | None
    dim: int
    view: str = "plain"
    tap: str | None = None

    def __post_init__(self):
        if self.tap is None and self.layer is not None:
            object.__setattr__(self, "tap", f"{self.layer}:{self.pooling}")


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard: a tap and a head with its best parameters, or a blend of several such.

    cv_accuracy: share of the training images predicted right while out of fold; cv_low, cv_high: its Wilson
    interval at 95 %; cv_fold_low, cv_fold_high: Nadeau & Bengio's, of the folds' accuracies, which allows for other
    training images too and is wide with few folds. cv_log_loss: mean negative log of the calibrated out-of-fold
    probability of the true class; it orders rows of equal score.
    cv_score, cv_score_low, cv_score_high: of the scoring that the leaderboard is ordered by, and its interval.
    seconds: what the search on this tap took. members: of a blend or of joined taps, each with its tap, head,
    parameters and weight. tied: whether the best row does not beat this one beyond chance.
    """

    backbone: str
    view: str
    layer: str | None
    pooling: str | None
    dim: int
    tap: str | None
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
    cv_score: float
    cv_score_low: float
    cv_score_high: float
    tied: bool = False


@dataclass
class Leaderboard:
    """Rows best first, with what the choice and the fit need of each.

    parts: by row, the heads it is made of. oof: by row, out-of-fold scores (n, classes), of a blend nested
    probabilities. tried: how many settings were compared. corrected: score of the choice with its luck taken out,
    and its interval. nested: score of the best single row where it is chosen without the fold that scores it.
    """

    rows: list[Row]
    parts: list[list[Member]]
    oof: list[np.ndarray]
    tried: int
    classes: np.ndarray
    corrected: tuple[float, float, float]
    nested: float
    scoring: Scoring = ACCURACY

    def probabilities(self, place: int, labels: np.ndarray) -> np.ndarray:
        """(n, classes) out-of-fold probabilities of a row, calibrated where its head has none."""
        row, oof = self.rows[place], self.oof[place]
        return (
            oof
            if row.head == BLEND
            else oof_probabilities(oof, HEADS[row.head].scores, labels, self.classes)
        )


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
    scoring: Scoring = ACCURACY,
    class_weight: str | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> Leaderboard:
    """Cross-validate every head on every source over the same folds.

    features : index of a source -> its (n, d) float32 training rows; called once for each.
    labels : (n,) class names. folds : (train, validation) index pairs, each row in one validation part.
    scoring : of the pooled out-of-fold answers; parameters, rows and the blend are chosen by it.
    class_weight : None or "balanced", for the heads that take weights.
    on_progress : called with the number of sources done.

    Raises ValueError for an unknown head.
    """
    widest_first = sorted(
        range(len(sources)), key=lambda i: -sources[i].dim
    )  # so that the workers end together
    jobs = (
        delayed(search_heads)(features(i), labels, folds, heads, scoring, class_weight, seed)
        for i in widest_first
    )
    found = {}
    for i, searched in zip(
        widest_first,
        Parallel(n_jobs=n_jobs, return_as="generator", pre_dispatch=n_jobs)(jobs),
        strict=True,
    ):
        found[i] = searched
        if on_progress:
            on_progress(len(found))
    found = [found[i] for i in range(len(sources))]
    classes, codes = np.unique(labels, return_inverse=True)
    entries = []
    for i, (results, _) in enumerate(found):
        for head, result in results.items():
            part = Member(head, result["params"], 1.0, i, result["oof"])
            row = describe_row(
                sources[i],
                head,
                part.params,
                part.oof,
                labels,
                folds,
                round(result["seconds"], 3),
                scoring,
            )
            entries.append((row, [part], part.oof, result["facts"]))
    entries.sort(key=_place)
    nested = _nested_score(np.array([facts for *_, facts in entries]), codes, folds, scoring)
    tried = [facts for _, facts in found]
    blended = _blend(entries, sources, labels, classes, folds, scoring)
    if blended is not None:
        entries = sorted([*entries, blended], key=_place)
        tried.append(blended[3][None])
    tried = np.concatenate(tried)
    rows, parts, oof, facts = map(list, zip(*entries, strict=True))
    tied = tied_with_best(np.array(facts), scoring, codes, seed=seed)
    rows = [replace(row, tied=bool(as_good)) for row, as_good in zip(rows, tied, strict=True)]
    corrected = corrected_score(tried, scoring, codes, seed=seed)
    return Leaderboard(rows, parts, oof, len(tried), classes, corrected, nested, scoring)


def _place(entry):
    row = entry[0]
    return -round(row.cv_score, 9), round(row.cv_log_loss, 9), row.dim


def _nested_score(facts, codes, folds, scoring):
    """Score of the row that is best without a fold, on that fold; of equals the earlier row."""
    chosen = facts[0].copy()
    for _, val in folds:
        others = np.setdiff1d(np.arange(len(codes)), val)
        best = best_first(scoring.values(codes[others], facts[:, others]))
        chosen[val] = facts[best, val]
    return float(scoring.values(codes, chosen[None])[0])


def is_right(oof: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) bool: whether the highest of an image's out-of-fold scores (n, classes) is that of its label."""
    return np.unique(labels)[oof.argmax(axis=1)] == labels


def _blend(entries, sources, labels, classes, folds, scoring):
    """The entry of the rows of the best row's view blended; None where one alone is all there is to it."""
    view = entries[0][0].view
    candidates = [parts[0] for row, parts, *_ in entries if row.view == view]
    started = time.perf_counter()
    codes = np.searchsorted(classes, labels)
    shares = [
        oof_probabilities(part.oof, HEADS[part.head].scores, labels, classes) for part in candidates
    ]
    by = (
        None
        if scoring is ACCURACY
        else lambda codes, averages: _score_averages(scoring, codes, averages)
    )
    found = blend_candidates(shares, codes, [val for _, val in folds], scoring=by)
    chosen = np.flatnonzero(found.weights)
    if len(chosen) < 2:
        return None
    chosen = sorted(chosen, key=lambda i: (-found.weights[i], i))
    parts = [replace(candidates[i], weight=float(found.weights[i])) for i in chosen]
    seconds = round(time.perf_counter() - started, 3)
    row, facts = _describe_blend(
        sources, parts, found.probabilities, labels, folds, seconds, scoring
    )
    return row, parts, found.probabilities, facts


def _score_averages(scoring, codes, averages):
    """(candidates,) scores of averaged probabilities (candidates, n, classes)."""
    facts = [scoring.facts(codes, shares.argmax(axis=1), shares) for shares in averages]
    return scoring.values(codes, np.array(facts))


def search_heads(X, labels, cv, heads, scoring=ACCURACY, class_weight=None, seed=None, n_jobs=None):
    """Cross-validate heads on features (n, d) -> (by head its best candidate, (candidates, n) facts of all tried).

    A candidate is {"params", "oof": scores (n, classes), "facts": (n,), "seconds": of the head's whole search}.
    cv, heads, class_weight, n_jobs : as in HeadSearchCV; `seed` is its random_state.
    """
    search = HeadSearchCV(
        heads,
        cv=cv,
        refit=False,
        scoring=no_score,
        class_weight=class_weight,
        n_jobs=n_jobs,
        random_state=seed,
    ).fit(X, labels)
    tried = search.cv_results_["params"]
    names = np.array([params["head"] for params in tried])
    facts = np.array(
        [
            head_facts(scoring, head, oof, labels)
            for head, oof in zip(names, search.oof_scores_, strict=True)
        ]
    )
    scores = scoring.values(np.unique(labels, return_inverse=True)[1], facts)
    seconds = (
        search.cv_results_["mean_fit_time"] + search.cv_results_["mean_score_time"]
    ) * search.n_splits_
    results = {}
    for head in heads:
        mine = np.flatnonzero(names == head)
        if not len(mine):  # every parameter of its grid asks for more images than there are
            continue
        best = mine[best_first(scores[mine])]
        results[head] = {
            "params": {k: v for k, v in tried[best].items() if k != "head"},
            "oof": np.asarray(search.oof_scores_[best]),
            "facts": facts[best],
            "seconds": float(seconds[mine].sum()),
        }
    return results, facts


def describe_row(
    source: Source,
    head: str,
    params: dict,
    oof: np.ndarray,
    labels: np.ndarray,
    folds,
    seconds,
    scoring=ACCURACY,
) -> Row:
    """The leaderboard row of one head on one source, from its out-of-fold scores (n, classes)."""
    taps = source.tap.split("+") if source.tap else []
    members = (
        [_describe_member(source.backbone, tap, head, params, 1.0) for tap in taps]
        if len(taps) > 1
        else None
    )
    classes = np.unique(labels)
    loss = log_loss(
        np.searchsorted(classes, labels),
        None,
        fit_calibration(oof, labels, classes).probabilities(oof),
    )
    facts = head_facts(scoring, head, oof, labels)
    figures = _figures(is_right(oof, labels), facts, labels, folds, scoring)
    return Row(**asdict(source), head=head, params=params, members=members, cv_log_loss=loss, seconds=seconds,
               **figures)  # fmt: skip


def _figures(right, facts, labels, folds, scoring):
    """The figures of a row that do not depend on what it is made of."""
    codes = np.unique(labels, return_inverse=True)[1]
    low, high = wilson_interval(right.sum(), len(right))
    fold_low, fold_high = _fold_interval(right, folds)
    score_low, score_high = score_interval(facts, scoring, codes)
    return {
        "cv_accuracy": float(right.mean()), "cv_low": low, "cv_high": high,
        "cv_fold_low": fold_low, "cv_fold_high": fold_high,
        "cv_score": float(scoring.values(codes, facts[None])[0]),
        "cv_score_low": score_low, "cv_score_high": score_high,
    }  # fmt: skip


def _describe_blend(sources, parts, shares, labels, folds, seconds, scoring):
    """(row of a blend, its facts); what it joins has no tap or parameters of its own."""
    used = {part.source: sources[part.source] for part in parts}
    codes = np.unique(labels, return_inverse=True)[1]
    facts = scoring.facts(codes, shares.argmax(axis=1), shares)
    members = [
        _describe_member(
            used[part.source].backbone, used[part.source].tap, part.head, part.params, part.weight
        )
        for part in parts
    ]
    row = Row(
        backbone="+".join(dict.fromkeys(source.backbone for source in used.values())),
        view=used[parts[0].source].view,
        layer=None,
        pooling=None,
        dim=sum(source.dim for source in used.values()),
        tap=None,
        head=BLEND,
        params={},
        members=members,
        cv_log_loss=log_loss(codes, None, shares),
        seconds=seconds,
        **_figures(is_right(shares, labels), facts, labels, folds, scoring),
    )
    return row, facts


def _describe_member(backbone, tap, head, params, weight):
    return {"tap": tap, "backbone": backbone, "head": head, "params": params, "weight": weight}


def _fold_interval(right, folds):
    by_fold = [right[val].mean() for _, val in folds]
    return nadeau_bengio_interval(
        by_fold, *np.mean([[len(train), len(val)] for train, val in folds], axis=0)
    )


def timer():
    """A stopwatch: each call gives the seconds since the one before."""
    last = time.perf_counter()

    def lap():
        nonlocal last
        now = time.perf_counter()
        passed, last = now - last, now
        return round(passed, 3)

    return lap
