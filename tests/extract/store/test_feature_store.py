"""Rows go in and come out as they were, whatever happens to the process, the disk or the files."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest

from extract import ExtractError, FeatureStore, Tap
from extract.files import _host
from extract.store import DamagedPart, feature_store, part_writer, parts, upkeep

A, B = Tap("features.1", "avg"), Tap("features.1", "grid3")


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


def keep(store, recipe, ids, columns, stored=np.float32):
    with store.writer(recipe, stored) as writer:
        writer.add(ids, columns)


def parts_of(store, recipe):
    return sorted((store.cache / recipe.id / "parts").glob("[0-9]*.h5"))


def keep_in_parts(store, recipe, ids, columns, n):
    for some in np.array_split(np.arange(len(ids)), n):
        keep(store, recipe, ids[some], {tap: rows[some] for tap, rows in columns.items()})


def test_any_order_and_repeated_ids_across_parts(store, recipe, ids, rows):
    keep_in_parts(store, recipe, ids, {A: rows, B: -rows}, 5)
    order = np.random.default_rng(3).integers(0, 40, 200)
    for reader in (store, FeatureStore(store.cache)):
        assert np.array_equal(
            reader.read(recipe, [B, A], ids[order]), np.hstack([-rows, rows])[order]
        )


def test_ids_that_end_in_zeros_are_told_apart(store, recipe):
    ids = np.zeros((3, 16), np.uint8)
    ids[1, 0] = ids[2, 0] = ids[2, 1] = 1
    rows = np.arange(3, dtype=np.float32)[:, None]
    keep(store, recipe, ids, {A: rows})
    assert np.array_equal(store.read(recipe, [A], ids[::-1]), rows[::-1])
    other = np.zeros((1, 16), np.uint8)
    other[0, 15] = 1
    assert store.missing(recipe, [A], other).tolist() == [[True]]


def test_ids_that_begin_alike_are_told_apart(store, recipe):
    ids = np.zeros((300, 16), np.uint8)
    ids[:, 15], ids[:, 8], ids[:, 7] = (
        np.arange(300) % 100,
        np.arange(300) // 100,
        np.arange(300) // 150,
    )
    rows = np.arange(300, dtype=np.float32)[:, None]
    order = np.random.default_rng(0).permutation(300)
    keep_in_parts(store, recipe, ids[order], {A: rows[order]}, 4)
    assert np.array_equal(store.read(recipe, [A], ids), rows)
    other = np.zeros((2, 16), np.uint8)
    other[:, 14] = 1
    assert store.missing(recipe, [A], np.concatenate([other, ids[:1]])).ravel().tolist() == [
        True,
        True,
        False,
    ]


def test_no_ids_give_no_rows_of_the_taps_width(store, recipe, ids, rows):
    keep(store, recipe, ids, {A: rows, B: rows[:, :2]})
    assert store.read(recipe, [A, B], ids[:0]).shape == (0, 9)
    with pytest.raises(DamagedPart, match="0 of 0 rows of other:avg are not kept"):
        store.read(recipe, [Tap("other", "avg")], ids[:0])


@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_many_chunks_of_many_parts_in_any_order(store, recipe, monkeypatch, stored):
    monkeypatch.setattr(parts, "CHUNK_BYTES", 200)
    monkeypatch.setattr("extract.store.rows_on_disk.TASK_BYTES", 600)
    rng = np.random.default_rng(0)
    ids, rows = (
        rng.integers(0, 256, (1000, 16), np.uint8),
        rng.normal(size=(1000, 6)).astype(np.float32),
    )
    keep_in_parts(store, recipe, ids, {A: rows, B: rows[:, :3]}, 7)
    with store.writer(recipe, stored) as writer:
        for some in np.array_split(np.arange(1000), 7):
            writer.add(ids[some], {Tap("other", "max"): rows[some]})
    kept = rows.astype(stored).astype(np.float32)
    for order in (
        rng.permutation(1000)[:800],
        rng.integers(0, 1000, 3000),
        np.arange(1000),
        np.array([999]),
    ):
        expected = np.hstack([rows[:, :3], kept, rows])[order]
        assert np.array_equal(store.read(recipe, [B, Tap("other", "max"), A], ids[order]), expected)


def test_what_is_known_of_parts_is_shared_in_a_process(store, recipe, ids, rows, monkeypatch):
    keep_in_parts(store, recipe, ids, {A: rows}, 3)
    looked, checked = [], []
    read_index, crc32 = feature_store.read_index, parts.zlib.crc32
    monkeypatch.setattr(
        feature_store, "read_index", lambda path: looked.append(path) or read_index(path)
    )
    monkeypatch.setattr(
        parts.zlib,
        "crc32",
        lambda block, *before: checked.append(np.shape(block)) or crc32(block, *before),
    )
    for _ in range(3):
        assert np.array_equal(FeatureStore(store.cache).read(recipe, [A], ids), rows)
    assert len(looked) == 3
    # of ids and rows; between them lies what is neither
    assert len([shape for shape in checked if len(shape) == 2]) == 6


def test_a_part_written_over_is_looked_at_again(store, recipe, ids, rows):
    keep(store, recipe, ids, {A: rows})
    assert np.array_equal(store.read(recipe, [A], ids), rows)
    flip(parts_of(store, recipe)[0], rows[5].tobytes())
    with pytest.raises(DamagedPart):
        store.read(recipe, [A], ids)


def test_the_folder_may_be_named_from_where_one_stands(tmp_path, recipe, ids, rows, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FeatureStore("cache")
    keep(store, recipe, ids, {A: rows})
    assert np.array_equal(store.read(recipe, [A], ids), rows)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.missing(recipe, [A], ids).all()
    assert np.array_equal(FeatureStore("../cache").read(recipe, [A], ids), rows)


def test_recipes_are_kept_apart(store, recipe, ids, rows):
    keep(store, recipe, ids, {A: rows})
    assert store.missing(replace(recipe, view="flipped"), [A], ids).all()
    assert (store.cache / recipe.id / "recipe.json").read_text() == recipe.to_json()


@pytest.mark.parametrize(
    ("peak", "dtype"), [(65504, np.float16), (65520, np.float32), (1e30, np.float32)]
)
def test_a_row_that_overflows_float16_is_wide_alone(store, recipe, ids, rows, peak, dtype):
    rows[3, 2] = -peak
    keep(store, recipe, ids, {A: rows}, np.float16)
    with h5py.File(parts_of(store, recipe)[0]) as file:
        assert file[f"taps/{A}"].dtype == dtype
    expected = np.clip(rows, -1e4, 1e4).astype(np.float16).astype(np.float32)
    expected[3] = rows[3].astype(dtype)
    assert np.array_equal(store.read(recipe, [A], ids), expected)


def test_reduced_precision_and_float32_parts_are_joined_without_loss(store, recipe, ids, rows):
    rows[0, 0] = 1e30
    for some in np.array_split(np.arange(40), 10):
        keep(store, recipe, ids[some], {A: rows[some]}, np.float16)
    before = store.read(recipe, [A], ids)
    assert store.compact(recipe) == 10
    assert np.array_equal(FeatureStore(store.cache).read(recipe, [A], ids), before)


def test_a_part_reads_as_the_design_says(store, recipe, ids, rows):
    keep(store, recipe, ids, {A: rows})
    (part,) = parts_of(store, recipe)
    with h5py.File(part) as file:
        assert np.array_equal(file["ids"], ids)
        assert file["ids"].dtype == np.uint8
        assert np.array_equal(file["taps/features.1:avg"], rows)
        assert file["taps/features.1:avg"].compression is None


def test_parts_never_change_and_temporary_files_are_never_listed(store, recipe, ids, rows):
    keep(store, recipe, ids[:20], {A: rows[:20]})
    (part,) = parts_of(store, recipe)
    before = part.read_bytes(), part.stat().st_mtime_ns
    (part.parent / f".tmp-1-abc-{part.name}").write_bytes(before[0][:100])
    keep(store, recipe, ids[20:], {A: rows[20:]})
    assert (part.read_bytes(), part.stat().st_mtime_ns) == before
    assert np.array_equal(FeatureStore(store.cache).read(recipe, [A], ids), rows)
    assert (part.parent / f".tmp-1-abc-{part.name}").exists()


def test_a_part_is_finished_while_the_pass_goes_on(store, recipe, ids, rows, monkeypatch):
    monkeypatch.setattr(part_writer, "PART_SECONDS", 0.0)
    with store.writer(recipe) as writer:
        for at in range(0, 40, 10):
            writer.add(ids[at : at + 10], {A: rows[at : at + 10]})
        writer.flush()
        assert len(parts_of(store, recipe)) >= 3
    assert len(parts_of(store, recipe)) == 4
    assert writer.rows_kept == 40


def test_a_part_is_finished_when_it_is_large(store, recipe, ids, rows, monkeypatch):
    monkeypatch.setattr(part_writer, "WAITING_BYTES", rows[:20].nbytes)
    with store.writer(recipe) as writer:
        for at in range(0, 40, 10):
            writer.add(ids[at : at + 10], {A: rows[at : at + 10]})
    assert len(parts_of(store, recipe)) == 2


def test_what_was_added_before_an_error_is_kept(store, recipe, ids, rows):
    def add_and_fail():
        with store.writer(recipe) as writer:
            writer.add(ids, {A: rows})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    assert not FeatureStore(store.cache).missing(recipe, [A], ids).any()


def test_an_interrupt_while_rows_are_added_keeps_all_of_a_batch_or_nothing(
    store, recipe, ids, rows, monkeypatch
):
    calls, as_stored = [], part_writer.as_stored

    def interrupted(values, stored):
        calls.append(len(values))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return as_stored(values, stored)

    monkeypatch.setattr(part_writer, "as_stored", interrupted)
    with store.writer(recipe, np.float32) as writer:
        writer.add(ids[:10], {A: rows[:10], B: -rows[:10]})
        with pytest.raises(KeyboardInterrupt):
            writer.add(ids[10:], {A: rows[10:], B: -rows[10:]})
    assert store.missing(recipe, [A, B], ids).all(axis=1).tolist() == [False] * 10 + [True] * 30
    assert np.array_equal(store.read(recipe, [B], ids[:10]), -rows[:10])


def flip(path, needle):
    """Change one byte of the file where `needle` lies."""
    data = bytearray(path.read_bytes())
    data[data.index(needle) + 3] ^= 64
    path.write_bytes(data)


def test_a_flipped_byte_in_a_row_sets_the_part_aside(store, recipe, ids, rows, caplog):
    keep_in_parts(store, recipe, ids, {A: rows}, 2)
    part = parts_of(store, recipe)[0]
    flip(part, rows[5].tobytes())
    reader = FeatureStore(store.cache)
    with pytest.raises(DamagedPart):
        reader.read(recipe, [A], ids)
    assert "set aside" in caplog.text
    assert part.with_suffix(".damaged").exists()
    assert reader.missing(recipe, [A], ids).ravel().tolist() == [True] * 20 + [False] * 20


def test_a_flipped_byte_in_any_id_sets_the_part_aside(tmp_path, recipe):
    """Ids beyond the first chunk were not looked at."""
    store, n = FeatureStore(tmp_path), 70_000
    ids = np.random.default_rng(0).integers(0, 256, (n, 16), np.uint8)
    keep(store, recipe, ids, {A: np.zeros((n, 1), np.float32)})
    flip(parts_of(store, recipe)[0], ids[69_000].tobytes())
    assert FeatureStore(tmp_path).missing(recipe, [A], ids[:5]).all()


@pytest.mark.parametrize("left", [0, 100, 2000, -1])
@pytest.mark.parametrize("when", ["before it is listed", "after it was listed"])
def test_a_truncated_part_is_set_aside(store, recipe, ids, rows, left, when):
    keep_in_parts(store, recipe, ids, {A: rows}, 2)
    part = parts_of(store, recipe)[0]
    reader = FeatureStore(store.cache)
    if when == "after it was listed":
        reader.missing(recipe, [A], ids)
    os.truncate(part, left if left >= 0 else part.stat().st_size - 1)
    with pytest.raises(KeyError):
        reader.read(recipe, [A], ids)
    assert part.with_suffix(".damaged").exists()
    assert reader.missing(recipe, [A], ids).sum() == 20


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_part_truncated_while_it_is_read_is_set_aside(store, recipe, ids, rows, left):
    keep_in_parts(store, recipe, ids, {A: rows}, 2)
    listed = store._list(recipe)
    assert [part.column(str(A)).shape for part in listed] == [(20, 7)] * 2
    os.truncate(listed[1].path, left if left >= 0 else listed[1].size - 1)
    store._list = lambda recipe: listed
    with pytest.raises(DamagedPart, match="size is not"):
        store.read(recipe, [A], ids)
    assert [path.suffix for path in sorted(listed[0].path.parent.iterdir())] == [".h5", ".damaged"]


@pytest.mark.parametrize(
    "layout",
    [
        {"compression": "gzip", "chunks": (40, 7)},
        {"chunks": (40, 3)},
        {},
        {"external": [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]},
    ],
    ids=["compressed", "split rows", "contiguous", "outside"],
)
def test_a_part_that_is_laid_out_anew_is_set_aside(store, recipe, ids, rows, layout):
    keep(store, recipe, ids, {A: rows})
    (part,) = parts_of(store, recipe)
    with h5py.File(part, "r+") as file:
        del file[f"taps/{A}"]
        data = {} if "external" in layout else {"data": rows}
        file.create_dataset(f"taps/{A}", (40, 7), np.float32, **data, **layout)
    with pytest.raises(DamagedPart):
        store.read(recipe, [A], ids)
    assert part.with_suffix(".damaged").exists()


def test_a_disk_that_fails_while_it_is_read_is_not_damage(store, recipe, ids, rows, monkeypatch):
    keep(store, recipe, ids, {A: rows})
    store.read(recipe, [A], ids[:0])

    def fails(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("extract.store.rows_on_disk.Column.copy", fails)
    with pytest.raises(ExtractError, match=r"can't read the cache .*Input/output error"):
        store.read(recipe, [A], ids)
    assert len(parts_of(store, recipe)) == 1


def test_a_part_that_a_file_server_lost_is_looked_for_again(store, recipe, ids, rows, monkeypatch):
    keep(store, recipe, ids, {A: rows})
    opened, failed = parts.opened_part, []

    def stale(path):
        if len(failed) < 3:
            failed.append(path)
            raise OSError(116, "Stale file handle")
        return opened(path)

    monkeypatch.setattr(parts, "opened_part", stale)
    assert np.array_equal(store.read(recipe, [A], ids), rows)
    assert len(failed) == 3


def test_two_readers_may_find_the_same_damage(store, recipe, ids, rows):
    keep(store, recipe, ids, {A: rows})
    (part,) = parts_of(store, recipe)
    parts.set_aside(part, "wrong checksum")
    parts.set_aside(part, "wrong checksum")
    assert part.with_suffix(".damaged").exists()


def test_a_part_that_only_this_moment_can_not_be_opened_is_not_damaged(
    store, recipe, ids, rows, monkeypatch
):
    keep(store, recipe, ids, {A: rows})

    def too_many(*args, **kwargs):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("extract.store.rows_on_disk.opened", too_many)
        with pytest.raises(ExtractError, match=r"can't read the cache .*Too many open files"):
            FeatureStore(store.cache).missing(recipe, [A], ids)
    assert np.array_equal(FeatureStore(store.cache).read(recipe, [A], ids), rows)


def test_many_small_parts_are_joined(store, recipe, ids, rows):
    keep_in_parts(store, recipe, ids, {A: rows, B: -rows}, 10)
    keep(store, recipe, ids, {Tap("other", "avg"): rows})
    assert store.compact(recipe) == 10
    assert len(parts_of(store, recipe)) == 2
    for reader in (store, FeatureStore(store.cache)):
        assert np.array_equal(reader.read(recipe, [A, B], ids), np.hstack([rows, -rows]))
    assert store.compact(recipe) == 0


def test_joined_rows_lie_in_the_order_they_came_and_each_once(
    store, recipe, ids, rows, monkeypatch
):
    monkeypatch.setattr(parts, "CHUNK_BYTES", 200)
    keep_in_parts(store, recipe, ids, {A: rows}, 5)
    keep_in_parts(store, recipe, ids[::-1], {A: rows[::-1]}, 5)
    assert store.compact(recipe) == 10
    (part,) = parts_of(store, recipe)
    with h5py.File(part) as file:
        assert np.array_equal(file["ids"], ids)
        assert np.array_equal(file[f"taps/{A}"], rows)
    assert np.array_equal(FeatureStore(store.cache).read(recipe, [A], ids), rows)


def test_large_parts_are_not_joined_again(store, recipe, ids, rows, monkeypatch):
    keep_in_parts(store, recipe, ids, {A: rows}, 20)
    size = parts_of(store, recipe)[0].stat().st_size
    monkeypatch.setattr(upkeep, "PART_BYTES", 4 * size)
    assert store.compact(recipe) == 12
    assert len(parts_of(store, recipe)) == 11
    assert np.array_equal(FeatureStore(store.cache).read(recipe, [A], ids), rows)


def test_few_parts_stay_as_they_are(store, recipe, ids, rows):
    keep_in_parts(store, recipe, ids, {A: rows}, 8)
    before = parts_of(store, recipe)
    assert store.compact(recipe) == 0
    assert parts_of(store, recipe) == before


def test_compacting_nothing_is_no_error(store, recipe):
    assert store.compact(recipe) == 0


def test_a_part_damaged_before_compaction_costs_its_own_rows_alone(store, recipe, ids, rows):
    keep_in_parts(store, recipe, ids, {A: rows}, 10)
    flip(parts_of(store, recipe)[4], rows[17].tobytes())
    store.compact(recipe)
    missing = FeatureStore(store.cache).missing(recipe, [A], ids).ravel()
    assert missing.nonzero()[0].tolist() == [16, 17, 18, 19]


def test_a_reader_whose_parts_were_joined_meanwhile_looks_again(store, recipe, ids, rows):
    keep_in_parts(store, recipe, ids, {A: rows}, 10)
    reader = FeatureStore(store.cache)
    assert not reader.missing(recipe, [A], ids).any()
    listed = reader._list(recipe)
    store.compact(recipe)
    answers = iter([listed])
    reader._list = lambda recipe: next(answers, None) or FeatureStore._list(reader, recipe)
    assert np.array_equal(reader.read(recipe, [A], ids), rows)


def test_a_reader_that_is_overtaken_many_times_looks_again(store, recipe, ids, rows, monkeypatch):
    """On a busy machine five joins went by before one look at the parts had ended."""
    keep_in_parts(store, recipe, ids, {A: rows}, 10)
    reader = FeatureStore(store.cache)
    listed = reader._list(recipe)
    store.compact(recipe)
    answers = [listed] * 50
    reader._list = lambda recipe: answers.pop() if answers else FeatureStore._list(reader, recipe)
    assert np.array_equal(reader.read(recipe, [A], ids), rows)

    monkeypatch.setattr(feature_store, "LOOK_SECONDS", 0.0)
    answers += [listed] * feature_store.LOOKS
    with pytest.raises(DamagedPart, match=r"the parts that hold .* are gone"):
        reader.read(recipe, [A], ids)
    assert answers == []


def test_parts_joined_between_their_names_and_their_index_are_looked_for_again(
    store, recipe, ids, rows, monkeypatch
):
    keep_in_parts(store, recipe, ids, {A: rows}, 10)
    reader, read_index, joined = FeatureStore(store.cache), feature_store.read_index, []

    def joining(path):
        if not joined:
            joined.append(True)
            joined.append(store.compact(recipe))
        return read_index(path)

    monkeypatch.setattr(feature_store, "read_index", joining)
    assert not reader.missing(recipe, [A], ids).any()
    assert np.array_equal(reader.read(recipe, [A], ids), rows)
    assert joined == [True, 10]


def test_two_may_compact_at_once(store, recipe, ids, rows, monkeypatch):
    keep_in_parts(store, recipe, ids, {A: rows}, 10)
    other, write = FeatureStore(store.cache), upkeep.write_part

    def slower(*args):
        monkeypatch.setattr(upkeep, "write_part", write)
        assert other.compact(recipe) == 10
        return write(*args)

    monkeypatch.setattr(upkeep, "write_part", slower)
    store.compact(recipe)
    assert np.array_equal(FeatureStore(store.cache).read(recipe, [A], ids), rows)


def test_parts_that_can_not_be_joined_stay(store, recipe, ids, rows, monkeypatch, caplog):
    keep_in_parts(store, recipe, ids, {A: rows}, 10)

    def read_only(*args):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(upkeep, "write_part", read_only)
        assert store.compact(recipe) == 0
    assert "Read-only file system" in caplog.text
    assert np.array_equal(store.read(recipe, [A], ids), rows)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("Can't decrement id ref count"),
        MemoryError("no room"),
        ExtractError("can't read the cache"),
    ],
)
def test_joining_is_optional_whatever_hinders_it(store, recipe, ids, rows, monkeypatch, error):
    """A write that failed when the joined part was closed failed a finished extraction."""
    keep_in_parts(store, recipe, ids, {A: rows}, 10)
    before = parts_of(store, recipe)

    def failing(path):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("extract.files.sync_file", failing)
        assert store.compact(recipe) == 0
    assert sorted(before[0].parent.iterdir()) == before
    assert np.array_equal(FeatureStore(store.cache).read(recipe, [A], ids), rows)


def test_joining_removes_what_the_dead_left(store, recipe, ids, rows):
    keep(store, recipe, ids, {A: rows})
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = store.cache / recipe.id
    name = f".tmp-{_host()}-{dead.pid}-12345678"
    for path in (folder / name, folder / "parts" / name):
        path.touch()
    store.compact(recipe)
    assert [path.name for path in folder.rglob(".tmp-*")] == []


def other_recipes_part(path, recipe, ids):
    other = FeatureStore(path.parent.parent.parent / "other")
    keep(other, replace(recipe, weights="others"), ids, {A: np.zeros((40, 7), np.float32)})
    (part,) = other.cache.glob("*/parts/*.h5")
    part.rename(path)


def declares_much(path, recipe, ids):
    with h5py.File(path, "w") as file:
        file.create_dataset("ids", (1 << 40, 16), np.uint8, chunks=(1 << 15, 16))
        file.create_dataset(f"taps/{A}", (1 << 40, 4), np.float32, chunks=(1, 4))


ODD = {
    "a folder": lambda path, recipe, ids: (path / "inside").mkdir(parents=True),
    "a FIFO": lambda path, recipe, ids: os.mkfifo(path),
    "a loop": lambda path, recipe, ids: path.symlink_to(path.name),
    "a link to nothing": lambda path, recipe, ids: path.symlink_to("gone"),
    "a device": lambda path, recipe, ids: path.symlink_to("/dev/zero"),
    "empty": lambda path, recipe, ids: path.touch(),
    "no part": lambda path, recipe, ids: path.write_bytes(b"no part" * 100),
    "2**40 rows": declares_much,
    "another recipe's": other_recipes_part,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("movable", [True, False])
def test_what_is_no_part_of_the_recipe_is_set_aside(
    store, recipe, ids, rows, odd, movable, caplog, monkeypatch
):
    """One odd file among the parts made every read fail, or wait for ever."""
    keep(store, recipe, ids, {A: rows})
    path = store.cache / recipe.id / "parts" / "00000000000000000001-aaaaaaaaaaaa.h5"
    ODD[odd](path, recipe, ids)
    if not movable:
        monkeypatch.setattr(parts.os, "replace", lambda *args: exec("raise OSError(30, 'no')"))
    for _ in range(3):
        assert np.array_equal(FeatureStore(store.cache).read(recipe, [A], ids), rows)
    assert store.compact(recipe) == 0
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()
    assert os.path.lexists(path) != movable
    assert os.path.lexists(path.with_suffix(".damaged")) == movable


def test_what_is_set_aside_twice_under_one_name_is_kept_twice(store, recipe, ids, rows):
    keep(store, recipe, ids, {A: rows})
    path = store.cache / recipe.id / "parts" / "1.h5"
    for _ in range(3):
        (path / "inside").mkdir(parents=True)
        assert np.array_equal(store.read(recipe, [A], ids), rows)
    assert len(list(path.parent.glob("1*.damaged"))) == 3


def test_a_damaged_part_that_can_not_be_renamed_counts_as_missing(
    store, recipe, ids, rows, monkeypatch
):
    keep_in_parts(store, recipe, ids, {A: rows}, 2)
    part = parts_of(store, recipe)[0]
    flip(part, rows[5].tobytes())
    monkeypatch.setattr(parts.os, "replace", lambda *args: exec("raise OSError(30, 'no')"))
    with pytest.raises(DamagedPart):
        store.read(recipe, [A], ids)
    assert store.missing(recipe, [A], ids).ravel().tolist() == [True] * 20 + [False] * 20
    assert np.array_equal(store.read(recipe, [A], ids[20:]), rows[20:])


def test_a_part_that_this_user_may_not_read_is_passed_over(
    store, recipe, ids, rows, monkeypatch, caplog
):
    keep_in_parts(store, recipe, ids, {A: rows}, 2)
    part, opened = parts_of(store, recipe)[0], parts.opened_part

    def denied(path):
        if path == part:
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr(parts, "opened_part", denied)
    for _ in range(2):
        assert store.missing(recipe, [A], ids).ravel().tolist() == [True] * 20 + [False] * 20
    assert part.exists()
    assert len(caplog.records) == 1


def test_a_description_that_this_user_may_not_read_is_done_without(
    store, recipe, ids, rows, monkeypatch
):
    keep(store, recipe, ids[:20], {A: rows[:20]})
    before = (store.cache / recipe.id / "recipe.json").stat().st_ino

    def denied(path):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(feature_store, "opened", denied)
        keep(store, recipe, ids[20:], {A: rows[20:]})
    assert np.array_equal(store.read(recipe, [A], ids), rows)
    assert (store.cache / recipe.id / "recipe.json").stat().st_ino == before


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo, lambda path: path.touch()])
def test_the_description_of_the_folder_is_written_anew(store, recipe, ids, rows, make):
    keep(store, recipe, ids, {A: rows})
    file = store.cache / recipe.id / "recipe.json"
    file.unlink()
    make(file)
    keep(store, recipe, ids, {A: rows})
    assert file.read_text() == recipe.to_json()


def write_some(cache, recipe, ids, rows, tap):
    for at in range(0, len(ids), 4):
        keep(FeatureStore(cache), recipe, ids[at : at + 4], {tap: rows[at : at + 4]})


def test_two_processes_write_at_once(store, recipe, ids, rows):
    context = multiprocessing.get_context("fork")
    jobs = [
        context.Process(target=write_some, args=(store.cache, recipe, ids, rows, A)),
        context.Process(
            target=write_some, args=(store.cache, recipe, ids[::-1].copy(), rows[::-1].copy(), A)
        ),
    ]
    for job in jobs:
        job.start()
    while any(job.is_alive() for job in jobs):
        store.missing(recipe, [A], ids)
    assert [job.exitcode for job in jobs] == [0, 0]
    assert len(parts_of(store, recipe)) == 20
    assert np.array_equal(store.read(recipe, [A], ids), rows)


KILLED = """
import sys, numpy as np
from extract import FeatureStore, Recipe, Tap
from extract.store import part_writer
part_writer.PART_SECONDS = 0.0
ids, rows = np.load(sys.argv[2]), np.load(sys.argv[3])
with FeatureStore(sys.argv[1]).writer(Recipe("net", "digest", "box", "float32")) as writer:
    for at in range(0, 40, 4):
        writer.add(ids[at : at + 4], {Tap("features.1", "avg"): rows[at : at + 4]})
        print(at, flush=True)
        if at == 24:
            writer._writing.result()
            sys.stdin.read()
