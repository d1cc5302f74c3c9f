"""What unlabelled images are worth beside few labels: `python -m benchmarks.few_labels SET...
[--labels 5] [--draws 10] [--cache DIR]`.

SET: class-per-folder photos. So many labels a class are drawn and all other images stand without;
these are answered, and their labels score the answers. Labels alone: the leaderboard is made,
chosen and fitted as a run does on the taps of the plain view. Product and propagation: the same
answers times the root of what the neighbour graph says, and the graph alone, calibrated, as a run
has them with `--unlabelled`; taken: which of the three the figures out of fold say, and how often
each. The graph is of the last layer's average; beside them propagation over one of the last four
averaged layers joined, logistic regression on the last one, and that trained on its own answers.
Gains are in points of a hundred over labels alone, of self-training over its own head,
with Student intervals of the draws' mean at 95 %.
"""

import argparse
import tempfile
import time
from dataclasses import replace

import numpy as np
from scipy.stats import t

from benchmarks.calibration import features_of
from data import make_folds
from extract.cores import cores
from heads import make_head
from heads.blended import answers
from heads.propagation import NEAR, join_taps, link_neighbours, self_train, spread_labels
from pipelines.evaluation.choice import choose_row, fit_chosen
from pipelines.evaluation.leaderboard import make_leaderboard
from pipelines.evaluation.scoring import ACCURACY
from pipelines.evaluation.search import Search
from pipelines.evaluation.sources import screen_sources
from pipelines.evaluation.transduction import (
    ALONE,
    JOINS,
    UNKNOWN,
    choose_answers,
    join_new,
    join_out_of_fold,
)
from pipelines.evaluation.ways import Way
from pipelines.exploration.neighbours import find_neighbours
from pipelines.settings import RunSettings

C = 0.1  # of logistic regression: on neu_surface 0.01 to 1 came to the same within 0.2 points
FOLDS = 5
DEPTHS = 4  # averaged layers, of another graph
COLUMNS = ("taken", "times alone/joined", *JOINS, "four depths", "logistic", "self-training")
HEADER = " ".join(f"{name:22}" for name in COLUMNS)


def draw_rows(codes, n_labels, seed):
    """So many rows of each class, and all others."""
    rng = np.random.default_rng(seed)
    own = (np.flatnonzero(codes == code) for code in range(codes.max() + 1))
    train = np.sort(np.concatenate([rng.permutation(rows)[:n_labels] for rows in own]))
    return train, np.setdiff1d(np.arange(len(codes)), train)


def averages(sources):
    """The numbers of the averaged taps, the deepest last."""
    return [i for i, source in enumerate(sources) if source.pooling == "avg"]


def link(taps):
    """The graph of some taps' features."""
    return link_neighbours(*find_neighbours(join_taps(taps), NEAR))


def learn_from_labels(samples, features, sources, rows, seed):
    """What a run finds by labels alone: folds, and answers out of fold and to all other images."""
    train, rest = rows
    labels = samples.labels[train]
    n_folds = min(FOLDS, np.unique(labels, return_counts=True)[1].min())
    folds = make_folds(samples[train], np.arange(len(train)), n_folds, seed)
    chosen, _ = screen_sources(
        lambda source: features[source][train], len(sources), labels, n_jobs=cores()
    )

    def read(place):
        return features[chosen[place]][train]

    search = Search(RunSettings().head_names, folds, seed=seed)
    board = make_leaderboard(read, [sources[i] for i in chosen], labels, search)
    place = choose_row(board)
    head = fit_chosen(board, place, read, labels)
    wide = np.hstack([features[chosen[source]][rest] for source in head.sources])
    _, answered = answers(head.estimator, head.calibration, wide)
    return folds, Way(ALONE, board.probabilities[place], answered)


def join_graph(graph, own, folds, alone):
    """All ways, the chosen one once more as `taken` -> (ways, the name of the chosen one)."""
    hidden, calibrations = join_out_of_fold(graph, own, folds, alone.validation)
    found = join_new(graph, own, alone.test, calibrations)
    ways = [alone, *(Way(name, hidden[name], found[name]) for name in hidden)]
    taken = ways[choose_answers(ways, own, ACCURACY)]
    return [*ways, replace(taken, name="taken")], taken.name


def draw(samples, features, sources, n_labels, seed):
    """One draw of labels -> accuracies on all other images."""
    codes = np.unique(samples.labels, return_inverse=True)[1]
    train, rest = draw_rows(codes, n_labels, seed)
    folds, alone = learn_from_labels(samples, features, sources, (train, rest), seed)
    order, n_train = np.concatenate([train, rest]), len(train)
    *_, last = deep = [features[i][order] for i in averages(sources)[-DEPTHS:]]
    ways, name = join_graph(link([last]), codes[train], folds, alone)

    known = np.where(np.arange(len(codes)) < n_train, codes[order], UNKNOWN)
    by_depths = spread_labels(link(deep), known, codes.max() + 1)
    logistic = make_head("logistic", C=C).fit(last[:n_train], codes[train])
    taught = self_train(last, known, C=C)
    found = {way.name: way.test.argmax(axis=1) for way in ways} | {
        "four depths": by_depths[n_train:].argmax(axis=1),
        "logistic": logistic.predict(last[n_train:]),
        "self-training": taught.predict(last[n_train:]),
    }
    return {name: np.mean(own == codes[rest]) for name, own in found.items()} | {"which": name}


def interval(values):
    """`+1.6 (+0.9 to +2.3)`: the mean in points, with Student's interval at 95 %."""
    points = 100 * np.asarray(values)
    half = t.ppf(0.975, len(points) - 1) * points.std(ddof=1) / np.sqrt(len(points))
    return f"{points.mean():+.1f} ({points.mean() - half:+.1f} to {points.mean() + half:+.1f})"


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--labels", type=int, default=5)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--cache")
    options = parser.parse_args()
    gains = []
    print(f"{'set':11} {ALONE:>12}  {HEADER}")
    with tempfile.TemporaryDirectory() as folder:
        for images in options.folders:
            samples, features, sources = features_of(images, "plain", options.cache or folder)
            started = time.perf_counter()
            seeds = range(options.draws)
            drawn = [draw(samples, features, sources, options.labels, seed) for seed in seeds]
            own = {name: np.array([each[name] for each in drawn]) for name in drawn[0]}
            gains.append(own["taken"] - own[ALONE])
            times = "/".join(str((own["which"] == name).sum()) for name in (ALONE, *JOINS))
            columns = [
                interval(own[name] - own[ALONE]) for name in ("taken", *JOINS, "four depths")
            ]
            columns.insert(1, times)
            columns.append(f"{100 * own['logistic'].mean():.1f}")
            columns.append(interval(own["self-training"] - own["logistic"]))
            print(
                f"{samples.name[:11]:11} {100 * own[ALONE].mean():12.1f}  "
                + " ".join(f"{column:22}" for column in columns)
                + f" {time.perf_counter() - started:.0f} s",
                flush=True,
            )
    print(f"all: what is taken less labels alone {interval(np.mean(gains, axis=0))}")


if __name__ == "__main__":
    main()
