"""What was not used for long goes, the longest unused first; what may be in use stays."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest

from extract import ExtractError, FeatureStore, Tap, files, prune_cache
from extract.files import _host
from extract.store import ids, pruning
from extract.store.ids import image_ids
from tests.extract.store.tuned_files import KEY, write_tuned_files

A = Tap("last", "avg")
DAY = 24 * 3600.0
ONE = np.zeros((1, 16), np.uint8)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


@pytest.fixture
def recipes(store, recipe):
    """Three recipes of 100 rows each, last used 100, 10 and 0 days ago."""
    made = [replace(recipe, weights=name) for name in ("old", "middle", "new")]
    for one, days in zip(made, (100, 10, 0), strict=True):
        with store.writer(one) as writer:
            keys = np.random.default_rng(0).integers(0, 256, (100, 16), np.uint8)
            writer.add(keys, {A: np.ones((100, 500), np.float32)})
        age(store.cache / one.id, days)
    return made


def age(folder, days):
    stamp = time.time() - days * DAY
    for path in folder.rglob("*"):
        os.utime(path, (stamp, stamp), follow_symlinks=False)


def left(store, recipes):
    return [one.weights for one in recipes if (store.cache / one.id).exists()]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["old", "middle", "new"]),
        ({"older_than": 30 * DAY}, ["middle", "new"]),
        ({"older_than": 5 * DAY}, ["new"]),
        ({"max_bytes": 1_000_000}, ["old", "middle", "new"]),
        ({"max_bytes": 500_000}, ["middle", "new"]),
        ({"max_bytes": 300_000}, ["new"]),
        ({"older_than": 30 * DAY, "max_bytes": 300_000}, ["new"]),
        # used of late: it stays whatever was asked for
        ({"older_than": 0.0}, ["new"]),
        ({"max_bytes": 0}, ["new"]),
    ],
)
def test_by_age_and_by_size_the_longest_unused_first(store, recipes, wanted, expected):
    planned = prune_cache(store.cache, **wanted, dry_run=True)
    assert left(store, recipes) == ["old", "middle", "new"]
    done = prune_cache(store.cache, **wanted)
    assert done == planned
    assert left(store, recipes) == expected
    gone = [one.id for one in recipes if one.weights not in expected]
    assert [one.path.name for one in done.removed] == gone
    files = [path for path in store.cache.rglob("*") if path.is_file()]
    assert done.bytes_left == sum(path.stat().st_size for path in files)
    assert done.n_in_use == (0.0 in wanted.values())


def test_a_reader_keeps_its_recipe(store, recipes):
    store.missing(recipes[0], [A], ONE)
    prune_cache(store.cache, older_than=5 * DAY)
    assert left(store, recipes) == ["old", "new"]


def test_a_recipe_that_is_written_to_stays(store, recipes):
    parts = store.cache / recipes[0].id / "parts"
    (parts / f".tmp-{_host()}-{os.getpid()}-01234567").touch()
    prune_cache(store.cache, older_than=5 * DAY)
    assert left(store, recipes) == ["old", "new"]


def test_a_use_after_the_first_look_keeps_a_recipe(store, recipes, monkeypatch):
    removables = pruning._removables

    def used_meanwhile(cache, now):
        yield from list(removables(cache, now))
        store.missing(recipes[0], [A], ONE)

    monkeypatch.setattr(pruning, "_removables", used_meanwhile)
    assert prune_cache(store.cache, older_than=5 * DAY).n_in_use == 1
    assert left(store, recipes) == ["old", "new"]


def test_what_nobody_reads_goes_in_any_case(store, recipes):
    parts = store.cache / recipes[2].id / "parts"
    abandoned = parts / f".tmp-{_host()}-99999999-01234567"
    other_machine = parts / ".tmp-0123456789ab-1-01234567"
    long_ago = parts / ".tmp-0123456789ab-1-76543210"
    for path in (abandoned, other_machine, long_ago, parts / "1.damaged"):
        path.write_bytes(b"1234")
    os.utime(long_ago, (1, 1))
    done = prune_cache(store.cache)
    assert {one.path for one in done.removed} == {abandoned, long_ago, parts / "1.damaged"}
    assert done.n_bytes == 12
    assert other_machine.exists()


def test_ids_and_cards_go_by_themselves(store, photos, monkeypatch):
    monkeypatch.setattr(ids, "SETTLED_SECONDS", -60.0)
    image_ids(photos, store.cache / "ids")
    (file,) = (store.cache / "ids").iterdir()
    assert prune_cache(store.cache, older_than=5 * DAY).removed == ()
    age(store.cache, 30)
    image_ids(photos[:1], store.cache / "ids")  # reading them is a use
    assert prune_cache(store.cache, older_than=5 * DAY).removed == ()
    age(store.cache, 30)
    (removed,) = prune_cache(store.cache, older_than=5 * DAY).removed
    assert (removed.path, removed.kind, file.exists()) == (file, "ids", False)


def test_a_tuned_network_goes_with_its_history(store):
    """Unfinished trainings go by themselves."""
    network = write_tuned_files(store.cache)
    other = write_tuned_files(store.cache, KEY[::-1])
    age(store.cache, 100)
    files.note_use(other.with_suffix(".json"))  # as where it is found again
    size = network.stat().st_size + network.with_suffix(".json").stat().st_size
    done = prune_cache(store.cache, older_than=5 * DAY)
    removed = {one.path: (one.kind, one.n_bytes) for one in done.removed}
    assert removed == {
        network: ("tuned network", size),
        network.with_suffix(".checkpoint"): ("unfinished training", 232),
        other.with_suffix(".checkpoint"): ("unfinished training", 232),
    }
    assert set((store.cache / "tuned").iterdir()) == {other, other.with_suffix(".json")}


def test_a_network_that_is_found_again_after_the_first_look_stays(store, monkeypatch):
    network = write_tuned_files(store.cache)
    network.with_suffix(".checkpoint").unlink()
    age(store.cache, 100)
    removables = pruning._removables

    def used_meanwhile(cache, now):
        yield from list(removables(cache, now))
        files.note_use(network.with_suffix(".json"))

    monkeypatch.setattr(pruning, "_removables", used_meanwhile)
    assert prune_cache(store.cache, older_than=5 * DAY).n_in_use == 1
    assert network.exists()


def test_the_history_of_a_network_that_is_gone_goes_too(store):
    network = write_tuned_files(store.cache)
    network.unlink()
    age(store.cache, 100)
    prune_cache(store.cache, older_than=5 * DAY)
    assert not list((store.cache / "tuned").iterdir())


def test_what_is_not_the_stores_stays(store, recipes):
    mine = [store.cache / "thesis.txt", store.cache / recipes[0].id / "notes.txt"]
    mine += [store.cache / recipes[0].id / "parts" / name for name in ("folder.h5", "a.png")]
    mine[2].mkdir()
    mine[2] = mine[2] / "photo.jpg"
    for path in mine:
        path.write_text("mine")
    age(store.cache, 100)
    prune_cache(store.cache, max_bytes=0, older_than=0)
    assert all(path.exists() for path in mine)
    assert not list((store.cache / recipes[0].id / "parts").glob("[0-9]*.h5"))


def test_links_are_removed_and_what_they_lead_to_is_not(store, recipes, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a.h5").touch()
    parts = store.cache / recipes[0].id / "parts"
    (parts / "1.h5").symlink_to(precious)
    (parts / "2.damaged").symlink_to(precious / "a.h5")
    (store.cache / ("0" * 32)).symlink_to(precious)
    age(store.cache, 100)
    prune_cache(store.cache, older_than=DAY)
    assert not parts.exists()
    assert (precious / "a.h5").exists()


def test_a_writer_whose_folder_goes_writes_its_part_all_the_same(store, recipe, monkeypatch):
    monkeypatch.setattr(pruning, "GRACE_SECONDS", -1.0)
    with store.writer(recipe) as writer:
        prune_cache(store.cache, max_bytes=0)
        assert not (store.cache / recipe.id).exists()
        writer.add(ONE, {A: np.ones((1, 3), np.float32)})
    assert store.read(recipe, [A], ONE).tolist() == [[1, 1, 1]]
    assert (store.cache / recipe.id / "recipe.json").exists()


def test_a_part_whose_folder_goes_while_it_is_written_is_written_anew(store, recipe, monkeypatch):
    import shutil

    removed, sync = [], files.sync_file

    def removing(path):
        sync(path)
        if len(removed) < 2:
            removed.append(path)
            shutil.rmtree(store.cache)

    monkeypatch.setattr(files, "sync_file", removing)
    with store.writer(recipe) as writer:
        writer.add(ONE, {A: np.ones((1, 3), np.float32)})
    assert len(removed) == 2
    assert store.read(recipe, [A], ONE).tolist() == [[1, 1, 1]]


def test_a_cache_that_can_not_be_changed_is_one_clear_line(store, recipes, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(type(store.cache), "unlink", refuse)
    with pytest.raises(ExtractError, match=r"can't write to the cache .*Operation not permitted"):
        prune_cache(store.cache, older_than=5 * DAY)
