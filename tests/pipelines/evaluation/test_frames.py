"""Tests of pipelines/evaluation/frames.py and of what gives frames."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report

from data import read_image_folder
from pipelines import ImageClassifier
from pipelines.evaluation.frames import make_frame
from pipelines.outcome import Answers

SMALL = {"backbone": "mobilenet_v3_small", "weights": "random", "size": 32}
ANSWERS = Answers(
    ("a.png", "b.png"),
    np.array(["cat", "dog"]),
    np.array(["cat", "cat"]),
    np.array([[0.75, 0.25], [0.5, 0.5]]),
    np.array(["cat", "dog"]),
)


@pytest.fixture
def result(made_result):
    return made_result


def test_the_leaderboard_is_a_frame_of_its_rows(result):
    pytest.importorskip("pandas", reason="NO PANDAS: pip install .[notebook]")
    frame = result.leaderboard.to_pandas()
    rows = result.results["leaderboard"]
    assert len(frame) == len(rows)
    assert frame["cv_score"].tolist() == [row["cv_score"] for row in rows]
    assert frame["head"].tolist() == [row["head"] for row in rows]
    assert set(frame.columns) == set(rows[0])


def test_answers_to_the_test_images_go_straight_into_scikit_learn(result):
    test = result.test
    assert len(test) == result.results["data"]["n_test"] == 6
    assert accuracy_score(test.labels, test.predictions) == result.chosen["test_accuracy"]
    assert "cats" in classification_report(test.labels, test.predictions, zero_division=0)
    assert np.array_equal(test.probabilities, result.test_probabilities)
    assert set(test.paths) == set(result.images.path[result.images.part == "test"])


def test_answers_are_a_frame():
    pytest.importorskip("pandas", reason="NO PANDAS: pip install .[notebook]")
    frame = ANSWERS.to_pandas()
    assert frame.to_dict("list") == {
        "path": ["a.png", "b.png"],
        "label": ["cat", "dog"],
        "predicted": ["cat", "cat"],
        "probability": [0.75, 0.5],
        "probability_cat": [0.75, 0.5],
        "probability_dog": [0.25, 0.5],
    }


def test_the_probability_of_a_class_is_told_by_its_name():
    assert ANSWERS.probability_of("dog").tolist() == [0.25, 0.5]
    with pytest.raises(ValueError, match="got class 'owl', expected one of cat, dog"):
        ANSWERS.probability_of("owl")


def test_all_images_of_a_run_are_a_frame(result):
    pytest.importorskip("pandas", reason="NO PANDAS: pip install .[notebook]")
    frame = result.images.to_pandas()
    assert frame["path"].tolist() == result.images.path.tolist()
    assert (frame["label"] != frame["predicted"]).tolist() == result.images.is_wrong.tolist()


def test_predictions_are_a_frame_with_a_row_for_each_image(photos, tmp_path):
    pandas = pytest.importorskip("pandas", reason="NO PANDAS: pip install .[notebook]")
    samples = read_image_folder(photos)
    classifier = ImageClassifier("ridge", "features.4", **SMALL, cache=tmp_path / "cache")
    classifier.fit(samples.paths, samples.labels)
    paths = pandas.Series([samples.paths[0], "gone.png", samples.paths[-1]], index=[5, 0, 9])
    frame = classifier.predict_frame(paths)
    assert frame.index.tolist() == [5, 0, 9]
    assert frame["path"].tolist() == paths.tolist()
    read = frame.loc[[5, 9]]
    shares = classifier.predict_proba(read["path"].tolist())
    assert read["label"].tolist() == classifier.predict(read["path"].tolist()).tolist()
    assert np.array_equal(read[["probability_cats", "probability_dogs"]].to_numpy(), shares)
    assert read["probability"].tolist() == shares.max(axis=1).tolist()
    assert read["familiarity"].between(0, 1).all()
    assert read["error"].isna().all()
    gone = frame.loc[0]
    assert gone.drop(["path", "error"]).isna().all()
    assert gone["error"] == "no such file"


def test_predictions_of_nothing_but_bad_images_are_a_frame(photos, tmp_path):
    pytest.importorskip("pandas", reason="NO PANDAS: pip install .[notebook]")
    samples = read_image_folder(photos)
    classifier = ImageClassifier("ridge", "features.4", **SMALL, cache=tmp_path / "cache")
    classifier.fit(samples.paths, samples.labels)
    frame = classifier.predict_frame(["gone.png", "away.png"])
    assert frame["label"].isna().all()
    assert frame["probability"].isna().all()


def test_images_in_memory_are_numbered_and_figures_are_labels_too(tmp_path):
    pytest.importorskip("pandas", reason="NO PANDAS: pip install .[notebook]")
    pixels = np.random.default_rng(0).integers(0, 255, (8, 40, 40, 3)).astype(np.uint8)
    pixels[::2, ..., 0] = 255
    classifier = ImageClassifier("ridge", backbone="histogram", cache=False)
    frame = classifier.fit(pixels, [1, 2] * 4).predict_frame(pixels[:3])
    assert frame["path"].tolist() == ["image 0", "image 1", "image 2"]
    assert frame["label"].tolist() == [1, 2, 1]
    assert {"probability_1", "probability_2"} <= set(frame.columns)


@pytest.mark.parametrize("ask", [ANSWERS.to_pandas, lambda: make_frame({"a": [1]})])
def test_without_pandas_it_is_one_clear_line(monkeypatch, ask):
    monkeypatch.setitem(sys.modules, "pandas", None)  # as where it is not installed
    with pytest.raises(ImportError, match="pandas is not installed: pip install pandas") as caught:
        ask()
    assert "\n" not in str(caught.value)


def test_whoever_asks_for_no_frame_needs_no_pandas():
    code = "import sys; sys.modules['pandas'] = None; import pipelines.job, pipelines.notebook"
    subprocess.run([sys.executable, "-c", code], check=True)
