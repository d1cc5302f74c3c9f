"""Features as a Parquet table: what was written comes back, and nothing is left half written."""

import builtins
import json

import numpy as np
import pytest

from extract import ExtractError
from extract.errors import StoreError
from extract.store import parquet
from extract.store.parquet import export_parquet

pyarrow = pytest.importorskip("pyarrow.parquet", reason="NO PYARROW: pip install '.[parquet]'")

PATHS = ["a.jpg", "b/c.jpg", "caf\udce9.jpg", "d.jpg", "e.jpg"]


def features():
    rng = np.random.default_rng(0)
    return {
        "last:avg": rng.normal(size=(5, 3)).astype(np.float32),
        "first:map": rng.normal(size=(5, 2, 2, 3)).astype(np.float16),
    }


@pytest.mark.parametrize("group_bytes", [1, 100, 1 << 26])
def test_what_was_written_comes_back(tmp_path, monkeypatch, group_bytes):
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", group_bytes)
    own, recipes = features(), {"last:avg": {"weights": "abc"}}
    labels, split = ["x", "y", "x", "y", "x"], ["train", "train", "test", "test", "train"]
    file = export_parquet(tmp_path / "f.parquet", own, PATHS, labels, split, recipes)
    table = pyarrow.read_table(file)
    assert table.column("path").to_pylist() == [*PATHS[:2], "caf\\udce9.jpg", *PATHS[3:]]
    assert table.column("label").to_pylist() == labels
    assert table.column("split").to_pylist() == split
    for name, values in own.items():
        found = np.array(table.column(name).to_pylist(), values.dtype)
        assert np.array_equal(found, values.reshape(5, -1))
    said = json.loads(table.schema.metadata[b"permafrost"])
    assert said == {"shapes": {"last:avg": [3], "first:map": [2, 2, 3]}, "recipes": recipes}
    assert [own.name for own in tmp_path.iterdir()] == ["f.parquet"]


def test_what_is_not_known_has_no_column(tmp_path):
    file = export_parquet(tmp_path / "f.parquet", features(), PATHS)
    assert pyarrow.read_table(file).column_names == ["path", "last:avg", "first:map"]


def test_an_earlier_file_stays_where_the_new_one_can_not_be_made(tmp_path):
    class Gone:
        shape, dtype = (5, 3), np.dtype(np.float32)

        def __getitem__(self, rows):
            raise OSError(5, "Input/output error")

    file = export_parquet(tmp_path / "f.parquet", features(), PATHS)
    before = file.read_bytes()
    with pytest.raises(StoreError, match="Input/output error; make room there or name another"):
        export_parquet(file, {"last:avg": Gone()}, PATHS)
    assert file.read_bytes() == before
    assert [own.name for own in tmp_path.iterdir()] == ["f.parquet"]


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ExtractError, match=r"permafrost\[parquet\]"):
        export_parquet(tmp_path / "f.parquet", features(), PATHS)
    assert not list(tmp_path.iterdir())
