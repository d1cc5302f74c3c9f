"""The store without a disk keeps rows as the one on disk does."""

import numpy as np
import pytest

from extract import FeatureStore, MemoryStore, Tap

A, B = Tap("a", "avg"), Tap("b", "max")


@pytest.fixture
def ids():
    return np.random.default_rng(1).integers(0, 256, (6, 16), np.uint8)


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else FeatureStore(tmp_path)


def test_rows_come_back_in_the_order_asked(store, ids, recipe):
    a, b = np.arange(24, dtype=np.float32).reshape(6, 4), np.ones((6, 2), np.float32)
    with store.writer(recipe) as writer:
        writer.add(ids, {A: a, B: b})
    order = [5, 0, 0, 3]
    assert np.array_equal(store.read(recipe, [B, A], ids[order]), np.hstack([b, a])[order])
    assert store.read(recipe, [A], ids).dtype == np.float32


def test_missing_says_which_rows_lack_which_tap(store, ids, recipe):
    with store.writer(recipe) as writer:
        writer.add(ids[:2], {A: np.zeros((2, 4), np.float32)})
    expected = [[False, True]] * 2 + [[True, True]] * 4
    assert store.missing(recipe, [A, B], ids).tolist() == expected
    assert store.missing(recipe, [A, B], ids[:0]).shape == (0, 2)


def test_rows_pass_through_the_stored_type(store, ids, recipe):
    rows = np.full((6, 3), 1 / 3, np.float32)
    with store.writer(recipe, np.float16) as writer:
        writer.add(ids, {A: rows})
    assert np.array_equal(store.read(recipe, [A], ids), rows.astype(np.float16).astype(np.float32))


def test_a_row_that_is_not_kept_is_a_key_error(store, ids, recipe):
    with store.writer(recipe) as writer:
        writer.add(ids[:5], {A: np.zeros((5, 4), np.float32)})
    with pytest.raises(KeyError):
        store.read(recipe, [A], ids)
