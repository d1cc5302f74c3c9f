"""Tests of pipelines/elsewhere/reading.py and rows.py: every format, what is chosen, bad input."""

import contextlib
import csv
from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.io

from data import DataError
from extract import export_features
from pipelines import list_embeddings, read_embeddings
from pipelines.elsewhere.columns import column_of
from pipelines.elsewhere.files import READERS

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
NAMES = ["a.jpg", "ü/b.jpg", "c.jpg", "d.jpg", "e.jpg"]
LABELS = ["cat", "dog", "cat", "dog", "dog"]


def write_npz(path):
    np.savez(path, features=X, filenames=NAMES, labels=LABELS)


def write_compressed(path):
    np.savez_compressed(
        path, X=np.asfortranarray(X), ids=[name.encode() for name in NAMES], y=LABELS
    )


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file["embeddings"] = X
        file["paths"] = NAMES
        file["label"] = np.array(LABELS, "S")


def write_export(path):
    export_features(path, {"last:avg": X}, NAMES, LABELS, ["cat", "dog"])


def write_mat(path):
    scipy.io.savemat(path, {"features": X, "names": np.array(NAMES, object), "y": LABELS})


def write_tensors(path):
    import torch

    torch.save({"embeddings": torch.from_numpy(X), "names": NAMES, "labels": LABELS}, path)


def write_csv(path, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerow(["x0", "Path", "x1", "label", "x2"])
        for (a, b, c), name, label in zip(X.tolist(), NAMES, LABELS, strict=True):
            rows.writerow([a, name, b, label, c])


def write_tabs(path):
    write_csv(path, "\t")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("one.npz", write_npz),
        ("packed.npz", write_compressed),
        ("one.h5", write_hdf5),
        ("ours.hdf5", write_export),
        ("one.mat", write_mat),
        ("one.PT", write_tensors),
        ("one.csv", write_csv),
        ("tabs.csv", write_tabs),
    ],
)
def test_features_names_and_labels_come_back_exactly(tmp_path, name, write):
    write(tmp_path / name)
    found = read_embeddings(tmp_path / name)
    assert found.features.dtype == np.float32
    assert np.array_equal(found.features, X)
    assert found.names == tuple(NAMES)
    assert found.labels.tolist() == LABELS
    assert (found.source, found.stored) == (name, "float32")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "int8", "bool"])
def test_an_array_alone_is_numbered(tmp_path, dtype, order):
    np.save(tmp_path / "one.npy", np.asarray(X, dtype, order=order))
    found = read_embeddings(tmp_path / "one.npy")
    assert np.array_equal(found.features, X.astype(dtype).astype(np.float32))
    assert found.names == ("0", "1", "2", "3", "4")
    assert found.labels is None
    assert list_embeddings(tmp_path / "one.npy") == {"features": (5, 3)}


def test_rows_are_read_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.elsewhere.columns.BLOCK_BYTES", 24)
    for name, write in (("one.npz", write_npz), ("one.h5", write_hdf5)):
        write(tmp_path / name)
        assert np.array_equal(read_embeddings(tmp_path / name).features, X)


@pytest.mark.parametrize(
    "write", [np.savetxt, lambda path, rows: np.savetxt(path, rows, delimiter=",")]
)
def test_numbers_without_a_header(tmp_path, write):
    path = tmp_path / ("one.txt" if write is np.savetxt else "one.csv")
    write(path, X)
    assert np.array_equal(read_embeddings(path).features, X)


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_the_index_that_pandas_writes_is_no_feature(tmp_path, index):
    """In rows sorted by class it would give the answers away."""
    (tmp_path / "one.csv").write_text(f"{index},a,b,class\n7,1.5,2,cat\n8,3,4,dog\n")
    found = read_embeddings(tmp_path / "one.csv")
    assert found.features.tolist() == [[1.5, 2], [3, 4]]
    assert (found.names, found.labels.tolist()) == (("7", "8"), ["cat", "dog"])


