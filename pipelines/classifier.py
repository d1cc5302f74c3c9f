"""ImageClassifier: from image files to class names, as one scikit-learn estimator."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from data import ImageError
from extract import FeatureExtractor
from extract.extractor import JoinedExtractor, check_inputs
from extract.notebook import ShownEstimator
from extract.pooling import refuse_maps
from heads import HEADS, Calibration, as_logits, fit_calibration
from heads.blended import answers, probabilities
from heads.rows import training_rows
from pipelines.evaluation.frames import make_frame, probability_columns
from pipelines.evaluation.scoring import find_scoring
from pipelines.exploration.reference import Names, Reference, fit_reference

FOLDS = 5
SVM_SHAPE = "decision_function_shape"


@dataclass(frozen=True)
class Judged:
    """What a classifier says of images.

    Attributes
    ----------
    rows : array of shape (m,), int
        Places of the images that could be read, which all else is about.
    labels : array of shape (m,)
        The most probable classes.
    probabilities : array of shape (m, classes)
    familiarity : array of shape (m,) or None
        Which share of the training images is as far from the others, or farther: of images like
        these 5 % are below 0.05. None of a bundle that was made without.
    bad : {int: ImageError}
        By place, of those that could not be read.
    """

    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    familiarity: np.ndarray | None
    bad: dict[int, ImageError]


@dataclass(frozen=True)
class MeasuredAccuracy:
    """Share of images predicted right that the heads were not trained on.

    Attributes
    ----------
    right, images : int
        So many of so many.
    on : str
        "test": images that took part in no choice. "folds": the training images out of fold, by
        which the parameters were chosen as well, so rather too high than too low.
    """

    right: int
    images: int
    on: str

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, on: str) -> "MeasuredAccuracy":
        """Of n labels and what was predicted."""
        return cls(int(np.sum(labels == predicted)), len(labels), on)

    @property
    def value(self) -> float:
        """The share."""
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end at 95 % (Wilson, 1927)."""
        # here: whoever predicts needs none of it
        from pipelines.evaluation.intervals import wilson_interval

        return wilson_interval(self.right, self.images)


# a fitted head, the calibration of its scores and what it is worth, where these are known
Fitted = tuple[Any, Calibration | None, MeasuredAccuracy | None]


