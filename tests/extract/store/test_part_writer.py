"""Rows are written on a thread beside the pass."""

import numpy as np

from extract.store.part_writer import PartWriter


def test_the_writer_is_a_context_of_its_own_thread(tmp_path):
    with PartWriter(tmp_path, lambda: None, np.float32, {}) as writer:
        pass
    assert list(tmp_path.iterdir()) == []
    assert writer.rows_kept == 0
