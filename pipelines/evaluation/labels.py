"""Labels that look wrong, by out-of-fold probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.evaluation.metrics import class_numbers

# how many times as probable as the label another class has to be
ODDS = 5.0
# Cohen's kappa of answers and labels below which wrong answers can't be told from wrong labels
LEAST_KAPPA = 0.5


@dataclass(frozen=True)
class SuspectLabels:
    """Labels ranked by how little the out-of-fold probabilities believe in them.

    Attributes
    ----------
    order : ndarray of shape (n,), int
        Rows, the most suspect first.
    quality : ndarray of shape (n,), float
        Margin of the label's probability over the best other class, from -1 to 1.
    proposed : ndarray of shape (n,)
        That other class.
    suspected : ndarray of shape (n,), bool
        Which rows are confidently of another class; none where `too_weak`.
    agreement, by_chance : float
        Share of the labels that are the most probable class, and what it would be by chance.
    """

    order: np.ndarray
    quality: np.ndarray
    proposed: np.ndarray
    suspected: np.ndarray
    agreement: float
    by_chance: float

    @property
    def too_weak(self) -> bool:
        """Whether answers and labels agree too rarely for either to speak against the other."""
        return self.agreement - self.by_chance < LEAST_KAPPA * (1 - self.by_chance)


def rank_labels(
    probabilities: np.ndarray, labels: np.ndarray | Sequence, classes: Sequence
) -> SuspectLabels:
    """Rank labels by how little out-of-fold probabilities believe in them.

    The ranking is by the normalised margin, the flag by confident learning: an image counts as
    suspected where another class is at least as probable as it is on average on that class's own
    images [1]_. Of heads that are often wrong this average is low, so that class also has to be
    more probable than all the others together, and ODDS times as probable as the label; and nothing
    is suspected where answers and labels agree hardly better than by chance (Cohen's kappa [2]_
    below LEAST_KAPPA). Average the probabilities of several heads where there are: what one head
    alone misjudges then ranks lower.

    Parameters
    ----------
    probabilities : ndarray of shape (n, n_classes)
        Of heads that did not see the row; columns in the order of `classes`.
    labels : array of shape (n,)
        The labels as given.
    classes : sequence of n_classes
        Sorted; every label is one of them.

    Returns
    -------
    SuspectLabels

    Raises
    ------
    ValueError
        Where the probabilities have another shape than labels x classes, or a label is none of the
        classes.

    References
    ----------
    .. [1] Northcutt, Jiang & Chuang (2021), "Confident learning: estimating uncertainty in dataset
       labels", Journal of Artificial Intelligence Research 70.
    .. [2] Cohen (1960), "A coefficient of agreement for nominal scales", Educational and
       Psychological Measurement 20.

    Examples
    --------
    >>> import numpy as np
    >>> believed = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.95, 0.05]])
    >>> ranked = rank_labels(believed, ["cat", "cat", "dog", "dog"], ["cat", "dog"])
    >>> int(ranked.order[0]), str(ranked.proposed[3]), bool(ranked.suspected[3])
    (3, 'cat', True)
    """
    probabilities = np.asarray(probabilities, float)
    names = np.asarray(classes)
    if probabilities.shape != (len(labels), len(names)):
        raise ValueError(
            f"probabilities {probabilities.shape}: "
            f"expected {len(labels)} labels x {len(names)} classes"
        )
    rows = np.arange(len(labels))
    codes = class_numbers(np.asarray(labels), names)
    own = probabilities[rows, codes]
    others = probabilities.copy()
    others[rows, codes] = -np.inf  # the label is never the best of the others
    best = others.argmax(axis=1)
    rival = others[rows, best]
    confident = (rival >= _mean_confidence(own, codes, len(names))[best]) & (rival > 0.5)
    answers = probabilities.argmax(axis=1)
    said, given = (np.bincount(each, minlength=len(names)) for each in (answers, codes))
    found = SuspectLabels(
        np.argsort(own - rival, kind="stable"),
        own - rival,
        names[best],
        confident & (rival >= ODDS * own),
        float(np.mean(answers == codes)) if len(codes) else 0.0,
        float(said @ given / max(len(codes), 1) ** 2),
    )
    return replace(found, suspected=found.suspected & (not found.too_weak))


def _mean_confidence(own: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """(n_classes,) mean probability of a class on its own images; infinite where it has none."""
    counts = np.bincount(codes, minlength=n_classes)
    sums = np.bincount(codes, own, n_classes)
    return np.where(counts, sums / np.maximum(counts, 1), np.inf)
