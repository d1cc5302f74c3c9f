"""The catalogue of heads: which classifier each name stands for and which values a search tries."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module


@dataclass(frozen=True)
class Head:
    """One row of the catalogue.

    Attributes
    ----------
    classifier : str
        `module:Class` of the scikit-learn classifier behind the StandardScaler.
    params : dict
        What is set differently from scikit-learn's defaults.
    grid : dict
        Classifier parameter -> values a search tries, the simplest or strongest regularised first: ties go to
        the earlier one.
    scores : str
        What the out-of-fold scores of the head are: "margins" (any real numbers, the largest wins), "logits"
        (their softmax gives the head's own probabilities) or "probabilities".
    weighted : bool
        Whether the classifier takes `class_weight`.
    per_feature : tuple of str
        Parameters whose numbers in the grid are divided by the number of varying features, as SVC's
        `gamma="scale"` is 1 divided by it on standardised features.
    """

    classifier: str
    params: dict = field(default_factory=dict)
    grid: dict = field(default_factory=dict)
    scores: str = "margins"
    weighted: bool = False
    per_feature: tuple = ()

    @property
    def prefix(self):
        """How scikit-learn's `make_pipeline` prefixes the classifier's parameters."""
        return self.classifier.split(":")[1].lower() + "__"

    def make_classifier(self):
        """The unfitted classifier, its module imported now."""
        module, name = self.classifier.split(":")
        return getattr(import_module(module), name)(**self.params)


HEADS = {
    "logistic": Head(
        "sklearn.linear_model:LogisticRegression",
        params={"max_iter": 1000},
        grid={"C": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)},
        scores="logits",
        weighted=True,
    ),
    "linear_svm": Head(
        "sklearn.svm:LinearSVC",
        # the primal solver: deterministic, and it converges where the dual one stops at max_iter
        params={"dual": False},
        grid={"C": (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)},
        weighted=True,
    ),
    "rbf_svm": Head(
        "sklearn.svm:SVC",
        grid={"C": (0.3, 1.0, 3.0, 10.0, 30.0), "gamma": (0.3, "scale", 3.0)},
        weighted=True,
        per_feature=("gamma",),
    ),
    "knn": Head(
        "sklearn.neighbors:KNeighborsClassifier",
        grid={
            "n_neighbors": (25, 15, 10, 7, 5, 3, 1),
            "metric": ("euclidean", "cosine"),
            "weights": ("uniform", "distance"),
        },
        scores="probabilities",
    ),
    "ridge": Head(
        "sklearn.linear_model:RidgeClassifier",
        grid={"alpha": (1e6, 1e5, 1e4, 1e3, 100.0, 10.0, 1.0)},
        weighted=True,
    ),
    "lda": Head(
        "sklearn.discriminant_analysis:LinearDiscriminantAnalysis",
        params={"solver": "eigen", "shrinkage": 0.5},
        grid={"shrinkage": (0.99, 0.9, 0.7, 0.5, 0.3, 0.1, 0.01)},
        scores="logits",
    ),
    "centroid": Head("sklearn.neighbors:NearestCentroid"),
    "prior": Head("sklearn.dummy:DummyClassifier", scores="probabilities"),
}


def find_head(name):
    """The row of a head; ValueError with the nearest names when there is none."""
    if name in HEADS:
        return HEADS[name]
    near = get_close_matches(str(name), HEADS, n=3, cutoff=0.5) or HEADS
    raise ValueError(f"head {name!r} is unknown; did you mean {' or '.join(near)}?")


def make_head(name, **params):
    """An unfitted head: an ordinary scikit-learn pipeline of StandardScaler and classifier.

    Parameters
    ----------
    name : str
        A key of `HEADS`.
    **params
        Parameters of the classifier, by plain (`C=0.1`) or pipeline name (`logisticregression__C=0.1`).

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
