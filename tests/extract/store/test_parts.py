"""A part is a file of whole-row chunks, or is not written."""

import h5py
import numpy as np
import pytest

from extract.store.parts import write_part


@pytest.mark.parametrize("width", [3, 1280, 60_000, 400_000])
def test_chunks_are_whole_rows_of_about_half_a_megabyte(tmp_path, width):
    n = max(2, 3 * (1 << 19) // (4 * width))
    path = write_part(
        tmp_path, np.zeros((n, 16), np.uint8), {"a:avg": np.zeros((n, width), np.float32)}, {}
    )
    with h5py.File(path) as file:
        chunk = file["taps/a:avg"].chunks
    assert chunk[1] == width
    assert chunk[0] == 1 or 1 << 18 <= chunk[0] * width * 4 <= 1 << 20


def test_a_column_that_is_short_is_not_written(tmp_path):
    ids, rows = np.zeros((40, 16), np.uint8), np.zeros((40, 7), np.float32)
    with pytest.raises(ValueError, match="a:avg has 39 rows, expected 40"):
        write_part(tmp_path, ids, {"a:avg": rows[:39]}, {})
    assert not list(tmp_path.iterdir())
