"""What a classifier says of one image, as a row: its label, or why it is refused one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.asked import Asked
from pipelines.classifier import Judged
from pipelines.exploration.reference import UNFAMILIAR
from pipelines.report.files import as_familiarity, as_probability

COLUMNS = (
    "path", "label", "probability", "familiarity", "unlike_training", "rejected", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """Which answers are rejected: their label is empty and the reason is given.

    Attributes
    ----------
    reject : float or None
        Of images like the training ones this share is rejected, and of others more; None rejects
        none, and flags those below 0.05.
    min_probability : float or None
        Of the label, below which it is rejected.
    """

    reject: float | None = None
    min_probability: float | None = None

    @property
    def threshold(self) -> float:
        """The familiarity below which an image is unlike the training images."""
        return UNFAMILIAR if self.reject is None else self.reject

    def reason(self, probability: float, familiarity: float | None) -> str | None:
        """Why an answer is rejected, or None."""
        if self.reject is not None and familiarity is not None and familiarity < self.reject:
            return (
                f"unlike the training images (familiarity {_below(familiarity, self.reject)}, "
                f"below {self.reject:g})"
            )
        if self.min_probability is not None and probability < self.min_probability:
            return (
                f"probability {_below(probability, self.min_probability)}, "
                f"below {self.min_probability:g}"
            )
        return None


def _below(value: float, limit: float) -> str:
    """A number that is below a limit, in three digits, or more where it else looked no smaller."""
    return next(
        (text for n in range(3, 17) if float(text := f"{value:.{n}g}") < limit), repr(float(value))
    )


def answers_of(
    asked: Sequence[Asked], judged: Judged, classes: np.ndarray, rules: Rules
) -> list[dict]:
    """An answer for each image asked about, in their order, `judged.rows` being their places."""
    said = {row: failure(asked[row], error.reason) for row, error in judged.bad.items()}
    for place, row in enumerate(judged.rows):
        familiarity = None if judged.familiarity is None else judged.familiarity[place]
        label, shares = judged.labels[place], judged.probabilities[place]
        by_class = {
            str(name): float(as_probability(share))
            for name, share in zip(classes, shares, strict=True)
        }
        said[row] = _answer(asked[row], str(label), by_class, familiarity, rules)
    return [said[row] for row in range(len(asked))]


def _answer(
    asked: Asked, label: str, by_class: dict, familiarity: float | None, rules: Rules
) -> dict:
    probability = by_class[label]
    reason = rules.reason(probability, familiarity)
    unlike = None if familiarity is None else bool(familiarity < rules.threshold)
    return _row(
        asked,
        label="" if reason else label,
        probability=probability,
        probabilities=by_class,
        familiarity=None if familiarity is None else float(as_familiarity(familiarity)),
        unlike_training=unlike,
        rejected=reason,
    )


def failure(asked: Asked, reason: str) -> dict:
    """The answer for an image that can't be read."""
    return _row(asked, error=reason)


def _row(asked: Asked, **known: object) -> dict:
    """An answer with all of its keys; `given` are a table's further columns."""
    keys = ("label", "probability", "probabilities", "familiarity", "unlike_training", "rejected")
    row = {"path": str(asked.path), **{key: known.get(key) for key in (*keys, "error")}}
    return row | {"given": asked.given} if asked.given else row


def most_probable(answer: dict, k: int) -> list[tuple[str, float]]:
    """The k most probable classes with their probabilities, the first of equals first."""
    shares = answer["probabilities"] or {}
    return sorted(shares.items(), key=lambda pair: -pair[1])[:k]


def header_of(top: int, given: Sequence[str]) -> list[str]:
    """The columns of the CSV form; a table's own that have our names are `given_…`."""
    others = [f"{name}_{place}" for place in range(2, top + 1) for name in COLUMNS[1:3]]
    own = [*COLUMNS, *others]
    return [*own, *(f"given_{name}" if name in own else name for name in given)]


def cells_of(answer: dict, top: int, given: Sequence[str]) -> list:
    """The row of the CSV form under `header_of`."""
    cells = [answer[name] for name in COLUMNS]
    others = [cell for pair in most_probable(answer, top)[1:] for cell in pair]
    cells += others + [None] * (2 * (top - 1) - len(others))
    return cells + [_as_text(answer.get("given", {}).get(name)) for name in given]


def _as_text(value: object) -> object:
    """A value of a table as a cell: what JSON alone has, as JSON."""
    return json.dumps(value) if isinstance(value, (list, dict, bool)) else value


def line_of(answer: dict, top: int) -> str:
    """The text form."""
    if answer["error"]:
        return f"{answer['path']}  error: {answer['error']}"
    parts = [f"{name}  {share:.3f}" for name, share in most_probable(answer, top)]
    if answer["rejected"]:
        return f"{answer['path']}  rejected: {answer['rejected']}; else {'  '.join(parts)}"
    if answer["unlike_training"]:
        parts.append(f"unlike the training images (familiarity {answer['familiarity']:.3g})")
    return "  ".join([answer["path"], *parts])
