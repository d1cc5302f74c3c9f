"""A network trained further from a frozen head, and its new layer as a head like any other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data import DataError, hold_out
from data.names import counted
from data.splits import folds
from extract import Backbone, NewLayer, Tap, Tuned, Tuning, parse_taps, tune_network
from extract.tuning.parts import divide, trained_blocks
from extract.tuning.settings import ALL
from heads import Calibration, fit_calibration, head_logits, oof_probabilities
from heads.layer import head_of, layer_of
from heads.search import fit_head
from pipelines.classifier import MeasuredAccuracy
from pipelines.errors import WrongSetting
from pipelines.evaluation.scoring import Scoring
from pipelines.evaluation.search import Search, search_heads
from pipelines.evaluation.ways import parts_of
from pipelines.report.following import NO_LIBRARYS

HEAD = "logistic"
FOLDER = "tuned"  # of the cache, in which weights lie and how far a training has come


def tuned_tap(backbone: Backbone) -> Tap:
    """What the new layer stands on: the average of the last layer, as is usual."""
    last = backbone.card.choose_layers("auto")[-1]
    return parse_taps(last, "avg")[0]


def depth_within(backbone: Backbone, unfreeze: int | str) -> int | str:
    """How much is trained: of a network with no more blocks than the default, all but the first.

    Any other depth is taken as it is, and `check_network` refuses one that there is not.
    """
    card = backbone.card
    if unfreeze != Tuning.unfreeze or card.architecture.startswith(NO_LIBRARYS):
        return unfreeze
    *blocks, _ = trained_blocks(card, tuned_tap(backbone), ALL)[0]  # the stem is none
    return max(min(Tuning.unfreeze, len(blocks) - 1), 1)


def check_network(backbone: Backbone, tuning: Tuning) -> None:
    """Refuse a network that can't be tuned so, before anything is computed.

    Raises WrongSetting for one that is none of a library's, ExtractError for one that has fewer
    blocks than are to be trained.
    """
    card = backbone.card
    if card.architecture.startswith(NO_LIBRARYS):
        raise WrongSetting(
            "backbone",
            backbone.name,
            "expected a network of torchvision, timm or the hub: the weights of your own are yours "
            "to train, and ImageClassifier(backbone=module) takes them",
        )
    blocks, _ = trained_blocks(card, tuned_tap(backbone), tuning.unfreeze)
    divide(blocks, tuning)


def hold_back(
    labels: np.ndarray,
    groups: np.ndarray | None,
    share: float,
    seed: int,
    keys: Sequence | None = None,
) -> np.ndarray:
    """(n,) bool: which training images the network is not trained on, about this share by class.

    groups : what shows one thing is on one side. keys : as in `hold_out`.

    Raises DataError where a class has too few images, or groups, for both sides, and WrongSetting
    where this share leaves it fewer than two to train on, which linear probing divides again.
    """
    try:
        _, held = hold_out(labels, groups, share, seed, keys)
    except DataError as error:
        raise DataError(f"a validation part of the training images: {error}") from error
    is_held = np.zeros(len(labels), bool)
    is_held[held] = True
    units = np.arange(len(labels)) if groups is None else groups
    for name in np.unique(labels):
        left = len(np.unique(units[(labels == name) & ~is_held]))
        if left < 2:
            number = counted(left, "image" if groups is None else "group")
            raise WrongSetting(
                "validation",
                share,
                f"leaves class {str(name)!r} {number} to train on: expected 2 or more",
            )
    return is_held


def probe(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    n_folds: int,
    scoring: Scoring,
    class_weight: str | None,
    seed: int,
) -> Any:
    """Linear probing: the logistic head from which tuning begins, C by cross-validation.

    features : (n, d) of the images that are trained on, as `hold_back` leaves them. n_folds : at
    most.
    """
    units = np.arange(len(labels)) if groups is None else groups
    least = min(len(np.unique(units[labels == name])) for name in np.unique(labels))
    made = folds(labels, min(n_folds, least), groups, seed)
    search = Search([HEAD], made, scoring, class_weight, seed)
    best = search_heads(features, labels, search).best[HEAD]
    return fit_head(HEAD, best.params, features, labels, class_weight)


@dataclass(frozen=True)
class TunedHead:
    """The new layer as a head on the tuned network's features.

    held : (n_validation, classes) its probabilities of the validation images, by a calibration
        that was fitted on others of them.
    """

    estimator: Any
    calibration: Calibration
    held: np.ndarray

    def measured(self, labels: np.ndarray) -> MeasuredAccuracy:
        """Its accuracy on the validation images, which have these labels."""
        predicted = self.estimator.classes_[self.held.argmax(axis=1)]
        return MeasuredAccuracy.of(labels, predicted, "folds")


def tune_from(
    head: Any,
    inputs: Sequence,
    labels: np.ndarray,
    held: np.ndarray,
    backbone: Backbone,
    tap: Tap,
    tuning: Tuning,
    **how: Any,
) -> Tuned:
    """Train the network further, from the head of `probe` on (Kumar et al., 2022).

    labels : (n,). held : (n,) bool, of the validation images. how : as in `tune_network`.
    """
    targets = np.unique(labels, return_inverse=True)[1]
    start = NewLayer(tap, *layer_of(head))
    return tune_network(inputs, targets, held, backbone, start, tuning, **how)


def make_head(
    tuned: Tuned,
    features: np.ndarray,
    labels: np.ndarray,
    classes: np.ndarray,
    class_weight: str | None = None,
    groups: np.ndarray | None = None,
) -> TunedHead:
    """The new layer as a head, its probabilities calibrated on the validation images.

    features : (n_validation, d) of the tuned network. labels, groups : (n_validation,).
    """
    layer = tuned.layer
    estimator = head_of(layer.mean, layer.scale, layer.weight, layer.bias, classes)
    logits = head_logits(estimator, features)
    codes = np.searchsorted(classes, labels)
    parts = parts_of(codes, groups)
    shares = oof_probabilities(logits, "logits", labels, classes, parts, class_weight)
    return TunedHead(estimator, fit_calibration(logits, labels, classes, class_weight), shares)
