"""Whoever reads features gets them, whatever became of the parts that held them."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import h5py
import numpy as np
import pytest

from data import ImageError
from extract import ExtractError, FeatureStore, Tap, extract, forward_pass
from extract.forward_pass import Watch
from extract.store import parts

A, B, C = Tap("layer1.0", "avg"), Tap("layer2.0", "grid2"), Tap("layer3.0", "max")
ROWS = np.array([7, 2, 11, 2])


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


@pytest.fixture(autouse=True)
def _small_batches_and_chunks(monkeypatch):
    for name in ("CPU_BATCH", "LARGEST_CHUNK"):
        monkeypatch.setattr(forward_pass, name, 4)
    monkeypatch.setattr(parts, "CHUNK_BYTES", 200)


def run(inputs, backbone, store, taps=(A, B, C), **settings):
    return extract(inputs, taps, backbone, store, numerics="float32", device="cpu", **settings)


def chunks_of(store):
    """(part, tap, byte offset) of every chunk of every tap."""
    found = []
    for path in sorted(store.cache.glob("*/parts/*.h5")):
        with h5py.File(path) as file:
            for name, dataset in file["taps"].items():
                for i in range(dataset.id.get_num_chunks()):
                    found.append((path, name, dataset.id.get_chunk_info(i).byte_offset))
    return found


def flip(path, offset):
    with open(path, "rb+") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 64]))


def alike(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_any_damaged_chunk_of_any_tap_is_mended(photos, backbone, tmp_path):
    kept = FeatureStore(tmp_path / "whole")
    run(photos, backbone, kept)
    n_chunks = len(chunks_of(kept))
    assert n_chunks >= 10
    for i in range(n_chunks):
        store = FeatureStore(tmp_path / f"damaged{i}")
        shutil.copytree(kept.cache, store.cache)
        done = run(photos, backbone, store)
        assert done.computed == 0
        expected = done.read([C, A, B], ROWS)
        path, _, offset = chunks_of(store)[i]
        flip(path, offset)
        alike(done.read([C, A, B], ROWS), expected)
        alike(done.read([B], np.arange(12))[ROWS], expected[:, -done.read([B], [0]).shape[1] :])


def test_several_damaged_parts_are_mended_in_one_read(photos, backbone, store):
    done = [run(photos[at : at + 4], backbone, store) for at in (0, 4, 8)]
    everything = run(photos, backbone, store)
    expected = everything.read([A], np.arange(12))
    for path in {path for path, _, _ in chunks_of(store)}:
        for other, name, offset in chunks_of(store):
            if (other, name) == (path, str(A)):
                flip(path, offset)
    alike(everything.read([A], np.arange(12)), expected)
    assert [one.computed for one in done] == [4, 4, 4]


def test_a_removed_cache_is_filled_again_in_one_pass(photos, backbone, store, forwarded):
    done = run(photos, backbone, store)
    expected = done.read([A, B], ROWS)
    shutil.rmtree(store.cache)
    forwarded.clear()
    alike(done.read([A, B], ROWS), expected)
    assert sum(forwarded) == 12
    done.read([C], np.arange(12))
    assert run(photos, backbone, store).computed == 0
    assert sum(forwarded) == 12


def test_no_rows_have_the_taps_width_without_a_cache_too(photos, backbone, store):
    done = run(photos, backbone, store)
    shutil.rmtree(store.cache)
    assert done.read([A, B], []).shape == (0, 8 + 48)


def test_one_of_several_views_is_read_and_mended(photos, backbone, store):
    done = run(photos, backbone, store, views=["plain+flipped"])
    plain, both = done.read([A], ROWS, "plain"), done.read([A], ROWS)
    assert not np.array_equal(plain, both)
    shutil.rmtree(store.cache)
    alike(done.read([A], ROWS, "plain"), plain)
    shutil.rmtree(store.cache)
    alike(done.read([A], ROWS), both)


def test_the_watch_is_told_of_what_is_computed_again(photos, backbone, store):
    plans = []
    done = run(photos, backbone, store, watch=Watch(on_plan=plans.append))
    shutil.rmtree(store.cache)
    done.read([A], ROWS)
    assert [(plan.compute, plan.kept) for plan in plans] == [(12, 0), (12, 0)]


def test_neither_copies_nor_what_cannot_be_read_are_said_to_be_kept(photos, backbone, store):
    """3 images that were cut short came out as -3 kept already, and copies as kept."""
    for photo in photos[:3]:
        with open(photo, "rb+") as file:
            file.truncate(99)
    plans = []
    run([*photos, *photos[:8]], backbone, store, watch=Watch(on_plan=plans.append))
    assert [(plan.compute, plan.kept) for plan in plans] == [(12, 0)]


def test_threads_that_meet_the_same_damage_compute_it_once(photos, backbone, store, forwarded):
    done = run(photos, backbone, store)
    expected = done.read([A], np.arange(12))
    shutil.rmtree(store.cache)
    forwarded.clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: done.read([A], np.arange(12)), range(8)))
    for rows in found:
        alike(rows, expected)
    assert sum(forwarded) == 12


def test_an_image_that_went_with_its_features_is_one_clear_error(photos, backbone, store):
    done = run(photos, backbone, store)
    shutil.rmtree(store.cache)
    os.unlink(photos[2])
    with pytest.raises(ImageError, match=r"02.png: .*not kept any more, and no such file"):
        done.read([A], ROWS)


def test_an_image_that_is_another_by_now_is_one_clear_error(
    photos, pixels, backbone, store, write_image
):
    done = run(photos, backbone, store)
    shutil.rmtree(store.cache)
    write_image(photos[2], pixels[2][::-1])
    with pytest.raises(ImageError, match=r"02.png: .*not kept any more, and it is another image"):
        done.read([A], ROWS)


def test_another_image_that_went_is_no_error(photos, backbone, store):
    done = run(photos, backbone, store)
    expected = done.read([A], ROWS)
    shutil.rmtree(store.cache)
    os.unlink(photos[3])
    alike(done.read([A], ROWS), expected)


def test_rows_of_an_image_that_was_bad_are_one_clear_error(photos, backbone, store, tmp_path):
    done = run([photos[0], str(tmp_path / "gone.png")], backbone, store)
    with pytest.raises(ImageError, match=r"gone\.png"):
        done.read([A], [0, 1])


def test_images_in_memory_are_mended_too(pixels, backbone, store):
    done = run(pixels, backbone, store)
    expected = done.read([A], ROWS)
    shutil.rmtree(store.cache)
    alike(done.read([A], ROWS), expected)


def test_an_extraction_without_its_images_says_so(photos, backbone, store):
    done = replace(run(photos, backbone, store), request=None)
    with pytest.raises(ExtractError, match="holds no images any more"):
        done.read([A], ROWS)
