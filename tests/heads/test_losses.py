"""The losses' derivatives are those of their values."""

import numpy as np
import pytest
from scipy.special import log_softmax

from heads.losses import LOSSES

VALUES = {
    "softmax": lambda m, y: -np.sum(y * log_softmax(m, axis=1), axis=1),
    "sigmoid": lambda m, y: (np.logaddexp(0, m) - y * m)[:, 0],
    "squared_hinge": lambda m, y: (np.maximum(1 - y * m, 0) ** 2)[:, 0],
}


def point(loss):
    """Margins, targets and weights of two problems and 20 rows."""
    rng = np.random.default_rng(0)
    onehot = np.eye(3)[rng.integers(0, 3, size=(2, 20))].transpose(0, 2, 1)
    targets = {"softmax": onehot, "sigmoid": onehot[:, :1], "squared_hinge": 2 * onehot[:, :1] - 1}
    weights = rng.uniform(0.5, 2.0, size=(2, 1, 20))
    return 2 * rng.normal(size=targets[loss].shape), targets[loss], weights


def along(margins):
    return np.random.default_rng(1).normal(size=margins.shape)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_slope_is_the_values_derivative(loss):
    margins, targets, weights = point(loss)
    u = along(margins)
    slope, _ = LOSSES[loss].slope(margins, targets, weights)
    one, two = (
        np.sum(weights[:, 0] * VALUES[loss](margins + t * u, targets)) for t in (-1e-5, 1e-5)
    )
    assert np.sum(slope * u) == pytest.approx((two - one) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_bend_is_the_slopes_derivative(loss):
    margins, targets, weights = point(loss)
    u = along(margins)
    _, state = LOSSES[loss].slope(margins, targets, weights)
    one, two = (LOSSES[loss].slope(margins + t * u, targets, weights)[0] for t in (-1e-6, 1e-6))
    assert LOSSES[loss].bend(state, weights, u) == pytest.approx((two - one) / 2e-6, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_curvature_is_the_mean_of_the_bend_along_each_column(loss):
    margins, targets, weights = point(loss)
    _, state = LOSSES[loss].slope(margins, targets, weights)
    k = margins.shape[1]
    found = LOSSES[loss].curvature(state, weights)
    for column in range(k):
        unit = np.zeros_like(margins)
        unit[:, column] = 1
        expected = LOSSES[loss].bend(state, weights, unit)[:, column].mean(axis=1)
        # of softmax only directions that sum to zero count
        assert found[:, column] == pytest.approx(expected * (k / (k - 1) if k > 1 else 1))
