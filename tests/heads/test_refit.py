"""The refitted winner: what scikit-learn itself would have fitted, without a trace of this
project."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import make_classification

from heads import HEADS, HeadSearchCV, head_scores, make_head

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
        "print([name for name, (head, labels) in heads.items() if "
        "(pickle.loads(head).predict(X) != labels).any()]);"
        "print([name for name in sys.modules if name.split('.')[0] == 'heads'])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