"""


def test_a_killed_writer_keeps_its_finished_parts(store, recipe, ids, rows, tmp_path):
    np.save(tmp_path / "ids.npy", ids), np.save(tmp_path / "rows.npy", rows)
    command = [
        sys.executable,
        "-c",
        KILLED,
        store.cache,
        tmp_path / "ids.npy",
        tmp_path / "rows.npy",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        while int(process.stdout.readline()) < 24:
            pass
        limit = time.monotonic() + 20
        while len(parts_of(store, recipe)) < 7 and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert store.missing(recipe, [A], ids).ravel().tolist() == [False] * 28 + [True] * 12
    assert np.array_equal(store.read(recipe, [A], ids[:28]), rows[:28])


def test_a_cache_that_can_not_be_written_is_one_clear_line(tmp_path, recipe):
    (tmp_path / "file").write_text("in the way")
    for cache in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ExtractError, match=r"can't write to the cache .*cache=") as caught:
            FeatureStore(cache).writer(recipe)
        assert "\n" not in str(caught.value)


def test_a_disk_that_fills_up_is_one_clear_line(store, recipe, ids, rows, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(part_writer, "write_part", full)
    with pytest.raises(ExtractError, match="No space left on device"):
        keep(store, recipe, ids, {A: rows})


def test_a_folder_in_the_place_of_parts_that_can_not_be_listed(store, recipe, ids):
    (store.cache / recipe.id).mkdir(parents=True)
    (store.cache / recipe.id / "parts").write_text("in the way")
    with pytest.raises(ExtractError, match="can't read the cache"):
        store.missing(recipe, [A], ids)


def test_the_default_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert FeatureStore().cache.name == "permafrost"
