"""Tests of pipelines/report/reading.py: what was read, and in one line what is not used."""

import pytest

from data import Samples
from pipelines.report.reading import left_out_in_words, reading_in_words, unused_in_words


def made(n=2, **more):
    return Samples(
        tuple(f"{i}.jpg" for i in range(n)), labels=["cat", "dog"][:n], name="pets", **more
    )


def test_what_was_read_and_nothing_else():
    assert reading_in_words(made()) == ["pets: 2 images in 2 classes: cat 1, dog 1"]
    assert reading_in_words(made(1)) == ["pets: 1 image in 1 class: cat 1"]


def test_all_that_is_not_used_is_one_line():
    samples = made(
        passed_over={".txt": 3, "image outside the class folders": 1, "hidden": 9, ".svg": 1},
        notes=("not used: empty class folder in pets: owl", "cells are separated by ';'"),
    )
    assert reading_in_words(samples)[1:] == [
        "not used: 3 .txt, 1 .svg, 1 image outside the class folders; "
        "empty class folder in pets: owl; .svg can't be read: convert them",
        "cells are separated by ';'",
    ]


@pytest.mark.parametrize(
    ("passed_over", "said"),
    [
        ({}, ""),
        ({"hidden": 3, "left by other programs": 2, "class folder without images": 1}, ""),
        ({"image outside the class folders": 2}, "not used: 2 images outside the class folders"),
        ({"link to a folder above it": 1}, "not used: 1 link to a folder above it"),
        ({"link to a folder already read": 2}, "not used: 2 links to folders already read"),
        (
            {f".{i}": 20 - i for i in range(10)},
            "not used: 20 .0, 19 .1, 18 .2, 17 .3, 16 .4, 15 .5, 14 .6, 13 .7, 23 of other kinds",
        ),
        (
            {".heic": 1, ".jpg2": 1},
            "not used: 1 .heic, 1 .jpg2; install permafrost[formats] to have .heic read",
        ),
    ],
)
def test_reasons_are_counted_in_words(passed_over, said):
    assert unused_in_words(passed_over) == said


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((0, 0, 9), ""),
        ((1, 0, 9), "not used: 1 of 9 images can't be used: see bad_images.csv"),
        ((0, 1, 9), "not used: 1 exact duplicate of other images"),
        (
            (2, 3, 9),
            "not used: 2 of 9 images can't be used: see bad_images.csv; "
            "3 exact duplicates of other images",
        ),
    ],
)
def test_what_was_looked_into_and_left_out(counts, said):
    assert left_out_in_words(*counts, "bad_images.csv") == said
