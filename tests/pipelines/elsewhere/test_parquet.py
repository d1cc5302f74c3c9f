"""Tests of pipelines/elsewhere/parquet.py, on files as pyarrow and pandas write them."""

import sys

import numpy as np
import pytest

from data import DataError
from pipelines import list_embeddings, read_embeddings

X = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
NAMES = [f"{i}.jpg" for i in range(6)]
LABELS = ["cat", "dog", None, "dog", "cat", "cat"]


@pytest.fixture(scope="module")
def pa():
    return pytest.importorskip("pyarrow", reason="NO PYARROW: pip install .[parquet]")


def write(path, columns, **options):
    from pyarrow import parquet, table

    parquet.write_table(table(columns), path, **options)
    return path


def fixed(pa, values):
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("kind", ["lists", "fixed"])
def test_a_column_of_lists_is_the_features(tmp_path, pa, kind, dtype):
    values = (100 * X).astype(dtype)
    column = fixed(pa, values) if kind == "fixed" else pa.array(list(values))
    columns = {"vector": column, "image_path": NAMES, "label": LABELS, "width": [1] * 6}
    found = read_embeddings(write(tmp_path / "one.parquet", columns, row_group_size=4))
    assert np.array_equal(found.features, values.astype(np.float32))
    assert found.names == tuple(NAMES)
    assert found.labels.tolist() == ["cat", "dog", "", "dog", "cat", "cat"]
    assert (found.array, found.stored) == ("vector", np.dtype(dtype).name)


def test_many_columns_of_numbers_are_the_features(tmp_path, pa):
    columns = {f"x{i}": X[:, i] for i in range(4)} | {"id": range(6), "caption": ["some"] * 6}
    columns["label"] = pa.array(LABELS).dictionary_encode()
    found = read_embeddings(write(tmp_path / "one.parquet", columns))
    assert np.array_equal(found.features, X)
    assert found.names == ("0", "1", "2", "3", "4", "5")
    assert found.labels.tolist()[:3] == ["cat", "dog", ""]
    assert found.array == "columns"


def test_the_index_that_pandas_writes_is_no_feature(tmp_path, pa):
    """In rows sorted by class it would give the answers away."""
    columns = {"x": X[:, 0], "__index_level_0__": [10, 11, 12, 13, 14, 15]}
    found = read_embeddings(write(tmp_path / "one.parquet", columns))
    assert np.array_equal(found.features, X[:, :1])
    assert found.names[0] == "10"


def test_two_columns_of_lists_are_two_tables(tmp_path, pa):
    columns = {"early": pa.array(list(X)), "late": fixed(pa, X[:, :2]), "name": NAMES}
    path = write(tmp_path / "two.parquet", columns)
    assert list_embeddings(path) == {"early": (6, 4), "late": (6, 2)}
    with pytest.raises(DataError, match="2 arrays that may be the features"):
        read_embeddings(path)
    assert np.array_equal(read_embeddings(path, array="late").features, X[:, :2])


def test_rows_come_a_block_at_a_time(tmp_path, pa, monkeypatch):
    monkeypatch.setattr("pipelines.elsewhere.parquet.BLOCK_BYTES", 40)
    path = write(tmp_path / "one.parquet", {"embedding": fixed(pa, X)})
    assert np.array_equal(read_embeddings(path).features, X)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1.0, 2.0], [3.0]], "row 1 of 'embedding' holds 1 values, and row 0 2"),
        ([[1.0, 2.0], None], "row 1 of 'embedding' holds no list, and row 0 2"),
        ([[1.0, 2.0], [3.0, None]], "NaN, infinite .* in 1 of 2 rows, first '1'"),
        ([[], []], r"embedding is \(2, 0\)"),
        ([["a"], ["b"]], "no rows of numbers but nothing"),
    ],
)
def test_lists_that_are_no_rows_are_refused(tmp_path, pa, rows, said):
    column = pa.array(rows, pa.list_(pa.string() if rows[0] == ["a"] else pa.float32()))
    path = write(tmp_path / "one.parquet", {"embedding": column})
    with pytest.raises(DataError, match=said):
        read_embeddings(path)


def test_a_table_without_rows_is_refused(tmp_path, pa):
    path = write(tmp_path / "one.parquet", {"embedding": fixed(pa, X)[:0]})
    with pytest.raises(DataError, match=r"embedding is \(0, [04]\), expected one row"):
        read_embeddings(path)


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "one.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"pip install 'permafrost\[parquet\]'"):
        read_embeddings(tmp_path / "one.parquet")
