"""Whatever bit of a cache is flipped, cut off or swapped: it is found, and gives no wrong row."""

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract import ExtractError, FeatureStore, Tap, load_backbone, verify_cache
from extract.backbones import names
from extract.backbones.card import read_card
from extract.store import DamagedPart, feature_store, id_index
from extract.store import ids as ids_file
from extract.store.ids import image_ids
from extract.store.row_index import row_index

TIMES = 250
A, B = Tap("features.1", "avg"), Tap("features.2", "max")


class Cache:
    """A cache of two recipes, ids of two folders and two cards, and what is right of it."""

    def __init__(self, folder, recipe, photos):
        rng = np.random.default_rng(0)
        self.folder, self.photos = folder, photos
        self.recipes = (recipe, replace(recipe, weights="others"))
        self.ids = rng.integers(0, 256, (60, 16), np.uint8)
        self.rows = {
            (one, tap): rng.normal(size=(60, 9)).astype(np.float32)
            for one in self.recipes
            for tap in (A, B)
        }
        for one in self.recipes:
            for some in np.array_split(np.arange(60), 2):
                self.keep(one, some)
            FeatureStore(folder).missing(one, [A], self.ids)  # writes an index of the ids
        self.image_ids = image_ids(photos, folder / "ids")[0]
        for name in ("pixels", "histogram"):
            _ = load_backbone(name, cache=folder).card
        self.cards = {path: read_card(path) for path in (folder / "backbones").iterdir()}
        self.files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def keep(self, recipe, some):
        with FeatureStore(self.folder).writer(recipe) as writer:
            writer.add(self.ids[some], {tap: self.rows[recipe, tap][some] for tap in (A, B)})

    def restore(self):
        for path in [path for path in self.folder.rglob("*") if path not in self.files]:
            if path.is_file():
                path.unlink()
        for path, data in self.files.items():
            path.write_bytes(data)

    def is_right(self):
        """Read everything as a run in a new process does; a missing row is computed again."""
        feature_store._known.cache_clear()
        row_index.cache_clear()
        store = FeatureStore(self.folder)
        for one in self.recipes:
            for tap in (A, B):
                assert np.array_equal(self.read(store, one, tap), self.rows[one, tap])
        assert np.array_equal(image_ids(self.photos, self.folder / "ids")[0], self.image_ids)
        for path, card in self.cards.items():
            assert read_card(path) in (None, card)
        for one in self.recipes:
            assert (self.folder / one.id / "recipe.json").read_text() == one.to_json()

    def read(self, store, recipe, tap):
        store.prepare(recipe)
        for _ in range(5):
            try:
                return store.read(recipe, [tap], self.ids)
            except DamagedPart:
                missing = store.missing(recipe, [A, B], self.ids).any(axis=1)
                self.keep(recipe, np.flatnonzero(missing))
        raise AssertionError("damaged again and again")


def flip_a_bit(rng, path, other):
    data = bytearray(path.read_bytes())
    at = rng.randrange(8 * len(data))
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)


def cut(rng, path, other):
    os.truncate(path, rng.randrange(path.stat().st_size))


def swap(rng, path, other):
    aside = path.with_suffix(".aside")
    shutil.move(path, aside)
    shutil.move(other, path)
    shutil.move(aside, other)


def zero_a_block(rng, path, other):
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    data[at : at + 512] = bytes(len(data[at : at + 512]))
    path.write_bytes(data)


@pytest.mark.slow
def test_damage_is_found_and_gives_no_wrong_row_id_or_card(tmp_path, recipe, photos, monkeypatch):
    monkeypatch.setattr(id_index, "LOOSE_ROWS", 50)
    monkeypatch.setattr(ids_file, "SETTLED_SECONDS", -1e9)
    monkeypatch.setattr(names, "_shared", type(names._shared)())
    cache = Cache(tmp_path / "cache", recipe, photos)
    assert len(cache.cards) >= 2
    assert sum(path.suffix == ".index" for path in cache.files) == 2
    rng = random.Random(0)
    by_kind: dict[str, list[Path]] = {}
    for path in sorted(cache.files):
        by_kind.setdefault(path.parent.name if path.suffix != ".h5" else "part", []).append(path)
    for _ in range(TIMES):
        path, other = (rng.choice(rng.choice(list(by_kind.values()))) for _ in range(2))
        damage = rng.choice([flip_a_bit, flip_a_bit, cut, swap, zero_a_block])
        if damage is swap and path == other:
            continue
        damage(rng, path, other)
        if damage is not swap and path.read_bytes() != cache.files[path]:
            assert [found.path for found in verify_cache(cache.folder).damaged] == [path]
        try:
            cache.is_right()
        except (AssertionError, ExtractError) as error:
            raise AssertionError(f"{damage.__name__} of {path} and {other}") from error
        cache.restore()
    cache.is_right()
