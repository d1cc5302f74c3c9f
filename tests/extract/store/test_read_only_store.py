"""Tests of extract/store/read_only_store.py."""

import copy
import os

import numpy as np
import pytest

from extract import FeatureStore, ReadOnlyStore, Recipe, Tap
from extract.store import DamagedPart

TAP, OTHER = Tap("features.1", "avg"), Tap("features.2", "avg")
RECIPE = Recipe("net", "digest", "preprocessing", "float32")
IDS = np.arange(64, dtype=np.uint8).reshape(4, 16)


def rows(first):
    return np.arange(first, first + 6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def cache(tmp_path):
    """A store that holds the first two images, last used long ago."""
    store = FeatureStore(tmp_path / "cache")
    with store.writer(RECIPE) as writer:
        writer.add(IDS[:2], {TAP: rows(0)})
    for file in (tmp_path / "cache").rglob("*"):
        os.utime(file, (1e9, 1e9))
    return tmp_path / "cache"


def snapshot(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


def test_rows_of_the_disk_and_of_memory_in_the_order_asked_for(cache):
    before, store = snapshot(cache), ReadOnlyStore(cache)
    assert store.missing(RECIPE, [TAP], IDS).ravel().tolist() == [False, False, True, True]
    with store.writer(RECIPE) as writer:
        writer.add(IDS[2:], {TAP: rows(6)})
        writer.add(IDS[:2], {OTHER: rows(20)})
    assert not store.missing(RECIPE, [TAP], IDS).any()
    found = store.read(RECIPE, [TAP], IDS[[3, 0, 2, 1]])
    assert found[:, 0].tolist() == [9, 0, 6, 3]
    assert store.read(RECIPE, [TAP, OTHER], IDS[:2])[0].tolist() == [0, 1, 2, 20, 21, 22]
    assert snapshot(cache) == before


def test_what_neither_holds_is_missing(cache, tmp_path):
    with pytest.raises(DamagedPart):
        ReadOnlyStore(cache).read(RECIPE, [TAP], IDS)
    assert ReadOnlyStore(tmp_path / "none").missing(RECIPE, [TAP], IDS).all()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("at", [100, -100])
def test_a_damaged_part_stays_and_its_rows_are_missing(cache, at, caplog):
    (part,) = cache.rglob("*.h5")
    data = bytearray(part.read_bytes())
    data[at] ^= 0xFF
    part.write_bytes(data)
    before, store = snapshot(cache), ReadOnlyStore(cache)
    if not store.missing(RECIPE, [TAP], IDS[:2]).any():
        with pytest.raises(DamagedPart):
            store.read(RECIPE, [TAP], IDS[:2])
    assert store.missing(RECIPE, [TAP], IDS[:2]).all()
    assert snapshot(cache) == before


def test_a_copy_has_none_of_the_rows_in_memory(cache):
    store = ReadOnlyStore(cache)
    with store.writer(RECIPE) as writer:
        writer.add(IDS[2:], {TAP: rows(6)})
    missing = copy.deepcopy(store).missing(RECIPE, [TAP], IDS)
    assert missing.ravel().tolist() == [False, False, True, True]
