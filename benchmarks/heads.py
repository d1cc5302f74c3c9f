"""The heads against what a user would run instead: `python -m benchmarks.heads [--only NAME]`.

Every line times GridSearchCV(make_pipeline(StandardScaler(), HEAD), n_jobs=2) and
HeadSearchCV(n_jobs=2) on the same features, folds and grid of 7 values, in one run; the ratio is of
the medians. The features are rectified random projections of a cloud per class whose spectrum falls
off as a convolutional layer's does. With `--against sklearnex` (pip install scikit-learn-intelex)
GridSearchCV gets that package's classifiers, which stand in for scikit-learn's of the same name;
HeadSearchCV keeps scikit-learn's own. It has no LinearSVC.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from heads import HeadSearchCV
from heads.fold_passes import CHUNK
from pipelines.evaluation.search import Search
from pipelines.evaluation.sources import search_sources
from pipelines.evaluation.workers import Workers

HEADS: dict[str, tuple[Any, dict[str, list]]] = {
    "logistic": (LogisticRegression(), {"logisticregression__C": list(np.logspace(-5, 1, 7))}),
    "linear_svm": (LinearSVC(), {"linearsvc__C": list(np.logspace(-7, -1, 7))}),
    "rbf_svm": (SVC(), {"svc__C": list(np.logspace(-2, 4, 7))}),
    "knn": (KNeighborsClassifier(), {"kneighborsclassifier__n_neighbors": [25, 15, 9, 7, 5, 3, 1]}),
}
# name -> (rows, features, classes), the bar per head
SHAPES = {
    "small": ((400, 512, 2), {"logistic": 3.0, "linear_svm": 0.9, "rbf_svm": 0.9, "knn": 0.9}),
    "medium": (
        (1000, 2048, 10),
        {"logistic": 2.0, "linear_svm": 35.0, "rbf_svm": 15.0, "knn": 3.0},
    ),
    "wide": (
        (1000, 25088, 10),
        {"logistic": 12.0, "linear_svm": 100.0, "rbf_svm": 50.0, "knn": 8.0},
    ),
    "tall": ((5000, 1280, 10), {"logistic": 2.0, "linear_svm": 0.9, "rbf_svm": 0.9, "knn": 0.9}),
}
# scikit-learn takes minutes there: one run is enough to tell
ONCE = {
    ("wide", "linear_svm"),
    ("wide", "rbf_svm"),
    ("medium", "linear_svm"),
    ("tall", "linear_svm"),
}


def features(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """X (n, d) float32 and y (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    latent = rng.normal(size=(classes, 128))[y] + rng.normal(size=(n, 128))
    latent *= np.arange(1, 129) ** -0.7
    X = 2 * latent @ rng.normal(size=(128, d))
    X += 0.3 * rng.normal(size=(n, d))
    X += rng.normal(size=d) - 0.5
    return np.maximum(X, 0).astype(np.float32), y


def splits_of(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(StratifiedKFold(5, shuffle=True, random_state=0).split(np.zeros(len(y)), y))


def patched(classifier: Any) -> Any:
    """sklearnex's classifier of the same name and parameters, or None where it has none."""
    module = import_module(f"sklearnex.{type(classifier).__module__.split('.')[1]}")
    kind = getattr(module, type(classifier).__name__, None)
    return kind and kind(**classifier.get_params())


def grid_search(name: str, X: np.ndarray, y: np.ndarray, against: str = "sklearn") -> Any:
    """scikit-learn's search; its warnings about convergence are part of what a user gets."""
    classifier, grid = HEADS[name]
    if against == "sklearnex":
        classifier = patched(classifier) or classifier
    pipeline = make_pipeline(StandardScaler(), classifier)
    return GridSearchCV(pipeline, grid, cv=splits_of(y), n_jobs=2).fit(X, y)


def head_search(names: Sequence[str], X: np.ndarray, y: np.ndarray, n_jobs: int = 2) -> Any:
    grids = {name: HEADS[name][1] for name in names}
    return HeadSearchCV(grids, cv=splits_of(y), n_jobs=n_jobs).fit(X, y)


def seconds(call: Callable, *args: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call(*args)
    return time.perf_counter() - started, result


def compare(shape: str, name: str, repeats: int, against: str) -> None:
    """One line of the table."""
    size, bars = SHAPES[shape]
    if against == "sklearnex" and patched(HEADS[name][0]) is None:
        kind = type(HEADS[name][0]).__name__
        print(f"{shape:7} {name:11} left out: sklearnex leaves {kind} to scikit-learn")
        return
    X, y = features(*size)
    pairs = [
        (seconds(grid_search, name, X, y, against), seconds(head_search, [name], X, y))
        for _ in range(1 if (shape, name) in ONCE else repeats)
    ]
    theirs, ours = (median(pair[i][0] for pair in pairs) for i in (0, 1))
    expected, found = (pairs[-1][i][1].cv_results_["mean_test_score"] for i in (0, 1))
    apart = np.abs(expected - found).max()
    held = "ok" if theirs / ours >= bars[name] else "SHORT"
    # the bars are ratios to scikit-learn
    bar = f"{bars[name]:7.1f}x {held:6}" if against == "sklearn" else f"{'none':>8} {'':6}"
    ratio = f"{theirs / ours:8.1f}x"
    print(f"{shape:7} {name:11} {theirs:9.2f} {ours:8.2f} {ratio} {bar}{apart:8.4f}", flush=True)


def floor(_: str) -> None:
    """How near the search of one head comes to one symmetric product per fold."""
    X, y = features(*SHAPES["wide"][0])

    def products() -> None:
        for train, _ in splits_of(y):
            B = X[train].astype(np.float64)
            sum(B[:, i : i + CHUNK] @ B[:, i : i + CHUNK].T for i in range(0, B.shape[1], CHUNK))

    bare = min(seconds(products)[0] for _ in range(3))
    ours = min(seconds(head_search, ["logistic"], X, y)[0] for _ in range(3))
    print(
        f"floor: five products of 800 x 25,088 {bare:.2f} s, the search {ours:.2f} s: "
        f"{ours / bare:.1f} times"
    )


def leaderboard(against: str, taps: int = 12) -> None:
    """12 taps x 4 heads, 1,000 x 1,280 x 10, against a double loop of GridSearchCV (2 taps x 6)."""
    arrays = []
    for seed in range(taps):  # of one order of the labels, as taps of the same images have
        X, y = features(1000, 1280, 10, seed)
        order = np.argsort(y, kind="stable")
        arrays.append((X[order], y[order]))
    theirs, _ = seconds(
        lambda: [grid_search(name, X, y, against) for X, y in arrays[:2] for name in HEADS]
    )
    theirs *= taps / 2
    labels = arrays[0][1]
    grids = {name: grid for name, (_, grid) in HEADS.items()}

    def search() -> None:  # as a thorough run does it, its processes begun here too
        with Workers(2) as workers:
            own = Search(grids, splits_of(labels), n_jobs=2, workers=workers)
            search_sources(lambda i: arrays[i][0], [1280] * taps, labels, own)

    ours, _ = seconds(search)
    ratio = f"{theirs / ours:.1f}x" + (" (bar 25x)" if against == "sklearn" else "")
    print(
        f"leaderboard of {taps} taps x 4 heads: "
        f"{against} {theirs:.1f} s, ours {ours:.1f} s: {ratio}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs per line, the median counts (3)"
    )
    parser.add_argument("--only", help="a shape, such as wide, or floor, or leaderboard")
    parser.add_argument("--heads", default=",".join(HEADS), help="such as logistic,knn (all)")
    parser.add_argument(
        "--against", choices=["sklearn", "sklearnex"], default="sklearn", help="the peer (sklearn)"
    )
    chosen = parser.parse_args()
    if chosen.against == "sklearnex" and not find_spec("sklearnex"):
        parser.exit(
            2, "sklearnex is NOT INSTALLED, nothing was timed: pip install scikit-learn-intelex\n"
        )
    warnings.filterwarnings("ignore")
    # the first search of each kind starts workers and imports: not what is compared
    for name in chosen.heads.split(","):
        grid_search(name, *features(100, 20, 2), chosen.against)
        head_search([name], *features(100, 20, 2))
    if chosen.only not in ("floor", "leaderboard"):
        columns = f"{chosen.against:>9} s   ours s    ratio      bar      "
        print(f"shape   head     {columns}score differs by at most")
    for shape in SHAPES:
        if chosen.only not in (None, shape):
            continue
        for name in chosen.heads.split(","):
            compare(shape, name, chosen.repeats, chosen.against)
    for extra in (floor, leaderboard):
        if chosen.only in (None, extra.__name__):
            extra(chosen.against)


if __name__ == "__main__":
    main()
