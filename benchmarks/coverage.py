"""Whether the intervals hold what they say: `python -m benchmarks.coverage [--problems 500]
[--null 40] [--answers 20] [--gains 200] [--thorough]`.

Test sets of 20 to 500 images are drawn from populations of known accuracy, up to all right, and
every metric's interval is held against the metric of the population.

The gain of the last doubling of images is held against that of many draws.

Problems are drawn over a table of n, classes and accuracy: a cloud per class, seen through three
noisy rectified projections (the taps). Heads and parameters on every tap are cross-validated, those
that the best beats beyond chance after the first fold are stopped as in a run, the best is chosen
and trained on all n rows, and its true accuracy is that on 6,000 further rows. Then the same with
labels that mean nothing and more configurations, against nested cross-validation.
"""

import argparse
import itertools
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from data import folds
from heads import make_head
from heads.blended import Member
from pipelines.evaluation.comparison import corrected_score, tied_with_best
from pipelines.evaluation.intervals import wilson_interval
from pipelines.evaluation.learning_curve import learning_curve
from pipelines.evaluation.metrics import METRICS, measure
from pipelines.evaluation.search import Search
from pipelines.evaluation.sources import search_sources

SIZES, CLASSES, SEPARATIONS = (20, 60, 120, 240, 480, 1000), (2, 5, 10), (0.3, 0.8, 2.0, 5.0)
FOLDS = 5
TRUTH = 6000
# of test sets: images, classes (five of them of unequal size), accuracy, and how far the
# probabilities are from calibrated: logits times this
TEST_SIZES, TEST_CLASSES = (20, 50, 100, 200, 500), (2, 5, 10)
ACCURACIES, SHARPNESS = (0.6, 0.8, 0.9, 0.95, 0.99, 1.0), (0.6, 1.0, 1.6)
UNEQUAL, FALL = 5, 0.6
POPULATION = 40_000
GAIN_SIZES, GAIN_DRAWS = (40, 80, 160, 320), 12
NULL_ROWS, NULL_CLASSES = 240, 2
GRIDS = {
    "logistic": {"logisticregression__C": [1e-3, 1e-2, 1e-1, 1.0]},
    "lda": {"lineardiscriminantanalysis__shrinkage": [0.9, 0.5, 0.1]},
    "ridge": {"ridgeclassifier__alpha": [1.0, 10.0, 100.0, 1000.0]},
    "knn": {"kneighborsclassifier__n_neighbors": [1, 3, 5, 9, 15]},
}
# 40 settings: with five taps, 200 configurations
NULL_GRIDS = {
    "lda": {
        "lineardiscriminantanalysis__shrinkage": [
            0.99,
            0.9,
            0.7,
            0.5,
            0.3,
            0.2,
            0.1,
            0.05,
            0.02,
            0.01,
        ]
    },
    "ridge": {
        "ridgeclassifier__alpha": [float(f"{10**power:.3g}") for power in np.linspace(-1, 4, 10)]
    },
    "knn": {
        "kneighborsclassifier__n_neighbors": [1, 3, 5, 7, 9, 13, 17, 21, 27, 35],
        "kneighborsclassifier__metric": ["euclidean", "cosine"],
    },
}


def taps_of(latent, maps, rng):
    """What each tap shows of the rows: rectified projections, each noisier than the one before."""
    return [
        np.maximum(latent @ m + noise * rng.normal(size=(len(latent), m.shape[1])), 0).astype(
            np.float32
        )
        for noise, m in zip(np.linspace(0.3, 1, len(maps)), maps, strict=True)
    ]


def population(rng, classes, separation, taps=3, latent=16, width=24):
    """draw(n) -> (features of each tap, labels), as often as called."""
    means = rng.normal(size=(classes, latent)) * separation
    maps = [rng.normal(size=(latent, width)) / np.sqrt(latent) for _ in range(taps)]

    def draw(n):
        labels = rng.permutation(np.arange(n) % classes)
        return taps_of(means[labels] + rng.normal(size=(n, latent)), maps, rng), labels

    return draw


def search(taps, labels, grids, seed, raced):
    """(right (settings, n), rows, stopped) over FOLDS folds: of all settings that saw every fold,
    of the best of each tap and head ((tap, params), right (n,)), and how many were stopped."""
    own = Search(grids, folds(labels, FOLDS, seed=seed), raced=raced)
    found = search_sources(lambda tap: taps[tap], [X.shape[1] for X in taps], labels, own)
    rows = [
        ((tap, {"head": head, **best.params}), best.facts)
        for tap, searched in enumerate(found)
        for head, best in searched.best.items()
        if not best.is_stopped
    ]
    right = np.concatenate([searched.facts for searched in found])
    return right, rows, sum(searched.n_tried for searched in found) - len(right)


