"""Heads searched on many arrays of features: which are worth it, and what is best on each."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from joblib import delayed

from heads import HEADS, screen_features
from pipelines.evaluation.race import (
    FirstFold,
    races,
    settings_left,
    stopped_setting,
    try_first_fold,
    try_other_folds,
)
from pipelines.evaluation.search import (
    BestSetting,
    HeadsSearched,
    Search,
    in_parallel,
    judged_probabilities,
    on_backend,
    search_heads,
)
from pipelines.evaluation.workers import compute

SEARCHED = 12
FIRST, SEARCHES = "first fold", "search"  # kinds of results that are remembered


class KnownSearches(Protocol):
    """What earlier runs found on a source, as plain values, by its kind and what decides it."""

    def recall(self, kind: str, source: int, decided: Sequence[Any]) -> Any: ...
    def remember(self, kind: str, source: int, decided: Sequence[Any], found: Any) -> None: ...


@dataclass(frozen=True)
class SourceSearched:
    """What was found on a source.

    best : by head. facts : (settings, n) of all that saw every fold. n_tried : of all settings.
    """

    best: dict[str, BestSetting]
    facts: np.ndarray
    n_tried: int


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
    groups: Sequence[str] | None = None,
) -> list[SourceSearched]:
    """The best setting of every head on every source, in the sources' order.

    features : number of a source -> its (n, d) float32 training rows; called where anything is
        left to search on, of a race twice.
    widths : d of each. on_progress : called with the number of sources done.
    known : what need not be searched; what is found is added to it.
    groups : by source, which of them are compared as one, such as those of a layer; a race lets
        each of them go on with its best.
    """
    heads, n = list(search.heads), len(widths)
    over = _OverSources(features, widths, labels, search, known)
    if not races(search):
        on_each = over.find(SEARCHES, [dict.fromkeys(heads)] * n, on_progress)
        return [_searched(own, heads) for own in on_each]
    # each source is done twice
    firsts = over.find(FIRST, [dict.fromkeys(heads)] * n, _half(on_progress, 0))
    left = settings_left(firsts, list(map(str, range(n))) if groups is None else groups)
    going = [
        {head: own[head].some(chosen) for head, chosen in of_source.items() if chosen}
        for own, of_source in zip(firsts, left, strict=True)
    ]
    on_each = over.find(SEARCHES, going, _half(on_progress, n))
    return [
        _raced(own, first, of_source, labels, search)
        for own, first, of_source in zip(on_each, firsts, left, strict=True)
    ]


def _half(on_progress: Callable[[int], None] | None, before: int) -> Callable[[int], None] | None:
    """Progress of a half of a race, `before` being done in the other."""
    return on_progress and (lambda done: on_progress((before + done) // 2))


@dataclass(frozen=True)
class _OverSources:
    """Searches of one kind on all sources: what is known is recalled, the rest computed."""

    features: Callable[[int], np.ndarray]
    widths: Sequence[int]
    labels: np.ndarray
    search: Search
    known: KnownSearches | None

    def find(
        self,
        kind: str,
        wanted: Sequence[Mapping[str, FirstFold | None]],
        on_progress: Callable[[int], None] | None,
    ) -> list[dict[str, Any]]:
        """By source and head a FirstFold, or (BestSetting or None, facts (settings, n)).

        wanted : by source, the heads, each with what of it went on after the first fold.
        """
        found: list[dict[str, Any]] = [{} for _ in wanted]
        if self.known is not None:
            for i, heads in enumerate(wanted):
                for head, first in heads.items():
                    own = self.known.recall(kind, i, _decided(head, first))
                    if own is not None:
                        found[i][head] = _from_plain(kind, own)
        lacking = [
            {head: first for head, first in heads.items() if head not in own}
            for heads, own in zip(wanted, found, strict=True)
        ]
        # the widest first, so that workers end together
        left = sorted((i for i in range(len(wanted)) if lacking[i]), key=lambda i: -self.widths[i])
        reading = threading.Lock()  # one array at a time is read, of a file

        def arguments(i: int) -> tuple:
            own = self._of(list(lacking[i])).alone()
            with reading:
                X = self.features(i)
            return kind, X, self.labels, own, lacking[i]

        def search_one(i: int) -> dict[str, Any]:
            return compute(self.search.workers, _search_source, lambda: arguments(i))

        # a thread or process a source: more inside of one would only wait for the others
        if self.search.backend is None or not left:
            searches = in_parallel((delayed(search_one)(i) for i in left), self.search.n_jobs)
        else:
            made = [partial(arguments, i) for i in left]
            searches = on_backend(_search_source, made, *self.search.backend())
        n_known = len(wanted) - len(left)
        for done, (i, own) in enumerate(zip(left, searches, strict=True)):
            for head, of_head in own.items():
                found[i][head] = of_head
                if self.known is not None:
                    decided = _decided(head, lacking[i][head])
                    self.known.remember(kind, i, decided, _to_plain(kind, of_head))
            if on_progress:
                on_progress(n_known + done + 1)
        # recalled or computed, in one order
        return [
            {head: own[head] for head in heads if head in own}
            for heads, own in zip(wanted, found, strict=True)
        ]

    def _of(self, heads: list[str]) -> Search:
        given = self.search.heads
        own = {head: given[head] for head in heads} if isinstance(given, Mapping) else heads
        return replace(self.search, heads=own)


def _search_source(
    kind: str,
    X: np.ndarray,
    labels: np.ndarray,
    search: Search,
    firsts: Mapping[str, FirstFold | None],
) -> dict[str, Any]:
    """What is found by head, as of `_OverSources.find`."""
    if kind == FIRST:
        return try_first_fold(X, labels, search)
    left = {head: first for head, first in firsts.items() if first is not None}
    found = try_other_folds(X, labels, search, left) if left else search_heads(X, labels, search)
    for head, best in found.best.items():  # here, as it takes time
        judged = judged_probabilities(best.oof, head, labels, search)
        found.best[head] = replace(best, judged=judged)
    return _by_head(found, list(firsts))


def _by_head(
    found: HeadsSearched, heads: Sequence[str]
) -> dict[str, tuple[BestSetting | None, np.ndarray]]:
    return {head: (found.best.get(head), found.facts[found.names == head]) for head in heads}


def _searched(by_head: Mapping[str, tuple], heads: Sequence[str]) -> SourceSearched:
    best = {head: by_head[head][0] for head in heads if by_head[head][0] is not None}
    facts = np.concatenate([by_head[head][1] for head in heads])
    return SourceSearched(best, facts, len(facts))


def _raced(
    by_head: Mapping[str, tuple],
    firsts: Mapping[str, FirstFold],
    left: Mapping[str, Sequence[int]],
    labels: np.ndarray,
    search: Search,
) -> SourceSearched:
    best = {}
    for head, first in firsts.items():
        if head not in by_head:
            best[head] = stopped_setting(first, labels, search)
        elif by_head[head][0] is not None:
            best[head] = replace(by_head[head][0], n_stopped=len(first.params) - len(left[head]))
    of_all = [facts for _, facts in by_head.values()]
    facts = np.concatenate(of_all) if of_all else np.empty((0, len(labels)), bool)
    return SourceSearched(best, facts, sum(len(first.params) for first in firsts.values()))


# as they are remembered: plain values and arrays


def _decided(head: str, first: FirstFold | None) -> list:
    # a row of the catalogue may be another in another process
    known = [head, repr(HEADS[head])]
    return known if first is None else [*known, first.params]


def _to_plain(kind: str, found: Any) -> dict:
    if kind == FIRST:
        return vars(found)
    best, facts = found
    return {"best": None if best is None else vars(best), "facts": facts}


def _from_plain(kind: str, found: dict) -> Any:
    if kind == FIRST:
        return FirstFold(**found)
    return None if found["best"] is None else BestSetting(**found["best"]), found["facts"]
