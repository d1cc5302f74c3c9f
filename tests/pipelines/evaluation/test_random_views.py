"""Views of an image train where the image does, and none of them is judged."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from heads import HEADS
from heads.blended import Member
from pipelines.evaluation.choice import fit_chosen
from pipelines.evaluation.leaderboard import make_leaderboard
from pipelines.evaluation.learning_curve import learning_curve
from pipelines.evaluation.random_views import folds_of, labels_of
from pipelines.evaluation.search import Search, search_heads, try_settings
from pipelines.features import Source


@pytest.fixture
def problem():
    """Noise whose labels mean nothing, and the folds of its 60 images."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 30)
    X = rng.normal(size=(60, 20)).astype(np.float32)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, labels))
    return X, labels, folds


def test_all_views_of_an_image_are_on_its_side_of_a_fold(problem):
    X, labels, folds = problem
    of_all = folds_of(np.tile(X, (3, 1)), 60, folds)
    for (train, validation), (plain, judged) in zip(of_all, folds, strict=True):
        assert np.array_equal(validation, judged)
        assert validation.max() < 60
        assert sorted(train % 60) == sorted(np.tile(plain, 3))
        assert not set(train % 60) & set(validation)
    assert labels_of(np.tile(X, (3, 1)), labels).tolist() == labels.tolist() * 3


def test_without_views_folds_and_labels_are_as_they_were(problem):
    X, labels, folds = problem
    assert folds_of(X, 60, folds) is folds
    assert folds_of(X, 60, 5) == 5
    assert np.array_equal(labels_of(X, labels), labels)


def test_a_head_that_knows_its_rows_by_heart_gains_nothing_by_copies(problem):
    """Copies on both sides of a fold would have every label of noise right."""
    X, labels, folds = problem
    search = Search({"knn": {HEADS["knn"].prefix + "n_neighbors": [1]}}, folds)
    alone = try_settings(X, labels, search)
    copied = try_settings(np.tile(X, (4, 1)), labels, search)
    assert np.array_equal(alone.scores.argmax(axis=2), copied.scores.argmax(axis=2))
    right = search_heads(np.tile(X, (4, 1)), labels, search).best["knn"].facts
    assert right.mean() < 0.7


@pytest.mark.parametrize("raced", [True, False])
def test_scores_are_of_the_images_and_heads_keep_their_views(problem, raced):
    X, labels, folds = problem
    X = X + 4 * (labels == "b")[:, None]
    views = np.concatenate([X, X + 0.1, X - 0.1]).astype(np.float32)
    search = Search(["knn", "ridge"], folds, raced=raced)
    sources = [Source("net", "a", "avg", 20), Source("net", "b", "avg", 20)]
    board = make_leaderboard(lambda _: views, sources, labels, search)
    assert {own.shape for own in board.probabilities} == {(60, 2)}
    assert {len(member.oof) for members in board.members for member in members} == {60}
    place = next(i for i, row in enumerate(board.rows) if row.head == "knn")
    head = fit_chosen(board, place, lambda _: views, labels)
    assert len(head.rows) == 180
    curve = learning_curve([(views, board.members[place])], labels, search)
    assert curve.points[-1].images == 48  # of the images, whatever views they have
    assert curve.points[-1].accuracy == 1


def test_the_curve_of_fewer_images_is_trained_on_their_views(problem):
    """Views that say the contrary, and outnumber the images, mislead at every size."""
    _, labels, folds = problem
    plain = np.zeros((60, 1), np.float32)
    plain[:, 0] = labels == "b"
    member = Member("ridge", {}, 1.0, 0, None)
    search = Search(["ridge"], folds)
    alone = learning_curve([(plain, [member])], labels, search)
    misled = learning_curve([(np.concatenate([plain, *[1 - plain] * 4]), [member])], labels, search)
    assert all(point.accuracy == 1 for point in alone.points)
    assert all(point.accuracy == 0 for point in misled.points)
