"""Tests of pipelines/evaluation: metrics, intervals, comparison, the simplest row."""

from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics
from scipy.stats import binomtest

from pipelines.evaluation.choice import simplest
from pipelines.evaluation.comparison import corrected_score, tied_with_best
from pipelines.evaluation.intervals import nadeau_bengio_interval, wilson_interval
from pipelines.evaluation.metrics import (
    METRICS,
    balanced_accuracy,
    calibration_error,
    measure,
    per_class_recall,
    roc_auc,
)

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


def test_the_interval_of_a_metric_covers_its_true_value():
    labels, predicted, shares = answers(3, n=60_000, seed=1)
    rng = np.random.default_rng(0)
    covered = dict.fromkeys(("macro_f1", "log_loss", "brier_score", "balanced_accuracy"), 0)
    for seed in range(60):
        rows = rng.choice(60_000, 150, replace=False)
        found = measure(
            labels[rows], predicted[rows], shares[rows], [0, 1, 2], seed=seed
        )
        for name in covered:
            covered[name] += (
                found[name]["low"]
                <= METRICS[name].value(labels, predicted, shares)
                <= found[name]["high"]
            )
    assert all(52 <= count <= 60 for count in covered.values()), covered


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
