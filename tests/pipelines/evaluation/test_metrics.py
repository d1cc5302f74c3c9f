"""Tests of pipelines/evaluation: metrics, intervals, comparison, the simplest row."""

from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics
from scipy.stats import binomtest

from pipelines.evaluation.choice import simplest
from pipelines.evaluation.comparison import (
    choose_without_fold,
    corrected_score,
    difference_interval,
    paired_interval,
    score_interval,
    tied_with_best,
)
from pipelines.evaluation.intervals import (
    area_interval,
    nadeau_bengio_interval,
    recall_interval,
    wilson_interval,
)
from pipelines.evaluation.metrics import (
    METRICS,
    balanced_accuracy,
    calibration_error,
    measure,
    per_class_recall,
    per_class_recall_intervals,
    roc_auc,
)
from pipelines.evaluation.scoring import ACCURACY, SCORINGS

# what each metric is in scikit-learn, of labels, predicted and probabilities
THEIRS = {
    "accuracy": lambda y, p, shares: sklearn.metrics.accuracy_score(y, p),
    "balanced_accuracy": lambda y, p, shares: sklearn.metrics.balanced_accuracy_score(y, p),
    "macro_f1": lambda y, p, shares: sklearn.metrics.f1_score(y, p, average="macro"),
    "log_loss": lambda y, p, shares: sklearn.metrics.log_loss(y, shares),
    "brier_score": lambda y, p, shares: (
        np.square(shares - np.eye(shares.shape[1])[y]).sum(axis=1).mean()
    ),
    "roc_auc": lambda y, p, shares: sklearn.metrics.roc_auc_score(y, shares[:, 1]),
}


