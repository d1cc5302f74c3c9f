"""A race: settings that are beaten beyond chance after the first fold go no further."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from pipelines.evaluation import race
from pipelines.evaluation.leaderboard import make_leaderboard
from pipelines.evaluation.race import FirstFold, races, settings_left
from pipelines.evaluation.scoring import find_scoring
from pipelines.evaluation.search import Search
from pipelines.evaluation.workers import Workers

HEADS = ["logistic", "knn", "centroid"]


def source(layer, dim):
    return SimpleNamespace(
        backbone="net", view="plain", layer=layer, pooling="avg", dim=dim, tap=f"{layer}:avg"
    )


@pytest.fixture(scope="module")
def problem():
    """A layer that tells three classes, and two that hardly do."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    means = rng.normal(size=(3, 6))
    X = [
        (share * means[y] + rng.normal(size=(240, 6))).astype(np.float32)
        for share in (0.1, 1.5, 0.0)
    ]
    folds = list(StratifiedKFold(4, shuffle=True, random_state=0).split(X[0], y))
    return X, np.array(["a", "b", "c"])[y], folds


def board_of(problem, heads=HEADS, **options):
    X, labels, folds = problem
    sources = [source(f"layer{i}", x.shape[1]) for i, x in enumerate(X)]
    search = Search(heads, folds, **options)
    return make_leaderboard(lambda i: X[i], sources, labels, search)


def figures(row):
    own = asdict(row) | {"params": str(row.params), "members": str(row.members)}
    return {name: own[name] for name in own if name not in ("seconds", "tied", "n_stopped")}


def test_rows_that_go_on_are_those_of_a_thorough_search(problem):
    raced, thorough = board_of(problem, raced=True), board_of(problem)
    of_tap = {(row.tap, row.head): row for row in thorough.rows}
    going = [row for row in raced.rows if not row.stopped]
    assert 0 < len(going) < len(raced.rows) == len(thorough.rows)
    assert not any(row.stopped or row.n_stopped for row in thorough.rows)
    for row in going:
        known = of_tap[row.tap, row.head]
        if row.n_stopped == 0 or row.params == known.params:
            assert figures(row) == pytest.approx(figures(known), abs=1e-6)
        else:  # its best was stopped: as good a one cannot be better
            assert row.cv_score <= known.cv_score
    assert figures(raced.rows[0]) == pytest.approx(figures(thorough.rows[0]), abs=1e-6)
    assert raced.tried == thorough.tried
    assert raced.corrected == pytest.approx(thorough.corrected, abs=0.01)


def test_stopped_rows_stand_last_with_the_figures_of_the_first_fold(problem):
    _, labels, folds = problem
    board = board_of(problem, raced=True)
    stopped = [row.stopped for row in board.rows]
    assert stopped == sorted(stopped)
    seen = folds[0][1]
    for row, judged in zip(board.rows, board.probabilities, strict=True):
        assert 0 <= row.cv_low <= row.cv_accuracy <= row.cv_high <= 1
        if row.stopped:
            assert not row.tied
            assert np.flatnonzero(np.isfinite(judged[:, 0])).tolist() == sorted(seen)
            right = judged[seen].argmax(axis=1) == np.unique(labels, return_inverse=True)[1][seen]
            assert row.cv_accuracy == right.mean()
            assert (row.cv_fold_low, row.cv_fold_high) == (row.cv_low, row.cv_high)
        else:
            assert np.isfinite(judged).all()
    n_settings = {"logistic": 7, "knn": 28, "centroid": 1}
    for row in board.rows:
        if row.head != "blend":
            assert row.n_stopped <= n_settings[row.head]
            assert row.stopped == (row.n_stopped == n_settings[row.head])


def test_every_layer_and_every_head_has_a_row_that_saw_all_folds(problem):
    board = board_of(problem, raced=True)
    going = [row for row in board.rows if not row.stopped and row.head != "blend"]
    assert {row.layer for row in going} == {"layer0", "layer1", "layer2"}
    assert {row.head for row in going} == set(HEADS)


def first_fold(right):
    right = np.array(right, bool)
    return FirstFold(
        [{"C": i} for i in range(len(right))], right, None, np.zeros((1, 1)), np.zeros(len(right))
    )


def test_what_is_left_is_what_the_best_of_all_has_not_beaten():
    good, equal, poor = [1] * 30, [1] * 26 + [0] * 4, [1] * 10 + [0] * 20
    firsts = [
        {"a": first_fold([poor, good]), "b": first_fold([equal, poor])},
        {"a": first_fold([poor, poor]), "b": first_fold([poor, equal])},
        {"a": first_fold([poor, equal]), "b": first_fold([poor, poor])},
    ]
    left = settings_left(firsts, ["one", "two", "two"])
    assert left == [{"a": [1], "b": [0]}, {"a": [], "b": [1]}, {"a": [1], "b": []}]
    worse = [1] * 5 + [0] * 25
    firsts = [{"a": first_fold([good]), "b": first_fold([poor, worse])}]
    firsts.append({"a": first_fold([worse, poor]), "b": first_fold([worse])})
    # of a group, and of a head, the best row goes on as a race of its own; of equals the first
    assert settings_left(firsts, ["one", "two"]) == [
        {"a": [0], "b": [0, 1]},
        {"a": [0, 1], "b": []},
    ]
    firsts[1]["a"] = first_fold([[0] * 30, poor])
    assert settings_left(firsts, ["one", "two"])[1] == {"a": [1], "b": []}


def test_a_race_is_one_of_right_answers_over_three_folds_or_more(problem):
    folds = problem[2]
    search = Search(HEADS, folds, raced=True)
    assert races(search)
    assert not races(replace(search, raced=False))
    assert not races(replace(search, folds=folds[:2]))
    assert not races(replace(search, scoring=find_scoring("balanced_accuracy")))
    board = board_of(problem, raced=True, scoring=find_scoring("balanced_accuracy"))
    assert not any(row.n_stopped for row in board.rows)


def test_scores_too_many_to_keep_are_computed_again(problem, monkeypatch):
    kept = board_of(problem, raced=True)
    monkeypatch.setattr(race, "MOST_SCORES", 0)
    again = board_of(problem, raced=True)
    assert list(map(figures, again.rows)) == [
        pytest.approx(figures(row), abs=1e-6) for row in kept.rows
    ]


def test_a_first_fold_without_a_class_stops_nothing_in_a_wrong_way(problem):
    """Groups may put all of a class on one side: of the others each row is right or wrong."""
    X, labels, _ = problem
    codes = np.unique(labels, return_inverse=True)[1]
    first = np.flatnonzero(codes < 2)[:60]
    others = np.array_split(np.setdiff1d(np.arange(len(labels)), first), 2)
    folds = [(np.setdiff1d(np.arange(len(labels)), val), val) for val in (first, *others)]
    board = board_of((X, labels, folds), raced=True)
    stopped = [row for row in board.rows if row.stopped]
    assert stopped
    assert all(np.isfinite(row.cv_log_loss) for row in stopped)


def test_threads_and_processes_change_no_bit(problem):
    alone = board_of(problem, raced=True)
    with Workers(2) as workers:
        beside = board_of(problem, raced=True, n_jobs=2, workers=workers)
        assert len(workers.started) == 2
    in_threads = board_of(problem, raced=True, n_jobs=2)
    for other in (beside, in_threads):
        assert list(map(figures, other.rows)) == list(map(figures, alone.rows))
        assert other.corrected == alone.corrected
        for one, two in zip(alone.probabilities, other.probabilities, strict=True):
            assert np.array_equal(one, two, equal_nan=True)
