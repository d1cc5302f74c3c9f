"""ImageClassifier: from image files to class names, as one scikit-learn estimator."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from extract import FeatureExtractor
from heads import answers, fit_calibration, fit_head, probabilities, training_rows
from pipelines.evaluate import search_heads
from pipelines.scoring import find_scoring

FOLDS = 5


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """A frozen network's features and a head on them.

    Parameters
    ----------
    head : name of a head, whose parameters are then chosen by cross-validation on the training images, or a
        scikit-learn classifier, used as it is.
    layer, pooling, backbone, weights, size, numerics, device, cache, keep, seed, flips : as in FeatureExtractor.
    scoring : what the parameters of a named head are chosen by: `accuracy`, `balanced_accuracy`, `f1_macro`,
        `neg_log_loss`, or `roc_auc` for two classes.
    class_weight : None, or "balanced" for named heads whose classifier takes weights.

    Attributes
    ----------
    classes_ : (classes,) labels in sorted order.
    extractor_ : FeatureExtractor. head_ : fitted scikit-learn classifier on (n, d) features.
    calibration_ : Calibration of the head's scores where it has no probabilities of its own, else None.
    rows_ : training rows (m, d) that the head keeps, unscaled, for a bundle without waste; else None.
    """

    def __init__(
        self,
        head="logistic",
        layer=None,
        pooling="avg",
        backbone="mobilenet_v2",
        weights=None,
        size=None,
        numerics="auto",
        device="auto",
        cache=None,
        keep=(),
        seed=0,
        flips=False,
        scoring="accuracy",
        class_weight=None,
    ):
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
        self.flips = flips
        self.scoring = scoring
        self.class_weight = class_weight

    def fit(self, X, y) -> "ImageClassifier":
        """X: n paths, PIL images or a uint8 array (n, height, width, 3); y: (n,) labels.

        Raises ImageError for an image that can't be read, ValueError for parameters that can't be used.
        """
        if y is None:
            raise ValueError("got no labels: expected one for each image")
        y = np.asarray(y)
        check_classification_targets(y)
        if len(X) != len(y):
            raise ValueError(
                f"got {len(X)} images and {len(y)} labels: expected one label for each image"
            )
        if len(np.unique(y)) < 2:
            raise ValueError(f"got the one class {y[0]!r}: expected two classes or more")
        find_scoring(self.scoring, len(np.unique(y)))
        extractor = self._make_extractor()
        features = extractor.fit_transform(X)
        head, calibration = self._fit_head(features, y)
        return self.assemble(extractor, head, calibration, training_rows(head, features))

    def assemble(self, extractor, head, calibration=None, rows=None) -> "ImageClassifier":
        """Become fitted from an extractor, a head fitted on its features, its calibration, its `training_rows`."""
        self.extractor_, self.head_, self.calibration_, self.rows_ = (
            extractor,
            head,
            calibration,
            rows,
        )
        self.classes_ = head.classes_
        return self

    def predict(self, X) -> np.ndarray:
        """(n,) labels."""
        check_is_fitted(self)
        return self.head_.predict(self.extractor_.transform(X))

    def predict_proba(self, X) -> np.ndarray:
        """(n, classes) probabilities, calibrated on out-of-fold scores for heads that give none."""
        check_is_fitted(self)
        return probabilities(self.head_, self.calibration_, self.extractor_.transform(X))

    def predict_readable(self, X):
        """Passing over images that can't be read -> (rows read, their labels, probabilities, {row: ImageError})."""
        check_is_fitted(self)
        rows, features, bad = self.extractor_.transform_readable(X)
        if not len(rows):
            return rows, np.empty(0, self.classes_.dtype), np.empty((0, len(self.classes_))), bad
        return rows, *answers(self.head_, self.calibration_, features), bad

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def _make_extractor(self):
        names = set(FeatureExtractor().get_params())
        return FeatureExtractor(
            **{k: v for k, v in self.get_params(deep=False).items() if k in names}
        )

    def _fit_head(self, features, y):
        if not isinstance(self.head, str):
            return clone(self.head).fit(features, y), None
        folds = min(FOLDS, np.unique(y, return_counts=True)[1].min())
        if folds < 2:
            raise ValueError(
                "a class has a single image: expected two or more, or pass a head that is an estimator"
            )
        scoring = find_scoring(self.scoring)
        best = search_heads(
            features, y, int(folds), [self.head], scoring, self.class_weight, self.seed
        )[0][self.head]
        head = fit_head(self.head, best["params"], features, y, self.class_weight)
        if hasattr(head, "predict_proba"):
            return head, None
        return head, fit_calibration(best["oof"], y, np.unique(y))
