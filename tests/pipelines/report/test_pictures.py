"""Tests of pipelines/report/pictures.py: whose picture is in the page."""

import numpy as np
import pytest

from data import Reading
from pipelines.report import pictures as pictures_file
from pipelines.report.images import ImageTable
from pipelines.report.pictures import gather_pictures, order_of_worth, reading_of

PLAIN = {"intensity": None, "page": 1, "channels": None}


def make_images(n, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.choice(["ant", "bee"], n).astype(object)
    predicted = np.where(rng.random(n) < 0.1, "wasp", label).astype(object)
    x = np.where(rng.random(n) < 0.4, rng.normal(size=n), np.nan)
    return ImageTable(
        path=np.array([f"{i}.jpg" for i in range(n)], object),
        id=np.array([f"{i:032x}" for i in range(n)], object),
        part=np.where(rng.random(n) < 0.25, "test", "train").astype(object),
        label=label,
        predicted=predicted,
        probability=rng.uniform(0.4, 1, n),
        probability_of_label=rng.uniform(0, 0.4, n),
        familiarity=rng.uniform(0, 1, n),
        x=x,
        y=x,
    )


def make_results(**audit):
    empty = {"duplicates": "group", "copies": [], "flat": [], "suspect_labels": [], "outliers": []}
    return {"audit": {**empty, **audit}, "data": PLAIN}


def test_what_is_looked_at_first_comes_first():
    images = make_images(400)
    results = make_results(
        copies=[{"first": "7.jpg", "second": "8.jpg", "labels": ["ant", "bee"]}],
        flat=["20.jpg"],
        suspect_labels=[{"path": "30.jpg"}],
        outliers=[{"path": "40.jpg"}],
    )
    order = order_of_worth(results, images)
    assert sorted(order) == list(range(400))
    assert set(order[:5]) == {7, 8, 20, 30, 40}
    rest = order[5:]
    groups = [
        (images.part == "test") & images.is_wrong,
        images.part == "test",
        images.is_wrong,
        ~np.isnan(images.x),
        np.ones(400, bool),
    ]
    ranks = np.array([next(i for i, group in enumerate(groups) if group[row]) for row in rest])
    assert (np.diff(ranks) >= 0).all()
    assert len(np.unique(ranks)) == 5
    surest = images.probability[rest[ranks == 0]]
    assert (np.diff(surest) <= 0).all()


@pytest.fixture
def read(monkeypatch):
    """Pictures of 100 bytes in place of the store's; those that were asked for."""
    asked = []

    def found(store, inputs, ids, reading):
        asked.extend(inputs)
        return {row: b"x" * 100 for row, name in enumerate(inputs) if name != "3.jpg"}

    monkeypatch.setattr(pictures_file, "found_pictures", found)
    monkeypatch.setattr(pictures_file, "ReadOnlyStore", lambda cache: None)
    return asked


class Store:
    cache = None


def test_up_to_a_number_all_have_one(read, monkeypatch):
    monkeypatch.setattr(pictures_file, "BUDGET", 1000)
    images = make_images(50)
    found = gather_pictures(make_results(), images, images.path.tolist(), Store())
    assert set(found) == set(images.id) - {f"{3:032x}"}


def test_of_more_those_that_fit_and_the_first_ones(read, monkeypatch):
    monkeypatch.setattr(pictures_file, "BUDGET", 1000)
    monkeypatch.setattr(pictures_file, "ALL_UP_TO", 20)
    monkeypatch.setattr(pictures_file, "CHUNK", 7)
    images = make_images(50)
    results = make_results(outliers=[{"path": "40.jpg"}])
    found = gather_pictures(results, images, images.path.tolist(), Store())
    order = [row for row in order_of_worth(results, images) if row != 3]
    assert list(found) == [f"{row:032x}" for row in order[:10]]
    assert len(read) <= 14


@pytest.mark.parametrize(
    ("block", "reading"),
    [
        (PLAIN, Reading()),
        ({"intensity": [0, 4095], "page": 2, "channels": [0, 2, 1]}, ((0, 4095), 1, (0, 2, 1))),
        ({"intensity": "full", "page": 1, "channels": None}, ("full", 0, None)),
    ],
)
def test_files_are_read_as_the_run_read_them(block, reading):
    assert reading_of(block) == (reading if isinstance(reading, Reading) else Reading(*reading))
