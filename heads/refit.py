"""A head fitted through the shared reduction, as the scikit-learn pipeline it would have become."""

from functools import partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from heads.closed_forms import class_means
from heads.fold_scores import LINEAR, precomputed_svc, rbf_gamma
from heads.linear import PROBLEMS, basis_of


def weights_of(class_weight, labels):
    """Class weights as numbers in the order of the sorted labels, or None."""
    if class_weight is None:
        return None
    return compute_class_weight(class_weight, classes=np.unique(labels), y=labels)


def fit_pipeline(name, pipeline, values, X, y, fold):
    """Fit a pipeline as `make_head(name)` makes it, here; the heads without a shortcut by scikit-learn.

    Parameters
    ----------
    name : str
    pipeline : unfitted pipeline, the candidate's parameters set
    values : dict or None
        What `fold_scores.known_parameters` returned.
    X : array of shape (n, d)
    y : array of shape (n,)
    fold : Fold
        With all rows of X as its training rows.
    """
    if values is None:
        return pipeline.fit(X, y)
    scaler, classifier = pipeline[0], pipeline[-1]
    _set(scaler, mean_=fold.mean, var_=fold.var, scale_=fold.scale, n_features_in_=fold.d)
    _set(scaler, n_samples_seen_=np.int64(fold.n))
    if name not in REFITS:
        classifier.fit(scaler.transform(X), y)
        return pipeline
    classes, codes = np.unique(y, return_inverse=True)
    weights = weights_of(getattr(classifier, "class_weight", None), y)
    _set(classifier, classes_=classes, n_features_in_=fold.d)
    REFITS[name].fit(classifier, fold, codes, values, weights)
    if hasattr(
        classifier, "support_"
    ):  # bit for bit what the scaler gives, as SVC itself would have kept
        _set(
            classifier, support_vectors_=scaler.transform(X[classifier.support_]).astype(np.float64)
        )
    return pipeline


def _set(estimator, **fitted):
    vars(estimator).update(fitted)


def _refit_linear(name):
    def refit(classifier, fold, codes, values, weights):
        found = LINEAR[name](fold, codes, [values], weights)
        _set(
            classifier,
            coef_=fold.coefficients(found.coef[0], found.by_rows),
            intercept_=found.intercept[0],
            n_iter_=found.n_iter.astype(np.int32),
        )

    return refit


def _refit_lda(classifier, fold, codes, values, weights):
    found = LINEAR["lda"](fold, codes, [values], weights)
    means, shares = class_means(fold.train, codes)
    most = min(len(shares) - 1, fold.d)
    # covariance_ is left out: (d, d), and no prediction needs it
    _set(
        classifier,
        coef_=fold.coefficients(found.coef[0]),
        intercept_=found.intercept[0],
        priors_=shares,
    )
    _set(classifier, means_=fold.coefficients(means), _max_components=most, _n_features_out=most)


def _refit_rbf_svm(classifier, fold, codes, values, weights):
    gamma = rbf_gamma(values["gamma"], fold)
    fitted = precomputed_svc(values["C"], weights).fit(np.exp(-gamma * fold.distances), codes)
    kept = {
        key: value
        for key, value in vars(fitted).items()
        if key.startswith("_") or key.endswith("_")
    }
    kept |= {
        "classes_": classifier.classes_,
        "n_features_in_": fold.d,
        "shape_fit_": (fold.n, fold.d),
    }
    _set(classifier, **kept | {"_gamma": gamma})


class Refit(NamedTuple):
    """How a head is refitted.

    fit : (classifier, fold, codes, values, weights) -> None, the fitted attributes set
    prepare : called with the fold, does what of its work takes the time, known before the values are
    """

    fit: callable
    prepare: callable


REFITS = {
    **{name: Refit(_refit_linear(name), partial(basis_of, name)) for name in PROBLEMS},
    "lda": Refit(_refit_lda, attrgetter("train")),
    "rbf_svm": Refit(_refit_rbf_svm, attrgetter("distances")),
}
