"""Which images come more than once."""

import numpy as np

from extract.store.copies import first_of_each, group_ids


def test_equal_ids_lie_side_by_side_and_ascending():
    ids = np.repeat(np.uint8([[7], [0], [7], [3], [7]]), 16, axis=1)
    order, starts = group_ids(ids)
    assert [rows.tolist() for rows in np.split(order, starts[1:])] == [[1], [3], [0, 2, 4]]
    assert first_of_each(ids).tolist() == [0, 1, 3]


def test_ids_that_differ_in_their_last_byte_are_no_copies():
    ids = np.zeros((3, 16), np.uint8)
    ids[:, 15] = [1, 2, 1]
    assert first_of_each(ids).tolist() == [0, 1]


def test_of_no_ids_there_is_none():
    assert first_of_each(np.empty((0, 16), np.uint8)).tolist() == []