@pytest.mark.parametrize("names", ["0,1,2", "0;1;2", '"0","1","2"'])
def test_the_numbers_by_which_pandas_calls_columns_are_no_row(tmp_path, names):
    delimiter = ";" if ";" in names else ","
    (tmp_path / "one.csv").write_text(f"{names}\n{delimiter.join('012')[::-1]}\n")
    assert read_embeddings(tmp_path / "one.csv").features.tolist() == [[2, 1, 0]]


def test_a_quantity_is_no_label(tmp_path):
    (tmp_path / "one.csv").write_text("x,y,z\n1,2,3\n4,5.5,6\n")
    with pytest.raises(DataError, match=r"one.csv: .* with fractions, first 5.5: expected class"):
        read_embeddings(tmp_path / "one.csv")
    assert read_embeddings(tmp_path / "one.csv", labels=["5", "5.5"]).features.tolist() == [
        [1, 3],
        [4, 6],
    ]
    (tmp_path / "one.csv").write_text("x,y,z\n1,2.0,3\n4,,6\n7,1.5 or so,9\n")
    assert read_embeddings(tmp_path / "one.csv").labels.tolist() == ["2.0", "", "1.5 or so"]


def test_the_rows_of_a_mat_file_may_be_its_variables(tmp_path):
    scipy.io.savemat(tmp_path / "features.mat", dict(zip("pqrst", X, strict=True)))
    found = read_embeddings(tmp_path / "features.mat")
    assert found.names == ("p", "q", "r", "s", "t")
    assert np.array_equal(found.features, X)


def test_shards_inside_an_hdf5_file_are_joined_by_number(tmp_path):
    with h5py.File(tmp_path / "features.hdf5", "w") as file:
        file["features_10"] = X[3:]
        file["features_02"] = X[:3]
    assert np.array_equal(read_embeddings(tmp_path / "features.hdf5").features, X)


def test_one_of_several_arrays_is_named(tmp_path):
    np.savez(tmp_path / "two.npz", early=X, late=X[:, :2], y=[3, 4, 3, 4, 3])
    assert list_embeddings(tmp_path / "two.npz") == {"early": (5, 3), "late": (5, 2)}
    found = read_embeddings(tmp_path / "two.npz", array="late")
    assert np.array_equal(found.features, X[:, :2])
    assert (found.array, found.labels.tolist()) == ("late", ["3", "4", "3", "4", "3"])


GROUPS = ("train", "test")


@pytest.mark.parametrize("n", [5, 4])
@pytest.mark.parametrize("suffix", ["h5", "npz"])
def test_names_and_labels_are_those_of_the_features_own_group(tmp_path, suffix, n):
    """Those of a group beside it fit no worse, and are of other rows."""
    arrays = {
        f"{group}/{kind}": values[:n] if group == "test" else values
        for group, labels in zip(GROUPS, (LABELS, LABELS[::-1]), strict=True)
        for kind, values in {
            "features": X,
            "names": [f"{group} {name}" for name in "abcde"],
            "labels": labels,
        }.items()
    }
    path = tmp_path / f"one.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    for group, labels in zip(GROUPS, (LABELS, LABELS[::-1][:n]), strict=True):
        found = read_embeddings(path, array=f"{group}/features")
        assert (found.names[0], found.labels.tolist()) == (f"{group} a", labels)


def test_what_the_own_group_lacks_is_of_one_that_holds_it(tmp_path):
    np.savez(
        tmp_path / "one.npz",
        **{"a/b/X": X, "a/y": LABELS, "y": LABELS[::-1], "ids": NAMES, "c/names": list("vwxyz")},
    )
    found = read_embeddings(tmp_path / "one.npz")
    assert (found.names, found.labels.tolist()) == (tuple(NAMES), LABELS)


def test_numbers_are_names_and_labels_as_they_are_written(tmp_path):
    np.savez(tmp_path / "one.npz", X=X, id=[7, 5, 6, 8, 9], label=[1.0, 2.0, np.nan, 1.0, 2.0])
    found = read_embeddings(tmp_path / "one.npz")
    assert found.names == ("7", "5", "6", "8", "9")
    assert found.labels.tolist() == ["1", "2", "", "1", "2"]
    assert found.labelled.names == ("7", "5", "8", "9")


