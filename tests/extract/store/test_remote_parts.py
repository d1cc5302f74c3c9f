"""A store at a URL: machines that keep rows there read each other's, whatever fails on the way."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from extract import ExtractError, FeatureStore, ReadOnlyStore, Tap
from extract.store import remote_parts, upkeep
from tests.buckets import CUT

TAP = Tap("features.1", "avg")


@pytest.fixture
def machine(bucket, tmp_path, monkeypatch):
    """machine("a") gives the store at the bucket as a machine with a mirror of its own has it."""
    monkeypatch.setattr(remote_parts, "ANEW_SECONDS", 0.0)
    monkeypatch.setattr("extract.store.feature_store.ANEW_SECONDS", 0.0)

    def store(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return FeatureStore(f"{bucket.url}/cache")

    return store


def keep(store, recipe, ids, rows, n=1):
    for some in np.array_split(np.arange(len(ids)), n):
        with store.writer(recipe) as writer:
            writer.add(ids[some], {TAP: rows[some]})


def at_bucket(bucket, recipe):
    return sorted(bucket.folder.glob(f"cache/{recipe.id}/parts/*"))


def in_mirror(store, recipe):
    return sorted(store.cache.glob(f"{recipe.id}/parts/*.h5"))


def names(paths):
    return [path.name for path in paths]


def has_all(store, recipe, ids, rows):
    return not store.missing(recipe, [TAP], ids).any() and np.array_equal(
        store.read(recipe, [TAP], ids), rows
    )


def test_what_one_machine_keeps_another_reads(machine, bucket, recipe, ids, rows):
    one, other = machine("one"), machine("other")
    keep(one, recipe, ids[:30], rows[:30], 3)
    assert other.missing(recipe, [TAP], ids)[:, 0].tolist() == [False] * 30 + [True] * 10
    keep(other, recipe, ids[30:], rows[30:])
    assert has_all(one, recipe, ids[::-1], rows[::-1])
    assert has_all(other, recipe, ids, rows)
    assert one.cache != other.cache
    assert names(in_mirror(one, recipe)) == names(at_bucket(bucket, recipe))


def test_what_is_at_the_url_is_a_store_where_it_is_copied_to(machine, bucket, recipe, ids, rows):
    keep(machine("one"), recipe, ids, rows, 2)
    copied = FeatureStore(bucket.folder / "cache")
    assert has_all(copied, recipe, ids, rows)
    assert (copied.cache / recipe.id / "recipe.json").read_text() == recipe.to_json()


def test_a_part_is_brought_once_and_listed_in_one_call(machine, bucket, recipe, ids, rows):
    keep(machine("one"), recipe, ids, rows, 3)
    other = machine("other")
    assert has_all(other, recipe, ids, rows)
    assert bucket.calls["get_file"] == 3 + 1  # and what the recipe is
    assert (other.cache / recipe.id / "recipe.json").read_text() == recipe.to_json()
    bucket.calls.clear()
    assert not other.missing(recipe, [TAP], ids).any()
    # a folder's own `ls` here asks for each of its entries; an object store's does not
    assert bucket.calls["ls"] == 1
    assert bucket.calls["get_file"] == bucket.calls["put_file"] == 0


def test_rows_that_were_found_are_read_without_a_look(machine, bucket, recipe, ids, rows):
    store = machine("one")
    keep(store, recipe, ids, rows)
    assert has_all(store, recipe, ids, rows)
    bucket.calls.clear()
    store.read(recipe, [TAP], ids)
    assert not bucket.calls


def test_a_part_that_can_t_be_taken_stays_and_is_taken_by_the_next_run(
    machine, bucket, recipe, ids, rows, caplog
):
    store = machine("one")
    bucket.fail("put_file", PermissionError("Forbidden"))
    keep(store, recipe, ids, rows)
    assert at_bucket(bucket, recipe) == []
    (line,) = caplog.messages
    assert f"is not at {store.url} yet (permission denied): the next run takes it there" in line
    assert has_all(machine("one"), recipe, ids, rows)
    assert names(at_bucket(bucket, recipe)) == names(in_mirror(store, recipe))
    assert has_all(machine("other"), recipe, ids, rows)


def test_a_part_that_was_cut_short_is_no_one_s_and_taken_once_more(
    machine, bucket, recipe, ids, rows, caplog
):
    store = machine("one")
    bucket.fail("put_file", CUT)
    keep(store, recipe, ids, rows)
    assert "bytes arrived" in caplog.messages[0]
    other = machine("other")
    assert other.missing(recipe, [TAP], ids).all()
    assert "is not as it was written" in caplog.messages[1]
    assert in_mirror(other, recipe) == []
    assert not store.missing(recipe, [TAP], ids).any()
    assert has_all(other, recipe, ids, rows)


def test_a_process_that_ends_before_it_took_a_part_leaves_it_to_the_next(
    machine, bucket, recipe, ids, rows
):
    store = machine("one")
    keep(FeatureStore(store.cache), recipe, ids, rows)  # as the mirror alone
    assert at_bucket(bucket, recipe) == []
    assert not store.missing(recipe, [TAP], ids).any()
    assert has_all(machine("other"), recipe, ids, rows)


def test_a_part_that_is_damaged_at_the_url_is_told_once_and_not_brought(
    machine, bucket, recipe, ids, rows, caplog
):
    keep(machine("one"), recipe, ids, rows, 2)
    part = at_bucket(bucket, recipe)[0]
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    other = machine("other")
    for _ in range(2):
        assert other.missing(recipe, [TAP], ids)[:, 0].sum() == 20
    assert len(caplog.messages) == 1
    keep(other, recipe, ids, rows)
    assert has_all(other, recipe, ids, rows)


def test_a_part_that_is_damaged_here_is_brought_again(machine, bucket, recipe, ids, rows):
    store = machine("one")
    keep(store, recipe, ids, rows)
    (part,) = in_mirror(store, recipe)
    part.write_bytes(part.read_bytes()[:-40])
    assert store.missing(recipe, [TAP], ids).all()  # it is set aside
    assert has_all(store, recipe, ids, rows)
    assert names(at_bucket(bucket, recipe)) == [part.name]


def test_joined_parts_take_the_place_of_the_small_ones_on_all_machines(
    machine, bucket, recipe, ids, rows
):
    one, other = machine("one"), machine("other")
    keep(one, recipe, ids, rows, upkeep.SMALL_PARTS + 2)
    assert has_all(other, recipe, ids, rows)
    assert one.compact(recipe) == upkeep.SMALL_PARTS + 2
    (joined,) = at_bucket(bucket, recipe)
    for store in (one, other, machine("third")):
        assert has_all(store, recipe, ids, rows)
        assert names(in_mirror(store, recipe)) == [joined.name]


def test_small_parts_that_can_t_be_removed_there_are_not_brought_again(
    machine, bucket, recipe, ids, rows
):
    store = machine("one")
    n = upkeep.SMALL_PARTS + 1
    keep(store, recipe, ids, rows, n)
    bucket.fail("rm_file", *[PermissionError("append only")] * n)
    store.compact(recipe)
    assert len(at_bucket(bucket, recipe)) == n + 1
    bucket.calls.clear()
    bucket.fail("rm_file", *[PermissionError("append only")] * n)
    assert has_all(store, recipe, ids, rows)
    assert bucket.calls["get_file"] == 0
    assert has_all(store, recipe, ids, rows)  # now they can be
    assert names(at_bucket(bucket, recipe)) == names(in_mirror(store, recipe))


def test_small_parts_stay_there_until_the_joined_one_is(machine, bucket, recipe, ids, rows):
    store = machine("one")
    n = upkeep.SMALL_PARTS + 1
    keep(store, recipe, ids, rows, n)
    bucket.fail("put_file", PermissionError("full"))
    store.compact(recipe)
    assert len(at_bucket(bucket, recipe)) == n
    assert has_all(machine("other"), recipe, ids, rows)
    assert not store.missing(recipe, [TAP], ids).any()
    assert len(at_bucket(bucket, recipe)) == 1


def test_small_parts_stay_there_while_half_of_the_joined_one_is(machine, bucket, recipe, ids, rows):
    store = machine("one")
    n = upkeep.SMALL_PARTS + 1
    keep(store, recipe, ids, rows, n)
    bucket.fail("put_file", CUT)
    store.compact(recipe)
    bucket.fail("put_file", PermissionError("full"))
    assert has_all(store, recipe, ids, rows)
    assert len(at_bucket(bucket, recipe)) == n + 1
    assert has_all(machine("other"), recipe, ids, rows)


def test_a_mirror_without_the_joined_part_brings_the_small_ones(machine, bucket, recipe, ids, rows):
    store = machine("one")
    keep(store, recipe, ids, rows, upkeep.SMALL_PARTS + 1)
    bucket.fail("put_file", PermissionError("full"))
    store.compact(recipe)
    (joined,) = in_mirror(store, recipe)
    joined.unlink()
    assert has_all(store, recipe, ids, rows)


def test_parts_that_somebody_removed_at_the_url_are_kept_here_and_not_put_back(
    machine, bucket, recipe, ids, rows
):
    store = machine("one")
    keep(store, recipe, ids, rows, 2)
    assert has_all(store, recipe, ids, rows)
    for part in at_bucket(bucket, recipe):
        part.unlink()
    assert has_all(store, recipe, ids, rows)
    assert at_bucket(bucket, recipe) == []


def test_a_part_that_is_joined_while_it_is_brought_is_looked_for_anew(
    machine, bucket, recipe, ids, rows
):
    keep(machine("one"), recipe, ids, rows, 2)
    bucket.fail("get_file", FileNotFoundError("gone"))
    assert has_all(machine("other"), recipe, ids, rows)


@pytest.mark.parametrize(
    ("method", "error", "words"),
    [
        ("ls", ConnectionRefusedError(), "the connection was refused"),
        ("ls", PermissionError("no"), "permission denied"),
        ("get_file", TimeoutError(), "no answer in time"),
    ],
)
def test_a_url_that_can_t_be_read_is_one_line(
    machine, bucket, recipe, ids, rows, method, error, words
):
    keep(machine("one"), recipe, ids, rows)
    store = machine("other")
    bucket.fail(method, *[error] * 3)
    with pytest.raises(ExtractError) as raised:
        store.missing(recipe, [TAP], ids)
    assert str(raised.value) == (
        f'can\'t read the cache {store.url}: {words}; choose another with cache="DIR"'
    )
    bucket.fail(method)
    assert has_all(store, recipe, ids, rows)


def test_offline_a_store_elsewhere_is_refused(machine, bucket, recipe, ids, monkeypatch):
    store = machine("one")
    monkeypatch.setenv("PERMAFROST_OFFLINE", "1")
    with pytest.raises(ExtractError, match="nothing may be downloaded"):
        store.missing(recipe, [TAP], ids)


def test_who_only_reads_reads_the_mirror_and_asks_nothing(machine, bucket, recipe, ids, rows):
    store = machine("one")
    keep(store, recipe, ids, rows)
    bucket.calls.clear()
    assert has_all(ReadOnlyStore(store.url), recipe, ids, rows)
    assert not bucket.calls


def test_a_store_is_pickled_by_its_name(machine, recipe, ids, rows):
    store = machine("one")
    keep(store, recipe, ids, rows)
    again = pickle.loads(pickle.dumps(store))
    assert len(pickle.dumps(store)) < 1000
    assert (again.url, again.cache) == (store.url, store.cache)
    assert has_all(again, recipe, ids, rows)


def test_a_url_of_this_machine_is_a_folder(tmp_path):
    store = FeatureStore(f"file://{tmp_path}/cache")
    assert (store.url, store.cache) == (None, tmp_path / "cache")


def test_mirrors_of_two_urls_are_two(tmp_path):
    urls = ["s3://bucket/a", "s3://bucket/a-", "gs://bucket/a"]
    assert len({remote_parts.mirror_of(url, tmp_path) for url in urls}) == 3


KEEPS = """
import sys
import numpy as np
from extract import FeatureStore, Recipe, Tap
from tests.buckets import register

register()
url, first = sys.argv[1], int(sys.argv[2])
ids = np.arange(first * 16, (first + 10) * 16, dtype=np.int64).astype(np.uint8).reshape(10, 16)
recipe = Recipe("net", "digest", "preprocessing", "float32")
with FeatureStore(url).writer(recipe) as writer:
    writer.add(ids, {Tap("features.1", "avg"): np.full((10, 3), first, np.float32)})
"""


def test_processes_of_two_machines_keep_at_once(machine, bucket, tmp_path):
    from extract import Recipe

    def started(name, first):
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / name)}
        arguments = [sys.executable, "-c", KEEPS, f"{bucket.url}/cache", str(first)]
        return subprocess.Popen(arguments, env=environment, cwd=os.getcwd())

    for process in [started("one", 0), started("other", 5)]:
        assert process.wait() == 0
    recipe = Recipe("net", "digest", "preprocessing", "float32")
    ids = (np.arange(15 * 16) % 256).astype(np.uint8).reshape(15, 16)
    read = machine("third").read(recipe, [TAP], ids)
    assert read[:5].tolist() == [[0.0] * 3] * 5
    assert read[10:].tolist() == [[5.0] * 3] * 5
