"""Features of samples: taps chosen, one pass a backbone, bad and duplicate images settled."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data import ImageError, Samples
from data.names import counted
from extract import (
    Backbone,
    Extraction,
    FeatureStore,
    Recipe,
    Tap,
    export_features,
    extract,
    load_backbone,
    parse_taps,
)
from extract.backbones import BASELINES, Card, brings_weights, named_backbone, scheme_of
from extract.forward_pass import Watch
from extract.pooling import MAP, refuse_joined_maps
from extract.preprocessing import NAMED_VIEWS, PLAIN
from extract.store.copies import group_ids
from extract.store.parquet import SUFFIX as PARQUET_SUFFIX
from extract.store.parquet import export_parquet
from pipelines.errors import WorkFailed, WrongSetting
from pipelines.evaluation.baselines import UNTRAINED
from pipelines.settings import FeatureSettings

DIGITS_SIZE = 96
# the widest tap of the untrained network, and how many of its taps, spread over its depth
WIDEST, UNTRAINED_TAPS = 2048, 3


@dataclass(frozen=True)
class Source:
    """Where a leaderboard row's features come from.

    layer, pooling : None where several taps are joined.
    view : `plain`, `plain+flipped` where both are averaged, or `whole`.
    tap : as `FeatureExtractor(layer=…)` takes it, such as `a:avg` or `a:avg+b:grid3`.
    """

    backbone: str
    layer: str | None
    pooling: str | None
    dim: int
    view: str = "plain"
    tap: str | None = None

    def __post_init__(self) -> None:
        if self.tap is None and self.layer is not None:
            object.__setattr__(self, "tap", f"{self.layer}:{self.pooling}")


@dataclass(frozen=True)
class RangeFound:
    """Of images deeper than 8 bits `low` becomes black and `high` white, in all of them alike."""

    low: float
    high: float


@dataclass(frozen=True)
class WeightsFitted:
    """A file of one's own fills a network. fit: what of both was not used."""

    backbone: str
    weights: str
    fit: Any


@dataclass(frozen=True)
class PassPlanned:
    """A pass is about to begin. plan: what it will compute and write, and how long it may take."""

    backbone: str
    taps: Sequence[Tap]
    plan: Any


@dataclass(frozen=True)
class PassAdvanced:
    """So many images of the planned pass are done."""

    done: int


Listener = Callable[[Any], None]
Settings = TypeVar("Settings", bound=FeatureSettings)


def ignore(event: Any) -> None:
    """The listener of those who want to hear nothing."""


@dataclass(frozen=True)
class KeptFeatures:
    """One source's features of all images of a pass."""

    source: Source
    taps: tuple[Tap, ...]
    extraction: Extraction

    @property
    def recipe(self) -> Recipe:
        """What the features are made by, the source's view included."""
        return replace(self.extraction.recipe, view=self.source.view)

    def read(self, places: np.ndarray) -> np.ndarray:
        """(len(places), d) float32 of these images; what is damaged is computed again."""
        return self.extraction.read(list(self.taps), places, self.source.view)


@dataclass(frozen=True)
class RandomViews:
    """Random views of some of a table's samples, which heads are trained on beside the images.

    names : as in recipes. rows : of the table's samples, in order. table : of those, a source for
    each view and tap.
    """

    names: tuple[str, ...]
    rows: np.ndarray
    table: "FeatureTable"

    def read(self, source: Source, rows: np.ndarray) -> list[np.ndarray]:
        """By view (len(rows), d) float32 features of these samples."""
        own = np.searchsorted(self.rows, rows)
        find = partial(self.table.find, str(source.tap), source.backbone)
        return [self.table.read(find(name), own) for name in self.names]


