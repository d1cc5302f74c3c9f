"""A head fitted through the shared reduction, as the scikit-learn pipeline it would have become."""

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from heads.catalog import find_head
from heads.fold_scores import LINEAR, precomputed_svc, rbf_gamma
from heads.linear import PROBLEMS, basis_of
from heads.reduction import Fold


def weights_of(class_weight: Any, labels: np.ndarray) -> np.ndarray | None:
    """Class weights as numbers in the order of the sorted labels, or None."""
    if class_weight is None:
        return None
    return compute_class_weight(class_weight, classes=np.unique(labels), y=labels)


def fit_pipeline(
    name: str, pipeline: Any, values: dict | None, X: np.ndarray, y: np.ndarray, fold: Fold
) -> Any:
    """Fit a pipeline as `make_head(name)` makes it; the heads without a shortcut by scikit-learn.

    Parameters
    ----------
    name : str
    pipeline : unfitted pipeline, the candidate's parameters set
    values : dict or None
        What the shared work calls its parameters, None where it does not know them.
    X : array of shape (n, d)
    y : array of shape (n,)
    fold : Fold
        With all rows of X as its training rows.
    """
    if values is None:
        return pipeline.fit(X, y)
    scaler, classifier = pipeline[0], pipeline[-1]
    set_scaler(scaler, fold)
    if name not in REFITS:
        classifier.fit(scaler.transform(X), y)
        return pipeline
    classes, codes = np.unique(y, return_inverse=True)
    weights = weights_of(getattr(classifier, "class_weight", None), y)
    classifier.classes_ = classes
    classifier.n_features_in_ = fold.d
    REFITS[name].fit(classifier, fold, codes, values, weights)
    rows = find_head(name).keeps_rows
    if rows is not None:
        # bit for bit what the scaler gives, as the classifier itself would have kept
        scaled = scaler.transform(X[classifier.support_]).astype(np.float64)
        setattr(classifier, rows, scaled)
    return pipeline


def set_scaler(scaler: Any, fold: Fold) -> None:
    """Set all that StandardScaler.fit sets; it would read X once more."""
    scaler.mean_ = fold.mean
    scaler.var_ = fold.var
    scaler.scale_ = fold.scale
    scaler.n_features_in_ = fold.d
    scaler.n_samples_seen_ = np.int64(fold.n)


def _refit_linear(name: str) -> Callable[..., None]:
    def refit(
        classifier: Any, fold: Fold, codes: np.ndarray, values: dict, weights: np.ndarray | None
    ) -> None:
        found = LINEAR[name](fold, codes, [values], weights)
        classifier.coef_ = fold.coefficients(found.coef[0], found.by_rows)
        classifier.intercept_ = found.intercept[0]
        classifier.n_iter_ = found.n_iter.astype(np.int32)

    return refit


def _refit_lda(
    classifier: Any, fold: Fold, codes: np.ndarray, values: dict, weights: np.ndarray | None
) -> None:
    found = LINEAR["lda"](fold, codes, [values], weights)
    means, priors = fold.class_means(codes)
    most = min(len(priors) - 1, fold.d)
    # covariance_ is left out: (d, d), and no prediction needs it
    classifier.coef_ = fold.coefficients(found.coef[0])
    classifier.intercept_ = found.intercept[0]
    classifier.priors_ = priors
    classifier.means_ = fold.coefficients(means)
    # private to scikit-learn, and read by its `transform` and `get_feature_names_out`
    classifier._max_components = most
    classifier._n_features_out = most


def _refit_rbf_svm(
    classifier: Any, fold: Fold, codes: np.ndarray, values: dict, weights: np.ndarray | None
) -> None:
    gamma = rbf_gamma(values["gamma"], fold)
    fitted = precomputed_svc(values["C"], weights).fit(np.exp(-gamma * fold.distances), codes)
    # the optimum is the same whoever makes the kernel: all that SVC.fit sets, but for what follows
    for key, value in vars(fitted).items():
        is_fitted = key.startswith("_") or key.endswith("_")
        if is_fitted and key not in ("classes_", "n_features_in_"):
            setattr(classifier, key, value)
    classifier.shape_fit_ = fold.n, fold.d
    classifier._gamma = gamma


class Refit(NamedTuple):
    """How a head is refitted.

    fit : (classifier, fold, codes, values, weights) -> None, the fitted attributes set.
    prepare : called with the fold, does what of its work takes the time, known before the values.
    """

    fit: Callable[..., None]
    prepare: Callable[[Fold], object]


REFITS = {
    **{name: Refit(_refit_linear(name), partial(basis_of, name)) for name in PROBLEMS},
    "lda": Refit(_refit_lda, attrgetter("train")),
    "rbf_svm": Refit(_refit_rbf_svm, attrgetter("distances")),
}
