"""Tests of pipelines/bundle/reference_files.py: training images come back, or are refused."""

import json

import numpy as np
import pytest

from pipelines import BundleError
from pipelines.bundle.files import describe_files
from pipelines.bundle.reference_files import (
    AXES,
    IDS,
    JUDGED,
    NAMES,
    REFERENCE_FILES,
    ROWS,
    read_reference,
    write_reference,
)
from pipelines.exploration.reference import Names, fit_reference


@pytest.fixture
def reference():
    features = np.abs(np.random.default_rng(0).normal(1, 1, (30, 12))).astype(np.float32)
    folds = [(np.flatnonzero(np.arange(30) % 2 != i), np.arange(i, 30, 2)) for i in (0, 1)]
    paths = np.array([f"caf\udce9 {i}\n.jpg" for i in range(30)], object)
    ids = np.arange(480, dtype=np.uint16).astype(np.uint8).reshape(30, 16)
    return fit_reference(features, folds, Names(paths, np.full(30, "é", object), ids), start=3)


def kept(reference, folder):
    return {"reference": write_reference(reference, folder), "files": describe_files(folder)}


def test_it_comes_back_to_the_bit(reference, tmp_path):
    loaded = read_reference(tmp_path, kept(reference, tmp_path))
    assert {file.name for file in tmp_path.iterdir()} == REFERENCE_FILES
    features = np.random.default_rng(1).normal(1, 1, (9, 20)).astype(np.float32)
    np.testing.assert_array_equal(loaded.familiarity(features), reference.familiarity(features))
    for own, other in zip(loaded.nearest(features), reference.nearest(features), strict=True):
        np.testing.assert_array_equal(own, other)
    for name in ("paths", "labels", "ids"):
        assert getattr(loaded.names, name).tolist() == getattr(reference.names, name).tolist()


def test_a_bundle_without_one_has_none(tmp_path):
    assert read_reference(tmp_path, {"files": {}}) is None


def names(paths, labels):
    return json.dumps({"paths": paths, "labels": labels}).encode()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (AXES, np.zeros((11, 12), np.float16), "expected 12 rows"),
        (AXES, np.full((12, 13), np.nan, np.float16), "no finite numbers"),
        (ROWS, np.zeros((30, 3), np.float16), "a row"),
        (ROWS, np.zeros((0, 12), np.float16), "a row"),
        (ROWS, np.zeros((30, 12), np.int64), "a row"),
        (JUDGED, np.arange(30, 0, -1, dtype=np.float32), "expected sorted distances"),
        (IDS, np.zeros((29, 16), np.uint8), "expected 30 ids"),
        (NAMES, names(["a"] * 29, ["b"] * 30), "no paths of 30 images"),
        (NAMES, names(["a"] * 30, [1] * 30), "labels that are no text"),
        (NAMES, b'{"paths": []}', "other names"),
        (NAMES, b"[" * 100_000, "can't read the training images"),
    ],
)
def test_what_no_run_writes_is_one_clear_line(reference, tmp_path, name, value, message):
    content = kept(reference, tmp_path)
    if isinstance(value, bytes):
        (tmp_path / name).write_bytes(value)
    else:
        np.save(tmp_path / name, value)
    content["files"] = describe_files(tmp_path)
    with pytest.raises(BundleError, match=message):
        read_reference(tmp_path, content)


@pytest.mark.parametrize("name", sorted(REFERENCE_FILES))
def test_a_flipped_bit_is_found(reference, tmp_path, name):
    content = kept(reference, tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BundleError, match="its checksum differs"):
        read_reference(tmp_path, content)
