"""`images.csv` comes back as it was written."""

from dataclasses import fields

import numpy as np
import pytest

from pipelines.report.images import TEXT, ImageTable, read_images, write_images


@pytest.fixture
def table():
    return ImageTable(
        path=np.array(["a/é,1.png", "=cmd.png", "b\n.png"], object),
        id=np.array(["00" * 16, "0f" * 16, "ff" * 16], object),
        part=np.array(["train", "test", "test"], object),
        label=np.array(["ant", "bee", "-1"], object),
        predicted=np.array(["ant", "ant", "-1"], object),
        probability=np.array([0.987654321, 0.5, 1.0]),
        probability_of_label=np.array([0.987654321, 1e-12, 1.0]),
        familiarity=np.array([np.nan, 0.012345, 1.0]),
        x=np.array([-3.5, np.nan, 2.25]),
        y=np.array([0.0, np.nan, -12.125]),
    )


def test_it_comes_back(table, tmp_path):
    write_images(tmp_path / "images.csv", table)
    found = read_images(tmp_path / "images.csv")
    for name in (field.name for field in fields(table)):
        own, back = getattr(table, name), getattr(found, name)
        if name in TEXT:
            assert back.tolist() == own.tolist()
        else:
            assert np.allclose(back, own, rtol=1e-8, atol=0, equal_nan=True)


def test_ids_and_mistakes(table):
    assert table.ids.tolist() == [[0] * 16, [15] * 16, [255] * 16]
    assert table.is_wrong.tolist() == [False, True, False]
    assert len(table) == 3


def test_a_file_without_a_column_is_refused(tmp_path):
    (tmp_path / "images.csv").write_text("path,label\na,b\n")
    with pytest.raises(ValueError, match=r"no column 'id': expected a run's images\.csv"):
        read_images(tmp_path / "images.csv")
