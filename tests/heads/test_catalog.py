"""The catalogue: every row makes an ordinary scikit-learn pipeline."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from heads import (
    HEADS,
    Head,
    HeadSearchCV,
    blend_candidates,
    fit_calibration,
    make_head,
    oof_probabilities,
)
from heads.blended import BlendedHead, Member
from heads.catalog import find_head, find_name, trusted_types
from heads.rows import put_rows, take_rows, training_rows
from heads.search import fit_head

# what scikit-learn itself expects Pipeline to fail (sklearn.utils._test_common)
PIPELINE_FAILS = {
    "check_dont_overwrite_parameters": "Pipeline changes its steps",
    "check_estimators_overwrite_params": "Pipeline changes its steps",
}
# what the classifier fails on its own as well, or is spared by a tag that Pipeline does not pass on
CLASSIFIER_FAILS = {
    "lineardiscriminantanalysis": {
        "check_classifiers_one_label": "the eigen solver divides 0 by 0"
    },
    "nearestcentroid": {
        "check_classifiers_train": "decision_function is another rule than predict"
    },
    "dummyclassifier": dict.fromkeys(
        (
            "check_estimators_nan_inf",
            "check_classifiers_regression_target",
            "check_supervised_y_no_nan",
        ),
        "DummyClassifier validates nothing",
    ),
}


def expected_failures(head):
    return PIPELINE_FAILS | CLASSIFIER_FAILS.get(head.steps[-1][0], {})


@parametrize_with_checks(
    [make_head(name) for name in HEADS], expected_failed_checks=expected_failures
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", HEADS)
def test_grid_values_are_parameters_of_the_head(name):
    row, head = HEADS[name], make_head(name)
    assert isinstance(head, Pipeline)
    for key, values in row.grid.items():
        for value in values:
            changed = clone(head).set_params(**{row.prefix + key: value})
            assert changed.get_params()[row.prefix + key] == value


def test_parameters_by_plain_and_by_pipeline_name():
    plain, full = make_head("logistic", C=0.1), make_head("logistic", logisticregression__C=0.1)
    assert (
        plain.get_params()["logisticregression__C"]
        == full.get_params()["logisticregression__C"]
        == 0.1
    )


def test_unknown_head_offers_the_nearest_names():
    with pytest.raises(ValueError, match="'logistics' is unknown; did you mean logistic"):
        make_head("logistics")


def test_import_takes_no_torch_and_no_scikit_learn():
    heavy = ("torch", "sklearn", "h5py", "data", "extract")
    code = f"import heads, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_found_by_its_class(name):
    head = make_head(name)
    assert find_name(head) == name
    assert find_name(clone(head).fit([[0.0], [1.0], [2.0], [4.0]], [0, 0, 1, 1])) == name


class Own(LogisticRegression):
    """A class of one's own."""


@pytest.mark.parametrize(
    "estimator", [make_pipeline(Own()), BaggingClassifier(), LogisticRegression(), None]
)
def test_what_is_no_head_has_no_name(estimator):
    assert find_name(estimator) is None


def test_the_trusted_types_are_all_scikit_learns():
    assert all(name.startswith("sklearn.") for name in trusted_types())


@pytest.mark.parametrize("name", HEADS)
def test_what_a_row_says_of_the_classifier_is_so(name):
    row = HEADS[name]
    params = row.make_classifier().get_params()
    assert set(row.bounded_by_rows) <= params.keys()
    assert row.weighted == ("class_weight" in params)
    fitted = make_head(name).fit(np.eye(20), np.arange(20) % 2)[-1]
    assert row.keeps_rows is None or len(getattr(fitted, row.keeps_rows)) <= 20
    assert row.cost == (row.keeps_rows is not None)


NINTH = {
    "probabilities": Head(
        "sklearn.naive_bayes:GaussianNB",
        grid={"var_smoothing": (1e-2, 1e-8)},
        scores="probabilities",
    ),
    "margins, weighted": Head(
        "sklearn.linear_model:Perceptron", grid={"alpha": (1e-2, 1e-4)}, weighted=True
    ),
    "keeps rows": Head(
        "sklearn.svm:NuSVC",
        params={"nu": 0.2},
        grid={"gamma": (0.5, "scale")},
        per_feature=("gamma",),
        keeps_rows="support_vectors_",
        cost=1,
    ),
    "bounded by rows": Head(
        "sklearn.neighbors:KNeighborsClassifier",
        grid={"n_neighbors": (1000, 3)},
        scores="probabilities",
        bounded_by_rows=("n_neighbors",),
        keeps_rows="_fit_X",
    ),
}


@pytest.mark.parametrize("row", NINTH.values(), ids=NINTH)
def test_a_ninth_head_needs_its_row_alone(row, monkeypatch):
    """Search, refit, rows and blend, beside a head that the shared work knows."""
    monkeypatch.setitem(HEADS, "ninth", row)
    X, codes = make_classification(90, 30, n_informative=6, n_classes=3, random_state=0)
    X, y = X.astype(np.float32), np.array([*"abc"])[codes]
    search = HeadSearchCV(["ninth", "logistic"], cv=3, class_weight="balanced").fit(X, y)
    tried = search.cv_results_["params"]
    own = [place for place, params in enumerate(tried) if params["head"] == "ninth"]
    assert 0 < len(own) <= 2
    assert search.cv_results_["mean_test_score"][own].max() > 0.4

    names = ["ninth", "logistic"]
    members, oof = [], []
    for name in names:
        places = [place for place, params in enumerate(tried) if params["head"] == name]
        best = places[search.cv_results_["mean_test_score"][places].argmax()]
        params = {key: value for key, value in tried[best].items() if key != "head"}
        scores = search.oof_scores_[best]
        oof.append(oof_probabilities(scores, find_head(name).scores, y, search.classes_))
        members.append(Member(name, params, oof=scores))
    found = blend_candidates(oof, codes, [val for _, val in splits_of(search, X, y)])
    assert found.weights.sum() == pytest.approx(1)

    fitted = []
    for member in members:
        head = fit_head(member.head, member.params, X, y, "balanced")
        assert member.head in (find_name(head), "ninth")
        rows = training_rows(head, X)
        assert (rows is not None) == (find_head(member.head).keeps_rows is not None)
        slim, narrow = take_rows(head, rows)
        if narrow is not None:
            put_rows(slim, narrow)
        assert (slim.predict(X) == head.predict(X)).all()
        calibration = None
        if not hasattr(head, "predict_proba"):
            calibration = fit_calibration(member.oof, y, search.classes_)
        fitted.append(
            Member(
                member.head,
                member.params,
                0.5,
                estimator=slim,
                calibration=calibration,
                columns=(0, 30),
            )
        )
    blend = BlendedHead(fitted)
    assert blend.predict_proba(X).sum(axis=1) == pytest.approx(1)
    assert (blend.predict(X) == y).mean() > 0.6


def splits_of(search, X, y):
    return search._splitter(y, None).split(X, y)
