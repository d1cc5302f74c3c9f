"""What the tests of the heads share."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Matrices this small are slower on several threads, most of all beside other work."""
    with threadpool_limits(1):
        yield


class GivenInSlices:
    """Rows that give nothing but slices, and remember the largest that they were asked for."""

    def __init__(self, X):
        self._X = X
        self.shape, self.dtype = X.shape, X.dtype
        self.largest = 0

    def __len__(self):
        return len(self._X)

    def __getitem__(self, rows):
        assert isinstance(rows, slice), rows
        found = self._X[rows]
        self.largest = max(self.largest, len(found))
        return found


@pytest.fixture
def in_slices(monkeypatch):
    """Rows for the heads to read in blocks, of which even small arrays have several."""
    monkeypatch.setattr("heads.blocks.BLOCK_VALUES", 1500)
    return GivenInSlices


@pytest.fixture
def feature_rows():
    """(n, d) correlated float32 features on many scales; one constant, one far from zero."""

    def make(n, d, seed=0):
        rng = np.random.default_rng(seed)
        X = np.maximum(
            rng.normal(size=(n, 8)) @ rng.normal(size=(8, d)) + rng.normal(size=(n, d)), 0
        )
        X[:, 1] = 3.0
        X[:, 2] = 1e8 + 1e-9 * X[:, 0]
        return (X * np.exp(2 * rng.normal(size=d))).astype(np.float32)

    return make
