"""What the machine has, and rates of decoding and forward."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import ImageError
from extract import ExtractError, Tap
from extract.speed import Speed, machine, made_up_photos, measure_speed

TAPS = [Tap("layer2.0", "avg")]


def test_the_machine_is_described(tmp_path):
    found = machine(tmp_path / "not" / "there")
    assert list(found) == ["processor", "GPU", "decoder", "engines", "numerics", "cache"]
    assert "cores for this process" in found["processor"]
    assert found["decoder"].startswith("Pillow")
    assert found["engines"].startswith("torch")
    assert "; auto takes " in found["numerics"]
    assert str(tmp_path) in found["cache"]


def test_every_engine_is_measured(backbone, photos):
    speed = measure_speed(backbone, TAPS, photos, "cpu", "float32", 0.05)
    assert speed.device == "cpu"
    assert speed.numerics == "float32"
    assert "torch-eager" in speed.forward
    assert min(speed.decode, *speed.forward.values(), speed.start) > 0


def test_images_that_can_not_be_read_are_an_error(backbone, tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        measure_speed(backbone, TAPS, [str(tmp_path / "gone.png")], "cpu", "float32", 0.05)
    with pytest.raises(ExtractError, match="unknown numerics"):
        measure_speed(backbone, TAPS, [str(tmp_path / "gone.png")], "cpu", "float17", 0.05)


@pytest.mark.parametrize(("device", "expected"), [("cpu", 1 + 10 + 5), ("cuda", 1 + 10)])
def test_a_pass_takes_both_in_turn_or_the_slower(device, expected):
    assert Speed(device, "float32", 10.0, {"a": 5.0, "b": 20.0}, 1.0).seconds(100) == expected


def test_made_up_photos_are_like_photos(tmp_path):
    paths = made_up_photos(tmp_path)
    with Image.open(paths[0]) as image:
        assert (image.format, image.size) == ("JPEG", (500, 375))
    assert len(set(paths)) == len(paths)
    assert 20_000 < np.mean([Path(path).stat().st_size for path in paths]) < 200_000
