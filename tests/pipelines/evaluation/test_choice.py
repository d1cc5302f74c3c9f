"""Tests of pipelines/evaluation/choice.py."""

from dataclasses import replace

import numpy as np
import pytest

from data import folds
from heads import HEADS, Calibration, as_logits, make_head
from heads.blended import BlendedHead, Member, answers, probabilities
from heads.search import fit_head
from pipelines.evaluation.choice import (
    ChosenHead,
    average_views,
    choose_row,
    describe_choice,
    fit_chosen,
)
from pipelines.evaluation.leaderboard import make_leaderboard
from pipelines.evaluation.search import Search
from pipelines.features import Source

HEAD_NAMES = ["logistic", "linear_svm", "rbf_svm", "knn"]


@pytest.fixture
def halves():
    """Two sources for 120 rows of four classes, each of which tells two pairs apart."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(4), 30)
    arrays = [np.eye(2)[side] * 3 + rng.normal(size=(120, 2)) for side in (codes // 2, codes % 2)]
    return [array.astype(np.float32) for array in arrays], np.array([*"abcd"])[codes]


def board_of(halves, heads=HEAD_NAMES):
    arrays, labels = halves
    sources = [Source("net", name, "avg", 2) for name in ("early", "late")]
    return make_leaderboard(arrays.__getitem__, sources, labels, Search(heads, folds(labels, 4)))


@pytest.mark.parametrize("head", HEAD_NAMES)
def test_every_head_gives_probabilities_of_its_classes(halves, head):
    arrays, labels = halves
    board = board_of(halves, [head])
    alone = next(i for i, row in enumerate(board.rows) if row.members is None)
    fitted = fit_chosen(board, alone, arrays.__getitem__, labels)
    shares = probabilities(fitted.estimator, fitted.calibration, arrays[fitted.sources[0]])
    assert shares.shape == (120, 4)
    assert shares.sum(axis=1) == pytest.approx(1)


def test_a_blend_is_the_weighted_mean_of_its_members(halves):
    arrays, labels = halves
    board = board_of(halves)
    fitted = fit_chosen(board, 0, arrays.__getitem__, labels)
    assert isinstance(fitted.estimator, BlendedHead)
    assert fitted.sources == [0, 1]
    joined = np.hstack(arrays)
    expected = sum(
        member.weight * probabilities(own.estimator, own.calibration, arrays[member.source])
        for member, own in zip(board.members[0], fitted.estimator.members, strict=True)
    )
    np.testing.assert_allclose(fitted.estimator.predict_proba(joined), expected, rtol=1e-12)
    assert (fitted.estimator.predict(joined) == labels).mean() > 0.85


def test_a_blend_is_calibrated_and_keeps_its_labels(halves):
    arrays, labels = halves
    board = board_of(halves)
    fitted = fit_chosen(board, 0, arrays.__getitem__, labels)
    joined = np.hstack(arrays)
    said, shares = answers(fitted.estimator, fitted.calibration, joined)
    assert said.tolist() == fitted.estimator.predict(joined).tolist()
    assert shares.sum(axis=1) == pytest.approx(1)
    np.testing.assert_array_equal(
        probabilities(fitted.estimator, fitted.calibration, joined), shares
    )
    assert shares.max(axis=1).mean() > fitted.estimator.predict_proba(joined).max(axis=1).mean()


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_is_fitted_as_scikit_learn_fits_it(halves, name):
    arrays, labels = halves
    X = np.hstack(arrays)
    found, expected = fit_head(name, {}, X, labels), make_head(name).fit(X, labels)
    assert (found.predict(X) == expected.predict(X)).mean() > 0.98


def test_the_simplest_of_the_tied_is_no_blend_where_one_row_is_as_good():
    rng = np.random.default_rng(0)
    labels = np.repeat(["x", "y"], 30)
    arrays = [
        ((labels == "x")[:, None] * 5 + rng.normal(size=(60, width))).astype(np.float32)
        for width in (9, 4)
    ]
    sources = [Source("net", "wide", "avg", 9), Source("net", "narrow", "avg", 4)]
    board = make_leaderboard(
        arrays.__getitem__, sources, labels, Search(HEAD_NAMES, folds(labels, 4))
    )
    row = board.rows[choose_row(board, "simplest")]
    assert (row.layer, row.members, row.tied) == ("narrow", None, True)
    assert row.head in ("logistic", "linear_svm")


def test_a_blend_is_chosen_where_it_does_no_worse_than_a_row_chosen_without_its_fold(halves):
    board = board_of(halves)
    blend = next(i for i, row in enumerate(board.rows) if row.head == "blend")
    assert board.nested <= max(row.cv_accuracy for row in board.rows if row.members is None)
    assert choose_row(board) == blend
    assert choose_row(replace(board, nested=1.0)) == 0


def test_the_choice_is_described_with_its_test_figures(halves):
    board, labels = board_of(halves, ["knn"]), np.array(["a", "b", "c", "d", "a"])
    shares = np.full((5, 4), 0.1) + 0.6 * np.eye(4)[[0, 1, 2, 3, 1]]
    chosen = describe_choice(board, 0, labels, np.array(["a", "b", "c", "d", "b"]), shares)
    assert chosen["test_accuracy"] == 0.8
    assert chosen["test_balanced_accuracy"] == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert chosen["test_low"] < 0.8 < chosen["test_high"]
    assert chosen["test_recall"] == {"a": 0.5, "b": 1, "c": 1, "d": 1}
    metrics = chosen["test_metrics"]
    assert "roc_auc" not in metrics
    assert {"macro_f1", "log_loss", "brier_score", "calibration_error"} < set(metrics)
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in metrics.values())


def test_a_blend_over_views_is_calibrated_after_the_mean(halves):
    arrays, labels = halves
    heads = [make_head("logistic").fit(X, labels) for X in arrays]
    members = [
        Member("logistic", {}, weight, estimator=head, columns=(2 * i, 2 * i + 2))
        for i, (head, weight) in enumerate(zip(heads, (0.7, 0.3), strict=True))
    ]
    calibration = Calibration(1.5, (0.1, 0.0, 0.0, -0.1), tuple("abcd"))
    chosen = ChosenHead([0, 1], BlendedHead(members), calibration, None)
    views = [np.hstack(arrays), np.hstack(arrays)[::-1], np.hstack(arrays) + 1]
    found = average_views(chosen, 3, 4)
    mean = np.mean([chosen.estimator.predict_proba(X) for X in views], axis=0)
    expected = calibration.probabilities(as_logits(mean, "probabilities"))
    assert found.sources == [0, 1]
    assert np.allclose(
        probabilities(found.estimator, found.calibration, np.hstack(views)), expected, atol=1e-12
    )
