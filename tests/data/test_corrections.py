"""Corrected labels are laid over samples, or refused in one line."""

import os

import numpy as np
import pytest
from PIL import Image

from data import DataError, Samples
from data.corrections import correct_labels, label_samples, read_corrections


@pytest.fixture
def samples():
    return Samples(
        ("p/a.jpg", "p/b.jpg", "p/c.jpg", "p/d.jpg"),
        labels=["cat", "dog", "cat", "dog"],
        groups=["1", "2", "3", "4"],
        split=["train", "test", "train", "test"],
        name="pets",
        passed_over={"text": 2},
        problems=(("p/x.jpg", "empty"),),
        notes=("one",),
    )


def test_labels_are_changed_and_images_dropped(samples):
    found = correct_labels(samples, {"p/a.jpg": "dog", "p/d.jpg": "drop", "p/c.jpg": "cat"})
    assert found.paths == ("p/a.jpg", "p/b.jpg", "p/c.jpg")
    assert found.labels.tolist() == ["dog", "dog", "cat"]
    assert found.groups.tolist() == ["1", "2", "3"]
    assert found.split.tolist() == ["train", "test", "train"]
    assert found.classes == ("cat", "dog")
    assert (found.passed_over, found.problems) == (samples.passed_over, samples.problems)
    assert found.notes == ("one", "corrected: 1 image with another label, 1 dropped")
    assert samples.labels.tolist() == ["cat", "dog", "cat", "dog"]


def test_a_longer_label_is_not_cut(samples):
    longer = Samples(("a", "b"), labels=["ox", "hippopotamus"])
    assert correct_labels(longer, {"a": "hippopotamus"}).labels.tolist() == ["hippopotamus"] * 2


def test_a_path_may_lead_to_the_file_otherwise(samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = correct_labels(samples, {os.path.abspath("p/b.jpg"): "cat"})
    assert found.labels.tolist() == ["cat", "cat", "cat", "dog"]


@pytest.mark.parametrize(
    ("corrections", "said"),
    [
        (
            {"p/z.jpg": "cat", "p/a.jpg": "dog"},
            "1 of 2 paths with a label is no image of pets, first p/z",
        ),
        (
            {"p/a.jpg": "cow"},
            "label 'cow' of p/a.jpg is no class: expected drop or one of cat, dog",
        ),
        (
            {"p/a.jpg": "DROP"},
            "'DROP' of p/a.jpg is no class: expected drop or one of cat, dog; did you mean drop?",
        ),
        ({"p/a.jpg": "Cat"}, "did you mean cat?"),
        (
            {"p/a.jpg": "cat", "p/../p/a.jpg": "drop"},
            "p/../p/a.jpg is given the label 'drop', and p/a.jpg, the same image, 'cat': leave one",
        ),
    ],
)
def test_what_fits_no_image_or_class_is_refused(samples, corrections, said):
    with pytest.raises(DataError) as error:
        correct_labels(samples, corrections)
    assert said in str(error.value)


def test_a_class_named_drop_is_refused():
    with pytest.raises(DataError, match="has a class 'drop'"):
        correct_labels(Samples(("a", "b"), labels=["drop", "cat"]), {})


def test_named_pixels_are_found_by_their_names():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    samples = Samples(("digits/0", "digits/1"), labels=["0", "1"], pixels=images)
    assert correct_labels(samples, {"digits/0": "drop"}).paths == ("digits/1",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\na.jpg,cat\n", {"a.jpg": "cat"}),
        ("\ufefflabel,why,path\ncat,odd,a.jpg\ncat,odd,a.jpg\n", {"a.jpg": "cat"}),
        ("path,label\n'=x.jpg,'-1\n", {"=x.jpg": "-1"}),
        ("path,label\n", {}),
        ("Path;LABEL;why\na, b.jpg;cat;odd\n", {"a, b.jpg": "cat"}),
        ("path\tlabel\na.jpg\tcat\n", {"a.jpg": "cat"}),
        ("path,label\na.jpg ,cat \n", {"a.jpg ": "cat "}),
        ("path,label\na.jpg,\nb.jpg\n", {"a.jpg": "", "b.jpg": ""}),
        ("path,label\na,\na,cat\na,\n", {"a": "cat"}),
    ],
)
def test_tables(text, expected, tmp_path):
    (tmp_path / "fixes.csv").write_text(text, encoding="utf-8")
    assert read_corrections(tmp_path / "fixes.csv") == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"path,name\na,b\n", "no column 'label', but path, name: expected path,label"),
        (b"", "no column 'path', but none"),
        (b"path,label,Label\na,b,c\n", "two columns 'label'"),
        (b"path,label\n,cat\n", "line 2 lacks a path"),
        (b"path,label\na,cat\na,dog\n", "line 3 gives a the label 'dog', and a line before 'cat'"),
        (b"\xff\xfe\x00", "can't read"),
    ],
)
def test_tables_that_are_none(data, said, tmp_path):
    (tmp_path / "fixes.csv").write_bytes(data)
    with pytest.raises(DataError) as error:
        read_corrections(tmp_path / "fixes.csv")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_corrections(tmp_path / "gone.csv")