def train(setting, taps, labels):
    """The setting's head on all rows -> predict(taps)."""
    tap, params = setting
    params = dict(params)
    head = make_head(params.pop("head"), **params).fit(taps[tap], labels)
    return lambda others: head.predict(others[tap])


@dataclass(frozen=True)
class Drawn:
    """One problem: its cell of the table, the true accuracy of what was chosen, and what was said
    of it; `rows_held` is the share of the leaderboard's rows whose interval holds their truth,
    `stopped` that of the settings that saw the first fold alone."""

    cell: tuple
    true: float
    raw: float
    corrected: float
    interval: tuple
    test_interval: tuple
    best_kept: bool
    rows_held: float
    stopped: float


def draw_problem(n, classes, separation, seed, raced) -> Drawn:
    """Draw a problem, choose by cross-validation, and compare with the truth."""
    rng = np.random.default_rng(seed)
    with threadpool_limits(1):
        draw = population(rng, classes, separation)
        taps, labels = draw(n)
        right, rows, n_stopped = search(taps, labels, GRIDS, seed, raced)
        more, truth = draw(TRUTH)
        of_rows = np.array([own for _, own in rows])
        trues = [np.mean(train(row, taps, labels)(more) == truth) for row, _ in rows]
    scores = of_rows.mean(axis=1)
    true = trues[scores.argmax()]
    corrected, low, high = corrected_score(right, seed=seed + 1)
    test_interval = wilson_interval(rng.binomial(n, true), n)
    kept = tied_with_best(of_rows, seed=seed + 2)[int(np.argmax(trues))]
    ends = [wilson_interval(own.sum(), n) for own in of_rows]
    held = np.mean([low <= true <= high for (low, high), true in zip(ends, trues, strict=True)])
    stopped = n_stopped / (n_stopped + len(right))
    cell, interval = (n, classes, separation), (low, high)
    return Drawn(cell, true, scores.max(), corrected, interval, test_interval, kept, held, stopped)


