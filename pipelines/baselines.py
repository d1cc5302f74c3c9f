"""What the pretrained network has to beat: the majority class, pixels, colours, Gabor filters, itself untrained."""

from collections.abc import Callable

import numpy as np

from extract import Tap, extract, load_backbone
from extract.backbones import BASELINES
from heads import HeadSearchCV
from pipelines.evaluate import Row, Source, describe_row, is_right
from pipelines.features import FeatureTable, choose_taps

# logistic alone: ridge and logistic differ by less than the interval here, and the widest tap decides the time
HEAD = "logistic"
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
    n_jobs: int = 1,
    watch: Callable[[str, list[Tap]], dict] = lambda name, taps: {},
) -> list[Row]:
    """Cross-validate every baseline on the training rows, over the leaderboard's folds -> their rows.

    Of the untrained network, `backbone` with random weights from its seed, the best of three taps is given; it is
    left out where `backbone` is a baseline, one's own module, or untrained itself.
    """
    samples, labels = kept.samples[train], kept.samples.labels[train]
    found = [_majority(labels, folds)]
    for name, source, X in _features(kept, samples, backbone, poolings, train, numerics, device, watch):
        row = _best_row(source, X, labels, folds, n_jobs)
        if found[-1].backbone != name:
            found.append(row)
        elif row.cv_accuracy > found[-1].cv_accuracy:
            found[-1] = row
    return found


def _features(kept, samples, backbone, poolings, train, numerics, device, watch):
    """(name, source, (n, d) features) of every tap of every baseline."""
    for name in BASELINES:
        ours = load_backbone(name, cache=kept.store.cache)
        tap = Tap(name, "avg" if name == "pixels" else "grid3")
        done = extract(samples.inputs, [tap], ours, kept.store, numerics="float32", device=device, **watch(name, [tap]))
        source = Source(name, tap.layer, tap.pooling, ours.card.width(tap))
        yield name, source, kept.store.read(done.recipe, [tap], done.ids)
    if not backbone.card.architecture.startswith("torchvision.") or backbone.card.weights == "random":
        return
    name = f"{backbone.name} untrained"
    own = load_backbone(backbone.name, "random", seed=backbone.seed, size=backbone.size, cache=kept.store.cache)
    taps = choose_taps(own.card, "auto", poolings[-1:]) or choose_taps(own.card, "auto", ["avg"])
    taps = [taps[i] for i in sorted({round(i) for i in np.linspace(0, len(taps) - 1, UNTRAINED)})]
    done = extract(samples.inputs, taps, own, kept.store, numerics=numerics, device=device, **watch(name, taps))
    for tap in taps:
        source = Source(name, tap.layer, tap.pooling, own.card.width(tap))
        yield name, source, kept.store.read(done.recipe, [tap], done.ids)


def _best_row(source, X, labels, folds, n_jobs):
    search = HeadSearchCV([HEAD], cv=folds, refit=False, n_jobs=n_jobs).fit(X, labels)
    right = [is_right(oof, labels).mean().round(12) for oof in search.oof_scores_]
    best = int(np.argmax(right))
    params = {key: value for key, value in search.cv_results_["params"][best].items() if key != "head"}
    seconds = float((search.cv_results_["mean_fit_time"] + search.cv_results_["mean_score_time"]).sum() * len(folds))
    return describe_row(source, HEAD, params, search.oof_scores_[best], labels, folds, round(seconds, 3))


def _majority(labels, folds):
    search = HeadSearchCV(["prior"], cv=folds, refit=False).fit(np.zeros((len(labels), 1), np.float32), labels)
    source = Source("majority", None, None, 0)
    return describe_row(source, "prior", {}, search.oof_scores_[0], labels, folds, 0.0)
