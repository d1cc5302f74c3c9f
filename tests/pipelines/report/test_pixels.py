"""Tests of pipelines/report/pixels.py: the page of a segmentation."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from data import Reading
from pipelines.report.pixels import make_pixels_page, show

OVERLAP = {"value": 0.5, "low": 0.4, "high": 0.62}
NOWHERE = {"value": None, "low": None, "high": None}
RESULTS = {
    "command": ["python", "-m", "pipelines.segment", "my photos"],
    "data": {
        "classes": [0, 300],
        "shares": [1.0, 0.0],
        "n_train": 3,
        "n_test": 1,
        "ignore": 257,
        "ignore_found": True,
    },
    "overlap": {"mean": OVERLAP, "classes": [{"class": 0, **OVERLAP}, {"class": 300, **NOWHERE}]},
    "images": [{"path": "<b>.png", "overlap": 0.5}],
    "backbone": "resnet18",
    "weights": "random",
    "head": "forest",
    "layers": ["layer1", "layer2"],
    "size": [64, 64],
    "seed": 0,
    "kept": False,
}


@pytest.fixture
def shown(tmp_path):
    """One image whose left half has the number 257."""
    Image.new("RGB", (1200, 600)).save(tmp_path / "<b>.png")
    truth = np.zeros((600, 1200), np.uint16)
    truth[:, :600] = 257
    return show(0, str(tmp_path / "<b>.png"), truth, np.zeros_like(truth), Reading())


def test_pictures_are_small_and_of_the_colours_of_their_classes(shown):
    kind, data = shown.truth.removeprefix("data:").split(";base64,")
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert kind == "image/png"
    assert mask.shape == (128, 256, 3)
    assert mask[0, [0, 255]].tolist() == [[128, 0, 0], [0, 0, 0]]


def test_the_page_of_one_test_image_has_no_interval(shown):
    one = {"value": 0.5, "low": None, "high": None}
    overlap = {"mean": one, "classes": [{"class": 0, **one}, {"class": 300, **NOWHERE}]}
    page = make_pixels_page(RESULTS | {"overlap": overlap}, [shown])
    assert "there is no interval, as no class is in two images" in page
    assert "<td>of one image: no interval</td>" in page
    assert "no pixel of it" in page
    assert " to " not in page[page.index("<table") : page.index("</table>")]


def test_the_page_is_whole_in_itself_and_names_are_escaped(shown):
    page = make_pixels_page(RESULTS, [shown])
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!data:|#)', page) == []
    assert "&lt;b&gt;.png" in page
    assert "<b>.png" not in page
    assert "no pixel of it" in page
    assert 'style="background:#800000"></span>257 is no class' in page
    assert "The classifier is not kept." in page
    assert "python -m pipelines.segment &#39;my photos&#39;" in page
