"""A search's candidates on rows read in blocks: what every fold's held-out rows are answered."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from heads.blocks import Blocks
from heads.candidates import Candidate
from heads.catalog import find_head
from heads.closed_forms import fit_lda
from heads.fold_scores import Scored
from heads.indexed_neighbours import check_faiss
from heads.linear import PROBLEMS, Fitted, Grid
from heads.refit import REFITS, set_scaler, weights_of
from heads.streamed_closed_forms import fit_ridge, score_centroid
from heads.streamed_folds import StreamedFold, share_moments
from heads.streamed_linear import Part, fit_streamed, score_streamed
from heads.streamed_neighbours import score_knn
from heads.validation import FoldAnswers, Task, Validated

# (blocks, all rows, folds with the class numbers of all rows, grid) -> by fold every candidate's
Answer = Callable[[Blocks, StreamedFold, Sequence[Part], Grid], list[list[Scored]]]


def _answer_iterative(name: str) -> Answer:
    def answer(
        blocks: Blocks, whole: StreamedFold, parts: Sequence[Part], grid: Grid
    ) -> list[list[Scored]]:
        fitted = fit_streamed(name, blocks, whole, parts, grid)
        return score_streamed(blocks, [part.fold for part in parts], fitted)

    return answer


def _answer_closed(fit: Callable[..., Fitted]) -> Answer:
    def answer(
        blocks: Blocks, whole: StreamedFold, parts: Sequence[Part], grid: Grid
    ) -> list[list[Scored]]:
        fitted = [fit(part.fold, part.trained_codes, grid, part.class_weights) for part in parts]
        return score_streamed(blocks, [part.fold for part in parts], fitted)

    return answer


def _answer_centroid(
    blocks: Blocks, whole: StreamedFold, parts: Sequence[Part], grid: Grid
) -> list[list[Scored]]:
    means = [part.fold.class_means(part.trained_codes)[0] for part in parts]
    found = score_centroid(blocks, [part.fold for part in parts], means)
    return [[own] * len(grid) for own in found]


def _answer_knn(
    blocks: Blocks, whole: StreamedFold, parts: Sequence[Part], grid: Grid
) -> list[list[Scored]]:
    return [score_knn(blocks, part.fold, part.codes, grid) for part in parts]


def _answer_prior(
    blocks: Blocks, whole: StreamedFold, parts: Sequence[Part], grid: Grid
) -> list[list[Scored]]:
    found = []
    for part in parts:
        proportions = np.bincount(part.trained_codes) / part.fold.n
        scores = np.tile(proportions, (part.fold.m, 1))
        found.append([Scored(scores, scores.argmax(axis=1))] * len(grid))
    return found


ANSWERS: dict[str, Answer] = {
    **{name: _answer_iterative(name) for name in PROBLEMS},
    "knn": _answer_knn,
    "ridge": _answer_closed(fit_ridge),
    "lda": _answer_closed(fit_lda),
    "centroid": _answer_centroid,
    "prior": _answer_prior,
}


def refuse_unstreamed(candidates: Sequence[Candidate]) -> None:
    """Refuse what needs all rows in memory.

    Raises
    ------
    ValueError
        A head, or a setting of one, that is not fitted by passes; or an index is asked for, and
        there is no library for it.
    """
    for candidate in candidates:
        if candidate.head not in ANSWERS:
            raise ValueError(
                f"head {candidate.head!r} needs all rows in memory and X is read in blocks; "
                f"leave it out ({', '.join(ANSWERS)} are fitted so), or give an array"
            )
        if candidate.values is None:
            raise ValueError(
                f"head {candidate.head!r} with {candidate.params} is scikit-learn's alone, which "
                "needs all rows in memory, and X is read in blocks; leave that setting out"
            )
    if any(map(is_indexed, candidates)):
        check_faiss()


def is_indexed(candidate: Candidate) -> bool:
    """Whether it is searched by an index."""
    return candidate.values is not None and candidate.values.get("algorithm") == "faiss"


def answer_in_blocks(task: Task) -> list[list[Validated]]:
    """Every candidate of a task on every fold, by passes over the rows: [fold][candidate]."""
    folds: list[Any] = task.folds
    whole: Any = task.whole
    blocks = whole.blocks
    share_moments(blocks, [whole, *folds])
    found: list[list[Validated]] = [[] for _ in folds]
    for name in task.heads:
        started = time.perf_counter()
        head = find_head(name)
        weight = task.class_weight if head.weighted else None
        parts = [_part(task, fold, weight) for fold in folds]
        answers = ANSWERS[name](blocks, whole, parts, task.known_values(name))
        seconds = (time.perf_counter() - started) / sum(map(len, answers))
        for own, part, of_fold, (_, val) in zip(found, parts, answers, task.splits, strict=True):
            classes = np.unique(task.y[part.fold.rows[: part.fold.n]])
            for answer in of_fold:
                estimator = FoldAnswers(classes, head.scores, *answer)
                own.append(_validated(task, estimator, val, seconds))
    return found


def _part(task: Task, fold: StreamedFold, class_weight: Any) -> Part:
    train = fold.rows[: fold.n]
    classes = np.unique(task.y[train])
    # rows of a class that the training rows lack are no training rows: their number is not read
    codes = np.minimum(np.searchsorted(classes, task.y), len(classes) - 1)
    return Part(fold, codes, weights_of(class_weight, task.y[train]))


def _validated(task: Task, estimator: FoldAnswers, val: np.ndarray, fit_time: float) -> Validated:
    started = time.perf_counter()
    # what the shared work answered is at hand: no features are needed for it
    score = task.scorer(estimator, np.empty((len(val), 0)), task.y[val])
    return Validated(
        score,
        fit_time,
        time.perf_counter() - started,
        estimator.scores,
        estimator.classes_,
        estimator.certificate,
    )


def refit_in_blocks(best: Candidate, y: np.ndarray, whole: StreamedFold) -> Any:
    """The best candidate fitted on all rows, an ordinary pipeline.

    `knn` keeps its training rows, whoever fits it: they have to fit into memory, as float32. It
    answers exactly, by whatever it was searched.
    """
    pipeline = best.pipeline()
    scaler, classifier = pipeline[0], pipeline[-1]
    set_scaler(scaler, whole)
    classes, codes = np.unique(y, return_inverse=True)
    weights = weights_of(getattr(classifier, "class_weight", None), y)
    if best.head in REFITS:
        classifier.classes_ = classes
        classifier.n_features_in_ = whole.d
        REFITS[best.head].fit(classifier, whole, codes, best.values, weights)
    else:
        _REFITS[best.head](classifier, whole, y, best.values, weights)
    return pipeline


def _refit_knn(
    classifier: Any, whole: StreamedFold, y: np.ndarray, values: Any, weights: Any
) -> None:
    kept = np.empty((whole.n, whole.d), np.float32)

    def work(place: slice, rows: np.ndarray) -> None:
        kept[place] = whole.standardise(rows)

    whole.blocks.run(work)
    if classifier.algorithm == "faiss":
        classifier.algorithm = "auto"
    classifier.fit(kept, y)


def _refit_ridge(
    classifier: Any, whole: StreamedFold, y: np.ndarray, values: Any, weights: np.ndarray | None
) -> None:
    classes, codes = np.unique(y, return_inverse=True)
    found = fit_ridge(whole, codes, [values], weights)
    # scikit-learn's own fit of a row a class leaves what it keeps of the labels
    classifier.fit(np.eye(len(classes), whole.d), classes)
    classifier.coef_ = found.coef[0]
    classifier.intercept_ = found.intercept[0]


def _refit_centroid(
    classifier: Any, whole: StreamedFold, y: np.ndarray, values: Any, weights: Any
) -> None:
    classes, codes = np.unique(y, return_inverse=True)
    means, proportions = whole.class_means(codes)
    classifier.classes_ = classes
    classifier.n_features_in_ = whole.d
    classifier.centroids_ = means
    uniform = np.full(len(classes), 1 / len(classes))
    classifier.class_prior_ = uniform if classifier.priors == "uniform" else proportions
    # the standardised columns' squares sum to n, where they vary, and lie in and between classes
    within = whole.n * (whole.varying - proportions @ means**2)
    spread = np.sqrt(np.maximum(within, 0) / (whole.n - len(classes)))
    classifier.within_class_std_dev_ = spread
    apart = np.sqrt(1 / (proportions * whole.n) - 1 / whole.n)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        classifier.deviations_ = means / (apart * (spread + np.median(spread)))


def _refit_prior(
    classifier: Any, whole: StreamedFold, y: np.ndarray, values: Any, weights: Any
) -> None:
    classifier.fit(np.broadcast_to(0.0, (whole.n, whole.d)), y)


# of the heads that `REFITS` leaves to scikit-learn
_REFITS: dict[str, Callable[..., None]] = {
    "knn": _refit_knn,
    "ridge": _refit_ridge,
    "centroid": _refit_centroid,
    "prior": _refit_prior,
}
