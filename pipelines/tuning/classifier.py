"""FineTuneClassifier: a network trained further on images, as one scikit-learn estimator."""

import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from extract import FeatureExtractor, FeatureStore, Tuning
from extract.extractor import check_inputs
from pipelines.classifier import FOLDS, ImageClassifier, arrays_within, check_labels
from pipelines.evaluation.scoring import ACCURACY
from pipelines.tuning.training import (
    FOLDER,
    check_network,
    depth_within,
    hold_back,
    make_head,
    probe,
    tune_from,
    tuned_tap,
)


class FineTuneClassifier(ImageClassifier):
    """A network whose last blocks, or all of it, are trained further, with a linear layer on top.

    Linear probing comes first (Kumar et al., 2022): the layer begins as logistic regression on the
    frozen network's last layer.

    Parameters
    ----------
    backbone, weights, size, numerics, device, cache, seed, intensity, page, channels
        As in `FeatureExtractor`; the cache is a folder or None, in which activations, the tuned
        weights and how far a training has come are kept.
    unfreeze, rates, epochs, batch, schedule, warmup, weight_decay, augment, views, mixup
    smoothing, dropout, average, patience, precision, source
        As in `extract.Tuning`; of a network with no more blocks than the default depth, all but
        the first are trained.
    validation : float
        Share of the images that are not trained on: the epoch is chosen and the probabilities are
        calibrated by them.
    class_weight : None or "balanced"
        Of linear probing and of the calibration.

    Attributes
    ----------
    classes_ : array of shape (classes,)
        Labels in sorted order.
    extractor_ : FeatureExtractor
        Of the tuned network.
    head_ : fitted pipeline
        The new layer as logistic regression on standardised features.
    calibration_, rows_, fitted_on_, reference_
        As in `ImageClassifier`.
    accuracy_ : MeasuredAccuracy
        Of the validation images, by which the epoch was chosen: rather too high than too low.
    history_ : list of Epoch
        Losses and accuracy by epoch, the start first.
    network_file_ : str
        The tuned weights, as `load_backbone` takes them.
    validation_ : array of shape (n,), bool
        The images of `fit` that were not trained on.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile
    >>> images = np.random.default_rng(0).integers(0, 120, (20, 40, 40, 3), np.uint8)
    >>> images[::2, ..., 0] += 120
    >>> classifier = FineTuneClassifier(
    ...     "mobilenet_v3_small", "random", 32, unfreeze=1, epochs=1, views=1,
    ...     cache=tempfile.mkdtemp(),
    ... )
    >>> classifier.fit(images, ["red", "gray"] * 10).predict(images[:2]).shape
    (2,)
    >>> len(classifier.history_)
    2
    """

    def __init__(
        self,
        backbone: Any = "mobilenet_v2",
        weights: str | None = None,
        size: int | tuple[int, int] | None = None,
        unfreeze: int | str = Tuning.unfreeze,
        rates: Sequence[float] = Tuning.rates,
        epochs: int = Tuning.epochs,
        batch: int = Tuning.batch,
        schedule: str = Tuning.schedule,
        warmup: float = Tuning.warmup,
        weight_decay: float = Tuning.weight_decay,
        augment: str = Tuning.augment,
        views: int = Tuning.views,
        mixup: float = Tuning.mixup,
        smoothing: float = Tuning.smoothing,
        dropout: float = Tuning.dropout,
        average: bool = Tuning.average,
        patience: int = Tuning.patience,
        precision: str = Tuning.precision,
        source: str = Tuning.source,
        validation: float = 0.2,
        numerics: str = "auto",
        device: str = "auto",
        cache: Any = None,
        seed: int = 0,
        intensity: Any = "auto",
        page: int = 1,
        channels: Any = None,
        class_weight: str | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.size = size
        self.unfreeze = unfreeze
        self.rates = rates
        self.epochs = epochs
        self.batch = batch
        self.schedule = schedule
        self.warmup = warmup
        self.weight_decay = weight_decay
        self.augment = augment
        self.views = views
        self.mixup = mixup
        self.smoothing = smoothing
        self.dropout = dropout
        self.average = average
        self.patience = patience
        self.precision = precision
        self.source = source
        self.validation = validation
        self.numerics = numerics
        self.device = device
        self.cache = cache
        self.seed = seed
        self.intensity = intensity
        self.page = page
        self.channels = channels
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, groups: Any = None) -> "FineTuneClassifier":
        """Fit a linear layer on the frozen network, then train both further.

        Parameters
        ----------
        X : n paths, n PIL images or a uint8 array of shape (n, height, width, 3)
        y : array of shape (n,), labels
        groups : array of shape (n,), optional
            Images that show one thing: they are trained on together, or not at all.

        Raises
        ------
        ImageError
            An image that can't be read.
        ValueError, ExtractError, DataError
            Parameters that can't be used, or classes too small for a validation part.
        """
        y = check_labels(X, y)
        X = check_inputs(X)
        if self.cache is False:
            raise ValueError("cache=False: expected a folder or None, where the weights are kept")
        tuning = self._tuning()
        tuning.check()
        if not (isinstance(self.validation, Real) and 0 < self.validation < 1):
            raise ValueError(f"validation={self.validation!r}: expected a share in (0, 1)")
        before = self._extractor_of(self.backbone, self.weights, self.size)
        backbone = before.load_backbone()
        tuning = replace(tuning, unfreeze=depth_within(backbone, tuning.unfreeze))
        check_network(backbone, tuning)
        groups = None if groups is None else np.asarray(groups)
        held = hold_back(y, groups, self.validation, self.seed)
        store = FeatureStore(self.cache)
        with arrays_within():
            features = before.fit_transform(X)
            head = probe(
                features[~held],
                y[~held],
                None if groups is None else groups[~held],
                FOLDS,
                ACCURACY,
                self.class_weight,
                self.seed,
            )
            tuned = tune_from(
                head,
                X,
                y,
                held,
                backbone,
                tuned_tap(backbone),
                tuning,
                folder=store.cache / FOLDER,
                store=store,
                numerics=before.numerics_,
                device=self.device,
                reading=before.reading_,
            )
            extractor = self._extractor_of(os.fspath(tuned.file), None, None)
            features = extractor.fit_transform(X)
            made = make_head(
                tuned,
                features[held],
                y[held],
                np.unique(y),
                self.class_weight,
                None if groups is None else groups[held],
            )
        reference = self._make_reference(extractor, features, X, y)
        self.assemble(extractor, made.estimator, made.calibration, reference=reference)
        self.accuracy_ = made.measured(y[held])
        self.history_ = tuned.history
        self.network_file_ = os.fspath(tuned.file)
        self.validation_ = held
        return self

    def _tuning(self) -> Tuning:
        own = self.get_params(deep=False)
        names = Tuning().to_dict()
        return Tuning(**{name: own[name] for name in names})

    def _extractor_of(self, backbone: Any, weights: Any, size: Any) -> FeatureExtractor:
        return FeatureExtractor(
            backbone=backbone,
            weights=weights,
            size=size,
            numerics=self.numerics,
            device=self.device,
            cache=self.cache,
            seed=self.seed,
            intensity=self.intensity,
            page=self.page,
            channels=self.channels,
        )
