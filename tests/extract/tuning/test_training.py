"""The loss by which epochs are compared."""

import numpy as np
import pytest
from scipy.special import log_softmax

from extract.tuning.training import tempered_loss


def test_it_is_the_least_over_temperatures():
    random = np.random.default_rng(0)
    targets = random.integers(0, 4, 50)
    logits = random.normal(0, 2, (50, 4)) + 2 * np.eye(4)[targets]
    wanted = np.full((50, 4), 1 / 52 / 3)
    wanted[np.arange(50), targets] = 51 / 52
    losses = [
        -(wanted * log_softmax(logits / t, 1)).sum() / 50 for t in np.exp(np.linspace(-3, 3, 2001))
    ]
    assert tempered_loss(logits, targets) == pytest.approx(min(losses), abs=1e-5)


@pytest.mark.parametrize("factor", [0.3, 1.0, 5.0])
def test_how_sure_a_network_is_makes_no_difference(factor):
    random = np.random.default_rng(1)
    targets = random.integers(0, 3, 40)
    logits = random.normal(0, 1, (40, 3)) + np.eye(3)[targets]
    assert tempered_loss(factor * logits, targets) == pytest.approx(
        tempered_loss(logits, targets), abs=1e-5
    )


def test_few_images_that_are_all_right_are_not_told_to_be_certain():
    """At absolute zero the loss of the images themselves would be nothing."""
    logits, targets = np.eye(3)[np.arange(9) % 3], np.arange(9) % 3
    shares = np.array([10 / 11, 1 / 22, 1 / 22])
    assert tempered_loss(logits, targets) == pytest.approx(
        -(shares * np.log(shares)).sum(), abs=1e-5
    )


def test_of_what_knows_nothing_it_is_chances():
    assert tempered_loss(np.zeros((30, 3)), np.arange(30) % 3) == pytest.approx(np.log(3))
