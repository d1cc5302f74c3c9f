"""Tests of pipelines/said.py: answers as rows, and which are rejected."""

import numpy as np
import pytest

from data import ImageError
from pipelines.asked import Asked
from pipelines.classifier import Judged
from pipelines.said import Rules, answers_of, cells_of, header_of, line_of

CLASSES = np.array(["ants", "bees", "wasps"])


def judged(familiarity, bad=None):
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]])
    labels = CLASSES[shares.argmax(axis=1)]
    familiarity = None if familiarity is None else np.array(familiarity)
    return Judged(np.array([0, 1]), labels, shares, familiarity, bad or {})


def said(rules, familiarity=(0.5, 0.01)):
    return answers_of([Asked("a.jpg"), Asked("b.jpg")], judged(familiarity), CLASSES, rules)


@pytest.mark.parametrize(
    ("rules", "labels", "reason"),
    [
        (Rules(), ["ants", "bees"], None),
        (Rules(reject=0.05), ["ants", ""], "familiarity 0.01, below 0.05"),
        (Rules(reject=0.005), ["ants", "bees"], None),
        (Rules(min_probability=0.6), ["ants", ""], "probability 0.5, below 0.6"),
        (Rules(0.05, 0.6), ["ants", ""], "unlike the training images"),
    ],
)
def test_what_is_rejected_has_no_label_and_the_reason(rules, labels, reason):
    first, second = said(rules)
    assert [first["label"], second["label"]] == labels
    assert first["rejected"] is None
    assert (second["rejected"] or "").count(reason or "") >= (reason is not None)
    assert (second["rejected"] is None) == (reason is None)
    assert second["probability"] == 0.5
    assert second["unlike_training"] is (rules.threshold > 0.01)


def test_a_bundle_without_training_images_flags_none():
    assert [row["unlike_training"] for row in said(Rules(), None)] == [None, None]
    assert [row["familiarity"] for row in said(Rules(min_probability=0.6), None)] == [None, None]
    assert said(Rules(min_probability=0.6), None)[1]["label"] == ""


def test_what_cannot_be_read_has_its_reason_in_its_place():
    found = Judged(
        np.array([1]), CLASSES[:1], np.array([[1.0, 0, 0]]), None, {0: ImageError("a.jpg", "cut")}
    )
    rows = answers_of([Asked("a.jpg"), Asked("b.jpg")], found, CLASSES, Rules())
    assert [row["error"] for row in rows] == ["cut", None]
    assert line_of(rows[0], 1) == "a.jpg  error: cut"


def test_the_most_probable_classes_in_csv_and_text():
    first, second = said(Rules())
    assert (
        line_of(second, 2)
        == "b.jpg  bees  0.500  wasps  0.400  unlike the training images (familiarity 0.01)"
    )
    assert line_of(first, 1) == "a.jpg  ants  0.700"
    header = header_of(5, [])
    row = dict(zip(header, cells_of(first, 5, []), strict=True))
    assert [row[f"label_{i}"] for i in (2, 3, 4)] == ["bees", "wasps", None]
    assert row["probability_3"] == 0.1


def test_columns_of_a_table_that_have_our_names_are_told_apart():
    header = header_of(1, ["label", "site"])
    assert header[-2:] == ["given_label", "site"]
    row = said(Rules())[0] | {"given": {"label": "ants", "site": "3"}}
    assert cells_of(row, 1, ["label", "site"])[-2:] == ["ants", "3"]


def test_a_probability_has_nine_digits_however_small_it_is():
    shares = np.array([[1.23456789012e-8, 1 - 1.23456789e-8]])
    found = Judged(np.array([0]), np.array(["y"]), shares, None, {})
    row = answers_of([Asked("a.jpg")], found, np.array(["x", "y"]), Rules())[0]
    assert row["probabilities"] == {"x": 1.23456789e-8, "y": 0.999999988}


@pytest.mark.parametrize(
    ("probability", "limit", "words"),
    [
        (0.98999, 0.99, "probability 0.98999, below 0.99"),
        (0.8999999, 0.9, "probability 0.8999999, below 0.9"),
        (0.51234, 0.6, "probability 0.512, below 0.6"),
    ],
)
def test_a_reason_shows_a_figure_below_its_limit(probability, limit, words):
    assert Rules(min_probability=limit).reason(probability, None) == words


def test_a_familiarity_is_shown_below_its_limit():
    assert Rules(reject=0.05).reason(1, 0.04999999999) == (
        "unlike the training images (familiarity 0.04999999999, below 0.05)"
    )


def test_lists_and_objects_of_a_table_are_json_in_a_cell():
    row = said(Rules())[0] | {"given": {"a": ["x", "y"], "b": {"c": None}, "d": True, "e": 3}}
    assert cells_of(row, 1, ["a", "b", "d", "e", "f"])[-5:] == [
        '["x", "y"]', '{"c": null}', "true", 3, None,
    ]  # fmt: skip
