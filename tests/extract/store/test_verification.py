"""A look at every byte finds all damage, and a repair leaves none."""

import os
from dataclasses import replace

import numpy as np
import pytest

from extract import FeatureStore, Tap, extract, load_backbone, prune_cache, verify_cache
from extract.files import written_aside
from extract.store import ids
from tests.extract.store.tuned_files import write_tuned_files

DAMAGES = 60  # random ones; a benchmark can raise it
A, B = Tap("first", "avg"), Tap("last", "grid3")


@pytest.fixture
def cache(tmp_path, photos, recipe, monkeypatch):
    """A cache of parts of two recipes and several sizes, recipe.json, ids, a card, what tuning
    leaves."""
    monkeypatch.setattr(ids, "SETTLED_SECONDS", -60.0)
    store = FeatureStore(tmp_path / "cache")
    extract(photos, [Tap("pixels", "avg")], load_backbone("pixels", cache=store.cache), store)
    write_tuned_files(store.cache)
    rng = np.random.default_rng(0)
    for one, n in ((recipe, 1), (recipe, 700), (replace(recipe, view="flipped"), 30)):
        with store.writer(one, provenance={"engine": "torch"}) as writer:
            keys = rng.integers(0, 256, (n, 16), np.uint8)
            writer.add(keys, {A: rng.normal(size=(n, 300)), B: rng.normal(size=(n, 7))})
    return store.cache


def files_of(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file())


def flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def truncate(path, rng):
    os.truncate(path, rng.integers(path.stat().st_size))


