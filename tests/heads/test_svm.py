"""Decision values by matrix products are those of libsvm."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from heads import head_scores, make_head
from heads import svm as svm_file
from heads.calibration import as_columns


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("gamma", [0.05, 3.0, "scale"])
def test_scores_are_those_of_the_decision_function(classes, gamma, monkeypatch):
    monkeypatch.setattr(svm_file, "BLOCK", 400)  # several blocks of rows
    monkeypatch.setattr(svm_file, "PAIRS", 4)
    rng = np.random.default_rng(0)
    X = rng.normal(3, 2, (80, 12)).astype(np.float32)
    y = rng.integers(0, classes, 80)
    head = make_head("rbf_svm", gamma=gamma, C=3.0).fit(X, y)
    rows = np.vstack([X[:5], rng.normal(3, 2, (30, 12)).astype(np.float32)])
    expected = as_columns(head.decision_function(rows))
    np.testing.assert_allclose(head_scores(head, rows), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "svc", [SVC(kernel="linear"), SVC(kernel="poly"), SVC(decision_function_shape="ovo")]
)
def test_other_kernels_and_shapes_are_left_to_scikit_learn(svc):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    head = make_pipeline(StandardScaler(), svc).fit(X, y)
    assert np.array_equal(head_scores(head, X), as_columns(head.decision_function(X)))
