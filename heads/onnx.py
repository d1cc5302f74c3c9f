"""What fitted heads compute, as operators of an ONNX graph: the same sums, in float64.

Functions take a graph whose `add(operator, *inputs, **attributes)` gives the name of an output, as
do `as_float64(name)` and `as_float32(name)`, and names of outputs before it; arrays among the
inputs are constants.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from heads.blended import BlendedHead
from heads.calibration import LEAST, Calibration
from heads.catalog import HEADS, find_name, steps_of
from heads.linear_scores import linear_scores
from heads.svm import coefficients_of_pairs


class NotExported(ValueError):
    """A head that has no operators here."""


def add_probabilities(
    graph: Any, estimator: Any, calibration: Calibration | None, features: str
) -> str:
    """The operators of `heads.blended.probabilities`.

    Parameters
    ----------
    graph : as above
    estimator : fitted head of the catalogue, or BlendedHead of such
    calibration : Calibration or None
        Of the head's scores, or of a blend's log probabilities.
    features : str
        (n, d) float32.

    Returns
    -------
    str
        (n, classes) float64.

    Raises
    ------
    NotExported
        A head that is none of the catalogue, or of parameters that no run sets.
    """
    if isinstance(estimator, BlendedHead):
        mean = _add_mean(graph, estimator, features)
        return mean if calibration is None else _calibrate(graph, _log(graph, mean), calibration)
    scores, kind = _add_scores(graph, estimator, features)
    if calibration is not None:
        logits = _log(graph, scores) if kind == "probabilities" else scores
        return _calibrate(graph, logits, calibration)
    if kind == "probabilities":
        return scores
    if kind == "logits":
        return graph.add("Softmax", scores, axis=1)
    raise NotExported(f"{_kind_of(estimator)} without a calibration gives no probabilities")


def _add_mean(graph: Any, blend: BlendedHead, features: str) -> str:
    weighted = []
    for member in blend.members:
        own = columns_of(graph, features, member.columns)
        found = add_probabilities(graph, member.estimator, member.calibration, own)
        weighted.append(graph.add("Mul", found, np.float64(member.weight)))
    return graph.add("Sum", *weighted)


def columns_of(graph: Any, features: str, columns: tuple[int, int]) -> str:
    """The columns from the first to before the second of (n, d)."""
    start, stop = (np.array([value]) for value in columns)
    return graph.add("Slice", features, start, stop, np.array([1]))


def _calibrate(graph: Any, logits: str, calibration: Calibration) -> str:
    scaled = graph.add("Mul", logits, np.float64(calibration.scale))
    return graph.add("Softmax", graph.add("Add", scaled, np.array(calibration.bias)), axis=1)


def _log(graph: Any, shares: str) -> str:
    return graph.add("Log", graph.add("Max", shares, np.float64(LEAST)))


def _add_scores(graph: Any, estimator: Any, features: str) -> tuple[str, str]:
    """(n, classes) float64 scores as `head_scores` gives them, and what they are."""
    name = find_name(estimator)
    linear = linear_scores(estimator)
    if name is None:
        raise NotExported(
            f"{_kind_of(estimator)} is no head of the catalogue ({', '.join(HEADS)}): "
            "choose one of these"
        )
    if linear is not None:
        centred = graph.add("Sub", graph.as_float64(features), linear.centre)
        scores = graph.add("Add", graph.add("MatMul", centred, linear.weights.T), linear.bias)
        return scores, HEADS[name].scores
    if name not in OPERATORS:
        raise NotExported(f"the head {name} has no operators")
    scaled = _scale(graph, estimator, features)
    return OPERATORS[name](graph, steps_of(estimator)[-1], scaled), HEADS[name].scores


def _scale(graph: Any, estimator: Any, features: str) -> str:
    """Standardised features, rounded to float32 as scikit-learn rounds those of float32."""
    found = graph.as_float64(features)
    for scaler in steps_of(estimator)[:-1]:
        if scaler.with_mean:
            found = graph.as_float64(graph.as_float32(graph.add("Sub", found, scaler.mean_)))
        if scaler.scale_ is not None:
            found = graph.as_float64(graph.as_float32(graph.add("Div", found, scaler.scale_)))
    return found


def _add_prior(graph: Any, classifier: Any, features: str) -> str:
    n = graph.add("Shape", features, start=0, end=1)
    shape = graph.add("Concat", n, np.array([len(classifier.classes_)]), axis=0)
    return graph.add("Expand", np.asarray(classifier.class_prior_, np.float64)[None], shape)


def _add_centroid(graph: Any, classifier: Any, features: str) -> str:
    return graph.add("Neg", add_squares(graph, features, classifier.centroids_))


def add_squares(graph: Any, rows: str, others: np.ndarray) -> str:
    """(n, m) squared distances of rows (n, d) float64 to constant ones (m, d)."""
    others = np.asarray(others, np.float64)
    own = graph.add("ReduceSumSquare", rows, np.array([1]), keepdims=1)
    lengths = graph.add("Add", own, (others**2).sum(axis=1))
    products = graph.add("MatMul", rows, 2 * others.T)
    return graph.add("Max", graph.add("Sub", lengths, products), np.float64(0))


def add_unit_rows(graph: Any, rows: str) -> str:
    """Rows (n, d) float64 divided by their lengths; zeros stay."""
    lengths = graph.add("ReduceL2", rows, np.array([1]), keepdims=1)
    nothing = graph.add("Equal", lengths, np.float64(0))
    return graph.add("Div", rows, graph.add("Where", nothing, np.float64(1), lengths))


def _add_svm(graph: Any, svc: Any, features: str) -> str:
    """libsvm's decisions, one class against another; of several the votes with the margins."""
    if svc.kernel != "rbf" or svc.decision_function_shape != "ovr":
        raise NotExported(f"SVC(kernel={svc.kernel!r}): expected the kernel rbf, of shape ovr")
    squares = add_squares(graph, features, svc.support_vectors_)
    kernel = graph.add("Exp", graph.add("Mul", squares, np.float64(-svc._gamma)))
    pairs = graph.add("MatMul", kernel, coefficients_of_pairs(svc))
    pairs = graph.add("Add", pairs, np.asarray(svc.intercept_, np.float64))
    k = len(svc.classes_)
    if k == 2:
        half = graph.add("Div", pairs, np.float64(2))
        return graph.add("Concat", graph.add("Neg", half), half, axis=1)
    first, second = np.triu_indices(k, 1)
    of_first, of_second = np.eye(k)[first], np.eye(k)[second]
    won = graph.as_float64(graph.add("Greater", pairs, np.float64(0)))
    # a pair that the first class has not won is the second's
    votes = graph.add("MatMul", won, of_first - of_second)
    votes = graph.add("Add", votes, of_second.sum(axis=0))
    sums = graph.add("MatMul", pairs, of_first - of_second)
    least = graph.add("Add", graph.add("Abs", sums), np.float64(1))
    share = graph.add("Div", sums, graph.add("Mul", least, np.float64(3)))
    return graph.add("Add", votes, share)


