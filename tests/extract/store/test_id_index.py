"""A store of many rows: the index of its ids grows in levels, and costs no row and no memory."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from extract import (
    ExtractError,
    FeatureStore,
    ReadOnlyStore,
    Tap,
    cache_contents,
    prune_cache,
    verify_cache,
)
from extract.store import DamagedPart, feature_store, id_index, upkeep
from extract.store.cache_files import Kind, cache_files
from extract.store.row_index import RowIndex, row_index
from extract.store.sorted_ids import read_sorted_ids

A, B = Tap("features.1", "avg"), Tap("features.2", "max")
LOOSE = 100


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    monkeypatch.setattr(id_index, "LOOSE_ROWS", LOOSE)
    monkeypatch.setattr(id_index, "SORTED_AT_ONCE", 3 * LOOSE)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


def ids_of(start, n):
    """Others for each number."""
    return np.stack(
        [np.random.default_rng(i).integers(0, 256, 16, np.uint8) for i in range(start, start + n)]
    )


def rows_of(start, n, width=3):
    return np.add.outer(np.arange(start, start + n), np.arange(width)).astype(np.float32)


def keep(store, recipe, start, n, tap=A):
    with store.writer(recipe) as writer:
        writer.add(ids_of(start, n), {tap: rows_of(start, n)})


def index_of(store, recipe):
    folder = store.cache / recipe.id / "index"
    return sorted(folder.glob("*.index")) if folder.exists() else []


def another_process():
    feature_store._known.cache_clear()
    feature_store._without_index.clear()
    row_index.cache_clear()


def holds(store, recipe, n, tap=A):
    """That rows 0 to n are there as they were written, and the next is not."""
    order = np.random.default_rng(n).permutation(n)
    assert np.array_equal(store.read(recipe, [tap], ids_of(0, n)[order]), rows_of(0, n)[order])
    assert store.missing(recipe, [tap], ids_of(n, 5)).all()
    return True


def test_few_rows_have_no_index(store, recipe):
    keep(store, recipe, 0, LOOSE - 1)
    assert holds(store, recipe, LOOSE - 1)
    assert not (store.cache / recipe.id / "index").exists()


def test_a_new_process_reads_no_id_of_a_part_in_the_index(store, recipe, monkeypatch):
    keep(store, recipe, 0, 250)
    keep(store, recipe, 250, 20)
    store.compact(recipe)
    (file,) = index_of(store, recipe)
    assert read_sorted_ids(file).held.rows == 270
    another_process()

    def refuse(path):
        raise AssertionError("a part's ids are read")

    monkeypatch.setattr(feature_store, "read_index", refuse)
    assert holds(FeatureStore(store.cache), recipe, 270)
    assert [part._keys is None for part in store._list(recipe)] == [True, True]


def test_a_reader_makes_the_index_that_no_writer_made(store, recipe):
    keep(store, recipe, 0, 250)
    assert index_of(store, recipe) == []
    assert not store.missing(recipe, [A], ids_of(0, 3)).any()
    assert len(index_of(store, recipe)) == 1


def test_the_index_grows_in_levels(store, recipe):
    """Each id is written a few times, not once for every file."""
    sizes = []
    for at in range(0, 4000, LOOSE):
        keep(store, recipe, at, LOOSE)
        store.compact(recipe)
        sizes.append([read_sorted_ids(file).held.rows for file in index_of(store, recipe)])
        assert sum(sizes[-1]) == at + LOOSE
    assert holds(store, recipe, 4000)
    assert max(map(len, sizes)) <= 4
    written = sum(own[-1] for own in sizes)
    assert written < 10 * 4000


def test_many_rows_at_once_are_sorted_in_batches(store, recipe):
    for at in range(0, 2000, 200):
        keep(store, recipe, at, 200)
    store.compact(recipe)
    assert holds(store, recipe, 2000)
    assert sum(read_sorted_ids(file).held.rows for file in index_of(store, recipe)) == 2000


def test_parts_that_are_joined_leave_the_index(store, recipe, monkeypatch):
    monkeypatch.setattr(upkeep, "SMALL_PARTS", 2)
    keep(store, recipe, 0, 150)
    assert holds(store, recipe, 150)  # the index now names a part that is joined
    for at in range(150, 450, 100):
        keep(store, recipe, at, 100)
    assert store.compact(recipe) == 4
    (file,) = index_of(store, recipe)
    (part,) = (store.cache / recipe.id / "parts").glob("*.h5")
    assert [entry.name for entry in read_sorted_ids(file).held.parts] == [part.name]
    assert holds(store, recipe, 450)


def test_taps_of_their_own_have_files_of_their_own(store, recipe):
    keep(store, recipe, 0, 150)
    keep(store, recipe, 0, 120, B)
    with store.writer(recipe) as writer:
        writer.add(ids_of(150, 110), {A: rows_of(150, 110), B: rows_of(150, 110)})
    assert holds(store, recipe, 260)
    assert [read_sorted_ids(file).held.taps for file in index_of(store, recipe)] == [
        (str(A),),
        (str(A), str(B)),
        (str(B),),
    ]
    missing = store.missing(recipe, [A, B], ids_of(0, 260))
    assert np.flatnonzero(missing[:, 1]).tolist() == list(range(120, 150))
    assert not missing[:, 0].any()


def test_rows_beside_the_index_are_found_as_well(store, recipe):
    keep(store, recipe, 0, 200)
    store.compact(recipe)
    store.missing(recipe, [A], ids_of(0, 1))
    keep(store, recipe, 200, 30)
    assert len(index_of(store, recipe)) == 1
    assert holds(FeatureStore(store.cache), recipe, 230)


def test_an_index_that_is_damaged_or_gone_is_made_anew(store, recipe, caplog):
    keep(store, recipe, 0, 300)
    for damage in ("flip", "cut", "gone", "block"):
        assert holds(store, recipe, 300)
        (file,) = index_of(store, recipe)
        data = bytearray(file.read_bytes())
        if damage in ("flip", "block"):
            data[-30 if damage == "flip" else 40] ^= 1
        file.unlink()
        if damage != "gone":
            file.write_bytes(data[:-1] if damage == "cut" else data)
        another_process()
    assert holds(store, recipe, 300)
    assert [record.message.split(" (")[0].split()[1:3] for record in caplog.records] == [
        ["kept", "index"]
    ] * 3
    assert "it is set aside and is made anew" in caplog.text


def test_an_index_damaged_in_a_process_that_knows_it(store, recipe):
    keep(store, recipe, 0, 3000)
    assert not store.missing(recipe, [A], ids_of(0, 1)).any()
    (file,) = index_of(store, recipe)
    data = bytearray(file.read_bytes())
    for at in range(0, 11 * 6144, 6144):
        data[at + 100] ^= 1
    file.write_bytes(data)
    assert holds(store, recipe, 3000)


def test_an_index_of_another_recipe_is_none(store, recipe):
    other = replace(recipe, weights="others")
    for own in (recipe, other):
        keep(store, own, 0, 200)
        assert holds(store, own, 200)
    one, two = (index_of(store, own)[0] for own in (recipe, other))
    os.replace(two, one.with_name("0.index"))
    another_process()
    assert holds(store, recipe, 200)
    assert holds(store, other, 200)


def test_parts_that_swapped_names_are_not_mistaken(store, recipe):
    """Both are whole; the index would give rows of one as those of the other."""
    keep(store, recipe, 0, 150)
    keep(store, recipe, 150, 150)
    assert holds(store, recipe, 300)
    one, two = sorted((store.cache / recipe.id / "parts").glob("*.h5"))
    aside = one.with_name("aside")
    os.replace(one, aside)
    os.replace(two, one)
    os.replace(aside, two)
    assert holds(FeatureStore(store.cache), recipe, 300)
    another_process()
    assert holds(FeatureStore(store.cache), recipe, 300)


def test_a_part_in_the_index_that_is_damaged_costs_its_own_rows(store, recipe):
    keep(store, recipe, 0, 150)
    keep(store, recipe, 150, 150)
    store.compact(recipe)
    assert holds(store, recipe, 300)
    part = sorted((store.cache / recipe.id / "parts").glob("*.h5"))[1]
    data = part.read_bytes()
    place = data.index(rows_of(200, 1).tobytes())
    part.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
    with pytest.raises(DamagedPart):
        store.read(recipe, [A], ids_of(0, 300))
    missing = store.missing(recipe, [A], ids_of(0, 300))
    assert np.flatnonzero(missing[:, 0]).tolist() == list(range(150, 300))
    keep(store, recipe, 150, 150)
    assert holds(store, recipe, 300)


def test_a_part_in_the_index_that_was_removed_costs_its_own_rows(store, recipe):
    keep(store, recipe, 0, 150)
    keep(store, recipe, 150, 150)
    assert holds(store, recipe, 300)
    sorted((store.cache / recipe.id / "parts").glob("*.h5"))[0].unlink()
    missing = store.missing(recipe, [A], ids_of(0, 300))
    assert np.flatnonzero(missing[:, 0]).tolist() == list(range(150))


def test_a_cache_that_was_removed_is_looked_at_once(store, recipe, monkeypatch):
    """What a process knew of its index was believed, and looked for again and again."""
    keep(store, recipe, 0, 300)
    assert holds(store, recipe, 300)
    shutil.rmtree(store.cache)
    looked, list_parts = [], feature_store.list_parts
    monkeypatch.setattr(
        feature_store, "list_parts", lambda folder: looked.append(1) or list_parts(folder)
    )
    assert store.missing(recipe, [A], ids_of(0, 300)).all()
    assert len(looked) == 1
    keep(store, recipe, 0, 300)
    assert holds(store, recipe, 300)


def test_a_file_in_the_place_of_a_removed_recipe_holds_no_rows(store, recipe):
    keep(store, recipe, 0, 300)
    shutil.rmtree(store.cache / recipe.id)
    (store.cache / recipe.id).write_text("in the way")
    assert store.missing(recipe, [A], ids_of(0, 300)).all()
    with pytest.raises(ExtractError, match="can't write to the cache"):
        keep(store, recipe, 0, 300)


def test_with_a_file_in_the_place_of_the_index_the_ids_are_in_memory(store, recipe):
    (store.cache / recipe.id).mkdir(parents=True)
    (store.cache / recipe.id / "index").write_text("in the way")
    keep(store, recipe, 0, 300)
    assert holds(store, recipe, 300)
    another_process()
    assert holds(store, recipe, 300)


def test_who_must_not_write_writes_no_index(store, recipe):
    keep(store, recipe, 0, 300)
    reader = ReadOnlyStore(store.cache)
    assert holds(reader, recipe, 300)
    assert index_of(store, recipe) == []
    assert holds(store, recipe, 300)
    assert len(index_of(store, recipe)) == 1


def test_where_no_index_can_be_written_the_ids_are_in_memory(store, recipe, monkeypatch):
    keep(store, recipe, 0, 300)
    tries = []

    def full(*args):
        tries.append(args)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_store, "update_index", full)
    for _ in range(3):
        assert holds(store, recipe, 300)
    assert len(tries) == 1
    another_process()


def test_two_that_make_the_index_at_once_do_no_harm(store, recipe, monkeypatch):
    keep(store, recipe, 0, 300)
    write, others = id_index.write_sorted_ids, []

    def slower(*args):
        monkeypatch.setattr(id_index, "write_sorted_ids", write)
        another_process()
        others.append(holds(FeatureStore(store.cache), recipe, 300))
        return write(*args)

    monkeypatch.setattr(id_index, "write_sorted_ids", slower)
    assert holds(store, recipe, 300)
    assert others == [True]
    another_process()
    assert holds(store, recipe, 300)
    keep(store, recipe, 300, LOOSE)
    store.compact(recipe)
    assert holds(store, recipe, 400)


def test_what_is_in_a_cache_with_an_index(store, recipe):
    keep(store, recipe, 0, 150)
    keep(store, recipe, 100, 150)  # 50 of them again
    store.compact(recipe)
    store.missing(recipe, [A], ids_of(0, 1))
    keep(store, recipe, 250, 10)
    (one,) = cache_contents(store.cache).recipes
    assert (one.rows, one.n_parts, one.n_unreadable, one.taps) == (260, 3, 0, (str(A),))
    files = cache_files(store.cache)
    assert one.n_bytes == sum(file.n_bytes for file in files)
    assert sum(file.kind == Kind.INDEX for file in files) == 1
    assert verify_cache(store.cache).n_files == 5


def test_rows_are_counted_while_others_merge_the_index(store, recipe, monkeypatch):
    keep(store, recipe, 0, 300)
    assert holds(store, recipe, 300)
    (file,) = index_of(store, recipe)
    count = RowIndex.count

    def merged_first(index):
        file.unlink(missing_ok=True)
        return count(index)

    monkeypatch.setattr(RowIndex, "count", merged_first)
    (one,) = cache_contents(store.cache).recipes
    assert one.rows == 300


def test_a_damaged_index_is_seen_and_removed_by_upkeep(store, recipe):
    keep(store, recipe, 0, 300)
    assert holds(store, recipe, 300)
    (file,) = index_of(store, recipe)
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)
    (one,) = cache_contents(store.cache).recipes
    assert one.rows == 300
    (damage,) = verify_cache(store.cache, repair=True).damaged
    assert (damage.path, damage.repaired) == (file, "removed")
    assert verify_cache(store.cache).damaged == ()
    assert holds(store, recipe, 300)


def test_a_recipe_is_pruned_with_its_index(store, recipe):
    keep(store, recipe, 0, 300)
    assert holds(store, recipe, 300)
    for path in (store.cache / recipe.id).rglob("*"):
        os.utime(path, (0, 0))
    prune_cache(store.cache, older_than=3600)
    assert list(store.cache.iterdir()) == []
