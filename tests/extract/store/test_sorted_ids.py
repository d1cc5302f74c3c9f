"""Ids in a file are found as in memory, whichever they are; a byte that has changed is noticed."""

import numpy as np
import pytest

from extract.store import sorted_ids
from extract.store.parts import as_keys
from extract.store.rows_on_disk import WrongBytes
from extract.store.sorted_ids import (
    Entry,
    Held,
    SortedRun,
    read_sorted_ids,
    sorted_run,
    write_sorted_ids,
)

RNG = np.random.default_rng(0)


def drawn(n):
    """As ids of images are."""
    return RNG.integers(0, 256, (n, 16), np.uint8)


def counted(n):
    """Ids that differ in their last bytes alone."""
    ids = np.zeros((n, 16), np.uint8)
    ids[:, 8:] = np.arange(n, dtype=">u8").view(np.uint8).reshape(n, 8)
    return ids


def few_heads(n):
    """Ids of which many begin alike, over the border of a block."""
    ids = drawn(n)
    ids[:, :7] = 0
    ids[:, 7] = np.arange(n) // 400
    return ids


KINDS = [drawn, counted, few_heads]


def entries(rows):
    return tuple(Entry(f"{i}.h5", 100, n, "digest") for i, n in enumerate(rows))


def write(path, keys, rows=None):
    """One file of ids of parts of so many rows."""
    rows = rows or [len(keys)]
    run = SortedRun(*sorted_run(keys), rows)
    held = Held("recipe", ("tap",), entries(rows), 0)
    write_sorted_ids(path, held, [run], [run.starts[:-1]])
    return read_sorted_ids(path)


def find(file, keys):
    return file.find(keys, file.starts[:-1])


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(sorted_ids, "AT_ONCE", 3)
    monkeypatch.setattr(sorted_ids, "STRETCH", 2)


@pytest.mark.parametrize("made", KINDS)
@pytest.mark.parametrize("n", [1, 255, 256, 257, 3000])
def test_each_id_has_its_place_and_others_have_none(tmp_path, made, n):
    ids = made(n + 50)
    keys, others = as_keys(ids[:n]), as_keys(ids[n:])
    file = write(tmp_path / "one.index", keys)
    order = RNG.permutation(n)
    assert np.array_equal(find(file, keys[order]), order)
    assert (find(file, others) == -1).all()
    assert np.array_equal(find(file, np.concatenate([others, keys[:1]])), [*[-1] * 50, 0])
    assert find(file, keys[:0]).shape == (0,)
    assert file.held.rows == n


@pytest.mark.parametrize("made", KINDS)
def test_an_id_that_comes_several_times_has_one_of_its_places(tmp_path, made):
    keys = as_keys(made(601))
    several = np.concatenate([keys[:600], keys[599::-1], keys[:600]])
    file = write(tmp_path / "one.index", several)
    assert np.array_equal(several[find(file, keys[:600])], keys[:600])
    assert find(file, keys[600:]).tolist() == [-1]


@pytest.mark.parametrize("made", KINDS)
def test_parts_that_are_gone_do_not_hide_others_with_the_same_ids(tmp_path, made):
    """Five parts have the same ids, over the borders of blocks; those at -1 are gone."""
    keys = as_keys(made(300))
    file = write(tmp_path / "one.index", np.tile(keys, 5), [300] * 5)
    for there in range(5):
        to = np.where(np.arange(5) == there, 1000, -1)
        assert np.array_equal(file.find(keys, to), 1000 + np.arange(300))
    both = file.find(keys, np.array([-1, 0, -1, 1000, -1]))
    assert np.array_equal(both % 1000, np.arange(300))
    assert (file.find(keys, np.full(5, -1)) == -1).all()


@pytest.mark.parametrize("made", KINDS)
def test_files_are_merged_without_the_parts_that_are_gone(tmp_path, made):
    """Three sources of unlike sizes; the second of the first one's parts is there no more."""
    keys = as_keys(made(2000))[RNG.permutation(2000)]
    first = write(tmp_path / "1.index", keys[:1200], [500, 300, 400])
    second = write(tmp_path / "2.index", keys[1200:1900], [700])
    run = SortedRun(*sorted_run(keys[1900:]), [100])
    held = Held("recipe", ("tap",), entries([500, 400, 700, 100]), 0)
    starts = [np.array([0, -1, 500]), np.array([900]), np.array([1600])]
    write_sorted_ids(tmp_path / "3.index", held, [first, second, run], starts)
    merged = read_sorted_ids(tmp_path / "3.index")
    expected = np.concatenate(
        [np.arange(500), np.full(300, -1), 500 + np.arange(400), 900 + np.arange(800)]
    )
    assert np.array_equal(find(merged, keys), expected)
    assert merged.held.rows == 1700
    assert merged.starts.tolist() == [0, 500, 900, 1600, 1700]
    merged.check()


def test_what_is_wanted_is_read_and_no_more(tmp_path, monkeypatch):
    keys = as_keys(drawn(100 * 256))
    file = write(tmp_path / "one.index", keys)
    checked, crc32 = [], sorted_ids.zlib.crc32
    monkeypatch.setattr(sorted_ids.zlib, "crc32", lambda data: checked.append(1) or crc32(data))
    assert np.array_equal(find(file, keys[:4]), np.arange(4))
    assert len(checked) <= 4  # of a hundred blocks those that may have them


@pytest.mark.parametrize("at", ["block", "fences", "text", "end"])
def test_a_bit_that_has_changed_is_noticed(tmp_path, at):
    keys = as_keys(drawn(700))
    path = write(tmp_path / "one.index", keys).path
    data = bytearray(path.read_bytes())
    fences = 3 * sorted_ids.BLOCK.itemsize
    places = {"block": 300 * 20, "fences": fences + 5, "text": len(data) - 70, "end": -3}
    data[places[at]] ^= 4
    path.write_bytes(data)
    with pytest.raises(WrongBytes):
        find(read_sorted_ids(path), keys)
    with pytest.raises(WrongBytes):
        read_sorted_ids(path).check()


@pytest.mark.parametrize("left", [0, 10, 6144, -1])
def test_a_file_cut_short_is_noticed(tmp_path, left):
    file = write(tmp_path / "one.index", as_keys(drawn(700)))
    data = file.path.read_bytes()
    file.path.write_bytes(data[:left])
    with pytest.raises(WrongBytes):
        read_sorted_ids(file.path)


def test_a_file_cut_while_it_is_open_is_noticed(tmp_path):
    keys = as_keys(drawn(700))
    file = write(tmp_path / "one.index", keys)
    file.path.write_bytes(file.path.read_bytes()[:6200])
    with pytest.raises(WrongBytes, match="ends too early"):
        find(file, keys)


def test_a_bit_that_changes_between_two_looks_is_noticed(tmp_path):
    path, keys = tmp_path / "a.index", as_keys(drawn(600))
    file = write(path, keys)
    assert (find(file, keys) == np.arange(600)).all()
    whole = bytearray(path.read_bytes())
    whole[256 * 16 + 3] ^= 1  # of a place in the first block
    path.write_bytes(whole)
    with pytest.raises(WrongBytes, match="wrong checksum of block 0"):
        find(file, keys)
