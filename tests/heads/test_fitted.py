"""A head from elsewhere is refused where compiled code would read what is not there."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from heads import HEADS, make_head
from heads.fitted import SHAPES, check_fitted
from heads.rows import grow_tree, without_tree

N, D = 30, 20
REASONS = r"shape|finite|fitted|without|predict|classes|expected|measures|_"


def fitted(name, classes=3, **params):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)).astype(np.float32)
    return make_head(name, **params).fit(X, np.arange(N) % classes)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_every_head_as_it_was_fitted_is_taken(name, classes):
    check_fitted(fitted(name, classes), D, range(classes))


@pytest.mark.parametrize("name", HEADS)
def test_other_features_or_classes_are_refused(name):
    head = fitted(name)
    with pytest.raises(ValueError, match=r"has shape \(20,\), expected \(21,\)"):
        check_fitted(head, D + 1, range(3))
    with pytest.raises(ValueError, match="its classes are not"):
        check_fitted(head, D, [0, 1])
    with pytest.raises(ValueError, match="its classes are not"):
        check_fitted(head, D, [0, 2, 1])


@pytest.mark.parametrize(
    ("name", "attribute"), [(name, own) for name, rows in SHAPES.items() for own in rows]
)
@pytest.mark.parametrize("how", ["cut", "NaN", "text", "gone", "list"])
def test_an_array_of_another_shape_or_kind_is_refused(name, attribute, how):
    head = fitted(name)
    array = vars(head[-1])[attribute]
    changed = {
        "cut": array[:-1],
        "NaN": np.full(array.shape, np.nan),
        "text": np.full(array.shape, "a"),
        "list": array.tolist(),
        "gone": None,
    }[how]
    setattr(head[-1], attribute, changed)
    if how == "gone":
        delattr(head[-1], attribute)
        # of those that only some version of scikit-learn reads nothing is missed
        if attribute in ("within_class_std_dev_", "class_weight_", "dual_coef_",
                         "intercept_", "support_") and name in ("centroid", "rbf_svm"):  # fmt: skip
            return
    with pytest.raises(ValueError, match=REASONS):
        check_fitted(head, D, range(3))


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("rbf_svm", "_n_support", np.array([10**6, 5, 5], np.int32)),
        ("rbf_svm", "_n_support", np.array([-10, 20, N - 10], np.int32)),
        ("rbf_svm", "kernel", "precomputed"),
        ("rbf_svm", "kernel", "other"),
        ("rbf_svm", "_gamma", np.nan),
        ("rbf_svm", "_gamma", -1.0),
        ("rbf_svm", "_sparse", True),
        ("rbf_svm", "_probA", np.zeros(2)),
        ("knn", "_y", np.full(N, 3)),
        ("knn", "_y", np.full(N, -1)),
        ("knn", "n_neighbors", N + 1),
        ("knn", "n_neighbors", 0),
        ("knn", "n_neighbors", 2.0),
        ("knn", "n_samples_fit_", N + 1),
        ("knn", "effective_metric_", "precomputed"),
        ("knn", "weights", "other"),
        ("knn", "_fit_X", np.empty((0, D), np.float32)),
        ("rbf_svm", "support_vectors_", np.empty((0, D))),
    ],
)
def test_values_that_point_outside_are_refused(name, attribute, value):
    head = fitted(name)
    setattr(head[-1], attribute, value)
    with pytest.raises(ValueError, match=REASONS):
        check_fitted(head, D, range(3))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_a_scaler_that_divides_by_nothing_is_refused(scale):
    head = fitted("ridge")
    head[0].scale_[3] = scale
    with pytest.raises(ValueError, match="StandardScaler"):
        check_fitted(head, D, range(3))


@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(),
        make_pipeline(MinMaxScaler(), SVC()),
        make_pipeline(StandardScaler(), DecisionTreeClassifier()),
    ],
    ids=str,
)
def test_what_is_no_head_is_refused(estimator):
    estimator.fit(np.eye(6), np.arange(6) % 2)
    with pytest.raises(ValueError, match=r"no head of the catalogue|no step of a head"):
        check_fitted(estimator, 6, [0, 1])


@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree", "auto"])
@pytest.mark.parametrize("metric", ["euclidean", "minkowski"])
def test_a_tree_grown_again_answers_as_the_one_before(algorithm, metric):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).astype(np.float32)
    head = make_head("knn", algorithm=algorithm, metric=metric, weights="distance")
    head.fit(X, np.arange(200) % 3)
    slim = without_tree(head)
    assert slim[-1]._tree is None
    assert head[-1]._tree is not None
    grow_tree(slim)
    new = rng.normal(size=(50, 4)).astype(np.float32)
    assert np.array_equal(slim.predict_proba(new), head.predict_proba(new))
    check_fitted(slim, 4, range(3))


def test_a_search_that_is_none_is_refused():
    head = fitted("knn")
    head[-1]._fit_method = "other"
    with pytest.raises(ValueError, match="got search 'other'"):
        grow_tree(head)
