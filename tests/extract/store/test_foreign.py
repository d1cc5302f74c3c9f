"""Tests of extract/store/foreign.py: HDF5 files that we did not write."""

import h5py
import numpy as np
import pytest

from extract.store.foreign import opened_hdf5


def test_datasets_come_by_their_whole_names_and_are_read_in_slices(tmp_path):
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["features/last"] = np.arange(6).reshape(3, 2)
        file["names"] = ["a", "b", "c"]
        file.create_group("empty")
    with opened_hdf5(tmp_path / "one.h5") as found:
        assert sorted(found) == ["features/last", "names"]
        assert found["features/last"][1:].tolist() == [[2, 3], [4, 5]]
        assert found["names"][:].tolist() == [b"a", b"b", b"c"]


def test_what_lies_in_other_files_is_left_out(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.zeros((2, 2))
    (tmp_path / "raw.bin").write_bytes(bytes(32))
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["own"] = np.ones((2, 2))
        file["link"] = h5py.ExternalLink("other.h5", "secret")
        layout = h5py.VirtualLayout((2, 2), float)
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "secret", (2, 2))
        file.create_virtual_dataset("virtual", layout)
        place = [(str(tmp_path / "raw.bin"), 0, 32)]
        file.create_dataset("raw", (2, 2), float, external=place)
    with opened_hdf5(tmp_path / "one.h5") as found:
        assert list(found) == ["own"]


def test_what_is_no_hdf5_is_an_oserror(tmp_path):
    (tmp_path / "one.h5").write_bytes(b"no such thing")
    with pytest.raises(OSError, match="signature not found"), opened_hdf5(tmp_path / "one.h5"):
        pass
