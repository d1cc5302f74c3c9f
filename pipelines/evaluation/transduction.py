"""Whether images without labels help: answers with them in a graph, beside those of labels alone.

Arrays alone. Each way of answering is a `Way` of `pipelines.evaluation.ways`: its probabilities of
the training images, each without its own label, and of the test images.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array

from heads import Calibration, as_logits, fit_calibration, oof_probabilities
from heads.propagation import multiply, shares_of, spread_labels
from pipelines.evaluation.scoring import Scoring
from pipelines.evaluation.ways import Way, compare_pair, describe_way, scoring_of_ways

ALONE, PRODUCT, PROPAGATION = "labels alone", "product", "propagation"
UNKNOWN = -1  # in place of a class number

# by name: the heads' probabilities and what the graph spreads, both (n, classes) -> probabilities
JOINS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    PRODUCT: multiply,
    PROPAGATION: lambda probabilities, spread: shares_of(spread),
}

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def join_out_of_fold(
    graph: csr_array,
    codes: np.ndarray,
    folds: Folds,
    probabilities: np.ndarray,
    class_weight: str | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Calibration]]:
    """What heads and graph say of images whose own label is hidden, joined in each of `JOINS`.

    In each fold the validation images lose their labels and stay in the graph, as images without
    labels are in it. Each fold's answers are calibrated by the other folds'.

    Parameters
    ----------
    graph : scipy.sparse.csr_array of shape (n, n)
        As of `heads.propagation.link_neighbours`; its first rows are the training images.
    codes : ndarray of shape (n_train,), int
        Class numbers.
    folds : sequence of (train, validation) row arrays
        That the probabilities are of.
    probabilities : ndarray of shape (n_train, classes)
        Out of fold, of the heads that learn from labels alone.
    class_weight : None or "balanced"
        Of the calibration.

    Returns
    -------
    probabilities : dict of ndarray of shape (n_train, classes)
    calibrations : dict of Calibration
        Fitted on all of them: those that new images get.

    Examples
    --------
    >>> from heads.propagation import link_neighbours
    >>> line = link_neighbours(np.ones((5, 1)), np.array([[4], [4], [3], [2], [1]]))
    >>> codes, even = np.array([0, 0, 1, 1]), np.full((4, 2), 0.5)
    >>> folds = [(np.array([1, 3]), np.array([0, 2])), (np.array([0, 2]), np.array([1, 3]))]
    >>> found, _ = join_out_of_fold(line, codes, folds, even)
    >>> found["product"].argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """
    every, spread = np.arange(probabilities.shape[1]), np.empty_like(probabilities)
    for train, validation in folds:
        known = np.full(graph.shape[0], UNKNOWN)
        known[train] = codes[train]
        spread[validation] = spread_labels(graph, known, len(every))[validation]
    hidden = [validation for _, validation in folds]
    found, calibrations = {}, {}
    for name, join in JOINS.items():
        logits = as_logits(join(probabilities, spread), "probabilities")
        found[name] = oof_probabilities(logits, "logits", codes, every, hidden, class_weight)
        calibrations[name] = fit_calibration(logits, codes, every, class_weight)
    return found, calibrations


def join_new(
    graph: csr_array,
    codes: np.ndarray,
    probabilities: np.ndarray,
    calibrations: Mapping[str, Calibration],
) -> dict[str, np.ndarray]:
    """What heads and graph say of images without labels, joined in each of `JOINS`.

    Parameters
    ----------
    graph : scipy.sparse.csr_array of shape (n_train + n_new, n_train + n_new)
        Its first rows are the training images, the others the new ones.
    codes : ndarray of shape (n_train,), int
    probabilities : ndarray of shape (n_new, classes)
        Of the heads that learn from labels alone.
    calibrations : mapping of str to Calibration
        As of `join_out_of_fold`.

    Returns
    -------
    dict of ndarray of shape (n_new, classes)
    """
    n_train, n_new = len(codes), len(probabilities)
    known = np.concatenate([codes, np.full(n_new, UNKNOWN)])
    spread = spread_labels(graph, known, probabilities.shape[1])[n_train:]
    return {
        name: own.probabilities(as_logits(JOINS[name](probabilities, spread), "probabilities"))
        for name, own in calibrations.items()
    }


def choose_answers(ways: Sequence[Way], codes: np.ndarray, scoring: Scoring) -> int:
    """The place of the way of the best score out of fold; of equals the first, labels alone.

    What counts right answers alone is chosen by log loss, as in `scoring_of_ways`.

    codes : (n_train,) class numbers.
    """
    own = scoring_of_ways(scoring)
    facts = np.array(
        [own.facts(codes, way.validation.argmax(axis=1), way.validation) for way in ways]
    )
    return int(np.round(own.values(codes, facts), 9).argmax())


def describe_transduction(
    ways: Sequence[Way],
    place: int,
    train: np.ndarray,
    test: np.ndarray,
    scoring: Scoring,
    seed: int = 0,
) -> dict:
    """The ways' figures for results.json, and the gain of each over the first, paired by image.

    train, test : class numbers of their images. place : of the way that was chosen.
    """
    first = ways[0]
    rows = []
    for i, way in enumerate(ways):
        row = describe_way(way, train, test, scoring, seed) | {"taken": i == place}
        del row["n_networks"], row["n_heads"]
        row["out_of_fold"] = row["test"] = None
        if way is not first:
            row["out_of_fold"] = _gain(way.validation, first.validation, train)
            row["test"] = _gain(way.test, first.test, test)
        rows.append(row)
    return {"rows": rows, "method": ways[place].name}


def _gain(probabilities: np.ndarray, others: np.ndarray, codes: np.ndarray) -> dict:
    """Of accuracy, with an interval at 95 % and McNemar's p."""
    right = [own.argmax(axis=1) == codes for own in (probabilities, others)]
    return compare_pair(*right)
