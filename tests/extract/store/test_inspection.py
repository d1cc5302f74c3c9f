"""A cache's contents are told as they are, and nothing in it is changed."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from extract import FeatureStore, Recipe, Tap, cache_contents, extract, load_backbone
from extract.recipe import SCHEMA
from extract.store import ids
from tests.extract.store.tuned_files import write_tuned_files

A, B = Tap("first", "avg"), Tap("last", "grid3")


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


def keep(store, recipe, n, *taps, start=0):
    keys = np.arange(start * 16, (start + n) * 16, dtype=np.uint8).reshape(n, 16)
    with store.writer(recipe) as writer:
        writer.add(keys, {tap: np.ones((n, 5), np.float32) for tap in taps})


def test_rows_taps_parts_and_bytes_of_each_recipe(store, recipe):
    other = replace(recipe, view="flipped")
    keep(store, recipe, 4, A, B)
    keep(store, recipe, 4, A, start=2)  # two of them again
    keep(store, other, 1, B)
    contents = cache_contents(store.cache)
    found = {one.id: one for one in contents.recipes}
    assert found[recipe.id].recipe == recipe
    assert (found[recipe.id].taps, found[recipe.id].rows) == (("first:avg", "last:grid3"), 6)
    assert (found[recipe.id].n_parts, found[recipe.id].n_unreadable) == (2, 0)
    assert (found[other.id].taps, found[other.id].rows) == (("last:grid3",), 1)
    files = [path for path in store.cache.rglob("*") if path.is_file()]
    assert contents.n_bytes == sum(path.stat().st_size for path in files)


def test_nothing_kept_is_no_error(tmp_path):
    assert cache_contents(tmp_path / "none").recipes == ()


def test_a_backbone_is_named_as_it_was_asked_for(store, photos, monkeypatch):
    monkeypatch.setattr(ids, "SETTLED_SECONDS", -60.0)
    backbone = load_backbone("pixels", cache=store.cache)
    done = extract(photos, [Tap("pixels", "avg")], backbone, store)
    contents = cache_contents(store.cache)
    (one,) = [one for one in contents.recipes if one.id == done.recipe.id]
    assert (one.name, one.weights, one.size) == ("pixels", "none", "32x32")
    assert (one.rows, one.taps) == (12, ("pixels:avg",))
    assert contents.others["ids"][0] == 1
    assert contents.others["card"][0] == 1


def test_tuned_networks_and_unfinished_trainings_are_counted(store):
    sizes = {
        path.suffix: path.stat().st_size for path in write_tuned_files(store.cache).parent.iterdir()
    }
    assert cache_contents(store.cache).others == {
        "tuned network": (1, sizes[".safetensors"]),
        "history": (1, sizes[".json"]),
        "unfinished training": (1, sizes[".checkpoint"]),
    }


def test_the_last_used_stands_first(store, recipe):
    recipes = [replace(recipe, view=view) for view in ("plain", "flipped", "plain+flipped")]
    for i, one in enumerate(recipes):
        keep(store, one, 1, A)
        for path in (store.cache / one.id).rglob("*"):
            os.utime(path, (1000 + i, 1000 + i))
    found = cache_contents(store.cache).recipes
    assert [one.id for one in found] == [one.id for one in recipes[::-1]]
    assert [one.last_use for one in found] == [1002, 1001, 1000]
    store.missing(recipes[0], [A], np.zeros((1, 16), np.uint8))
    assert cache_contents(store.cache).recipes[0].id == recipes[0].id


def test_a_use_is_noted_once_an_hour(store, recipe):
    keep(store, recipe, 1, A)
    file = store.cache / recipe.id / "recipe.json"
    stamps = []
    for ago in (60, 7200):
        stamp = file.stat().st_ctime - ago
        os.utime(file, (stamp, stamp))
        store.missing(recipe, [A], np.zeros((1, 16), np.uint8))
        stamps.append(file.stat().st_mtime > stamp)
    assert stamps == [False, True]


def test_a_damaged_part_is_counted_and_left_where_it_is(store, recipe):
    keep(store, recipe, 4, A)
    keep(store, recipe, 4, A, start=4)
    part = next((store.cache / recipe.id / "parts").iterdir())
    os.truncate(part, 100)
    (one,) = cache_contents(store.cache).recipes
    assert (one.rows, one.n_parts, one.n_unreadable) == (4, 2, 1)
    assert part.exists()


def test_a_recipe_that_can_not_be_read_is_listed_all_the_same(store, recipe):
    keep(store, recipe, 4, A)
    (store.cache / recipe.id / "recipe.json").write_text("{}")
    (one,) = cache_contents(store.cache).recipes
    assert (one.recipe, one.rows) == (None, 4)
    assert "gone or damaged" in one.problem


@pytest.mark.parametrize("more", [{}, {"unheard": "of"}])
def test_a_store_of_another_schema_is_named_in_a_sentence(store, recipe, more):
    import hashlib

    text = json.dumps(json.loads(Recipe("n", "w", "p", "float32", schema=1).to_json()) | more)
    name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    (store.cache / name / "parts").mkdir(parents=True)
    (store.cache / name / "recipe.json").write_text(text)
    (store.cache / name / "parts" / "1.h5").write_bytes(b"\x89HDF\r\n\x1a\n of an older version")
    (one,) = cache_contents(store.cache).recipes
    assert (one.rows, one.n_parts, one.n_unreadable) == (0, 1, 0)
    assert f"of schema 1, and this version reads {SCHEMA}" == one.problem
