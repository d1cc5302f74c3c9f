"""kNN by an index: near rows are found, their distances are exact, and nobody gets it unasked."""

import numpy as np
import pytest

from heads import HeadSearchCV, indexed_neighbours

FAISS = {
    "knn": {
        "kneighborsclassifier__n_neighbors": [9, 3],
        "kneighborsclassifier__metric": ["euclidean", "cosine"],
        "kneighborsclassifier__weights": ["distance"],
        "kneighborsclassifier__algorithm": ["faiss", "brute"],
    }
}


def photos(n=600, d=12):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(n) % 3)
    return (rng.normal(size=(3, d))[y] + rng.normal(size=(n, d))).astype(np.float32), y


def by_algorithm(search):
    """(candidates, n, classes) by the index, and exactly."""
    params = search.cv_results_["params"]
    indexed = [own["kneighborsclassifier__algorithm"] == "faiss" for own in params]
    return search.oof_scores_[indexed], search.oof_scores_[np.invert(indexed)]


def test_with_all_cells_looked_into_the_answers_are_the_exact_ones(in_slices, monkeypatch):
    pytest.importorskip("faiss", reason="NO FAISS: pip install '.[knn]'")
    monkeypatch.setattr(indexed_neighbours, "PROBES", 1000)
    X, y = photos()
    indexed, exact = by_algorithm(HeadSearchCV(FAISS, cv=3).fit(in_slices(X), y))
    assert indexed == pytest.approx(exact, abs=1e-9)


def test_with_too_few_rows_in_its_cells_a_row_is_searched_for_anew(in_slices, monkeypatch):
    pytest.importorskip("faiss", reason="NO FAISS: pip install '.[knn]'")
    monkeypatch.setattr(indexed_neighbours, "PROBES", 1)
    X, y = photos()
    indexed, exact = by_algorithm(HeadSearchCV(FAISS, cv=3).fit(in_slices(X), y))
    assert np.isfinite(indexed).all()
    assert (indexed.argmax(axis=2) == exact.argmax(axis=2)).mean() > 0.9


def test_the_best_estimator_is_exact(in_slices):
    pytest.importorskip("faiss", reason="NO FAISS: pip install '.[knn]'")
    X, y = photos()
    grid = {"knn": FAISS["knn"] | {"kneighborsclassifier__algorithm": ["faiss"]}}
    best = HeadSearchCV(grid, cv=3).fit(in_slices(X), y).best_estimator_
    exact = {"knn": FAISS["knn"] | {"kneighborsclassifier__algorithm": ["brute"]}}
    expected = HeadSearchCV(exact, cv=3).fit(X, y).best_estimator_
    assert best[-1].algorithm == "auto"
    assert (best.predict(X) == expected.predict(X)).all()


def test_an_array_is_searched_exactly_or_not_at_all():
    X, y = photos()
    with pytest.raises(ValueError, match="'faiss' is for rows that are read in blocks and X is an"):
        HeadSearchCV(FAISS, cv=3).fit(X, y)


def test_without_the_library_its_name_and_the_way_out_are_told(in_slices, monkeypatch):
    monkeypatch.setattr(indexed_neighbours, "find_spec", lambda name: None)
    X, y = photos()
    with pytest.raises(
        ValueError, match=r"needs faiss, which is not installed; pip install '.*knn"
    ):
        HeadSearchCV(FAISS, cv=3).fit(in_slices(X), y)
