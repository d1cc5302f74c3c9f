"""The refitted winner: what scikit-learn would have fitted, without a trace of this project."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import make_classification

from heads import HEADS, HeadSearchCV, head_scores, make_head
from heads.search import fit_head

CONVERGED = {
    "logistic": {"solver": "newton-cg", "tol": 1e-8},
    "linear_svm": {"tol": 1e-9, "max_iter": 100_000},
}
# large, and needed by no prediction
LEFT_OUT = {"covariance_", "scalings_", "explained_variance_ratio_"}


def photos(d, k):
    X, y = make_classification(90, d, n_informative=6, n_classes=k, random_state=0)
    X[:, 3] = 2.0
    return X, np.array([f"class{i}" for i in range(k)])[y]


def searched(name, X, y):
    return HeadSearchCV({name: {}}, cv=2).fit(X, y).best_estimator_


def fitted(estimator):
    return {key: value for key, value in vars(estimator).items() if key.endswith("_")}


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
@pytest.mark.parametrize(("d", "k"), [(200, 3), (20, 3), (200, 2), (20, 2)])
@pytest.mark.parametrize("name", HEADS)
def test_fitted_attributes_are_scikit_learns(name, d, k):
    X, y = photos(d, k)
    ours, theirs = searched(name, X, y), make_head(name, **CONVERGED.get(name, {})).fit(X, y)
    for mine, its in zip(ours, theirs, strict=True):
        assert type(mine) is type(its)
        expected = {key: value for key, value in fitted(its).items() if key not in LEFT_OUT}
        assert expected.keys() <= fitted(mine).keys()
        for key in expected.keys() - {"n_iter_"}:
            assert np.shape(fitted(mine)[key]) == np.shape(expected[key]), key
    scores = head_scores(theirs, X)
    assert head_scores(ours, X) == pytest.approx(scores, abs=1e-3 * np.abs(scores).max())
    assert ours[0].transform(X) == pytest.approx(theirs[0].transform(X), abs=1e-9)


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
def test_every_head_unpickles_and_predicts_without_this_project(tmp_path):
    X, y = photos(200, 3)
    heads = {name: searched(name, X, y) for name in HEADS}
    kept = X, {name: (pickle.dumps(head), head.predict(X)) for name, head in heads.items()}
    (tmp_path / "kept.pkl").write_bytes(pickle.dumps(kept))
    code = (
        "import pickle, sys; X, heads = pickle.load(open('kept.pkl', 'rb'));"
        "print([name for name, (head, labels) in heads.items()"
        " if (pickle.loads(head).predict(X) != labels).any()]);"
        "print([name for name in sys.modules if name.split('.')[0] == 'heads'])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def searched_and_plain(name):
    X, y = photos(20, 3)
    return vars(searched(name, X, y)[-1]), vars(make_head(name).fit(X, y)[-1]), X


def test_an_svc_sets_what_the_refit_sets():
    """Private attributes of scikit-learn's SVC, which a fit on the kernel matrix hands over."""
    ours, theirs, _ = searched_and_plain("rbf_svm")
    assert ours.keys() == theirs.keys(), (
        f"SVC.fit sets other attributes than the refit: {sorted(ours.keys() ^ theirs.keys())}; "
        "see `_refit_rbf_svm` in heads/refit.py"
    )
    assert ours["_gamma"] == pytest.approx(theirs["_gamma"]), (
        "SVC no longer keeps the number that `gamma` stands for in `_gamma`: "
        "a refitted SVM would predict with another kernel"
    )
    assert ours["shape_fit_"] == theirs["shape_fit_"], (
        "SVC's `shape_fit_` is no longer the shape of its training rows"
    )


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
def test_an_lda_reads_the_numbers_that_the_refit_sets():
    """Private attributes of scikit-learn's LinearDiscriminantAnalysis."""
    ours, theirs, _ = searched_and_plain("lda")
    for key in ("_max_components", "_n_features_out"):
        assert ours[key] == theirs.get(key), (
            f"LinearDiscriminantAnalysis.fit no longer sets `{key}` as heads/refit.py does: "
            "leave it out there, or set what has taken its place"
        )


def test_a_scaler_sets_what_the_refit_sets():
    X, y = photos(20, 3)
    ours, theirs = searched("ridge", X, y)[0], make_head("ridge").fit(X, y)[0]
    assert vars(ours).keys() == vars(theirs).keys(), (
        "StandardScaler.fit sets other attributes than `fit_pipeline` in heads/refit.py"
    )


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_is_fitted_as_scikit_learn_fits_it(name):
    """Two sources for 120 rows of four classes, each of which tells two pairs apart."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(4), 30)
    X = np.hstack(
        [np.eye(2)[side] * 3 + rng.normal(size=(120, 2)) for side in (codes // 2, codes % 2)]
    ).astype(np.float32)
    labels = np.array([*"abcd"])[codes]
    found, expected = fit_head(name, {}, X, labels), make_head(name).fit(X, labels)
    assert (found.predict(X) == expected.predict(X)).mean() > 0.98


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_is_fitted_with_its_parameters_and_class_weights(name):
    X, y = photos(20, 2)
    [(key, values), *_] = [*HEADS[name].grid.items(), (None, [None])]
    params = {} if key is None else {HEADS[name].prefix + key: values[0]}
    head = fit_head(name, params, X, y, "balanced")
    set_there = head.get_params()
    assert {key: set_there[key] for key in params} == params
    if HEADS[name].weighted:
        assert head[-1].class_weight == "balanced"
