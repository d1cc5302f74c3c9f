"""Tests of pipelines/elsewhere/comparison.py: the figures are those of a run's leaderboard."""

from dataclasses import replace

import numpy as np
import pytest

from data import DataError, Samples, make_folds
from pipelines import Embeddings, compare_embeddings
from pipelines.evaluation.intervals import wilson_interval
from pipelines.evaluation.leaderboard import make_leaderboard
from pipelines.evaluation.search import Search
from pipelines.features import Source

HEADS = ["ridge", "centroid"]
LABELS = np.repeat(["a", "b", "c"], 20)
NAMES = tuple(f"row {i}" for i in range(60))


def made(strength, array, labels=LABELS):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 5)) + strength * np.eye(5)[np.repeat([0, 1, 2], 20)]
    return Embeddings(rows.astype(np.float32), NAMES, labels, "made.npz", array)


def test_each_table_is_a_layer_of_the_leaderboard():
    board = compare_embeddings([made(0.5, "early"), made(5, "late")], HEADS)
    best = board.rows[0]
    assert (best.backbone, best.layer, best.tap) == ("made.npz", "late", "late:given")
    assert {row.layer for row in board.rows if row.layer} == {"early", "late"}
    assert (best.cv_low, best.cv_high) == wilson_interval(round(best.cv_accuracy * 60), 60)
    low, high = board.corrected[1:]
    assert low <= board.corrected[0] <= high


def test_the_figures_are_those_of_a_run():
    """Of the same features and training images."""
    tables = [made(0.5, "early"), made(1.0, "late")]
    board = compare_embeddings(tables, HEADS, n_folds=4, seed=3)
    samples = Samples(NAMES, LABELS)
    search = Search(HEADS, make_folds(samples, np.arange(60), 4, 3), seed=3)
    sources = [Source("made.npz", name, "given", 5) for name in ("early", "late")]
    run = make_leaderboard(lambda i: tables[i].features, sources, LABELS, search)
    assert [replace(row, seconds=0) for row in board.rows] == [
        replace(row, seconds=0) for row in run.rows
    ]
    assert (board.corrected, board.nested) == (run.corrected, run.nested)


def test_rows_are_matched_by_their_names():
    table = made(2.0, "one")
    turned = replace(table[::-1], array="turned", labels=None)
    board = compare_embeddings([table, turned], ["centroid"])
    figures = {row.layer: row.cv_score for row in board.rows if row.layer}
    assert figures["one"] == figures["turned"]


def test_rows_without_a_label_take_no_part():
    some = np.where(np.arange(60) % 2, LABELS, "")
    board = compare_embeddings([made(5, "one", some)], ["centroid"])
    assert board.probabilities[0].shape == (30, 3)


def test_groups_stay_on_one_side():
    """Each row stands there twice: without groups its twin gives the answer away."""
    labels = np.array(["a", "b"] * 30)
    noise = np.random.default_rng(0).normal(size=(30, 8)).repeat(2, 0).astype(np.float32)
    labels = np.random.default_rng(1).choice(["a", "b"], 30).repeat(2)
    table = Embeddings(noise, NAMES, labels, "twins", "x")
    apart = compare_embeddings([table], ["knn"], groups=np.arange(60) // 2).rows[0]
    assert apart.cv_accuracy < 0.7
    assert compare_embeddings([table], ["knn"]).rows[0].cv_accuracy > apart.cv_accuracy


def test_what_can_not_be_compared_is_refused():
    table = made(1, "one")
    with pytest.raises(DataError, match="has no labels"):
        compare_embeddings([replace(table, labels=None)])
    with pytest.raises(DataError, match=r"lacks 2 of the 60 labelled rows of .* first 'row 58'"):
        compare_embeddings([table, table[:58]])
    with pytest.raises(DataError, match="no embeddings"):
        compare_embeddings([])
    with pytest.raises(DataError, match=r"a table came alone: expected a list .* \[table\]"):
        compare_embeddings(table)
    with pytest.raises(DataError, match="ndarray came among the tables: expected Embeddings"):
        compare_embeddings([table, table.features])
    for heads in ("logistic", []):
        with pytest.raises(DataError, match=r"heads=.*: expected a list .*\['logistic', "):
            compare_embeddings([table], heads)
    with pytest.raises(DataError, match="59 groups came for 60 rows"):
        compare_embeddings([table], groups=range(59))
    with pytest.raises(ValueError, match="is unknown; did you mean"):
        compare_embeddings([table], ["no head"])
