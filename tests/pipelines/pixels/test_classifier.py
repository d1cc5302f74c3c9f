"""Tests of PixelClassifier on small images of two regions."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from data import DataError, ImageError, read_mask_folder
from extract import ExtractError
from pipelines import SegmentSettings
from pipelines.errors import WrongSetting


@pytest.mark.parametrize("head", ["logistic", "forest"])
def test_regions_of_new_images_are_found(classifier, drawn, head):
    images, masks = drawn
    own = clone(classifier).set_params(head=head).fit(images[:6], masks[:6])
    predicted = own.predict(images[6:])
    assert own.classes_.tolist() == [0, 3]
    assert [mask.shape for mask in predicted] == [(48, 60), (48, 60)]
    assert predicted[0].dtype == np.uint8
    assert own.score(images[6:], masks[6:]) > 0.85
    shares = own.predict_proba(images[6:])
    assert shares[0].shape == (48, 60, 2)
    assert np.allclose(shares[0].sum(axis=2), 1, atol=1e-6)
    assert np.array_equal(own.classes_[shares[0].argmax(axis=2)], predicted[0])


def test_the_same_seed_gives_the_same_answers_whatever_is_in_memory_at_a_time(
    classifier, drawn, monkeypatch
):
    images, masks = drawn
    first = clone(classifier).fit(images[:6], masks[:6]).predict(images[6:])
    monkeypatch.setattr("pipelines.pixels.maps.BLOCK_BYTES", 1)
    monkeypatch.setattr("pipelines.pixels.classifier.BAND_VALUES", 1)
    second = clone(classifier).fit(images[:6], masks[:6]).predict(images[6:])
    assert all(map(np.array_equal, first, second))


def test_probabilities_are_of_the_classes_as_frequent_as_they_are(classifier, drawn):
    """Classes are drawn alike, and a rare one is not predicted more often for it."""
    images, masks = drawn
    rare = [np.where(np.arange(60) < 54, 0, 3 * (mask > 0)) for mask in masks]
    own = clone(classifier).set_params(layers="features.12").fit(images, rare)
    assert own.shares_[1] == pytest.approx(0.1)
    shares = np.mean([found[..., 1].mean() for found in own.predict_proba(images)])
    assert shares == pytest.approx(0.1, abs=0.05)


def test_ignored_pixels_are_neither_learnt_nor_counted(classifier, drawn):
    images, masks = drawn
    masks = [mask.copy() for mask in masks]
    for mask in masks:
        mask[:24] = 255
    own = clone(classifier).set_params(ignore=255).fit(images[:6], masks[:6])
    assert own.classes_.tolist() == [0, 3]
    assert own.score(images[6:], masks[6:]) > 0.85
    assert own.count_overlaps(images[6:], masks[6:])[..., 1].max() < 24 * 60


def test_class_numbers_may_have_sixteen_bits(classifier, drawn):
    images, masks = drawn
    masks = [mask.astype(int) * 1000 for mask in masks]
    predicted = clone(classifier).fit(images[:6], masks[:6]).predict(images[6:])
    assert predicted[0].dtype == np.uint16
    assert np.unique(predicted[0]).tolist() == [0, 3000]


def test_one_pass_serves_all_layers_and_a_second_fit_computes_nothing(
    classifier, folders, tmp_path, monkeypatch
):
    images, masks = read_mask_folder(*folders)
    own = clone(classifier).set_params(cache=tmp_path / "cache")
    computed = []
    passed = type(own)._pass

    def noted(self, *arguments):
        kept = passed(self, *arguments)
        computed.append(kept.extraction.computed)
        return kept

    monkeypatch.setattr(type(own), "_pass", noted)
    own.fit(images, masks)
    own.set_params(head="forest", pixels_per_image=40).fit(images, masks).predict(images[:2])
    assert computed == [8, 0, 0]


def test_few_pixels_are_drawn_where_all_would_be_too_many(classifier, drawn, monkeypatch):
    monkeypatch.setattr("pipelines.pixels.classifier.MOST_VALUES", 1)
    drawn_n = []
    fit = type(classifier)._draw

    def noted(self, images, masks, n):
        drawn_n.append(n)
        return fit(self, images, masks, n)

    monkeypatch.setattr(type(classifier), "_draw", noted)
    clone(classifier).fit(*drawn)
    assert drawn_n == [1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"head": "knn"}, WrongSetting, "head='knn': expected one of logistic, forest"),
        ({"pixels_per_image": 0}, WrongSetting, "pixels_per_image=0: expected 1 or more"),
        ({"layers": "classifier.0"}, ExtractError, "map needs more than one position"),
        ({"layers": "nowhere"}, ExtractError, "nowhere"),
        ({"ignore": 3}, DataError, "the masks hold the one class 0: expected two"),
        ({"backbone": "pixels", "weights": None, "size": None}, ExtractError, "no layer of pixels"),
    ],
)
def test_settings_that_can_not_be_used_are_refused(classifier, drawn, options, error, message):
    with pytest.raises(error, match=message):
        clone(classifier).set_params(**options).fit(*drawn)


def test_masks_that_do_not_fit_are_refused(classifier, drawn):
    images, masks = drawn
    with pytest.raises(DataError, match="8 images and 7 masks: expected one mask for each image"):
        classifier.fit(images, masks[1:])
    with pytest.raises(DataError, match="a mask has 60 x 40 pixels, and its image 60 x 48"):
        classifier.fit(images, [mask[:40] for mask in masks])
    noise = np.random.default_rng(0).integers(0, 200, (8, 48, 60))
    with pytest.raises(DataError, match="200 numbers: expected classes, at most 64"):
        classifier.fit(images, list(noise))


def test_a_score_needs_a_mask_for_each_image(classifier, drawn):
    images, masks = drawn
    fitted = clone(classifier).fit(images, masks)
    with pytest.raises(DataError, match="8 images and 7 masks: expected one mask for each image"):
        fitted.score(images, masks[1:])


@pytest.mark.parametrize("test", [("a",), "ab", ("a", "b", "c")])
def test_test_images_come_with_their_masks(test):
    with pytest.raises(WrongSetting, match=r"test=.*: expected two folders, of images and of"):
        SegmentSettings(test=test)


def test_an_image_that_can_not_be_read_is_named(classifier, folders):
    images, masks = read_mask_folder(*folders)
    with open(images[2], "wb") as file:
        file.write(b"no image")
    with pytest.raises(ImageError, match=images[2]):
        classifier.fit(images, masks)


def test_predicting_needs_a_fit(classifier, drawn):
    with pytest.raises(NotFittedError):
        classifier.predict(drawn[0])
