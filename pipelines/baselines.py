"""What the pretrained network has to beat: the majority class, pixels, colours, Gabor filters, itself untrained."""

from collections.abc import Callable

import numpy as np

from extract import Tap, Watch, extract, load_backbone
from extract.backbones import BASELINES
from heads import HeadSearchCV
from pipelines.evaluate import Row, Source, describe_row, search_heads
from pipelines.features import FeatureTable
from pipelines.scores import ACCURACY
from pipelines.scoring import Scoring

HEAD = "logistic"
# of seven strengths: for pixels, colours and Gabor filters, of digits and of photos, within 0.006 of the best
GRID = {HEAD: {"logisticregression__C": (1e-3, 1e-2, 1e-1)}}
WIDEST = 2048
UNTRAINED = 3  # taps of the untrained network, spread over its depth


def measure_baselines(
    kept: FeatureTable,
    backbone,
    poolings: list[str],
    train: np.ndarray,
    folds: list,
    *,
    numerics: str = "auto",
    device: str = "auto",
    scoring: Scoring = ACCURACY,
    class_weight: str | None = None,
    n_jobs: int = 1,
    watch: Callable[[str, list[Tap]], Watch] = lambda name, taps: Watch(),
) -> list[Row]:
    """Cross-validate every baseline on the training rows, over the leaderboard's folds -> their rows.

    Of the untrained network, `backbone` with random weights from its seed, the best of three taps is given; it is
    left out where `backbone` is a baseline, one's own module, or untrained itself.
    """
    samples, labels = kept.samples[train], kept.samples.labels[train]
    found = [_majority(labels, folds, scoring)]
    for name, source, X in _features(kept, samples, backbone, poolings, numerics, device, watch):
        row = _best_row(source, X, labels, folds, scoring, class_weight, n_jobs)
        if found[-1].backbone != name:
            found.append(row)
        elif row.cv_score > found[-1].cv_score:
            found[-1] = row
    return found


def _features(kept, samples, backbone, poolings, numerics, device, watch):
    """(name, source, (n, d) features) of every tap of every baseline."""
    for name in BASELINES:
        ours, tap = (
            load_backbone(name, cache=kept.store.cache),
            Tap(name, "avg" if name == "pixels" else "grid3"),
        )
        yield from _rows(name, ours, [tap], samples, kept.store, "float32", device, watch)
    if (
        not backbone.card.architecture.startswith("torchvision.")
        or backbone.card.weights == "random"
    ):
        return
    own = load_backbone(
        backbone.name, "random", seed=backbone.seed, size=backbone.size, cache=kept.store.cache
    )
    layers = own.card.choose_layers("auto")
    layers = [
        layers[i] for i in sorted({round(i) for i in np.linspace(0, len(layers) - 1, UNTRAINED)})
    ]
    taps = [_fitting_tap(own.card, layer, poolings) for layer in layers]
    yield from _rows(
        f"{backbone.name} untrained", own, taps, samples, kept.store, numerics, device, watch
    )


def _rows(name, backbone, taps, samples, store, numerics, device, watch):
    done = extract(
        samples.inputs,
        taps,
        backbone,
        store,
        numerics=numerics,
        device=device,
        watch=watch(name, taps),
    )
    for tap in taps:
        source = Source(name, tap.layer, tap.pooling, backbone.card.width(tap))
        yield name, source, done.read([tap], np.arange(len(done.ids)))


def _fitting_tap(card, layer, poolings):
    """The layer with the last of the poolings that gives no more than WIDEST values, else averaged."""
    taps = [Tap(layer, pooling) for pooling in reversed(poolings)]
    return next(
        (tap for tap in taps if card.fits(tap) and card.width(tap) <= WIDEST), Tap(layer, "avg")
    )


def _best_row(source, X, labels, folds, scoring, class_weight, n_jobs):
    best = search_heads(X, labels, folds, GRID, scoring, class_weight, n_jobs=n_jobs)[0][HEAD]
    seconds = round(best["seconds"], 3)
    return describe_row(source, HEAD, best["params"], best["oof"], labels, folds, seconds, scoring)


def _majority(labels, folds, scoring):
    search = HeadSearchCV(["prior"], cv=folds, refit=False).fit(
        np.zeros((len(labels), 1), np.float32), labels
    )
    source = Source("majority", None, None, 0)
    return describe_row(source, "prior", {}, search.oof_scores_[0], labels, folds, 0.0, scoring)
