"""Probabilities from scores: a small calibration fitted on out-of-fold scores, as plain numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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

    Examples
    --------
    >>> even = Calibration(scale=1.0, bias=(0.0, 0.0), classes=("cat", "dog"))
    >>> even.probabilities([0.0, 2.0]).round(2).tolist()
    [[0.5, 0.5], [0.12, 0.88]]
    """

    scale: float
    bias: tuple[float, ...]
    classes: tuple

    def probabilities(self, scores: Any) -> np.ndarray:
        """Calibrated probabilities.

        Parameters
        ----------
        scores : array of shape (n, classes), or (n,) margins of the second of two classes

        Returns
        -------
        array of shape (n, classes), float64, each row summing to 1

        Raises
        ------
        ValueError
            Another number of columns than classes.
        """
        scores = as_columns(scores)
        if scores.shape[1] != len(self.classes):
            raise ValueError(
                f"scores have {scores.shape[1]} columns, the calibration has {len(self.classes)} "
                "classes; give one column per class"
            )
        return softmax(self.scale * scores + np.asarray(self.bias), axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, fit for JSON."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> "Calibration":
        """The calibration back from `to_dict`."""
        bias = tuple(float(value) for value in numbers["bias"])
        return cls(float(numbers["scale"]), bias, tuple(numbers["classes"]))


def as_columns(scores: Any) -> np.ndarray:
    """Scores as (n, classes) float64.

    Margins s of two classes, (n,) or (n, 1), become the columns (-s/2, s/2): their difference is s,
    and their softmax is the sigmoid of s.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim == 2 and scores.shape[1] > 1:
        return scores
    return np.column_stack([-scores.ravel() / 2, scores.ravel() / 2])


def fit_calibration(scores: Any, y: Any, classes: Sequence | np.ndarray) -> Calibration:
    """Fit scale and bias by maximum likelihood on out-of-fold scores.

    Two classes: Platt's sigmoid [1]_. Several: softmax with one temperature [2]_, and a bias.
    Targets are smoothed as Platt's: a row of class c has (n_c + 1) / (n_c + 2) at c, the rest
    spread over the other classes in proportion to their sizes. Perfectly separated scores therefore
    have a finite optimum.

    Parameters
    ----------
    scores : array of shape (n, classes), or (n,) margins of two classes
        Rows with a NaN (never in a validation fold) are passed over.
    y : array of shape (n,)
        Labels, each among `classes`.
    classes : sequence of length classes
        Labels in the order of the columns, sorted.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        Shapes that do not belong together, a label that is no class, no row of finite scores.

    References
    ----------
    .. [1] Platt (1999), "Probabilistic outputs for support vector machines and comparisons to
       regularized likelihood methods".
    .. [2] Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks", ICML.

    Examples
    --------
    >>> margins = [-2.0, -1.0, 0.5, -0.5, 1.0, 2.0]
    >>> found = fit_calibration(margins, [*"aaabbb"], [*"ab"])
    >>> found.probabilities(margins).argmax(axis=1).tolist()
    [0, 0, 1, 0, 1, 1]
    """
    scores = as_columns(scores)
    y = np.asarray(y)
    classes = np.asarray(classes)
    _check(scores, y, classes)
    known = np.isfinite(scores).all(axis=1)
    scores = scores[known]
    codes = np.searchsorted(classes, y[known])
    # scores of any unit: work at unit spread, undo it in the end
    spread = max(float(np.std(scores - scores.mean(axis=1, keepdims=True))), np.finfo(float).tiny)
    found = minimize(
        _loss_and_gradient,
        np.zeros(1 + len(classes)),
        (scores / spread, _smoothed_targets(codes, len(classes))),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": 1e-9},
    )
    # a number added to all biases changes no probability: those that sum to zero are kept
    bias = found.x[1:] - found.x[1:].mean()
    scale = float(np.exp(found.x[0]) / spread)
    return Calibration(scale, tuple(bias.tolist()), tuple(classes.tolist()))


def oof_probabilities(
    scores: np.ndarray, kind: str, y: Any, classes: Sequence | np.ndarray
) -> np.ndarray:
    """Probabilities of a candidate's out-of-fold scores, for blending.

    Parameters
    ----------
    scores : array of shape (n, classes)
        One entry of `HeadSearchCV.oof_scores_`; rows of NaN stay NaN.
    kind : str
        `HEADS[head].scores`. Margins are calibrated on these very rows: a scale and a bias per
        class leak far less than they mend.
    y, classes
        As for `fit_calibration`.

    Returns
    -------
    array of shape (n, classes)

    Examples
    --------
    >>> oof_probabilities(np.array([[0.0, 0.0]]), "logits", ["a"], ["a", "b"]).tolist()
    [[0.5, 0.5]]
    """
    if kind == "margins":
        return fit_calibration(scores, y, classes).probabilities(scores)
    return softmax(scores, axis=1) if kind == "logits" else np.asarray(scores)


def _check(scores: np.ndarray, y: np.ndarray, classes: np.ndarray) -> None:
    if scores.shape != (len(y), len(classes)):
        raise ValueError(
            f"scores have shape {scores.shape}, expected ({len(y)}, {len(classes)}): one row per "
            "label, one column per class"
        )
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"label {unknown[0]!r} is not among the classes; "
            "give the classes of the scores' columns"
        )
    if not np.isfinite(scores).all(axis=1).any():
        raise ValueError(
            "no row of the scores is finite; give out-of-fold scores of at least one row"
        )


def _smoothed_targets(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """(n, classes) targets: each class's mass spread by Platt's rule, rows sum to 1."""
    counts = np.bincount(codes, minlength=n_classes)
    of_own = (counts + 1) / (counts + 2)
    others = np.tile((counts + 1).astype(float), (n_classes, 1))
    np.fill_diagonal(others, 0)
    table = others / others.sum(axis=1, keepdims=True) * (1 - of_own)[:, None]
    np.fill_diagonal(table, of_own)
    return table[codes]


def _loss_and_gradient(
    x: np.ndarray, scores: np.ndarray, targets: np.ndarray
) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of softmax(exp(x[0]) * scores + x[1:]) and its gradient."""
    scale = np.exp(x[0])  # so that it stays positive
    logs = log_softmax(scale * scores + x[1:], axis=1)
    slope = (np.exp(logs) - targets) / len(scores)
    loss = -np.sum(targets * logs) / len(scores)
    return loss, np.r_[scale * np.sum(slope * scores), slope.sum(axis=0)]
