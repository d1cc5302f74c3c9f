"""What a classifier's answers are worth in detail: by class, and by how sure they are."""

from collections.abc import Sequence

import numpy as np

from pipelines.evaluation.intervals import wilson_interval
from pipelines.evaluation.metrics import BINS, class_numbers, confidence_bins

STEPS = 100  # of thresholds of the probability


def describe_answers(
    labels: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, classes: Sequence[str]
) -> dict:
    """A part of the `answers` of results.json.

    labels, predicted : (n,) among the sorted `classes`.
    confidence : (n,) probability of the predicted class.
    """
    names = np.asarray(classes)
    own = class_numbers(labels, names)
    said = class_numbers(predicted, names)
    right = own == said
    return {
        "confusion": _cells(own, said, names),
        "recall": _shares_right(own, right, names),
        "precision": _shares_right(said, right, names),
        "by_confidence": _accepted(right, confidence),
        "reliability": _bins(right, confidence),
    }


def _cells(own: np.ndarray, said: np.ndarray, names: np.ndarray) -> list[dict]:
    """Those cells of the confusion matrix that hold images: of many classes most hold none."""
    pairs, counts = np.unique(np.stack([own, said], axis=1), axis=0, return_counts=True)
    return [
        {"label": str(names[label]), "predicted": str(names[answer]), "images": count}
        for (label, answer), count in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]


def _shares_right(codes: np.ndarray, right: np.ndarray, names: np.ndarray) -> list[dict]:
    """By class the share of its images that are right; null for a class without any."""
    sizes = np.bincount(codes, minlength=len(names))
    hits = np.bincount(codes, right, len(names))
    return [
        {"class": str(name), "images": size, **_share("value", hit, size)}
        for name, hit, size in zip(names, hits.tolist(), sizes.tolist(), strict=True)
    ]


def _accepted(right: np.ndarray, confidence: np.ndarray) -> list[dict]:
    """What is left by each threshold, from one that accepts all answers to the last with any."""
    found = []
    for step in range(min(int(STEPS * confidence.min()), STEPS - 1), STEPS):
        threshold = step / STEPS
        kept = confidence >= threshold
        n = int(kept.sum())
        if not n:
            break
        share = {"threshold": threshold, "images": n, "kept": n / len(right)}
        found.append(share | _share("accuracy", int(right[kept].sum()), n))
    return found


def _bins(right: np.ndarray, confidence: np.ndarray) -> list[dict]:
    """The bins of the calibration error that hold images."""
    codes = confidence_bins(confidence)
    found = []
    for code in np.unique(codes).tolist():
        own = codes == code
        of_bin = {
            "above": round(code / BINS, 6),
            "up_to": round((code + 1) / BINS, 6),
            "images": int(own.sum()),
            "confidence": float(confidence[own].mean()),
        }
        found.append(of_bin | _share("accuracy", int(right[own].sum()), int(own.sum())))
    return found


def _share(name: str, hits: float, n: int) -> dict:
    """A share of right answers under this name, with its interval."""
    if not n:
        return {name: None, "low": None, "high": None}
    low, high = wilson_interval(hits, n)
    return {name: hits / n, "low": low, "high": high}
