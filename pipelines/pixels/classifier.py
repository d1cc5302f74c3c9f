"""PixelClassifier: images and masks in, a class for each pixel of new images out."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from data import DataError, Reading, open_image, read_mask, settle_reading
from data.masks import LARGEST_NUMBER
from data.names import counted
from extract import FeatureStore, MemoryStore, extract, load_backbone
from extract.backbones import DEFAULT_BACKBONE, Backbone
from extract.cores import cores
from extract.extractor import check_inputs
from extract.forward_pass import NOT_WATCHED, Watch
from extract.preprocessing import WHOLE
from pipelines.errors import WrongSetting
from pipelines.evaluation.overlap import count_overlap, mean_overlap
from pipelines.pixels.drawing import Drawn, count_classes, draw_pixels
from pipelines.pixels.grids import middles, values_at
from pipelines.pixels.heads import PIXEL_HEADS, ScoreMaps, choose
from pipelines.pixels.maps import KeptMaps, map_taps

MOST_CLASSES = 64
MOST_VALUES = 1 << 24  # activations that a head is fitted on
BAND_VALUES = 1 << 22  # scores in memory at a time


class PixelClassifier(BaseEstimator):
    """A class for each pixel, by a head on the activations of several layers at its place.

    The network sees each image whole, squashed to its square, and the maps of its layers are laid
    over the image bilinearly. Nothing of the network is trained.

    Parameters
    ----------
    layers : str
        `auto` spreads six over the depth and takes those up to where cross-validation over images
        does best; `all`; or names separated by commas. Those without positions are left out of the
        former two.
    head : {"logistic", "forest"}
        Logistic regression behind a scaler, its strength chosen on pixels of other images; or a
        random forest (Breiman, 2001), which is not kept by `save_pixels`.
    pixels_per_image : int
        So many pixels of each image are drawn, of the classes in it equally many; fewer where all
        of their activations would be more than 2^24 numbers.
    backbone, weights, size
        As in `load_backbone`. The finest of the layers' maps bounds how thin a region can be told:
        a larger `size` makes them finer and the pass longer by its square.
    ignore : int or None
        A number in the masks that is no class: its pixels are neither learnt nor counted.
    numerics, device, cache
        As in `FeatureExtractor`; the maps are kept as any features are.
    seed : int
        Of the drawn pixels, of the folds and of the forest.
    intensity, page, channels
        How files become RGB images, as in `settle_reading`.

    Attributes
    ----------
    classes_ : (k,) int
        The numbers in the masks.
    shares_ : (k,) float
        Of the pixels of all masks.
    taps_ : list of Tap
        The layers that are taken.
    estimator_ : fitted scikit-learn classifier
        On the layers' channels side by side.
    log_weights_ : (k,) float
        What takes the log-probabilities from the shares of the drawn pixels to `shares_`.
    numerics_, reading_
        What `auto` became.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 60, (4, 64, 64, 3), np.uint8)
    >>> masks = np.zeros((4, 64, 64), np.uint8)
    >>> images[:, :, 32:] += 150
    >>> masks[:, :, 32:] = 7
    >>> own = PixelClassifier(backbone="resnet18", weights="random", size=64, cache=False)
    >>> own.fit(images[:3], masks[:3]).predict(images[3:])[0][0, [0, 63]]
    array([0, 7], dtype=uint8)
    """

    def __init__(
        self,
        layers: str = "auto",
        head: str = "logistic",
        pixels_per_image: int = 256,
        backbone: Any = DEFAULT_BACKBONE,
        weights: Any = None,
        size: Any = None,
        ignore: int | None = None,
        numerics: str = "auto",
        device: str = "auto",
        cache: Any = None,
        seed: int = 0,
        intensity: Any = "auto",
        page: int = 1,
        channels: Any = None,
    ) -> None:
        self.layers = layers
        self.head = head
        self.pixels_per_image = pixels_per_image
        self.backbone = backbone
        self.weights = weights
        self.size = size
        self.ignore = ignore
        self.numerics = numerics
        self.device = device
        self.cache = cache
        self.seed = seed
        self.intensity = intensity
        self.page = page
        self.channels = channels

    def fit(self, images: Any, masks: Any, watch: Watch = NOT_WATCHED) -> "PixelClassifier":
        """Draw pixels of the masks, compute the images' maps, and fit the head at those places.

        Parameters
        ----------
        images : n paths, PIL images or uint8 arrays (height, width, 3)
        masks : n paths or integer arrays (height, width)
            Each of its image's size, as `read_mask` takes them.
        watch : Watch
            Told of the pass.

        Returns
        -------
        self

        Raises
        ------
        ImageError
            For the first image or mask that can't be read.
        DataError
            For a mask of another size than its image, and for masks of one class.
        WrongSetting, ExtractError
            For parameters that can't be used.
        """
        self._check()
        images = check_inputs(images)
        backbone = self.load_backbone()
        self.taps_ = map_taps(backbone.card, self.layers)
        self.numerics_ = self.numerics
        self.reading_ = settle_reading(self.intensity, self.page, self.channels, images)
        width = sum(backbone.card.check(tap).map_shape[0] for tap in self.taps_)
        most = MOST_VALUES // (width * max(len(images), 1))
        drawn = self._draw(images, masks, max(1, min(self.pixels_per_image, most)))
        kept = self._pass(images, backbone, watch)
        self.numerics_ = kept.extraction.recipe.numerics
        X, y, groups = _at_places(kept, drawn)
        ends = np.cumsum([shape[0] for shape in kept.shapes]).tolist()
        # layers that were named are all taken
        choice = choose(X, y, groups, ends if self.layers == "auto" else ends[-1:], self.seed)
        self.taps_ = self.taps_[: ends.index(choice.end) + 1]
        self.estimator_ = PIXEL_HEADS[self.head].fit(X, y, choice, self.seed)
        drawn_shares = np.bincount(np.searchsorted(self.classes_, y)) / len(y)
        # from classes drawn alike to as many as there are: Bayes' rule (Saerens et al., 2002)
        self.log_weights_ = np.log(self.shares_) - np.log(drawn_shares)
        return self

    def predict(self, images: Any) -> list[np.ndarray]:
        """The most probable class of each pixel.

        Parameters
        ----------
        images : n paths, PIL images or uint8 arrays (height, width, 3)

        Returns
        -------
        list of n (height, width) uint8 or uint16
            Class numbers, each of its image's own size.

        Raises
        ------
        ImageError
            For the first image that can't be read.
        """
        return list(self.predict_each(images))

    def predict_each(self, images: Any, watch: Watch = NOT_WATCHED) -> Iterator[np.ndarray]:
        """What `predict` gives, one image after the other, so that one alone is in memory."""
        check_is_fitted(self)
        numbers = self.classes_.astype(np.uint8 if self.classes_[-1] < 256 else np.uint16)
        for scores, (height, width) in self._score_each(images, watch):
            bands = _bands(scores, height, width, self.log_weights_)
            yield np.concatenate([numbers[own.argmax(axis=0)] for own in bands])

    def predict_proba(self, images: Any) -> list[np.ndarray]:
        """The classes' probabilities at each pixel.

        Parameters
        ----------
        images : n paths, PIL images or uint8 arrays (height, width, 3)

        Returns
        -------
        list of n (height, width, classes) float32
            In the order of `classes_`.

        Raises
        ------
        ImageError
            For the first image that can't be read.
        """
        return [
            np.concatenate(
                [_softmax(own) for own in _bands(scores, height, width, self.log_weights_)]
            )
            for scores, (height, width) in self._score_each(images)
        ]

    def score(self, images: Any, masks: Any) -> float:
        """The mean over `classes_` of intersection over union, of all pixels together.

        Parameters
        ----------
        images, masks
            As in `fit`.

        Returns
        -------
        float
        """
        return mean_overlap(self.count_overlaps(images, masks))

    def count_overlaps(self, images: Any, masks: Any) -> np.ndarray:
        """(n, classes, 2) pixels of intersection and union, as `measure_overlap` takes them."""
        _check_counts(images, masks)
        predicted = self.predict_each(images)
        counts = [
            count_overlap(_same_size(read_mask(mask), own), own, self.classes_, self.ignore)
            for own, mask in zip(predicted, masks, strict=True)
        ]
        return np.array(counts)

    def load_backbone(self) -> Backbone:
        """The frozen network these parameters name."""
        folder = None if self.cache is False else FeatureStore(self.cache).cache
        return load_backbone(
            self.backbone, self.weights, seed=self.seed, size=self.size, cache=folder
        )

    def _check(self) -> None:
        if self.head not in PIXEL_HEADS:
            raise WrongSetting("head", self.head, f"expected one of {', '.join(PIXEL_HEADS)}")
        if self.pixels_per_image < 1:
            raise WrongSetting(
                "pixels_per_image", self.pixels_per_image, "expected 1 or more, such as 256"
            )
        if self.ignore is not None and not 0 <= self.ignore <= LARGEST_NUMBER:
            raise WrongSetting(
                "ignore", self.ignore, f"expected a number of the masks, from 0 to {LARGEST_NUMBER}"
            )

    def _draw(self, images: Sequence, masks: Sequence, n: int) -> list[Drawn]:
        """About n pixels of each image; sets `classes_` and `shares_`."""
        _check_counts(images, masks)

        def of(row: int) -> tuple[Drawn, np.ndarray, np.ndarray]:
            mask = check_size(
                read_mask(masks[row]), size_of(images[row], self.reading_), images[row]
            )
            rng = np.random.default_rng([self.seed, row])
            drawn = draw_pixels(mask, n, rng, self.ignore)
            return drawn, *np.unique(mask, return_counts=True)

        with ThreadPoolExecutor(cores()) as threads:
            found = list(threads.map(of, range(len(images))))
        self.classes_ = _classes([numbers for _, numbers, _ in found], self.ignore)
        counts = np.sum([count_classes(own, self.classes_, n) for _, own, n in found], axis=0)
        self.shares_ = counts / counts.sum()
        return [drawn for drawn, _, _ in found]

    def _pass(self, images: Sequence, backbone: Backbone, watch: Watch) -> KeptMaps:
        store = MemoryStore() if self.cache is False else FeatureStore(self.cache)
        extraction = extract(
            images,
            self.taps_,
            backbone,
            store,
            numerics=self.numerics_,
            device=self.device,
            views=[str(WHOLE)],
            reading=self.reading_,
            watch=watch,
        )
        for row in sorted(extraction.bad):
            raise extraction.bad[row]
        return KeptMaps(extraction, self.taps_)

    def _score_each(
        self, images: Any, watch: Watch = NOT_WATCHED
    ) -> Iterator[tuple[ScoreMaps, tuple[int, int]]]:
        """Of each image its scores, and the (height, width) that they are to be laid over."""
        check_is_fitted(self)
        images = check_inputs(images)
        kept = self._pass(images, self.load_backbone(), watch)
        score = PIXEL_HEADS[self.head].score
        for image, maps in zip(images, kept.each(), strict=True):
            yield score(self.estimator_, maps), size_of(image, self.reading_)


def _check_counts(images: Sequence, masks: Sequence) -> None:
    if len(images) != len(masks):
        raise DataError(
            f"{counted(len(images), 'image')} and {counted(len(masks), 'mask')}: expected one "
            "mask for each image"
        )


def size_of(image: Any, reading: Reading) -> tuple[int, int]:
    """(height, width) of an image in pixels, upright. Raises ImageError where it can't be read."""
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    width, height = open_image(image, reading=reading).size
    return height, width


