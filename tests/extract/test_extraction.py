"""Only what is missing is computed, whatever happens to images, settings and the process."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from extract import (
    ExtractError,
    FeatureStore,
    Interrupted,
    MemoryStore,
    Preprocessing,
    Tap,
    extract,
    forward_pass,
    load_backbone,
    read_features,
    recipe_of,
)
from extract import engines as engines_file
from extract import extraction as extraction_file
from extract import loader as loader_file
from extract.engines import TorchEngine
from extract.errors import StoreError
from extract.files import _host
from extract.forward_pass import Watch
from extract.store import part_writer, upkeep
from extract.store.feature_store import list_parts

A, B, C = Tap("layer1.0", "avg"), Tap("layer2.0", "grid2"), Tap("layer3.0", "max")


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    for name in ("CPU_BATCH", "LARGEST_CHUNK"):
        monkeypatch.setattr(forward_pass, name, 4)


def run(inputs, taps, backbone, store, **settings):
    return extract(
        inputs, taps, backbone, store, **{"numerics": "float32", "device": "cpu"} | settings
    )


def rows(done, taps, store):
    return store.read(done.recipe, taps, done.ids[done.good])


def test_the_second_time_nothing_is_computed(photos, backbone, store, forwarded):
    first = run(photos, [A, B], backbone, store)
    assert (first.computed, forwarded) == (12, [4, 4, 4])
    second = run(photos[::-1], [B], backbone, FeatureStore(store.cache))
    assert (second.computed, len(forwarded)) == (0, 3)
    assert np.array_equal(rows(first, [B], store), rows(second, [B], store)[::-1])
    assert second.engine is None
    assert (second.facts().images, second.facts().computed) == (12, 0)


def test_a_moved_and_renamed_folder_computes_nothing(tmp_path, photos, backbone, store, forwarded):
    run(photos, [A], backbone, store)
    forwarded.clear()
    shutil.move(tmp_path / "photos", tmp_path / "elsewhere")
    moved = []
    for i, path in enumerate(sorted((tmp_path / "elsewhere").iterdir())):
        moved.append(path.rename(path.with_name(f"renamed {99 - i}.PNG")))
    assert run(moved, [A], backbone, store).computed == 0
    assert forwarded == []


def test_new_images_alone_are_computed(tmp_path, photos, backbone, store, forwarded, write_image):
    run(photos, [A], backbone, store)
    forwarded.clear()
    new = np.random.default_rng(9).integers(0, 256, (10, 20, 20, 3), np.uint8)
    more = [write_image(tmp_path / f"new{i}.png", image) for i, image in enumerate(new)]
    done = run([*more[:5], *photos, *more[5:]], [A], backbone, store)
    assert done.computed == sum(forwarded) == 10
    assert done.facts().images - done.facts().computed == 12


@pytest.mark.parametrize("change", ["weights", "size", "crop", "numerics"])
def test_what_decides_a_value_computes_all(
    photos, backbone, store, forwarded, change, tiny_net, monkeypatch
):
    run(photos, [A], backbone, store)
    forwarded.clear()
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: True)
    other = {
        "weights": lambda: load_backbone(tiny_net(1), preprocessing=Preprocessing(32, 1.0)),
        "size": lambda: load_backbone(tiny_net(), preprocessing=Preprocessing(48, 1.0)),
        "crop": lambda: load_backbone(tiny_net(), preprocessing=Preprocessing(32, 0.5)),
        "numerics": lambda: backbone,
    }[change]()
    run(photos, [A], other, store, numerics="bfloat16-torch" if change == "numerics" else "float32")
    assert sum(forwarded) == 12
    assert run(photos, [A], backbone, store).computed == 0


def taps_in(store):
    return sorted(sorted(part.taps) for part in list_parts(next(store.cache.glob("*/parts"))))


def test_a_new_layer_computes_that_tap_alone(photos, backbone, store, forwarded):
    run(photos, [A, B], backbone, store)
    done = run(photos, [A, B, C], backbone, store)
    assert done.computed == 12
    assert taps_in(store) == [[str(A), str(B)], [str(C)]]
    assert forwarded == [4] * 6


def test_each_image_gets_the_taps_it_lacks(photos, backbone, store):
    run(photos[:4], [A], backbone, store)
    run(photos[2:6], [B], backbone, store)
    done = run(photos, [A, B], backbone, store)
    assert done.computed == 10
    assert taps_in(store) == [[str(A)], [str(A)], [str(A), str(B)], [str(B)], [str(B)]]
    fresh = MemoryStore()
    expected = rows(run(photos, [A, B], backbone, fresh), [A, B], fresh)
    np.testing.assert_allclose(rows(done, [A, B], store), expected, rtol=1e-5, atol=1e-6)


def test_duplicates_are_computed_once(tmp_path, photos, backbone, store, forwarded):
    copy = shutil.copy(photos[1], tmp_path / "copy.png")
    done = run([photos[1], photos[0], copy, photos[1], photos[1]], [A], backbone, store)
    assert done.computed == sum(forwarded) == 2
    found = rows(done, [A], store)
    assert found.shape == (5, 8)
    assert np.array_equal(found[[0, 0, 0]], found[[2, 3, 4]])


def test_bad_images_are_collected(tmp_path, photos, backbone, store):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    inputs = [
        photos[0],
        tmp_path / "text.png",
        tmp_path / "gone.png",
        photos[1],
        tmp_path / "empty.png",
    ]
    done = run(inputs, [A], backbone, store)
    assert sorted(done.bad) == [1, 2, 4]
    assert done.good.tolist() == [0, 3]
    assert rows(done, [A], store).shape == (2, 8)
    assert done.facts().images == 2
    assert done.ids[[1, 2, 4]].max() == 0


def test_nothing_but_bad_images(tmp_path, backbone, store):
    done = run([tmp_path / "gone.png"], [A], backbone, store)
    assert (done.computed, len(done.good), sorted(done.bad)) == (0, 0, [0])


@pytest.fixture
def change_before_decoding(monkeypatch):
    """change_before_decoding(action) runs it between listing the files and decoding them."""

    def arrange(action):
        load = forward_pass.load_batches
        pending = [action]

        def changed(*args):
            if pending:
                pending.pop()()
            return load(*args)

        monkeypatch.setattr(forward_pass, "load_batches", changed)

    return arrange


def test_a_file_changed_before_it_was_decoded_has_its_new_id(
    photos, pixels, backbone, store, change_before_decoding, write_image
):
    expected = MemoryStore()
    right = rows(run(pixels[[11, 1]], [A], backbone, expected), [A], expected)
    change_before_decoding(lambda: write_image(photos[0], pixels[11]))
    done = run(photos[:2], [A], backbone, store)
    np.testing.assert_allclose(rows(done, [A], store), right, rtol=1e-5, atol=1e-6)
    assert run(photos[:2], [A], backbone, store).computed == 0


def test_a_copy_of_a_file_that_changed_before_it_was_decoded(
    tmp_path, photos, pixels, backbone, store, change_before_decoding, write_image
):
    """The copy kept the old id, of which no row was ever computed."""
    copy = shutil.copy(photos[0], tmp_path / "copy.png")
    change_before_decoding(lambda: write_image(photos[0], pixels[11]))
    done = run([photos[0], photos[1], copy], [A], backbone, store)
    assert done.computed == 3
    assert rows(done, [A], store).shape == (3, 8)


def test_a_file_that_changed_while_one_tap_was_computed_gets_the_other_too(
    photos, pixels, backbone, store, change_before_decoding, write_image
):
    run(photos, [A], backbone, store)
    new = np.random.default_rng(5).integers(0, 256, (20, 20, 3), np.uint8)
    change_before_decoding(lambda: write_image(photos[0], new))
    done = run(photos, [A, B], backbone, store)
    assert rows(done, [A, B], store).shape == (12, 8 + 48)


def test_a_file_that_vanished_before_it_was_decoded_is_bad(
    photos, backbone, store, change_before_decoding
):
    change_before_decoding(lambda: os.unlink(photos[0]))
    done = run(photos, [A], backbone, store)
    assert sorted(done.bad) == [0]
    assert rows(done, [A], store).shape == (11, 8)


def held(store, backbone, numerics, photos, taps=(A,)):
    return (
        ~store.missing(
            recipe_of(backbone, numerics), list(taps), run(photos, [], backbone, store).ids
        )
    ).sum()


@pytest.mark.parametrize("kept", ["float32", "bfloat16-torch"])
@pytest.mark.parametrize("here", [True, False])
def test_auto_takes_what_the_store_holds(photos, backbone, store, monkeypatch, kept, here):
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: True)
    run(photos, [A], backbone, store, numerics=kept)
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: here)
    done = run(photos, [A], backbone, store, numerics="auto")
    assert (done.recipe.numerics, done.computed) == (kept, 0)


def test_auto_goes_on_with_what_the_store_holds_most(photos, backbone, store, monkeypatch):
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: True)
    run(photos[:8], [A], backbone, store, numerics="float32")
    run(photos[:3], [A], backbone, store, numerics="bfloat16-torch")
    done = run(photos, [A], backbone, store, numerics="auto")
    assert (done.recipe.numerics, done.computed) == ("float32", 4)


def test_auto_never_takes_numerics_that_this_machine_lacks(photos, backbone, store, monkeypatch):
    """A store begun on another machine made `auto` fail with the advice to choose auto."""
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: True)
    run(photos[:8], [A], backbone, store, numerics="bfloat16-torch")
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: False)
    done = run(photos, [A], backbone, store, numerics="auto")
    assert (done.recipe.numerics, done.computed) == ("float32", 12)


def test_auto_is_the_fastest_where_nothing_is_held(photos, backbone, store, monkeypatch):
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: True)
    assert run(photos, [A], backbone, store, numerics="auto").recipe.numerics == "bfloat16-torch"
    assert run([], [A], backbone, store, numerics="auto").computed == 0


def test_an_interrupted_pass_keeps_what_it_says(photos, backbone, store):
    def stop(done):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="8 of 12 images") as caught:
        run(photos, [A, B], backbone, store, watch=Watch(on_progress=stop))
    assert (caught.value.kept, caught.value.wanted) == (8, 12)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert run(photos[:8], [A, B], backbone, store).computed == 0
    assert run(photos, [A, B], backbone, store).computed == 4


def test_an_error_in_the_pass_keeps_what_was_done(photos, backbone, store):
    def stop(done):
        if done == 8:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(photos, [A], backbone, store, watch=Watch(on_progress=stop))
    assert run(photos, [A], backbone, store).computed == 4


KILLED = """
import sys, time
from extract import FeatureStore, Tap, extract, forward_pass, load_backbone
from extract.forward_pass import Watch
from extract.store import part_writer
part_writer.PART_SECONDS, forward_pass.CPU_BATCH, forward_pass.LARGEST_CHUNK = 0.0, 2, 2
backbone = load_backbone("mobilenet_v3_small", "random", size=32, cache=sys.argv[1])
def wait(done):
    print(done, flush=True)
    if done == 8:
        sys.stdin.read()