def draw_null(seed, raced):
    """Labels that mean nothing: accuracies (raw best, corrected, nested) of the best of 200
    configurations."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(NULL_ROWS) % NULL_CLASSES)
    taps = [rng.normal(size=(NULL_ROWS, 24)).astype(np.float32) for _ in range(5)]
    with threadpool_limits(1):
        right, _, n_stopped = search(taps, labels, NULL_GRIDS, seed, raced)
        nested = []
        for rows, held in folds(labels, 5, seed=seed + 1):
            inner = [X[rows] for X in taps]
            _, found, _ = search(inner, labels[rows], NULL_GRIDS, seed, raced)
            best, _ = max(found, key=lambda row: row[1].mean())
            predicted = train(best, inner, labels[rows])([X[held] for X in taps])
            nested.append(np.mean(predicted == labels[held]))
    return (
        right.mean(axis=1).max(),
        corrected_score(right, seed=seed + 2)[0],
        np.mean(nested),
        len(right) + n_stopped,
    )


def summarise(name, drawn):
    """One line of the table: coverage of both intervals, their widths, and the bias of three
    estimates."""
    test = np.mean([d.test_interval[0] <= d.true <= d.test_interval[1] for d in drawn])
    ours = np.mean([d.interval[0] <= d.true <= d.interval[1] for d in drawn])
    wide = np.mean([d.interval[1] - d.interval[0] for d in drawn])
    narrow = np.mean([d.test_interval[1] - d.test_interval[0] for d in drawn])
    raw, corrected = (
        np.mean([getattr(d, key) - d.true for d in drawn]) for key in ("raw", "corrected")
    )
    kept = np.mean([d.best_kept for d in drawn])
    rows = np.mean([d.rows_held for d in drawn])
    stopped = np.mean([d.stopped for d in drawn])
    true = np.mean([d.true for d in drawn])
    print(
        f"{name:16} {len(drawn):5} {true:9.3f} {raw:+9.3f} {corrected:+10.3f} {test:9.3f} "
        f"{ours:9.3f} "
        f"{wide / narrow:7.2f} {kept:10.3f} {rows:9.3f} {stopped:9.3f}",
        flush=True,
    )
    return test, ours, wide / narrow, rows


def table(problems, jobs, raced):
    """The first three bars, over all cells and by each of their parts."""
    cells = itertools.product(SIZES, CLASSES, SEPARATIONS)
    # every class is in every fold
    cells = [cell for cell in cells if cell[0] >= 2 * FOLDS * cell[1]]
    wanted = [(*cells[i % len(cells)], i, raced) for i in range(problems)]
    drawn = Parallel(n_jobs=jobs)(delayed(draw_problem)(*each) for each in wanted)
    print(
        "                           true       raw  corrected      test corrected   times"
        "  best row      rows  settings"
    )
    print(
        "problems             n accuracy      bias       bias    covers    covers    test"
        "      tied     cover   stopped"
    )
    test, ours, wider, rows = summarise("all", drawn)
    for place, name in enumerate(("n", "classes", "separation")):
        for value in dict.fromkeys(d.cell[place] for d in drawn):
            summarise(f"{name} {value}", [d for d in drawn if d.cell[place] == value])
    _say("test interval covers 0.92 to 0.98", 0.92 <= test <= 0.98)
    _say("rows' intervals cover 0.92 to 0.98", 0.92 <= rows <= 0.98)
    _say("corrected interval covers 0.92 or more", ours >= 0.92)
    _say("corrected interval no wider than 1.7 test intervals", wider <= 1.7)


def null(draws, jobs, raced):
    """The bars for labels that mean nothing."""
    drawn = np.array(
        Parallel(n_jobs=jobs)(delayed(draw_null)(10_000 + seed, raced) for seed in range(draws))
    )
    (raw, corrected, nested, tried), noise = drawn.mean(axis=0), drawn.std(axis=0) / np.sqrt(draws)
    print(
        f"\nlabels that mean nothing: {draws} draws of {NULL_ROWS} rows, {tried:.0f} "
        f"configurations, chance 0.500"
    )
    for name, value, error in zip(
        ("raw best", "corrected", "nested"), (raw, corrected, nested), noise, strict=False
    ):
        print(f"{name:10} {value:.3f} (standard error {error:.3f})")
    _say("corrected within 3.5 points of chance", abs(corrected - 0.5) <= 0.035)
    _say("nested within 1 point of chance", abs(nested - 0.5) <= 0.01)


def answers_of(labels, classes, separation, sharpness, rng):
    """(predicted, probabilities): a normal cloud per class, its axis `separation` from the rest."""
    latent = rng.normal(size=(len(labels), classes))
    latent[np.arange(len(labels)), labels] += separation
    logits = sharpness * separation * latent
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return latent.argmax(axis=1), shares / shares.sum(axis=1, keepdims=True)


def separation_of(accuracy, classes):
    """The separation that gives this accuracy; far apart where it is 1."""
    if accuracy == 1:
        return 15.0
    labels = np.arange(20_000) % classes
    low, high = 0.0, 15.0
    for _ in range(12):
        middle = (low + high) / 2
        predicted, _ = answers_of(labels, classes, middle, 1.0, np.random.default_rng(0))
        low, high = (low, middle) if np.mean(predicted == labels) > accuracy else (middle, high)
    return middle


def draw_answers(n, classes, accuracy, sharpness, draws):
    """{metric: (draws, 2) whether its interval holds the population's value, and its width}."""
    rng = np.random.default_rng([n, classes, round(100 * accuracy), round(10 * sharpness)])
    shares = FALL ** np.arange(classes) if classes == UNEQUAL else np.ones(classes)
    sizes = np.maximum(np.round(n * shares / shares.sum()).astype(int), 1)
    separation = separation_of(accuracy, classes)
    names = np.arange(classes)
    many = np.repeat(names, sizes * (POPULATION // sizes.sum()))
    found = answers_of(many, classes, separation, sharpness, rng)
    labels = np.repeat(names, sizes)
    covered = {}
    for draw in range(draws):
        own = measure(
            labels, *answers_of(labels, classes, separation, sharpness, rng), names, seed=draw
        )
        for name, figure in own.items():
            truth = METRICS[name].value(many, *found)
            held = figure["low"] - 1e-9 <= truth <= figure["high"] + 1e-9
            covered.setdefault(name, []).append((held, figure["high"] - figure["low"]))
    return {name: np.array(own) for name, own in covered.items()}


def answers(draws, jobs):
    """The bar of every metric's interval, and its coverage by images and by accuracy."""
    cells = list(itertools.product(TEST_SIZES, TEST_CLASSES, ACCURACIES, SHARPNESS))
    found = Parallel(n_jobs=jobs)(delayed(draw_answers)(*cell, draws) for cell in cells)
    columns = [*TEST_SIZES, *ACCURACIES]
    print(f"{'share of intervals that cover':30}  all  " + "".join(f"{c:>7}" for c in columns))
    held, narrowest = [], np.inf
    for name in METRICS:
        own = [(cell, each[name]) for cell, each in zip(cells, found, strict=True) if name in each]
        means = [np.concatenate([each for _, each in own])[:, 0].mean()]
        for place, values in ((0, TEST_SIZES), (2, ACCURACIES)):
            for value in values:
                of_value = [each for cell, each in own if cell[place] == value]
                means.append(np.concatenate(of_value)[:, 0].mean())
        print(f"{name:30}" + "".join(f"{mean:7.3f}" for mean in means), flush=True)
        held.append(means[0])
        narrowest = min(narrowest, *(each[:, 1].min() for _, each in own))
    _say("every metric's interval covers 0.92 to 0.98", min(held) >= 0.92 and max(held) <= 0.98)
    _say("no interval has zero width", narrowest > 0)


def draw_gain(n, seed):
    """(whether the interval of the last doubling's gain holds the mean gain of many draws, its
    width)."""
    rng = np.random.default_rng([n, seed])
    classes, width = 4, 20
    means = rng.normal(size=(classes, width)) * rng.choice([0.15, 0.3, 0.5, 1.0])

    def draw(size):
        labels = np.arange(size) % classes
        return means[labels] + rng.normal(size=(size, width)), labels

    member = Member("logistic", {"logisticregression__C": 0.01})
    more, truth = draw(TRUTH)
    with threadpool_limits(1):
        X, labels = draw(n)
        found = learning_curve([(X, [member])], labels, Search((), folds(labels, 5, seed=seed)))
        sizes = [round(point.images) for point in found.points[-2:]]
        accuracies = []
        for _ in range(GAIN_DRAWS):
            X, labels = draw(sizes[1])
            half = np.concatenate(
                [np.flatnonzero(labels == k)[: sizes[0] // classes] for k in range(classes)]
            )
            heads = [make_head("logistic", **member.params) for _ in range(2)]
            heads[0].fit(X[half], labels[half])
            heads[1].fit(X, labels)
            accuracies.append([np.mean(head.predict(more) == truth) for head in heads])
    half, whole = np.mean(accuracies, axis=0)
    return found.gain_low <= whole - half <= found.gain_high, found.gain_high - found.gain_low


def gains(draws, jobs):
    """The bar of the learning curve's gain."""
    wanted = [(n, seed) for n in GAIN_SIZES for seed in range(max(1, draws // len(GAIN_SIZES)))]
    found = np.array(Parallel(n_jobs=jobs)(delayed(draw_gain)(*each) for each in wanted))
    print("\ngain of the last doubling: images, share of intervals that cover, mean width")
    for n in GAIN_SIZES:
        own = found[[size == n for size, _ in wanted]]
        print(f"{n:8} {own[:, 0].mean():.3f} {own[:, 1].mean():.3f}", flush=True)
    covers = found[:, 0].mean()
    print(f"{'all':>8} {covers:.3f} {found[:, 1].mean():.3f}")
    _say("the gain's interval covers 0.92 to 0.98", 0.92 <= covers <= 0.98)


def _say(bar, held):
    print(f"{'ok' if held else 'SHORT':6}{bar}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=500, help="drawn problems (500)")
    parser.add_argument(
        "--null", type=int, default=40, help="draws of labels that mean nothing (40)"
    )
    parser.add_argument("--answers", type=int, default=20, help="test sets of each kind (20)")
    parser.add_argument("--gains", type=int, default=200, help="learning curves (200)")
    parser.add_argument("--thorough", action="store_true", help="without a race of the settings")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    chosen = parser.parse_args()
    started = time.perf_counter()
    # a part of which none is asked for is left out
    for part, count in (
        (answers, chosen.answers),
        (gains, chosen.gains),
        (partial(table, raced=not chosen.thorough), chosen.problems),
        (partial(null, raced=not chosen.thorough), chosen.null),
    ):
        if count:
            part(count, chosen.jobs)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
