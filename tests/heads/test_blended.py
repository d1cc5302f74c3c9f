"""Fitted blends: the weighted mean of their members, calibrated once more as a whole."""

from dataclasses import replace

import numpy as np
import pytest

from heads import Calibration, as_logits, fit_calibration, head_scores, make_head
from heads.blended import BlendedHead, Member, answers, probabilities

SURE = Calibration(3.0, (0.0, 0.0, 0.0), ("a", "b", "c"))


@pytest.fixture
def halves():
    """Features of two sources side by side, the labels, and a blend of three heads on them."""
    rng = np.random.default_rng(0)
    y = np.repeat([*"abc"], 30)
    centres = np.repeat(np.eye(3) * 3, 30, axis=0)
    X = np.hstack([centres[:, :2] + rng.normal(size=(90, 2)), centres + rng.normal(size=(90, 3))])
    members = []
    for name, columns, weight in (
        ("logistic", (0, 2), 0.5),
        ("linear_svm", (2, 5), 0.3),
        ("knn", (2, 5), 0.2),
    ):
        own = X[:, slice(*columns)]
        head = make_head(name).fit(own, y)
        calibration = None
        if name == "linear_svm":
            calibration = fit_calibration(head_scores(head, own), y, [*"abc"])
        members.append(
            Member(name, {}, weight, estimator=head, calibration=calibration, columns=columns)
        )
    return X, y, BlendedHead(members)


def test_a_blend_is_the_weighted_mean_of_its_members(halves):
    X, y, blend = halves
    expected = sum(
        member.weight
        * probabilities(member.estimator, member.calibration, X[:, slice(*member.columns)])
        for member in blend.members
    )
    np.testing.assert_allclose(blend.predict_proba(X), expected, rtol=1e-12)
    assert blend.n_features_in_ == 5
    assert (blend.predict(X) == y).mean() > 0.9


def test_a_calibration_sharpens_a_blend_and_keeps_its_labels(halves):
    X, _, blend = halves
    plain_labels, plain = answers(blend, None, X)
    labels, calibrated = answers(blend, SURE, X)
    assert labels.tolist() == plain_labels.tolist() == blend.predict(X).tolist()
    assert calibrated.sum(axis=1) == pytest.approx(1)
    assert calibrated.max(axis=1).mean() > plain.max(axis=1).mean()
    np.testing.assert_array_equal(probabilities(blend, SURE, X), calibrated)


def test_a_head_alone_answers_as_it_predicts(halves):
    X, y, _ = halves
    head = make_head("linear_svm").fit(X, y)
    labels, found = answers(head, SURE, X)
    assert labels.tolist() == head.predict(X).tolist()
    np.testing.assert_array_equal(found, SURE.probabilities(head_scores(head, X)))


def test_impossible_is_very_improbable():
    assert as_logits([[0.0, 1.0]], "probabilities").tolist() == [[np.log(1e-6), 0.0]]


def test_a_member_without_columns_says_so(halves):
    *_, blend = halves
    with pytest.raises(ValueError, match="'logistic' has no columns"):
        BlendedHead([replace(blend.members[0], columns=None)])
