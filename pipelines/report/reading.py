"""What was read, in words, before anything is computed: classes, counts, what was passed over."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data import Samples
from data.corrections import DROP
from data.folders import EMPTY_CLASS, counted_reasons
from data.listing import BY_PROGRAMS, HIDDEN, NEWER_SUFFIXES, UNREAD_SUFFIXES
from data.names import counted
from data.samples import NOT_USED

SHOWN_CLASSES = 8
SHOWN_REASONS = 8
SHOWN_NOTES = 12
# counted, and not worth a word on the screen; the empty class folders are named by a note
QUIET = (HIDDEN, BY_PROGRAMS, EMPTY_CLASS)


def reading_in_words(samples: Samples) -> list[str]:
    """A line for the images and their classes, one for what is not used, one for each note."""
    lines = [f"{samples.name}: {counted(len(samples), 'image')}{_classes_in_words(samples)}"]
    unused = unused_in_words(samples.passed_over, samples.notes)
    if unused:
        lines.append(unused)
    notes = [note for note in samples.notes if not note.startswith(NOT_USED)]
    lines += notes[:SHOWN_NOTES]
    if len(notes) > SHOWN_NOTES:
        lines.append(f"… and {counted(len(notes) - SHOWN_NOTES, 'note')} more of this kind")
    return lines


def unused_in_words(passed_over: Mapping[str, int], notes: Sequence[str] = ()) -> str:
    """One line for what a source holds that is no part of its samples; empty for nothing.

    passed_over, notes : of `Samples`.
    """
    loud = {reason: count for reason, count in passed_over.items() if reason not in QUIET}
    reasons = counted_reasons(loud)
    parts = [", ".join(reasons[:SHOWN_REASONS])] if reasons else []
    if len(reasons) > SHOWN_REASONS:
        shown = sorted(loud.values(), reverse=True)[:SHOWN_REASONS]
        parts[0] += f", {sum(loud.values()) - sum(shown)} of other kinds"
    parts += [note.removeprefix(NOT_USED) for note in notes if note.startswith(NOT_USED)]
    parts += _advice(loud)
    return NOT_USED + "; ".join(parts) if parts else ""


def left_out_in_words(n_bad: int, n_duplicates: int, n_images: int, where: str) -> str:
    """One line for files that were looked into and are not used; empty for none.

    where : what lists the bad ones.
    """
    parts = []
    if n_bad:
        parts.append(f"{n_bad} of {counted(n_images, 'image')} can't be used: see {where}")
    if n_duplicates:
        parts.append(f"{counted(n_duplicates, 'exact duplicate')} of other images")
    return NOT_USED + "; ".join(parts) if parts else ""


def _classes_in_words(samples: Samples) -> str:
    if samples.labels is None:
        return " without labels"
    names, counts = np.unique(samples.labels, return_counts=True)
    words = f" in {counted(len(names), 'class')}: {_listed(names.tolist(), counts.tolist())}"
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


def _advice(reasons: Mapping[str, int]) -> list[str]:
    newer = sorted(set(reasons) & set(NEWER_SUFFIXES))
    unread = sorted(set(reasons) & set(UNREAD_SUFFIXES))
    advice = []
    if newer:
        advice.append(f"install permafrost[formats] to have {', '.join(newer)} read")
    if unread:
        advice.append(f"{', '.join(unread)} can't be read: convert them")
    return advice


def unlabelled_in_words(own: Any) -> list[str]:
    """What was read of images without labels (an `outcome.Unlabelled`), before anything else."""
    lines = [f"{own.given}: {counted(len(own.samples), 'image')} taken as without labels"]
    if own.labels:
        n_labels = sum(label != DROP for label in own.labels.values())
        lines.append(f"{counted(n_labels, 'label')} of them given, to choose a correction by")
    elif own.has_labels:
        lines.append(f"labels in {own.given} are not looked at: --test takes labelled images")
    parts = []
    if own.n_copies:
        parts.append(counted(own.n_copies, "is a labelled image", "are labelled images") + " too")
    if own.n_repeated:
        parts.append(counted(own.n_repeated, "copy", "copies") + " of others in it")
    return [*lines, f"not used of {own.given}: {', '.join(parts)}"] if parts else lines
