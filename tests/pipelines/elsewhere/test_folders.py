"""Tests of pipelines/elsewhere/folders.py: folders laid out as the programs lay them out."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from data import DataError
from pipelines import list_embeddings, read_embeddings

X = np.random.default_rng(2).normal(size=(7, 3)).astype(np.float16)
NAMES = [f"{'cats' if i < 4 else 'dogs'}/{i}.jpg" for i in range(7)]

LABELS = ["cat"] * 4 + ["dog"] * 3


@pytest.fixture
def pandas_like():
    """Writes Parquet as clip-retrieval does: by pandas, which calls pyarrow."""
    pyarrow = pytest.importorskip("pyarrow", reason="NO PYARROW: pip install .[parquet]")
    from pyarrow import parquet

    return lambda columns, path: parquet.write_table(pyarrow.table(columns), path)


def clip_retrieval(folder, write, kinds=("img_emb", "text_emb"), cuts=(0, 4, 6, 7), digits=1):
    """One file a partition: `img_emb/img_emb_0.npy`, `metadata/metadata_0.parquet`."""
    for kind in (*kinds, "metadata"):
        (folder / kind).mkdir()
    for number, (at, end) in enumerate(pairwise(cuts)):
        name = str(number * 5).zfill(digits)
        for kind in kinds:
            np.save(folder / kind / f"{kind}_{name}.npy", X[at:end] * (1 + (kind == "text_emb")))
        columns = {"image_path": NAMES[at:end], "caption": ["a photo"] * (end - at)}
        columns |= {"width": [640] * (end - at), "label": LABELS[at:end]}
        write(columns, folder / "metadata" / f"metadata_{name}.parquet")
    return folder


@pytest.mark.parametrize("digits", [1, 4])
def test_clip_retrieval_is_read_shard_by_shard(tmp_path, pandas_like, digits):
    """Numbers without zeros before them are in the order of numbers, and not of text."""
    folder = clip_retrieval(tmp_path, pandas_like, digits=digits)
    assert list_embeddings(folder) == {"img_emb": (7, 3), "text_emb": (7, 3)}
    with pytest.raises(DataError, match=r"2 arrays .*array='img_emb'"):
        read_embeddings(folder)
    found = read_embeddings(folder, array="text_emb")
    assert np.array_equal(found.features, 2 * X.astype(np.float32))
    assert (found.names, found.stored) == (tuple(NAMES), "float16")
    assert found.labels.tolist() == LABELS


def test_images_alone_need_no_name(tmp_path, pandas_like):
    found = read_embeddings(clip_retrieval(tmp_path, pandas_like, kinds=("img_emb",)))
    assert (found.array, found.source) == ("img_emb", tmp_path.name)
    assert np.array_equal(found.features, X)


def test_a_shard_that_is_gone_is_named(tmp_path, pandas_like):
    folder = clip_retrieval(tmp_path, pandas_like, kinds=("img_emb",))
    (folder / "img_emb" / "img_emb_5.npy").unlink()
    with pytest.raises(DataError, match="shard 5 is not in both img_emb and metadata"):
        read_embeddings(folder)


def test_shards_of_other_widths_are_named(tmp_path):
    (tmp_path / "img_emb").mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", X)
    np.save(tmp_path / "img_emb" / "img_emb_1.npy", X[:, :2])
    with pytest.raises(DataError, match=r"img_emb_1.npy holds \(7, 2\) float16, and img_emb_0.npy"):
        read_embeddings(tmp_path)


def test_without_metadata_rows_are_numbered(tmp_path):
    (tmp_path / "img_emb").mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", X)
    assert read_embeddings(tmp_path).names == tuple(map(str, range(7)))


def write_names(folder):
    (folder / "file_names.txt").write_text("".join(f"{name}\n" for name in NAMES))


def write_text(path, rows):
    np.savetxt(path, rows)


def write_hdf5(path, rows):
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=rows)


def write_tensor(path, rows):
    import torch

    torch.save(torch.from_numpy(rows), path)


def write_mat(path, rows):
    scipy.io.savemat(path, {"features": rows.astype(np.float32)})


@pytest.mark.parametrize(
    ("suffix", "write"),
    [("npy", np.save), ("hdf5", write_hdf5), ("pt", write_tensor), ("txt", write_text)],
)
def test_thingsvision_leaves_names_beside_the_features(tmp_path, suffix, write):
    write(tmp_path / f"features.{suffix}", X)
    write_names(tmp_path)
    found = read_embeddings(tmp_path)
    assert np.array_equal(found.features, X)
    assert (found.names, found.array) == (tuple(NAMES), "features")


def test_thingsvision_in_matlab_calls_each_row_by_its_image(tmp_path):
    names = [name.removesuffix(".jpg").replace("/", "_") for name in NAMES]
    scipy.io.savemat(tmp_path / "features.mat", dict(zip(names, X.astype(np.float32), strict=True)))
    found = read_embeddings(tmp_path)
    assert np.array_equal(found.features, X)
    assert found.names == tuple(names)


@pytest.mark.parametrize("shards", ["features_{0}-{1}.npy", "features_{2:02d}.npy"])
def test_shards_of_thingsvision_are_in_the_order_of_their_numbers(tmp_path, shards):
    cuts = [0, 1, 2, 7]
    for number, (at, end) in enumerate(pairwise(cuts), 9):
        np.save(tmp_path / shards.format(at, end, number), X[at:end])
    write_names(tmp_path)
    assert np.array_equal(read_embeddings(tmp_path).features, X)


def test_each_module_of_thingsvision_is_an_array(tmp_path):
    """As `extract_features(module_names=..., output_dir=...)` writes them, with names above."""
    for module, width in (("features.10", 2), ("classifier", 3)):
        (tmp_path / module).mkdir()
        np.save(tmp_path / module / "features_0-5.npy", X[:5, :width])
        np.save(tmp_path / module / "features_5-7.npy", X[5:, :width])
    write_names(tmp_path)
    assert list_embeddings(tmp_path) == {"classifier": (7, 3), "features.10": (7, 2)}
    found = read_embeddings(tmp_path, array="features.10")
    assert np.array_equal(found.features, X[:, :2])
    assert found.names == tuple(NAMES)
    alone = read_embeddings(tmp_path / "classifier")
    assert (alone.names, alone.array) == (tuple(NAMES), "features")


def test_labels_of_a_module_are_its_own(tmp_path):
    for module, labels in (("conv1", ["a", "b", "a"]), ("conv2", ["b", "a", "b"])):
        (tmp_path / module).mkdir()
        np.savez(tmp_path / module / "features.npz", features=X[:3], y=labels, names=list("pqr"))
    assert read_embeddings(tmp_path, array="conv1").labels.tolist() == ["a", "b", "a"]
    assert read_embeddings(tmp_path, array="conv1").names == ("p", "q", "r")
    (tmp_path / "file_names.txt").write_text("u\nv\nw\n")
    found = read_embeddings(tmp_path, array="conv2")
    assert (found.names, found.labels.tolist()) == (("u", "v", "w"), ["b", "a", "b"])


def test_a_suffix_of_thingsvision_tells_tables_apart(tmp_path):
    np.save(tmp_path / "features_train_0-5.npy", X[:5])
    np.save(tmp_path / "features_train_5-7.npy", X[5:])
    np.save(tmp_path / "features_val.npy", X[:3])
    assert list_embeddings(tmp_path) == {"features_train": (7, 3), "features_val": (3, 3)}


@pytest.mark.parametrize("second", ["features.hdf5", "features_0-7.npy"])
def test_the_same_rows_twice_are_refused(tmp_path, second):
    np.save(tmp_path / "features.npy", X)
    (tmp_path / second).touch()
    with pytest.raises(DataError, match="the same rows twice: leave one of them, or name a file"):
        read_embeddings(tmp_path)


def test_names_of_other_rows_are_refused(tmp_path):
    np.save(tmp_path / "features.npy", X[:3])
    write_names(tmp_path)
    with pytest.raises(DataError, match="file_names has 7 entries, and features 3 rows"):
        read_embeddings(tmp_path)


def test_a_folder_of_neither_layout_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"is no folder of embeddings: .* has neither"):
        read_embeddings(tmp_path)
    np.save(tmp_path / "mine.npy", X)
    with pytest.raises(DataError, match=r"has mine\.npy; name one of these files"):
        read_embeddings(tmp_path)


def test_of_several_shards_the_damaged_one_is_named(tmp_path):
    """It is read after all of them were opened."""
    for number in range(3):
        np.savez(tmp_path / f"features_{number}.npz", features=X)
    path = tmp_path / "features_1.npz"
    content = path.read_bytes()
    path.write_bytes(content.replace(X.tobytes(), bytes(X.nbytes)))
    with pytest.raises(DataError, match=r"features_1\.npz can't be read as a \.npz file \(Bad CRC"):
        read_embeddings(tmp_path)


def test_no_shard_stays_open(tmp_path, pandas_like):
    """Of a thousand shards, more than a process may have open files."""
    resource = pytest.importorskip("resource")
    folder = clip_retrieval(tmp_path, pandas_like, kinds=("img_emb",), cuts=range(8))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 5, hard))
    try:
        assert read_embeddings(folder).names == tuple(NAMES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_folder_that_can_not_be_listed_is_told_in_one_line(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"can't be read as a folder \(Permission denied\)"):
        read_embeddings(tmp_path)
