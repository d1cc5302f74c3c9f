"""A run that trains on random views of its training images and is judged on images as they are."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from extract import FeatureExtractor, load_backbone
from extract.extractor import extractors_of
from heads.blended import probabilities
from pipelines import RunSettings, run_job
from pipelines.errors import WrongSetting
from pipelines.explanation import explain, explain_kept
from pipelines.report.text import summary

QUICK = {
    "backbone": "mobilenet_v3_small",
    "weights": "random",
    "size": 32,
    "cv": 3,
    "heads": "knn",
    "layers": "features.4,features.8",
    "pooling": "avg",
    "numerics": "float32",
    "baselines": False,
    "report": False,
}
NETWORK = ("backbone", "weights", "size", "numerics")
VIEWS = ["light-0-0", "light-0-1"]


@pytest.fixture
def job(photos, tmp_path):
    def call(**options):
        return run_job(
            str(photos), RunSettings(**{**QUICK, "cache": tmp_path / "cache", **options})
        )

    return call


class Resized:
    """A preprocessing of one's own."""

    transform_id = "resized"

    def __call__(self, image):
        return np.float32(image.resize((32, 32))).transpose(2, 0, 1) / 255


def rows_of(result):
    """How many training rows the kept classifier's heads hold."""
    classifier = result.classifier
    members = getattr(classifier.head_, "members", None)
    return {len(own.rows) for own in members} if members else {len(classifier.rows_)}


def kept(result, view, rows):
    """The share of the rows that are kept in a view."""
    own = result.table.features[0]
    recipe = replace(own.recipe, view=view)
    store = own.extraction.request.store
    missing = store.missing(recipe, list(own.taps), result.table.ids[rows])
    return 1 - missing.mean()


def test_views_of_training_images_alone_are_kept_and_trained_on(job, tmp_path):
    result = job(augmented=2, out=tmp_path / "out")
    split, n_train = result.split, len(result.split.train)
    for view in VIEWS:
        assert kept(result, view, split.train) == 1
        assert kept(result, view, split.test) == 0
    assert result.results["data"]["n_train"] == n_train
    assert {len(own) for own in result.leaderboard.probabilities} == {n_train}
    assert result.results["settings"]["augmented"] == 2
    assert result.results["views"]["augmented"] == 2
    assert result.results["views"]["used"] == ["plain"]
    said = "trained on 2 random views of each image beside it; judged on the images as they are"
    assert said in summary(result.results, tmp_path / "out")
    assert rows_of(result) == {3 * n_train}


@pytest.mark.parametrize("average_views", [False, True])
def test_a_bundle_answers_the_same_in_a_new_process(job, tmp_path, average_views):
    result = job(augmented=2, average_views=average_views, out=tmp_path / "out")
    code = (
        "import json, sys\n"
        "from pipelines import load_classifier\n"
        "paths = json.loads(sys.stdin.read())\n"
        "print(json.dumps(load_classifier(sys.argv[1]).predict_proba(paths).tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out" / "model")],
        input=json.dumps(result.test.paths),
        capture_output=True,
        text=True,
        check=True,
    )
    found = np.array(json.loads(done.stdout))
    assert np.allclose(found, result.test_probabilities, atol=1e-5)
    with (tmp_path / "out" / "test_predictions.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["predicted"] for row in written] == list(
        result.leaderboard.classes[found.argmax(axis=1)]
    )
    assert np.allclose([float(row["probability"]) for row in written], found.max(axis=1), atol=1e-5)