def check_size(mask: np.ndarray, size: tuple[int, int], image: Any) -> np.ndarray:
    """The mask; DataError where it is of another (height, width) than its image."""
    if mask.shape != size:
        named = f"the mask of {image}" if isinstance(image, str | os.PathLike) else "a mask"
        raise DataError(
            f"{named} has {mask.shape[1]} x {mask.shape[0]} pixels, and its image {size[1]} x "
            f"{size[0]}: expected one number for each pixel"
        )
    return mask


def _same_size(mask: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return check_size(mask, (predicted.shape[0], predicted.shape[1]), None)


def _classes(numbers: Sequence[np.ndarray], ignore: int | None) -> np.ndarray:
    """The class numbers of all masks; DataError where they are too few or too many."""
    found = np.unique(np.concatenate(numbers)).astype(int)
    found = found[found != ignore] if ignore is not None else found
    if len(found) < 2:
        there = f"the one class {found[0]}" if len(found) else "no class"
        raise DataError(f"the masks hold {there}: expected two classes or more")
    if len(found) > MOST_CLASSES:
        raise DataError(
            f"the masks hold {len(found)} numbers: expected classes, at most {MOST_CLASSES}; were "
            "they smoothed, or saved as JPEG in between?"
        )
    return found


def _at_places(kept: KeptMaps, drawn: Sequence[Drawn]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations (n, d) float32 at the drawn places, their classes, and their images' rows."""
    counts = [len(own.classes) for own in drawn]
    X = np.empty((sum(counts), sum(shape[0] for shape in kept.shapes)), np.float32)
    at = 0
    for own, maps in zip(drawn, kept.each(), strict=True):
        column = 0
        for cells in maps:
            block = X[at : at + len(own.classes), column : column + len(cells)]
            block[:] = values_at(cells, own.down, own.across)
            column += len(cells)
        at += len(own.classes)
    y = np.concatenate([own.classes for own in drawn]).astype(int)
    return X, y, np.repeat(np.arange(len(drawn)), counts)


def _bands(
    scores: ScoreMaps, height: int, width: int, log_weights: np.ndarray
) -> Iterator[np.ndarray]:
    """Scores (classes, rows, width) of some rows of pixels at a time."""
    down, across = middles(height), middles(width)
    step = max(1, BAND_VALUES // (width * len(log_weights)))
    for at in range(0, height, step):
        yield scores.at(down[at : at + step], across) + log_weights[:, None, None]


def _softmax(scores: np.ndarray) -> np.ndarray:
    """(classes, rows, columns) scores -> (rows, columns, classes) probabilities."""
    powers = np.exp(scores - scores.max(axis=0))
    return np.moveaxis(powers / powers.sum(axis=0), 0, -1).astype(np.float32)