class ImageClassifier(ClassifierMixin, ShownEstimator):
    """A frozen network's features and a head on them.

    Parameters
    ----------
    head : str or estimator
        Name of a head, whose parameters are then chosen by cross-validation on the training images,
        or a scikit-learn classifier, used as it is. One without `predict_proba` is calibrated on
        its out-of-fold `decision_function`.
    layer, pooling, backbone, weights, size, numerics, device, cache, keep, seed, view, intensity
    page, channels
        As in `FeatureExtractor`.
    scoring : str
        What the parameters of a named head are chosen by: "accuracy", "balanced_accuracy",
        "f1_macro", "neg_log_loss", or "roc_auc" for two classes.
    class_weight : None or "balanced"
        For named heads whose classifier takes weights.

    Attributes
    ----------
    classes_ : array of shape (classes,)
        Labels in sorted order.
    extractor_ : FeatureExtractor or JoinedExtractor
    head_ : fitted scikit-learn classifier on (n, d) features
    calibration_ : Calibration or None
        Of the head's scores; None for an estimator of one's own that has `predict_proba`, whose
        probabilities it takes.
    rows_ : array of shape (m, d) or None
        Training rows that the head keeps, unscaled, for a bundle without waste.
    fitted_on_ : {"train", "all"} or None
        The images of the run that it comes from that the head was fitted on; None where it comes
        from no run.
    reference_ : Reference or None
        The training images in the features, by which an image's familiarity is told; None of a
        bundle that was made without.
    accuracy_ : MeasuredAccuracy or None
        What is to be expected: on a run's test images, or out of fold on the training images; None
        where it was not measured.
    """

    def __init__(
        self,
        head: Any = "logistic",
        layer: str | None = None,
        pooling: str = "avg",
        backbone: Any = "mobilenet_v2",
        weights: str | None = None,
        size: int | tuple[int, int] | None = None,
        numerics: str = "auto",
        device: str = "auto",
        cache: Any = None,
        keep: Sequence[str] = (),
        seed: int = 0,
        view: str = "plain",
        intensity: Any = "auto",
        page: int = 1,
        channels: Any = None,
        scoring: str = "accuracy",
        class_weight: str | None = None,
    ) -> None:
        self.head = head
        self.layer = layer
        self.pooling = pooling
        self.backbone = backbone
        self.weights = weights
        self.size = size
        self.numerics = numerics
        self.device = device
        self.cache = cache
        self.keep = keep
        self.seed = seed
        self.view = view
        self.intensity = intensity
        self.page = page
        self.channels = channels
        self.scoring = scoring
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any) -> "ImageClassifier":
        """Compute the features and fit the head on them.

        Parameters
        ----------
        X : n paths, n PIL images or a uint8 array of shape (n, height, width, 3)
        y : array of shape (n,), labels

        Raises
        ------
        ImageError
            An image that can't be read.
        ValueError
            Parameters that can't be used, or labels of one class.
        """
        y = check_labels(X, y)
        find_scoring(self.scoring, len(np.unique(y)))
        extractor = self._make_extractor()
        refuse_maps(extractor.taps())
        with arrays_within():
            features = extractor.fit_transform(X)
            head, calibration, accuracy = self._fit_head(features, y)
        reference = self._make_reference(extractor, features, X, y)
        rows = training_rows(head, features)
        self.assemble(extractor, head, calibration, rows, reference=reference)
        self.accuracy_: MeasuredAccuracy | None = accuracy
        return self

    def assemble(
        self,
        extractor: FeatureExtractor | JoinedExtractor,
        head: Any,
        calibration: Calibration | None = None,
        rows: np.ndarray | None = None,
        fitted_on: str | None = None,
        reference: Reference | None = None,
    ) -> "ImageClassifier":
        """Become fitted from an extractor and a head on its features."""
        self.extractor_ = extractor
        self.head_ = head
        self.calibration_ = calibration
        self.rows_ = rows
        self.fitted_on_ = fitted_on
        self.reference_ = reference
        self.classes_ = head.classes_
        self.accuracy_ = None
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(n,) labels: the most probable class, of an estimator of one's own too.

        Its own `predict` may say another, such as a vote of margins.
        """
        check_is_fitted(self)
        with arrays_within():
            return answers(self.head_, self.calibration_, self.extractor_.transform(X))[0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes) probabilities: of the calibration of the head's scores, or its own."""
        check_is_fitted(self)
        with arrays_within():
            return probabilities(self.head_, self.calibration_, self.extractor_.transform(X))

    def predict_readable(
        self, X: Sequence
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, ImageError]]:
        """Predict, passing over images that can't be read.

        Returns
        -------
        rows (m,) read, their labels (m,), probabilities (m, classes), {row: ImageError} of the
        others
        """
        found = self.judge(X)
        return found.rows, found.labels, found.probabilities, found.bad

    def judge(self, X: Sequence) -> Judged:
        """Predict and say how familiar each image is, passing over those that can't be read.

        Parameters
        ----------
        X : n paths, n PIL images or a uint8 array of shape (n, height, width, 3)

        Returns
        -------
        Judged
        """
        check_is_fitted(self)
        rows, features, bad = self.extractor_.transform_readable(X)
        labels, shares = np.empty(0, self.classes_.dtype), np.empty((0, len(self.classes_)))
        if len(rows):
            with arrays_within():
                labels, shares = answers(self.head_, self.calibration_, features)
        familiarity = None
        if self.reference_ is not None:
            familiarity = self.reference_.familiarity(features) if len(rows) else np.empty(0)
        return Judged(rows, labels, shares, familiarity, bad)

    def predict_frame(self, X: Any) -> Any:
        """What is predicted of images as a pandas DataFrame, also of those that can't be read.

        Parameters
        ----------
        X : n paths, PIL images or a uint8 array

        Returns
        -------
        pandas.DataFrame
            A row for each image: `path` (its number where it has none), `label`, `probability`,
            `familiarity`, `error`, and `probability_CLASS` of each class; the index is that of X
            where it has one. Where an image can't be read, all but `path` and `error` is missing.

        Raises
        ------
        ImportError
            Where pandas is not installed.
        """
        index = X.index if hasattr(X, "iloc") else None
        inputs = check_inputs(X)
        found = self.judge(inputs)
        n, rows = len(inputs), found.rows
        columns = {
            "path": _names_of(inputs),
            "label": _spread(n, rows, found.labels),
            "probability": _spread(n, rows, found.probabilities.max(axis=1, initial=0)),
            "familiarity": _spread(n, rows, found.familiarity),
            "error": [found.bad[row].reason if row in found.bad else None for row in range(n)],
        }
        shares = np.full((n, len(self.classes_)), np.nan)
        shares[rows] = found.probabilities
        return make_frame(columns | probability_columns(self.classes_, shares), index)

    def explain(self, X: Any) -> list:
        """Why images have their labels: where in each the evidence for its label lies.

        Parameters
        ----------
        X : n paths, PIL images or a uint8 array

        Returns
        -------
        list of n Explanation

        Raises
        ------
        ImageError
            For the first image that can't be read.
        """
        check_is_fitted(self)
        # here: whoever predicts needs none of it
        from pipelines.explanation import explain

        found = []
        with arrays_within():
            for own in explain(self, X):
                if isinstance(own, ImageError):
                    raise own
                found.append(own)
        return found

    def _own_view(self) -> str:
        # here: whoever predicts needs none of it
        from pipelines.notebook import classifier_view

        return classifier_view(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def _make_extractor(self) -> FeatureExtractor:
        names = set(FeatureExtractor().get_params())
        own = self.get_params(deep=False)
        return FeatureExtractor(**{name: value for name, value in own.items() if name in names})

    def _make_reference(
        self, extractor: FeatureExtractor, features: np.ndarray, X: Any, y: np.ndarray
    ) -> Reference | None:
        """The training images as a reference; None where a class has one image alone."""
        counts = np.unique(y, return_counts=True)[1]
        if counts.min() < 2:
            return None
        # here: whoever predicts needs none of it
        from sklearn.model_selection import StratifiedKFold

        folds = StratifiedKFold(min(FOLDS, counts.min()), shuffle=True, random_state=self.seed)
        names = Names(np.array(_names_of(X), object), y.astype(str), extractor.extraction_.ids)
        return fit_reference(features, list(folds.split(features, y)), names)

    def _fit_head(self, features: np.ndarray, y: np.ndarray) -> Fitted:
        if not isinstance(self.head, str):
            return self._fit_estimator(features, y)
        folds = _folds(y)
        # here: whoever predicts needs none of it
        from heads.search import fit_head
        from pipelines.evaluation.search import Search, search_heads

        scoring = find_scoring(self.scoring)
        search = Search([self.head], folds, scoring, self.class_weight, self.seed, n_jobs=None)
        best = search_heads(features, y, search).best[self.head]
        head = fit_head(self.head, best.params, features, y, self.class_weight)
        logits = as_logits(best.oof, HEADS[self.head].scores)
        calibration = fit_calibration(logits, y, np.unique(y), self.class_weight)
        return head, calibration, _measured(calibration, logits, y)

    def _fit_estimator(self, features: np.ndarray, y: np.ndarray) -> Fitted:
        """An estimator of one's own, and a calibration where it gives scores alone."""
        if hasattr(self.head, "predict_proba"):
            return clone(self.head).fit(features, y), None, None
        if not hasattr(self.head, "decision_function"):
            raise ValueError(
                f"head={type(self.head).__name__} gives neither probabilities nor scores: expected "
                "an estimator with predict_proba or decision_function"
            )
        parameters = self.head.get_params().items()
        if any(name.endswith(SVM_SHAPE) and value == "ovo" for name, value in parameters):
            raise ValueError(f'{SVM_SHAPE}="ovo" gives a score for each pair: expected "ovr"')
        # here: whoever predicts needs none of it
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        folds = StratifiedKFold(_folds(y), shuffle=True, random_state=self.seed)
        scores = cross_val_predict(self.head, features, y, cv=folds, method="decision_function")
        calibration = fit_calibration(scores, y, np.unique(y))
        return clone(self.head).fit(features, y), calibration, _measured(calibration, scores, y)


def check_labels(X: Any, y: Any) -> np.ndarray:
    """(n,) labels, one for each image; ValueError where they are not, or are of one class."""
    if y is None:
        raise ValueError("got no labels: expected one for each image")
    y = np.asarray(y)
    check_classification_targets(y)
    if len(X) != len(y):
        raise ValueError(
            f"got {len(X)} images and {len(y)} labels: expected one label for each image"
        )
    if len(np.unique(y)) < 2:
        raise ValueError(f"got the one class {y.tolist()[0]!r}: expected two classes or more")
    return y


def arrays_within() -> Any:
    """A context in which scikit-learn's transformers give arrays, whatever is set globally."""
    return config_context(transform_output="default")


def _measured(calibration: Calibration, scores: np.ndarray, y: np.ndarray) -> MeasuredAccuracy:
    """Of out-of-fold scores, answered as `predict` will."""
    predicted = np.unique(y)[calibration.probabilities(scores).argmax(axis=1)]
    return MeasuredAccuracy.of(y, predicted, "folds")


def _spread(n: int, rows: np.ndarray, values: np.ndarray | None) -> np.ndarray:
    """(n,) values at the rows that have them; elsewhere None, of figures NaN."""
    is_figure = values is None or values.dtype.kind == "f"
    found = np.full(n, np.nan if is_figure else None, float if is_figure else object)
    if values is not None:
        found[rows] = values
    return found


def _names_of(X: Any) -> list[str]:
    """Paths as text, of other images their number."""
    return [
        os.fsdecode(image) if isinstance(image, (str, os.PathLike)) else f"image {number}"
        for number, image in enumerate(X)
    ]


def _folds(y: np.ndarray) -> int:
    """How many folds the smallest class is enough for."""
    least = int(np.unique(y, return_counts=True)[1].min())
    if least < 2:
        raise ValueError(
            "a class has a single image: expected two or more, "
            "or pass a head that is an estimator with predict_proba"
        )
    return min(FOLDS, least)
