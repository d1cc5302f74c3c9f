"""Tests of heads/layer.py."""

import numpy as np
import pytest

from heads import make_head
from heads.fitted import check_fitted
from heads.layer import head_of, layer_of


def fitted(n_classes):
    rng = np.random.default_rng(0)
    y = np.array([*"abc"])[np.arange(60) % n_classes]
    X = rng.normal(3, 2, (60, 5)) + (np.arange(60) % n_classes)[:, None]
    return make_head("logistic").fit(X, y), X, y


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_head_is_the_same_after_it_was_a_layer(n_classes):
    head, X, y = fitted(n_classes)
    mean, scale, weight, bias = layer_of(head)
    assert weight.shape == (n_classes, 5)
    again = head_of(mean, scale, weight, bias, np.unique(y))
    assert np.allclose(again.predict_proba(X), head.predict_proba(X), rtol=0, atol=1e-12)
    assert again.predict(X).tolist() == head.predict(X).tolist()
    check_fitted(again, 5, np.unique(y).tolist())


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_softmax_of_a_layers_logits_is_the_heads_own(n_classes):
    head, X, _ = fitted(n_classes)
    mean, scale, weight, bias = layer_of(head)
    shares = np.exp(((X - mean) / scale) @ weight.T + bias)
    shares /= shares.sum(axis=1, keepdims=True)
    assert np.allclose(shares, head.predict_proba(X), rtol=0, atol=1e-12)
