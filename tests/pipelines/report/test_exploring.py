"""Tests of pipelines/report/exploring.py: what is said of an exploration, and its page."""

import json
import re

import numpy as np
import pytest

from pipelines.report import charts
from pipelines.report.exploring import (
    explored_page,
    explored_summary,
    labels_in_words,
    number_in_words,
    order_of_rows,
    rule_in_words,
)

NASTY = "</script><img src=x onerror=alert(1)>"
PATHS = ("p/a.png", f"p/{NASTY}.png", "p/c.png", "p/d.png")
IDS = np.arange(64, dtype=np.uint8).reshape(4, 16)


def stable(k, agreement, reference=0.3, error=0.02):
    return {
        "k": k,
        "agreement": agreement,
        "error": error,
        "reference": reference,
        "corrected": (agreement - reference) / (1 - reference),
        "corrected_error": error / (1 - reference),
        "excess": 4.25,
    }


def results(**changed):
    return {
        "command": ["python", "-m", "pipelines.explore", NASTY],
        "versions": {"permafrost": "0.1"},
        "seed": 0,
        "tap": "features.18:avg",
        "backbone": dict.fromkeys(("name", "weights", "size", "numerics", "sha256", "recipe"), "b"),
        "data": {"name": NASTY, "n_images": 4, "n_bad": 0, "n_duplicates": 0},
        "extraction": {"in_words": None, "computed": 4, "from_store": 0},
        "seconds": {"clusters": 1.0, "total": 1.0, "report": 0.5},
        "clusters": {
            "k": 2,
            "chosen_by": "stability",
            "asked": None,
            "has_groups": True,
            "stability": [stable(2, 0.9), stable(3, 0.4)],
            "rows": [
                {"name": "cluster-1", "images": 3, "typical": list(PATHS[:3])},
                {"name": "cluster-2", "images": 1, "typical": [PATHS[3]]},
            ],
            "labels": None,
        },
        "dense": {"looked_at": 4, "k": 0, "n_inside": 0, "labels": None},
        "to_label": {
            "rule": "typical",
            "enough": 4,
            "n_labelled": 0,
            "n_classes": 0,
            "labelled": {},
            "rows": [{"rank": 1, "path": PATHS[2], "cluster": "cluster-1", "why": "alone"}],
        },
        "audit": {
            "n_copies": 0,
            "n_mirrored": 0,
            "copies": [],
            "n_flat": 1,
            "flat": [PATHS[3]],
            "n_outliers": 0,
            "outliers": [],
        },
        "map": None,
    } | changed


@pytest.fixture(autouse=True)
def quick_script(monkeypatch):
    monkeypatch.setattr(charts, "figure_script", lambda kept=None: "window.vegaEmbed = () => {};")


def test_the_summary_says_what_and_where(tmp_path):
    said = explored_summary(results(), tmp_path)
    assert "2 clusters: clusterings of other draws agree by 0.90" in said
    assert "by density (HDBSCAN) no clusters" in said
    assert "flat, of one gray all over: 1, such as p/d.png" in said
    assert f"to label: {tmp_path / 'to_label.csv'}" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"chosen_by": "given", "asked": 2}, "2 clusters, as many as were asked for"),
        ({"chosen_by": "given", "asked": 999}, "2 clusters, where 999 were asked for: no more"),
        (
            {"k": 1, "stability": []},
            "1 cluster: too few images that differ to compare",
        ),
        ({"has_groups": False}, "clearly more than there: these images may have no groups"),
    ],
)
def test_how_many_clusters_and_why(changed, said):
    assert said in number_in_words(results()["clusters"] | changed)


def test_labels_took_no_part():
    own = results()
    own["clusters"]["labels"] = {"classes": 3, "images": 4, "adjusted_rand": 0.456}
    [line] = labels_in_words(own)
    assert "beside the 3 classes" in line
    assert line.endswith("adjusted Rand index 0.46")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "to label first: 1 image, the most typical of each of as many groups"),
        ({"n_labelled": 5, "n_classes": 2}, "and there are 5 labels of 2 classes"),
        (
            {"rule": "unsure", "n_labelled": 8},
            "1 image that a classifier of the 8 labels is",
        ),
    ],
)
def test_the_rule_is_said(changed, said):
    assert said in rule_in_words(results()["to_label"] | changed)


def test_pictures_are_looked_for_where_they_are_shown_first():
    assert order_of_rows(results(), PATHS).tolist() == [2, 0, 1, 3]


def test_labels_of_images_that_have_no_card_are_carried_on():
    """Those that were dropped, and of exact copies: a table that is saved would forget them."""
    own = results()
    own["to_label"]["labelled"] = {PATHS[0]: "=a", "p/gone.png": "drop", "-p/copy.png": "cats"}
    text = explored_page(own, PATHS, IDS, np.array([0, 0, 0, 1]), np.full((4, 2), np.nan), {})
    images = json.loads(re.search(r'id="page-data"[^>]*>(.*?)</script>', text, re.DOTALL)[1])
    assert images["images"]["known"] == {"0": "'=a"}
    assert images["images"]["absent"] == [["p/gone.png", "drop"], ["'-p/copy.png", "cats"]]


def test_no_name_becomes_markup():
    places = np.full((4, 2), np.nan)
    text = explored_page(results(), PATHS, IDS, np.array([0, 0, 0, 1]), places, {})
    assert NASTY not in text
    assert "4 images fall into <em>2 clusters</em>." in text
    assert "No map was made." in text
    assert 'data-key="/clusters/stability/0/excess" data-scale="1">4.2</data>' in text
