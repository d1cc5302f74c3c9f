"""The catalogue of heads: a row says all that search, refit, bundle and leaderboard must know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class Head:
    """One row of the catalogue: to add a head is to add a row.

    What is not in the row is scikit-learn's: a head that the shared work of the search does not
    know is fitted by its own classifier, fold by fold.

    Attributes
    ----------
    classifier : str
        `module:Class` of the scikit-learn classifier behind the StandardScaler.
    params : dict
        What is set differently from scikit-learn's defaults.
    grid : dict
        Classifier parameter -> values a search tries, the simplest or strongest regularised first:
        ties go to the earlier one.
    scores : str
        What the out-of-fold scores of the head are: "margins" (any real numbers, the largest wins),
        "logits" (their softmax gives the head's own probabilities) or "probabilities".
    weighted : bool
        Whether the classifier takes `class_weight`.
    per_feature : tuple of str
        Parameters whose numbers in the grid are divided by the number of varying features, as SVC's
        `gamma="scale"` is 1 divided by it on standardised features.
    bounded_by_rows : tuple of str
        Parameters that cannot exceed the number of training rows.
    keeps_rows : str or None
        The fitted attribute of the classifier that holds its training rows, if it keeps them.
    cost : int
        What a prediction costs: 1 where every training row kept is met, 0 where one product with
        a small matrix is all.
    is_baseline : bool
        Whether it is there to be beaten: a blend takes no part of it.
    is_linear : bool
        Whether its scores are `coef_` times the features and `intercept_`.
    trusted_types : tuple of str
        `module:Class` of what its file in a bundle may hold beside the pipeline, the scaler and the
        classifier.

    Examples
    --------
    >>> naive_bayes = Head("sklearn.naive_bayes:GaussianNB", scores="probabilities")
    >>> naive_bayes.prefix
    'gaussiannb__'
    """

    classifier: str
    params: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, tuple] = field(default_factory=dict)
    scores: str = "margins"
    weighted: bool = False
    per_feature: tuple[str, ...] = ()
    bounded_by_rows: tuple[str, ...] = ()
    keeps_rows: str | None = None
    cost: int = 0
    is_baseline: bool = False
    is_linear: bool = False
    trusted_types: tuple[str, ...] = ()

    @property
    def class_name(self) -> str:
        """The classifier's class without its module."""
        return self.classifier.split(":")[1]

    @property
    def prefix(self) -> str:
        """How scikit-learn's `make_pipeline` prefixes the classifier's parameters."""
        return self.class_name.lower() + "__"

    def load_class(self) -> "type[BaseEstimator]":
        """The classifier's class, its module imported now."""
        return getattr(import_module(self.classifier.split(":")[0]), self.class_name)

    def make_classifier(self) -> "BaseEstimator":
        """The unfitted classifier."""
        return self.load_class()(**self.params)


# what stands around the classifier of every head
STEPS = ("sklearn.pipeline:Pipeline", "sklearn.preprocessing:StandardScaler")

HEADS: dict[str, Head] = {
    "logistic": Head(
        "sklearn.linear_model:LogisticRegression",
        params={"max_iter": 1000},
        grid={"C": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)},
        scores="logits",
        weighted=True,
        is_linear=True,
    ),
    "linear_svm": Head(
        "sklearn.svm:LinearSVC",
        # the primal solver: deterministic, and it converges where the dual one stops at max_iter
        params={"dual": False},
        grid={"C": (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)},
        weighted=True,
        is_linear=True,
    ),
    "rbf_svm": Head(
        "sklearn.svm:SVC",
        grid={"C": (0.3, 1.0, 3.0, 10.0, 30.0), "gamma": (0.3, "scale", 3.0)},
        weighted=True,
        per_feature=("gamma",),
        keeps_rows="support_vectors_",
        cost=1,
    ),
    "knn": Head(
        "sklearn.neighbors:KNeighborsClassifier",
        grid={
            "n_neighbors": (25, 15, 10, 7, 5, 3, 1),
            "metric": ("euclidean", "cosine"),
            "weights": ("uniform", "distance"),
        },
        scores="probabilities",
        bounded_by_rows=("n_neighbors",),
        keeps_rows="_fit_X",
        cost=1,
    ),
    "ridge": Head(
        "sklearn.linear_model:RidgeClassifier",
        grid={"alpha": (1e6, 1e5, 1e4, 1e3, 100.0, 10.0, 1.0)},
        weighted=True,
        is_linear=True,
        trusted_types=("sklearn.preprocessing:LabelBinarizer",),
    ),
    "lda": Head(
        "sklearn.discriminant_analysis:LinearDiscriminantAnalysis",
        params={"solver": "eigen", "shrinkage": 0.5},
        grid={"shrinkage": (0.99, 0.9, 0.7, 0.5, 0.3, 0.1, 0.01)},
        scores="logits",
        is_linear=True,
    ),
    "centroid": Head("sklearn.neighbors:NearestCentroid"),
    "prior": Head("sklearn.dummy:DummyClassifier", scores="probabilities", is_baseline=True),
}

