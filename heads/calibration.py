"""Probabilities from scores: a small calibration fitted on out-of-fold scores, as plain numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

# probabilities count as this at least where their logarithm is taken
LEAST = 1e-6
# by how many rows' evidence the biases are held: on image sets of 60 to 200 rows, 10 gave a log
# loss and a calibration error as low as without biases, or lower
BIAS_ROWS, SHARE_ROWS = 10.0, 0.1
# Below so many rows a class the biases stay 0. Of 60 draws of normal scores of 2, 5 and 10 classes,
# even and uneven, the scale alone had the lower log loss of new rows at 2 and 3 rows a class
# (0.62 against 0.73 at 5 classes and 2 rows) unless the scores said next to nothing of uneven
# classes; at 4 it depended on whether the scores had a bias, from 6 on it lost where they had one.
# Each row that is left out makes its class rarer among so few others, so that shares mislead. The
# scale is held by nothing: a ridge on it, in simulations of 7 to 30 rows, lowered the loss by up to
# 0.03 where rows lay far off the others and raised it by as much elsewhere.
FEW = 4
STIFF = 1e9  # rows' evidence by which a bias is 0
STEPS, LEAST_SCALE = 50, 1e-3


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


def fit_calibration(
    scores: Any, y: Any, classes: Sequence | np.ndarray, class_weight: Any = None
) -> Calibration:
    """Fit scale and bias by penalised maximum likelihood on out-of-fold scores.

    Two classes: Platt's sigmoid [1]_. Several: softmax with one temperature [2]_, and a bias. The
    biases are shrunk, as by BIAS_ROWS rows of evidence, towards multiples of the classes' log
    shares, so that with few rows little more than the temperature is fitted, and scores that say
    nothing give the shares; of fewer than FEW rows a class the temperature alone is. Targets are
    smoothed by the rule of succession: the true class has (n + 1) / (n + 2) of n rows, the rest is
    spread over the other classes in proportion to their sizes. Perfectly separated scores therefore
    have a finite optimum, as sure as n right answers of n make one. (Platt smooths by the rows of
    each class, which leaves ten classes of six rows at 0.88 however well they are told apart.)

    Parameters
    ----------
    scores : array of shape (n, classes), or (n,) margins of two classes
        Margins or logits; of probabilities their logarithms, as `as_logits` gives them. Rows with a
        NaN (never in a validation fold) are passed over.
    y : array of shape (n,)
        Labels, each among `classes`.
    classes : sequence of length classes
        Labels in the order of the columns, sorted.
    class_weight : None, "balanced" or dict
        As the head was trained with: probabilities are then of a world where the classes come as
        often as their weights say, and so are the labels that go by them.

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
    codes = np.searchsorted(classes, y[known])
    scale, bias = _fit(scores[known], codes, _row_weights(class_weight, y[known]))
    return Calibration(scale, tuple(bias.tolist()), tuple(classes.tolist()))


def as_logits(scores: Any, kind: str) -> np.ndarray:
    """Out-of-fold or new scores as a calibration takes them.

    Parameters
    ----------
    scores : array of shape (n, classes)
    kind : str
        `HEADS[head].scores`.

    Returns
    -------
    array of shape (n, classes)
        Margins and logits as they are; of probabilities the logarithms, in nats, not below
        log 1e-6: one certain error must not outweigh all other rows.

    Examples
    --------
    >>> as_logits(np.array([[1.0, 0.0]]), "probabilities").round(2).tolist()
    [[0.0, -13.82]]
    """
    scores = np.asarray(scores)
    return np.log(np.maximum(scores, LEAST)) if kind == "probabilities" else scores


def oof_probabilities(
    scores: np.ndarray,
    kind: str,
    y: Any,
    classes: Sequence | np.ndarray,
    validation: Sequence[np.ndarray] | None = None,
    class_weight: Any = None,
) -> np.ndarray:
    """Calibrated probabilities of a candidate's out-of-fold scores.

    Parameters
    ----------
    scores : array of shape (n, classes)
        One entry of `HeadSearchCV.oof_scores_`; rows of NaN stay NaN.
    kind : str
        `HEADS[head].scores`.
    y, classes, class_weight
        As for `fit_calibration`.
    validation : sequence of index arrays, or None
        The rows that each fold leaves out: a fold's probabilities are by the calibration of the
        other folds', as it will be for new images. None calibrates all rows on themselves.

    Returns
    -------
    array of shape (n, classes)

    Examples
    --------
    >>> even = np.zeros((4, 2))
    >>> oof_probabilities(even, "logits", [*"aabb"], [*"ab"], [[0, 2], [1, 3]]).round(2).tolist()
    [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    """
    logits = as_columns(as_logits(scores, kind))
    if validation is None:
        return fit_calibration(logits, y, classes, class_weight).probabilities(logits)
    y, classes = np.asarray(y), np.asarray(classes)
    _check(logits, y, classes)
    codes = np.searchsorted(classes, y)
    known = np.isfinite(logits).all(axis=1)
    nested = np.full(logits.shape, np.nan)
    for own in validation:
        others = np.array(known)
        others[own] = False
        weights = _row_weights(class_weight, y[others])
        scale, bias = _fit(logits[others], codes[others], weights)
        nested[own] = softmax(scale * logits[own] + bias, axis=1)
    return nested


