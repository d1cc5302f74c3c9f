"""Features for a whole set of samples: taps chosen, one pass per backbone, bad and duplicate images settled."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data import Samples
from extract import (
    Backbone,
    Extraction,
    FeatureStore,
    Recipe,
    Tap,
    Watch,
    extract,
    load_backbone,
    parse_taps,
)
from extract.backbones import BASELINES, Card
from pipelines.console import WorkFailed
from pipelines.evaluate import Source

DIGITS_SIZE = 96
VIEWS = {"off": ("plain",), "on": ("plain", "plain+flipped")}  # by --flips


@dataclass
class FeatureTable:
    """Samples that can be used, with every source's features of them.

    samples: without bad and duplicate images. ids: (n, 16) uint8. places: (n,) int, where they stand
    among the inputs of the passes. sources: one per backbone, view and tap or joined taps; `taps` and
    `recipes` beside them. bad: (path, reason). n_duplicates: images dropped as copies of others.
    """

    samples: Samples
    ids: np.ndarray
    places: np.ndarray
    store: FeatureStore
    sources: list[Source]
    taps: list[tuple[Tap, ...]]
    recipes: list[Recipe]
    passes: list[Extraction]
    bad: list[tuple[str, str]]
    n_duplicates: int

    def read(self, source: int, rows: np.ndarray) -> np.ndarray:
        """(len(rows), d) float32 features of these samples, computed again where they are lost."""
        recipe = self.recipes[source]
        own = next(done for done in self.passes if replace(done.recipe, view=recipe.view) == recipe)
        return own.read(self.taps[source], self.places[rows], recipe.view)


def load_backbones(samples: Samples, options, store: FeatureStore) -> list[Backbone]:
    """The backbones that a command line's options name; the 8x8 digits are seen at 96 px unless --size says else."""
    size = options.size or (DIGITS_SIZE if samples.name == "digits" else None)
    return [
        load_backbone(name, cache=store.cache)
        if name in BASELINES
        else load_backbone(name, options.weights, seed=options.seed, size=size, cache=store.cache)
        for name in options.backbone
    ]


def choose_taps(card: Card, layers: str, poolings: Sequence[str]) -> list[tuple[Tap, ...]]:
    """Layers (`auto`, `all`, names) times poolings, each a tap or, written `a:grid2+b:avg`, taps to join.

    A layer that names its own pooling takes no other. With `auto` and `all`, what does not fit a layer is left out.

    Raises ExtractError for a named layer or a pooling that can't be used.
    """
    spread = layers in ("auto", "all")
    written = [text.strip() for text in layers.split(",") if text.strip()]
    names = card.choose_layers(layers) if spread or not written else written
    taps = list(dict.fromkeys(parse_taps(name, pooling) for name in names for pooling in poolings))
    fitting = [joined for joined in taps if all(map(card.fits, joined))] if spread else taps
    for joined in fitting or taps:
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
    layers: str,
    poolings: Sequence[str],
    store: FeatureStore,
    *,
    numerics: str = "auto",
    device: str = "auto",
    views: Sequence[str] = VIEWS["off"],
    settle: bool = True,
    watch: Callable[[str, list[Tap]], Watch] = lambda name, taps: Watch(),
    thumbnails: bool = False,
) -> FeatureTable:
    """Have every tap of every sample in the store -> the table of what can be used.

    views : each with sources of its own; one that joins others has all of them kept.
    settle : drop copies of images, and images whose copies carry other labels; else all that can be read stay.
    watch : (backbone name, its taps) -> what is told of the pass.
    thumbnails : keep one of each image that is computed, for the audit.
    """
    sources, taps, recipes, passes, bad = [], [], [], [], {}
    for backbone in backbones:
        chosen = choose_taps(backbone.card, layers, poolings)
        singles = list(dict.fromkeys(tap for joined in chosen for tap in joined))
        done = extract(
            samples.inputs,
            singles,
            backbone,
            store,
            numerics="float32" if backbone.name in BASELINES else numerics,
            device=device,
            view=views[-1],
            thumbnails=thumbnails,
            watch=watch(backbone.name, singles),
        )
        passes.append(done)
        bad |= done.bad
        for view in views:
            sources += [describe_source(backbone, joined, view) for joined in chosen]
            taps += chosen
            recipes += [replace(done.recipe, view=view)] * len(chosen)
    ids = passes[0].ids
    readable = [row for row in range(len(ids)) if row not in bad]
    if not readable:
        path, reason = samples.paths[min(bad)], bad[min(bad)].reason
        raise WorkFailed(f"none of the {len(ids)} images can be read, the first, {path}: {reason}")
    kept, contradictions, n_duplicates = (
        settle_duplicates(samples, ids, readable) if settle else (readable, [], 0)
    )
    reasons = [
        *samples.problems,
        *((samples.paths[row], bad[row].reason) for row in sorted(bad)),
        *contradictions,
    ]
    return FeatureTable(
        samples[kept],
        ids[kept],
        np.asarray(kept, int),
        store,
        sources,
        taps,
        recipes,
        passes,
        reasons,
        n_duplicates,
    )


def settle_duplicates(samples: Samples, ids: np.ndarray, rows: Sequence[int]):
    """Among `rows`, keep one of identical images -> (rows kept, (path, reason) of contradictions, copies dropped).

    A test copy is kept before a training copy, so that no test image is trained on. Where copies disagree on the
    label none is kept: which of them is right can't be known.
    """
    copies = {}
    for row in rows:
        copies.setdefault(ids[row].tobytes(), []).append(row)
    kept, contradictions = [], []
    for same in copies.values():
        labels = (
            Counter(samples.labels[same].tolist())
            if samples.labels is not None
            else Counter([None])
        )
        if len(labels) > 1:
            said = " and ".join(sorted(labels))
            contradictions += [
                (samples.paths[row], f"the same image is labelled {said}") for row in same
            ]
            continue
        in_test = [
            row for row in same if samples.split is not None and samples.split[row] == "test"
        ]
        kept.append((in_test or same)[0])
    kept.sort()
    return np.array(kept, int), contradictions, len(rows) - len(kept) - len(contradictions)
