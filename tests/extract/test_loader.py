"""Batches come in order, decoded only so far ahead, and say which images are bad."""

import os
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from extract import loader
from extract.loader import Decoding, load_batches
from extract.store.ids import bytes_id, image_ids


@pytest.fixture
def decoded(monkeypatch):
    """A list that grows by one with every image decoded."""
    seen, decode_one = [], loader._decode_one

    def counting(*args):
        seen.append(threading.get_ident())
        return decode_one(*args)

    monkeypatch.setattr(loader, "_decode_one", counting)
    return seen


def settle(decoded):
    """How many were decoded once nothing more is."""
    before = -1
    while len(decoded) != before:
        before = len(decoded)
        time.sleep(0.03)
    return before


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_no_more_is_decoded_than_ahead(pixels, small, decoded, ahead):
    batches = load_batches(pixels, np.arange(12), Decoding([small]), lambda: 2, ahead)
    assert settle(decoded) == 0
    for done in range(1, 7):
        next(batches)
        assert settle(decoded) <= 2 * (done + ahead)
    assert next(batches, None) is None
    assert len(decoded) == 12


def test_rows_come_in_the_order_asked(photos, small):
    rows = [7, 2, 11, 0, 5]
    batches = list(load_batches(photos, rows, Decoding([small]), lambda: 2, 1))
    assert [batch.rows.tolist() for batch in batches] == [[7, 2], [11, 0], [5]]
    for batch in batches:
        for row, found, image in zip(batch.rows, batch.ids, batch.pixels[0], strict=True):
            with open(photos[row], "rb") as file:
                assert found.tobytes() == bytes_id(file.read())
            assert np.array_equal(image, small(Image.open(photos[row])))
        assert batch.bad == {}
        assert batch.decode_seconds > 0


def test_bad_images_are_reported_and_the_others_go_on(tmp_path, photos, small):
    (tmp_path / "text.png").write_text("no image")
    inputs = [
        str(tmp_path / "text.png"),
        photos[0],
        str(tmp_path / "gone.png"),
        str(tmp_path / "text.png"),
    ]
    first, second = load_batches(inputs, [0, 1, 2, 3], Decoding([small]), lambda: 2, 0)
    assert first.rows.tolist() == [1]
    assert list(first.bad) == [0]
    assert first.ids.shape == (1, 16)
    assert second.pixels == []
    assert second.rows.tolist() == []
    assert list(second.bad) == [2, 3]
    assert "no such file" in str(second.bad[2])


def test_stopping_early_stops_the_threads(pixels, small, decoded):
    before = threading.active_count()
    batches = load_batches(pixels, np.arange(12), Decoding([small]), lambda: 1, 2)
    next(batches)
    batches.close()
    assert threading.active_count() == before
    assert len(decoded) <= 4


def test_a_float_preprocessing_passes_as_it_is(pixels):
    (batch,) = load_batches(
        pixels,
        [0, 1],
        Decoding([lambda image: np.full((3, 2, 2), image.width, np.float32)]),
        lambda: 2,
        0,
    )
    assert batch.pixels[0].dtype == np.float32
    assert batch.pixels[0].shape == (2, 3, 2, 2)


@pytest.mark.parametrize("name", ["read.png", "unknown.tga"])
def test_one_lazily_opened_image_may_come_many_times(tmp_path, small, pixels, name):
    """Threads that read the pixels of one image at once spoiled each other's decoder."""
    Image.fromarray(pixels[0]).save(tmp_path / name)
    expected = small(Image.fromarray(pixels[0]))
    for _ in range(20):
        with Image.open(tmp_path / name) as image:
            (batch,) = load_batches([image] * 12, np.arange(12), Decoding([small]), lambda: 12, 0)
        assert not batch.bad
        assert all(np.array_equal(made, expected) for made in batch.pixels[0])


def test_a_lazily_opened_image_that_is_cut_short_is_bad(tmp_path, photos, small):
    """Its pixels were read where nobody looked for errors any more."""
    with open(photos[0], "rb") as file:
        (tmp_path / "cut.png").write_bytes(file.read(1000))
    with Image.open(tmp_path / "cut.png") as cut, Image.open(photos[1]) as whole:
        (batch,) = load_batches([cut, whole], [0, 1], Decoding([small]), lambda: 2, 0)
    assert list(batch.bad) == [0]
    assert batch.rows.tolist() == [1]
    with Image.open(tmp_path / "cut.png") as cut:
        ids, bad = image_ids([cut, tmp_path / "cut.png"])
    assert not bad
    assert np.array_equal(ids[0], ids[1])
    assert sorted(image_ids([cut])[1]) == [0]  # it is closed by now


def test_images_by_url_are_read_ahead_and_come_in_order(bucket, photos, small):
    urls = [f"{bucket.url}/{os.path.basename(path)}" for path in photos]
    for path in [*photos[:3], *photos[4:]]:
        shutil.copy(path, bucket.folder)
    both = [
        list(load_batches(inputs, np.arange(12), Decoding([small]), lambda: 5, 0))
        for inputs in (urls, [*photos[:3], "gone.png", *photos[4:]])
    ]
    for there, here in zip(*both, strict=True):
        assert there.rows.tolist() == here.rows.tolist()
        assert np.array_equal(there.ids, here.ids)
        assert np.array_equal(there.pixels[0], here.pixels[0])
    assert both[0][0].bad[3].reason == "no such file"
    assert bucket.calls["cat_file"] == 12
