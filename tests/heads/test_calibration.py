"""Calibration: probabilities from any head's out-of-fold scores."""

import json

import numpy as np
import pytest
from scipy.special import expit, softmax

from heads import Calibration, fit_calibration, oof_probabilities
from heads.calibration import FEW


def drawn(n, k, scale, seed=0):
    """Scores whose true class probabilities are softmax(scale * scores), and labels drawn so."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, k))
    chances = softmax(scale * scores, axis=1)
    labels = (chances.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return scores, np.array([f"c{i}" for i in range(k)])[labels], chances


@pytest.mark.parametrize("k", [2, 3, 10])
def test_recovers_the_true_probabilities(k):
    scores, y, chances = drawn(20_000, k, scale=2.0)
    found = fit_calibration(scores, y, [f"c{i}" for i in range(k)])
    assert found.scale == pytest.approx(2.0, rel=0.06)
    assert np.abs(found.probabilities(scores) - chances).mean() < 0.01


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("k", [2, 5])
def test_separated_scores_stay_finite_and_sure(k, unit):
    y = np.repeat(np.arange(k), 30)
    scores = unit * (np.eye(k)[y] * 2 - 1)
    chances = fit_calibration(scores, y, range(k)).probabilities(scores)
    assert chances.sum(axis=1) == pytest.approx(1)
    assert (chances.argmax(axis=1) == y).all()
    # the rule of succession: all of n were right
    n = len(y)
    assert chances.max(axis=1) == pytest.approx((n + 1) / (n + 2), abs=1e-4)


def test_two_classes_are_platts_sigmoid():
    scores, y, _ = drawn(500, 2, scale=1.0)
    margins = scores[:, 1] - scores[:, 0]
    found = fit_calibration(margins, y, ["c0", "c1"])
    sigmoid = expit(found.scale * margins + found.bias[1] - found.bias[0])
    assert found.probabilities(margins)[:, 1] == pytest.approx(sigmoid)


def test_scores_without_information_give_the_smoothed_shares():
    y = np.array(["a"] * 30 + ["b"] * 10)
    chances = fit_calibration(np.zeros(40), y, ["a", "b"]).probabilities([0.0])
    assert chances[0, 0] == pytest.approx((30 * 41 / 42 + 10 * 1 / 42) / 40, abs=0.005)


def test_of_few_rows_a_class_the_scale_alone_is_fitted():
    scores, y, _ = drawn(FEW * 3, 3, scale=2.0, seed=1)
    few = fit_calibration(scores[:-1], y[:-1], ["c0", "c1", "c2"])
    assert few.bias == (0, 0, 0)
    assert few.scale > 0
    assert np.abs(fit_calibration(scores, y, ["c0", "c1", "c2"]).bias).min() > 0
    # the likelihood is at its best: neither more nor less sure is likelier
    n, held = len(y) - 1, np.unique(y[:-1], return_inverse=True)[1]
    counts = np.bincount(held)[None].repeat(n, axis=0) + 1.0
    counts[np.arange(n), held] = 0
    targets = counts / counts.sum(axis=1, keepdims=True) / (n + 2)
    targets[np.arange(n), held] = (n + 1) / (n + 2)
    losses = [
        -(
            targets * np.log(Calibration(own, few.bias, few.classes).probabilities(scores[:-1]))
        ).sum()
        for own in few.scale * np.array([0.99, 1, 1.01])
    ]
    assert np.argmin(losses) == 1


def test_a_class_is_not_rarer_for_the_row_that_is_left_out():
    """Of six rows that nothing is known of, each would else be taken for one of the other class."""
    shares = oof_probabilities(
        np.zeros((6, 2)), "logits", [*"aaabbb"], [*"ab"], np.eye(6, dtype=bool)
    )
    assert shares == pytest.approx(np.full((6, 2), 0.5))


def test_rows_outside_every_fold_are_passed_over():
    scores, y, _ = drawn(200, 3, scale=1.0)
    classes = ["c0", "c1", "c2"]
    padded = np.vstack([scores, np.full((5, 3), np.nan)])
    assert fit_calibration(padded, [*y, *["c0"] * 5], classes) == fit_calibration(
        scores, y, classes
    )


def test_kept_as_json():
    scores, y, _ = drawn(100, 3, scale=1.0)
    found = fit_calibration(scores, y, ["c0", "c1", "c2"])
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_huge_score_is_no_overflow():
    assert Calibration(1.0, (0.0, 0.0), (0, 1)).probabilities([1e300, -1e300]).tolist() == [
        [0, 1],
        [1, 0],
    ]


@pytest.mark.parametrize(
    ("scores", "y", "classes", "message"),
    [
        (np.zeros((3, 2)), [0, 1, 2], [0, 1, 2], "expected \\(3, 3\\)"),
        (np.zeros((2, 2)), [0, 5], [0, 1], "label 5 is not among the classes"),
        (np.full((2, 2), np.nan), [0, 1], [0, 1], "no row of the scores is finite"),
    ],
)
def test_wrong_calls_say_what_was_expected(scores, y, classes, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(scores, y, classes)


@pytest.mark.parametrize("unit", [1.0, 1e-30, 1e30])
def test_scores_that_are_alike_but_for_rounding_leave_the_shares(unit):
    """A majority head says the same of every row, with other last bits in each column."""
    y = np.repeat([0, 1, 2], [70, 20, 10])
    scores = unit * np.tile(np.log([0.7, 0.2, 0.1]), (100, 1))
    scores[:50] -= 3 * unit * np.finfo(float).eps
    fitted = fit_calibration(scores, y, [0, 1, 2])
    alike = unit * np.full((100, 3), -1.1)
    alike[::2, 1] = np.nextafter(alike[0, 0], 0)
    for own in (fitted, fit_calibration(alike, y, [0, 1, 2])):
        shares = own.probabilities(scores[:1] if own is fitted else alike[:1])[0]
        assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.05)
