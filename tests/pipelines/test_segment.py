"""Tests of pipelines/segment.py: what is printed, and wrong calls."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from data import write_mask
from pipelines.segment import main

SMALL = ["--backbone", "mobilenet_v3_small", "--weights", "random", "--size", "64",
         "--layers", "features.1,features.6", "--pixels-per-image", "40"]  # fmt: skip


@pytest.fixture
def segment(tmp_path, capsys):
    """Call `pipelines.segment` on eight images, dark and bright -> (exit code, stdout, stderr)."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(8):
        rng = np.random.default_rng(number)
        mask = np.uint8(np.arange(60) > rng.integers(20, 40)) * np.ones((48, 1), np.uint8)
        plane = rng.normal(80 + 90 * mask[..., None], 15, (48, 60, 3)).clip(0, 255)
        Image.fromarray(plane.astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
        write_mask(tmp_path / "masks" / f"{number}.png", mask)

    def call(*arguments):
        where = [*("--cache", tmp_path / "cache"), *("--out", tmp_path / "out")]
        folders = tmp_path / "images", tmp_path / "masks"
        code = main([str(own) for own in (*folders, *SMALL, *where, *arguments)])
        return code, *capsys.readouterr()

    return call


def test_overlap_of_each_class_is_printed(segment, tmp_path):
    code, out, err = segment()
    assert code == 0, err
    assert "--ignore" not in out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    mean = results["overlap"]["mean"]
    assert "intersection over union of 2 test images, 6 to learn from" in out
    assert f"mean       {mean['value']:.3f} ({mean['low']:.3f} to {mean['high']:.3f})" in out
    assert f"load_pixels('{tmp_path}/out/model')" in out
    assert results["command"][:3] == ["python", "-m", "pipelines.segment"]
    assert "6 images to compute (0 kept already), 2 taps" in err
    assert "2 images to compute (0 kept already), 2 taps" in err


def test_one_test_image_gets_no_interval(segment, tmp_path):
    test = tmp_path / "test images", tmp_path / "test masks"
    for folder, kind in zip(test, ("images", "masks"), strict=True):
        folder.mkdir()
        (tmp_path / kind / "7.png").rename(folder / "7.png")
    code, out, err = segment("--test", *test, "--quiet")
    assert (code, err) == (0, "")
    assert "intersection over union of 1 test image, 7 to learn from" in out
    assert out.count("(too few images for an interval)") == 3


def test_a_forest_is_not_kept_and_says_so_and_a_number_that_no_mask_has(segment, tmp_path):
    code, out, err = segment("--head", "forest", "--quiet", "--ignore", "99")
    assert (code, err) == (0, "")
    assert "no mask has the number 99 that --ignore names: every pixel counts" in out
    assert "the classifier is not kept" in out
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--head", "knn"], "--head knn: expected one of logistic, forest"),
        (["--pixels-per-image", "0"], "--pixels-per-image 0: expected 1 or more"),
        (["--backbone", "resnet18,alexnet"], "--backbone resnet18,alexnet: expected the name"),
        (["--ignore", "-3"], "--ignore -3: expected a number of the masks, from 0 to 65535"),
        (["--ignore", "65536"], "--ignore 65536: expected a number of the masks"),
        (["--ignore", "1"], "the masks hold the one class 0"),
        (["--test", "nowhere", "nowhere"], "nowhere is no folder"),
        (["--size", "0"], "size"),
    ],
)
def test_a_wrong_call_is_one_line(segment, tmp_path, arguments, expected):
    code, out, err = segment(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert expected in err
    assert not (tmp_path / "out").exists()


def test_a_mask_that_is_missing_or_of_colours_is_named(segment, tmp_path):
    Image.new("RGB", (60, 48)).save(tmp_path / "masks" / "3.png")
    code, _, err = segment()
    assert (code, len(err.splitlines())) == (1, 1)
    assert "3.png: not a readable PNG: it holds colours" in err
    (tmp_path / "masks" / "3.png").unlink()
    code, _, err = segment()
    assert code == 2
    assert "3.png has no mask (1 of 8 images have none)" in err


def test_images_and_masks_by_url(segment, tmp_path, bucket, capsys):
    for name in ("images", "masks"):
        shutil.copytree(tmp_path / name, bucket.folder / name)
    folders = [f"{bucket.url}/images", f"{bucket.url}/masks"]
    where = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    assert main([*folders, *SMALL, *where]) == 0
    assert "of 2 test images, 6 to learn from" in capsys.readouterr().out
    predicted = [path.name for path in (tmp_path / "out" / "masks").iterdir()]
    assert len(predicted) == 2
    assert {*predicted} <= {f"{number}.png" for number in range(8)}
