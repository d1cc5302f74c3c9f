"""What bringing features to another place is worth: `python -m benchmarks.shift SET...
[--labels 60] [--draws 20] [--cache DIR]`.

SET: class-per-folder photos with a split inside. The training images are the labelled ones; the
others, made gray and blurred here, are the other place's, whose labels score. Printed are, on an
earlier and on the last averaged layer, logistic regression on the features as they are, on aligned
ones, and on those of a network whose batch norms have the statistics of either place; the same
where only half of the classes are there; and whole
runs with `--unlabelled`, which choose a layer and a correction: without a label of the other place,
and with so many drawn, which score nothing. Each is paired with the uncorrected, or the run's
classifier, by image, with an interval at 95 %.

Then what must not be found: the set's own images in two halves at random, how often these are told
apart at 5 %, and how often some class is; and a third of them, of half of the classes alone, beside
the rest of all classes, which is no other place: how often some class is told to have moved, and
what a correction would have done.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch.nn import BatchNorm2d

from benchmarks.calibration import features_of
from benchmarks.few_labels import averages, interval
from data import make_folds, read_images
from extract import FeatureStore, load_backbone
from extract.engines import made_ready, mean_and_std
from extract.preprocessing import seen_as
from heads import HeadSearchCV, make_head
from heads.alignment import ALIGNMENTS
from pipelines import RunSettings, run_job
from pipelines.evaluation.corrections import NONE, agreements, correct_shift, judge_corrections
from pipelines.evaluation.ways import compare_pair
from pipelines.exploration.shift import find_shift
from pipelines.features import keep_features, load_backbones

NETWORK = "mobilenet_v2"
BATCH = 64
FOLDS = 5
BLUR = 3  # pixels, of the Gaussian's deviation
LAYERS = ("features.14", "features.18")
C = 0.01  # of logistic regression where it says which class an image is of
FEW_LABELS = 30  # of half of the classes, which choose where the place differs too
MIXES = 5  # draws of other classes' shares: each fits four heads


def spoil(samples, folder):
    """The images gray and blurred, by class; their paths and labels."""
    made = []
    for path, label in zip(samples.paths, samples.labels, strict=True):
        file = Path(folder, label, Path(path).name).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        own = Image.open(path).convert("L").filter(ImageFilter.GaussianBlur(BLUR)).convert("RGB")
        own.save(file)
        made.append(str(file))
    return made, samples.labels


def say(name, right, others):
    """A row: the accuracy, and what it is more than the others'."""
    gain = compare_pair(right, others)
    low, high = 100 * gain["low"], 100 * gain["high"]
    gained = f" {100 * gain['difference']:+6.1f} ({low:+.1f} to {high:+.1f})"
    print(f"{name:34} {100 * right.mean():6.1f}{'' if right is others else gained}", flush=True)


def keep_layers(samples, store, weights=None):
    """The averages of two layers."""
    settings = RunSettings(layers=",".join(LAYERS), pooling="avg", weights=weights)
    return keep_features(samples, load_backbones(samples, settings, store), store, settings)


def take_statistics(paths, file):
    """The weights, with these images' means and deviations in every batch norm (Li et al., 2016).

    Images of all classes are in each batch: its deviations would else be those within a class.
    """
    backbone = load_backbone(NETWORK)
    for norm in backbone.network.modules():
        if isinstance(norm, BatchNorm2d):
            norm.momentum = None  # the mean of all batches counts
            norm.reset_running_stats()
            norm.train()
    see, scale = (
        seen_as("plain")(backbone.preprocessing),
        mean_and_std(backbone.preprocessing, "cpu"),
    )
    order = np.random.default_rng(0).permutation(len(paths))
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            images = [see(Image.open(paths[row]).convert("RGB")) for row in rows]
            backbone.network(made_ready(torch.from_numpy(np.stack(images)), scale))
    save_file(backbone.network.state_dict(), file)
    return file