def _add_knn(graph: Any, knn: Any, features: str) -> str:
    """The neighbours' votes, alike or by one through their distance."""
    if knn.effective_metric_ not in METRICS or knn.weights not in ("uniform", "distance"):
        raise NotExported(
            f"KNeighborsClassifier(metric={knn.metric!r}, weights={knn.weights!r}): expected "
            f"{' or '.join(METRICS)}, and uniform or distance"
        )
    distances = METRICS[knn.effective_metric_](graph, features, np.asarray(knn._fit_X, np.float64))
    k = np.array([knn.n_neighbors])
    near, rows = graph.add_many("TopK", 2, distances, k, axis=1, largest=0, sorted=1)
    of_rows = np.eye(len(knn.classes_))[knn._y]
    votes = graph.add("Gather", of_rows, rows, axis=0)  # (n, k, classes)
    if knn.weights == "distance":
        shares = graph.add("Unsqueeze", _by_distance(graph, near), np.array([2]))
        votes = graph.add("Mul", votes, shares)
    counts = graph.add("ReduceSum", votes, np.array([1]), keepdims=0)
    total = graph.add("ReduceSum", counts, np.array([1]), keepdims=1)
    return graph.add("Div", counts, total)


def _by_distance(graph: Any, near: str) -> str:
    """One by the distance; where some are at none, these alone count, and alike."""
    is_at = graph.add("Equal", near, np.float64(0))
    at = graph.as_float64(is_at)
    some = graph.add("ReduceMax", at, np.array([1]), keepdims=1)
    # a distance of 0 is not divided by: its own share is taken below
    away = graph.add("Reciprocal", graph.add("Where", is_at, np.float64(1), near))
    return graph.add("Where", graph.add("Greater", some, np.float64(0)), at, away)


def _euclidean(graph: Any, rows: str, others: np.ndarray) -> str:
    return graph.add("Sqrt", add_squares(graph, rows, others))


def _cosine(graph: Any, rows: str, others: np.ndarray) -> str:
    unit = add_unit_rows(graph, rows)
    norms = np.linalg.norm(others, axis=1, keepdims=True)
    others = others / np.where(norms == 0, 1, norms)
    distances = graph.add("Sub", np.float64(1), graph.add("MatMul", unit, others.T))
    return graph.add("Min", graph.add("Max", distances, np.float64(0)), np.float64(2))


METRICS: dict[str, Callable[[Any, str, np.ndarray], str]] = {
    "euclidean": _euclidean,
    "cosine": _cosine,
}
# by name of a head: (graph, its classifier, standardised features float64) -> its scores
OPERATORS: dict[str, Callable[[Any, Any, str], str]] = {
    "rbf_svm": _add_svm,
    "knn": _add_knn,
    "centroid": _add_centroid,
    "prior": _add_prior,
}


def _kind_of(estimator: Any) -> str:
    return type(steps_of(estimator)[-1]).__name__