def test_labels_of_a_table_are_laid_to_the_names(tmp_path):
    np.savez(tmp_path / "one.npz", X=X, names=NAMES, labels=["old"] * 5)
    table = tmp_path / "labels.csv"
    table.write_text("path;label\nc.jpg; cat\na.jpg;dog\nü/b.jpg;drop\nd.jpg;\n", encoding="utf-8")
    found = read_embeddings(tmp_path / "one.npz", labels=table)
    assert found.labels.tolist() == ["dog", "", "cat", "", ""]
    assert np.array_equal(found.labelled.features, X[[0, 2]])


def test_labels_are_given_row_by_row(tmp_path):
    np.save(tmp_path / "one.npy", X)
    assert read_embeddings(tmp_path / "one.npy", labels=LABELS).labels.tolist() == LABELS
    assert read_embeddings(tmp_path / "one.npy", labels=range(5)).labels.tolist() == list("01234")
    some = [np.nan, None, "a", "b", "a"]
    assert read_embeddings(tmp_path / "one.npy", labels=some).labels.tolist() == [*("", ""), *"aba"]


def test_rows_are_taken_like_an_array(tmp_path):
    write_npz(tmp_path / "one.npz")
    found = read_embeddings(tmp_path / "one.npz")
    some = found[[4, 0]]
    assert (some.names, some.labels.tolist()) == (("e.jpg", "a.jpg"), ["dog", "cat"])
    assert np.array_equal(some.features, X[[4, 0]])
    assert found[np.array(LABELS) == "cat"].names == ("a.jpg", "c.jpg")
    with pytest.raises(ValueError, match="read-only"):
        found.features[0] = 0


def npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def odd(value, row=2):
    rows = X.astype(np.float64)
    rows[row, 1] = value
    return rows


OBJECTS = np.array([[1, 2], [3, "x"]], object)


@pytest.mark.parametrize(
    ("write", "options", "said"),
    [
        (npz(a=X, b=X), {}, "2 arrays that may be .*: a .5, 3. float32, b .*array='a'"),
        (npz(X=X, embeddings=X), {}, "2 arrays that may be the features"),
        (npz(a=X), {"array": "z"}, r"no array 'z': expected one of a \(5, 3\) float32"),
        (npz(a=X[:, :, None]), {}, r"no rows of numbers but a \(5, 3, 1\) float32: expected"),
        (npz(X=X[:, :, None]), {}, r"X is \(5, 3, 1\), expected \(n, d\); flatten"),
        (npz(X=X[0]), {}, r"X is \(3,\), expected \(n, d\)"),
        (npz(X=OBJECTS), {}, r"X is \(2, 2\) object, expected real numbers"),
        (npz(X=X.astype(complex)), {}, "complex128, expected real numbers"),
        (npz(X=np.array([["a"]])), {}, "expected real numbers"),
        (npz(X=X[:0]), {}, r"X is \(0, 3\), expected one row"),
        (npz(X=X[:, :0]), {}, r"X is \(5, 0\), expected one row and one value"),
        (npz(), {}, "no rows of numbers but nothing"),
        (npz(X=X, ids=NAMES[:4]), {}, "ids has 4 entries, and X 5 rows"),
        (npz(X=X, y=LABELS * 2), {}, "y has 10 entries, and X 5 rows"),
        (npz(X=X, ids=list("abcab")), {}, "rows 0 and 3 are both named 'a'"),
        (npz(X=odd(np.nan), ids=NAMES), {}, "in 1 of 5 rows, first 'c.jpg'"),
        (npz(X=odd(-np.inf)), {}, "X has NaN, infinite .* in 1 of 5 rows, first '2'"),
        (npz(X=odd(1e300)), {}, "such beyond float32 in 1 of 5 rows"),
        (npz(X=X), {"labels": LABELS[:2]}, "2 labels came for 5 rows"),
        (npz(X=X, ids=np.array([{}] * 5)), {}, "pickled objects, which are not loaded"),
    ],
)
def test_what_can_not_be_used_is_said_in_one_line(tmp_path, write, options, said):
    write(tmp_path / "one.npz")
    with pytest.raises(DataError, match=said) as error:
        read_embeddings(tmp_path / "one.npz", **options)
    assert "\n" not in str(error.value)
    assert "one.npz" in str(error.value)