def compare_layers(samples, folder, labels, cache):
    """Corrections on two layers, where the run's own choice has no part."""
    store = FeatureStore(cache)
    train = samples[np.flatnonzero(samples.split == "train")]
    spoilt = read_images(folder, labelled=False)
    classes, codes = np.unique(train.labels, return_inverse=True)
    true = np.array([labels[path] for path in spoilt.paths])
    tables = [keep_layers(own, store) for own in (train, spoilt)]
    with tempfile.TemporaryDirectory() as place:
        files = (Path(place, name) for name in ("train.safetensors", "other.safetensors"))
        adapted = [
            keep_layers(own, store, take_statistics(own.paths, file))
            for own, file in zip((train, spoilt), files, strict=True)
        ]
    folds = make_folds(train, np.arange(len(train)), FOLDS, 0)
    for source, own in enumerate(tables[0].sources):
        rows = [table.read(source) for table in tables]
        answers = correct_shift(rows[0], codes, folds, rows[1])
        right = {name: classes[each.argmax(axis=1)] == true for name, each in answers.items()}
        head = HeadSearchCV(["logistic"], cv=folds).fit(adapted[0].read(source), codes)
        right["statistics of each"] = classes[head.predict(adapted[1].read(source))] == true
        for name, each in right.items():
            say(f"{own.tap} {name}", each, right[NONE])
        few = np.isin(true, classes[: len(classes) // 2])
        compare_few(
            f"{own.tap}, half of the classes", (rows[0], codes, folds, rows[1][few]), true[few]
        )


def compare_few(name, given, true):
    """The place and the classes' shares differ at once; beside each what it agrees with others."""
    answers = correct_shift(*given)
    agreed, classes = agreements(answers), np.unique(true)
    codes = np.searchsorted(classes, true)
    right = {own: each.argmax(axis=1) == codes for own, each in answers.items()}
    for own, each in right.items():
        say(f"{name} {own} ({agreed[own]:.2f})", each, right[NONE])
    # what answers otherwise is here the uncorrected
    choices = {"otherwise": answers[NONE], **answers}
    taken = [choose_by_labels(choices, codes, i) for i in range(10)]
    print(f"{name}: by {FEW_LABELS} labels, ten draws: {', '.join(sorted(set(taken)))}", flush=True)


def choose_by_labels(answers, codes, seed):
    """What a draw of labels of the other place takes."""
    rows = np.random.default_rng(seed).choice(len(codes), FEW_LABELS, replace=False)
    return judge_corrections(answers, rows, codes[rows])["taken"]


def compare_runs(images, folder, labels, n_labels, cache):
    """What whole runs choose, without and with labels of the other place."""
    rng = np.random.default_rng(0)
    drawn = set(rng.choice(sorted(labels), n_labels, replace=False))
    with tempfile.TemporaryDirectory() as place:
        table = Path(place, "some.csv")
        with open(table, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "label"), *((own, labels[own]) for own in drawn)])
        for given in (None, table):
            settings = RunSettings(
                unlabelled=folder, target_labels=given, baselines=False, report=False, cache=cache
            )
            result = run_job(images, settings)
            scored = [own for own in result.unlabelled.path if given is None or own not in drawn]
            told = dict(zip(result.unlabelled.path, result.unlabelled.predicted, strict=True))
            alone = result.classifier.predict(scored)
            true = np.array([labels[own] for own in scored])
            said = np.array([told[own] for own in scored])
            how = "no labels" if given is None else f"{n_labels} labels"
            say(f"a run, {how}: {result.unlabelled.method}", said == true, alone == true)


def tell_apart(rows, labels, first, second, samples, seed):
    """The shift between images of one set, and how the second's classes were found."""
    folds = make_folds(samples[first], np.arange(len(first)), FOLDS, seed)
    classes, codes = np.unique(labels, return_inverse=True)
    said = np.empty(len(first), int)
    for train, validation in folds:
        head = make_head("logistic", C=C).fit(rows[first][train], codes[first][train])
        said[validation] = head.predict(rows[first][validation])
    head = make_head("logistic", C=C).fit(rows[first], codes[first])
    predicted = classes[said], classes[head.predict(rows[second])]
    return find_shift(rows[first], rows[second], predicted, seed), folds


def count(found):
    """How many were told apart."""
    differing = sum(own.whole.differs for own in found)
    return (
        f"{differing} told apart, {sum(bool(own.moved) for own in found)} with a class that moved"
    )


def compare_halves(samples, rows, draws):
    """How often two halves of one set are told apart."""
    found = []
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(rows))
        halves = np.sort(order[::2]), np.sort(order[1::2])
        found.append(tell_apart(rows, samples.labels, *halves, samples, seed)[0])
    print(f"{samples.name}: of {draws} times two halves {count(found)}", flush=True)


def compare_mixes(samples, rows):
    """Half of the classes beside all of them: what is told, and what a correction would do."""
    classes, codes = np.unique(samples.labels, return_inverse=True)
    n = len(classes) // 2
    found, gains = [], {name: [] for name in ALIGNMENTS}
    for seed in range(MIXES):
        order = np.random.default_rng(seed).permutation(len(rows))
        second, first = np.sort(order[: len(rows) // 3]), np.sort(order[len(rows) // 3 :])
        second = second[codes[second] < n]
        shift, folds = tell_apart(rows, samples.labels, first, second, samples, seed)
        found.append(shift)
        answers = correct_shift(rows[first], codes[first], folds, rows[second])
        right = {
            name: np.mean(own.argmax(axis=1) == codes[second]) for name, own in answers.items()
        }
        for name, own in gains.items():
            own.append(right[name] - right[NONE])
    gained = ", ".join(f"{name} {interval(own)}" for name, own in gains.items())
    alone = f"{', '.join(classes[:n])} alone"
    print(f"{samples.name}: of {MIXES} times {alone} {count(found)}; {gained}", flush=True)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cache")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        cache = options.cache or str(Path(place, "cache"))
        for images in options.folders:
            samples, features, sources = features_of(images, "plain", cache)
            folder = str(Path(place, "other", samples.name))
            paths, labels = spoil(samples[np.flatnonzero(samples.split != "train")], folder)
            known = dict(zip(paths, labels, strict=True))
            print(f"{samples.name}, {len(known)} images gray and blurred")
            compare_layers(samples, folder, known, cache)
            compare_runs(images, folder, known, options.labels, cache)
            rows = features[averages(sources)[-1]]
            compare_halves(samples, rows, options.draws)
            compare_mixes(samples, rows)


if __name__ == "__main__":
    main()
