"""The nearest rows among rows read in blocks are the nearest, whatever float32 thinks."""

import numpy as np
import pytest

from heads import streamed_neighbours
from heads.blocks import Blocks
from heads.fold_scores import FOLD_SCORERS
from heads.reduction import Fold
from heads.streamed_folds import StreamedFold, share_moments
from heads.streamed_neighbours import nearest_streamed, score_knn

GRID = [
    {"n_neighbors": k, "metric": metric, "weights": weights, "algorithm": "auto"}
    for k in (7, 1)
    for metric in ("euclidean", "cosine")
    for weights in ("uniform", "distance")
]


@pytest.fixture(params=[np.float32, np.float64])
def rows(request):
    """Rows of which every fifth that is held out is another's copy."""
    X = np.random.default_rng(0).normal(size=(400, 6)).astype(request.param)
    X[300::5] = X[:100:5]
    return X


def both(X, in_slices):
    blocks = Blocks(in_slices(X), 2)
    train, others = np.arange(300), np.arange(300, 400)
    fold = StreamedFold(blocks, train, others)
    share_moments(blocks, [fold])
    return blocks, fold, Fold(X, train, others)


@pytest.mark.parametrize("most", [1 << 25, 180], ids=["at once", "in parts"])
def test_answers_are_those_in_memory(rows, most, in_slices, monkeypatch):
    monkeypatch.setattr(streamed_neighbours, "MOST_QUERIES", most)
    blocks, fold, expected = both(rows, in_slices)
    codes = np.arange(400) % 3
    known = FOLD_SCORERS["knn"].score(expected, codes[:300], GRID, None)
    for found, own in zip(score_knn(blocks, fold, codes, GRID), known, strict=True):
        assert found.scores == pytest.approx(own.scores, abs=1e-9)
        assert (found.labels == own.labels).all()


def brute(queries, rows, most):
    distances = np.linalg.norm(queries[:, None] - rows, axis=2)
    order = distances.argsort(axis=1, kind="stable")[:, :most]
    return np.take_along_axis(distances, order, axis=1), order


def test_rows_that_float32_takes_for_one_are_told_apart(in_slices):
    """More of them than are kept to spare, so that the pass in float32 can't have them all."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 4)) + 100
    # forty rows about one point, nearer to one another than float32's rounding
    X[20:60] = X[20] + 1e-7 * rng.normal(size=(40, 4))
    X[0] = X[20] + 1
    blocks = Blocks(in_slices(X))
    fold = StreamedFold(blocks, np.arange(10, 200), np.arange(10))
    share_moments(blocks, [fold])
    queries = fold.standardise(X[:10])
    distances, numbers = nearest_streamed(blocks, fold, queries, ["euclidean"], 5)["euclidean"]
    expected, order = brute(queries, fold.standardise(X[10:]), 5)
    assert (numbers == order + 10).all()
    assert distances == pytest.approx(expected, rel=1e-6)


def test_a_row_drawn_twice_is_a_neighbour_twice(in_slices):
    X = np.random.default_rng(2).normal(size=(50, 3))
    blocks = Blocks(in_slices(X))
    fold = StreamedFold(blocks, np.r_[np.arange(1, 50), 7], np.array([0]))
    share_moments(blocks, [fold])
    queries = fold.standardise(X[7:8])
    distances, numbers = nearest_streamed(blocks, fold, queries, ["euclidean"], 2)["euclidean"]
    assert (distances.tolist(), numbers.tolist()) == ([[0, 0]], [[7, 7]])
