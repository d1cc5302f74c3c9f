"""FeatureExtractor: a frozen network as a scikit-learn transformer, from images to features."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import TransformerMixin

from data import ImageError, Reading, settle_reading
from extract.backbones import DEFAULT_BACKBONE, Backbone, load_backbone
from extract.backbones.module import fingerprint
from extract.errors import ExtractError
from extract.extraction import Extraction, extract, recipe_of
from extract.files import read_only
from extract.notebook import ShownEstimator, extractor_view, refuse_while_shown
from extract.pooling import MAP, Tap, parse_taps, refuse_joined_maps, refuse_maps
from extract.preprocessing import named_view
from extract.recipe import Recipe
from extract.store import FeatureStore, MemoryStore, ReadOnlyStore

MEMORY_ROWS = 4096  # above which the rows of `cache=False` are forgotten


class FeatureExtractor(TransformerMixin, ShownEstimator):
    """Images to the pooled activations of one layer, from the store where they are kept.

    Nothing is loaded before the first call, and nothing of the network is pickled. Clones in one
    process share the network, and no (image, tap) is computed twice.

    Parameters
    ----------
    layer : str or None
        Dotted name of a module, or taps joined as `"features.11:grid2+features.18:avg"`. None is
        the last block of the backbone.
    pooling : str
        `avg`, `max`, `avgmax`, `gem`, `std`, `gridN`, `flatten`, `raw16` or `cls`; taps in `layer`
        may name their own. `map`, of one layer alone, gives its activations with their places.
    backbone, weights, seed, size
        As in `load_backbone`.
    numerics : str
        `auto`, `float32` or a reduced precision; `auto` takes what the store holds, else the
        fastest here.
    device : str
        `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
    cache : path, None, False or ReadOnlyStore
        Folder of the store, None for the platform's, False to keep nothing on disk. Of a
        ReadOnlyStore rows are taken, and none are written.
    keep : list of str
        Further taps to compute and keep in the same pass, so that a search over them runs the
        network once.
    view : str
        What is seen of each image: `plain`, the middle of it; `flipped`, the mean of that and of
        its mirror image, which the store keeps apart; `whole`, all of it resized to a square; or a
        random view such as `light-0-3` (see `extract.augmentation`).
    intensity, page, channels
        How files become RGB images, as in `settle_reading`.

    Attributes
    ----------
    numerics_ : str
        What `auto` became at the first call; later calls keep to it.
    reading_ : Reading
        What `intensity="auto"` became at the first call or the last `fit`: one range for all images
        deeper than 8 bits, where there were any.
    extraction_ : Extraction
        Of the last call: what was computed and where the time went. It holds no images.

    Examples
    --------
    >>> import numpy as np
    >>> from extract import FeatureExtractor
    >>> images = np.zeros((2, 40, 40, 3), np.uint8)
    >>> FeatureExtractor(backbone="pixels", cache=False).transform(images).shape
    (2, 3072)
    """

    def __init__(
        self,
        layer: str | None = None,
        pooling: str = "avg",
        backbone: Any = DEFAULT_BACKBONE,
        weights: Any = None,
        size: Any = None,
        numerics: str = "auto",
        device: str = "auto",
        cache: Any = None,
        keep: Sequence[str] = (),
        seed: int = 0,
        view: str = "plain",
        intensity: Any = "auto",
        page: int = 1,
        channels: Any = None,
    ) -> None:
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

    def fit(self, X: Any, y: Any = None) -> "FeatureExtractor":
        """Check the parameters, settle the numerics and the range of deep images.

        Parameters
        ----------
        X : n paths, PIL images or uint8 arrays

        Returns
        -------
        self

        Raises
        ------
        ImageError
            For the first image that can't be read.
        ExtractError
            For parameters that can't be used.
        """
        self._forget_reading()
        extraction = self._extract(X)
        if extraction.bad:
            raise _first_bad(extraction.bad, len(X))
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """As `fit` and `transform`: settling and reading the features are one pass."""
        self._forget_reading()
        return self.transform(X)

    def transform(self, X: Any) -> np.ndarray:
        """Features of images, in their order.

        Parameters
        ----------
        X : n paths, PIL images, or a uint8 array (n, height, width, 3)

        Returns
        -------
        (n, d) float32
            With `pooling="map"` (n, channels, height, width).

        Raises
        ------
        ImageError
            For the first image that can't be read.
        ExtractError
            For parameters that can't be used.
        """
        _, features, bad = self.transform_readable(X)
        if bad:
            raise _first_bad(bad, len(X))
        return features

    def transform_readable(self, X: Any) -> tuple[np.ndarray, np.ndarray, dict[int, ImageError]]:
        """As `transform`, passing over images that can't be read.

        Returns
        -------
        rows : (m,) int
            Places of those that could be read.
        features : (m, d) float32, or maps as of `transform`
        bad : {row: ImageError}
        """
        extraction = self._extract(X)
        rows, taps = extraction.good, self.taps()
        features = extraction.read(taps, rows)
        if taps[0].pooling == MAP:
            features = features.reshape(-1, *extraction.shape(taps[0]))
        return rows, features, extraction.bad

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """(d,) names such as `features.14:grid3_0`: the columns of a frame by `set_output`.

        Raises ExtractError with `pooling="map"`: maps are no columns.
        """
        refuse_while_shown()
        refuse_maps(self.taps())
        card = self.load_backbone().card
        return np.array(
            [f"{tap}_{i}" for tap in self.taps() for i in range(card.width(tap))], dtype=object
        )

    def _own_view(self) -> str:
        return extractor_view(self)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def __getstate__(self) -> dict:
        state = super().__getstate__().copy()
        for own in ("_memory", "_kept_backbone"):
            state.pop(own, None)
        return state

    def _extract(self, X: Any, others: Sequence["FeatureExtractor"] = ()) -> Extraction:
        """The pass; `others` are of the same network, and find their features kept afterwards."""
        inputs, store = check_inputs(X), self._store()
        all_of_it = (self, *others)
        taps = [tap for own in all_of_it for tap in (*own.taps(), *own._kept_taps())]
        extraction = extract(
            inputs,
            list(dict.fromkeys(taps)),
            self.load_backbone(),
            store,
            numerics=self._settled_numerics(),
            device=self.device,
            views=list(dict.fromkeys(own._view() for own in all_of_it)),
            reading=self._settle_reading(inputs),
        )
        self.numerics_ = extraction.recipe.numerics
        # without the request: an estimator must neither hold the images nor pickle the network
        self.extraction_ = replace(extraction, request=None)
        return extraction

    def load_backbone(self) -> Backbone:
        """The frozen network these parameters name."""
        asked = partial(
            load_backbone,
            self.backbone,
            self.weights,
            seed=self.seed,
            size=self.size,
            cache=self._store_folder(),
        )
        if not isinstance(self.backbone, (str, Backbone)):
            return self._own_backbone(asked)
        backbone = asked()
        if isinstance(self.cache, ReadOnlyStore):
            with read_only():
                _ = backbone.card  # what is found out about the network is not written down
        return backbone

    def _own_backbone(self, load: Callable[[], Backbone]) -> Backbone:
        """That of one's own module, kept until anything of the module changes."""
        if not hasattr(self.backbone, "state_dict"):
            return load()  # says what is expected
        key = fingerprint(self.backbone), self.weights, repr(self.size)
        kept: tuple[tuple, Backbone] | None = getattr(self, "_kept_backbone", None)
        if kept is None or kept[0] != key:
            kept = self._kept_backbone = key, load()
        return kept[1]

    def taps(self) -> tuple[Tap, ...]:
        """The taps whose columns `transform` gives, in order."""
        layer = self.layer or self.load_backbone().card.choose_layers("auto")[-1]
        taps = parse_taps(layer, self.pooling)
        refuse_joined_maps(taps)
        return taps

    def _kept_taps(self) -> list[Tap]:
        if isinstance(self.keep, str):
            raise ExtractError(
                f"keep={self.keep!r}: expected a list of taps, such as [{self.keep!r}]"
            )
        return [tap for text in self.keep for tap in parse_taps(text)]

    def recipe(self) -> Recipe:
        """What identifies the features, once a first call has settled the numerics."""
        reading = self._settle_reading(())
        return recipe_of(self.load_backbone(), self._settled_numerics(), self._view(), reading)

    def _settle_reading(self, inputs: Sequence) -> Reading:
        """As it was settled before for the same parameters, else over these images."""
        asked = repr((self.intensity, self.page, self.channels))
        settled: Reading | None = getattr(self, "reading_", None)
        if settled is None or getattr(self, "_asked", asked) != asked:
            settled = settle_reading(self.intensity, self.page, self.channels, inputs)
        if len(inputs):
            self.reading_, self._asked = settled, asked
        return settled

    def _forget_reading(self) -> None:
        if hasattr(self, "reading_"):
            del self.reading_

    def _view(self) -> str:
        return str(named_view(self.view))

    def _settled_numerics(self) -> str:
        return getattr(self, "numerics_", "auto") if self.numerics == "auto" else self.numerics

    def _store_folder(self) -> Path | None:
        if isinstance(self.cache, ReadOnlyStore):
            return self.cache.cache
        return None if self.cache is False else FeatureStore(self.cache).cache

    def _store(self) -> FeatureStore | MemoryStore | ReadOnlyStore:
        if isinstance(self.cache, ReadOnlyStore):
            self.cache.forget_many()
            return self.cache
        if self.cache is not False:
            return FeatureStore(self.cache)
        memory: MemoryStore | None = getattr(self, "_memory", None)
        if memory is None or len(memory) > MEMORY_ROWS:
            memory = self._memory = MemoryStore()
        return memory


class JoinedExtractor:
    """Features of several backbones or views side by side, for a blend across them.

    Parameters
    ----------
    extractors : sequence of FeatureExtractor
        One for each backbone and view; their columns follow one another. One decode of an image
        serves all views of a backbone.

    Examples
    --------
    >>> import numpy as np
    >>> from extract import FeatureExtractor
    >>> both = [FeatureExtractor(backbone=name, cache=False) for name in ("pixels", "histogram")]
    >>> JoinedExtractor(both).transform(np.zeros((2, 40, 40, 3), np.uint8)).shape
    (2, 3136)
    """

    def __init__(self, extractors: Sequence[FeatureExtractor]) -> None:
        self.extractors = tuple(extractors)

    def transform(self, X: Any) -> np.ndarray:
        """(n, d) float32 features of n images; raises as FeatureExtractor does."""
        _, features, bad = self.transform_readable(X)
        if bad:
            raise _first_bad(bad, len(X))
        return features

    def transform_readable(self, X: Any) -> tuple[np.ndarray, np.ndarray, dict[int, ImageError]]:
        """(rows that every extractor could read, their features, {row: ImageError})."""
        X = check_inputs(X)  # an iterator gives its images once
        for alike in self._of_one_network():
            alike[0]._extract(X, alike[1:])
        found = [extractor.transform_readable(X) for extractor in self.extractors]
        bad = {row: error for _, _, own in found for row, error in own.items()}
        rows = np.array(sorted(set(range(len(X))) - set(bad)), int)
        parts = [features[np.isin(own, rows)] for own, features, _ in found]
        return rows, np.hstack(parts), dict(sorted(bad.items()))

    def _of_one_network(self) -> list[list[FeatureExtractor]]:
        """Those that one pass over the images can serve, where it is more than one."""
        groups: dict[tuple, list[FeatureExtractor]] = {}
        for own in self.extractors:
            if own.cache is not False:  # else each has a memory of its own
                how = (own.numerics, own.device, own.intensity, own.page, own.channels)
                key = id(own.load_backbone()), str(own._store_folder()), repr(how)
                groups.setdefault(key, []).append(own)
        return [alike for alike in groups.values() if len(alike) > 1]


def extractors_of(
    extractor: FeatureExtractor | JoinedExtractor,
) -> tuple[FeatureExtractor, ...]:
    """The extractors that one is made of: those that are joined, or the one itself.

    Examples
    --------
    >>> from extract import FeatureExtractor
    >>> one = FeatureExtractor("features.14")
    >>> extractors_of(one) == extractors_of(JoinedExtractor([one])) == (one,)
    True
    """
    return extractor.extractors if isinstance(extractor, JoinedExtractor) else (extractor,)


def check_inputs(X: Any) -> Any:
    """Images as a sequence: paths, PIL images or arrays; ExtractError for what is none."""
    if isinstance(X, (str, os.PathLike)):
        raise ExtractError(
            f"got the single path {str(X)!r}, expected a list of images: pass [path]"
        )
    if hasattr(X, "columns") and hasattr(X, "to_numpy"):
        X = X.to_numpy()  # a table is iterated by the names of its columns
    if not isinstance(X, np.ndarray):
        if not isinstance(X, Iterable):
            raise ExtractError(
                f"got a {type(X).__name__}, expected a list of images, or a uint8 array of them"
            )
        X = list(X)  # a column of a table is indexed by label, an iterator not at all
    if isinstance(X, np.ndarray) and X.dtype == np.uint8 and (X.ndim != 4 or X.shape[-1] != 3):
        raise ExtractError(f"got a uint8 array of shape {X.shape}, expected (n, height, width, 3)")
    if isinstance(X, np.ndarray) and X.dtype.kind not in "uOU":
        raise ExtractError(
            f"got an array of {X.dtype}, expected uint8 pixels (n, height, width, 3) or paths"
        )
    if isinstance(X, np.ndarray) and X.dtype.kind in "OU" and X.ndim == 2:
        if X.shape[1] != 1:
            raise ExtractError(
                f"got a table of {X.shape[1]} columns, expected one of paths or images"
            )
        X = X[:, 0]
    if isinstance(X, np.ndarray) and X.ndim == 0:
        raise ExtractError(
            f"got the single path {str(X)!r}, expected a list of images: pass [path]"
        )
    if len(X) == 0:
        raise ExtractError("got no images, expected one or more")
    return X.tolist() if isinstance(X, np.ndarray) and X.dtype.kind in "OU" else X


def _first_bad(bad: dict[int, ImageError], n_images: int) -> ImageError:
    row = min(bad)
    more = f" (and {len(bad) - 1} more of {n_images} can't be read)" if len(bad) > 1 else ""
    return ImageError(bad[row].path or f"image {row}", bad[row].reason + more)
