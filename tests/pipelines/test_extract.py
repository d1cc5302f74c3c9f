"""Tests of pipelines/extract.py."""

import json
import shutil

import h5py
import numpy as np
import pytest

from data import read_image_folder
from extract import FeatureExtractor
from pipelines.extract import main


@pytest.fixture
def call(small, tmp_path, capsys):
    """Call `pipelines.extract` -> (exit code, stdout, stderr)."""

    def extract(*arguments):
        options = [argument for argument in small if argument not in ("--cv", "3")]
        code = main([*map(str, arguments), *options, "--cache", str(tmp_path / "cache")])
        return code, *capsys.readouterr()

    return extract


def test_three_lines_of_h5py_read_what_was_exported(photos, tmp_path, call):
    code, out, err = call(
        photos, "--layers", "features.4", "--pooling", "avg,grid2", "--to", tmp_path / "f.h5"
    )
    assert code == 0, err
    assert "24 images, 2 taps: 24 computed" in out
    with h5py.File(tmp_path / "f.h5") as file:
        X, labels = file["features/features.4:grid2"][:], file["labels"].asstr()[:]
        paths, classes = file["paths"].asstr()[:], file["classes"].asstr()[:]
    samples = read_image_folder(photos)
    options = {
        "backbone": "mobilenet_v3_small",
        "weights": "random",
        "size": 32,
        "cache": tmp_path / "cache",
    }
    expected = FeatureExtractor(layer="features.4", pooling="grid2", **options).transform(
        samples.paths
    )
    assert np.array_equal(X, expected)
    assert labels.tolist() == samples.labels.tolist()
    assert paths.tolist() == list(samples.paths)
    assert classes.tolist() == ["cats", "dogs"]


def test_maps_are_exported_in_their_shape(photos, tmp_path, call, monkeypatch):
    monkeypatch.setattr("extract.store.export.BLOCK", 1)  # a row at a time
    layers = "features.1,features.4"
    code, _, err = call(photos, "--layers", layers, "--pooling", "map", "--to", tmp_path / "f.h5")
    assert code == 0, err
    with h5py.File(tmp_path / "f.h5") as file:
        X = file["features/features.4:map"][:]
        assert file["features/features.1:map"].shape == (24, 16, 8, 8)
    options = {"weights": "random", "size": 32, "cache": tmp_path / "cache"}
    extractor = FeatureExtractor("features.4", "map", "mobilenet_v3_small", **options)
    assert X.dtype == np.float16
    assert np.array_equal(X, extractor.transform(read_image_folder(photos).paths))


def test_labels_are_not_needed(photos, tmp_path, call):
    code, out, _ = call(
        photos / "cats", "--layers", "features.4", "--pooling", "avg", "--to", tmp_path / "f.h5"
    )
    assert code == 0
    assert "12 images" in out
    with h5py.File(tmp_path / "f.h5") as file:
        assert set(file) == {"features", "paths"}


def test_what_can_not_be_read_is_named(photos, call):
    (photos / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    code, out, err = call(photos, "--layers", "features.4", "--pooling", "avg")
    assert code == 0
    assert "broken.jpg" in err
    assert "24 images" in out


def test_a_second_call_computes_nothing(photos, call):
    call(photos, "--layers", "features.4", "--pooling", "avg")
    assert (
        "0 computed, 24 from the store"
        in call(photos, "--layers", "features.4", "--pooling", "avg")[1]
    )


def test_every_readable_image_is_exported_copies_too(photos, tmp_path, call):
    (photos / "cats" / "copy.png").write_bytes((photos / "dogs" / "0.png").read_bytes())
    _, out, _ = call(
        photos, "--layers", "features.4", "--pooling", "avg", "--to", tmp_path / "f.h5"
    )
    assert "25 images" in out
    with h5py.File(tmp_path / "f.h5") as file:
        paths = file["paths"].asstr()[:].tolist()
        X = file["features/features.4:avg"][:]
    rows = [
        paths.index(str(photos / "cats" / "copy.png")),
        paths.index(str(photos / "dogs" / "0.png")),
    ]
    assert np.array_equal(X[rows[0]], X[rows[1]])


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        ("nowhere", [], "nowhere"),
        ("photos", ["--layers", "features.44"], "did you mean"),
        ("photos", ["--layers", ""], "expected auto, all, or names"),
        ("photos", ["--to", "folder.h5"], "it is a folder"),
        ("photos", ["--to", "x.csv"], "--to x.csv: what is written is HDF5 or Parquet; expected"),
        ("photos", ["--to", "."], "--to .: what is written is HDF5"),
        ("photos", ["--to", "photos/cats/0.png/f.h5"], "choose another file with --to"),
    ],
)
def test_wrong_calls_give_one_line_and_exit_2(
    photos, call, images, arguments, message, monkeypatch
):
    monkeypatch.chdir(photos.parent)
    (photos.parent / "folder.h5").mkdir()
    code, _, err = call(photos if images == "photos" else images, *arguments)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert message in err


