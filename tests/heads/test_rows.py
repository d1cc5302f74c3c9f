"""The rows a head keeps: the training rows themselves, taken out and put back without a trace."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from heads import HEADS, head_scores, make_head
from heads.rows import put_rows, take_rows, training_rows

KEEPERS = [name for name, row in HEADS.items() if row.keeps_rows]


def photos(n=60, d=30, kind=np.float32):
    rng = np.random.default_rng(0)
    return rng.gamma(1.0, size=(n, d)).astype(np.float16).astype(kind), np.arange(n) % 3


@pytest.mark.parametrize("name", HEADS)
def test_only_heads_that_keep_rows_have_any(name):
    X, y = photos()
    rows = training_rows(make_head(name).fit(X, y), X)
    assert (rows is not None) == (name in KEEPERS)


@pytest.mark.parametrize("name", KEEPERS)
def test_rows_come_back_and_the_head_answers_as_before(name):
    X, y = photos()
    head = make_head(name).fit(X, y)
    expected = head_scores(head, X)
    slim, rows = take_rows(head, training_rows(head, X))
    assert rows.dtype == np.float16
    assert len(getattr(slim[-1], HEADS[name].keeps_rows)) == 0
    put_rows(slim, rows.astype(np.float32))
    assert np.array_equal(head_scores(slim, X), expected)
    assert np.array_equal(head_scores(head, X), expected)


@pytest.mark.parametrize("name", KEEPERS)
def test_rows_too_fine_for_float16_stay_float32(name):
    X, y = photos()
    X = X + np.float32(2**-20)
    head = make_head(name).fit(X, y)
    assert take_rows(head, training_rows(head, X))[1].dtype == np.float32


def test_rows_that_scale_to_something_else_stay_in_the_head():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 30))
    head = make_head("knn").fit(X, np.repeat(["a", "b"], 20))
    assert take_rows(head, X) == (head, None)


def test_rows_in_a_tree_stay_there():
    X, y = photos(d=3)
    head = make_head("knn", algorithm="kd_tree").fit(X, y)
    assert training_rows(head, X) is None


def test_a_pipeline_of_ones_own_keeps_its_rows_to_itself():
    X, y = photos()
    assert (
        training_rows(make_pipeline(StandardScaler(), StandardScaler(), SVC()).fit(X, y), X) is None
    )
    assert training_rows(SVC().fit(X, y), X) is None


def test_rows_for_a_head_without_any_say_so():
    X, y = photos()
    head = make_head("ridge").fit(X, y)
    for call in (take_rows, put_rows):
        with pytest.raises(ValueError, match="Pipeline that keeps none"):
            call(head, X)


def test_scikit_learn_keeps_rows_and_says_how_where_we_look():
    """`_fit_X`, `_fit_method` and `support_vectors_`: the first two are private to scikit-learn."""
    X, y = photos()
    knn = make_head("knn").fit(X, y)
    assert np.array_equal(getattr(knn[-1], "_fit_X", None), knn[0].transform(X)), (
        "KNeighborsClassifier no longer holds its training rows in `_fit_X`: "
        "name the attribute that does in `keeps_rows` of the catalogue, or bundles hold them twice"
    )
    ways = [
        getattr(make_head("knn", algorithm=way).fit(X, y)[-1], "_fit_method", None)
        for way in ("brute", "kd_tree", "ball_tree")
    ]
    assert ways == ["brute", "kd_tree", "ball_tree"], (
        "KNeighborsClassifier no longer says in `_fit_method` how it finds neighbours: "
        "`training_rows` can't tell rows in an array from rows in a tree"
    )
    svm = make_head("rbf_svm").fit(X, y)
    assert np.array_equal(svm[-1].support_vectors_, svm[0].transform(X)[svm[-1].support_]), (
        "SVC's `support_vectors_` are no longer the scaled training rows numbered `support_`: "
        "`training_rows` gives others than it keeps"
    )
