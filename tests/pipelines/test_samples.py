"""Tests of pipelines/samples.py: the test part that is given, and samples without labels."""

import pytest
from PIL import Image

from data import read_images
from pipelines.errors import WrongCall
from pipelines.samples import read_any, read_samples


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Two sites with two kinds each, in the working folder."""
    for site in ("north", "south"):
        for kind in ("ants", "bees"):
            (tmp_path / site / kind).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / site / kind / "1.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("test", ["north", "./north/", "south/../north", "link", "all.csv"])
def test_test_images_that_are_trained_on_are_refused(tree, test):
    (tree / "link").symlink_to("north")
    (tree / "all.csv").write_text("path,label\nsouth/ants/1.png,ants\nnorth/bees/1.png,bees\n")
    with pytest.raises(WrongCall, match=r"are among those of north too, first .*: give images"):
        read_samples("north", test)


def test_test_images_inside_the_training_folder_are_refused(tree):
    (tree / "north" / "ants" / "held" / "ants").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tree / "north" / "ants" / "held" / "ants" / "2.png")
    with pytest.raises(WrongCall, match="1 of its 1 image are among those of north too"):
        read_samples("north", "north/ants/held")


def test_test_images_with_the_same_names_elsewhere_are_taken(tree):
    assert read_samples("north", "south").split.tolist() == ["train", "train", "test", "test"]


def test_both_are_read_with_the_class_level(tree):
    (tree / "held" / "east" / "ants").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tree / "held" / "east" / "ants" / "1.png")
    (tree / "trained").mkdir()
    for site in ("north", "south"):
        (tree / site).rename(tree / "trained" / site)
    samples = read_samples("trained", "held", class_level=2)
    assert samples.labels.tolist() == ["ants", "ants", "bees", "bees", "ants"]


def test_why_labels_are_not_used_is_noted(tree):
    samples = read_any(".")
    assert samples.labels is None
    assert "labels are not used: .: ants, bees come again" in samples.notes[0]
    assert read_any("north").notes == ()
    assert read_any(".", 2).labels.tolist() == read_images(".", class_level=2).labels.tolist()
