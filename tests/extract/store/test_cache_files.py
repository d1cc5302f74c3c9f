"""Every file below a cache is found and named for what it is, and none is opened."""

import os

import numpy as np
import pytest

from extract import ExtractError, FeatureStore, Tap
from extract.files import written_aside
from extract.store.cache_files import Kind, cache_files

ODD = {
    "a folder": os.mkdir,
    "a FIFO": os.mkfifo,
    "a link that leads to no file": lambda path: os.symlink("nothing", path),
}


@pytest.fixture
def store(tmp_path, recipe):
    store = FeatureStore(tmp_path / "cache")
    with store.writer(recipe) as writer:
        writer.add(np.zeros((1, 16), np.uint8), {Tap("last", "avg"): np.ones((1, 3), np.float32)})
    return store


def kinds(cache):
    return {file.path.name: file.kind for file in cache_files(cache)}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert cache_files(tmp_path / "none") == []


def test_each_name_says_what_it_is(store, recipe):
    folder = store.cache / recipe.id
    (part,) = (folder / "parts").iterdir()
    ours = ("ids/a.json", "backbones/b.json", "page/vega.json")
    tuned = ("tuned/k.safetensors", "tuned/k.json", "tuned/k.checkpoint", "tuned/k.png")
    for name in (*ours, *tuned, "ids/c.damaged", "ids/note.txt", "photo.jpg"):
        (store.cache / name).parent.mkdir(exist_ok=True)
        (store.cache / name).touch()
    for name in ("parts/x.damaged", "parts/y.png", "z.h5"):
        (folder / name).touch()
    with written_aside(part) as aside:
        (aside).touch()
        assert kinds(store.cache) == {
            part.name: Kind.PART,
            aside.name: Kind.TEMPORARY,
            "recipe.json": Kind.RECIPE,
            "a.json": Kind.IDS,
            "b.json": Kind.CARD,
            "vega.json": Kind.SCRIPT,
            "k.safetensors": Kind.NETWORK,
            "k.json": Kind.HISTORY,
            "k.checkpoint": Kind.CHECKPOINT,
            "k.png": Kind.STRANGER,
            "c.damaged": Kind.SET_ASIDE,
            "x.damaged": Kind.SET_ASIDE,
            "note.txt": Kind.STRANGER,
            "photo.jpg": Kind.STRANGER,
            "y.png": Kind.STRANGER,
            "z.h5": Kind.STRANGER,
        }


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["parts/1.h5", "recipe.json", "../ids/1.json"])
def test_what_stands_in_the_place_of_a_file_is_said(store, recipe, odd, name):
    path = store.cache / recipe.id / name
    path.parent.resolve().mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    ODD[odd](path)
    assert [file.odd for file in cache_files(store.cache) if file.odd] == [odd]


def test_a_link_to_a_part_is_as_good_as_the_part(store, recipe, tmp_path):
    (part,) = (store.cache / recipe.id / "parts").iterdir()
    part.rename(tmp_path / "elsewhere.h5")
    part.symlink_to(tmp_path / "elsewhere.h5")
    assert not any(file.odd for file in cache_files(store.cache))


def test_a_folder_that_can_not_be_listed_is_one_clear_line(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(ExtractError, match="can't read the cache"):
        cache_files(tmp_path / "cache")
