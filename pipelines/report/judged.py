"""What the answers for a run's test images come to: confusion, recall and precision, confidence."""

from typing import Any

import numpy as np

from pipelines.evaluation.intervals import wilson_interval
from pipelines.report.images import ImageTable

BINS = 10
STEPS = 100  # of thresholds


def confusion_counts(images: ImageTable, classes: list[str]) -> list[list[int]]:
    """Test images by label (rows) and by predicted class (columns)."""
    number = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), int)
    tested = images.part == "test"
    for label, predicted in zip(images.label[tested], images.predicted[tested], strict=True):
        counts[number[label], number[predicted]] += 1
    return counts.tolist()


def precisions(counts: list[list[int]]) -> list[dict[str, Any]]:
    """Of each class the share of the images predicted as it that are it, with Wilson's interval."""
    table = np.array(counts)
    found = []
    for i, predicted in enumerate(table.sum(0).tolist()):
        if not predicted:
            found.append({"images": 0, "value": None, "low": None, "high": None})
            continue
        low, high = wilson_interval(table[i, i], predicted)
        value = float(table[i, i] / predicted)
        found.append({"images": predicted, "value": value, "low": low, "high": high})
    return found


def confidence_curve(images: ImageTable) -> list[dict[str, Any]]:
    """For each threshold what is kept of the test images, and how many of those are right."""
    tested = images.part == "test"
    sure, right = images.probability[tested], ~images.is_wrong[tested]
    curve = []
    for step in range(int(STEPS * sure.min()), STEPS):
        threshold = step / STEPS
        kept = sure >= threshold
        n_kept = int(kept.sum())
        if not n_kept:
            break
        n_right = int(right[kept].sum())
        low, high = wilson_interval(n_right, n_kept)
        curve.append(
            {
                "threshold": threshold,
                "images": n_kept,
                "kept": n_kept / len(sure),
                "accuracy": n_right / n_kept,
                "low": low,
                "high": high,
            }
        )
    return curve


def calibration_bins(images: ImageTable) -> list[dict[str, Any]]:
    """Test images by the probability of the answer: mean probability, and the share right."""
    tested = images.part == "test"
    sure, right = images.probability[tested], ~images.is_wrong[tested]
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins = []
    for place in np.unique(places):
        own = places == place
        n, n_right = int(own.sum()), int(right[own].sum())
        low, high = wilson_interval(n_right, n)
        bins.append(
            {
                "confidence": float(sure[own].mean()),
                "accuracy": n_right / n,
                "low": low,
                "high": high,
                "images": n,
            }
        )
    return bins
