"""Whether a fitted head holds all that its predictions read, in the shapes they take for granted.

Compiled code behind some heads reads without looking: libsvm goes where the numbers of support
vectors point, and a search over no rows divides by zero.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.catalog import HEADS, find_name, steps_of

KERNELS = ("rbf", "linear", "poly", "sigmoid")
METRICS = ("euclidean", "cosine", "minkowski", "manhattan")


@dataclass(frozen=True)
class Sizes:
    """The lengths that a head's arrays can have, by name."""

    features: int
    classes: int
    rows: int

    def shape(self, dims: Sequence[str]) -> tuple[int, ...]:
        lengths = {
            "features": self.features,
            "classes": self.classes,
            "margins": 1 if self.classes == 2 else self.classes,
            "others": self.classes - 1,
            "pairs": self.classes * (self.classes - 1) // 2,
            "rows": self.rows,
        }
        return tuple(lengths[dim] for dim in dims)


LINEAR = {"coef_": ("margins", "features"), "intercept_": ("margins",)}
# what predicting reads, by head; where scikit-learn's versions differ, of what is there
SHAPES: dict[str, dict[str, tuple[str, ...]]] = {
    "logistic": LINEAR,
    "linear_svm": LINEAR,
    "ridge": LINEAR,
    "lda": LINEAR,
    "centroid": {
        "centroids_": ("classes", "features"),
        "within_class_std_dev_": ("features",),
        "class_prior_": ("classes",),
    },
    "prior": {"class_prior_": ("classes",)},
    "rbf_svm": {
        "support_": ("rows",),
        "support_vectors_": ("rows", "features"),
        "_n_support": ("classes",),
        "dual_coef_": ("others", "rows"),
        "_dual_coef_": ("others", "rows"),
        "intercept_": ("pairs",),
        "_intercept_": ("pairs",),
        "class_weight_": ("classes",),
    },
    "knn": {"_fit_X": ("rows", "features"), "_y": ("rows",)},
}


def check_fitted(head: Any, features: int, classes: Sequence) -> None:
    """Check a head that comes from elsewhere before it predicts.

    Parameters
    ----------
    head : fitted estimator
        A classifier of the catalogue, alone or behind scalers in a pipeline.
    features : int
        Length of the rows that it will be given.
    classes : sequence
        The labels that it must have, in their order.

    Raises
    ------
    ValueError
        It is of another kind or of other classes, lacks something that predicting reads, or holds
        it in another shape.

    Examples
    --------
    >>> from heads import make_head
    >>> head = make_head("ridge").fit(np.eye(4), [0, 1, 0, 1])
    >>> check_fitted(head, 4, [0, 1])
    >>> check_fitted(head, 5, [0, 1])
    Traceback (most recent call last):
    ValueError: mean_ of StandardScaler has shape (4,), expected (5,)
    """
    try:
        _check(head, features, classes)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"it is not as it was fitted: {str(error)[:200]}") from error


def _check(head: Any, features: int, classes: Sequence) -> None:
    steps = steps_of(head)
    name = _name(steps[-1])
    if name is None:
        raise ValueError(f"{type(steps[-1]).__name__} is no head of the catalogue")
    for scaler in steps[:-1]:
        _check_scaler(scaler, features)
    classifier = steps[-1]
    if not _same(classifier.classes_, classes):
        raise ValueError("its classes are not those of the bundle")
    row = HEADS[name]
    kept = getattr(classifier, row.keeps_rows) if row.keeps_rows else None
    if row.keeps_rows and not (isinstance(kept, np.ndarray) and kept.ndim == 2 and len(kept)):
        raise ValueError(f"{name} is without the training rows it keeps")
    sizes = Sizes(features, len(classes), 0 if kept is None else len(kept))
    _check_shapes(classifier, SHAPES.get(name, {}), sizes)
    if name in MORE:
        MORE[name](classifier, sizes)
    _try(head, sizes)


def _name(classifier: Any) -> str | None:
    from sklearn.pipeline import Pipeline

    return None if isinstance(classifier, Pipeline) else find_name(Pipeline([("", classifier)]))