@dataclass(frozen=True)
class FeatureTable:
    """Samples that can be used, with every source's features of them.

    samples : without bad and duplicate images.
    ids : (n, 16) uint8 image ids. places : (n,) their places among the images of the passes.
    features : one entry per backbone, view and tap or joined taps.
    bad : (path, reason). n_duplicates : images dropped as copies of others.
    notes : (path, what affected its pixels) of those that were read.
    earlier : passes beside those of `features`, over other views of these images.
    random : views that heads are trained on too.
    """

    samples: Samples
    ids: np.ndarray
    places: np.ndarray
    features: tuple[KeptFeatures, ...]
    bad: list[tuple[str, str]]
    n_duplicates: int
    notes: list[tuple[str, str]]
    earlier: tuple[Extraction, ...] = ()
    random: RandomViews | None = None

    @property
    def sources(self) -> list[Source]:
        """What each entry of `features` is."""
        return [own.source for own in self.features]

    @property
    def passes(self) -> list[Extraction]:
        """One for each backbone."""
        return list({id(own.extraction): own.extraction for own in self.features}.values())

    def find(self, tap: str, backbone: str | None = None, view: str | None = None) -> int:
        """The number of a source.

        tap : as in the leaderboard. backbone : its name; None is the first. view : as it is asked
        for (`flipped`) or as in the leaderboard (`plain+flipped`); None is the first.

        Raises KeyError, naming what is there.
        """
        first = self.sources[0]
        seen = first.view if view is None else str(NAMED_VIEWS.get(view, view))
        left = list(enumerate(self.sources))
        wanted = {"backbone": backbone or first.backbone, "view": seen, "tap": tap}
        for kind, value in wanted.items():
            there = list(dict.fromkeys(getattr(source, kind) for _, source in left))
            if value not in there:
                value, *there = (_as_asked(kind, own) for own in (value, *there))
                raise KeyError(
                    f"no features of {kind} {value!r}: expected one of {', '.join(there)}"
                )
            left = [(place, source) for place, source in left if getattr(source, kind) == value]
        return left[0][0]

    def read(self, source: int, rows: np.ndarray | None = None) -> np.ndarray:
        """(len(rows), d) float32 features of these samples, or of all."""
        places = self.places if rows is None else self.places[rows]
        return self.features[source].read(places)

    def read_same(self, other: "FeatureTable", source: int) -> np.ndarray:
        """Features of these samples, all of them, in a source of another table."""
        own = other.sources[source]
        return self.read(self.find(str(own.tap), own.backbone, own.view))

    def read_for_training(self, source: int, rows: np.ndarray) -> np.ndarray:
        """Features of these samples, and below them those of each random view, in their order."""
        views = self.read_views(source, rows)
        return views[0] if len(views) == 1 else np.concatenate(views)

    def read_views(self, source: int, rows: np.ndarray) -> list[np.ndarray]:
        """Features of these samples as they are, and of each random view, one array for each."""
        more = [] if self.random is None else self.random.read(self.sources[source], rows)
        return [self.read(source, rows), *more]

    def only(self, sources: Sequence[int]) -> "FeatureTable":
        """The same samples with some of the sources."""
        return replace(self, features=tuple(self.features[source] for source in sources))

    def of_rows(self, rows: np.ndarray) -> "FeatureTable":
        """The same sources with some of the samples, the others dropped as duplicates.

        Of random views there are none then: which rows have them is told by the numbers of all.
        """
        dropped = len(self.samples) - len(rows)
        return replace(
            self,
            samples=self.samples[rows],
            ids=self.ids[rows],
            places=self.places[rows],
            n_duplicates=self.n_duplicates + dropped,
            random=None,
        )

    def middle(self) -> int:
        """The middle one of the first backbone's taps, a grid if there is one: it tells copies."""
        own = self._of_first_backbone()
        grids = [i for i in own if self.features[i].taps[0].pooling.startswith("grid")]
        candidates = grids or own
        return candidates[len(candidates) // 2]

    def last(self) -> int:
        """The deepest tap of the first backbone, an average if there is one: it tells strangers."""
        own = self._of_first_backbone()
        deepest = self.features[own[-1]].taps[0].layer
        at_end = [i for i in own if self.features[i].taps[0].layer == deepest]
        averaged = (i for i in at_end if self.features[i].taps[0].pooling == "avg")
        return next(averaged, at_end[0])

    def _of_first_backbone(self) -> list[int]:
        """The first backbone's sources, of its first view, of single taps where there are any."""
        first = self.sources[0]
        own = [
            i
            for i, source in enumerate(self.sources)
            if (source.backbone, source.view) == (first.backbone, first.view)
        ]
        return [i for i in own if len(self.features[i].taps) == 1] or own


def _as_asked(kind: str, value: Any) -> str:
    """A view by the name that asks for it; all else as it is."""
    named = {str(view): name for name, view in NAMED_VIEWS.items()}
    return named.get(value, value) if kind == "view" else str(value)


def load_backbones(
    samples: Samples,
    settings: FeatureSettings,
    store: FeatureStore,
    on_event: Listener = ignore,
) -> list[Backbone]:
    """The backbones that the settings name; 8x8 digits are seen at 96 px unless told else.

    on_event : called with WeightsFitted where a file of one's own fills one.

    Raises WrongSetting for weights that none of them would take.
    """
    if settings.weights is not None and all(map(brings_weights, settings.backbones)):
        names = ",".join(map(str, settings.backbones))
        raise WrongSetting(
            "weights", settings.weights, f"expected none beside {names}, which brings its own"
        )
    size = settings.size or (DIGITS_SIZE if samples.name == "digits" else None)
    loaded = [_load(given, settings, size, store) for given in settings.backbones]
    _refuse_namesakes(loaded)
    for backbone in loaded:
        if backbone.card.fit is not None:
            on_event(WeightsFitted(backbone.name, backbone.card.weights, backbone.card.fit))
    return loaded


def _refuse_namesakes(backbones: Sequence[Backbone]) -> None:
    """WrongSetting for two networks of one name: a result couldn't say which is meant."""
    seen: dict[str, str] = {}
    for backbone in backbones:
        if seen.setdefault(backbone.name, backbone.weights) != backbone.weights:
            raise WrongSetting(
                "backbone",
                f"{seen[backbone.name]},{backbone.weights}",
                f"expected networks of different names, both are {backbone.name}: "
                "compare them in two runs",
            )


def _load(
    given: str | Backbone, settings: FeatureSettings, size: int | None, store: FeatureStore
) -> Backbone:
    if isinstance(given, Backbone):
        return given
    if scheme_of(given) == "baseline":  # they have no weights, and sizes of their own
        return load_backbone(given, cache=store.cache)
    if brings_weights(given):  # it was trained further at a size of its own
        return load_backbone(given, size=settings.size, cache=store.cache)
    return load_backbone(given, settings.weights, seed=settings.seed, size=size, cache=store.cache)


def find_range(samples: Samples, settings: Settings, on_event: Listener = ignore) -> Settings:
    """The settings with `intensity="auto"` settled over all but the test images."""
    if settings.intensity != "auto":
        return settings
    rows = np.arange(len(samples))
    if samples.split is not None:
        rows = np.flatnonzero(samples.split != "test")
    found = settings.reading(samples[rows].inputs).intensity
    if found is not None:
        on_event(RangeFound(*found))
    return replace(settings, intensity=found)


def choose_taps(card: Card, layers: str, poolings: Sequence[str]) -> list[tuple[Tap, ...]]:
    """Layers (`auto`, `all`, names) times poolings; `a:grid2+b:avg` are two taps to join.

    A layer that names its own pooling takes no other. With `auto` and `all`, what does not fit a
    layer is left out.

    Raises ExtractError for a named layer or a pooling that can't be used.
    """
    spread = layers in ("auto", "all")
    written = [text.strip() for text in layers.split(",") if text.strip()]
    names = card.choose_layers(layers) if spread or not written else written
    taps = list(dict.fromkeys(parse_taps(name, pooling) for name in names for pooling in poolings))
    fitting = taps
    if spread:
        fitting = [joined for joined in taps if all(map(card.fits, joined))]
    for joined in fitting or taps:
        refuse_joined_maps(joined)
        for tap in joined:
            card.check(tap)
    return fitting


def describe_source(backbone: Backbone, taps: Sequence[Tap], view: str) -> Source:
    """The source of one tap, or of several joined."""
    layer, pooling = (taps[0].layer, taps[0].pooling) if len(taps) == 1 else (None, None)
    width = sum(map(backbone.card.width, taps))
    return Source(backbone.name, layer, pooling, width, view, "+".join(map(str, taps)))


def keep_features(
    samples: Samples,
    backbones: Sequence[Backbone],
    store: FeatureStore,
    settings: FeatureSettings,
    *,
    views: Sequence[str] = (str(PLAIN),),
    settle: bool = True,
    on_event: Listener = ignore,
) -> FeatureTable:
    """Have every tap of every sample in the store -> the table of what can be used.

    settings : which taps, numerics and device, with `intensity` settled by `find_range`.
    views : as in recipes; each tap has a source in each of them.
    settle : as a run needs it: copies of images are dropped, and images whose copies carry other
        labels, and thumbnails are kept for its audit. Else all that can be read stay.
    on_event : called with PassPlanned and PassAdvanced.

    Raises WorkFailed where no image can be read.
    """
    features: list[KeptFeatures] = []
    bad: dict = {}
    for backbone in backbones:
        chosen = choose_taps(backbone.card, settings.layers, settings.poolings)
        singles = list(dict.fromkeys(tap for joined in chosen for tap in joined))
        extraction = extract(
            samples.inputs,
            singles,
            backbone,
            store,
            numerics="float32" if backbone.name in BASELINES else settings.numerics,
            device=settings.device,
            on=settings.on,
            views=views,
            thumbnails=settle,
            reading=settings.reading(),
            watch=watching(backbone.name, singles, on_event),
        )
        features += [
            KeptFeatures(describe_source(backbone, joined, view), joined, extraction)
            for view in views
            for joined in chosen
        ]
        bad |= extraction.bad
    ids = features[0].extraction.ids
    rows = np.delete(np.arange(len(ids)), list(bad))
    if not len(rows):
        path, reason = samples.paths[min(bad)], bad[min(bad)].reason
        raise WorkFailed(
            f"none of the {counted(len(ids), 'image')} can be read, the first, {path}: {reason}"
        )
    contradictions: list[tuple[str, str]] = []
    n_duplicates = 0
    if settle:
        rows, contradictions, n_duplicates = settle_duplicates(samples, ids, rows)
    unreadable = [(samples.paths[row], bad[row].reason) for row in sorted(bad)]
    reasons = [*samples.problems, *unreadable, *contradictions]
    noted = features[0].extraction.notes
    notes = [
        (samples.paths[row], "; ".join(noted[row])) for row in sorted(noted.keys() - bad.keys())
    ]
    return FeatureTable(
        samples[rows], ids[rows], rows, tuple(features), reasons, n_duplicates, notes
    )


def watching(name: str, taps: Sequence[Tap], on_event: Listener) -> Watch:
    """What a pass tells, as events."""
    return Watch(
        lambda plan: on_event(PassPlanned(name, taps, plan)),
        lambda done: on_event(PassAdvanced(done)),
    )


def settle_duplicates(
    samples: Samples, ids: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, list[tuple[str, str]], int]:
    """Of identical images keep one -> (rows left, contradictions with reasons, copies dropped).

    A test copy is kept before a training copy, so that no test image is trained on. Where copies
    disagree on the label none is kept: which of them is right can't be known.
    """
    alone, copies = _apart_by_copies(ids, rows)
    left, contradictions = [], []
    for same in copies:
        labels = Counter([None] if samples.labels is None else samples.labels[same].tolist())
        if len(labels) > 1:
            said = " and ".join(sorted(labels))
            reason = f"the same image is labelled {said}"
            contradictions += [(samples.paths[row], reason) for row in same]
            continue
        in_test = []
        if samples.split is not None:
            in_test = [row for row in same if samples.split[row] == "test"]
        left.append((in_test or same)[0])
    kept = np.sort(np.append(alone, np.array(left, int)))
    return kept, contradictions, len(rows) - len(kept) - len(contradictions)


def _apart_by_copies(ids: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    """Those of the rows whose image comes once, and of each other image its rows, all in order."""
    order, starts = group_ids(ids[rows])
    n_same = np.diff(starts, append=len(rows))
    copies = [
        rows[order[start : start + n]].tolist()
        for start, n in zip(starts[n_same > 1], n_same[n_same > 1], strict=True)
    ]
    return rows[order[starts[n_same == 1]]], sorted(copies)


def baseline_features(
    table: FeatureTable,
    backbone: Backbone,
    store: FeatureStore,
    settings: FeatureSettings,
    numerics: str,
    on_event: Listener = ignore,
) -> Iterator[tuple[Source, np.ndarray]]:
    """(source, features (n, d) of the table's samples) of every tap of every baseline.

    The last is `backbone` with random weights from its seed, in these numerics; it is left out
    where `backbone` is a baseline, one's own module, or untrained itself.

    Raises ImageError for an image that can't be read any more, or is another one by now.
    """
    samples = table.samples

    def read(name: str, network: Backbone, taps: Sequence[Tap], numerics: str) -> Iterator:
        done = extract(
            samples.inputs,
            taps,
            network,
            store,
            numerics=numerics,
            device=settings.device,
            on=settings.on,
            reading=settings.reading(),
            watch=watching(name, taps, on_event),
        )
        refuse_changed(samples, done.ids, table.ids, done.bad)
        for tap in taps:
            source = Source(name, tap.layer, tap.pooling, network.card.width(tap))
            yield source, done.read([tap], np.arange(len(samples)))

    for name, row in BASELINES.items():
        tap = Tap(name, row.pooling)
        yield from read(name, load_backbone(name, cache=store.cache), [tap], "float32")
    if (
        not backbone.card.architecture.startswith("torchvision.")
        or backbone.card.weights == "random"
    ):
        return
    own = load_backbone(
        named_backbone(backbone.card.architecture),  # of one trained further, its base
        "random",
        seed=backbone.seed,
        size=backbone.size,
        cache=store.cache,
    )
    taps = _untrained_taps(own.card, settings.poolings)
    yield from read(f"{backbone.name}{UNTRAINED}", own, taps, numerics)


def refuse_changed(
    samples: Samples, ids: np.ndarray, before: np.ndarray, bad: Mapping[int, ImageError]
) -> None:
    """ImageError for an image that a later pass of the run could not read as it was before."""
    for row in np.flatnonzero((ids != before).any(axis=1)).tolist():
        said = bad[row].reason if row in bad else "it is another image by now"
        raise ImageError(samples.paths[row], f"it has changed during the run: {said}")


def _untrained_taps(card: Card, poolings: Sequence[str]) -> list[Tap]:
    """A few layers over the depth, each with the last pooling that is not too wide."""
    layers = card.choose_layers("auto")
    places = sorted({round(i) for i in np.linspace(0, len(layers) - 1, UNTRAINED_TAPS)})
    found = []
    for layer in (layers[place] for place in places):
        taps = [Tap(layer, pooling) for pooling in reversed(poolings)]
        narrow = (tap for tap in taps if card.fits(tap) and card.width(tap) <= WIDEST)
        found.append(next(narrow, Tap(layer, "avg")))
    return found


class Exported:
    """A source's features as an array that is read a slice of rows at a time."""

    def __init__(self, table: FeatureTable, source: int) -> None:
        self._table = table
        self._source = source
        kept = table.features[source]
        is_map = kept.source.pooling == MAP
        own = kept.extraction.shape(kept.taps[0]) if is_map else (kept.source.dim,)
        self.shape = (len(table.samples), *own)
        # a map was rounded to float16 before it was kept
        self.dtype = np.dtype(np.float16 if is_map else np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        found = self._table.read(self._source, np.arange(len(self))[rows])
        return found.astype(self.dtype).reshape(-1, *self.shape[1:])


def export_table(table: FeatureTable, file: str | Path) -> None:
    """One plain file of all features, in the samples' order: Parquet by its name, else HDF5."""
    names = feature_names(table)
    features = {name: Exported(table, i) for i, name in enumerate(names)}
    samples = table.samples
    if Path(file).suffix.lower() == PARQUET_SUFFIX:
        recipes = {
            name: asdict(own.recipe) for name, own in zip(names, table.features, strict=True)
        }
        export_parquet(file, features, samples.paths, samples.labels, samples.split, recipes)
        return
    export_features(file, features, samples.paths, samples.labels, samples.classes, samples.split)


def feature_names(table: FeatureTable) -> list[str]:
    """The taps as they are written, with the backbone before each where there are several."""
    several = len({source.backbone for source in table.sources}) > 1
    return [
        f"{source.backbone}/{source.tap}" if several else str(source.tap)
        for source in table.sources
    ]
