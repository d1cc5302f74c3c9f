"""Exported features are plain HDF5."""

import h5py
import numpy as np
import pytest

from extract import export_features
from extract.errors import StoreError


def test_an_export_is_read_by_three_lines_of_h5py(tmp_path):
    rows = np.random.default_rng(2).normal(size=(40, 7)).astype(np.float32)
    classes = ["Katze", "犬"]
    labels = ["Katze", "犬"] * 20
    made = export_features(
        tmp_path / "new" / "out.h5",
        {"a:avg": rows},
        [f"p/ü {i}.png" for i in range(40)],
        labels,
        classes,
    )
    f = h5py.File(made)
    X = f["features/a:avg"][:]
    y = f["labels"].asstr()[:]
    assert np.array_equal(X, rows)
    assert y.tolist() == labels
    assert f["paths"].asstr()[39] == "p/ü 39.png"
    assert f["classes"].asstr()[:].tolist() == classes
    assert "split" not in f
    f.close()


def test_what_h5py_would_write_is_what_is_written(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 8))
    columns = {
        "net/a:avg": rows.astype(np.float32),
        "turned": rows.astype(np.float16).T[::2],
        "none": rows[:0],
        "bytes": (rows * 9).astype(np.uint8),
    }
    with h5py.File(export_features(tmp_path / "out.h5", columns, list("ab"))) as file:
        for name, values in columns.items():
            assert file[f"features/{name}"].dtype == values.dtype
            assert np.array_equal(file[f"features/{name}"][:], values)


def test_a_full_disk_leaves_the_export_of_before_and_nothing_else(tmp_path, monkeypatch):
    file = export_features(tmp_path / "out.h5", {"a:avg": np.eye(3)}, list("abc"))
    before = file.read_bytes()

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("extract.files.sync_file", full)
    with pytest.raises(StoreError, match=r"can't write .*out.h5: No space left on device; make"):
        export_features(file, {"a:avg": np.eye(2)}, list("ab"))
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
