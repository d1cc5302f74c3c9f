"""What a classifier's answers are worth: the metrics of the test images, each with its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from pipelines.evaluation.intervals import (
    area_interval,
    calibration_interval,
    f1_interval,
    loss_interval,
    recall_interval,
    wilson_interval,
)

BINS = 15
# a probability of zero would make the log loss infinite for one image that is certain and wrong
LEAST_PROBABILITY = 1e-15
Interval = tuple[float, float]


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics.

    words : as printed.
    value : labels (n,) and predicted (n,) as class numbers, probabilities (n, classes) -> a number.
    interval : the same and a seed -> (low, high) at 95 %.
    n_classes : the one number of classes it is defined for, or None.
    """

    words: str
    value: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    interval: Callable[[np.ndarray, np.ndarray, np.ndarray, int], Interval]
    n_classes: int | None = None


def accuracy(
    labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None = None
) -> float:
    """Share of the images that is predicted right."""
    return float(np.mean(labels == predicted))


def balanced_accuracy(
    labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None = None
) -> float:
    """Mean over the classes of their recall: the share of their images that is predicted right."""
    return float(np.mean(list(per_class_recall(labels, predicted).values())))


def per_class_recall(labels: np.ndarray, predicted: np.ndarray) -> dict:
    """{class: share of its images that is predicted right}, for the classes that have images."""
    names, codes = np.unique(labels, return_inverse=True)
    right = np.bincount(codes, np.asarray(labels) == predicted, len(names))
    recalls = right / np.bincount(codes)
    return dict(zip(names.tolist(), recalls.tolist(), strict=True))


def macro_f1(
    labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None = None
) -> float:
    """Mean over the classes, labelled or predicted, of F1 = 2 TP / (2 TP + FP + FN).

    van Rijsbergen, 1979.
    """
    names, codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    own = codes[: len(labels)]
    said = codes[len(labels) :]
    true_positives = np.bincount(own[own == said], minlength=len(names))
    labelled = np.bincount(own, minlength=len(names))
    answered = np.bincount(said, minlength=len(names))
    # labelled + answered = 2 TP + FP + FN
    return float(np.mean(2 * true_positives / (labelled + answered)))


def per_class_recall_intervals(labels: np.ndarray, predicted: np.ndarray) -> dict:
    """{class: {"low", "high", "images"}}: Wilson's interval of each class's recall."""
    names, codes = np.unique(labels, return_inverse=True)
    counts = np.bincount(codes)
    right = np.bincount(codes, np.asarray(labels) == predicted, len(names))
    found = {}
    for name, hits, n in zip(names.tolist(), right.tolist(), counts.tolist(), strict=True):
        low, high = wilson_interval(hits, n)
        found[name] = {"low": low, "high": high, "images": n}
    return found


def log_loss(labels: np.ndarray, predicted: np.ndarray | None, probabilities: np.ndarray) -> float:
    """Mean of -ln p, p the probability given to the true class, in nats (Good, 1952)."""
    return float(log_losses(_own(labels, probabilities)).mean())


def log_losses(own: np.ndarray) -> np.ndarray:
    """-ln p of every image, from the probability of its true class."""
    return -np.log(np.maximum(own, LEAST_PROBABILITY))


def log_losses_if_other(own: np.ndarray) -> np.ndarray:
    """The same had the truth been one of the other classes, all of them taken as one."""
    return log_losses(1 - own)


