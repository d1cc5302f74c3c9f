"""What a worker does with a block, in this process: no cluster is needed for it."""

import contextlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data import Reading
from extract import ExtractError, FeatureStore, Tap, extract, recipe_of
from extract.preprocessing import seen_as
from extract.sharding import blocks
from extract.sharding.blocks import Asked, Network, decode_block
from extract.store.ids import file_id, file_key
from extract.thumbnails import lacking_thumbnails

A, B = Tap("layer1.0", "avg"), Tap("layer3.0", "grid2")


@pytest.fixture(autouse=True)
def _whole_machine(monkeypatch):
    """A worker's share is not this process's, nor is what a running network sets."""
    monkeypatch.setattr("extract.cores._share", [])
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    assert torch.is_grad_enabled()


@pytest.fixture
def asked(tmp_path, backbone):
    """A pass of two views over a store whose folder the driver has made."""
    recipe, views = recipe_of(backbone, "float32"), ["plain", "flipped"]
    store = FeatureStore(tmp_path / "cache")
    for view in views:
        store.prepare(replace(recipe, view=view))
    return Asked(
        cache=str(store.cache),
        recipe=recipe,
        views=views,
        taps=[A, B],
        seen=[seen_as(view)(backbone.preprocessing) for view in views],
        reading=Reading(),
        device="cpu",
        thumbnails=True,
        images=12,
        cores=1,
    )


def work_through(asked, backbone, paths):
    return compute(asked, backbone, decode_block(asked, list(enumerate(paths))))


def compute(asked, backbone, decoded):
    with contextlib.closing(Network(asked, backbone)) as network:
        return network.compute(decoded)


def test_a_block_is_kept_as_the_plain_pass_keeps_it(asked, backbone, photos, tmp_path):
    done = work_through(asked, backbone, photos)
    plain = FeatureStore(tmp_path / "plain")
    expected = extract(
        photos, [A, B], backbone, plain, numerics="float32", device="cpu", views=asked.views
    )
    assert [done.ids[row] for row in range(12)] == [own.tobytes() for own in expected.ids]
    assert done.computed == list(range(12))
    assert (done.engine, done.device, done.bad) == ("torch-eager", "cpu", {})
    store = FeatureStore(asked.cache)
    for view in asked.views:
        own = store.read(asked.of(view), [A, B], expected.ids)
        assert np.array_equal(own, plain.read(asked.of(view), [A, B], expected.ids))
    assert not lacking_thumbnails(store, expected.ids, asked.reading).any()
    (part,) = (store.cache / asked.recipe.id / "parts").iterdir()
    assert part.suffix == ".h5"


def test_what_is_kept_is_not_decoded_again_and_other_taps_are_added(asked, backbone, photos):
    work_through(replace(asked, taps=[A]), backbone, photos[:8])
    decoded = decode_block(asked, list(enumerate(photos)))
    ((batch, lacks),) = decoded.batches
    assert len(batch.rows) == 12
    assert lacks[:8].tolist() == [[[False, True]] * 2] * 8
    assert lacks[8:].all()
    assert len(compute(asked, backbone, decoded).computed) == 12
    again = decode_block(asked, list(enumerate(photos)))
    assert sum(len(batch.rows) for batch, _ in again.batches) == 0
    assert sorted(again.done.ids) == list(range(12))


def test_each_file_is_read_once(asked, photos, monkeypatch):
    read, opened = blocks.read_bytes, []
    monkeypatch.setattr(blocks, "read_bytes", lambda path: opened.append(path) or read(path))
    monkeypatch.setattr("extract.loader.read_bytes", None)
    decode_block(asked, list(enumerate(photos)))
    assert opened == photos


def test_files_larger_than_memory_allows_are_read_in_turn(asked, backbone, photos, monkeypatch):
    monkeypatch.setattr(blocks, "READ_BYTES", 2 * Path(photos[0]).stat().st_size)
    decoded = decode_block(asked, list(enumerate(photos)))
    assert [len(batch.rows) for batch, _ in decoded.batches] == [2] * 6
    assert compute(asked, backbone, decoded).computed == list(range(12))


def test_what_cannot_be_read_is_said_in_the_words_of_the_plain_pass(asked, backbone, photos):
    broken = Path(photos[3])
    broken.write_bytes(broken.read_bytes()[:60])
    copy = broken.with_name("copy.png")
    copy.write_bytes(broken.read_bytes())
    paths = [*photos[:5], str(copy), "gone.png"]
    done = work_through(asked, backbone, paths)
    store = FeatureStore(broken.parent / "cache")
    plain = extract(paths, [A], backbone, store, numerics="float32", device="cpu")
    assert done.bad == {row: error.reason for row, error in plain.bad.items()}
    assert sorted(done.bad) == [3, 5, 6]
    assert done.computed == [0, 1, 2, 4]


def test_of_copies_one_is_computed(asked, backbone, photos):
    done = work_through(asked, backbone, [photos[0], photos[1], photos[0]])
    assert (done.computed, done.ids[0]) == ([0, 1], done.ids[2])


def test_ids_are_remembered_of_settled_files_alone(asked, photos, monkeypatch):
    assert decode_block(asked, [(0, photos[0])]).done.keys == {}  # written within these 2 s
    monkeypatch.setattr("extract.store.ids.SETTLED_SECONDS", -60.0)
    done = decode_block(asked, [(0, photos[0])]).done
    assert done.keys == {0: file_key(photos[0])}
    assert done.ids == {0: file_id(photos[0])}


def test_a_worker_that_does_not_see_the_store_says_so(asked, photos, tmp_path):
    elsewhere = replace(asked, cache=str(tmp_path / "elsewhere"))
    with pytest.raises(
        ExtractError, match=r"does not see the cache .*elsewhere: expected a folder"
    ):
        decode_block(elsewhere, [(0, photos[0])])
    assert not (tmp_path / "elsewhere").exists()


def test_images_and_the_store_may_be_at_urls(asked, backbone, photos, bucket):
    for path in photos:
        (bucket.folder / Path(path).name).write_bytes(Path(path).read_bytes())
    urls = [f"{bucket.url}/{Path(path).name}" for path in photos]
    there = replace(asked, cache=f"{bucket.url}/cache", thumbnails=False)
    done = work_through(there, backbone, [*urls, f"{bucket.url}/gone.png"])
    assert (done.computed, list(done.bad), done.keys) == (list(range(12)), [12], {})
    assert done.ids[3] == file_id(photos[3])
    parts = bucket.folder / "cache" / asked.recipe.id / "parts"
    assert len(list(parts.iterdir())) == 1


def test_what_is_told_holds_no_features(asked, backbone, photos):
    assert len(pickle.dumps(work_through(asked, backbone, photos))) < 200 * len(photos)
