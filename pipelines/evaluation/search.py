"""Heads searched on one array of features: the best setting of each."""

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from heads import HEADS, HeadSearchCV, oof_probabilities
from pipelines.evaluation.metrics import log_loss
from pipelines.evaluation.random_views import folds_of, labels_of
from pipelines.evaluation.scoring import ACCURACY, Scoring, best_first, head_facts, no_score
from pipelines.evaluation.workers import Workers, answer, told

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """How heads are searched, the same for the leaderboard, the baselines and the learning curve.

    heads : names, or a grid by name, as in HeadSearchCV.
    folds : (train, validation) index pairs, each row in one validation part; or their number.
    scoring : of the pooled out-of-fold answers; parameters, rows and the blend are chosen by it.
    class_weight : None or "balanced", for the heads that take weights.
    seed : of the folds where they are a number, and of every bootstrap.
    raced : whether settings that are beaten beyond chance after the first fold are stopped, where
        many sources are searched; else every setting sees every fold.
    n_jobs : threads; their number changes no figure.
    workers : processes that compute in place of the threads, where there are any.
    backend : names a backend of joblib that searches sources in place of both, and how many of its
        workers, once there is something to search; their number and place change no figure either.
    """

    heads: Sequence[str] | Mapping[str, Any]
    folds: Any
    scoring: Scoring = ACCURACY
    class_weight: str | None = None
    seed: int | None = 0
    raced: bool = False
    n_jobs: int | None = 1
    workers: Workers | None = None
    backend: Callable[[], tuple[str, int]] | None = None

    def alone(self) -> "Search":
        """The same in the thread that it is called in."""
        return replace(self, n_jobs=None, workers=None, backend=None)


@dataclass(frozen=True)
class BestSetting:
    """A head's best setting on one array of features.

    oof : (n, classes) out-of-fold scores, NaN where it was stopped before.
    judged : (n, classes) their calibrated probabilities, where they are known.
    facts : (n,) what the scoring makes of them.
    seconds : of the head's whole search.
    n_stopped : how many settings of the head were stopped after the first fold.
    is_stopped : whether all were, this one too.
    """

    params: dict
    oof: np.ndarray
    facts: np.ndarray
    seconds: float
    n_stopped: int = 0
    is_stopped: bool = False
    judged: np.ndarray | None = None


def in_parallel(jobs: Iterable, n_jobs: int | None) -> Iterator:
    """The jobs' results in their order, from threads; each may wait for a worker of its own."""
    # set once around all: each thread would put back what another has set
    with threadpool_limits(1):
        # no more jobs are made than run: each holds its features
        yield from Parallel(
            n_jobs=n_jobs, prefer="threads", return_as="generator", pre_dispatch=n_jobs
        )(jobs)


def on_backend(
    function: Callable, arguments: Sequence[Callable[[], tuple]], name: str, n: int
) -> Iterator:
    """What a function returns of each of some arguments, in order, from n workers of a backend.

    Each is computed by one thread, as here, and to the same bits; where the backend fails, as by a
    worker that is killed, all are computed here.

    arguments : make those of a call, once they are needed.
    """
    failed: list[Exception] = []

    def made(make: Callable[[], tuple]) -> tuple:
        try:
            return make()
        except Exception as error:  # of reading features, say: no fault of the backend
            failed.append(error)
            raise

    found: Iterable[bytes]
    try:
        with parallel_config(name):
            # each holds its features: no more are made than run
            # all at once: Ray's backend gives no results on the way
            found = Parallel(n, pre_dispatch=n, batch_size=1)(
                delayed(_answer_alone)(function, made(make)) for make in arguments
            )
    except Exception as error:  # each backend has errors of its own; a function's is an answer
        if failed:
            raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("the cluster failed (%s): heads are searched here", said)
        found = (_answer_alone(function, make()) for make in arguments)
    for answered in found:
        yield told(pickle.loads(answered))


def _answer_alone(function: Callable, arguments: tuple) -> bytes:
    with threadpool_limits(1):
        return answer(function, arguments)


@dataclass(frozen=True)
class Tried:
    """Settings cross-validated: `params` of each with its head, and the seconds it took.

    scores : (settings, n, classes) out of fold, NaN for rows in no validation part.
    """

    params: list[dict]
    scores: np.ndarray
    seconds: np.ndarray

    @property
    def heads(self) -> np.ndarray:
        """(settings,) the head of each."""
        return np.array([own["head"] for own in self.params])


@dataclass(frozen=True)
class HeadsSearched:
    """The best setting of each head; and of all settings (settings, n) facts and the head."""

    best: dict[str, BestSetting]
    facts: np.ndarray
    names: np.ndarray


def search_heads(X: np.ndarray, labels: np.ndarray, search: Search) -> HeadsSearched:
    """Cross-validate heads on features as of `try_settings`, every setting over all folds.

    A head every parameter of whose grid asks for more images than there are is left out.

    Raises ValueError for an unknown head.
    """
    return judge_settings(try_settings(X, labels, search), labels, search)


def try_settings(X: np.ndarray, labels: np.ndarray, search: Search) -> Tried:
    """Every setting of the heads over the folds.

    X : (n, d), or with random views of the n images below, on which heads are trained too.
    """
    n = len(labels)
    found = HeadSearchCV(
        search.heads,
        cv=folds_of(X, n, search.folds),
        refit=False,
        scoring=no_score,
        class_weight=search.class_weight,
        n_jobs=search.n_jobs,
        random_state=search.seed,
    ).fit(X, labels_of(X, labels))
    by_fold = found.cv_results_["mean_fit_time"] + found.cv_results_["mean_score_time"]
    return Tried(found.cv_results_["params"], found.oof_scores_[:, :n], by_fold * found.n_splits_)


def judge_settings(tried: Tried, labels: np.ndarray, search: Search) -> HeadsSearched:
    """The best setting of each head, by the scoring of its out-of-fold answers."""
    names = tried.heads
    facts = np.array(
        [
            head_facts(search.scoring, head, oof, labels, search.class_weight)
            for head, oof in zip(names, tried.scores, strict=True)
        ]
    )
    scores = search.scoring.values(np.unique(labels, return_inverse=True)[1], facts)
    best_by_head = {}
    for head in search.heads:
        own = np.flatnonzero(names == head)
        if not len(own):
            continue
        best = _best_setting(own, scores, head, tried.scores, labels, search)
        best_by_head[head] = BestSetting(
            plain_params(tried.params[best]),
            np.asarray(tried.scores[best]),
            facts[best],
            float(tried.seconds[own].sum()),
        )
    return HeadsSearched(best_by_head, facts, names)


def judged_probabilities(
    oof: np.ndarray, head: str, labels: np.ndarray, search: Search
) -> np.ndarray:
    """(n, classes) of out-of-fold scores, each fold by the calibration of the others."""
    validation = [val for _, val in search.folds]
    classes = np.unique(labels)
    return oof_probabilities(
        oof, HEADS[head].scores, labels, classes, validation, search.class_weight
    )


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a setting says but for its head."""
    return {name: value for name, value in params.items() if name != "head"}


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
