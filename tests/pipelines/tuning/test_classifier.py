"""Tests of pipelines/tuning/classifier.py."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from data import read_image_folder
from extract import ExtractError, load_backbone
from pipelines import FineTuneClassifier, load_classifier, save_classifier


@pytest.fixture(scope="module")
def make(network, trained, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def call(**options):
        return FineTuneClassifier(**{**network, **trained, "cache": cache, "views": 1, **options})

    return call


@pytest.fixture(scope="module")
def samples(photos_of_the_module):
    return read_image_folder(photos_of_the_module)


@pytest.fixture(scope="module")
def fitted(make, samples):
    return make().fit(samples.paths, samples.labels)


def test_parameters_are_stored_as_they_come_and_cloned(make):
    classifier = make(rates=[2, 4, 6])
    assert clone(classifier).get_params() == classifier.get_params()
    assert classifier.rates == [2, 4, 6]


def test_paths_to_labels_and_probabilities(fitted, samples):
    shares = fitted.predict_proba(samples.paths)
    assert shares.shape == (24, 2)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert fitted.classes_.tolist() == ["cats", "dogs"]
    assert fitted.predict(samples.paths).tolist() == fitted.classes_[shares.argmax(axis=1)].tolist()
    assert fitted.score(samples.paths, samples.labels) > 0.7


def test_it_says_how_it_was_trained(fitted):
    assert [own.epoch for own in fitted.history_] == [-1, 0, 1]
    assert load_backbone(fitted.network_file_).name == "tuned:squeezenet1_1"
    assert fitted.accuracy_.images == fitted.validation_.sum() > 0


def test_the_head_has_the_new_layers_scores(fitted, samples):
    features = fitted.extractor_.transform(samples.paths)
    margins = fitted.head_.decision_function(features)
    shares = fitted.calibration_.probabilities(margins)
    assert np.allclose(shares, fitted.predict_proba(samples.paths))


def test_a_second_fit_trains_nothing_and_is_the_same(fitted, make, samples):
    again = make().fit(samples.paths, samples.labels)
    assert again.network_file_ == fitted.network_file_
    assert [own.seconds for own in again.history_] == [own.seconds for own in fitted.history_]


def test_it_goes_through_a_pickle_and_a_bundle(fitted, samples, tmp_path):
    expected = fitted.predict_proba(samples.paths)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(samples.paths), expected)
    kept = load_classifier(save_classifier(fitted, tmp_path / "bundle"))
    assert np.allclose(kept.predict_proba(samples.paths), expected, atol=1e-6)


def test_where_the_cache_was_pruned_it_says_to_fit_again(fitted, samples, tmp_path):
    file, away = Path(fitted.network_file_), tmp_path / "away"
    file.rename(away)
    try:
        for call in (
            lambda: fitted.predict(samples.paths),
            lambda: pickle.loads(pickle.dumps(fitted)).predict_proba(samples.paths),
            lambda: save_classifier(fitted, tmp_path / "bundle"),
        ):
            with pytest.raises(ExtractError, match=r"\.safetensors is gone.*: fit again") as caught:
                call()
            assert "\n" not in str(caught.value)
    finally:
        away.rename(file)
    assert not (tmp_path / "bundle").exists()


def test_groups_are_trained_on_together_or_not_at_all(make, samples):
    groups = np.arange(24) // 3
    held = make().fit(samples.paths, samples.labels, groups=groups).validation_
    assert not set(groups[held]) & set(groups[~held])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"epochs": 0}, ExtractError, "epochs=0"),
        ({"unfreeze": 99}, ExtractError, "unfreeze=99"),
        ({"cache": False}, ValueError, "cache=False"),
        ({"validation": 0}, ValueError, "validation=0: expected a share"),
    ],
)
def test_what_cant_be_used_is_refused(make, samples, options, error, said):
    with pytest.raises(error, match=said):
        make(**options).fit(samples.paths, samples.labels)


@pytest.mark.parametrize("y", [None, ["cats"] * 23, ["cats"] * 24])
def test_labels_that_dont_fit_are_refused(make, samples, y):
    with pytest.raises(ValueError, match=r"no labels|23 labels|one class"):
        make().fit(samples.paths, y)


@pytest.mark.parametrize(
    ("name", "value"), [("rates", 3), ("validation", "x"), ("validation", 1.0), ("epochs", 0)]
)
def test_what_can_not_be_used_is_said_before_anything_is_computed(name, value, monkeypatch):
    monkeypatch.setattr(FineTuneClassifier, "_extractor_of", None)
    with pytest.raises(ValueError, match=f"^{name}={value!r}: expected"):
        FineTuneClassifier(**{name: value}).fit(np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1])
