"""Tests of pipelines/report/advice.py."""

import numpy as np
import pytest

from pipelines.report.advice import find_imbalance, give_advice


def row(layer, accuracy, backbone="net", tied=False, members=None):
    return {
        "backbone": backbone,
        "layer": layer,
        "cv_score": accuracy,
        "cv_score_high": accuracy + 0.02,
        "tied": tied,
        "head": "logistic",
        "members": members,
    }


def results(**changes):
    """A run in which nothing is worth a word but the depth and what pretraining brought."""
    return {
        "data": {"imbalance": find_imbalance(np.repeat(["x", "y"], 30))},
        "scoring": "accuracy",
        "class_weight": None,
        "layers": {"net": ["early", "late"]},
        "leaderboard": [row("early", 0.9, tied=True), row("late", 0.8)],
        "baselines": [
            row(None, 0.5, "majority"),
            row("pixels", 0.6, "pixels"),
            row("late", 0.7, "net untrained"),
        ],
        "learning_curve": {"gain": 0.04, "gain_low": 0.01, "gain_high": 0.07},
        "chosen": {
            "test_score": 0.88,
            "test_score_high": 0.93,
            "cv_corrected": 0.89,
            "cv_corrected_low": 0.85,
            "test_balanced_accuracy": 0.81,
        },
    } | changes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "an earlier layer beats the last one by 0.100 (early 0.900, the last 0.800)"),
        ({"leaderboard": [row("late", 0.9), row("early", 0.8)]}, "the last layer is the best"),
        (
            {"leaderboard": [row("early", 0.9), row("late", 0.89, tied=True)]},
            "early and late layers do equally well",
        ),
        ({}, "pretraining is worth +0.200 (0.900 against 0.700"),
        ({"leaderboard": [row("late", 0.71)]}, "pretraining is worth only +0.010"),
        (
            {},
            "the last doubling of images brought +0.040 (+0.010 to +0.070): more images are a "
            "likely gain",
        ),
        (
            {"learning_curve": {"gain": 0.0, "gain_low": -0.01, "gain_high": 0.01}},
            "more of this kind will hardly help",
        ),
        (
            {"baselines": [row(None, 0.5, "majority"), row("gabor", 0.89, "gabor")]},
            "gabor alone gives 0.890",
        ),
        ({"data": {"imbalance": find_imbalance(np.repeat(["x", "y"], [90, 10]))}}, "x 90, y 10"),
        ({"chosen": results()["chosen"] | {"test_score_high": 0.8}}, "the test images differ"),
        (
            {"data": {"imbalance": find_imbalance(np.repeat(["x", "y"], [90, 10]))}},
            "--scoring balanced_accuracy and --class-weight balanced would weigh the classes alike",
        ),
        (
            {
                "data": {"imbalance": find_imbalance(np.repeat(["x", "y"], [90, 10]))},
                "class_weight": "balanced",
            },
            "; --scoring balanced_accuracy would weigh",
        ),
        ({"scoring": "f1_macro"}, "brought +0.040 of accuracy"),
        (
            {
                "scoring": "neg_log_loss",
                "leaderboard": [row("late", -0.30)],
                "baselines": [row("late", -0.32, "a untrained")],
            },
            "pretraining is worth only +0.020 (-0.300 against -0.320",
        ),
    ],
)
def test_each_sentence_has_its_figure(changes, sentence):
    assert any(sentence in line for line in give_advice(results(**changes)))


def test_nothing_is_said_without_a_measurement():
    assert (
        give_advice(results(baselines=[], learning_curve={"gain": None}, layers={"net": ["late"]}))
        == []
    )
