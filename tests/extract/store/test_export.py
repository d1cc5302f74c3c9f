"""Exported features are plain HDF5."""

import h5py
import numpy as np

from extract import export_features


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
