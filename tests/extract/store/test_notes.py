"""Notes on pixels: by image id and reading, joined over passes, forgotten where damaged."""

import numpy as np

from data import Reading
from extract.store.notes import keep_notes

IDS = np.arange(64, dtype=np.uint8).reshape(4, 16)


def test_notes_of_passes_are_joined(tmp_path):
    assert keep_notes(tmp_path, Reading(), IDS, {1: ("1 of 2 pages",)}) == {1: ("1 of 2 pages",)}
    later = keep_notes(tmp_path, Reading(), IDS[::-1], {0: ("missing end of file",)})
    assert later == {0: ("missing end of file",), 2: ("1 of 2 pages",)}
    assert keep_notes(tmp_path, Reading(), IDS[:1], {}) == {}


def test_another_reading_has_notes_of_its_own(tmp_path):
    keep_notes(tmp_path, Reading(), IDS, {1: ("1 of 2 pages",)})
    assert keep_notes(tmp_path, Reading(page=1), IDS, {}) == {}


def test_without_a_cache_the_pass_s_own_are_all(tmp_path):
    assert keep_notes(None, Reading(), IDS, {3: ("a",)}) == {3: ("a",)}
    assert keep_notes(None, Reading(), IDS, {}) == {}


def test_a_cache_that_can_not_be_written_and_damaged_notes_are_no_error(tmp_path):
    (tmp_path / "ids").write_text("in the way")
    assert keep_notes(tmp_path / "ids", Reading(), IDS, {0: ("a",)}) == {0: ("a",)}
    folder = tmp_path / "other"
    keep_notes(folder, Reading(), IDS, {0: ("a",)})
    (file,) = folder.iterdir()
    data = bytearray(file.read_bytes())
    data[-6] ^= 1
    file.write_bytes(data)
    assert keep_notes(folder, Reading(), IDS, {}) == {}