def test_values_whose_sum_alone_is_beyond_float32_are_taken(tmp_path):
    np.save(tmp_path / "one.npy", np.full((1, 4), 3e38, np.float32))
    assert np.isfinite(read_embeddings(tmp_path / "one.npy").features).all()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("one.npy", b"", "can't be read as a .npy file"),
        ("one.npy", b"no numpy, surely", "can't be read as a .npy file"),
        ("one.npy", b"\x93NUMPY\1\0\3\0({\n", "its header is damaged"),
        ("one.npy", b"\x93NUMPY\x09\0", r"version \(9, 0\) of numpy's format"),
        ("one.npz", b"no archive", "can't be read as a .npz file"),
        ("one.h5", b"no hdf5", "can't be read as a .h5 file"),
        ("one.mat", b"no matlab", "can't be read as a .mat file"),
        ("one.pt", b"no torch", "is no file of tensors alone"),
        ("one.parquet", b"no parquet", "can't be read as a .parquet file"),
        ("one.txt", b"1 2\n3 x\n", "can't be read as a .txt file"),
        ("one.txt", b"1 2\n3\n", "can't be read as a .txt file"),
        ("one.csv", b"", r"features is \(0, 0\), expected"),
        ("one.csv", b"a,b\n1,2\n3\n", "line 3 has 1 cells, and line 1 2"),
        ("one.csv", b"a,b\n1,2\n3,x\n", "line 3: column 'b' is 'x', expected a number"),
        ("one.csv", b"1,2\n3,\n", "line 2: cell 2 is '', expected a number"),
        ("one.csv", b"a\n" + b"1" * 140_000, "can't be read as a .csv file .field larger"),
        ("one.csv", b"a\n1e60\n", "in 1 of 1 row, first '0'"),
        ("one.csv", "é\n1".encode("latin-1"), "can't be read as a .csv file"),
        ("one.xlsx", b"", "no embeddings are read from a .xlsx"),
        ("one", b"", "read from a file without a suffix"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(tmp_path, name, content, said):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="NO PYARROW: pip install .[parquet]")
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, ValueError), match=said) as error:
        read_embeddings(tmp_path / name)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_file_cut_short_is_not_read(tmp_path):
    np.save(tmp_path / "one.npy", X)
    whole = (tmp_path / "one.npy").read_bytes()
    (tmp_path / "one.npy").write_bytes(whole[:-1])
    with pytest.raises(DataError, match="ends too early"):
        read_embeddings(tmp_path / "one.npy")


def test_rows_that_a_file_declares_and_lacks_are_not_made_up(tmp_path, monkeypatch):
    def short(path):
        column = replace(column_of(X), shape=(9, 3))
        return contextlib.nullcontext({"features": column})

    (tmp_path / "one.npy").touch()
    monkeypatch.setitem(READERS, ".npy", short)
    with pytest.raises(DataError, match="it holds 5 rows and says 9"):
        read_embeddings(tmp_path / "one.npy")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read_embeddings(tmp_path / "gone.npy")


def test_a_table_of_labels_for_other_rows_is_refused(tmp_path):
    np.savez(tmp_path / "one.npz", X=X, names=NAMES)
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nz.jpg,cat\na.jpg,dog\n")
    with pytest.raises(DataError, match=r"1 path that no row of .* first 'z.jpg'.* 'a.jpg'"):
        read_embeddings(tmp_path / "one.npz", labels=table)


def test_without_labels_there_are_no_labelled_rows(tmp_path):
    np.savez(tmp_path / "one.npz", X=X, y=["", "", "", "", ""])
    found = read_embeddings(tmp_path / "one.npz")
    assert found.labels is None
    with pytest.raises(DataError, match=r"one\.npz has no labels"):
        _ = found.labelled
