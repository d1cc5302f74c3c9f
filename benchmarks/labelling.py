"""Images that `explore` asks labels for, against drawn ones: `python -m benchmarks.labelling SET…`.

A SET is a folder with the class folders in train/ and val/. In each of `--draws` draws four in five
images of train/ are there without labels. `explore` names `--n` of them, which are labelled; with
these labels it names as many again. Beside it as many are drawn, `--beside` times, of which the
mean counts. What is measured is the accuracy on val/ of one logistic head, on the network's last
layer averaged. Intervals are Student's, over the draws: they hold for these sets, whose images the
draws share.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from data import Samples, read_image_folder
from extract import FeatureExtractor
from extract.cores import cores
from heads import make_head
from pipelines import ExploreSettings, explore_job

STRENGTH = 0.01
SHARE = 0.8
CONFIDENCE = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.labelling", description=__doc__)
    parser.add_argument("sets", nargs="+", help="such as flowers: a folder with train/ and val/")
    parser.add_argument("--n", type=int, default=50, help="images of a round, such as 50")
    parser.add_argument("--draws", type=int, default=10, help="such as 10")
    parser.add_argument("--beside", type=int, default=5, help="random draws beside each, such as 5")
    parser.add_argument("--cache", type=Path, help="where features are kept")
    asked = parser.parse_args()
    print(f"{asked.draws} draws, {asked.n} labels a round, {cores()} cores")
    print(f"{'':14}{'labels':>8}{'drawn':>8}{'explore':>9}{'difference, 95 %':>28}")
    for folder in map(Path, asked.sets):
        found = [one_draw(folder, seed, asked) for seed in range(asked.draws)]
        for number, per_draw in enumerate(np.swapaxes(found, 0, 1), 1):
            drawn, explored = 100 * per_draw.T
            middle, half = mean_with_half(explored - drawn)
            print(
                f"{folder.name:14}{number * asked.n:8}{drawn.mean():8.1f}{explored.mean():9.1f}"
                f"{f'{middle:+.1f} ({middle - half:+.1f} to {middle + half:+.1f})':>28}",
                flush=True,
            )


def one_draw(folder: Path, seed: int, asked: argparse.Namespace) -> np.ndarray:
    """(2 rounds, 2) accuracies on val/: of labels drawn, and of those that are asked for."""
    rng = np.random.default_rng(seed)
    every, test = read_image_folder(folder / "train"), read_image_folder(folder / "val")
    pool = every[np.sort(rng.permutation(len(every))[: round(SHARE * len(every))])]
    features, of_test = features_of(pool, asked.cache), features_of(test, asked.cache)

    def score(rows: np.ndarray) -> float:
        head = make_head("logistic", C=STRENGTH).fit(features[rows], pool.labels[rows])
        return float(head.score(of_test, test.labels))

    orders = [rng.permutation(len(pool)) for _ in range(asked.beside)]
    rows, found = np.empty(0, int), []
    for number in (1, 2):
        rows = np.concatenate([rows, ask(pool, rows, seed, asked)])
        drawn = np.mean([score(order[: number * asked.n]) for order in orders])
        found.append((drawn, score(rows)))
    return np.array(found)


def features_of(samples: Samples, cache: Path | None) -> np.ndarray:
    """(n, d) of the last layer, averaged."""
    return FeatureExtractor(layer="features.18", pooling="avg", cache=cache).transform(
        samples.paths
    )


def ask(pool: Samples, known: np.ndarray, seed: int, asked: argparse.Namespace) -> np.ndarray:
    """Rows of the pool that `explore` asks for, where those known are labelled."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "labelled.csv")
        with open(table, "w", newline="", encoding="utf-8") as file:
            labelled = [(pool.paths[row], pool.labels[row]) for row in known]
            csv.writer(file).writerows([("path", "label"), *labelled])
        settings = ExploreSettings(
            # their number decides nothing of what is asked for, and takes time to find
            clusters=len(pool.classes),
            n=asked.n,
            labelled=table,
            cache=asked.cache,
            report=False,
            seed=seed,
        )
        result = explore_job(pool, settings)
    place = {path: row for row, path in enumerate(pool.paths)}
    return np.array([place[result.samples.paths[row]] for row in result.to_label])


def mean_with_half(values: np.ndarray) -> tuple[float, float]:
    """A mean and half the width of its interval."""
    error = values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error)


if __name__ == "__main__":
    main()
