"""Tests of pipelines/notebook.py: results and classifiers show themselves, and say what is worth
what."""

import json
import re

import numpy as np
import pytest
import sklearn
from sklearn.dummy import DummyClassifier

from data import read_image_folder
from pipelines import ImageClassifier, load_classifier, save_classifier
from pipelines.classifier import MeasuredAccuracy
from pipelines.evaluation.intervals import wilson_interval
from pipelines.notebook import run_view

OPTIONS = {
    "backbone": "mobilenet_v3_small",
    "weights": "random",
    "size": 32,
    "layer": "features.4",
    "pooling": "grid2",
}
ROGUE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def result(made_result):
    return made_result


def own_part(page):
    return page[page.index('<div class="permafrost-view">') :]


def words(page):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def percent(share):
    return f"{100 * share:.1f} %"


def figures_of(text):
    return text.replace("\u202f", " ")


def test_a_result_shows_its_answer_and_its_leaderboard(result):
    page, chosen = result._repr_html_(), result.chosen
    text = figures_of(words(page))
    assert f"{percent(chosen['test_accuracy'])} test accuracy" in text
    low, high = percent(chosen["test_low"]), percent(chosen["test_high"])
    assert f"95 % interval {low} to {high}, of 6 test images" in text
    assert f"Chosen: {chosen['head']} on" in text
    lines = re.findall(r"<tr.*?</tr>", page)[1:]
    rows = result.results["leaderboard"]
    assert (
        len(lines)
        == len(rows)
        == 2 * 4 + ("blend" in {row["head"] for row in rows}) - (len(rows) < 8) * (8 - len(rows))
    )
    for line, row in zip(lines, rows, strict=False):
        assert row["head"] in line
        assert percent(row["cv_score"]) in figures_of(words(line))
    marked = [i for i, line in enumerate(lines) if 'class="marked"' in line]
    assert marked == [result.found.place]
    assert "chosen" in lines[marked[0]]
    assert "Few test images" in text


def test_stopped_rows_are_marked(result):
    results = json.loads(json.dumps(result.results))
    assert "stopped" not in run_view(results)
    results["leaderboard"][-1] |= {"tied": False, "stopped": True, "n_stopped": 7}
    page = words(run_view(results))
    assert "7 settings were stopped after the first fold" in page
    results["leaderboard"] = results["leaderboard"][:1] + results["leaderboard"][-1:]
    results["chosen"] |= results["leaderboard"][0]
    assert ">stopped<" in run_view(results)


def test_what_a_result_is_called_is_escaped(result):
    results = json.loads(json.dumps(result.results))
    results["data"] |= {"name": ROGUE, "classes": [ROGUE, "b"]}
    for row in [*results["leaderboard"], results["chosen"]]:
        row["params"] = {"a__b": ROGUE}
        row["head"] = row["head"] + ROGUE
    page = run_view(results)
    assert "<img" not in page
    assert page.count("&lt;img") > 2


def test_a_chosen_row_far_down_is_shown_too(result):
    results = json.loads(json.dumps(result.results))
    rows = results["leaderboard"]
    last = {**rows[-1], "seconds": 77.5}
    results["leaderboard"] = [*rows[:1] * 30, last]
    results["chosen"] |= last
    page = run_view(results)
    lines = re.findall(r"<tr.*?</tr>", page)
    assert 'class="marked"' in lines[-1]
    assert words(lines[-1]).startswith("31 ")
    assert "… and 22 rows more" in page


def test_a_result_of_another_scoring_says_so(result):
    results = json.loads(json.dumps(result.results))
    results["scoring"] = "neg_log_loss"
    for row in [*results["leaderboard"], results["chosen"]]:
        row |= {"cv_score": -0.51234, "cv_score_low": -0.6, "cv_score_high": -0.4}
    assert "\u22120.5123" in words(run_view(results))


def test_results_and_leaderboards_are_a_line_in_a_terminal(result):
    assert re.fullmatch(
        r"RunResult\('photos': \w+ on .*, test accuracy \d\.\d{4} \(.*\)\)", repr(result)
    )
    assert re.fullmatch(
        r"Leaderboard\(\d+ rows, first \w+ on .*: accuracy \d\.\d{4}\)", repr(result.leaderboard)
    )


