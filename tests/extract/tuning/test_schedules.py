"""The rates from step to step, and what is unfrozen when."""

import numpy as np
import pytest
import torch

from extract.tuning.schedules import SCHEDULES, cosine, count_unfrozen, one_cycle


@pytest.mark.parametrize("warmup", [0.2, 0.3, 0.5])
@pytest.mark.parametrize("steps", [10, 37])
def test_one_cycle_is_torchs(steps, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, pct_start=warmup, cycle_momentum=False
    )
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < steps:
            theirs.step()
    found = [one_cycle(step, steps, warmup) for step in range(steps)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_cosine_is_torchs_after_the_warm_up():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=16)
    expected = []
    for _ in range(16):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    found = [cosine(step, 20, 0.2) for step in range(20)]
    np.testing.assert_allclose(found[:4], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(found[4:], expected, atol=1e-12)


@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 50])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_factor_is_a_share(name, steps, warmup):
    found = [SCHEDULES[name](step, steps, warmup) for step in range(steps)]
    assert all(0 < own <= 1 for own in found)
    assert max(found) == found[int(np.argmax(found))] > 0.01


@pytest.mark.parametrize("epochs", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("parts", [1, 3, 20])
def test_gradually_all_are_unfrozen_by_half_time(parts, epochs):
    found = [count_unfrozen(parts, epoch, epochs, gradual=True) for epoch in range(epochs)]
    assert found == sorted(found)
    assert found[0] >= 1
    assert found[max(0, epochs // 2 - 1)] == parts
    assert count_unfrozen(parts, 0, epochs, gradual=False) == parts