def test_the_mean_of_what_a_head_says_of_each_view_is_tested_and_kept(job, tmp_path):
    options = {"augmented": 2, "layers": "features.4", "heads": "rbf_svm"}
    plain = job(**options)
    averaged = job(**options, average_views=True, out=tmp_path / "out")
    head, named = averaged.found.head, {name: QUICK[name] for name in NETWORK}
    by_view = [
        FeatureExtractor(str(averaged.found.source.tap), view=view, cache=False, **named)
        for view in ["plain", *VIEWS]
    ]
    said = [
        probabilities(head.estimator, head.calibration, own.transform(averaged.test.paths))
        for own in by_view
    ]
    assert np.allclose(averaged.test_probabilities, np.mean(said, axis=0), atol=1e-6)
    assert not np.allclose(averaged.test_probabilities, said[0], atol=1e-3)
    assert np.allclose(plain.test_probabilities, said[0], atol=1e-6)
    labels = averaged.leaderboard.classes[averaged.test_probabilities.argmax(axis=1)]
    assert averaged.chosen["test_accuracy"] == np.mean(labels == averaged.test.labels)
    # what is searched, and what images are compared with, is of the images as they are
    for name in ("learning_curve", "audit"):
        assert averaged.results[name] == plain.results[name]
    assert averaged.classifier.reference_.columns == plain.classifier.reference_.columns
    assert len(list((tmp_path / "out" / "model").glob("rows*.npy"))) == 1  # of all views


def test_a_run_that_averages_says_so(job, tmp_path):
    result = job(augmented=2, average_views=True, final="all")
    assert result.results["settings"]["average_views"] is True
    assert result.results["views"]["averaged"] is True
    said = "beside it; chosen on the images as they are, tested by the mean over all views"
    assert said in summary(result.results, tmp_path / "out")
    assert [own.view for own in extractors_of(result.classifier.extractor_)] == ["plain", *VIEWS]
    assert kept(result, VIEWS[0], np.arange(len(result.table.samples))) == 1


def test_what_averages_over_views_is_explained_in_the_plain_one(job):
    result = job(augmented=2, average_views=True, heads="logistic", layers="features.4")
    paths = result.test.paths[:2]
    found = list(explain(result.classifier, paths))
    assert [own.label for own in found] == result.test.predictions[:2].tolist()
    assert all(own.is_exact for own in found)
    head, rows = result.found.head, result.split.test[:2]
    logits = np.log(
        probabilities(head.estimator, head.calibration, result.table.read(head.sources[0], rows))
    )
    codes = [result.leaderboard.classes.tolist().index(own.label) for own in found]
    others = [result.leaderboard.classes.tolist().index(own.runner_up) for own in found]
    evidence = logits[[0, 1], codes] - logits[[0, 1], others]
    assert np.allclose([own.evidence for own in found], evidence, atol=1e-4)
    assert len(explain_kept(result.classifier, result.table, rows)) == 2


def test_a_second_run_recalls_all_of_it_and_another_number_of_views_nothing(job, monkeypatch):
    first = job(augmented=2)
    monkeypatch.setattr("pipelines.stages.search.make_leaderboard", None)
    again = job(augmented=2)
    assert again.results["leaderboard"] == first.results["leaderboard"]
    assert again.results["extraction"]["computed"] == 0
    with pytest.raises(TypeError, match="NoneType"):
        job(augmented=1)
    with pytest.raises(TypeError, match="NoneType"):
        job(views="plain")


def test_with_all_images_the_test_images_have_views_too(job):
    result = job(augmented=1, final="all")
    everything = np.arange(len(result.table.samples))
    assert kept(result, VIEWS[0], everything) == 1
    assert rows_of(result) == {2 * len(everything)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"augmented": -1}, "augmented=-1: expected so many random views of each training image"),
        ({"augmented": 101}, "augmented=101: expected so many .*, 0 to 100"),
        ({"augmented": 1.5}, "augmented=1.5: expected so many random views"),
        ({"augmented": 2, "views": "plain,flipped"}, "expected 0 beside --views plain,flipped"),
        ({"average_views": True}, "average_views=True: expected --augmented from 1 to 11 .* got 0"),
        ({"average_views": True, "augmented": 12}, "from 1 to 11 beside it, got 12"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(job, options, said):
    with pytest.raises(WrongSetting, match=said) as caught:
        job(**options)
    assert "\n" not in str(caught.value)


def test_a_network_that_says_no_size_has_no_random_views(job):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    own = load_backbone(module, preprocessing=Resized())
    with pytest.raises(WrongSetting, match=r"augmented=2: expected 0 with .*says no size"):
        job(augmented=2, backbone=own, weights=None, size=None, layers="auto")
