"""Linear heads as weighted sums of features, against their own scores."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from heads import HEADS, head_scores, make_head
from heads.linear_scores import linear_scores

LINEAR = [name for name, row in HEADS.items() if row.is_linear]


def sample(classes):
    rng = np.random.default_rng(classes)
    y = np.arange(60) % classes
    return rng.gamma(1.0, size=(60, 20)).astype(np.float32) + y[:, None] * 0.2, y


def test_the_linear_heads_are_those_with_coefficients():
    assert LINEAR == ["logistic", "linear_svm", "ridge", "lda"]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_the_sum_is_the_heads_own_score(name, classes):
    X, y = sample(classes)
    head = make_head(name).fit(X, y)
    found = linear_scores(head)
    assert (found is not None) == (name in LINEAR)
    if found is not None:
        expected = head_scores(head, X)
        np.testing.assert_allclose(found.of(X), expected, atol=1e-5 * np.abs(expected).max())
        np.testing.assert_allclose(found.centre, X.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "is_known"),
    [
        (LogisticRegression(), True),
        (make_pipeline(StandardScaler(with_std=False), LogisticRegression()), True),
        (make_pipeline(StandardScaler(with_mean=False), LogisticRegression()), True),
        (make_pipeline(MinMaxScaler(), LogisticRegression()), False),
        (make_pipeline(StandardScaler(), StandardScaler(), LogisticRegression()), False),
    ],
)
def test_estimators_of_ones_own(estimator, is_known):
    X, y = sample(2)
    found = linear_scores(estimator.fit(X, y))
    assert (found is not None) == is_known
    if found is not None:
        np.testing.assert_allclose(
            np.diff(found.of(X)).ravel(), estimator.decision_function(X), atol=1e-5
        )
