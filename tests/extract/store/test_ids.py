"""Which image it is: by its content, and remembered by file."""

import os
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from data import ImageError, remote
from extract.files import read_remembered, write_remembered
from extract.store import ids as ids_file
from extract.store.ids import IdMemory, bytes_id, image_ids, pixels_id


def test_the_id_of_a_file_is_of_its_bytes_alone(tmp_path, photos):
    moved = tmp_path / "elsewhere" / "renamed.jpeg"
    moved.parent.mkdir()
    os.rename(photos[3], moved)
    ids, bad = image_ids([photos[0], moved, photos[0]])
    assert not bad
    assert ids.dtype == np.uint8
    assert ids.shape == (3, 16)
    assert ids[1].tobytes() == bytes_id(moved.read_bytes())
    assert ids[0].tolist() == ids[2].tolist() != ids[1].tolist()


def test_a_pil_image_and_the_array_of_its_pixels_are_one_image(pixels):
    ids, _ = image_ids(
        [pixels[0], Image.fromarray(pixels[0]), np.asfortranarray(pixels[0]), pixels[1]]
    )
    assert ids[0].tolist() == ids[1].tolist() == ids[2].tolist() != ids[3].tolist()


def test_the_same_bytes_in_another_shape_are_another_image(pixels):
    assert pixels_id(pixels[0]) != pixels_id(pixels[0].reshape(36, 40, 3))
    assert pixels_id(pixels[0]) != bytes_id(pixels[0].tobytes())


def test_what_can_not_be_read_is_told_by_row(tmp_path, photos):
    (tmp_path / "empty.png").touch()
    ids, bad = image_ids(
        [photos[0], tmp_path / "gone.png", 7, tmp_path / "empty.png", photos[1]], tmp_path / "ids"
    )
    assert sorted(bad) == [1, 2, 3]
    assert all(isinstance(error, ImageError) for error in bad.values())
    assert ids[[1, 2, 3]].max() == 0
    assert ids[[0, 4]].any(axis=1).all()


@pytest.fixture
def reads(monkeypatch):
    """Which files were really read."""
    seen, read = [], ids_file.read_blocks

    def counting(path):
        seen.append(os.path.basename(path))
        return read(path)

    monkeypatch.setattr(ids_file, "read_blocks", counting)
    return seen


def settled(monkeypatch):
    """Let the clock run an hour ahead, so that files written just now count as settled."""
    now = time.time
    monkeypatch.setattr(ids_file.time, "time", lambda: now() + 3600)


def test_ids_are_remembered(tmp_path, photos, reads, monkeypatch):
    settled(monkeypatch)
    first, _ = image_ids(photos, tmp_path / "ids")
    assert len(reads) == 12
    again, _ = image_ids(photos[::-1], tmp_path / "ids")
    assert len(reads) == 12
    assert np.array_equal(first, again[::-1])


@pytest.mark.parametrize(("seconds", "n_reads"), [(1.9, 2), (2.1, 1)])
def test_a_file_changed_less_than_two_seconds_ago_is_not_trusted(
    tmp_path, photos, reads, monkeypatch, seconds, n_reads
):
    changed = os.stat(photos[0]).st_ctime  # of just now, whatever its mtime says
    monkeypatch.setattr(ids_file.time, "time", lambda: changed + seconds)
    for _ in range(2):
        image_ids(photos[:1], tmp_path / "ids")
    assert len(reads) == n_reads


