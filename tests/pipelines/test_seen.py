"""The patches of a run's page: of the images that the heads' features name, where they were put."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from extract import load_backbone
from pipelines import RunSettings, run_job
from pipelines.report.__main__ import main
from pipelines.stages import seen as seen_file
from pipelines.stages.seen import find_largest
from tests.extract.introspection.conftest import SIDE, Detector, load_detector

QUICK = {"cv": 3, "views": "plain", "baselines": False, "report": True}


@pytest.fixture(scope="module")
def detector():
    return load_detector()


@pytest.fixture
def spots(tmp_path):
    """12 gray images with a red spot in one of nine cells, and 12 with a green one."""
    rng = np.random.default_rng(0)
    for kind, colour in {"red": (255, 0, 0), "green": (0, 255, 0)}.items():
        (tmp_path / "spots" / kind).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(118, 138, (SIDE, SIDE, 3)).astype(np.uint8)
            y, x = 4 * rng.integers(0, 8, 2)
            pixels[y : y + 4, x : x + 4] = colour
            Image.fromarray(pixels).save(tmp_path / "spots" / kind / f"{i} {y} {x}.png")
    return tmp_path / "spots"


@pytest.fixture
def see(spots, detector, tmp_path):
    """Run the spots through the network of which it is known what it sees -> its result."""

    def call(**options):
        settings = {
            "backbone": detector,
            "layers": "relu",
            "pooling": "max",
            "heads": "logistic",
            "cache": tmp_path / "cache",
            "out": tmp_path / "out",
            **QUICK,
            **options,
        }
        return run_job(str(spots), RunSettings(**settings))

    return call


def placed(path):
    """Row and column at which the spot of an image was put, from its name."""
    return tuple(map(int, path.rsplit("/", 1)[1].removesuffix(".png").split(" ")[1:]))


@pytest.mark.parametrize(
    ("pooling", "heads", "by"),
    [
        ("max", "logistic", "weights"),
        ("avg", "ridge", "weights"),
        ("avgmax", "logistic", "weights"),
        ("grid2", "logistic", "weights"),
        ("flatten", "logistic", "weights"),
        ("raw16", "logistic", "weights"),
        ("max", "knn", "differences"),
    ],
)
def test_the_patches_are_the_spots_where_they_were_put(see, pooling, heads, by):
    result = see(pooling=pooling, heads=heads)
    seen = result.results["seen"]
    assert (seen["problem"], seen["by"]) == (None, by)
    assert (seen["layer"], seen["tap"], seen["shape"]) == ("relu", f"relu:{pooling}", [3, 8, 8])
    assert {own["channel"] for own in seen["channels"]} == {0, 1, 2}
    train = [result.samples.paths[row] for row in result.split.train]
    for own in seen["channels"]:
        assert len(own["patches"]) == 9
        values = [patch["value"] for patch in own["patches"]]
        assert values == sorted(values, reverse=True)
        if own["channel"] == 1:
            continue
        for patch in own["patches"][:6]:
            y, x = placed(patch["path"])
            assert patch["path"] in train
            assert f"/{('red', '', 'green')[own['channel']]}/" in patch["path"]
            expected = [x / SIDE, y / SIDE, (x + 4) / SIDE, (y + 4) / SIDE]
            assert patch["box"] == pytest.approx(expected, abs=1e-4)


def test_the_page_shows_the_patches_cut_out(see, tmp_path):
    result = see()
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "What the chosen layer sees" in page
    assert page.count('alt="patch of') == 27
    assert "its file is gone" not in page
    assert (
        json.loads((tmp_path / "out" / "results.json").read_text())["seen"]
        == (result.results["seen"])
    )


def test_of_files_that_are_gone_small_pictures_are_cut(see, spots, tmp_path, capsys):
    see()
    shutil.rmtree(spots)
    out, kept = str(tmp_path / "out"), str(tmp_path / "cache")
    assert main([out, "--cache", kept]) == 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert (page.count('alt="patch of'), page.count("its file is gone")) == (27, 0)
    shutil.rmtree(kept)
    assert main([out, "--cache", kept]) == 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert (page.count('alt="patch of'), page.count("its file is gone")) == (0, 27)


def test_it_is_remembered_and_the_images_may_have_moved(see, spots, monkeypatch):
    first = see().results["seen"]
    monkeypatch.setattr(seen_file, "locate_patches", None)
    again = see().results["seen"]
    assert again == first


def test_of_a_blend_and_of_joined_taps_a_layer_with_places_is_looked_at(see):
    assert see(layers="relu:grid2+last:avg").results["seen"]["layer"] == "last"
    assert see(layers="relu,last", heads="logistic,knn", pooling="avg").results["seen"]["channels"]


def test_a_fault_in_it_takes_nothing_with_it(see, tmp_path, monkeypatch):
    def fails(*given, **named):
        raise ValueError("no look today")

    monkeypatch.setattr(seen_file, "locate_patches", fails)
    seen = see().results["seen"]
    assert seen == {"problem": "ValueError: no look today"}
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "There is nothing to see: ValueError: no look today." in page


def test_heads_on_vectors_alone_have_nothing_to_show(see):
    seen = see(layers="vector", pooling="avg").results["seen"]
    assert seen == {"problem": "the chosen heads take no layer with a spatial map"}


class Tokens(Detector):
    """The same with its map as tokens behind one of the whole image, or as a grid of windows."""

    def __init__(self, is_grid):
        super().__init__()
        self.is_grid, self.out, self.vector = is_grid, nn.Identity(), nn.Identity()

    def forward(self, x):
        found = self.relu(self.conv(x)).permute(0, 2, 3, 1)
        if self.is_grid:
            return self.vector(self.out(found).mean((1, 2)))
        tokens = found.flatten(1, 2)
        return self.vector(self.out(torch.cat([tokens.mean(1, True), tokens], 1))[:, 0])


@pytest.mark.parametrize("is_grid", [False, True])
def test_whole_outputs_that_are_not_by_channel_are_passed_over(see, detector, is_grid):
    """Their columns are of all channels at one place after the other."""
    backbone = load_backbone(Tokens(is_grid), preprocessing=detector.preprocessing)
    assert backbone.card.activations["out"].kind == ("grid" if is_grid else "tokens")
    seen = see(backbone=backbone, layers="out", pooling="raw16", heads="ridge").results["seen"]
    assert seen == {"problem": "the chosen heads take no layer with a spatial map"}
    joined = see(backbone=backbone, layers="out:max+out:raw16", heads="ridge").results["seen"]
    assert (joined["problem"], joined["tap"]) == (None, "out:max")


def test_without_a_report_nothing_is_run_again(see, monkeypatch):
    monkeypatch.setattr(seen_file, "locate_patches", None)
    assert see(report=False).results["seen"] is None


def test_the_largest_of_equals_is_the_first():
    values = np.zeros((4, 1, 2))
    values[2, 0, 1] = 1
    assert find_largest(values, n=3) == [[(2, 1, 1.0), (0, 0, 0.0), (1, 0, 0.0)]]
