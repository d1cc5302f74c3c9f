"""Thumbnails are made once, in the pass or when they are first asked for, and kept by image id."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from data import ImageError, Reading, make_picture
from data.thumbnails import read_thumbnails as read_from_images
from extract import (
    FeatureStore,
    MemoryStore,
    Tap,
    extract,
    found_pictures,
    kept_pictures,
    kept_thumbnails,
)
from extract import loader as loader_file
from extract import thumbnails as thumbnails_file
from extract.store.ids import image_ids
from extract.thumbnails import lacking_thumbnails, thumbnail_recipe

A = Tap("layer1.0", "avg")
EACH_ALONE = Reading()
THUMBNAILS = thumbnail_recipe(EACH_ALONE)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


@pytest.fixture
def images(tmp_path, pixels):
    """Files of several formats and sizes, and images in memory."""
    rng = np.random.default_rng(3)
    paths = []
    for i, (suffix, size) in enumerate(
        [("jpg", (600, 800)), ("jpg", (130, 100)), ("png", (600, 500)), ("gif", (20, 30))]
    ):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(tmp_path / f"{i}.{suffix}")
        paths.append(str(tmp_path / f"{i}.{suffix}"))
    return [*paths, pixels[0], Image.fromarray(pixels[1])]


@pytest.fixture
def nothing_made(monkeypatch):
    """From its call on, making a thumbnail is an error."""

    def arrange():
        monkeypatch.setattr(thumbnails_file, "make_both", None)
        monkeypatch.setattr(loader_file, "make_both", None)

    return arrange


def run(inputs, backbone, store, **settings):
    return extract(inputs, [A], backbone, store, numerics="float32", device="cpu", **settings)


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_the_pass_makes_those_that_the_audit_would(images, backbone, store, nothing_made, where):
    store = store if where == "disk" else MemoryStore()
    expected = read_from_images(images)
    done = run(images, backbone, store, thumbnails=True)
    nothing_made()
    found = kept_thumbnails(store, images, done.ids)
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)
    assert np.array_equal(kept_thumbnails(store, images[::-1], done.ids[::-1]), expected[::-1])
    run(images, backbone, store, thumbnails=True, views=["plain+flipped"])


def test_a_pass_makes_none_unless_asked(images, backbone, store):
    done = run(images, backbone, store)
    assert lacking_thumbnails(store, done.ids, EACH_ALONE).all()
    assert not (store.cache / THUMBNAILS.id).exists()


def test_features_kept_earlier_without_them_get_them_when_asked_for(
    images, backbone, store, nothing_made
):
    expected = read_from_images(images)
    run(images[:2], backbone, store, thumbnails=True)
    done = run(images[:4], backbone, store)
    assert lacking_thumbnails(store, done.ids, EACH_ALONE).tolist() == [False, False, True, True]
    done = run(images, backbone, store, thumbnails=True)
    assert lacking_thumbnails(store, done.ids, EACH_ALONE).tolist() == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    assert np.array_equal(kept_thumbnails(store, images, done.ids), expected)
    nothing_made()
    assert np.array_equal(kept_thumbnails(store, images, done.ids), expected)


def test_a_damaged_part_of_them_is_made_again(images, backbone, store):
    done = run(images, backbone, store, thumbnails=True)
    expected = kept_thumbnails(store, images, done.ids)
    (part,) = (store.cache / THUMBNAILS.id / "parts").iterdir()
    data = bytearray(part.read_bytes())
    data[data.index(expected[3].astype(np.uint8).tobytes()) + 5] ^= 1
    part.write_bytes(data)
    assert np.array_equal(kept_thumbnails(store, images, done.ids), expected)
    assert not lacking_thumbnails(store, done.ids, EACH_ALONE).any()
    shutil.rmtree(store.cache)
    assert np.array_equal(kept_thumbnails(store, images, done.ids), expected)


def test_of_an_image_that_changed_the_new_one_is_kept_under_its_own_id(
    photos, pixels, store, write_image
):
    ids, _ = image_ids(photos)
    write_image(photos[0], pixels[0][::-1])
    changed = kept_thumbnails(store, photos, ids)
    assert np.array_equal(changed, read_from_images(photos))
    assert lacking_thumbnails(store, ids, EACH_ALONE).tolist() == [True] + [False] * 11
    assert not lacking_thumbnails(store, image_ids(photos)[0], EACH_ALONE).any()


def test_an_image_without_one_that_can_not_be_read_is_named(photos, store, tmp_path):
    ids, _ = image_ids(photos[:1])
    (tmp_path / "broken.png").write_bytes(b"none")
    for name, said in (("broken.png", "broken.png: not a readable"), ("gone.png", "no such file")):
        with pytest.raises(ImageError, match=said):
            kept_thumbnails(store, [tmp_path / name], ids)


def test_where_they_can_not_be_kept_they_are_given_all_the_same(photos, tmp_path, caplog):
    ids, _ = image_ids(photos)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / THUMBNAILS.id).write_text("in the way")
    found = kept_thumbnails(FeatureStore(tmp_path / "cache"), photos, ids)
    assert np.array_equal(found, read_from_images(photos))
    assert "the thumbnails are not kept" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_no_images_have_none(store):
    assert kept_thumbnails(store, [], np.empty((0, 16), np.uint8)).shape == (0, 32, 32)


def test_pictures_are_kept_beside_them(images, backbone, store, nothing_made):
    expected = [make_picture(image) for image in images]
    done = run(images, backbone, store, thumbnails=True)
    nothing_made()
    assert kept_pictures(store, images, done.ids) == expected
    assert kept_pictures(store, images[::-1], done.ids[::-1]) == expected[::-1]


def test_pictures_that_are_not_kept_are_made(images, store):
    ids = image_ids(images)[0]
    assert kept_pictures(store, images, ids) == [make_picture(image) for image in images]
    assert not lacking_thumbnails(store, ids, EACH_ALONE).any()


def test_found_are_the_kept_pictures_and_those_of_files_as_they_were(images, store, tmp_path):
    ids = image_ids(images)[0]
    expected = [make_picture(image) for image in images]
    kept_pictures(store, images[:2], ids[:2])
    (tmp_path / "0.jpg").unlink()  # its picture is kept
    shutil.copy(images[1], images[2])  # another image by now
    (tmp_path / "3.gif").write_bytes(b"none")
    found = found_pictures(store, images, ids)
    assert found == {row: expected[row] for row in (0, 1, 4, 5)}
    assert list(found) == [0, 1, 4, 5]
    assert lacking_thumbnails(store, ids, EACH_ALONE).tolist() == [False] * 2 + [True] * 4
    assert found_pictures(store, [], np.empty((0, 16), np.uint8)) == {}