def test_a_replaced_file_is_read_again(tmp_path, photos, pixels, reads, monkeypatch, write_image):
    settled(monkeypatch)
    before, _ = image_ids(photos, tmp_path / "ids")
    stat = os.stat(photos[5])
    write_image(tmp_path / "new.png", pixels[6])
    os.replace(tmp_path / "new.png", photos[5])
    os.utime(photos[5], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    reads.clear()
    after, _ = image_ids(photos, tmp_path / "ids")
    assert reads == ["05.png"]
    assert after[5].tolist() == before[6].tolist()


def test_a_link_is_known_by_the_file_behind_it(tmp_path, photos, reads, monkeypatch):
    settled(monkeypatch)
    link = tmp_path / "link.png"
    link.symlink_to(photos[0])
    first, _ = image_ids([link], tmp_path / "ids")
    second, _ = image_ids([photos[0]], tmp_path / "ids")
    assert len(reads) == 1
    link.unlink()
    link.symlink_to(photos[1])
    third, _ = image_ids([link], tmp_path / "ids")
    assert first.tolist() == second.tolist() != third.tolist()


def test_what_two_processes_learn_of_one_folder_is_kept_by_both(
    tmp_path, photos, reads, monkeypatch
):
    settled(monkeypatch)
    one, two = IdMemory(tmp_path / "ids"), IdMemory(tmp_path / "ids")
    one.find(photos[0]), two.find(photos[1])
    one.save(), two.save()
    reads.clear()
    image_ids(photos[:2], tmp_path / "ids")
    assert reads == []


def test_many_may_save_at_once(tmp_path, photos, monkeypatch):
    settled(monkeypatch)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(image_ids(photos, tmp_path / "ids")[0]))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(np.array_equal(ids, found[0]) for ids in found)
    (memory,) = (tmp_path / "ids").iterdir()
    assert len(read_remembered(memory)) == 12


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00\xff", "[" * 300_000])
def test_a_memory_that_can_not_be_read_is_made_anew(tmp_path, photos, text, reads, monkeypatch):
    settled(monkeypatch)
    expected, _ = image_ids(photos, tmp_path / "ids")
    (memory,) = (tmp_path / "ids").iterdir()
    memory.write_text(text)
    for n_reads in (24, 24):
        assert np.array_equal(image_ids(photos, tmp_path / "ids")[0], expected)
        assert len(reads) == n_reads


@pytest.mark.parametrize(
    "row", [3, [1], None, [*range(4), "no hex"], [*range(4), "00"], {}, "text", [[[]]]]
)
def test_a_row_that_is_none_is_found_out_anew(tmp_path, photos, row, monkeypatch):
    settled(monkeypatch)
    expected, _ = image_ids(photos, tmp_path / "ids")
    (memory,) = (tmp_path / "ids").iterdir()
    rows = read_remembered(memory)
    if isinstance(row, list) and len(row) == 5:
        row = [*rows["00.png"][:-1], row[-1]]
    write_remembered(memory, rows | {"00.png": row})
    assert np.array_equal(image_ids(photos, tmp_path / "ids")[0], expected)
    assert read_remembered(memory) == rows


def test_one_bit_of_an_id_makes_all_of_its_folder_forgotten_and_mended(
    tmp_path, photos, reads, monkeypatch
):
    """A flipped id was believed at every later run."""
    settled(monkeypatch)
    expected, _ = image_ids(photos, tmp_path / "ids")
    (memory,) = (tmp_path / "ids").iterdir()
    whole = memory.read_bytes()
    at = whole.index(expected[3].tobytes().hex().encode())
    memory.write_bytes(
        whole[:at] + (b"1" if whole[at : at + 1] == b"0" else b"0") + whole[at + 1 :]
    )
    reads.clear()
    assert np.array_equal(image_ids(photos, tmp_path / "ids")[0], expected)
    assert len(reads) == 12
    assert memory.read_bytes() == whole


def test_ids_of_images_by_url_are_those_of_the_files_and_remembered(
    bucket, tmp_path, photos, monkeypatch
):
    monkeypatch.setattr(remote, "SETTLED_SECONDS", 0.0)
    urls = [f"{bucket.url}/{os.path.basename(path)}" for path in photos]
    for path in photos:
        shutil.copy(path, bucket.folder)
    first, bad = image_ids([*urls, f"{bucket.url}/gone.png"], tmp_path / "ids")
    assert np.array_equal(first[:-1], image_ids(photos)[0])
    assert bad[len(urls)].reason == "no such file"
    bucket.calls.clear()
    assert np.array_equal(image_ids(urls, tmp_path / "ids")[0], first[:-1])
    assert bucket.calls["cat_file"] == 0


def test_an_image_at_a_url_that_was_replaced_is_read_again(bucket, tmp_path, photos, monkeypatch):
    monkeypatch.setattr(remote, "SETTLED_SECONDS", 0.0)
    url = f"{bucket.url}/1.png"
    for path in photos[:2]:
        shutil.copy(path, bucket.folder / "1.png")
        remote.forget()  # as a process that begins
        found, _ = image_ids([url], tmp_path / "ids")
        assert np.array_equal(found, image_ids([path])[0])
    assert bucket.calls["cat_file"] == 2


def test_of_an_image_at_a_url_without_a_version_nothing_is_remembered(bucket, tmp_path, photos):
    shutil.copy(photos[0], bucket.folder / "1.png")  # just now
    for _ in range(2):
        image_ids([f"{bucket.url}/1.png"], tmp_path / "ids")
    assert bucket.calls["cat_file"] == 2
