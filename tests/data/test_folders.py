"""Folders as people have them: splits under many names, what other programs leave, odd names."""

import os

import numpy as np
import pytest

from data import DataError, read_image_folder, read_images
from data.folders import Found
from data.layout import part_of_split


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
    monkeypatch.setattr("data.listing.readable_suffixes", lambda: frozenset({".jpg"}))
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


def test_a_link_to_a_folder_above_is_no_class(make_tree):
    folder = make_tree("top/cat/1.jpg", "top/dog/1.jpg") / "top"
    (folder / "up").symlink_to("..")
    (folder / "here").symlink_to(".")
    (folder / "root").symlink_to("/")
    (folder / "cat" / "all").symlink_to("../..")
    samples = read_image_folder(folder)
    assert samples.labels.tolist() == ["cat", "dog"]
    assert samples.passed_over == {"link to a folder above it": 4}


def test_a_link_to_a_folder_elsewhere_is_a_class(make_tree):
    folder = make_tree("top/cat/1.jpg", "elsewhere/1.jpg") / "top"
    (folder / "dog").symlink_to("../elsewhere")
    assert read_image_folder(folder).labels.tolist() == ["cat", "dog"]


def test_one_folder_under_two_class_names_is_refused(make_tree):
    folder = make_tree("cat/1.jpg", "dog/1.jpg")
    (folder / "kitty").symlink_to("cat")
    with pytest.raises(DataError, match="kitty: is one folder with the class cat, by a link"):
        read_image_folder(folder)


def test_a_class_that_is_a_link_to_nothing_is_refused(make_tree):
    folder = make_tree("cat/1.jpg", "dog/1.jpg")
    (folder / "owl").symlink_to("gone")
    with pytest.raises(DataError, match="owl: is a link to a missing file, and may be a class"):
        read_image_folder(folder)


@pytest.fixture
def closed(monkeypatch):
    """closed(path): no folder of that name can be listed, as one of another user."""
    scandir = os.scandir

    def refuse(folder):
        def scan(path):
            if os.fspath(path) == str(folder):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", scan)

    return refuse


@pytest.mark.parametrize("place", ["", "dog", "dog/more"])
def test_a_folder_that_can_not_be_read_is_an_error_where_classes_are(make_tree, closed, place):
    folder = make_tree("cat/1.jpg", "dog/1.jpg", "dog/more/1.jpg")
    closed(folder / place if place else folder)
    with pytest.raises(DataError, match=r"can't be read \(Permission denied\)"):
        read_image_folder(folder)


def test_a_folder_that_can_not_be_read_is_a_problem_where_no_classes_are(make_tree, closed):
    folder = make_tree("cat/1.jpg", "dog/1.jpg")
    closed(folder / "dog")
    samples = read_image_folder(folder, labelled=False)
    assert samples.problems == ((str(folder / "dog"), "can't be read (Permission denied)"),)


def test_empty_class_folders_are_named(make_tree):
    folder = make_tree("cat/1.jpg", "dog/1.jpg", "owl/read.me", "elk/deep/x.txt")
    samples = read_image_folder(folder)
    assert samples.classes == ("cat", "dog")
    assert samples.passed_over["class folder without images"] == 2
    assert samples.notes == (f"not used: empty class folders in {folder}: elk, owl",)


SITES = {
    "alike": ("siteA/ants/1.jpg", "siteA/bees/1.jpg", "siteB/ants/1.jpg", "siteB/bees/1.jpg"),
    "some alike": ("siteA/ants/1.jpg", "siteA/bees/1.jpg", "siteB/ants/1.jpg", "siteB/wasps/1.jpg"),
    "one alike": ("siteA/ants/1.jpg", "siteB/ants/1.jpg", "siteB/bees/1.jpg"),
    "a loose one": ("siteA/ants/1.jpg", "siteB/ants/1.jpg", "siteB/bees/1.jpg", "siteA/x.jpg"),
}


@pytest.mark.parametrize("names", SITES.values(), ids=SITES)
@pytest.mark.parametrize("top", ["", "deep/", "train/"])
def test_second_level_names_that_come_again_ask_which_level_is_the_class(make_tree, names, top):
    names = [top + name for name in names]
    folder = make_tree(*names, *(["test/siteA/ants/1.jpg"] if top == "train/" else []))
    with pytest.raises(DataError, match="two readings are possible") as error:
        read_image_folder(folder)
    assert "class_level=2 if ants, bees" in str(error.value)
    assert "class_level=1 if siteA, siteB are the classes" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("names", SITES.values(), ids=SITES)
def test_the_class_level_that_is_given_is_taken(make_tree, names):
    folder = make_tree(*names)
    by_site = read_images(folder, class_level=1)
    assert by_site.labels.tolist() == sorted(name.split("/")[0] for name in names)
    by_kind = read_images(folder, class_level=2)
    kinds = [name.split("/")[1] for name in names if name.count("/") == 2]
    assert by_kind.labels.tolist() == sorted(kinds)
    loose = {"image outside the class folders": 1} if len(kinds) < len(names) else {}
    assert by_kind.passed_over == loose


def test_levels_are_counted_from_the_folder_or_from_each_part_of_its_split(make_tree):
    one_site = make_tree("deep/siteA/ants/1.jpg", "deep/siteA/bees/1.jpg")
    assert read_image_folder(one_site / "deep", class_level=2).classes == ("ants", "bees")
    assert read_image_folder(one_site, class_level=3).classes == ("ants", "bees")
    split = make_tree("s/train/x/ants/1.jpg", "s/train/y/bees/1.jpg", "s/test/z/ants/1.jpg") / "s"
    samples = read_image_folder(split, class_level=2)
    assert samples.classes == ("ants", "bees")
    assert samples.split.tolist() == ["test", "train", "train"]


def test_a_third_level_that_comes_again_is_asked_for_too(make_tree):
    folder = make_tree(*(f"{site}/{kind}/1.jpg" for site in ("p/a", "q/b") for kind in "xy"))
    with pytest.raises(DataError, match="three readings") as error:
        read_image_folder(folder)
    assert "class_level=3 if x, y are the classes, class_level=2 if a, b" in str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        ("cat/1.jpg", "dog/1.jpg", "cat/crops/1.jpg", "dog/crops/1.jpg", "dog/raw/1.jpg"),
        ("cat/images/1.jpg", "dog/images/1.jpg", "cat/labels/1.txt", "dog/labels/1.txt"),
        ("cat/tabby/1.jpg", "cat/manx/1.jpg", "dog/pug/1.jpg"),
        ("cat/1.jpg", "dog/a/1.jpg", "dog/b/1.jpg"),
    ],
)
def test_folders_in_classes_are_not_asked_for_without_need(make_tree, names):
    assert read_image_folder(make_tree(*names)).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("source", "level", "message"),
    [
        ("", 0, "class_level=0: expected 1 or more"),
        ("", 3, r"no folders 3 levels below it; class_level=3 expects .*\*.\*.CLASS"),
        ("", 2, "no folders 2 levels below"),
        ("pets.csv", 2, "pets.csv is no folder"),
        ("digits", 1, "digits is no folder"),
    ],
)
def test_class_levels_that_can_not_be_used(make_tree, source, level, message):
    folder = make_tree("cat/1.jpg", "dog/1.jpg", "pets.csv")
    with pytest.raises(DataError, match=message):
        read_images(source if source == "digits" else folder / source, class_level=level)
