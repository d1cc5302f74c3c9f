"""The catalogue: every row makes an ordinary scikit-learn pipeline."""

import subprocess
import sys

import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from heads import HEADS, make_head

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
