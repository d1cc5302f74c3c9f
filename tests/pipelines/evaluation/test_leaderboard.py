"""Tests of pipelines/evaluation/leaderboard.py and search.py."""

import itertools
import threading

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss
from threadpoolctl import threadpool_info, threadpool_limits

from data import folds
from heads import HEADS
from pipelines.evaluation.leaderboard import make_leaderboard
from pipelines.evaluation.scoring import SCORINGS
from pipelines.evaluation.search import Search, search_heads
from pipelines.evaluation.sources import screen_sources
from pipelines.features import Source

HEAD_NAMES = ["logistic", "linear_svm", "rbf_svm", "knn"]


@pytest.fixture
def problem():
    """Two sources for 60 rows in three classes: one of noise, one that tells the classes apart."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["x", "y", "z"], 20)
    centres = np.eye(3)[np.repeat([0, 1, 2], 20)] * 4
    arrays = [
        rng.normal(size=(60, 8)),
        np.hstack([centres, np.zeros((60, 3))]) + rng.normal(size=(60, 6)),
    ]
    sources = [Source("net", "early", "avg", 8), Source("net", "late", "avg", 6)]
    return [array.astype(np.float32) for array in arrays], sources, labels


def board_of(problem, heads=HEAD_NAMES, on_progress=None, **options):
    arrays, sources, labels = problem
    search = Search(heads, folds(labels, 4), **options)
    return make_leaderboard(arrays.__getitem__, sources, labels, search, on_progress)


def test_there_is_a_row_for_every_source_and_head_best_first(problem):
    board = board_of(problem)
    alone = [row for row in board.rows if row.members is None]
    assert {(row.layer, row.head) for row in alone} == {
        (a, b) for a in ("early", "late") for b in HEAD_NAMES
    }
    scores = [row.cv_accuracy for row in board.rows]
    assert scores == sorted(scores, reverse=True)
    assert board.rows[0].layer == "late"
    assert all(row.cv_low <= row.cv_accuracy <= row.cv_high for row in board.rows)
    # where every fold is all right, too
    assert all(
        row.cv_fold_low <= row.cv_low < row.cv_high <= row.cv_fold_high for row in board.rows
    )


def test_rows_carry_their_own_out_of_fold_probabilities(problem):
    board = board_of(problem)
    labels = problem[2]
    for row, own in zip(board.rows, board.probabilities, strict=True):
        assert accuracy_score(labels, board.classes[own.argmax(axis=1)]) == pytest.approx(
            row.cv_accuracy
        )
        assert log_loss(labels, own) == pytest.approx(row.cv_log_loss)


def test_equal_accuracy_is_ordered_by_log_loss(problem):
    rows = board_of(problem).rows
    for first, second in itertools.pairwise(rows):
        if first.cv_accuracy == second.cv_accuracy:
            assert first.cv_log_loss <= second.cv_log_loss


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_leaderboard_is_the_same_for_any_number_of_workers(problem, n_jobs):
    one, other = board_of(problem), board_of(problem, n_jobs=n_jobs)
    strip = [{**vars(row), "seconds": None} for row in one.rows]
    assert strip == [{**vars(row), "seconds": None} for row in other.rows]
    assert one.corrected == other.corrected


def test_sources_are_searched_in_threads_that_leave_nothing_behind(problem, monkeypatch):
    """Worker processes outlived a killed run by minutes, their memory in /dev/shm for ever."""
    threads = []

    def noting(*args):
        threads.append(threading.get_ident())
        return search_heads(*args)

    monkeypatch.setattr("pipelines.evaluation.sources.search_heads", noting)
    with threadpool_limits(3):
        before = threadpool_info()
        board_of(problem, n_jobs=2)
        assert threadpool_info() == before
    assert len(threads) == 2  # a list of this process
    assert threading.get_ident() not in threads


def test_progress_counts_sources(problem):
    seen = []
    board_of(problem, ["knn"], on_progress=seen.append)
    assert seen == [1, 2]


def test_random_labels_give_a_corrected_accuracy_near_chance():
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat(["x", "y"], 50))
    arrays = [rng.normal(size=(100, 20)).astype(np.float32) for _ in range(6)]
    board = board_of(
        (arrays, [Source("net", str(i), "avg", 20) for i in range(6)], labels), ["logistic", "knn"]
    )
    assert board.corrected[0] < board.rows[0].cv_accuracy
    assert abs(board.corrected[0] - 0.5) < 0.12


@pytest.fixture
def halves():
    """Two sources of which each tells two of four classes apart: together they know what neither
    knows alone."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(4), 30)
    arrays = [np.eye(2)[side] * 3 + rng.normal(size=(120, 2)) for side in (codes // 2, codes % 2)]
    sources = [Source("net", name, "avg", 2) for name in ("early", "late")]
    return [array.astype(np.float32) for array in arrays], sources, np.array([*"abcd"])[codes]


def test_layers_that_know_different_things_are_blended(halves):
    board = board_of(halves)
    row, parts = board.rows[0], board.members[0]
    assert (row.head, row.layer, row.pooling, row.params, row.dim) == ("blend", None, None, {}, 4)
    assert row.cv_accuracy > board.rows[1].cv_accuracy + 0.1
    assert {member["tap"] for member in row.members} == {"early:avg", "late:avg"}
    assert sum(member["weight"] for member in row.members) == pytest.approx(1)
    assert [member["head"] for member in row.members] == [part.head for part in parts]
    assert not board.rows[1].tied


def test_backbones_and_views_are_blended(halves):
    arrays, sources, labels = halves
    other = [Source("other", "early", "avg", 2), sources[1]]
    best = board_of((arrays, other, labels)).rows[0]
    assert (best.head, set(best.backbone.split("+"))) == ("blend", {"net", "other"})
    assert {member["backbone"] for member in best.members} == {"net", "other"}
    flipped = [Source("net", "early", "avg", 2, "plain+flipped"), sources[1]]
    board = board_of((arrays, flipped, labels))
    assert (board.rows[0].head, board.rows[0].dim) == ("blend", 4)
    assert set(board.rows[0].view.split(",")) == {"plain", "plain+flipped"}
    assert {(member["tap"], member["view"]) for member in board.rows[0].members} == {
        ("early:avg", "plain+flipped"),
        ("late:avg", "plain"),
    }


def test_a_row_of_joined_taps_names_its_members(problem):
    arrays, _, labels = problem
    sources = [Source("net", None, None, 6, "plain", "a:avg+b:grid2")]
    row = board_of((arrays[1:], sources, labels), ["logistic"]).rows[0]
    assert (row.layer, row.pooling, row.tap, row.head) == (None, None, "a:avg+b:grid2", "logistic")
    assert [(member["tap"], member["head"]) for member in row.members] == [
        ("a:avg", "logistic"),
        ("b:grid2", "logistic"),
    ]


@pytest.mark.parametrize("name", ["balanced_accuracy", "f1_macro", "neg_log_loss"])
def test_the_leaderboard_follows_the_scoring(problem, name):
    board = board_of(problem, scoring=SCORINGS[name])
    scores = [row.cv_score for row in board.rows]
    assert scores == sorted(scores, reverse=True)
    assert all(row.cv_score_low <= row.cv_score <= row.cv_score_high for row in board.rows)
    assert board.corrected[1] < board.corrected[0] <= board.corrected[2]
    assert board.rows[0].layer == "late"
    if name == "neg_log_loss":
        assert max(scores) < 0
        best = next(row for row in board.rows if row.head == "logistic")
        assert -best.cv_score < 0.5


def test_class_weights_help_the_rare_class():
    rng = np.random.default_rng(0)
    labels = np.repeat(["x", "y"], [180, 20])
    arrays = [(rng.normal(size=(200, 3)) + 1.2 * (labels == "y")[:, None]).astype(np.float32)]
    options = {"heads": ["logistic", "linear_svm"], "scoring": SCORINGS["balanced_accuracy"]}
    found = [
        board_of(
            (arrays, [Source("net", "late", "avg", 3)], labels), class_weight=weight, **options
        )
        .rows[0]
        .cv_score
        for weight in (None, "balanced")
    ]
    assert found[1] > found[0] + 0.05


def test_a_row_alone_has_no_blend(problem):
    assert [
        row.head for row in board_of(([problem[0][1]], problem[1][1:], problem[2]), ["knn"]).rows
    ] == ["knn"]


def test_the_best_row_is_tied_with_itself_and_noise_is_not(problem):
    rows = board_of(problem).rows
    assert rows[0].tied
    assert not any(row.tied for row in rows if row.layer == "early")


def test_an_unknown_head_is_refused(problem):
    with pytest.raises(ValueError, match="knm"):
        board_of(problem, ["knm"])


def test_heads_are_in_the_catalogue():
    assert set(HEAD_NAMES) <= set(HEADS)


def test_few_sources_are_all_searched():
    def fail(_):
        raise AssertionError("read for nothing")

    assert screen_sources(fail, 12, np.array(["x", "y"])) == (list(range(12)), {})


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_of_many_sources_the_best_are_searched_and_the_others_listed_with_their_score(n_jobs):
    rng = np.random.default_rng(0)
    labels = np.repeat(["x", "y", "z"], 20)
    centres = np.eye(3)[np.repeat([0, 1, 2], 20)] * 3
    useful = {1, 4, 15}
    arrays = [
        (centres * (i in useful) + rng.normal(size=(60, 3))).astype(np.float32) for i in range(16)
    ]
    seen = []
    searched, out = screen_sources(
        arrays.__getitem__, 16, labels, n_jobs=n_jobs, on_progress=seen.append
    )
    assert len(searched) == 12
    assert useful < set(searched)
    assert searched == sorted(searched)
    assert set(out) == set(range(16)) - set(searched)
    assert list(out.values()) == sorted(out.values(), reverse=True)
    assert all(score < 0.7 for score in out.values())
    assert seen == list(range(1, 17))