def test_a_file_that_is_no_sample_yet_is_one_more(tmp_path):
    for name in ("a.png", "b.png", "new.png", "no.png"):
        (tmp_path / name).touch()
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    samples = Samples(paths, labels=["cat", "dog"], split=["train", "test"], groups=["g", "h"])
    new = str(tmp_path / "new.png")
    found = correct_labels(samples, {paths[1]: "cat", new: "dog", str(tmp_path / "no.png"): "drop"})
    assert found.paths == (*paths, new)
    assert found.labels.tolist() == ["cat", "cat", "dog"]
    assert found.split.tolist() == ["train", "test", "train"]
    assert found.train_only.tolist() == [False, False, True]
    assert found.groups.tolist() == ["g", "h", new]
    assert found.notes == ("corrected: 1 image with another label, 0 dropped, 1 added to train on",)
    with pytest.raises(
        DataError, match=r"gone\.png: expected paths as in the tables of a run, or of files"
    ):
        correct_labels(samples, {str(tmp_path / "gone.png"): "cat"})
    with pytest.raises(DataError, match=r"'cow' of .*new\.png is no class"):
        correct_labels(samples, {new: "cow"})


def test_two_ways_to_one_new_file_add_it_once(tmp_path):
    (tmp_path / "new.png").touch()
    samples = Samples(("a", "b"), labels=["cat", "dog"])
    new, again = str(tmp_path / "new.png"), os.path.join(tmp_path, ".", "new.png")
    found = correct_labels(samples, {new: "dog", again: "dog"})
    assert found.paths == ("a", "b", new)
    assert found.train_only.tolist() == [False, False, True]
    with pytest.raises(DataError, match="the same image, 'dog': leave one of them out"):
        correct_labels(samples, {new: "dog", again: "cat"})


def test_spaces_are_part_of_a_name_where_one_has_them():
    samples = Samples(("a.jpg ", "b.jpg"), labels=["cat ", "dog"])
    found = correct_labels(samples, {"a.jpg ": "dog ", " b.jpg": "cat "})
    assert found.labels.tolist() == ["dog", "cat "]


def test_a_path_without_a_label_is_skipped_and_counted(samples):
    found = correct_labels(samples, {"p/a.jpg": "dog", "p/b.jpg": "", "gone.jpg": " "})
    assert found.labels.tolist() == ["dog", "dog", "cat", "dog"]
    assert found.notes[-1] == (
        "corrected: 1 image with another label, 0 dropped, 2 without a label skipped"
    )
    assert found.train_only is None


def test_a_table_labels_images_that_have_none():
    samples = Samples(("p/a.jpg", "p/b.jpg", "p/c.jpg", "p/d.jpg"), name="p")
    labelled = label_samples(samples, {"p/a.jpg": "dog", "p/b.jpg": " cat ", "p/c.jpg": "drop"})
    assert labelled.paths == ("p/a.jpg", "p/b.jpg")
    assert labelled.labels.tolist() == ["dog", "cat"]
    assert labelled.classes == ("cat", "dog")
    assert labelled.notes == (
        "labelled by a table: 2 images; 1 dropped, 1 without a label left out",
    )


def test_labels_that_were_there_are_passed_over():
    samples = Samples(("a.jpg", "b.jpg"), labels=["2019", "2020"])
    labelled = label_samples(samples, {"a.jpg": "cat", "b.jpg": "cat"})
    assert labelled.labels.tolist() == ["cat", "cat"]
    assert labelled.classes == ("cat",)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"x.jpg": "cat"}, "1 of 1 path with a label is no image of p, first x.jpg"),
        ({"a.jpg": ""}, "the table gives none of 2 images of p a label"),
        ({"a.jpg": "drop"}, "the table gives none of 2 images of p a label"),
    ],
)
def test_a_table_that_labels_nothing_is_refused(table, said):
    with pytest.raises(DataError, match=said):
        label_samples(Samples(("a.jpg", "b.jpg"), name="p"), table)


def test_two_names_of_one_image_with_two_labels_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a.png")
    samples = Samples(("a.png",))
    with pytest.raises(DataError, match="is given the label 'dog', and another path of the same"):
        label_samples(samples, {"a.png": "cat", str(tmp_path / "a.png"): "dog"})
