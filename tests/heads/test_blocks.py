"""Rows given a slice at a time: which are, and passes over them."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from heads import blocks
from heads.blocks import Blocks, check_rows, is_streamed


def test_an_array_in_memory_is_never_streamed_and_a_mapped_one_from_a_size_on(
    tmp_path, monkeypatch, in_slices
):
    X = np.zeros((30, 4), np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for rows in (X, X.tolist(), csr_matrix(X), mapped):
        assert not is_streamed(rows)
    assert is_streamed(in_slices(X))
    monkeypatch.setattr(blocks, "MOST_MAPPED", X.nbytes - 1)
    assert is_streamed(mapped)
    assert not is_streamed(X)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_pass_gives_every_block_once_and_in_order(n_jobs, in_slices):
    X = np.arange(4000.0).reshape(1000, 4)
    rows = in_slices(X)
    found = list(Blocks(rows, n_jobs).over(lambda place, block: (place, block.copy())))
    assert (np.concatenate([block for _, block in found]) == X).all()
    assert [place.start for place, _ in found] == list(range(0, 1000, 375))
    assert rows.largest == 375


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 2), int), "X holds int64, expected floats; convert it"),
        (np.zeros((2, 2)), r"X has shape \(2, 2\) and y 3 labels, expected a row for each"),
        (np.zeros((3, 0)), r"X has shape \(3, 0\) and y 3 labels"),
        (np.zeros((3, 2, 2)), r"X has shape \(3, 2, 2\), expected \(rows, features\)"),
    ],
)
def test_rows_that_no_search_can_take_are_refused_unread(X, message, in_slices):
    assert is_streamed(in_slices(X))
    with pytest.raises(ValueError, match=message):
        check_rows(in_slices(X), 3)
