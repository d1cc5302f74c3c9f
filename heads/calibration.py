"""Probabilities from scores: a small calibration fitted on out-of-fold scores and kept as plain numbers."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax


@dataclass(frozen=True)
class Calibration:
    """`softmax(scale * scores + bias)`, rows of probabilities over `classes`.

    With two classes this is Platt's sigmoid of the difference of the two scores.

    Attributes
    ----------
    scale : float
        Positive; common to all classes, so the class order of a row changes by the bias alone.
    bias : tuple of float
        One per class, summing to zero.
    classes : tuple
        Plain Python values, in the order of the columns.
    """

    scale: float
    bias: tuple
    classes: tuple

    def probabilities(self, scores):
        """Calibrated probabilities.

        Parameters
        ----------
        scores : array of shape (n, classes), or (n,) margins of the second of two classes

        Returns
        -------
        array of shape (n, classes), float64, each row summing to 1
        """
        scores = as_columns(scores)
        if scores.shape[1] != len(self.classes):
            raise ValueError(
                f"scores have {scores.shape[1]} columns, the calibration has {len(self.classes)} classes; "
                "give one column per class"
            )
        return softmax(self.scale * scores + np.asarray(self.bias), axis=1)

    def to_dict(self):
        """Plain numbers and lists, fit for JSON."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, kept):
        """The calibration back from `to_dict`."""
        return cls(float(kept["scale"]), tuple(map(float, kept["bias"])), tuple(kept["classes"]))


def as_columns(scores):
    """Scores as (n, classes) float64.

    Margins s of two classes, (n,) or (n, 1), become the columns (-s/2, s/2): their difference is s, and their
    softmax is the sigmoid of s.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim == 2 and scores.shape[1] > 1:
        return scores
    return np.column_stack([-scores.ravel() / 2, scores.ravel() / 2])


def fit_calibration(scores, y, classes):
    """Fit scale and bias by maximum likelihood on out-of-fold scores.

    Two classes: the sigmoid of Platt (1999), "Probabilistic outputs for support vector machines". Several:
    softmax with one temperature, as in Guo et al. (2017), "On calibration of modern neural networks", and a
    bias.
    Targets are smoothed as Platt's: a row of class c has (n_c + 1) / (n_c + 2) at c, the rest spread over the
    other classes in proportion to their sizes. Perfectly separated scores therefore have a finite optimum.

    Parameters
    ----------
    scores : array of shape (n, classes), or (n,) margins of two classes
        Rows with a NaN (never in a validation fold) are passed over.
    y : array of shape (n,)
        Labels, each among `classes`.
    classes : sequence of length classes
        Labels in the order of the columns.

    Returns
    -------
    Calibration
    """
    scores, y, classes = as_columns(scores), np.asarray(y), np.asarray(classes)
    _check(scores, y, classes)
    kept = np.isfinite(scores).all(axis=1)
    scores, codes = scores[kept], np.searchsorted(classes, y[kept])
    # scores of any unit: work at unit spread, undo it in the end
    spread = max(float(np.std(scores - scores.mean(axis=1, keepdims=True))), np.finfo(float).tiny)
    targets = _smoothed_targets(codes, len(classes))
    start = np.r_[0.0, np.zeros(len(classes))]
    found = minimize(
        _loss_and_gradient,
        start,
        (scores / spread, targets),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": 1e-9},
    )
    bias = found.x[1:] - found.x[1:].mean()
    return Calibration(
        float(np.exp(found.x[0]) / spread), tuple(bias.tolist()), tuple(classes.tolist())
    )


def oof_probabilities(scores, kind, y, classes):
    """Probabilities (n, classes) of a candidate's out-of-fold scores, for blending.

    Parameters
    ----------
    scores : array of shape (n, classes)
        One entry of `HeadSearchCV.oof_scores_`; rows of NaN stay NaN.
    kind : str
        `HEADS[head].scores`. Margins are calibrated on these very rows: a scale and a bias per class leak far
        less than they mend.
    y, classes
        As for `fit_calibration`.
    """
    if kind == "margins":
        return fit_calibration(scores, y, classes).probabilities(scores)
    return softmax(scores, axis=1) if kind == "logits" else np.asarray(scores)


def _check(scores, y, classes):
    if scores.shape != (len(y), len(classes)):
        raise ValueError(
            f"scores have shape {scores.shape}, expected ({len(y)}, {len(classes)}): one row per label, "
            "one column per class"
        )
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"label {unknown[0]!r} is not among the classes; give the classes of the scores' columns"
        )
    if not np.isfinite(scores).all(axis=1).any():
        raise ValueError(
            "no row of the scores is finite; give out-of-fold scores of at least one row"
        )


def _smoothed_targets(codes, n_classes):
    """(n, classes) targets: each class's mass shared out by Platt's rule, rows sum to 1."""
    counts = np.bincount(codes, minlength=n_classes)
    own = (counts + 1) / (counts + 2)
    others = np.tile((counts + 1).astype(float), (n_classes, 1))
    np.fill_diagonal(others, 0)
    table = others / others.sum(axis=1, keepdims=True) * (1 - own)[:, None]
    np.fill_diagonal(table, own)
    return table[codes]


def _loss_and_gradient(x, scores, targets):
    """Mean cross-entropy of softmax(exp(x[0]) * scores + x[1:]) and its gradient; exp keeps scale > 0."""
    scale = np.exp(x[0])
    logs = log_softmax(scale * scores + x[1:], axis=1)
    slope = (np.exp(logs) - targets) / len(scores)
    return -np.sum(targets * logs) / len(scores), np.r_[
        scale * np.sum(slope * scores), slope.sum(axis=0)
    ]
