"""The learning curve rises, ends at the cross-validated score, and comes out the same twice."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from data import folds
from heads import HEADS as CATALOGUE
from heads import HeadSearchCV, oof_probabilities
from heads.blended import Member
from pipelines.evaluation.learning_curve import learning_curve
from pipelines.evaluation.search import Search, search_heads

HEADS = {
    "logistic": {"logisticregression__C": 0.01},
    "linear_svm": {"linearsvc__C": 0.001},
    "rbf_svm": {"svc__C": 3.0, "svc__gamma": "scale"},
    "knn": {"kneighborsclassifier__n_neighbors": 15, "kneighborsclassifier__metric": "cosine"},
    "prior": {},
}


@pytest.fixture(scope="module")
def problem():
    """Features (240, 30) and labels of four classes, one of them rare."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "d"], [80, 80, 60, 20])
    centres = rng.normal(size=(4, 30))[np.unique(labels, return_inverse=True)[1]]
    order = rng.permutation(240)
    return (centres * 0.6 + rng.normal(size=(240, 30))).astype(np.float32)[order], labels[order]


def curve_of(problem, splits, head, **options):
    X, y = problem
    return learning_curve([(X, [Member(head, HEADS[head])])], y, Search((), splits, **options))


@pytest.mark.parametrize("head", HEADS)
def test_the_last_point_is_the_cross_validated_accuracy(problem, head):
    X, y = problem
    parts = folds(y, 4)
    curve = curve_of((X, y), parts, head)
    grid = {key: [value] for key, value in HEADS[head].items()}
    search = HeadSearchCV({head: grid}, cv=parts, refit=False).fit(X, y)
    judged = oof_probabilities(
        search.oof_scores_[0],
        CATALOGUE[head].scores,
        y,
        search.classes_,
        [validation for _, validation in parts],
    )
    assert curve.points[-1].accuracy == pytest.approx(
        np.mean(search.classes_[judged.argmax(1)] == y)
    )
    assert curve.points[-1].images == 180
    assert curve.gain == pytest.approx(curve.points[-1].accuracy - curve.points[-2].accuracy)


def test_sizes_double_and_the_curve_rises(problem):
    points = curve_of(problem, folds(problem[1], 4), "logistic").points
    assert [round(point.per_class, 1) for point in points[1:]] == [6, 11.2, 22.5, 45]
    assert all(first.accuracy < second.accuracy for first, second in itertools.pairwise(points[:3]))
    assert all(point.low < point.accuracy < point.high for point in points)
    assert all(point.images == pytest.approx(4 * point.per_class) for point in points)


@pytest.mark.slow
def test_two_runs_print_the_same_and_another_seed_does_not(problem):
    def curve(**options):
        return curve_of(problem, folds(problem[1], 4), "logistic", **options)

    assert curve() == curve(n_jobs=2)
    assert curve() != curve(seed=1)


def test_a_test_part_may_stand_for_the_folds(problem):
    train, test = np.arange(160), np.arange(160, 240)
    curve = curve_of(problem, [(train, test)], "logistic")
    assert curve.points[-1].images == 160
    low, high = curve.points[-1].low, curve.points[-1].high
    assert 0.05 < high - low < 0.25


def test_a_gain_beyond_chance_is_told_from_none(problem):
    y = problem[1]
    rising = curve_of(problem, folds(y, 4), "logistic")
    assert rising.gain_low > 0 or rising.points[-1].accuracy > 0.94
    flat = curve_of(problem, folds(y, 4), "prior")
    assert flat.gain_low <= 0 <= flat.gain_high
    assert abs(flat.gain) < 0.05


def test_two_images_a_class_make_one_point():
    X, y = np.eye(8, 3), np.repeat(["a", "b"], 4)
    curve = curve_of((X, y), folds(y, 2), "logistic")
    assert [point.per_class for point in curve.points] == [2]
    assert curve.gain is None


def test_an_unknown_head_is_refused(problem):
    with pytest.raises(ValueError, match="head 'nope' is unknown"):
        learning_curve(
            [(problem[0], [Member("nope", {})])], problem[1], Search((), folds(problem[1], 4))
        )


def test_the_curve_of_a_blend_is_that_of_its_members_together(problem):
    """Two views of the classes, each blind to what the other shows: together they tell all."""
    X, y = problem
    halves = [X[:, :12], X[:, 12:24]]
    parts = Search((), folds(y, 4))
    members = [Member("logistic", HEADS["logistic"], 0.5, source) for source in (0, 1)]
    alone = [
        learning_curve([(half, [replace(member, weight=1.0)])], y, parts).points[-1].accuracy
        for half, member in zip(halves, members, strict=True)
    ]
    blend = learning_curve(
        ((half, [member]) for half, member in zip(halves, members, strict=True)), y, parts
    )
    assert blend.points[-1].accuracy > max(alone) + 0.02
    assert len(blend.points) == 5


def test_scores_that_members_have_are_not_computed_again(problem, monkeypatch):
    X, y = problem
    search = Search(("logistic", "knn"), folds(y, 4))
    best = search_heads(X, y, search).best
    members = [Member(name, own.params, 0.5, oof=own.oof) for name, own in best.items()]
    unknown = [replace(member, oof=None) for member in members]
    sizes = []

    class Counted(HeadSearchCV):
        def fit(self, X, y):
            sizes.append(max(len(train) for train, _ in self.cv))
            return super().fit(X, y)

    monkeypatch.setattr("pipelines.evaluation.learning_curve.HeadSearchCV", Counted)
    found = learning_curve([(X, members)], y, search)
    assert max(sizes) < len(y) / 2
    sizes.clear()
    expected = learning_curve([(X, unknown)], y, search)
    assert max(sizes) == len(y) * 3 // 4
    assert found == expected
