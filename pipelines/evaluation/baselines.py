"""What the pretrained network has to beat: the majority class, a plain head on plain features."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from heads import HeadSearchCV
from heads.blended import Member
from pipelines.evaluation.leaderboard import Entry, RowSource, make_entry
from pipelines.evaluation.search import Search, search_heads
from pipelines.evaluation.workers import compute

HEAD = "logistic"
UNTRAINED = " untrained"  # ends the name of a network that is compared with itself untrained
# of seven strengths: for pixels, colours and Gabor filters, of digits and of photos, within 0.006
# of the best
GRID = {HEAD: {"logisticregression__C": (1e-3, 1e-2, 1e-1)}}


def measure_baselines(
    majority: RowSource,
    features: Iterable[tuple[RowSource, np.ndarray]],
    labels: np.ndarray,
    search: Search,
) -> list[Entry]:
    """Cross-validate baselines over the leaderboard's folds -> entries, the majority class first.

    majority : what its row says of features that it has none of.
    features : (source, (n, d) training rows), those of one backbone together; of several taps of a
        backbone the best is given.
    """
    found = [_majority_entry(majority, labels, search)]
    for entry in _best_entries(features, labels, replace(search, heads=GRID)):
        if found[-1].row.backbone != entry.row.backbone:
            found.append(entry)
        elif entry.row.cv_score > found[-1].row.cv_score:
            found[-1] = entry
    return found


def _best_entries(
    features: Iterable[tuple[RowSource, np.ndarray]], labels: np.ndarray, search: Search
) -> Iterator[Entry]:
    """In their order, searched in threads while the features of the next are computed here."""
    n_jobs = max(1, search.n_jobs or 1)
    with ThreadPoolExecutor(n_jobs) as pool:
        pending: deque = deque()
        for source, X in features:
            pending.append(pool.submit(_best_entry, source, X, labels, search))
            if len(pending) > n_jobs:  # no more features are held than are searched
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _best_entry(source: RowSource, X: np.ndarray, labels: np.ndarray, search: Search) -> Entry:
    found = compute(search.workers, search_heads, lambda: (X, labels, search.alone()))
    best = found.best[HEAD]
    member = Member(HEAD, best.params, oof=best.oof)
    return make_entry(source, member, labels, search, round(best.seconds, 3))


def _majority_entry(source: RowSource, labels: np.ndarray, search: Search) -> Entry:
    nothing = np.zeros((len(labels), 1), np.float32)
    found = HeadSearchCV(["prior"], cv=search.folds, refit=False).fit(nothing, labels)
    member = Member("prior", {}, oof=found.oof_scores_[0])
    return make_entry(source, member, labels, search, 0.0)
