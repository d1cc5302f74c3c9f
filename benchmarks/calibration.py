"""Whether probabilities are worth their name on few images: `python -m benchmarks.calibration
FOLDER... [--views plain] [--sizes 60,100,200] [--draws 20] [--cache DIR]`.

FOLDER: class-per-folder photos. Training images are drawn class by class, the leaderboard is made,
chosen and fitted as a run does, and all other images are predicted: with `--views auto` as the
default run does it, by a first look at each draw which views there are, and blended over them.
Beside it stands scikit-learn's
`CalibratedClassifierCV` around the best single row's head, with the folds it makes itself. The
calibration error is of 15 bins, debiased: of each bin's squared gap the variance that chance alone
gives it is taken off.
"""

import argparse
import tempfile
import time

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import StratifiedShuffleSplit

from data import make_folds, read_images
from extract import FeatureStore
from extract.cores import cores
from extract.preprocessing import PLAIN, WHOLE, WITH_FLIPS
from heads import make_head
from heads.blended import answers
from pipelines.evaluation.choice import choose_row, fit_chosen
from pipelines.evaluation.leaderboard import BLEND, make_leaderboard
from pipelines.evaluation.metrics import BINS, log_loss
from pipelines.evaluation.search import Search
from pipelines.evaluation.sources import screen_sources
from pipelines.evaluation.views import Look, look_twice
from pipelines.features import keep_features, load_backbones
from pipelines.settings import RunSettings

VIEWS = {"plain": [str(PLAIN)], "auto": [str(PLAIN), str(WITH_FLIPS), str(WHOLE)]}


def debiased_error(codes, probabilities):
    """Calibration error of the predicted class's probability, free of what chance gives it."""
    confidence = probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    right = probabilities.argmax(axis=1) == codes
    gaps = np.bincount(bins, right - confidence, minlength=BINS)
    by_chance = np.bincount(bins, confidence * (1 - confidence), minlength=BINS)
    return np.sqrt(np.maximum(gaps**2 - by_chance, 0)).sum() / len(codes)


def features_of(folder, views, cache):
    """(samples, [(n, d) of each source], sources) of all images, training and test alike."""
    samples = read_images(folder)
    settings = RunSettings(cache=cache)
    store = FeatureStore(cache)
    backbones = load_backbones(samples, settings, store)
    table = keep_features(samples, backbones, store, settings, views=VIEWS[views])
    return table.samples, [table.read(i) for i in range(len(table.sources))], table.sources


def choose_sources(features, sources, labels, train, seed):
    """Those that a run searches: of the views that a first look takes, screened where many."""
    views = [source.view for source in sources]
    asked, *further = dict.fromkeys(views)

    def see(rows, more):
        looked = [i for i, view in enumerate(views) if view in (asked, *more)]
        own = [views[i] for i in looked]
        return Look(lambda place: features[looked[place]][rows], own, labels[rows])

    used = look_twice(see, further, labels, train, seed, cores()).used if further else (asked,)
    seen = [i for i, view in enumerate(views) if view in used]
    places, _ = screen_sources(
        lambda place: features[seen[place]][train], len(seen), labels[train], n_jobs=cores()
    )
    return [seen[place] for place in places]


def draw(samples, features, sources, size, seed):
    """One training set -> figures of the chosen classifier, of the best row alone, and of its
    peer."""
    labels = samples.labels
    codes = np.unique(labels, return_inverse=True)[1]
    split = StratifiedShuffleSplit(1, train_size=size, random_state=seed)
    train, test = next(split.split(codes, codes))
    own = samples[train]
    folds = make_folds(own, np.arange(size), min(5, np.bincount(codes[train]).min()), seed)
    search = Search(RunSettings().head_names, folds, seed=seed)

    chosen = choose_sources(features, sources, labels, train, seed)
    features, sources = [features[i] for i in chosen], [sources[i] for i in chosen]

    def read(source):
        return features[source][train]

    board = make_leaderboard(read, sources, labels[train], search)
    alone = next(place for place, row in enumerate(board.rows) if row.head != BLEND)
    found = {}
    for name, place in (("chosen", choose_row(board)), ("best row", alone)):
        head = fit_chosen(board, place, read, labels[train])
        wide = np.hstack([features[source][test] for source in head.sources])
        found[name] = answers(head.estimator, head.calibration, wide)[1]
    member = board.members[alone][0]
    peer = CalibratedClassifierCV(make_head(member.head, **member.params), cv=len(folds))
    peer.fit(features[member.source][train], labels[train])
    found["scikit-learn"] = peer.predict_proba(features[member.source][test])
    return {
        name: (
            debiased_error(codes[test], own),
            log_loss(codes[test], None, own),
            np.mean(own.argmax(axis=1) == codes[test]),
            own.max(axis=1).mean(),
        )
        for name, own in found.items()
    }


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--views", choices=VIEWS, default="plain")
    parser.add_argument("--sizes", default="60,100,200")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cache")
    options = parser.parse_args()
    errors, losses = [], []
    print("images train                   error  worst of 9/10  log loss  accuracy  confidence")
    with tempfile.TemporaryDirectory() as folder:
        for images in options.folders:
            samples, features, sources = features_of(images, options.views, options.cache or folder)
            for size in map(int, options.sizes.split(",")):
                started = time.perf_counter()
                drawn = [
                    draw(samples, features, sources, size, seed) for seed in range(options.draws)
                ]
                for name in drawn[0]:
                    own = np.array([each[name] for each in drawn])
                    tenth = np.quantile(own[:, 0], 0.9)
                    means = own.mean(axis=0)
                    print(
                        f"{samples.name[:12]:12} {size:4} {name:14} {means[0]:.3f} {tenth:14.3f} "
                        f"{means[1]:9.3f} {means[2]:9.3f} {means[3]:11.3f}",
                        flush=True,
                    )
                errors += [each["chosen"][0] for each in drawn]
                losses += [
                    [each[name][1] for name in ("chosen", "best row", "scikit-learn")]
                    for each in drawn
                ]
                print(f"  {time.perf_counter() - started:.0f} s", flush=True)
    chosen, alone, peer = np.mean(losses, axis=0)
    print(
        f"all: calibration error {np.mean(errors):.3f}, in nine of ten draws at most "
        f"{np.quantile(errors, 0.9):.3f}; log loss {chosen:.3f}, best row {alone:.3f}, "
        f"scikit-learn around it {peer:.3f}"
    )


if __name__ == "__main__":
    main()
