"""Random views: drawn as torchvision draws, and the same whenever and beside whatever."""

import itertools
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from extract import ExtractError, FeatureStore, MemoryStore, Preprocessing, Tap, extract
from extract.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    Augmented,
    draw,
    is_random,
    random_of,
)
from extract.loader import Decoding, load_batches
from extract.preprocessing import parse_view, seen_as

TAPS = [Tap("layer3.0", "avg")]
STRONG = AUGMENTATIONS["strong"]


def images_of(inputs, rows, views, size=4):
    seen = [seen_as(view)(Preprocessing(size=24, crop=1.0)) for view in views]
    batches = load_batches(inputs, rows, Decoding(seen), lambda: size, 0)
    found = [batch.pixels for batch in batches]
    return [np.concatenate(own) for own in zip(*found, strict=True)]


def test_a_view_is_the_same_in_any_order_and_batch(photos):
    rows = np.random.default_rng(1).permutation(12)
    (first,) = images_of(photos, range(12), ["strong-3-1"])
    others, second = images_of(photos, rows, ["plain", "strong-3-1"], size=5)
    assert np.array_equal(first[rows], second)
    assert not np.array_equal(others, second)


def test_a_copy_under_another_name_is_seen_alike(photos, tmp_path):
    copy = tmp_path / "copy.png"
    shutil.copy(photos[3], copy)
    (found,) = images_of([photos[3], str(copy), photos[4]], range(3), ["light-0-0"])
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("other", ["light-0-1", "light-1-0", "strong-0-0", "plain"])
def test_each_part_of_the_name_counts(photos, other):
    first, second = images_of(photos, range(12), ["light-0-0", other])
    assert all(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("size", [(90, 60), (40, 200), (300, 20), (7, 7)])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_boxes_are_drawn_as_torchvision_draws_them(name, size):
    """Means and spreads of 4,000 boxes, within five standard errors of either sample."""
    wide, tall = size
    augmentation = AUGMENTATIONS[name]
    theirs = v2.RandomResizedCrop(8, augmentation.share, augmentation.aspect)
    image = torch.empty(3, tall, wide)
    torch.manual_seed(0)
    expected = [theirs.make_params([image]) for _ in range(4000)]
    expected = np.array([[p["left"], p["top"], p["width"], p["height"]] for p in expected])
    random = np.random.default_rng(0)
    found = np.array([draw(augmentation, size, random).box for _ in range(4000)])
    for own, other in ((found, expected), (found**2, expected**2)):
        error = np.sqrt((own.var(0) + other.var(0)) / 4000)
        assert (np.abs(own.mean(0) - other.mean(0)) <= 5 * error).all()
    assert (found[:, 0] + found[:, 2] <= wide).all()
    assert (found[:, 1] + found[:, 3] <= tall).all()


def test_flips_and_colours_are_drawn_as_torchvision_draws_them():
    random = np.random.default_rng(0)
    drawn = [draw(STRONG, (60, 40), random) for _ in range(4000)]
    assert abs(np.mean([own.is_flipped for own in drawn]) - 0.5) < 0.04
    orders = Counter(tuple(name for name, _ in own.colours) for own in drawn)
    assert len(orders) == 24
    assert max(orders.values()) < 2 * min(orders.values())
    factors = {name: [dict(own.colours)[name] for own in drawn] for name, _ in drawn[0].colours}
    spans = {"brightness": (0.6, 1.4), "contrast": (0.6, 1.4), "saturation": (0.6, 1.4)}
    for name, (low, high) in (spans | {"hue": (-0.1, 0.1)}).items():
        found = np.array(factors[f"adjust_{name}"])
        assert low <= found.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < found.max() <= high
        assert abs(found.mean() - (low + high) / 2) < 0.05 * (high - low)


def test_what_is_drawn_is_what_is_seen():
    """Crop and resize by Pillow, the mirror image, torchvision's colours in the order drawn."""
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (50, 70, 3), np.uint8))
    for key in (bytes([n]) * 16 for n in range(6)):
        drawn = draw(STRONG, image.size, random_of("strong-5-2", key))
        left, top, width, height = drawn.box
        box = (left, top, left + width, top + height)
        expected = image.resize((20, 16), Image.Resampling.BILINEAR, box=box)
        if drawn.is_flipped:
            expected = v2.functional.horizontal_flip(expected)
        for adjust, factor in drawn.colours:
            expected = getattr(v2.functional, adjust)(expected, factor)
        found = Augmented(Preprocessing(size=(16, 20)), "strong-5-2").see(image, key)
        assert np.array_equal(found, np.asarray(expected))


def test_without_chances_it_is_the_whole_image():
    whole = Augmentation((1.0, 1.0), (1.0, 1.0), flip=0.0)
    drawn = draw(whole, (64, 64), np.random.default_rng(0))
    assert (drawn.box, drawn.is_flipped, drawn.colours) == ((0, 0, 64, 64), False, ())


@pytest.mark.parametrize(
    "name", ["light", "light-0", "light--1-0", "light-0-3-1", "wild-0-0", "off-0-0", "light-0-a"]
)
def test_what_is_no_random_view(name):
    assert not is_random(name)
    with pytest.raises(ExtractError, match="unknown view"):
        parse_view(name)


def test_views_are_averaged_like_others():
    assert parse_view("plain+light-0-0+light-0-1").parts == ("plain", "light-0-0", "light-0-1")


def test_a_preprocessing_of_ones_own_has_no_random_views():
    with pytest.raises(ExtractError, match=r"the view `light-0-0` needs extract.Preprocessing"):
        Augmented(lambda image: np.zeros((3, 8, 8)), "light-0-0")


def test_a_pass_keeps_all_views_of_one_decode(backbone, photos, monkeypatch):
    views = ["plain", "light-0-0", "light-0-1"]
    decoded = []
    from extract import loader

    fill = loader._fill
    monkeypatch.setattr(loader, "_fill", lambda *given: (decoded.append(1), fill(*given)))
    found = extract(photos, TAPS, backbone, MemoryStore(), numerics="float32", views=views)
    rows = [found.read(TAPS, np.arange(12), view) for view in views]
    assert len(decoded) == found.computed == 12
    assert all(not np.allclose(a, b) for a, b in itertools.pairwise(rows))
    alone = extract(photos, TAPS, backbone, MemoryStore(), numerics="float32", views=[views[2]])
    np.testing.assert_allclose(alone.read(TAPS, np.arange(12)), rows[2], rtol=1e-5, atol=1e-6)


def test_lost_rows_are_made_again_the_same(backbone, photos, tmp_path):
    store = FeatureStore(tmp_path / "cache")
    found = extract(photos, TAPS, backbone, store, numerics="float32", views=["strong-0-0"])
    before = found.read(TAPS, np.arange(12))
    for part in store.cache.glob("*/parts/*.h5"):
        part.unlink()
    np.testing.assert_allclose(found.read(TAPS, np.arange(12)), before, rtol=1e-5, atol=1e-6)
