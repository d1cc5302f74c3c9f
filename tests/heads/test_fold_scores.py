"""Scores on one fold, and what they take of scikit-learn's fitted SVC."""

import numpy as np
import pytest
from sklearn.svm import SVC

from heads.fold_scores import (
    FOLD_SCORERS,
    _is_free,
    _svc_answers,
    known_parameters,
    nearest_rows,
    precomputed_svc,
)


def fitted_svc(k, C=1.0, **options):
    """An SVC of k classes on a kernel matrix, whose rows are not sorted by class."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(60) % k)
    Z = rng.normal(size=(k, 5))[codes] + rng.normal(size=(60, 5))
    K = np.exp(-0.1 * np.sum((Z[:, None] - Z) ** 2, axis=2))
    return SVC(C=C, kernel="precomputed", **options).fit(K, codes), K, codes


@pytest.mark.parametrize("k", [2, 5])
def test_a_fitted_svc_keeps_what_we_read_of_it(k):
    svc, _, codes = fitted_svc(k)
    said = "scikit-learn's SVC has changed what it keeps after `fit`: "
    for name in ("classes_", "support_", "n_support_", "dual_coef_", "intercept_"):
        assert hasattr(svc, name), said + f"there is no `{name}` any more"
    assert (np.diff(codes[svc.support_]) >= 0).all(), (
        said + "`support_` no longer lists the support vectors class by class"
    )
    assert svc.n_support_.tolist() == np.bincount(codes[svc.support_], minlength=k).tolist(), (
        said + "`n_support_` no longer counts the support vectors of each class"
    )
    assert svc.dual_coef_.shape == (k - 1, len(svc.support_)), (
        said + "`dual_coef_` no longer has a row for each of the other classes"
    )
    assert svc.intercept_.shape == (k * (k - 1) // 2,), (
        said + "`intercept_` no longer has a number for each pair of classes"
    )


@pytest.mark.parametrize("k", [2, 5])
def test_dual_coefficients_of_an_svc_give_its_decision_values(k):
    svc, K, _ = fitted_svc(k)
    found = _svc_answers(svc, K)
    expected = svc.decision_function(K)
    scores = found.scores if k > 2 else found.scores[:, 1] - found.scores[:, 0]
    assert scores == pytest.approx(expected, abs=1e-9), (
        "scikit-learn's SVC orders `dual_coef_` or `intercept_` in another way, or breaks ties of "
        "its pairs' votes by another rule; see `_pair_coefficients` and `one_against_rest`"
    )
    assert found.labels.tolist() == svc.predict(K).tolist()


def test_a_dual_coefficient_at_its_bound_is_one_of_C_times_the_class_weight():
    weights = np.array([1.0, 3.0, 0.5])
    for C, free in ((1e-2, False), (1e4, True)):
        svc, _, codes = fitted_svc(3, C=C, class_weight=dict(enumerate(weights)))
        most = np.abs(svc.dual_coef_).max(axis=0) / weights[codes[svc.support_]]
        assert (most <= C * (1 + 1e-9)).all(), (
            "scikit-learn's SVC no longer bounds `dual_coef_` by C times the class weight"
        )
        assert _is_free(svc, codes, weights) == free


def test_an_svc_for_kernel_matrices_names_classes_by_their_numbers():
    assert precomputed_svc(2.0, np.array([1.0, 3.0])).class_weight == {0: 1.0, 1: 3.0}
    assert precomputed_svc(2.0, None).class_weight is None


def test_of_equally_near_rows_the_earlier_comes_first():
    distances = np.array([[2.0, 1.0, 2.0, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    found, numbers = nearest_rows(distances, 3)
    assert numbers[0].tolist() == [3, 1, 4]
    assert found[0].tolist() == [0.5, 1.0, 1.0]
    assert (np.diff(numbers[1]) > 0).all()


@pytest.mark.parametrize(
    ("name", "changed", "known"),
    [
        ("logistic", {"C": 0.1}, {"C": 0.1}),
        ("logistic", {}, {"C": 1.0}),
        ("logistic", {"C": np.inf}, None),
        ("logistic", {"solver": "saga"}, None),
        ("rbf_svm", {"gamma": "auto"}, None),
        ("ridge", {"alpha": np.ones(3)}, None),
    ],
)
def test_a_candidate_is_known_by_its_parameters_and_their_values(name, changed, known):
    defaults = {"C": 1.0, "gamma": "scale", "alpha": 1.0, "solver": "lbfgs"}
    assert known_parameters(name, defaults, changed) == known
    assert set(FOLD_SCORERS[name].handled) >= set(known or ())