def test_a_disk_that_fills_up_ends_in_one_line_and_what_is_kept_stays(
    photos, tmp_path, call, monkeypatch
):
    """HDF5's own text came out, with the exit code of a wrong call."""
    taps = ("--layers", "features.4", "--pooling", "avg")

    def full(path):
        if path.parent.name == "parts" or path.parent == tmp_path:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("extract.files.sync_file", full)
        code, _, err = call(photos, *taps)
        assert code == 1
        said = err.splitlines()[-1]
        assert said.startswith(f"error: can't write to the cache {tmp_path / 'cache'}: No space")
        assert said.endswith("make room there and run again, or choose another with --cache DIR")
    assert not list(tmp_path.rglob(".tmp-*"))
    code, out, _ = call(photos, *taps)
    assert (code, "24 computed" in out) == (0, True)
    with monkeypatch.context() as patched:
        patched.setattr("extract.files.sync_file", full)
        code, _, err = call(photos, *taps, "--to", tmp_path / "f.h5")
        assert code == 1
        assert err.splitlines()[-1].startswith(f"error: can't write {tmp_path / 'f.h5'}")


def test_what_is_not_used_and_what_is_there_twice_is_said(photos, tmp_path, call):
    (photos / "cats" / "copy.png").write_bytes((photos / "dogs" / "0.png").read_bytes())
    (photos / "loose.png").write_bytes((photos / "dogs" / "1.png").read_bytes())
    (photos / "cats" / "notes.txt").touch()
    (photos / "owls").mkdir()
    code, out, err = call(photos, "--layers", "features.4", "--pooling", "avg")
    assert code == 0
    assert (
        "not used: 1 .txt, 1 image outside the class folders; "
        f"empty class folder in {photos}: owls" in err.splitlines()
    )
    assert out.startswith("25 images (1 exact duplicate among them), 1 tap: 24 computed")


def test_the_class_level_is_that_of_the_labels(tmp_path, add_photos, call):
    for site, start in (("north", 0), ("south", 30)):
        add_photos(tmp_path / "sites" / site, 2, start)
    call(tmp_path / "sites", "--layers", "features.4", "--pooling", "avg", "--class-level", "2",
         "--to", tmp_path / "f.h5")  # fmt: skip
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["classes"].asstr()[:].tolist() == ["cats", "dogs"]


def test_a_parquet_table_holds_what_the_hdf5_file_holds(photos, tmp_path, call):
    parquet = pytest.importorskip("pyarrow.parquet", reason="NO PYARROW: pip install '.[parquet]'")
    for name in ("f.h5", "f.parquet"):
        options = ["--layers", "features.4", "--pooling", "avg,map", "--to", tmp_path / name]
        code, _, err = call(photos, *options)
        assert code == 0, err
    table = parquet.read_table(tmp_path / "f.parquet")
    with h5py.File(tmp_path / "f.h5") as file:
        assert table.column("path").to_pylist() == file["paths"].asstr()[:].tolist()
        for tap, values in file["features"].items():
            found = np.array(table.column(tap).to_pylist(), values.dtype)
            assert np.array_equal(found, values[:].reshape(24, -1))
    said = json.loads(table.schema.metadata[b"permafrost"])
    assert said["recipes"]["features.4:avg"]["view"] == "plain"


def test_images_and_the_cache_at_urls_give_the_features_of_the_folder(
    photos, tmp_path, small, bucket, capsys
):
    shutil.copytree(photos, bucket.folder / "photos")
    options = [argument for argument in small if argument not in ("--cv", "3")]
    there = (f"{bucket.url}/photos", f"{bucket.url}/cache")
    files, said = [], []
    for images, cache in ((photos, tmp_path / "cache"), there, there):
        file = tmp_path / f"{len(files)}.h5"
        assert main([str(images), *options, "--cache", str(cache), "--to", str(file)]) == 0
        files.append(h5py.File(file))
        said.append(capsys.readouterr().out)
    assert "24 computed, 0 from the store" in said[1]
    assert "0 computed, 24 from the store" in said[2]
    assert f"kept in {bucket.url}/cache" in said[2]
    for name in files[0]["features"]:
        here, *others = [file[f"features/{name}"][:] for file in files]
        assert all(np.array_equal(here, other) for other in others)
    assert files[1]["paths"].asstr()[0] == f"{bucket.url}/photos/cats/0.png"
    for file in files:
        file.close()


def test_offline_images_elsewhere_are_one_line(photos, tmp_path, small, bucket, capsys):
    code = main([f"{bucket.url}/photos", "--cache", str(tmp_path / "cache"), "--offline"])
    assert code == 2
    assert capsys.readouterr().err == (
        f"error: {bucket.url}/photos: can't be read (nothing may be downloaded (--offline, or "
        "PERMAFROST_OFFLINE is set)); give a folder of images\n"
    )