def swap_inside(path, rng):
    """Two stretches of bytes that differ change places."""
    data = path.read_bytes()
    size = min(64, len(data) // 3)
    first = rng.integers(len(data) - 2 * size)
    second = rng.integers(first + size, len(data) - size + 1)
    pieces = [data[first : first + size], data[second : second + size]]
    if pieces[0] == pieces[1]:
        return flip(path, rng)
    middle = data[first + size : second]
    path.write_bytes(data[:first] + pieces[1] + middle + pieces[0] + data[second + size :])
    return None


def test_what_was_written_is_whole(cache):
    told = []
    found = verify_cache(cache, on_progress=lambda done, total: told.append((done, total)))
    files = files_of(cache)
    assert (found.damaged, found.strangers, found.unread) == ((), (), ())
    assert found.n_files == len(files) == len(told)
    total = sum(path.stat().st_size for path in files)
    assert told[-1] == (total, total) == (found.n_bytes, total)


def test_each_flip_cut_and_swap_is_found(cache):
    """In rows, ids, what HDF5 wrote between them, descriptions, recipes, id memories, cards,
    tuned networks, their histories, unfinished trainings."""
    rng, files = np.random.default_rng(0), files_of(cache)
    whole = {path: path.read_bytes() for path in files}
    unnoticed = []
    for i in range(DAMAGES):
        path, damage = files[i % len(files)], (flip, truncate, swap_inside)[i // len(files) % 3]
        damage(path, rng)
        if [one.path for one in verify_cache(cache).damaged] != [path]:
            unnoticed.append((path, damage.__name__))
        path.write_bytes(whole[path])
    assert unnoticed == []
    assert verify_cache(cache).whole


def test_swapped_files_are_found(cache):
    files = {
        suffix: [p for p in files_of(cache) if p.match(suffix)] for suffix in ("*.h5", "*.json")
    }
    for one, two in (files["*.h5"][::2][:2], files["*.json"][:2], files["*.json"][-2:]):
        assert one.parent != two.parent
        data = one.read_bytes(), two.read_bytes()
        one.write_bytes(data[1]), two.write_bytes(data[0])
        assert {damage.path for damage in verify_cache(cache).damaged} == {one, two}
        one.write_bytes(data[0]), two.write_bytes(data[1])


NAMES = [
    "*.h5",
    "*/recipe.json",
    "ids/*.json",
    "backbones/*.json",
    "tuned/*.safetensors",
    "tuned/*.json",
    "tuned/*.checkpoint",
]


@pytest.mark.parametrize("suffix", NAMES)
@pytest.mark.parametrize("damage", ["flip", "folder", "FIFO", "loop"])
def test_a_repair_leaves_no_damage(cache, suffix, damage, caplog):
    path = next(path for path in files_of(cache) if path.match(suffix))
    if damage == "flip":
        flip(path, np.random.default_rng(0))
    else:
        path.unlink()
        make = {"folder": os.mkdir, "FIFO": os.mkfifo, "loop": lambda p: os.symlink(p, p)}
        make[damage](path)
    found = verify_cache(cache)
    assert [one.path for one in found.damaged] == [path]
    assert not found.whole
    repaired = verify_cache(cache, repair=True)
    assert [one.path for one in repaired.damaged] == [path]
    assert repaired.whole
    assert not os.path.lexists(path)
    assert verify_cache(cache).damaged == ()
    assert caplog.text == ""


def test_a_part_of_another_recipe_is_found(cache, recipe):
    part = next((cache / recipe.id / "parts").iterdir())
    other = cache / replace(recipe, view="flipped").id / "parts" / part.name
    other.write_bytes(part.read_bytes())
    (damage,) = verify_cache(cache).damaged
    assert damage.path == other
    assert "another recipe" in damage.reason


def test_a_tuned_network_is_set_aside_and_what_can_be_begun_anew_is_removed(cache):
    for path in (cache / "tuned").iterdir():
        flip(path, np.random.default_rng(1))
    repaired = verify_cache(cache, repair=True)
    assert {one.path.suffix: one.repaired for one in repaired.damaged} == {
        ".safetensors": "set aside",
        ".json": "removed",
        ".checkpoint": "removed",
    }
    assert [path.suffix for path in (cache / "tuned").iterdir()] == [".damaged"]


def test_a_network_without_its_history_is_compared_with_its_own_digest(cache):
    (history,) = (cache / "tuned").glob("*.json")
    history.unlink()
    network = history.with_suffix(".safetensors")
    assert verify_cache(cache).whole
    data = bytearray(network.read_bytes())
    data[-1] ^= 1
    network.write_bytes(data)
    (damage,) = verify_cache(cache).damaged
    assert (damage.path, damage.reason) == (
        network,
        "it holds other tensors than were written into it",
    )


def test_what_can_not_be_repaired_is_still_damaged(cache, recipe, monkeypatch):
    part = next((cache / recipe.id / "parts").iterdir())
    os.truncate(part, 10)

    def read_only(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("extract.store.parts.os.replace", read_only)
    found = verify_cache(cache, repair=True)
    assert [one.repaired for one in found.damaged] == [""]
    assert not found.whole


def test_strangers_and_temporary_files_are_no_damage(cache, recipe):
    (cache / "thesis.txt").touch()
    part = next((cache / recipe.id / "parts").iterdir())
    with written_aside(part.with_name("1.h5")) as aside:
        aside.write_bytes(b"half")
        found = verify_cache(cache, repair=True)
        assert aside.exists()
        aside.write_bytes(part.read_bytes())
    assert found.damaged == ()
    assert found.strangers == (cache / "thesis.txt",)


def test_a_file_that_goes_meanwhile_is_no_damage(cache):
    files = files_of(cache)
    gone = []

    def remove(done, total):
        if not gone:
            gone.extend(files)
            for path in files:
                path.unlink()

    assert verify_cache(cache, on_progress=remove).damaged == ()
    assert gone


def test_a_store_of_another_schema_is_left_alone(cache, recipe):
    import hashlib

    text = replace(recipe, schema=1).to_json()
    name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    (cache / name / "parts").mkdir(parents=True)
    (cache / name / "recipe.json").write_text(text)
    part = cache / name / "parts" / "1.h5"
    part.write_bytes(b"\x89HDF\r\n\x1a\n of an older version")
    found = verify_cache(cache, repair=True)
    assert (found.damaged, found.unread) == ((), (cache / name,))
    assert part.exists()


def test_a_repaired_recipe_was_used_when_it_was(cache, recipe):
    """The note of its last use went with its recipe.json, and a prune took its features."""
    folder = cache / recipe.id
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))
    (folder / "recipe.json").write_text("{}")
    assert verify_cache(cache, repair=True).whole
    assert prune_cache(cache, older_than=24 * 3600.0).removed == ()
    assert len(list((folder / "parts").glob("*.h5"))) == 2
