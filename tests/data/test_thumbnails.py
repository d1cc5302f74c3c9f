"""Thumbnails are the same from any source."""

import pytest

from data import ImageError
from data.thumbnails import read_thumbnails


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        read_thumbnails([tmp_path / "gone.jpg"])