def answers(classes, n=80, seed=0):
    """Labels, predictions and probabilities that know something."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    shares = rng.dirichlet(np.ones(classes), n)
    shares[np.arange(n), labels] += 0.4
    shares /= shares.sum(axis=1, keepdims=True)
    return labels, shares.argmax(axis=1), shares


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (145, 153), (1, 1000), (500, 1000)])
def test_wilson_interval_is_scipys(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high))


def test_corrected_accuracy_takes_the_luck_out_of_random_guesses():
    rng = np.random.default_rng(0)
    gaps, bests = [], []
    for seed in range(20):
        right = rng.random((200, 100)) < 0.5
        gaps.append(corrected_score(right, draws=300, seed=seed)[0] - 0.5)
        bests.append(right.mean(axis=1).max() - 0.5)
    assert np.mean(bests) > 0.1
    assert abs(np.mean(gaps)) < 0.035


def test_corrected_accuracy_of_one_candidate_is_its_own():
    right = np.arange(100)[None] < 80
    mean, low, high = corrected_score(right, draws=4000)
    assert mean == pytest.approx(0.8, abs=0.005)
    assert low < 0.8 < high


def test_corrected_accuracy_is_seeded():
    right = np.random.default_rng(1).random((10, 50)) < 0.7
    assert corrected_score(right, seed=3) == corrected_score(right, seed=3)


def test_balanced_accuracy_weighs_classes_alike():
    labels = np.array(["a"] * 8 + ["b"] * 2)
    assert balanced_accuracy(labels, np.array(["a"] * 10)) == 0.5


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", THEIRS)
def test_metrics_are_scikit_learns(name, classes):
    found = answers(2 if name == "roc_auc" else classes)
    assert METRICS[name].value(*found) == pytest.approx(THEIRS[name](*found))


def test_every_metric_is_compared_but_one():
    assert set(METRICS) - set(THEIRS) == {"calibration_error"}


def test_calibration_error_by_hand():
    shares = np.array([[0.9, 0.1], [0.92, 0.08], [0.3, 0.7], [0.31, 0.69]])
    labels = np.array([0, 1, 1, 1])
    # bins of 1/15: (0.9, 0.92) half right, (0.7, 0.69) all right
    expected = (abs(1 - 1.82) + abs(2 - 1.39)) / 4
    assert calibration_error(labels, shares.argmax(axis=1), shares) == pytest.approx(expected)


def test_calibration_error_of_certainty_is_the_share_of_errors():
    shares = np.eye(2)[[0, 0, 1, 1]]
    assert calibration_error(
        np.array([0, 1, 1, 1]), shares.argmax(axis=1), shares
    ) == pytest.approx(0.25)


def test_recall_is_by_the_classes_that_have_images():
    labels, predicted = np.array(["a", "a", "b"]), np.array(["a", "c", "b"])
    assert per_class_recall(labels, predicted) == {"a": 0.5, "b": 1.0}


def test_auc_without_one_class_is_not_a_number():
    assert np.isnan(roc_auc(np.zeros(3, int), None, np.full((3, 2), 0.5)))


def test_log_loss_of_a_certain_error_is_finite():
    assert METRICS["log_loss"].value(
        np.array([0]), np.array([1]), np.array([[0.0, 1.0]])
    ) == pytest.approx(34.54, abs=0.01)


@pytest.mark.parametrize("classes", [2, 5])
def test_measure_gives_every_metric_inside_its_interval(classes):
    labels, predicted, shares = answers(classes)
    names = np.array([f"class {code}" for code in range(classes)])
    found = measure(names[labels], names[predicted], shares, names)
    assert set(found) == set(METRICS) - ({"roc_auc"} if classes > 2 else set())
    for name, row in found.items():
        assert row["value"] == pytest.approx(METRICS[name].value(labels, predicted, shares))
        assert row["low"] <= row["value"] <= row["high"], name
        assert row["low"] < row["high"], name
    assert found == measure(names[labels], names[predicted], shares, names)


@pytest.mark.slow
def test_the_interval_of_a_metric_covers_its_true_value():
    labels, predicted, shares = answers(3, n=60_000, seed=1)
    rng = np.random.default_rng(0)
    covered = dict.fromkeys(("macro_f1", "log_loss", "brier_score", "balanced_accuracy"), 0)
    for seed in range(60):
        rows = rng.choice(60_000, 150, replace=False)
        found = measure(labels[rows], predicted[rows], shares[rows], [0, 1, 2], seed=seed)
        for name in covered:
            covered[name] += (
                found[name]["low"]
                <= METRICS[name].value(labels, predicted, shares)
                <= found[name]["high"]
            )
    assert all(52 <= count <= 60 for count in covered.values()), covered


def certain(n, classes, wrong=()):
    """Labels, predictions and certain probabilities, all right but for some."""
    labels = np.arange(n) % classes
    predicted = labels.copy()
    predicted[list(wrong)] = (predicted[list(wrong)] + 1) % classes
    return labels, predicted, np.eye(classes)[predicted]


@pytest.mark.parametrize("n", [4, 17, 60, 500])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("all_wrong", [False, True])
def test_no_interval_has_zero_width_at_perfect_or_hopeless_answers(n, classes, all_wrong):
    labels, predicted, shares = certain(n, classes, range(n) if all_wrong else ())
    for name, row in measure(labels, predicted, shares, range(classes)).items():
        assert row["low"] <= row["value"] <= row["high"], name
        # an accuracy of 0.9 would be all right on 17 images one time in six
        assert row["high"] - row["low"] > 0.5 / n, name


def test_the_interval_of_a_perfect_balanced_accuracy_is_wilsons_where_classes_are_alike():
    labels, predicted, _ = certain(60, 3)
    low, high = recall_interval(labels, predicted == labels)
    assert high == 1
    assert low == pytest.approx(wilson_interval(60, 60)[0], abs=0.002)
    few = np.repeat([0, 1], [58, 2])  # the rare class could be wrong half of the time
    assert recall_interval(few, np.ones(60, bool))[0] < 0.75


def test_areas_at_the_ends_of_their_interval_have_the_one_observed_within_reach():
    for area in (0.7, 0.95):
        low, high = area_interval(area, 20, 30)
        for end in (low, high):
            more = 24  # (20 + 30) / 2 - 1
            variance = end * (1 - end) * (1 + more * (1 - end) / (2 - end) + more * end / (1 + end))
            assert abs(end - area) == pytest.approx(1.959964 * np.sqrt(variance / 600), rel=1e-4)
    assert area_interval(1.0, 20, 30)[0] == pytest.approx(0.897, abs=0.02)
    assert area_interval(0.0, 20, 30)[1] == pytest.approx(1 - area_interval(1.0, 20, 30)[0])


def test_a_calibration_no_worse_than_chance_makes_it_may_be_perfect():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 200)
    right = rng.random(200) < confidence
    labels = np.zeros(200, int)
    shares = np.column_stack([np.where(right, confidence, 1 - confidence)] * 2)
    shares[:, 1] = 1 - shares[:, 0]
    found = measure(labels, shares.argmax(axis=1), shares, [0, 1])["calibration_error"]
    assert (found["low"], found["value"] > 0.03) == (0, True)


def test_each_recall_has_wilsons_interval():
    labels, predicted = np.array(["a", "a", "b"]), np.array(["a", "c", "b"])
    found = per_class_recall_intervals(labels, predicted)
    assert (found["a"]["low"], found["a"]["high"]) == wilson_interval(1, 2)
    assert (found["b"]["low"], found["b"]["high"]) == wilson_interval(1, 1)
    assert [own["images"] for own in found.values()] == [2, 1]


def facts_of(scoring, classes=2, n=40, wrong=()):
    labels, predicted, shares = certain(n, classes, wrong)
    return scoring.facts(labels, predicted, 0.02 + 0.96 * shares), labels


@pytest.mark.parametrize("name", SCORINGS)
@pytest.mark.parametrize("n", [6, 40])
def test_no_score_and_no_difference_of_scores_has_zero_width(name, n):
    scoring = SCORINGS[name]
    facts, labels = facts_of(scoring, n=n)
    value = scoring.values(labels, facts[None])[0]
    low, high = score_interval(facts, scoring, labels)
    assert low < value <= high
    mean, low, high = corrected_score(np.array([facts, facts]), scoring, labels)
    assert low < mean <= high
    difference, low, high = difference_interval(np.array([facts, facts]), scoring, labels)
    assert difference == 0
    assert low < -1 / (2 * n)
    assert high > 1 / (2 * n)


@pytest.mark.parametrize("name", SCORINGS)
def test_a_clear_difference_lies_above_0(name):
    scoring = SCORINGS[name]
    good, labels = facts_of(scoring, n=80)
    poor, _ = facts_of(scoring, n=80, wrong=range(40))
    difference, low, high = difference_interval(np.array([good, poor]), scoring, labels)
    assert 0 < low < difference < high


def test_the_paired_interval_by_hand():
    # 10 right where the other is wrong, 2 the other way, of 50: half added to each of four cells
    differences = np.repeat([1, -1, 0], [10, 2, 38])
    p_first, p_second = 10.5 / 52, 2.5 / 52
    half = 1.959964 * np.sqrt((p_first + p_second - (p_first - p_second) ** 2) / 52)
    expected = (p_first - p_second - half, p_first - p_second + half)
    assert paired_interval(differences) == pytest.approx(expected)


def test_of_a_group_each_fold_is_answered_by_the_row_that_is_best_without_it():
    facts = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool)
    folds = [(np.array([2, 3]), np.array([0, 1])), (np.array([0, 1]), np.array([2, 3]))]
    codes = np.array([0, 1, 0, 1])
    assert not choose_without_fold(facts, codes, folds, ACCURACY).any()
    assert choose_without_fold(facts[:1], codes, folds, ACCURACY).tolist() == facts[0].tolist()


def test_nadeau_bengio_by_hand():
    low, high = nadeau_bengio_interval([0.8, 0.9, 0.85, 0.9, 0.8], n_train=80, n_val=20)
    # t of 4 degrees of freedom, 0.05 standard deviation, 1/5 + 1/4
    assert (low, high) == pytest.approx((0.7568, 0.9432), abs=1e-4)


def test_nadeau_bengio_needs_two_folds():
    with pytest.raises(ValueError, match="two folds"):
        nadeau_bengio_interval([0.9], 80, 20)


def test_the_corrected_interval_has_a_width_where_all_is_right():
    mean, low, high = corrected_score(np.ones((4, 60), bool))
    assert (mean, high) == (1, 1)
    assert low == pytest.approx(wilson_interval(60, 60)[0])


def test_rows_alike_tie_and_a_worse_one_does_not():
    right = np.ones((4, 400), bool)
    for row, wrong in enumerate([slice(0, 40), slice(100, 140), slice(200, 244), slice(0, 160)]):
        right[row, wrong] = False
    assert tied_with_best(right).tolist() == [True, True, True, False]


@pytest.mark.parametrize("accuracy", [0.5, 0.9])
def test_of_many_alike_each_is_kept_nineteen_times_in_twenty(accuracy):
    draws = [np.random.default_rng(100 + seed).random((30, 100)) < accuracy for seed in range(40)]
    assert 0.93 <= np.mean([tied_with_best(right, draws=300) for right in draws]) <= 0.99


@pytest.mark.parametrize("right", [[[1, 1, 0]], [[1, 0, 1], [1, 0, 1]], [[1, 1, 1], [1, 1, 1]]])
def test_rows_that_never_differ_tie(right):
    assert tied_with_best(np.array(right, bool)).all()


def test_a_row_that_is_always_wrong_does_not_tie():
    assert tied_with_best(np.array([[True] * 9, [False] * 9])).tolist() == [True, False]


def test_poor_rows_excuse_no_good_one():
    right = np.random.default_rng(0).random((22, 1000)) < 0.5
    right[:2] = True
    right[0, :10], right[1, 100:130] = False, False
    assert np.flatnonzero(tied_with_best(right)).tolist() == [0]


def test_the_simplest_of_the_tied():
    def row(head, dim, members=None):
        return SimpleNamespace(head=head, dim=dim, members=members)

    rows = [
        row("blend", 90, [{}, {}]),
        row("rbf_svm", 16),
        row("logistic", 64),
        row("linear_svm", 64),
        row("knn", 4),
    ]
    assert simplest(rows, np.array([True] * 5)) == 2
    assert simplest(rows, np.array([True, True, False, False, False])) == 1
    assert simplest(rows, np.array([True, False, False, False, False])) == 0


@pytest.mark.parametrize("strange", ["aa", "z"])
def test_a_label_that_is_no_class_is_not_scored_as_the_one_beside_it(strange):
    shares = np.array([[0.1, 0.9], [0.2, 0.8]])
    own, said = np.array(["b", strange]), np.array(["b", "b"])
    for labels, predicted in ((own, said), (said, own)):
        with pytest.raises(ValueError, match=f"label '{strange}' is no class: expected one"):
            measure(labels, predicted, shares, ["a", "b"])
