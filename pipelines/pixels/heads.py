"""What tells a pixel's class from the activations at its place: a logistic head, or a forest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.cores import cores
from heads import HeadSearchCV, make_head
from heads.linear_scores import linear_scores
from pipelines.pixels.grids import enlarge, middles

FOLDS = 3
# activations that strengths are tried on: the search holds many times as many in memory
MOST_SEARCHED, LEAST_SEARCHED = 1 << 22, 1000
TREES = 100
# pixels of few images are alike: leaves of single ones would learn them by heart
LEAF = 5
BAND = 1 << 14  # places whose joined activations are in memory together
LEAST = 1e-6  # probability of a class of which a forest has no vote


@dataclass(frozen=True, eq=False)
class ScoreMaps:
    """Scores of an image's places, before they are laid over its pixels.

    maps : of (classes, height, width) each, on grids of their own; their bilinear values are added
    up. bias : (classes,) that is added to the sum. as_log : whether the sum is of probabilities,
    whose logarithm is the score.
    """

    maps: Sequence[np.ndarray]
    bias: np.ndarray
    as_log: bool = False

    def at(self, down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """(classes, rows, columns) at all crossings of places in shares of the sides."""
        total = sum(enlarge(own, down, across) for own in self.maps)
        if self.as_log:
            total = np.log(np.maximum(total, LEAST))
        return total + self.bias[:, None, None]


@dataclass(frozen=True)
class Choice:
    """What does best on pixels of other images.

    end : of the columns that are taken. strength : C of a logistic regression on so many pixels as
    it was chosen on, `n_pixels`.
    """

    end: int
    strength: float
    n_pixels: int


@dataclass(frozen=True)
class PixelHead:
    """One row of the table of heads.

    fit: (X (n, d), y (n,), Choice, seed) -> what `score` takes. score: (what was fitted, maps of
    (channels, height, width)) -> ScoreMaps.
    """

    fit: Callable[[np.ndarray, np.ndarray, Choice, int], Any]
    score: Callable[[Any, Sequence[np.ndarray]], ScoreMaps]


def choose(
    X: np.ndarray, y: np.ndarray, groups: np.ndarray, ends: Sequence[int], seed: int
) -> Choice:
    """Up to which layer activations are taken, and how strong a logistic head is.

    Few images have few cells of a deep layer, and many channels there: a head would know the images
    by them. So how deep it goes is chosen with the strength, by the log loss in a cross-validation
    that never has pixels of one image on both sides; of equals the shallower.

    Parameters
    ----------
    X : (n, d) float32
        Activations, layer by layer.
    y, groups : (n,)
        Classes and images.
    ends : sequence of int
        Numbers of columns to choose from, in order.
    seed : int
        Of the folds, and of the pixels that it is tried on.
    """
    n_pixels = max(MOST_SEARCHED // X.shape[1], LEAST_SEARCHED)
    rows = np.sort(np.random.default_rng(seed).permutation(len(y))[:n_pixels])
    n_images = len(np.unique(groups[rows]))
    # of one image there are no others: its own pixels have to do
    folds, own = (min(FOLDS, n_images), groups[rows]) if n_images > 1 else (FOLDS, None)
    searches = []
    for end in ends:
        search = HeadSearchCV(
            ["logistic"], cv=folds, scoring="neg_log_loss", refit=False, random_state=seed
        )
        searches.append(search.fit(X[rows, :end], y[rows], groups=own))
    best = max(range(len(ends)), key=lambda place: searches[place].best_score_)
    strength = searches[best].best_params_["logisticregression__C"]
    return Choice(ends[best], strength, len(rows))


def _fit_logistic(X: np.ndarray, y: np.ndarray, choice: Choice, seed: int) -> Any:
    # losses are summed: as much strength for each pixel as where it was chosen
    C = choice.strength * choice.n_pixels / len(y)
    return make_head("logistic", C=C).fit(X[:, : choice.end], y)


def _fit_forest(X: np.ndarray, y: np.ndarray, choice: Choice, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, random_state=seed, n_jobs=cores())
    return forest.fit(X[:, : choice.end], y)


def _score_logistic(estimator: Any, maps: Sequence[np.ndarray]) -> ScoreMaps:
    """Scores on each layer's own grid.

    The scores are sums of weighted activations, and so is a bilinear value: to weigh first and to
    enlarge a map of each class gives what weighing the enlarged channels would, to rounding, for a
    hundredth of the work.
    """
    linear = linear_scores(estimator)
    assert linear is not None
    ends = np.cumsum([len(own) for own in maps])[:-1]
    weights = np.split(linear.weights.astype(np.float32), ends, axis=1)
    scores = [np.tensordot(own, cells, 1) for own, cells in zip(weights, maps, strict=True)]
    return ScoreMaps(scores, linear.bias - linear.weights @ linear.centre)


def _score_forest(estimator: Any, maps: Sequence[np.ndarray]) -> ScoreMaps:
    """Probabilities on the finest layer's grid, to which the others are enlarged."""
    height, width = max((own.shape[1:] for own in maps), key=np.prod)
    down, across = middles(height), middles(width)
    step = max(1, BAND // width)
    bands = []
    for at in range(0, height, step):
        joined = np.concatenate([enlarge(own, down[at : at + step], across) for own in maps])
        bands.append(estimator.predict_proba(joined.reshape(len(joined), -1).T))
    found = np.concatenate(bands).T.reshape(-1, height, width).astype(np.float32)
    return ScoreMaps([found], np.zeros(len(found)), as_log=True)


PIXEL_HEADS = {
    "logistic": PixelHead(_fit_logistic, _score_logistic),
    "forest": PixelHead(_fit_forest, _score_forest),
}
