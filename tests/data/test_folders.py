"""Folders as people have them: splits under many names, what other programs leave, odd names."""

import os

import numpy as np
import pytest

from data import DataError, read_image_folder, read_images
from data.folders import Found, part_of_split


def tree(make_tree, *parts, classes="ab"):
    return make_tree(*(f"{part}/{label}/1.jpg" for part in parts for label in classes))


@pytest.mark.parametrize(
    "parts",
    [
        ("train", "valid"),
        ("train", "validation"),
        ("Train", "Test"),
        ("Training", "Testing"),
        ("TRAIN", "VAL"),
        ("training_set", "test_set"),
        ("train", "dev"),
        ("train2017", "val2017"),
        ("images/train", "images/test"),
        ("dataset/images/train", "dataset/images/test"),
    ],
)
def test_a_split_by_its_usual_names(make_tree, parts):
    samples = read_image_folder(tree(make_tree, *parts))
    assert samples.labels.tolist() == ["a", "b", "a", "b"]
    sides = dict(zip(samples.paths, samples.split.tolist(), strict=True))
    for path, side in sides.items():
        assert ("train" in path.replace(os.sep, "/").rsplit("/", 2)[0].lower()[-12:]) == (
            side == "train"
        )


@pytest.mark.parametrize("middle", ["valid", "val", "Validation", "dev"])
def test_with_all_three_the_validation_part_joins_train_and_it_is_said(make_tree, middle):
    samples = read_image_folder(tree(make_tree, "train", middle, "test"))
    assert sorted(samples.split.tolist()) == ["test"] * 2 + ["train"] * 4
    assert ["val joins train" in note for note in samples.notes] == [True]


def test_folders_without_images_beside_a_split_are_no_part_of_it(make_tree):
    folder = tree(make_tree, "train", "test")
    (folder / "labels").mkdir()
    (folder / "labels" / "readme.txt").touch()
    samples = read_image_folder(folder)
    assert samples.classes == ("a", "b")
    assert samples.passed_over == {"folder without images beside the split": 1}


@pytest.mark.parametrize(
    "parts",
    [("camera1", "camera2"), ("fold1", "fold2", "fold3"), ("train", "extra"), ("a", "test")],
)
def test_two_readings_are_refused_with_both(make_tree, parts):
    folder = tree(make_tree, *parts, classes=("cat", "dog"))
    with pytest.raises(DataError, match="two readings") as error:
        read_image_folder(folder)
    assert "if cat, dog are the classes" in str(error.value)
    assert f"if {', '.join(sorted(parts))} are the classes" in str(error.value)


def test_two_folders_of_one_part_are_refused(make_tree):
    folder = tree(make_tree, "train", "Training", "test")
    with pytest.raises(DataError, match="Training and train are both a train part"):
        read_image_folder(folder)


def test_classes_with_one_sub_folder_each_stay_classes(make_tree):
    folder = make_tree("cat/images/1.jpg", "dog/images/1.jpg", "dog/images/2.jpg")
    assert read_image_folder(folder).labels.tolist() == ["cat", "dog", "dog"]


@pytest.mark.parametrize("top", ["photos", "test", "Train", "a/b"])
def test_one_lone_folder_is_entered_and_said(make_tree, top):
    samples = read_image_folder(tree(make_tree, top, classes=("cat", "dog")))
    assert (samples.classes, samples.split) == (("cat", "dog"), None)
    assert "holds the one folder" in samples.notes[0]


def test_what_other_programs_leave_is_passed_over(make_tree):
    folder = make_tree(
        *("cat/1.jpg", "dog/1.jpg", "cat/@eaDir/1.jpg/THUMB.jpg", "__MACOSX/cat/._1.jpg"),
        *("cat/.ipynb_checkpoints/1-checkpoint.jpg", "cat/._1.jpg", "cat/Thumbs.db", ".DS_Store"),
    )
    samples = read_image_folder(folder)
    assert (samples.classes, samples.problems) == (("cat", "dog"), ())
    assert samples.passed_over == {"left by other programs": 3, "hidden": 3}


def test_files_of_other_kinds_are_counted_by_suffix(make_tree, monkeypatch):
    monkeypatch.setattr("data.folders.readable_suffixes", lambda: frozenset({".jpg"}))
    folder = make_tree(
        *("cat/1.jpg", "dog/1.jpg", "dog/1.HEIC", "dog/2.heic", "dog/notes"), "cat/a.verylongsuffix"
    )
    assert read_image_folder(folder).passed_over == {
        ".heic": 2,
        "without a suffix": 1,
        "of other suffixes": 1,
    }


def test_thousands_of_suffixes_are_counted_in_few_numbers():
    found = Found()
    found.pass_over_files(f"file.{number}" for number in range(5000))
    assert sum(found.passed_over.values()) == 5000
    assert len(found.passed_over) < 60


def test_classes_that_differ_in_case_alone_are_noted(make_tree):
    samples = read_image_folder(make_tree("cat/1.jpg", "Cat/1.jpg", "dog/1.jpg"))
    assert samples.notes == ("classes 'Cat' and 'cat' are almost one name: two classes, or one?",)


ODD_NAMES = ["new\nline", "esc\x1b[31m", "🦭", "=1+1", "x" * 251, " space ", "caf\udce9"]


def test_odd_names_of_files_and_classes(tmp_path):
    for name in ODD_NAMES:
        place = tmp_path / name
        place.mkdir()
        (place / f"{name}.jpg").touch()
    samples = read_images(tmp_path)
    assert samples.labels.tolist() == sorted(ODD_NAMES)
    assert all(os.path.exists(path) for path in samples.paths)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Training", "train"),
        ("train_set", "train"),
        ("train-images", "train"),
        ("VALID", "val"),
        ("test2", None),
        ("trainer", None),
        ("contest", None),
        ("", None),
        ("set", None),
    ],
)
def test_names_of_parts(name, part):
    assert part_of_split(name) == part


def test_links_in_a_circle_end_before_the_classes_too(tmp_path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "up").symlink_to(tmp_path)
    with pytest.raises(DataError, match="no images found"):
        read_image_folder(tmp_path)


def test_labels_are_text(make_tree):
    assert (
        read_image_folder(make_tree("1/1.jpg", "2/1.jpg")).labels.dtype.kind == np.dtype(str).kind
    )