_SHIPPED = dict(HEADS)


def is_shipped() -> bool:
    """Whether the catalogue is that of the file: nothing was added or changed in this process."""
    return HEADS == _SHIPPED


def find_head(name: str) -> Head:
    """The row of a head.

    Parameters
    ----------
    name : str
        A key of `HEADS`.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        There is no such head; the message has the names most like it.

    Examples
    --------
    >>> find_head("ridge").grid["alpha"][0]
    1000000.0
    """
    if name in HEADS:
        return HEADS[name]
    alike = get_close_matches(str(name), HEADS, n=3, cutoff=0.5) or list(HEADS)
    raise ValueError(f"head {name!r} is unknown; did you mean {' or '.join(alike)}?")


def find_name(estimator: Any) -> str | None:
    """The name of the head that a pipeline is, by the class of its last step.

    Parameters
    ----------
    estimator : estimator, fitted or not

    Returns
    -------
    str or None
        A key of `HEADS`, of several rows with this class the first; None for what is no pipeline or
        ends in another class, a subclass included.

    Examples
    --------
    >>> find_name(make_head("knn", n_neighbors=3))
    'knn'
    """
    steps = getattr(estimator, "steps", None)
    if not steps:
        return None
    kind = type(steps[-1][1])
    for name, head in HEADS.items():
        # the name first: only the one class that it may be is imported
        if head.class_name == kind.__name__ and head.load_class() is kind:
            return name
    return None


def steps_of(estimator: Any) -> list:
    """The steps of a pipeline, or the estimator alone.

    Parameters
    ----------
    estimator : estimator, fitted or not

    Returns
    -------
    list of estimators

    Examples
    --------
    >>> steps_of(make_head("ridge"))
    [StandardScaler(), RidgeClassifier()]
    """
    return [step for _, step in getattr(estimator, "steps", [("", estimator)])]


def trusted_types() -> tuple[str, ...]:
    """The types that a head's file in a bundle may hold, of all heads, sorted.

    Returns
    -------
    tuple of str
        `module:Class`, such as `sklearn.svm:SVC`.

    Examples
    --------
    >>> trusted_types()[0]
    'sklearn.discriminant_analysis:LinearDiscriminantAnalysis'
    """
    own = {name for head in HEADS.values() for name in (head.classifier, *head.trusted_types)}
    return tuple(sorted(own | set(STEPS)))


def find_trusted(module: Any, name: Any) -> type | None:
    """The class that a head's file names, where it is among the trusted types.

    Parameters
    ----------
    module, name : str
        Of the class, as the file says; nothing is imported but what the table names.

    Returns
    -------
    type or None

    Examples
    --------
    >>> find_trusted("sklearn.svm._classes", "SVC").__name__
    'SVC'
    >>> find_trusted("os", "system")
    """
    for row in trusted_types():
        public, _, own = row.partition(":")
        if own == name:
            kind = getattr(import_module(public), own)
            return kind if kind.__module__ == module else None
    return None


def make_head(name: str, **params: Any) -> "Pipeline":
    """An unfitted head: an ordinary scikit-learn pipeline of StandardScaler and classifier.

    Parameters
    ----------
    name : str
        A key of `HEADS`.
    **params
        Parameters of the classifier, by plain (`C=0.1`) or pipeline name
        (`logisticregression__C=0.1`).

    Returns
    -------
    Pipeline

    Raises
    ------
    ValueError
        Unknown head or parameter.

    Examples
    --------
    >>> make_head("logistic", C=0.1).get_params()["logisticregression__C"]
    0.1
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = find_head(name)
    pipeline = make_pipeline(StandardScaler(), head.make_classifier())
    full = {key if "__" in key else head.prefix + key: value for key, value in params.items()}
    return pipeline.set_params(**full)
