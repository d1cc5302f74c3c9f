"""Tests of pipelines/evaluation/transduction.py: no label that is asked about takes part."""

import numpy as np
import pytest

from heads.propagation import NEAR, join_taps, link_neighbours
from pipelines.evaluation.scoring import ACCURACY, SCORINGS
from pipelines.evaluation.transduction import (
    ALONE,
    JOINS,
    PRODUCT,
    choose_answers,
    describe_transduction,
    join_new,
    join_out_of_fold,
)
from pipelines.evaluation.ways import Way
from pipelines.exploration.neighbours import find_neighbours


def drawn(n_train=30, n_new=90, apart=3.0, seed=0):
    """A graph of two groups, training rows first, and all classes."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n_train + n_new) % 2
    features = rng.normal(size=(len(codes), 10)) + apart * codes[:, None]
    return link_neighbours(*find_neighbours(join_taps([features]), NEAR)), codes


def folds_of(n, k=3):
    every = np.arange(n)
    return [(every[every % k != own], every[every % k == own]) for own in range(k)]


UNSURE = np.array([0.5, 0.5])


@pytest.mark.parametrize("name", JOINS)
def test_a_hidden_label_changes_nothing_of_its_own_answer(name):
    graph, codes = drawn()
    own, folds = codes[:30], folds_of(30)
    even = np.tile(UNSURE, (30, 1))
    whole = join_out_of_fold(graph, own, folds, even)[0][name].argmax(axis=1)
    # its answers are calibrated by the other folds, in whose answers its labels took part
    first = folds[0][1]
    turned = own.copy()
    turned[first] = 1 - own[first]
    other = join_out_of_fold(graph, turned, folds, even)[0][name].argmax(axis=1)
    assert whole[first].tolist() == other[first].tolist()
    assert whole.tolist() == own.tolist()


def test_new_rows_are_answered_by_all_labels():
    graph, codes = drawn()
    even = np.tile(UNSURE, (120, 1))
    _, calibrations = join_out_of_fold(graph, codes[:30], folds_of(30), even[:30])
    found = join_new(graph, codes[:30], even[30:], calibrations)
    assert found.keys() == JOINS.keys()
    for own in found.values():
        np.testing.assert_allclose(own.sum(axis=1), 1)
        assert own.argmax(axis=1).tolist() == codes[30:].tolist()


def ways(alone, product, test=4):
    return [Way(name, np.array(own), np.array(own)[:test]) for name, own in
            ((ALONE, alone), (PRODUCT, product))]  # fmt: skip


SURE, LESS, WRONG = [0.9, 0.1], [0.7, 0.3], [0.4, 0.6]
CODES = np.zeros(8, int)


@pytest.mark.parametrize(
    ("alone", "product", "scoring", "place"),
    [
        ([LESS] * 8, [SURE] * 8, "accuracy", 1),  # as many are right: the log loss is lower
        ([SURE] * 8, [LESS] * 8, "accuracy", 0),
        ([LESS] * 8, [LESS] * 8, "accuracy", 0),
        ([LESS] * 8, [SURE] * 8, "balanced_accuracy", 0),
        ([WRONG] + [SURE] * 7, [LESS] * 8, "balanced_accuracy", 1),
    ],
)
def test_it_is_taken_where_it_scores_better_out_of_fold(alone, product, scoring, place):
    codes = CODES if scoring == "accuracy" else np.arange(8) % 1
    assert choose_answers(ways(alone, product), codes, SCORINGS[scoring]) == place


def test_each_way_is_told_with_its_gain():
    alone, product = [WRONG] * 4 + [SURE] * 4, [SURE] * 8
    found = describe_transduction(ways(alone, product), 1, CODES, CODES[:4], ACCURACY)
    first, second = found["rows"]
    assert (found["method"], first["taken"], second["taken"]) == (PRODUCT, False, True)
    assert first["out_of_fold"] is first["test"] is None
    assert (second["out_of_fold"]["difference"], second["test"]["difference"]) == (0.5, 1.0)
    assert (second["test"]["n_gained"], second["test"]["n_lost"]) == (4, 0)
    assert first["test_metrics"]["accuracy"]["value"] == 0
