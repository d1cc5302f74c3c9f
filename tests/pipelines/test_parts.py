"""No class is tested that nothing was trained on: each way there is refused in one clear line."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import DataError, Samples, read_images
from pipelines.job import run_job
from pipelines.parts import refuse_small_classes
from pipelines.settings import RunSettings

DUPLICATES = (
    "12 are exact duplicates of test images, which are not trained on; take them out of the test "
    "part, or give other training images"
)


@pytest.fixture
def ran(tmp_path):
    """ran(images, **settings) -> the RunResult of a quick run."""

    def call(images, **options):
        quick = {"weights": "random", "size": 32, "cv": 2, "heads": "knn", "baselines": False}
        quick |= {"backbone": "mobilenet_v3_small", "layers": "features.4", "pooling": "avg"}
        quick |= {"views": "plain", "cache": tmp_path / "cache"} | options
        return run_job(images, RunSettings(**quick))

    return call


@pytest.fixture
def refused(ran):
    """refused(images, **settings) -> what is said where such a run is refused."""

    def call(images, **options):
        with pytest.raises(DataError) as caught:
            ran(images, **options)
        return str(caught.value)

    return call


def split_inside(photos, place, **moved):
    """photos/train and photos/test in place: of each class the named numbers are in test."""
    for kind, tested in moved.items():
        for file in (photos / kind).iterdir():
            part = "test" if int(file.stem) in tested else "train"
            (place / part / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place / part / kind / file.name)
    return place


def test_a_class_whose_training_images_are_copies_of_the_test_is_named(photos, refused, tmp_path):
    shutil.copytree(photos / "dogs", tmp_path / "part" / "dogs")
    said = refused(str(photos), test=str(tmp_path / "part"))
    assert said == f"class 'dogs' has 12 test images and none left to train on: {DUPLICATES}"


def test_a_test_part_that_is_a_copy_of_all_is_named(photos, refused, tmp_path):
    shutil.copytree(photos, tmp_path / "copy")
    said = refused(str(photos), test=str(tmp_path / "copy"))
    assert said == f"photos has no training image left: {DUPLICATES.replace('12', '24')}"


def test_near_copies_that_are_dropped_are_told_from_exact_ones(photos, refused, tmp_path):
    place = split_inside(photos, tmp_path / "both", cats=range(4), dogs=range(4))
    for file in (place / "train" / "dogs").iterdir():
        file.unlink()
    shutil.copy(photos / "dogs" / "0.png", place / "train" / "dogs")
    Image.open(photos / "dogs" / "1.png").save(place / "train" / "dogs" / "again.bmp")
    said = refused(str(place), duplicates="drop")
    assert said.startswith("class 'dogs' has 4 test images and none left to train on: 1 ")
    assert "1 is an exact duplicate of a test image" in said
    assert "1 is a near copy of an image that stays" in said
    assert "--duplicates group or keep lets them stay" in said


def test_unreadable_images_and_contradicted_labels_are_told(photos, refused, tmp_path):
    place = split_inside(photos, tmp_path / "both", cats=range(4), dogs=range(4))
    for file in list((place / "train" / "dogs").iterdir())[2:]:
        file.unlink()
    one, other = (place / "train" / "dogs").iterdir()
    one.write_bytes(b"\x89PNG\r\n\x1a\n cut")
    shutil.copy(other, place / "train" / "cats")
    said = refused(str(place), max_bad=1.0)
    assert "class 'dogs' has 4 test images and none left to train on: " in said
    assert "1 can't be read" in said
    assert "1 has a copy with another label" in said
    assert "mend them" in said
    assert "mend the labels" in said


@pytest.mark.slow
def test_of_an_earlier_runs_split_what_is_gone_is_told(photos, ran, refused, tmp_path):
    first = ran(str(photos), out=tmp_path / "out")
    dogs = [row for row in first.split.train if first.samples.labels[row] == "dogs"]
    for row in dogs:
        shutil.copy(first.samples.paths[row], photos / "cats" / f"again{row}.png")
    said = refused(str(photos), split=str(tmp_path / "out"), max_bad=1.0)
    assert said == (
        f"class 'dogs' has {12 - len(dogs)} test images and none left to train on: {len(dogs)} "
        "have copies with other labels; mend the labels"
    )


def as_samples(photos, tested):
    """The photos as samples with a split: `tested` says of which (class, number) is in test."""
    samples = read_images(str(photos))
    numbers = [int(Path(path).stem) for path in samples.paths]
    sides = map(tested, samples.labels, numbers)
    return replace(samples, split=["test" if side else "train" for side in sides])


def test_a_class_that_was_never_trained_on_is_refused(photos, refused):
    said = refused(as_samples(photos, lambda kind, number: kind == "dogs" or number < 4))
    assert said == (
        "class 'dogs' has 12 test images and none to train on: give it some, or leave it out of "
        "the test part"
    )


def test_several_classes_are_counted(photos, refused, add_photos):
    (photos / "dogs").rename(photos / "wolves")
    add_photos(photos / "more", start=30)
    (photos / "more" / "dogs").rename(photos / "dogs")
    shutil.rmtree(photos / "more")
    said = refused(as_samples(photos, lambda kind, number: kind != "cats"))
    assert said.startswith("class 'dogs' (and 1 more) has 12 test images and none to train")


def test_a_training_class_that_is_not_tested_is_no_fault(photos, ran):
    tested = as_samples(photos, lambda kind, number: kind == "cats" and number < 4)
    assert ran(tested).chosen["test_recall"].keys() == {"cats"}


@pytest.mark.parametrize(
    ("labels", "groups", "said"),
    [
        ("aaaaaabbbbbb", None, "class 'b' has 6 images, 4 of them to train on, and 5 folds need 5"),
        ("aaaaaabbbbbb", list("012345666789"), "class 'b' has 4 groups, 2 of them to train on"),
    ],
)
def test_a_class_too_small_for_the_folds_is_told_by_all_its_images(labels, groups, said):
    samples = Samples(tuple(map(str, range(12))), labels=np.array(list(labels)), groups=groups)
    with pytest.raises(DataError) as caught:
        refuse_small_classes(samples, np.arange(10), 5)
    assert said in str(caught.value)
    assert f"--cv {4 if groups is None else 2} needs no more" in str(caught.value)


def test_fewer_folds_help_as_is_said(photos, refused, ran):
    for file in list((photos / "dogs").iterdir())[4:]:
        file.unlink()
    said = refused(str(photos), cv=5)
    n_train = ran(str(photos), cv=3).split.train
    assert len(n_train) == 12
    assert said == (
        "class 'dogs' has 4 images, 3 of them to train on, and 5 folds need 5 of these: "
        "--cv 3 needs no more"
    )
