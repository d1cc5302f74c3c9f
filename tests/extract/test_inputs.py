"""Tests of what FeatureExtractor takes for a list of images."""

import numpy as np
import pytest

from extract import ExtractError
from extract.extractor import check_inputs


class Table:
    """What a data frame is to us: iterated, it gives the names of its columns."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self.values = list(columns.values())

    def __iter__(self):
        return iter(self.columns)

    def __len__(self):
        return len(self.values[0])

    def to_numpy(self):
        return np.array(self.values, object).T


PATHS = ["1.jpg", "2.jpg", "3.jpg"]


@pytest.mark.parametrize(
    "images",
    [PATHS, tuple(PATHS), np.array(PATHS), np.array(PATHS)[:, None], Table(path=PATHS)],
    ids=["list", "tuple", "array", "column", "frame"],
)
def test_one_column_is_a_list_of_images(images):
    """A frame of one column was the one image that its column is called."""
    assert check_inputs(images) == PATHS or list(check_inputs(images)) == PATHS


@pytest.mark.parametrize("images", [Table(path=PATHS, label=PATHS), np.array([PATHS, PATHS])])
def test_several_columns_are_refused(images):
    with pytest.raises(ExtractError, match=r"got a table of [23] columns, expected one of paths"):
        check_inputs(images)
