"""Tests of pipelines/evaluation/overlap.py."""

import numpy as np
import pytest

from pipelines.evaluation.overlap import count_overlap, mean_overlap, measure_overlap

CLASSES = np.array([0, 3, 7])


def test_overlap_is_counted_without_what_is_ignored():
    truth = np.array([[0, 0, 3], [3, 7, 255]])
    predicted = np.array([[0, 3, 3], [3, 0, 7]])
    assert count_overlap(truth, predicted, CLASSES, ignore=255).tolist() == [[1, 3], [2, 3], [0, 1]]
    assert count_overlap(truth, predicted, CLASSES).tolist() == [[1, 3], [2, 3], [0, 2]]


def test_images_are_summed_before_they_are_divided():
    counts = np.array([[[1, 1], [0, 0]], [[1, 3], [5, 10]]])
    assert mean_overlap(counts) == (2 / 4 + 5 / 10) / 2
    by_class, mean = measure_overlap(counts)
    assert [own.value for own in by_class] == [0.5, 0.5]
    assert mean.value == 0.5


def test_a_class_that_is_nowhere_has_no_figure_and_takes_no_part_in_the_mean():
    counts = np.array([[[3, 4], [0, 0]], [[3, 4], [0, 0]]])
    by_class, mean = measure_overlap(counts)
    assert np.isnan([by_class[1].value, by_class[1].low, by_class[1].high]).all()
    assert mean.value == 0.75
    assert np.isnan(mean_overlap(np.zeros((2, 2, 2), int)))


def test_what_one_image_has_gets_no_interval():
    """Every draw of it has the same share, which is no certainty."""
    one, two, absent = [8, 10], [9, 10], [0, 0]
    by_class, mean = measure_overlap(np.array([[one, absent]]))
    assert (by_class[0].value, mean.value) == (0.8, 0.8)
    assert np.isnan([by_class[0].low, by_class[0].high, mean.low, mean.high]).all()
    by_class, mean = measure_overlap(np.array([[one, absent], [two, one]]))
    assert by_class[0].low < 0.85 < by_class[0].high
    assert np.isnan([by_class[1].low, by_class[1].high]).all()
    assert mean.low < mean.value < mean.high
    assert np.isnan(measure_overlap(np.array([[one, absent], [absent, two]]))[1].low)


def test_the_interval_holds_the_value_narrows_with_images_and_repeats():
    rng = np.random.default_rng(0)
    right = rng.integers(50, 100, (200, 1))
    counts = np.stack([right, np.full_like(right, 100)], axis=-1)
    few, many = (measure_overlap(counts[:n])[1] for n in (10, 200))
    assert few.low < few.value < few.high
    assert many.high - many.low < (few.high - few.low) / 3
    assert measure_overlap(counts[:10])[1] == few
    assert measure_overlap(counts[:10], seed=1)[1] != few


def test_intervals_hold_the_true_overlap_as_often_as_they_say():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        shares = rng.beta(8, 2, (15, 1))
        counts = np.stack([1000 * shares, np.full_like(shares, 1000)], axis=-1)
        own = measure_overlap(counts, draws=400)[1]
        held += own.low <= 0.8 <= own.high
    assert held / 300 == pytest.approx(0.95, abs=0.04)
