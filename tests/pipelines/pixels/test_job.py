"""Tests of segment_job: the split, the figures, the files, and what is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from data import DataError, ImageError, read_mask, write_mask
from pipelines import SegmentSettings, load_pixels, segment_job
from pipelines.errors import BundleError, WrongCall
from pipelines.results_folder import SEGMENTATION, results_folder


@pytest.fixture
def settings(small, tmp_path):
    """Of a quick job into `tmp_path`/out."""
    return SegmentSettings(
        pixels_per_image=40,
        layers="features.1,features.6",
        numerics="float32",
        cache=tmp_path / "cache",
        out=tmp_path / "out",
        **small,
    )


def test_the_whole_job(folders, settings, tmp_path):
    events = []
    result = segment_job(*folders, settings, on_event=events.append, command=["segment", "it"])
    out = tmp_path / "out"
    assert json.loads((out / "results.json").read_text()) == result.results
    data, overlap = result.results["data"], result.results["overlap"]
    assert (data["classes"], data["n_train"], data["n_test"]) == ([0, 3], 6, 2)
    assert data["split"] == "held_out"
    assert overlap["mean"]["low"] <= overlap["mean"]["value"] <= overlap["mean"]["high"]
    assert overlap["mean"]["value"] > 0.8
    assert {"PassPlanned", "PassAdvanced"} == {type(event).__name__ for event in events}
    images = [own["path"] for own in result.results["images"]]
    written = sorted((out / "masks").rglob("*.png"))
    assert len(written) == 2
    predicted = load_pixels(out / "model", cache=tmp_path / "cache").predict(sorted(images))
    assert all(
        np.array_equal(read_mask(file), own) for file, own in zip(written, predicted, strict=True)
    )
    page = (out / "report.html").read_text()
    assert page.count("<img") == 6
    assert "segment it" in page
    segment_job(*folders, replace(settings, head="forest"))  # over its own results
    assert not (out / "model").exists()


def test_given_test_images_are_those_that_are_tested(folders, settings, tmp_path):
    test = tmp_path / "test" / "images", tmp_path / "test" / "masks"
    for source, target in zip(folders, test, strict=True):
        shutil.copytree(source / "b", target)
        shutil.rmtree(source / "b")
    given = replace(settings, test=test, out=None)
    results = segment_job(*folders, given).results
    assert (results["data"]["n_train"], results["data"]["n_test"]) == (4, 4)
    assert results["data"]["split"] == "given"
    shutil.copy(test[0] / "1.png", folders[0] / "copy.png")
    shutil.copy(test[1] / "1.png", folders[1] / "copy.png")
    with pytest.raises(DataError, match=r"1 test image, .*1.png among them, is a training image"):
        segment_job(*folders, given)


def test_a_class_that_no_training_mask_has_counts_as_found_nowhere(folders, settings, tmp_path):
    test = tmp_path / "test" / "images", tmp_path / "test" / "masks"
    for source, target in zip(folders, test, strict=True):
        target.parent.mkdir(exist_ok=True)
        shutil.move(source / "b", target)
    mask = read_mask(test[1] / "1.png")
    mask[:5] = 200
    write_mask(test[1] / "1.png", mask)
    results = segment_job(*folders, replace(settings, test=test)).results
    assert results["data"]["classes"] == [0, 3, 200]
    assert results["data"]["shares"][2] == results["overlap"]["classes"][2]["value"] == 0


def test_copies_of_an_image_are_on_one_side(folders, settings):
    images, masks = folders
    for i in range(8):  # every image, and so one that is held out
        name = f"b/{i}" if i % 2 else str(i)
        shutil.copy(images / f"{name}.png", images / f"copy{i}.png")
        shutil.copy(masks / f"{name}.png", masks / f"copy{i}.png")
    results = segment_job(*folders, replace(settings, out=None)).results
    tested = [own["path"].rpartition("/")[2].removeprefix("copy") for own in results["images"]]
    assert len(tested) == 2 * len(set(tested))


def test_one_image_alone_cant_be_learnt_and_tested(folders, settings):
    for kind in folders:
        shutil.rmtree(kind / "b")
        for file in [*kind.iterdir()][1:]:
            file.unlink()
        shutil.copy(next(kind.iterdir()), kind / "copy.png")
    with pytest.raises(DataError, match=r"images holds one image, or copies of one: expected two"):
        segment_job(*folders, settings)


def test_a_test_mask_of_another_size_is_said_before_any_pass(folders, settings, tmp_path):
    test = tmp_path / "test" / "images", tmp_path / "test" / "masks"
    for source, target in zip(folders, test, strict=True):
        target.parent.mkdir(exist_ok=True)
        shutil.move(source / "b", target)
    write_mask(test[1] / "3.png", np.zeros((60, 48), np.uint8))
    events = []
    with pytest.raises(DataError, match=r"the mask of .*test/images/3\.png has 48 x 60 pixels"):
        segment_job(*folders, replace(settings, test=test), on_event=events.append)
    assert events == []


def test_a_folder_of_something_else_is_left_as_it_is(folders, settings, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text('{"schema": 1}')
    with pytest.raises(WrongCall, match=r"holds a results\.json that no segmentation wrote"):
        segment_job(*folders, settings)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["results.json"]


def test_what_else_lies_in_the_folder_stays(folders, settings, tmp_path):
    """Notes that somebody took, and the features of a cache that is kept there."""
    out = tmp_path / "out"
    asked = replace(settings, cache=out / "cache")
    segment_job(*folders, asked)
    (out / "notes.txt").write_text("note")
    kept = sorted((out / "cache").rglob("*.h5"))
    assert kept
    segment_job(*folders, asked)
    assert (out / "notes.txt").read_text() == "note"
    assert sorted((out / "cache").rglob("*.h5")) == kept
    names = {path.name for path in out.iterdir()}
    assert names == {"results.json", "report.html", "model", "masks", "notes.txt", "cache"}
    nothing = replace(SEGMENTATION, files=())
    with results_folder(out, nothing), pytest.raises(WrongCall, match="another run is at work"):
        segment_job(*folders, asked)
    (out / "model" / "pixels.json").rename(out / "model" / "mine")
    with pytest.raises(BundleError, match=r"model exists and holds no pixels\.json"):
        segment_job(*folders, asked)


def test_masks_that_are_learnt_from_are_not_replaced(folders, settings, tmp_path):
    segment_job(*folders, settings)
    predicted = tmp_path / "out" / "masks"
    with pytest.raises(WrongCall, match="out/masks would be replaced by the predicted masks"):
        segment_job(folders[0], predicted, settings)
    with pytest.raises(WrongCall, match="out/masks would be replaced"):
        segment_job(*folders, replace(settings, test=(folders[0], predicted)))


def test_what_fails_leaves_the_results_of_before(folders, settings, tmp_path):
    segment_job(*folders, settings)
    before = (tmp_path / "out" / "results.json").read_bytes()
    for image in (folders[0] / "b").iterdir():
        image.write_bytes(b"none any more")
    with pytest.raises(ImageError, match="begins with b'none any mor'"):
        segment_job(*folders, settings)
    assert (tmp_path / "out" / "results.json").read_bytes() == before
