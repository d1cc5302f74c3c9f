"""Heads searched on features: which taps are worth it, and the best setting of every head."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from heads import HEADS, HeadSearchCV, oof_probabilities, screen_features
from pipelines.evaluation.metrics import log_loss
from pipelines.evaluation.scoring import ACCURACY, Scoring, best_first, head_facts, no_score

SEARCHED = 12


@dataclass(frozen=True)
class Search:
    """How heads are searched, the same for the leaderboard, the baselines and the learning curve.

    heads : names, or a grid by name, as in HeadSearchCV.
    folds : (train, validation) index pairs, each row in one validation part; or their number.
    scoring : of the pooled out-of-fold answers; parameters, rows and the blend are chosen by it.
    class_weight : None or "balanced", for the heads that take weights.
    seed : of the folds where they are a number, and of every bootstrap.
    n_jobs : threads; their number changes no figure.
    """

    heads: Sequence[str] | Mapping[str, Mapping]
    folds: Any
    scoring: Scoring = ACCURACY
    class_weight: str | None = None
    seed: int | None = 0
    n_jobs: int | None = 1


@dataclass(frozen=True)
class BestSetting:
    """A head's best setting on one array of features.

    oof : (n, classes) out-of-fold scores. facts : (n,) what the scoring makes of them.
    seconds : of the head's whole search.
    """

    params: dict
    oof: np.ndarray
    facts: np.ndarray
    seconds: float


class KnownSearches(Protocol):
    """What earlier runs found of a head on a source: its best setting, and (candidates, n) facts.

    The setting is None where every parameter of the head's grid asks for more images.
    """

    def recall(self, source: int, head: str) -> tuple[BestSetting | None, np.ndarray] | None: ...
    def remember(
        self, source: int, head: str, best: BestSetting | None, facts: np.ndarray
    ) -> None: ...


def screen_sources(
    features: Callable[[int], np.ndarray],
    n_sources: int,
    labels: np.ndarray,
    *,
    n_jobs: int | None = 1,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[list[int], dict[int, float]]:
    """Which sources are worth the full search -> (their numbers, {every other's: its score}).

    Up to SEARCHED sources are all searched. Of more, those with the best leave-one-out accuracy of
    ridge regression are; that accuracy saw every label, so it ranks sources and estimates nothing.

    features : number of a source -> its (n, d) training rows.
    """
    if n_sources <= SEARCHED:
        return list(range(n_sources)), {}
    jobs = (delayed(screen_features)(features(i), labels) for i in range(n_sources))
    scores: list[float] = []
    for score in in_parallel(jobs, n_jobs):
        scores.append(score)
        if on_progress:
            on_progress(len(scores))
    best = sorted(range(n_sources), key=lambda i: (-round(scores[i], 9), i))
    return sorted(best[:SEARCHED]), {i: scores[i] for i in best[SEARCHED:]}


def search_sources(
    features: Callable[[int], np.ndarray],
    widths: Sequence[int],
    labels: np.ndarray,
    search: Search,
    on_progress: Callable[[int], None] | None = None,
    known: KnownSearches | None = None,
) -> list[tuple[dict[str, BestSetting], np.ndarray]]:
    """What `search_heads` finds on every source, in the sources' order.

    features : number of a source -> its (n, d) float32 training rows; called once for each that
        anything is left to search on.
    widths : d of each. on_progress : called with the number of sources done.
    known : what need not be searched; what is found is added to it.
    """
    heads = list(search.heads)
    by_head: list[dict[str, Any]] = [{} for _ in widths]
    if known is not None:
        for i, own in enumerate(by_head):
            own |= {head: known.recall(i, head) for head in heads}
    lacking = [[head for head in heads if own.get(head) is None] for own in by_head]
    # the widest first, so that threads end together
    left = sorted((i for i in range(len(widths)) if lacking[i]), key=lambda i: -widths[i])
    # a thread a source: more inside of one would only wait for the others
    jobs = (
        delayed(search_heads)(features(i), labels, _search_of(search, lacking[i])) for i in left
    )
    for done, (i, found) in enumerate(zip(left, in_parallel(jobs, search.n_jobs), strict=True)):
        for head, of_head in _by_head(found, lacking[i]).items():
            by_head[i][head] = of_head
            if known is not None:
                known.remember(i, head, *of_head)
        if on_progress:
            on_progress(len(widths) - len(left) + done + 1)
    return [
        (
            {head: own[head][0] for head in heads if own[head][0] is not None},
            np.concatenate([own[head][1] for head in heads]),
        )
        for own in by_head
    ]


def _search_of(search: Search, heads: Sequence[str]) -> Search:
    """The same of some heads, in the thread that it is called in."""
    given = search.heads
    own = {head: given[head] for head in heads} if isinstance(given, Mapping) else list(heads)
    return replace(search, heads=own, n_jobs=None)


def in_parallel(jobs: Iterable, n_jobs: int | None) -> Iterator:
    """The jobs' results in their order, from threads: processes would outlive a killed run."""
    # set once around all: each thread would put back what another has set
    with threadpool_limits(1):
        # no more jobs are made than run: each holds its features
        yield from Parallel(
            n_jobs=n_jobs, prefer="threads", return_as="generator", pre_dispatch=n_jobs
        )(jobs)


@dataclass(frozen=True)
class HeadsSearched:
    """The best setting of each head, and of all candidates (candidates, n) facts and the head."""

    best: dict[str, BestSetting]
    facts: np.ndarray
    names: np.ndarray


def _by_head(
    found: HeadsSearched, heads: Sequence[str]
) -> dict[str, tuple[BestSetting | None, np.ndarray]]:
    return {head: (found.best.get(head), found.facts[found.names == head]) for head in heads}


def search_heads(X: np.ndarray, labels: np.ndarray, search: Search) -> HeadsSearched:
    """Cross-validate heads on features (n, d).

    A head every parameter of whose grid asks for more images than there are is left out.

    Raises ValueError for an unknown head.
    """
    found = HeadSearchCV(
        search.heads,
        cv=search.folds,
        refit=False,
        scoring=no_score,
        class_weight=search.class_weight,
        n_jobs=search.n_jobs,
        random_state=search.seed,
    ).fit(X, labels)
    tried = found.cv_results_["params"]
    names = np.array([params["head"] for params in tried])
    facts = np.array(
        [
            head_facts(search.scoring, head, oof, labels, search.class_weight)
            for head, oof in zip(names, found.oof_scores_, strict=True)
        ]
    )
    scores = search.scoring.values(np.unique(labels, return_inverse=True)[1], facts)
    by_fold = found.cv_results_["mean_fit_time"] + found.cv_results_["mean_score_time"]
    best_by_head = {}
    for head in search.heads:
        own = np.flatnonzero(names == head)
        if not len(own):
            continue
        best = _best_setting(own, scores, head, found.oof_scores_, labels, search)
        best_by_head[head] = BestSetting(
            {name: value for name, value in tried[best].items() if name != "head"},
            np.asarray(found.oof_scores_[best]),
            facts[best],
            float(by_fold[own].sum() * found.n_splits_),
        )
    return HeadsSearched(best_by_head, facts, names)


def _best_setting(
    own: np.ndarray,
    scores: np.ndarray,
    head: str,
    oof: np.ndarray,
    labels: np.ndarray,
    search: Search,
) -> int:
    """The setting of the best score; of equals the one whose calibrated log loss is the least."""
    best = own[best_first(scores[own])]
    equal = own[np.round(scores[own], 9) == np.round(scores[best], 9)]
    if len(equal) < 2:
        return int(best)
    classes, codes = np.unique(labels, return_inverse=True)
    losses = []
    for i in equal:
        found = oof_probabilities(
            oof[i], HEADS[head].scores, labels, classes, class_weight=search.class_weight
        )
        losses.append(log_loss(codes, None, found))
    return int(equal[np.round(losses, 9).argmin()])
