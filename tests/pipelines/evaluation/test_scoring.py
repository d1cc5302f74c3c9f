"""Tests of pipelines/evaluation/scoring.py: each score is scikit-learn's, for copies too."""

import numpy as np
import pytest
from sklearn.metrics import get_scorer

from heads import HeadSearchCV
from pipelines.evaluation.comparison import corrected_score, score_interval, tied_with_best
from pipelines.evaluation.intervals import wilson_interval
from pipelines.evaluation.scoring import SCORINGS, best_first, find_scoring, head_facts, no_score


class Said:
    """What was answered, as scikit-learn's scorers ask a fitted classifier for it."""

    _estimator_type = "classifier"

    def __init__(self, shares):
        self.classes_, self.shares = np.arange(shares.shape[1]), shares

    def predict(self, X):
        return self.shares[X].argmax(axis=1)

    def predict_proba(self, X):
        return self.shares[X]

    def __sklearn_tags__(self):
        from sklearn.dummy import DummyClassifier

        return DummyClassifier().__sklearn_tags__()


def problem(name, n=60, candidates=4):
    """Labels, (candidates, n, classes) probabilities with ties among them, and the scoring's facts
    of them."""
    classes = 2 if name == "roc_auc" else 3
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes, n)
    shares = rng.integers(1, 6, (candidates, n, classes)) + 2.0 * np.eye(classes)[labels]
    shares /= shares.sum(axis=2, keepdims=True)
    scoring = SCORINGS[name]
    return (
        labels,
        shares,
        np.array([scoring.facts(labels, own.argmax(axis=1), own) for own in shares]),
    )


@pytest.mark.parametrize("name", SCORINGS)
def test_scores_are_scikit_learns(name):
    labels, shares, facts = problem(name)
    counts = np.random.default_rng(0).integers(0, 3, (5, len(labels)))
    found = SCORINGS[name].weighted(labels, facts, counts.astype(np.float32))
    scorer = get_scorer(name)
    for row, weights in enumerate(counts):
        drawn = np.repeat(np.arange(len(labels)), weights)
        expected = [scorer(Said(own), drawn, labels[drawn]) for own in shares]
        assert found[row] == pytest.approx(expected, abs=1e-5)
    everything = [scorer(Said(own), np.arange(len(labels)), labels) for own in shares]
    assert SCORINGS[name].values(labels, facts) == pytest.approx(everything, abs=1e-12)


@pytest.mark.parametrize("name", SCORINGS)
def test_each_has_an_interval_a_corrected_figure_and_ties(name):
    labels, _, facts = problem(name)
    scoring = SCORINGS[name]
    value = scoring.values(labels, facts)
    low, high = score_interval(facts[0], scoring, labels)
    assert low < value[0] < high
    mean, low, high = corrected_score(facts, scoring, labels)
    assert low < mean < high
    assert mean <= value.max() + 0.02
    assert corrected_score(facts, scoring, labels) == (mean, low, high)
    assert tied_with_best(facts, scoring, labels)[value.argmax()]


def test_the_interval_of_accuracy_is_wilsons():
    labels, _, facts = problem("accuracy")
    assert score_interval(facts[0], SCORINGS["accuracy"], labels) == wilson_interval(
        facts[0].sum(), len(labels)
    )


@pytest.mark.parametrize("name", ["balanced_accuracy", "f1_macro", "neg_log_loss"])
def test_scores_other_than_accuracy_notice_the_rare_class(name):
    """Always the large class: right for 90 of 100 images, and beaten by what knows the rare class
    too."""
    labels = np.repeat([0, 1], [90, 10])
    blind = np.tile([0.9, 0.1], (100, 1))
    knows = np.where(labels[:, None] == [0, 1], 0.8, 0.2)
    knows[:15] = [0.3, 0.7]
    scoring = SCORINGS[name]
    facts = np.array([scoring.facts(labels, own.argmax(axis=1), own) for own in (blind, knows)])
    plain = SCORINGS["accuracy"]
    assert (
        best_first(
            plain.values(
                labels, np.array([blind.argmax(axis=1) == labels, knows.argmax(axis=1) == labels])
            )
        )
        == 0
    )
    if name == "neg_log_loss":
        assert scoring.values(labels, facts)[0] == pytest.approx(
            0.9 * np.log(0.9) + 0.1 * np.log(0.1)
        )
    else:
        assert best_first(scoring.values(labels, facts)) == 1


@pytest.mark.parametrize("head", ["logistic", "linear_svm", "knn"])
def test_facts_of_a_head_are_of_its_probabilities(head):
    rng = np.random.default_rng(0)
    labels = np.repeat(["x", "y"], 30)
    X = rng.normal(size=(60, 3)) + (labels == "y")[:, None]
    search = HeadSearchCV([head], cv=3, refit=False, scoring=no_score).fit(X, labels)
    area = SCORINGS["roc_auc"]
    facts = np.array([head_facts(area, head, oof, labels) for oof in search.oof_scores_])
    scores = area.values((labels == "y").astype(int), facts)
    assert ((facts >= 0) & (facts <= 1)).all()
    assert scores.max() > 0.7


def test_a_bad_name_is_one_line():
    with pytest.raises(ValueError, match="unknown scoring 'f1_makro': expected f1_macro"):
        find_scoring("f1_makro")
    with pytest.raises(ValueError, match="two classes and there are 3"):
        find_scoring("roc_auc", 3)
    assert find_scoring("roc_auc", 2).words == "AUC"