def _check(scores: np.ndarray, y: np.ndarray, classes: np.ndarray) -> None:
    if scores.shape != (len(y), len(classes)):
        raise ValueError(
            f"scores have shape {scores.shape}, expected ({len(y)}, {len(classes)}): one row per "
            "label, one column per class"
        )
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"label {unknown.tolist()[0]!r} is not among the classes; "
            "give the classes of the scores' columns"
        )
    if not np.isfinite(scores).all(axis=1).any():
        raise ValueError(
            "no row of the scores is finite; give out-of-fold scores of at least one row"
        )


def _row_weights(class_weight: Any, y: np.ndarray) -> np.ndarray:
    """(n,) weights of rows, 1 on average."""
    if class_weight is None:
        return np.ones(len(y))
    # scikit-learn takes a while to import, and most calibrations need none of it
    from sklearn.utils.class_weight import compute_sample_weight

    weights = compute_sample_weight(class_weight, y)
    return weights / weights.mean()


def _fit(scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and biases (classes,) by Newton's method; the loss is convex in them.

    scores : (n, classes), finite. codes, weights : (n,) class numbers, 1 on average.
    """
    n, n_classes = scores.shape
    centred = scores - scores.mean(axis=1, keepdims=True)
    # scores of any unit: work at unit spread, undo it in the end
    spread, largest = float(np.std(centred)), float(np.abs(scores).max())
    if spread <= 16 * np.finfo(float).eps * largest:  # all alike but for rounding
        centred, spread = np.zeros_like(centred), largest or 1.0
    unit = centred / spread
    counts = np.bincount(codes, weights, minlength=n_classes)
    targets = _smoothed_targets(codes, counts) * weights[:, None]
    few = n < FEW * n_classes
    penalty = STIFF * np.eye(n_classes) if few else _bias_penalty(counts)
    x = np.r_[1.0, np.zeros(n_classes)]
    loss, slope, curvature = _derivatives(x, unit, targets, penalty)
    for _ in range(STEPS):
        if np.abs(slope).max() <= 1e-8 * n:
            break
        if x[0] <= LEAST_SCALE * (1 + 1e-9) and slope[0] > 0:
            # scores that are worthless or mislead: the biases alone are left to fit
            step = np.r_[0.0, np.linalg.solve(curvature[1:, 1:], slope[1:])]
            if np.abs(slope[1:]).max() <= 1e-8 * n:
                break
        else:
            step = np.linalg.solve(curvature, slope)
        share = 1.0
        if x[0] - step[0] < LEAST_SCALE:
            share = max((x[0] - LEAST_SCALE) / step[0], 0.0) if step[0] else 1.0
        while True:
            trial = x - share * step
            found = _derivatives(trial, unit, targets, penalty)
            if found[0] <= loss or share < 1e-6:
                break
            share /= 4
        x, (loss, slope, curvature) = trial, found
    bias = np.zeros(n_classes) if few else x[1:] - x[1:].mean()
    return float(x[0] / spread), bias


def _smoothed_targets(codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n, classes) targets: 1 / (n + 2) of each row's mass is the other classes', rows sum to 1."""
    others = np.tile(counts + 1.0, (len(counts), 1))
    np.fill_diagonal(others, 0)
    left = 1 / (len(codes) + 2)
    table = others / others.sum(axis=1, keepdims=True) * left
    np.fill_diagonal(table, 1 - left)
    return table[codes]


def _bias_penalty(counts: np.ndarray) -> np.ndarray:
    """(classes, classes) quadratic form that leaves multiples of the log shares next to free."""
    logs = np.log(counts + 1.0)
    logs -= logs.mean()
    norm = logs @ logs
    held = BIAS_ROWS * np.eye(len(counts))
    # of next to equal shares the multiple means nothing, and is held like any bias
    if BIAS_ROWS * norm > SHARE_ROWS:
        held -= np.outer(logs, logs) / norm * (BIAS_ROWS - SHARE_ROWS / norm)
    return held


def _derivatives(
    x: np.ndarray, scores: np.ndarray, targets: np.ndarray, penalty: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Cross-entropy of softmax(x[0] * scores + x[1:]) summed over rows, penalised: loss, gradient
    and Hessian. A row's targets sum to its weight."""
    scale, bias = x[0], x[1:]
    logs = log_softmax(scale * scores + bias, axis=1)
    shares = np.exp(logs)
    p = shares * targets.sum(axis=1, keepdims=True)
    slope = p - targets
    loss = -np.sum(targets * logs) + bias @ penalty @ bias / 2
    # of softmax: diag(p) - p p^T, in the directions of the scale and of each bias
    mean = np.sum(shares * scores, axis=1)
    weighted = p * (scores - mean[:, None])
    curvature = np.empty((len(x), len(x)))
    curvature[0, 0] = np.sum(weighted * scores)
    curvature[0, 1:] = curvature[1:, 0] = weighted.sum(axis=0)
    curvature[1:, 1:] = np.diag(p.sum(axis=0)) - shares.T @ p + penalty
    curvature[0, 0] += np.finfo(float).eps * len(scores)  # scores all equal
    gradient = np.r_[np.sum(slope * scores), slope.sum(axis=0) + penalty @ bias]
    return float(loss), gradient, curvature
