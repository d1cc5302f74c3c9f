"""Answers to images of another place, whose features are aligned first, and which to believe.

Arrays alone. No label of the labelled place can tell which correction is right in the other one:
with labels of a few images there they are compared by these, without any by nothing but how far
they agree with one another.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from heads import HeadSearchCV
from heads.alignment import ALIGNMENTS
from pipelines.evaluation.metrics import log_losses
from pipelines.evaluation.ways import compare_pair, parts_of

NONE = "uncorrected"
FEWEST = 10  # labelled images of the other place, below which none of them chooses
AGREEMENT, LABELS = "agreement", "labels"  # what a correction is chosen by

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def correct_shift(
    source: np.ndarray,
    codes: np.ndarray,
    folds: Folds,
    target: np.ndarray,
    class_weight: str | None = None,
) -> dict[str, np.ndarray]:
    """What logistic regression on aligned features says of images of another place.

    Parameters
    ----------
    source : ndarray of shape (n, d)
        Features of the labelled images.
    codes : ndarray of shape (n,), int
        Their class numbers, of every class some.
    folds : sequence of (train, validation) row arrays
        That the regularisation is chosen over, in aligned features.
    target : ndarray of shape (m, d)
        Features of the images of the other place, by all of which the two are aligned.
    class_weight : None or "balanced"
        Of the heads.

    Returns
    -------
    dict of str to ndarray of shape (m, classes)
        Probabilities; the uncorrected first, then a row for each of `heads.alignment.ALIGNMENTS`.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> codes = np.arange(60) % 2
    >>> source = random.normal(size=(60, 4)) + 4 * codes[:, None]
    >>> folds = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    >>> found = correct_shift(source, codes, folds, source + 9)
    >>> {name: round(float((own.argmax(axis=1) == codes).mean()), 1) for name, own in found.items()}
    {'uncorrected': 0.5, 'standardised': 1.0, 'coral': 1.0, 'subspace': 1.0}
    """
    # the small differences of large means below need more digits than features are kept in
    source, target = source.astype(np.float64), target.astype(np.float64)
    found = {NONE: _fit(source, codes, folds, class_weight).predict_proba(target)}
    for name, align in ALIGNMENTS.items():
        aligned = align(source, target)
        head = _fit(aligned.source, codes, folds, class_weight)
        found[name] = head.predict_proba(aligned.target(target))
    return found


def _fit(
    rows: np.ndarray, codes: np.ndarray, folds: Folds, class_weight: str | None
) -> HeadSearchCV:
    return HeadSearchCV(["logistic"], cv=list(folds), class_weight=class_weight).fit(rows, codes)


def judge_corrections(
    answers: Mapping[str, np.ndarray], rows: np.ndarray, codes: np.ndarray
) -> dict:
    """Which answers to take, and the figures for results.json.

    Parameters
    ----------
    answers : mapping of str to ndarray of shape (m, classes)
        Probabilities: first what answers otherwise, then as of `correct_shift`.
    rows : ndarray of shape (n_labels,), int
        Images whose labels are known after all.
    codes : ndarray of shape (n_labels,), int
        Their class numbers.

    Returns
    -------
    dict
        `chosen_by`: labels, of ten images or more, or agreement, for which no figure vouches;
        `taken`, a name; `n_labels`; `nested`, as of `choose_correction`, None by agreement; and
        `rows`, for each of the answers its `name`, its `agreement` and `on_labels` its accuracy,
        with what that is more than the first's, None of no labels.
    """
    agreed = agreements(answers)
    taken, nested, by = max(ALIGNMENTS, key=agreed.__getitem__), None, AGREEMENT
    if len(rows) >= FEWEST:
        candidates = {name: own[rows] for name, own in answers.items() if name != NONE}
        taken, nested = choose_correction(candidates, codes)
        by = LABELS
    first = next(iter(answers.values()))
    described = [
        {
            "name": name,
            "agreement": agreed[name],
            "on_labels": _gain(own[rows], first[rows], codes),
        }
        for name, own in answers.items()
    ]
    return {
        "chosen_by": by,
        "taken": taken,
        "n_labels": len(rows),
        "nested": nested,
        "rows": described,
    }


def agreements(answers: Mapping[str, np.ndarray]) -> dict[str, float]:
    """By name, the share of images on which it says what a correction does, mean of these.

    A correction that fails does so in its own way; where two say the same, both rather hold.

    answers : by name (m, classes) of the same images, all corrections among them. What is none of
    these is compared with them, and nothing with it.

    >>> same, other = np.array([[0.9, 0.1]]), np.array([[0.2, 0.8]])
    >>> agreements({"uncorrected": same, "coral": same, "subspace": same, "standardised": other})
    {'uncorrected': 0.6666666666666666, 'coral': 0.5, 'subspace': 0.5, 'standardised': 0.0}
    """
    said = {name: own.argmax(axis=1) for name, own in answers.items()}
    return {
        name: float(np.mean([np.mean(own == said[other]) for other in ALIGNMENTS if other != name]))
        for name, own in said.items()
    }


def choose_correction(answers: Mapping[str, np.ndarray], codes: np.ndarray) -> tuple[str, dict]:
    """By labelled images of the other place, the answers of the least log loss -> (name, figures).

    Parameters
    ----------
    answers : mapping of str to ndarray of shape (n_labels, classes)
        What would answer otherwise first: it stays unless choosing does better than it on images
        that had no part in the choice.
    codes : ndarray of shape (n_labels,), int
        Class numbers; of two images or more.

    Returns
    -------
    name : str
    figures : dict
        Of choosing: in turn four fifths of the images choose and the fifth is scored, its
        `accuracy`, and what that is more than the first's on the same images, paired.
    """
    names, every = list(answers), np.arange(len(codes))
    losses = np.array([log_losses(own[every, codes]) for own in answers.values()])
    right = np.array([own.argmax(axis=1) == codes for own in answers.values()])
    chosen = np.empty(len(codes), int)
    for part in parts_of(codes):
        chosen[part] = np.delete(losses, part, axis=1).mean(axis=1).argmin()
    nested = _gain_of(right[chosen, every], right[0])
    gains = losses[chosen, every].mean() < losses[0].mean() and nested["difference"] >= 0
    return names[losses.mean(axis=1).argmin()] if gains else names[0], nested


def _gain(own: np.ndarray, first: np.ndarray, codes: np.ndarray) -> dict | None:
    """Of probabilities (n, classes); None of no images."""
    if not len(codes):
        return None
    return _gain_of(own.argmax(axis=1) == codes, first.argmax(axis=1) == codes)


def _gain_of(right: np.ndarray, others: np.ndarray) -> dict:
    """Accuracy, and what it is more than another's, paired by image, with its interval."""
    return {"accuracy": float(right.mean()), **compare_pair(right, others)}
