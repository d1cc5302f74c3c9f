"""Tests of pipelines/evaluation/answers.py: every count is that of the answers."""

import numpy as np
import pytest

from pipelines.evaluation.answers import describe_answers
from pipelines.evaluation.intervals import wilson_interval
from pipelines.evaluation.metrics import calibration_error, per_class_recall

CLASSES = ["ant", "bee", "wasp", "fly"]


@pytest.fixture
def answers():
    """Labels (never a fly), answers (never a wasp) and the probability of these."""
    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES[:3], 200)
    wrong = rng.random(200) < 0.3
    predicted = np.where(wrong, rng.choice(["ant", "bee", "fly"], 200), labels)
    predicted[predicted == "wasp"] = "fly"
    return labels, predicted, np.round(rng.uniform(0.25, 1, 200), 3)


def test_the_cells_are_those_of_the_confusion_matrix(answers):
    labels, predicted, confidence = answers
    cells = describe_answers(labels, predicted, confidence, sorted(CLASSES))["confusion"]
    counted = {(cell["label"], cell["predicted"]): cell["images"] for cell in cells}
    for label in CLASSES:
        for answer in CLASSES:
            expected = int(np.sum((labels == label) & (predicted == answer)))
            assert counted.get((label, answer), 0) == expected
    assert all(counted.values())


def test_recall_and_precision_of_each_class_and_null_where_there_are_none(answers):
    labels, predicted, confidence = answers
    found = describe_answers(labels, predicted, confidence, sorted(CLASSES))
    recalls = {row["class"]: row for row in found["recall"]}
    assert {name: recalls[name]["value"] for name in recalls if name != "fly"} == (
        pytest.approx(per_class_recall(labels, predicted))
    )
    none = {"images": 0, "value": None, "low": None, "high": None}
    assert recalls["fly"] == {"class": "fly", **none}
    precisions = {row["class"]: row for row in found["precision"]}
    assert precisions["wasp"] == {"class": "wasp", **none}
    said, right = predicted == "ant", (predicted == "ant") & (labels == "ant")
    low, high = wilson_interval(right.sum(), said.sum())
    assert precisions["ant"] == {
        "class": "ant",
        "images": said.sum(),
        "value": pytest.approx(right.sum() / said.sum()),
        "low": low,
        "high": high,
    }


def test_of_answers_above_a_threshold_the_share_right_is_told(answers):
    labels, predicted, confidence = answers
    points = describe_answers(labels, predicted, confidence, sorted(CLASSES))["by_confidence"]
    assert points[0]["kept"] == 1
    assert points[-1]["images"] > 0
    at = next(point for point in points if point["threshold"] == 0.9)
    kept = confidence >= 0.9
    assert at["images"] == kept.sum()
    assert at["kept"] == kept.mean()
    assert at["accuracy"] == np.mean((labels == predicted)[kept])
    assert at["low"] < at["accuracy"] < at["high"]


def test_the_bins_are_those_of_the_calibration_error(answers):
    labels, predicted, confidence = answers
    names = sorted(CLASSES)
    bins = describe_answers(labels, predicted, confidence, names)["reliability"]
    assert sum(row["images"] for row in bins) == 200
    assert all(row["above"] < row["confidence"] <= row["up_to"] for row in bins)
    gap = sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in bins) / 200
    codes = np.searchsorted(names, predicted)
    probabilities = np.zeros((200, 4))
    probabilities[np.arange(200), codes] = confidence
    own = np.searchsorted(names, labels)
    assert gap == pytest.approx(calibration_error(own, codes, probabilities))


def test_one_image_that_is_certain():
    found = describe_answers(np.array(["a"]), np.array(["a"]), np.array([1.0]), ["a", "b"])
    assert [point["kept"] for point in found["by_confidence"]] == [1]
    assert [row["images"] for row in found["reliability"]] == [1]
