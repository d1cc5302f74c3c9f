"""Tests of pipelines/samples.py: the test part that is given, and samples without labels."""

import numpy as np
import pytest
from PIL import Image

from data import DataError, Samples, read_images
from pipelines.errors import WrongCall
from pipelines.exploration.copies import Copies
from pipelines.samples import read_any, read_labelled, read_samples, split_samples
from pipelines.settings import RunSettings


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


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        # no folder of south is one of its classes: they are years, or sites
        ("south", ("old", "new"), ["old", "new"]),
        ("south", ("bees", "ants"), ["bees", "ants"]),
        (".", ("old", "new"), ["old", "new"]),  # of a folder whose classes are unclear
    ],
)
def test_a_table_labels_what_has_none(tree, images, labels, expected):
    (tree / "fixes.csv").write_text(
        f"path,label\nsouth/ants/1.png,{labels[0]}\nsouth/bees/1.png,{labels[1]}\n"
    )
    samples = read_labelled(images, RunSettings(labels="fixes.csv"))
    assert samples.labels.tolist() == expected
    assert [path.removeprefix("./") for path in samples.paths] == [
        "south/ants/1.png",
        "south/bees/1.png",
    ]


def test_one_label_that_is_no_class_is_a_slip(tree):
    (tree / "fixes.csv").write_text("path,label\nsouth/ants/1.png,atns\n")
    with pytest.raises(DataError, match="the corrected label 'atns' of south"):
        read_labelled("south", RunSettings(labels="fixes.csv"))


@pytest.mark.parametrize("labels", [("Ants", "Bees"), ("ant", "bee"), ("old", "atns")])
def test_miswritten_classes_are_slips_and_replace_no_labels(tree, labels):
    (tree / "fixes.csv").write_text(
        f"path,label\nsouth/ants/1.png,{labels[0]}\nsouth/bees/1.png,{labels[1]}\n"
    )
    with pytest.raises(DataError, match=f"the corrected label '{labels[0]}' of south"):
        read_labelled("south", RunSettings(labels="fixes.csv"))


def test_samples_without_labels_have_those_of_the_table(tree):
    (tree / "fixes.csv").write_text("path,label\na.jpg,cat\nb.jpg,dog\n")
    samples = Samples(("b.jpg", "a.jpg", "c.jpg"))
    labelled = read_labelled(samples, RunSettings(labels="fixes.csv"))
    assert labelled.labels.tolist() == ["dog", "cat"]


def test_why_labels_are_not_used_is_noted(tree):
    samples = read_any(".")
    assert samples.labels is None
    assert "labels are not used: .: ants, bees come again" in samples.notes[0]
    assert read_any("north").notes == ()
    assert read_any(".", 2).labels.tolist() == read_images(".", class_level=2).labels.tolist()


@pytest.mark.parametrize("sides", [None, "known"])
def test_what_is_to_train_only_is_never_tested_on_and_moves_no_other(sides):
    labels = ["cat", "dog"] * 30
    paths = tuple(f"{i}.png" for i in range(60))
    plain = split_samples(Samples(paths, labels=labels), [], 3, seed=0)
    new = tuple(f"new{i}.png" for i in range(20))
    train_only = [False] * 60 + [True] * 20
    more = Samples((*paths, *new), labels=[*labels, *labels[:20]], train_only=train_only)
    known = None
    if sides:
        known = np.array(["train"] * 80, dtype="<U5")
        known[60:] = ""
        known[plain.test] = known[79] = "test"  # one was tested once
    found = split_samples(more, [], 3, seed=0, sides=known)
    assert found.test.tolist() == plain.test.tolist()
    assert found.train.tolist() == sorted([*plain.train.tolist(), *range(60, 80)])


def test_the_like_of_what_is_to_train_only_is_trained_on_too():
    labels = ["cat", "dog"] * 20
    plain = split_samples(Samples(tuple(map(str, range(40))), labels=labels), [], 3, seed=0)
    tested = int(plain.test[0])
    paths = (*map(str, range(40)), "new")
    samples = Samples(paths, labels=[*labels, labels[tested]], train_only=[False] * 40 + [True])
    copies = [Copies(tested, 40, "copy", 0.99)]
    found = split_samples(samples, copies, 3, seed=0)
    assert {tested, 40} <= set(found.train.tolist())
    assert not {tested, 40} & set(found.test.tolist())