def _same(found: Any, classes: Sequence) -> bool:
    return isinstance(found, np.ndarray) and found.ndim == 1 and found.tolist() == list(classes)


def _check_scaler(scaler: Any, features: int) -> None:
    from sklearn.preprocessing import StandardScaler

    if type(scaler) is not StandardScaler:
        raise ValueError(f"{type(scaler).__name__} is no step of a head")
    if scaler.n_features_in_ != features:
        raise ValueError(f"mean_ of StandardScaler has shape ({scaler.n_features_in_},), "
                         f"expected ({features},)")  # fmt: skip
    sizes = Sizes(features, 0, 0)
    _check_shapes(scaler, dict.fromkeys(("mean_", "var_", "scale_"), ("features",)), sizes)
    if scaler.scale_ is not None and not (scaler.scale_ > 0).all():
        raise ValueError("a scale of StandardScaler is not above 0")


def _check_shapes(estimator: Any, shapes: dict[str, tuple[str, ...]], sizes: Sizes) -> None:
    kind = type(estimator).__name__
    for name, dims in shapes.items():
        value = vars(estimator).get(name)
        if value is None:  # of another version of scikit-learn; what it needs the trial will miss
            continue
        expected = sizes.shape(dims)
        # one margin may be without an axis of its own, as ridge's of two classes
        plain = isinstance(value, (np.ndarray, np.floating))
        if not plain or value.shape not in (expected, expected[expected[0] == 1 :]):
            raise ValueError(
                f"{name} of {kind} has shape {getattr(value, 'shape', None)}, expected {expected}"
            )
        if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise ValueError(f"{name} of {kind} holds values that are no finite numbers")


def _check_svm(svm: Any, sizes: Sizes) -> None:
    counts = svm._n_support
    if svm.kernel not in KERNELS or svm._sparse is not False:
        raise ValueError(f"SVC has kernel {svm.kernel!r}, expected one of {', '.join(KERNELS)}")
    if counts.dtype.kind != "i" or (counts < 0).any() or counts.sum() != sizes.rows:
        raise ValueError(f"_n_support of SVC is not of {sizes.rows} support vectors")
    if not 0 < float(svm._gamma) < np.inf:
        raise ValueError("_gamma of SVC is no finite number above 0")
    for name in ("_probA", "_probB"):
        if len(getattr(svm, name)) not in (0, *sizes.shape(["pairs"])):
            raise ValueError(f"{name} of SVC has length {len(getattr(svm, name))}")


def _check_knn(knn: Any, sizes: Sizes) -> None:
    if knn._y.dtype.kind not in "iu" or knn._y.min() < 0 or knn._y.max() >= sizes.classes:
        raise ValueError("_y of KNeighborsClassifier holds a class that is not there")
    if type(knn.n_neighbors) is not int or not 1 <= knn.n_neighbors <= sizes.rows:
        raise ValueError(f"n_neighbors is not between 1 and {sizes.rows}")
    if knn.n_samples_fit_ != sizes.rows:
        raise ValueError(f"n_samples_fit_ is not {sizes.rows}")
    if knn.effective_metric_ not in METRICS or knn.weights not in ("uniform", "distance"):
        raise ValueError(f"KNeighborsClassifier measures {knn.effective_metric_!r}")


# what shapes alone don't say, by head
MORE: dict[str, Callable[[Any, Sizes], None]] = {"rbf_svm": _check_svm, "knn": _check_knn}


def _try(head: Any, sizes: Sizes) -> None:
    """One row of zeros: what is missing shows now, not at the first image."""
    answer = getattr(head, "predict_proba", None) or head.predict
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = answer(np.zeros((1, sizes.features), np.float32))
            head.predict(np.zeros((1, sizes.features), np.float32))
    # whatever it holds, it came from elsewhere: any error in its use is its fault
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"it can't predict ({type(error).__name__}: {reason})") from error
    if found.ndim == 2 and (found.shape[1] != sizes.classes or not np.isfinite(found).all()):
        raise ValueError("its probabilities are no finite numbers, one for each class")