extract(sys.argv[2:], [Tap("features.1", "avg")], backbone, FeatureStore(sys.argv[1]),
        numerics="float32", device="cpu", watch=Watch(on_progress=wait))
"""


def test_a_killed_pass_keeps_its_finished_parts(photos, store):
    command = [sys.executable, "-c", KILLED, store.cache, *photos]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        while process.stdout.readline().strip() != "8":
            assert process.poll() is None
        limit = time.monotonic() + 20
        while len(list(store.cache.glob("*/parts/[0-9]*.h5"))) < 4 and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    backbone = load_backbone("mobilenet_v3_small", "random", size=32, cache=store.cache)
    assert run(photos, [Tap("features.1", "avg")], backbone, store).computed == 4


KEPT = """
import sys
from extract import FeatureStore, Tap, extract, load_backbone
store = FeatureStore(sys.argv[1])
backbone = load_backbone("mobilenet_v3_small", "random", size=32, cache=store.cache)
done = extract(sys.argv[2:], [Tap("features.1", "avg")], backbone, store)
print(done.computed, store.read(done.recipe, [Tap("features.1", "avg")], done.ids).shape[0])
print([name for name in ("torch", "torchvision") if name in sys.modules])
"""


def test_where_nothing_is_missing_torch_is_not_imported(photos, store):
    backbone = load_backbone("mobilenet_v3_small", "random", size=32, cache=store.cache)
    run(photos, [Tap("features.1", "avg")], backbone, store)
    command = [sys.executable, "-c", KEPT, store.cache, *photos]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0 12", "[]"]


def test_a_full_disk_is_refused_before_the_pass(photos, backbone, store, monkeypatch, forwarded):
    usage = shutil.disk_usage(photos[0])
    monkeypatch.setattr(forward_pass.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(
        StoreError, match=r"need 0.0 MB .*reserve of 67 MB, .*cache has 0.0 MB free"
    ):
        run(photos, [A], backbone, store)
    assert forwarded == []


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_cache_that_can_not_be_written_is_one_clear_line(tmp_path, photos, backbone, below):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExtractError, match=r"can't (write to|read) the cache .*file") as caught:
        run(photos, [A], backbone, FeatureStore(tmp_path / "file" / below))
    assert "\n" not in str(caught.value)


def test_a_part_that_can_not_be_written_ends_the_pass_with_a_clear_line(
    photos, backbone, store, monkeypatch
):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(part_writer, "write_part", full)
    monkeypatch.setattr(part_writer, "PART_SECONDS", 0.0)
    with pytest.raises(StoreError, match="No space left on device; what it holds stays"):
        run(photos, [A], backbone, store)


def test_the_plan_and_the_progress_are_told(tmp_path, photos, backbone, store):
    run(photos[:3], [A], backbone, store)
    plans, progress = [], []
    run(
        [*photos, tmp_path / "gone.png"],
        [A],
        backbone,
        store,
        watch=Watch(plans.append, progress.append),
    )
    ((plan,),) = [plans]
    assert (plan.compute, plan.kept, plan.n_bytes) == (9, 3, 9 * 8 * 4)
    assert plan.seconds > 0
    assert progress == [4, 8, 9]


def test_a_single_batch_with_unreadable_images_has_a_plan_too(tmp_path, photos, backbone, store):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing behind it")
    plans, progress = [], []
    inputs = [*photos[:2], tmp_path / "broken.png"]
    run(inputs, [A], backbone, store, watch=Watch(plans.append, progress.append))
    assert [plan.compute for plan in plans] == [3]
    assert progress == [3]


def test_the_facts_add_up(photos, backbone, store):
    done = run(photos, [A], backbone, store).facts()
    assert (done.images, done.computed, done.engine) == (12, 12, "torch-eager")
    assert 0 < done.times["forward"] < done.seconds
    assert done.bottleneck in ("decode", "forward")
    again = run(photos, [A], backbone, store).facts()
    assert (again.computed, again.bottleneck, again.engine) == (0, None, None)


def test_examining_the_network_counts_and_ids_are_found_once(photos, backbone, store, monkeypatch):
    card, found, image_ids = backbone.card, [], extraction_file.image_ids

    class Slow:
        def __getattr__(self, name):
            return getattr(card, name)

        def check(self, tap):
            time.sleep(0.2)
            return card.check(tap)

    monkeypatch.setattr(type(backbone), "card", Slow())
    monkeypatch.setattr(
        extraction_file, "image_ids", lambda *args: found.append(1) or image_ids(*args)
    )
    done = run(photos, [A], backbone, store, views=["plain+flipped"])
    assert done.times["start"] >= 0.2
    assert done.seconds >= done.times["start"]
    assert len(found) == 1


def test_rows_of_a_pass_are_read_a_slice_at_a_time(photos, backbone, store):
    done = run([*photos[:3], "gone.jpg", *photos[3:]], [A], backbone, store)
    rows, whole = done.rows([A]), done.read([A], done.good)
    assert (rows.shape, rows.dtype, len(rows)) == (whole.shape, whole.dtype, len(photos))
    for some in (slice(2), slice(2, 5), slice(None), slice(3, 3), slice(1, None, 2)):
        assert np.array_equal(rows[some], whole[some])


def test_the_stages_add_up_to_the_whole(photos, backbone, store):
    done = run(photos, [A], backbone, store)
    stages = sum(done.times[name] for name in ("ids", "start", "wait", "forward", "write_wait"))
    assert 0.5 * done.seconds < stages <= done.seconds + 0.01


def test_rows_are_fetched_when_the_next_batch_is_on_its_way(photos, backbone, store, monkeypatch):
    """As on a GPU: each batch is handed over before the rows of the one before are waited for."""
    order, start = [], TorchEngine.start

    def noted(self, batch):
        number, rows = len(order), start(self, batch)
        order.append(("start", number))
        return lambda: (order.append(("rows", number)), rows())[1]

    expected = rows(
        run(photos, [A], backbone, FeatureStore(store.cache / "cpu")),
        [A],
        FeatureStore(store.cache / "cpu"),
    )
    monkeypatch.setattr(forward_pass, "choose_device", lambda device: "meta")
    monkeypatch.setattr(
        forward_pass, "start_engine", lambda *args: TorchEngine(backbone, "cpu", "float32", [A])
    )
    monkeypatch.setattr(TorchEngine, "start", noted)
    done = run(photos, [A], backbone, store)
    assert [what for what, _ in order] == ["start", "start", "rows", "start", "rows", "rows"]
    assert np.array_equal(rows(done, [A], store), expected)


@pytest.mark.parametrize(("rate", "expected"), [(1, 32), (100, 64), (1000, 256), (1e6, 256)])
def test_half_a_second_of_images_is_decoded_at_a_time(rate, expected, monkeypatch):
    monkeypatch.undo()
    assert forward_pass._chunk_size(rate) == expected


def test_small_parts_are_joined_when_the_pass_ends(photos, backbone, store, monkeypatch):
    monkeypatch.setattr(part_writer, "PART_SECONDS", 0.0)
    monkeypatch.setattr(upkeep, "SMALL_PARTS", 1)
    done = run(photos, [A], backbone, store)
    assert len(list(store.cache.glob("*/parts/*.h5"))) == 1
    assert len(rows(done, [A], store)) == 12


def test_what_a_killed_pass_left_goes_where_nothing_is_missing(photos, backbone, store):
    run(photos, [A], backbone, store, thumbnails=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for parts in store.cache.glob("*/parts"):
        (parts / f".tmp-{_host()}-{dead.pid}-12345678").write_bytes(b"half")
    assert run(photos, [A], backbone, store, thumbnails=True).computed == 0
    assert [file.name for file in store.cache.glob("*/parts/.tmp-*")] == []


def test_a_tap_that_can_not_be_taken_is_refused_before_anything_is_read(
    photos, backbone, store, monkeypatch
):
    monkeypatch.setattr(extraction_file, "image_ids", None)
    with pytest.raises(ExtractError, match="unknown layer"):
        run(photos, [Tap("gone", "avg")], backbone, store)


def test_paths_pil_images_and_arrays_give_the_same_rows(photos, pixels, backbone, store, forwarded):
    from_paths = rows(run(photos, [A], backbone, store), [A], store)
    images = [Image.fromarray(image) for image in pixels]
    from_images = rows(run(images, [A], backbone, store), [A], store)
    assert np.array_equal(from_paths, from_images)
    assert sum(forwarded) == 24
    assert run(pixels, [A], backbone, store).computed == 0


def test_a_preprocessing_that_gives_many_sizes_is_one_clear_line(photos, tiny_net, store):
    class Own:
        transform_id, n = "own", 0

        def __call__(self, image):
            Own.n += 1
            return np.zeros((3, 32, 32 + Own.n % 3), np.float32)

    with pytest.raises(ExtractError, match="preprocessing gave images of several sizes"):
        run(photos, [A], load_backbone(tiny_net(), preprocessing=Own()), store)


def test_two_threads_of_one_process_may_extract_at_once(photos, backbone, store):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(run, photos, [tap], backbone, FeatureStore(store.cache)) for tap in (A, B)
        ]
    assert [job.result().computed for job in jobs] == [12, 12]
    assert run(photos, [A, B], backbone, store).computed == 0


def test_a_slow_decode_does_not_fill_the_memory(photos, backbone, store, monkeypatch):
    """On a CPU a batch is decoded when the network is ready for it."""
    decoded, forwarded_so_far = [], []
    decode = loader_file._decode_one
    monkeypatch.setattr(
        loader_file, "_decode_one", lambda *args: (decoded.append(1), decode(*args))[1]
    )
    run(
        photos,
        [A],
        backbone,
        store,
        watch=Watch(on_progress=lambda done: forwarded_so_far.append(len(decoded) - done)),
    )
    assert forwarded_so_far == [0, 0, 0]


def test_flips_compute_the_flipped_view_alone_and_are_averaged_on_reading(
    photos, pixels, backbone, store, forwarded
):
    plain = run(photos, [A, B], backbone, store)
    forwarded.clear()
    both = run(photos, [A, B], backbone, store, views=["plain+flipped"])
    assert (both.computed, sum(forwarded), both.recipe.view) == (12, 12, "plain+flipped")
    assert sorted(
        folder.name for folder in store.cache.iterdir() if folder.name != "ids"
    ) == sorted(replace(plain.recipe, view=view).id for view in ("plain", "flipped"))
    mirrored = run(list(pixels[:, :, ::-1]), [A, B], backbone, store)
    expected = (rows(plain, [A, B], store) + rows(mirrored, [A, B], store)) / 2
    np.testing.assert_allclose(
        read_features(store, both.recipe, [A, B], both.ids), expected, rtol=1e-4, atol=1e-5
    )
    forwarded.clear()
    again = run(photos, [B], backbone, store, views=["plain+flipped"])
    assert again.computed == len(forwarded) == 0


def test_one_decode_serves_every_view(photos, backbone, store, forwarded, monkeypatch):
    decoded = []
    decode = loader_file.decode_noted

    def noted(*args, **more):
        decoded.append(args)
        return decode(*args, **more)

    monkeypatch.setattr(loader_file, "decode_noted", noted)
    views = ["plain", "plain+flipped", "whole"]
    done = run(photos, [A, B], backbone, store, views=views)
    assert (done.computed, len(decoded), sum(forwarded)) == (12, 12, 36)
    assert done.recipe.view == "plain"
    for view in views:
        alone = run(photos, [A, B], backbone, FeatureStore(store.cache / view), views=[view])
        for tap in (A, B):
            np.testing.assert_allclose(
                done.read([tap], np.arange(12), view),
                alone.read([tap], np.arange(12)),
                rtol=1e-5,
                atol=1e-6,
            )


def test_views_that_lack_different_taps_are_completed(photos, backbone, store, forwarded):
    run(photos, [A], backbone, store)
    run(photos[:4], [B], backbone, store, views=["whole"])
    forwarded.clear()
    done = run(photos, [A, B], backbone, store, views=["plain", "whole"])
    assert (done.computed, sum(forwarded)) == (12, 24)
    for view in ("plain", "whole"):
        assert not store.missing(replace(done.recipe, view=view), [A, B], done.ids).any()


def test_flips_that_were_cut_short_go_on_from_there(photos, backbone, store, forwarded):
    run(photos, [A], backbone, store)
    run(photos[:5], [A], backbone, store, views=["plain+flipped"])
    forwarded.clear()
    done = run(photos, [A], backbone, store, views=["plain+flipped"])
    assert (done.computed, sum(forwarded)) == (7, 7)
    assert read_features(store, done.recipe, [A], done.ids).shape == (12, 8)


def test_an_image_that_is_bad_in_either_view_is_bad(photos, backbone, store, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"none")
    done = run([*photos, tmp_path / "broken.png"], [A], backbone, store, views=["plain+flipped"])
    assert list(done.bad) == [12]
    assert done.good.tolist() == list(range(12))


def test_an_unknown_view_is_refused(photos, backbone, store):
    with pytest.raises(ExtractError, match="unknown view 'turned'"):
        run(photos, [A], backbone, store, views=["plain+turned"])
