"""What a classifier's answers are worth: the metrics of the test images, each with its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from pipelines.evaluation.intervals import DRAWS, draw_within_classes, percentiles, wilson_interval

BINS = 15
# a probability of zero would make the log loss infinite for one image that is certain and wrong
LEAST_PROBABILITY = 1e-15


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics.

    words : as printed.
    value : labels (n,) and predicted (n,) as class numbers, probabilities (n, classes) -> a number.
    interval : "wilson" (of a proportion), "percentile" (of the bootstrap), or "basic": twice the
        value less the percentiles, for a metric that a draw with repeats tends to raise.
    n_classes : the one number of classes it is defined for, or None.
    """

    words: str
    value: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    interval: str = "percentile"
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


def log_loss(labels: np.ndarray, predicted: np.ndarray | None, probabilities: np.ndarray) -> float:
    """Mean of -ln p, p the probability given to the true class, in nats (Good, 1952)."""
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, LEAST_PROBABILITY)).mean())


def brier_score(
    labels: np.ndarray, predicted: np.ndarray | None, probabilities: np.ndarray
) -> float:
    """Mean over images of the squared distance between their probabilities and 0/1 truth.

    Summed over the classes: 0 is perfect, 2 the worst (Brier, 1950). For two classes it is twice
    what scikit-learn gives.
    """
    own = probabilities[np.arange(len(labels)), labels]
    # |p - e_y|^2 = |p|^2 - 2 p_y + 1
    return float(np.mean((probabilities**2).sum(axis=1) - 2 * own + 1))


def calibration_error(
    labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray
) -> float:
    """Expected calibration error: |accuracy - mean confidence| by bins of the top probability.

    BINS bins of equal width, weighted by their images (Naeini et al., 2015; Guo et al., 2017, who
    take 15 too). Confidence is the predicted class's probability. With few images a bin's accuracy
    is noisy and the figure too high.
    """
    confidence = probabilities[np.arange(len(labels)), predicted]
    # bins are open to the left, as in both papers: a confidence of 1/15 is in the first
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, (labels == predicted) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


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


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", accuracy, "wilson"),
    "balanced_accuracy": Metric("balanced accuracy", balanced_accuracy),
    "macro_f1": Metric("macro F1", macro_f1),
    "log_loss": Metric("log loss", log_loss),
    "brier_score": Metric("Brier score", brier_score),
    "calibration_error": Metric("calibration error", calibration_error, "basic"),
    "roc_auc": Metric("AUC", roc_auc, n_classes=2),
}


def measure(
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence | np.ndarray,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Every metric with its interval at 95 % -> {name: {"value", "low", "high"}}.

    Accuracy has Wilson's interval. The others have the percentile interval of a bootstrap of the
    images, drawn within each class so that no class goes missing (Efron & Tibshirani, 1993);
    calibration error, which a draw with repeats tends to raise, has the basic one of theirs: twice
    the value less the percentiles, held around the value. A metric of another number of classes is
    left out.

    labels, predicted : (n,) among `classes`.
    probabilities : (n, classes), columns in the order of `classes`, which is sorted.
    """
    names = np.asarray(classes)
    own = np.searchsorted(names, labels)
    said = np.searchsorted(names, predicted)
    drawn = draw_within_classes(own, draws, seed)
    found = {}
    for name, metric in METRICS.items():
        if metric.n_classes in (None, len(names)):
            value = metric.value(own, said, probabilities)
            low, high = _INTERVALS[metric.interval](
                metric, value, (own, said, probabilities), drawn
            )
            found[name] = {"value": value, "low": low, "high": high}
    return found


Answers = tuple[np.ndarray, np.ndarray, np.ndarray]
Interval = tuple[float, float]


def _wilson(metric: Metric, value: float, answers: Answers, drawn: np.ndarray) -> Interval:
    own, said, _ = answers
    return wilson_interval((own == said).sum(), len(own))


def _percentile(metric: Metric, value: float, answers: Answers, drawn: np.ndarray) -> Interval:
    own, said, probabilities = answers
    return percentiles([metric.value(own[r], said[r], probabilities[r]) for r in drawn])


def _basic(metric: Metric, value: float, answers: Answers, drawn: np.ndarray) -> Interval:
    low, high = _percentile(metric, value, answers, drawn)
    return max(2 * value - high, 0.0), max(2 * value - low, value)


_INTERVALS = {"wilson": _wilson, "percentile": _percentile, "basic": _basic}