@pytest.fixture
def samples(photos):
    return read_image_folder(photos)


def make(tmp_path, **options):
    return ImageClassifier(**{**OPTIONS, "cache": tmp_path / "cache", **options})


def test_a_classifier_says_whether_it_is_fitted(samples, tmp_path):
    classifier = make(tmp_path)
    before = classifier._repr_html_()
    assert "not fitted" in own_part(before)
    assert "Not fitted" in before[: before.index("permafrost-view")]  # scikit-learn's own
    after = classifier.fit(samples.paths, samples.labels)._repr_html_()
    text = figures_of(words(own_part(after)))
    assert "Not fitted" not in after
    assert "fitted · 2 classes" in text
    assert "classes cats, dogs" in text
    assert "head logistic" in text
    assert re.search(r"features\.4 grid2 160 mobilenet_v3_small plain", text)


@pytest.mark.parametrize("head", ["logistic", "linear_svm"])
def test_it_shows_what_it_got_right_out_of_fold(samples, tmp_path, head):
    classifier = make(tmp_path, head=head).fit(samples.paths, samples.labels)
    measured = classifier.accuracy_
    assert (measured.images, measured.on) == (24, "folds")
    assert 0.6 < measured.value < classifier.score(samples.paths, samples.labels)
    text = figures_of(words(own_part(classifier._repr_html_())))
    low, high = wilson_interval(measured.right, 24)
    assert f"{percent(measured.value)} expected accuracy" in text
    assert f"{percent(low)} to {percent(high)}" in text
    assert "rather too high" in text


def test_labels_of_chance_are_expected_to_be_chance(samples, tmp_path):
    """Measured on the rows it was fitted on, knn with one neighbour would be right for all."""
    labels = np.random.default_rng(0).permutation(samples.labels)
    assert make(tmp_path, head="knn").fit(samples.paths, labels).accuracy_.value < 0.8


def test_where_nothing_was_measured_it_says_so(samples, tmp_path):
    classifier = make(tmp_path, head=DummyClassifier()).fit(samples.paths, samples.labels)
    assert classifier.accuracy_ is None
    assert "is not known here: score(images, labels)" in words(classifier._repr_html_())


@pytest.mark.parametrize("name", [ROGUE, "caf\udce9", "\x1b[31m"])
def test_names_of_classes_are_escaped(samples, tmp_path, name):
    labels = np.where(samples.labels == "cats", name, "dogs")
    page = make(tmp_path).fit(samples.paths, labels)._repr_html_()
    assert "<img" not in page
    own_part(page).encode()
    assert "\x1b" not in own_part(page)


def test_a_result_and_its_bundle_expect_the_test_accuracy(result, tmp_path):
    test = result.test
    expected = MeasuredAccuracy(int((test.labels == test.predictions).sum()), 6, "test")
    assert result.classifier.accuracy_ == expected
    assert expected.value == result.chosen["test_accuracy"]
    loaded = load_classifier(save_classifier(result.classifier, tmp_path / "bundle"))
    assert loaded.accuracy_ == expected
    text = words(own_part(loaded._repr_html_()))
    assert "6 images that took part in no choice" in text
    loaded.fitted_on_ = "all"
    assert "fitted on these as well" in loaded._repr_html_()


def test_whatever_scikit_learn_is_set_to_gives_classifiers_arrays(samples, tmp_path, result):
    """Heads warned of names of features that they were fitted without."""
    pytest.importorskip("pandas", reason="NO PANDAS: pip install .[notebook]")
    paths, first = samples.paths, make(tmp_path).fit(samples.paths, samples.labels)
    with sklearn.config_context(transform_output="pandas"):
        classifier = make(tmp_path).fit(paths, samples.labels)
        assert np.array_equal(classifier.predict_proba(paths), first.predict_proba(paths))
        assert classifier.predict(paths[:2]).tolist() == first.predict(paths[:2]).tolist()
        assert len(classifier.judge(paths[:2]).rows) == 2
