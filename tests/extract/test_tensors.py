"""Tests of extract/tensors.py: tensors alone are loaded."""

import numpy as np
import pytest
import torch

from extract import ExtractError
from extract.tensors import read_tensors

ROWS = torch.arange(6.0).reshape(3, 2) / 7


class Stranger:
    """Any object that a pickle may hold."""


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_tensor_comes_back_as_it_was(tmp_path, is_archive):
    torch.save(ROWS, tmp_path / "one.pt", _use_new_zipfile_serialization=is_archive)
    found = read_tensors(tmp_path / "one.pt")
    assert list(found) == ["features"]
    assert np.array_equal(found["features"], ROWS.numpy())


def test_a_dictionary_comes_by_its_names(tmp_path):
    torch.save({"X": ROWS.bfloat16(), "names": ["a", "b", "c"]}, tmp_path / "one.pth")
    found = read_tensors(tmp_path / "one.pth")
    assert found["X"].dtype == np.float32
    assert np.array_equal(found["X"], ROWS.bfloat16().float().numpy())
    assert found["names"].tolist() == ["a", "b", "c"]


def test_what_needs_a_gradient_is_read(tmp_path):
    torch.save(torch.nn.Parameter(ROWS), tmp_path / "one.pt")
    assert read_tensors(tmp_path / "one.pt")["features"].shape == (3, 2)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save(Stranger(), path),
        lambda path: path.write_bytes(b"no tensors"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\3\4 cut short"),
    ],
    ids=["object", "text", "empty", "cut"],
)
def test_what_is_no_tensor_is_refused_in_one_line(tmp_path, write):
    write(tmp_path / "one.pt")
    with pytest.raises(ExtractError, match=r"one\.pt is no file of tensors alone") as error:
        read_tensors(tmp_path / "one.pt")
    assert "\n" not in str(error.value)
