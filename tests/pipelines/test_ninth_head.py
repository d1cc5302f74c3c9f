"""A head that is added to the catalogue alone goes through search, blend, bundle and predict."""

import json

import numpy as np
import pytest

from heads import HEADS, Head
from heads.blend import Blend
from pipelines import load_classifier
from pipelines.evaluation import leaderboard
from pipelines.predict import main as predict

NINTH = {
    "naive_bayes": Head(
        "sklearn.naive_bayes:GaussianNB",
        grid={"var_smoothing": (1e-2, 1e-9)},
        scores="probabilities",
    ),
    # keeps rows, bounds a parameter by them, and has margins alone
    "nearest": Head(
        "sklearn.neighbors:RadiusNeighborsClassifier",
        params={"outlier_label": "most_frequent", "algorithm": "brute"},
        grid={"radius": (50.0, 20.0)},
        scores="probabilities",
        keeps_rows="_fit_X",
        cost=1,
    ),
    "ridge_cv": Head(
        "sklearn.linear_model:RidgeClassifierCV",
        grid={"fit_intercept": (True, False)},
        weighted=True,
    ),
}


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Workers of their own would not see a row that this process adds."""
    monkeypatch.setattr("pipelines.stages.search.cores", lambda: 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NINTH)
def test_a_head_is_one_row(photos, run, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setitem(HEADS, name, NINTH[name])
    code, out, err = run(
        *(photos, "--heads", name, "--layers", "features.2,features.4", "--pooling", "grid2"),
        *("--baselines", "off"),
    )
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert {row["head"] for row in results["leaderboard"]} <= {name, "blend"}
    assert name in out
    tested = (tmp_path / "out" / "test_predictions.csv").read_text().splitlines()[1:]
    paths = [line.split(",")[0] for line in tested]
    assert predict([str(tmp_path / "out" / "model"), *paths, "--csv"]) == 0
    said = [line.split(",")[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert said == [[line.split(",")[0], line.split(",")[2]] for line in tested]


def test_it_takes_part_in_a_blend_that_is_kept(photos, run, tmp_path, monkeypatch):
    monkeypatch.setitem(HEADS, "naive_bayes", NINTH["naive_bayes"])

    def all_alike(probabilities, y, folds, **_):
        weights = np.full(len(probabilities), 1 / len(probabilities))
        return Blend(weights, 1.0, np.tensordot(weights, probabilities, 1))

    monkeypatch.setattr(leaderboard, "blend_candidates", all_alike)
    # whatever it is worth on two dozen photos
    monkeypatch.setattr(leaderboard, "_worth_blending", lambda entries, *_: entries)
    monkeypatch.setattr(
        "pipelines.stages.search.choose_row",
        lambda board, how: next(i for i, row in enumerate(board.rows) if row.head == "blend"),
    )
    code, _, err = run(
        *(photos, "--heads", "naive_bayes,knn", "--layers", "features.4:grid2"),
        *("--baselines", "off"),
    )
    assert code == 0, err
    members = load_classifier(tmp_path / "out" / "model").head_.members
    assert {member.head for member in members} == {"naive_bayes", "knn"}
