"""What was read, in words, before anything is computed: classes, counts, what was passed over."""

from collections.abc import Sequence

import numpy as np

from data import Samples
from data.folders import NEWER_SUFFIXES, QUIET, UNREAD_SUFFIXES

SHOWN_CLASSES = 8
SHOWN_REASONS = 8
SHOWN_NOTES = 12


def reading_in_words(samples: Samples) -> list[str]:
    """A line for the images and their classes, one for what was passed over, one for each note."""
    lines = [f"{samples.name}: {len(samples)} images{_classes_in_words(samples)}"]
    loud = {reason: count for reason, count in samples.passed_over.items() if reason not in QUIET}
    if loud:
        lines.append(f"passed over: {_counted(loud)}{_advice(loud)}")
    lines += samples.notes[:SHOWN_NOTES]
    if len(samples.notes) > SHOWN_NOTES:
        lines.append(f"… and {len(samples.notes) - SHOWN_NOTES} notes more of this kind")
    return lines


def _classes_in_words(samples: Samples) -> str:
    if samples.labels is None:
        return " without labels"
    names, counts = np.unique(samples.labels, return_counts=True)
    words = f" in {len(names)} classes: {_listed(names.tolist(), counts.tolist())}"
    if len(names) > SHOWN_CLASSES:
        words += f" ({counts.min()} to {counts.max()} images each)"
    if samples.split is not None:
        n_test = int(np.sum(samples.split == "test"))
        words += f"; {len(samples) - n_test} to train, {n_test} to test"
    return words


def _listed(names: Sequence[str], counts: Sequence[int]) -> str:
    shown = [
        f"{name} {count}"
        for name, count in zip(names[:SHOWN_CLASSES], counts[:SHOWN_CLASSES], strict=True)
    ]
    if len(names) > SHOWN_CLASSES:
        shown.append(f"… and {len(names) - SHOWN_CLASSES} more")
    return ", ".join(shown)


def _counted(reasons: dict[str, int]) -> str:
    """The most frequent first."""
    order = sorted(reasons, key=lambda reason: (-reasons[reason], reason))
    words = [f"{reasons[reason]} {reason}" for reason in order[:SHOWN_REASONS]]
    left = sum(reasons[reason] for reason in order[SHOWN_REASONS:])
    return ", ".join(words + ([f"{left} of other kinds"] if left else []))


def _advice(reasons: dict[str, int]) -> str:
    newer = sorted(set(reasons) & set(NEWER_SUFFIXES))
    unread = sorted(set(reasons) & set(UNREAD_SUFFIXES))
    if newer:
        return f"; {', '.join(newer)}: install permafrost[formats] to have them read"
    return f"; {', '.join(unread)} are not read: convert them" if unread else ""
