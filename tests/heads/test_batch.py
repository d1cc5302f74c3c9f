"""A batch's steps end where the objective is nearly flat along them."""

import numpy as np
import pytest

from heads.bases import Columns
from heads.batch import FLAT
from heads.losses import LOSSES
from heads.solvers import Problems, _start_batch


def batch_of(loss, scale=1.0):
    rng = np.random.default_rng(0)
    Z = scale * rng.normal(size=(80, 6))
    Z -= Z.mean(axis=0)
    onehot = np.eye(3)[rng.integers(0, 3, 80)].T
    targets = {"softmax": onehot, "sigmoid": onehot[:1], "squared_hinge": 2 * onehot[:1] - 1}[loss]
    problems = Problems(loss, targets[None], np.ones((1, 1, 80)), np.array([1e-2, 1.0, 100.0]))
    return _start_batch(problems, Columns(Z), None)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_ends_where_the_slope_along_it_nearly_vanishes(loss, scale):
    batch = batch_of(loss, scale)
    batch.widen()
    gradient = batch.gradient()
    step = -gradient
    push = batch.basis.push(step)
    first = batch.product(gradient, step, push)
    batch.move(gradient, step, push)
    last = batch.product(batch.gradient(), step, push)
    assert (np.abs(last) <= (FLAT + 1e-6) * np.abs(first)).all()
    assert batch.margins == pytest.approx(batch.basis.push(batch.solutions), abs=1e-6 * scale)


def test_a_step_that_rises_is_not_taken():
    batch = batch_of("softmax")
    gradient = batch.gradient()
    batch.move(gradient, gradient, batch.basis.push(gradient))
    assert not batch.solutions.any()
    assert (batch.n_iter == 1).all()


def test_a_part_finds_its_place_in_the_whole():
    whole = batch_of("sigmoid")
    part = whole.part(np.array([0, 2])).part(np.array([1]))
    part.solutions[:] = 3.0
    part.bound[:] = 0.5
    whole.take_over(part)
    assert whole.solutions[:, 0, 0].tolist() == [0, 0, 3]
    assert whole.bound.tolist() == [np.inf, np.inf, 0.5]
