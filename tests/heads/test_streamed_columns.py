"""Products over blocks are those over columns in memory, whatever fold a problem is of."""

import numpy as np
import pytest

from heads import streamed_columns
from heads.bases import Columns
from heads.blocks import Blocks
from heads.solvers import Problems, solve
from heads.streamed_columns import StreamedColumns


def rows_of(n=300, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.geomspace(10, 0.1, d) + rng.normal(size=d)


def streamed(X, in_slices):
    mean, scale = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    return StreamedColumns(Blocks(in_slices(X)), mean, scale, np.ones(len(X)))


def standardised(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_margins_and_gradients_are_those_of_columns(kind, in_slices):
    X = rows_of().astype(kind)
    basis = streamed(X, in_slices)
    expected = Columns(standardised(X.astype(np.float64)))
    rng = np.random.default_rng(1)
    w = rng.normal(size=(2, 3, 9))
    slope = rng.normal(size=(2, 3, 300))
    for found, known in (
        (basis.push(w), expected.push(w)),
        (basis.pull(slope), expected.pull(slope)),
    ):
        assert found.dtype == np.float64
        assert found == pytest.approx(known, abs=1e-11 * float(np.abs(known).max()))
    assert basis.total == pytest.approx(expected.total, rel=1e-5)


def test_a_problem_sees_the_rows_as_its_own_fold_standardises_them(in_slices):
    X = rows_of()
    rng = np.random.default_rng(2)
    offsets = rng.normal(size=(2, 1, 8))
    factors = rng.uniform(0.5, 2, size=(2, 1, 8))
    seen = streamed(X, in_slices).seen(offsets, factors)
    w = rng.normal(size=(2, 3, 9))
    slope = rng.normal(size=(2, 3, 300))
    for i in range(2):
        own = Columns((standardised(X) - offsets[i]) * factors[i])
        assert seen.push(w)[i] == pytest.approx(own.push(w[i : i + 1])[0], abs=1e-10)
        assert seen.pull(slope)[i] == pytest.approx(own.pull(slope[i : i + 1])[0], abs=1e-9)
        alone = seen.of(np.array([i]))
        assert (alone.push(w[i : i + 1])[0] == seen.push(w)[i]).all()


def test_curvature_is_what_is_pulled_of_what_is_bent(in_slices):
    X = rows_of()
    rng = np.random.default_rng(2)
    offsets, factors = rng.normal(size=(2, 1, 8)), rng.uniform(0.5, 2, size=(2, 1, 8))
    weights = rng.uniform(size=(2, 3, 300))
    w = rng.normal(size=(2, 3, 9))
    for basis in (streamed(X, in_slices), streamed(X, in_slices).seen(offsets, factors)):
        found = basis.curve(w, lambda place, margins: weights[:, :, place] * margins)
        expected = basis.pull(weights * basis.push(w))
        assert found == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("most", [4096, 4], ids=["all directions", "leading ones"])
@pytest.mark.parametrize("loss", ["softmax", "squared_hinge"])
def test_the_optimum_is_that_of_columns(loss, most, in_slices, monkeypatch):
    monkeypatch.setattr(streamed_columns, "MOST_DIRECTIONS", most)
    X = rows_of()
    rng = np.random.default_rng(3)
    y = (standardised(X)[:, :3] + rng.normal(size=(300, 3))).argmax(axis=1)
    onehot = np.eye(3)[y].T
    targets = onehot[None] if loss == "softmax" else (2 * onehot - 1)[:, None]
    C = np.full(len(targets), 10.0)
    problems = Problems(loss, targets, np.ones((len(targets), 1, 300)), C, loss != "softmax")
    found = solve(problems, streamed(X, in_slices))
    expected = solve(problems, Columns(standardised(X)), tol=1e-7)
    assert (found.certificate <= 2e-4).all()
    apart = np.linalg.norm(found.coef - expected.coef, axis=(1, 2))
    assert (apart <= 4e-4 * np.linalg.norm(expected.coef, axis=(1, 2))).all()
