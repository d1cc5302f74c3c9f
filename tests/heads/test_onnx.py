"""Every head of the catalogue, as operators, gives the probabilities that it gives itself."""

import numpy as np
import pytest
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from heads import HEADS, fit_calibration, make_head
from heads.blended import BlendedHead, Member, probabilities
from heads.scores import head_logits

onnx = pytest.importorskip("onnx", reason="NO ONNX: pip install '.[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="NO ONNX: pip install '.[onnx]'")

from heads.onnx import NotExported, add_probabilities  # noqa: E402
from pipelines.exporting.graph import Graph  # noqa: E402

D = 12
NEIGHBOURS = [
    {"n_neighbors": k, "metric": metric, "weights": weights}
    for k in (1, 5)
    for metric in ("euclidean", "cosine")
    for weights in ("uniform", "distance")
]
ALL = [(name, {}) for name in HEADS if name != "knn"] + [("knn", own) for own in NEIGHBOURS]


def run(estimator, calibration, X):
    graph = Graph()
    output = add_probabilities(graph, estimator, calibration, "x")
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", X.shape[1]])
    info = onnx.helper.make_tensor_value_info("p", onnx.TensorProto.DOUBLE, ["n", "classes"])
    model = graph.model([given], {output: info})
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": X})[0]


def rows_of(k, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(k), 30)
    X = rng.normal(size=(len(y), D)) + rng.normal(size=(k, D))[y]
    new = np.concatenate([rng.normal(size=(200, D)) * 2, X[:20]])  # some are training rows
    return X.astype(np.float32), np.array([f"class {own}" for own in y]), new.astype(np.float32)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize(("name", "params"), ALL)
def test_probabilities_are_the_heads(name, params, k):
    X, y, new = rows_of(k)
    head = make_head(name, **params).fit(X, y)
    calibration = fit_calibration(head_logits(head, X), y, np.unique(y))
    found, expected = run(head, calibration, new), probabilities(head, calibration, new)
    # in float32 a training row is not quite at itself, which its weight by distance feels
    assert found == pytest.approx(expected, abs=1e-3 if "weights" in params else 1e-6)
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.parametrize("name", ["logistic", "lda", "knn", "prior"])
def test_a_head_without_calibration_gives_its_own(name):
    X, y, new = rows_of(3)
    head = make_head(name).fit(X, y)
    assert run(head, None, new) == pytest.approx(head.predict_proba(new), abs=1e-5)


@pytest.mark.parametrize("is_calibrated", [True, False])
def test_a_blend_is_the_mean_of_its_members_on_their_columns(is_calibrated):
    X, y, new = rows_of(3)
    members = []
    for name, weight, columns in (("logistic", 0.6, (0, 5)), ("knn", 0.4, (5, D))):
        head = make_head(name).fit(X[:, slice(*columns)], y)
        own = fit_calibration(head_logits(head, X[:, slice(*columns)]), y, np.unique(y))
        members.append(Member(name, {}, weight, estimator=head, calibration=own, columns=columns))
    blend, calibration = BlendedHead(members), None
    if is_calibrated:
        logs = np.log(np.maximum(blend.predict_proba(X), 1e-6))
        calibration = fit_calibration(logs, y, np.unique(y))
    expected = probabilities(blend, calibration, new)
    assert run(blend, calibration, new) == pytest.approx(expected, abs=1e-6)


def test_a_constant_column_and_a_row_of_zeros_are_no_trouble():
    X, y, new = rows_of(2)
    X[:, 3], new[0] = 1.5, 0
    head = make_head("knn", metric="cosine").fit(X, y)
    calibration = fit_calibration(head_logits(head, X), y, np.unique(y))
    expected = probabilities(head, calibration, new)
    assert run(head, calibration, new) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (DecisionTreeClassifier(), "DecisionTreeClassifier is no head of the catalogue"),
        (make_head("rbf_svm", kernel="poly"), "SVC(kernel='poly'): expected the kernel rbf"),
        (make_head("knn", metric="manhattan"), "metric='manhattan'"),
        (make_head("linear_svm"), "LinearSVC without a calibration gives no probabilities"),
        (SVC(kernel="linear"), "SVC is no head of the catalogue"),
    ],
)
def test_what_has_no_operators_is_named(estimator, said):
    X, y, _ = rows_of(2)
    with pytest.raises(NotExported) as error:
        add_probabilities(Graph(), estimator.fit(X, y), None, "x")
    assert said in str(error.value)
