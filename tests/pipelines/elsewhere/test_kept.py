"""Tests of pipelines/elsewhere/kept.py: embeddings come out of the store bit by bit."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from extract import (
    FeatureStore,
    MemoryStore,
    cache_contents,
    export_features,
    read_features,
    verify_cache,
)
from extract.store import DamagedPart
from pipelines import Embeddings, keep_embeddings, read_embeddings


def made(dtype=np.float32, array="features", n=6, shift=0.0):
    rows = np.random.default_rng(0).normal(size=(n, 4)) + shift
    values = rows.astype(dtype).astype(np.float32)
    names = tuple(f"{i}.jpg" for i in range(n))
    return Embeddings(values, names, None, "one.npz", array, np.dtype(dtype).name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_come_back_bit_by_bit_in_any_order(tmp_path, dtype):
    one = made(dtype)
    store = FeatureStore(tmp_path)
    assert keep_embeddings(one, store) == 6
    again = FeatureStore(tmp_path)
    back = read_features(again, one.recipe, [one.tap], one.ids[::-1])
    assert back.tobytes() == one.features[::-1].tobytes()
    assert verify_cache(tmp_path).damaged == ()
    (kept,) = cache_contents(tmp_path).recipes
    assert (kept.name, kept.rows, kept.taps) == ("elsewhere.one.npz", 6, ("features:given",))
    assert kept.recipe == one.recipe
    assert kept.problem == ""


def test_float16_takes_half_the_room(tmp_path):
    one = made(np.float16)
    keep_embeddings(one, FeatureStore(tmp_path))
    (part,) = (tmp_path / one.recipe.id / "parts").iterdir()
    with h5py.File(part) as file:
        assert file["taps/features:given"].dtype == np.float16
        assert dict(file.attrs)["source"] == "one.npz"


@pytest.mark.parametrize("factor", [1 / 3, 1e6])
def test_what_float16_does_not_hold_is_not_kept_as_such(factor):
    """A table says how its features came; they may have been changed since."""
    came, store = made(np.float16), MemoryStore()
    one = replace(came, features=came.features * factor)
    assert one.recipe.id != came.recipe.id
    keep_embeddings(one, store)
    back = read_features(store, one.recipe, [one.tap], one.ids)
    assert back.tobytes() == one.features.tobytes()


def test_what_is_kept_is_not_written_again(tmp_path, monkeypatch):
    """And of what a killed process kept a part of, the rest."""
    one, store = made(), FeatureStore(tmp_path)
    with store.writer(one.recipe) as writer:
        writer.add(one.ids[2:4], {one.tap: one.features[2:4]})
    monkeypatch.setattr("pipelines.elsewhere.kept.WAITING_BYTES", 32)
    assert keep_embeddings(one, store) == 4
    assert keep_embeddings(one, store) == 0
    assert np.array_equal(read_features(store, one.recipe, [one.tap], one.ids), one.features)


def test_other_values_or_names_are_of_another_recipe():
    one = made()
    renamed = replace(one, names=(*one.names[1:], "other.jpg"))
    assert len({one.recipe.id, made(shift=1).recipe.id, renamed.recipe.id, one[:5].recipe.id}) == 4
    assert one.recipe == made().recipe


def test_the_folder_of_a_store_will_do(tmp_path):
    one = made()
    assert keep_embeddings(one, str(tmp_path / "kept")) == 6
    assert keep_embeddings(one, FeatureStore(tmp_path / "kept")) == 0


def test_arrays_of_any_name_are_kept(tmp_path):
    """+ joins taps and : ends a layer, where they are written."""
    one = made(array="model/layer+2:out")
    store = FeatureStore(tmp_path)
    keep_embeddings(one, store)
    assert str(one.tap) == "model/layer&2.out:given"
    assert np.array_equal(read_features(store, one.recipe, [one.tap], one.ids), one.features)
    assert verify_cache(tmp_path).damaged == ()


def test_a_store_in_memory_keeps_them_too():
    one, store = made(np.float16), MemoryStore()
    keep_embeddings(one, store)
    assert np.array_equal(store.read(one.recipe, [one.tap], one.ids), one.features)


def test_an_export_is_read_back(tmp_path):
    one = made()
    export_features(tmp_path / "out.h5", {str(one.tap): one.features}, one.names)
    back = read_embeddings(tmp_path / "out.h5")
    assert np.array_equal(back.features, one.features)
    assert back.names == one.names


def test_what_was_damaged_is_told_and_written_again(tmp_path):
    one, store = made(), FeatureStore(tmp_path)
    keep_embeddings(one, store)
    (part,) = (tmp_path / one.recipe.id / "parts").iterdir()
    content = bytearray(part.read_bytes())
    content[content.index(one.features.tobytes())] ^= 1
    part.write_bytes(content)
    assert len(verify_cache(tmp_path).damaged) == 1
    with pytest.raises(DamagedPart):
        read_features(store, one.recipe, [one.tap], one.ids)
    assert keep_embeddings(one, store) == 6
    assert np.array_equal(read_features(store, one.recipe, [one.tap], one.ids), one.features)
