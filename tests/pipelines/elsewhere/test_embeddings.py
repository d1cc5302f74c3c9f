"""Tests of pipelines/elsewhere/embeddings.py and rows.py: rows made in a script."""

import numpy as np
import pytest

from data import DataError
from pipelines import Embeddings

X = np.arange(6.0).reshape(3, 2)


def made(features=X, names=range(3), labels=("a", "", "b")):
    return Embeddings(features, names, labels, "made", "X")


def test_what_is_given_is_settled():
    one = made()
    assert one.features.dtype == np.float32
    assert one.names == ("0", "1", "2")
    assert one.labels.tolist() == ["a", "", "b"]
    assert repr(one) == "Embeddings('made', 'X': 3 rows of 2, 2 classes)"
    assert one.labelled.names == ("0", "2")
    assert made(labels=["", "", ""]).labels is None
    assert made(labels=[1, 2, 1]).labels.tolist() == ["1", "2", "1"]


@pytest.mark.parametrize("nothing", [None, float("nan"), np.float32("nan")])
def test_a_row_that_has_no_label_has_no_class(nothing):
    assert made(labels=[nothing, "a", 2.0]).labels.tolist() == ["", "a", "2"]
    assert made(labels=np.array([nothing, "a", "b"], object)).labels.tolist() == ["", "a", "b"]
    assert made(labels=[nothing] * 3).labels is None


def test_the_array_that_was_given_can_still_be_written_to():
    rows = np.zeros((3, 2), np.float32)
    one = made(rows)
    assert np.shares_memory(one.features, rows)  # no copy is made
    rows[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        one.features[0] = 0


def test_one_row_is_taken_as_a_slice():
    with pytest.raises(DataError, match=r"\[0\] of made: expected a slice, .* such as \[:1\]"):
        made()[0]


def test_ids_are_of_the_names():
    one = made()
    assert one.ids.shape == (3, 16)
    assert np.array_equal(one[[2, 0]].ids, one.ids[[2, 0]])
    assert np.array_equal(made(X + 1).ids, one.ids)
    assert made(names=["caf\udce9", "ü", "a"]).ids.shape == (3, 16)  # bytes that are no UTF-8


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"features": X[0]}, r"made: X is \(2,\), expected \(n, d\)"),
        ({"features": X[:0]}, r"made: X is \(0, 2\), expected one row"),
        ({"names": range(2)}, "2 names came for 3 rows of made"),
        ({"labels": list("abab")}, "4 labels came for 3 rows of made"),
        ({"labels": np.array([["a"], ["b"], ["c"]])}, r"labels came as \(3, 1\), expected \(n,\)"),
        ({"names": ["a", "b", "a"]}, "rows 0 and 2 are both named 'a'"),
        ({"features": np.where(X == 3, np.nan, X)}, "NaN, infinite .* in 1 of 3 rows, first '1'"),
        ({"features": X * 1e300}, "beyond float32 in 3 of 3 rows"),
    ],
)
def test_rows_that_can_not_be_used_are_refused(given, said):
    with pytest.raises(DataError, match=said):
        made(**given)
