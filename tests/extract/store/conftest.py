"""Rows to keep, with the ids of their images."""

import numpy as np
import pytest


@pytest.fixture
def ids():
    return np.random.default_rng(1).integers(0, 256, (40, 16), np.uint8)


@pytest.fixture
def rows():
    return np.random.default_rng(2).normal(size=(40, 7)).astype(np.float32)