def _own(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return probabilities[np.arange(len(labels)), labels]


def brier_score(
    labels: np.ndarray, predicted: np.ndarray | None, probabilities: np.ndarray
) -> float:
    """Mean over images of the squared distance between their probabilities and 0/1 truth.

    Summed over the classes: 0 is perfect, 2 the worst (Brier, 1950). For two classes it is twice
    what scikit-learn gives.
    """
    return float(np.mean(_squares(probabilities, _own(labels, probabilities))))


def _squares(probabilities: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(n,) |p - e_y|^2 = |p|^2 - 2 p_y + 1."""
    return (probabilities**2).sum(axis=1) - 2 * own + 1


def calibration_error(
    labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray
) -> float:
    """Expected calibration error: |accuracy - mean confidence| by bins of the top probability.

    BINS bins of equal width, weighted by their images (Naeini et al., 2015; Guo et al., 2017, who
    take 15 too). Confidence is the predicted class's probability. With few images a bin's accuracy
    is noisy and the figure too high.
    """
    confidence = _own(predicted, probabilities)
    gaps = np.bincount(
        confidence_bins(confidence), (labels == predicted) - confidence, minlength=BINS
    )
    return float(np.abs(gaps).sum() / len(labels))


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """(n,) places among BINS bins of equal width."""
    # open to the left, as in both papers: a confidence of 1/15 is in the first
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def roc_auc(labels: np.ndarray, predicted: np.ndarray | None, probabilities: np.ndarray) -> float:
    """Two classes: the chance that an image of the second is given the higher probability of it.

    Ties count half: the area under the ROC curve (Hanley & McNeil, 1982), by the rank sum of Mann &
    Whitney. NaN where a class has no image.
    """
    second = np.asarray(labels) == 1
    n_second = second.sum()
    n_first = (~second).sum()
    if not n_second or not n_first:
        return float("nan")
    ranks = rankdata(probabilities[:, 1])[second].sum()
    return float((ranks - n_second * (n_second + 1) / 2) / (n_second * n_first))


# interval: (labels (n,), predicted (n,), probabilities (n, classes), seed) -> (low, high)


def _of_accuracy(own: np.ndarray, said: np.ndarray, shares: np.ndarray, seed: int) -> Interval:
    return wilson_interval((own == said).sum(), len(own))


def _of_recall(own: np.ndarray, said: np.ndarray, shares: np.ndarray, seed: int) -> Interval:
    return recall_interval(own, said == own)


def _of_f1(own: np.ndarray, said: np.ndarray, shares: np.ndarray, seed: int) -> Interval:
    return f1_interval(own, said)


def _of_log_loss(own: np.ndarray, said: np.ndarray, shares: np.ndarray, seed: int) -> Interval:
    given = _own(own, shares)
    return loss_interval(log_losses(given), log_losses_if_other(given), seed=seed)


def _of_brier(own: np.ndarray, said: np.ndarray, shares: np.ndarray, seed: int) -> Interval:
    others = np.array(shares, float)
    others[np.arange(len(own)), own] = -1
    losses = _squares(shares, _own(own, shares))
    if_other = _squares(shares, np.maximum(others.max(axis=1), 0))
    return loss_interval(losses, if_other, seed=seed)


def _of_calibration(own: np.ndarray, said: np.ndarray, shares: np.ndarray, seed: int) -> Interval:
    confidence = _own(said, shares)
    return calibration_interval(confidence, own == said, confidence_bins(confidence), seed=seed)


def _of_area(own: np.ndarray, said: np.ndarray, shares: np.ndarray, seed: int) -> Interval:
    return area_interval(roc_auc(own, said, shares), int((own == 0).sum()), int((own == 1).sum()))


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", accuracy, _of_accuracy),
    "balanced_accuracy": Metric("balanced accuracy", balanced_accuracy, _of_recall),
    "macro_f1": Metric("macro F1", macro_f1, _of_f1),
    "log_loss": Metric("log loss", log_loss, _of_log_loss),
    "brier_score": Metric("Brier score", brier_score, _of_brier),
    "calibration_error": Metric("calibration error", calibration_error, _of_calibration),
    "roc_auc": Metric("AUC", roc_auc, _of_area, n_classes=2),
}


def class_numbers(labels: np.ndarray, classes: Sequence | np.ndarray) -> np.ndarray:
    """(n,) places of the labels among the classes, which are sorted.

    Raises ValueError for one that is none of them: it would count for the class beside it.
    """
    strange = np.setdiff1d(labels, classes)
    if len(strange):
        raise ValueError(
            f"label {strange[:1].tolist()[0]!r} is no class: expected one of "
            f"{', '.join(map(str, classes))}"
        )
    return np.searchsorted(classes, labels)


def measure(
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence | np.ndarray,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Every metric with its interval at 95 % -> {name: {"value", "low", "high"}}.

    None of the intervals has zero width where every answer is right; their methods are told in
    `pipelines.evaluation.intervals`. A metric of another number of classes is left out.

    labels, predicted : (n,) among `classes`.
    probabilities : (n, classes), columns in the order of `classes`, which is sorted.

    Raises ValueError for a label that is no class.
    """
    names = np.asarray(classes)
    own = class_numbers(labels, names)
    said = class_numbers(predicted, names)
    found = {}
    for name, metric in METRICS.items():
        if metric.n_classes in (None, len(names)):
            value = metric.value(own, said, probabilities)
            low, high = metric.interval(own, said, probabilities, seed)
            found[name] = {"value": value, "low": low, "high": high}
    return found
