"""Tests of pipelines/doctor.py."""

import json

import pytest
import torch

from extract import load_backbone
from pipelines.__main__ import main as permafrost
from pipelines.doctor import _time, main

SMALL = (
    "--backbone",
    "mobilenet_v3_small",
    "--size",
    "32",
    "--layers",
    "features.4",
    "--pooling",
    "avg",
    "--seconds",
    "0.05",
)


@pytest.fixture
def call(tmp_path, capsys):
    """Call `pipelines.doctor` -> (exit code, stdout, stderr)."""

    def doctor(*arguments):
        code = main([*map(str, arguments), *SMALL, "--cache", str(tmp_path / "cache")])
        return code, *capsys.readouterr()

    return doctor


def test_it_says_what_there_is_and_how_long_a_pass_takes(call):
    code, out, err = call()
    assert (code, err) == (0, "")
    for name in (
        "processor",
        "GPU",
        "decoder",
        "engines",
        "numerics",
        "cache",
        "decoding",
        "forward",
        "a pass",
    ):
        assert f"\n{name}" in "\n" + out
    assert "100 images take about" in out
    assert "10,000 images take about" in out


def test_json_holds_the_same_of_ones_own_images(call, photos):
    code, out, _ = call(photos, "--json")
    answer = json.loads(out)
    (row,) = answer["backbones"]
    assert code == 0
    assert row["backbone"] == "mobilenet_v3_small"
    assert row["size"] == [32, 32]
    assert list(row["seconds"]) == ["24"]
    assert row["forward"]["torch-eager"] > 0


def test_it_takes_named_sets_and_backbones_without_weights(tmp_path, capsys):
    assert (
        main(["digits", "--backbone", "pixels", "--seconds", "0.05", "--cache", str(tmp_path)]) == 0
    )
    assert "1,797 images take about" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "0"], "--seconds 0: expected a time above 0"),
        (["--seconds", "nan"], "--seconds nan: expected a time above 0"),
        (["--seconds", "inf"], "--seconds inf: expected a time above 0"),
        (["gone"], "gone"),
        (["--device", "tpu"], "unknown device 'tpu': expected auto, cpu, cuda"),
        (["--numerics", "half"], "unknown numerics 'half'"),
        (["--page", "0"], "--page 0: expected a whole number"),
        (["--intensity", "5:1"], "--intensity 5:1: expected auto, full, or LOW:HIGH"),
        (["--channels", "1,2"], "--channels 1,2: expected 1 or 3 numbers"),
        (["--size", "0"], "--size 0: expected a side in pixels"),
        (["--size", "999999"], "--size 999999 is too large for this machine"),
    ],
)
def test_wrong_calls_are_one_line(arguments, said, capsys, tmp_path):
    """Settings were looked at after a page of the machine's, or not at all."""
    assert permafrost(["doctor", *SMALL, *arguments, "--cache", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("seconds", "said"), [(3.2, "3 s"), (150, "2 min"), (9000, "2.5 h")])
def test_times_are_said_for_people(seconds, said):
    assert _time(seconds) == said


@pytest.fixture
def look(call, monkeypatch):
    """Call it for a look at a layer of a network of random weights, images made in two steps."""
    monkeypatch.setattr("extract.introspection.maximisation.STEPS", 2)

    def doctor(layer, *arguments):
        return call("--look", layer, "--weights", "random", *arguments)

    return doctor


def test_a_page_of_what_a_layer_sees_is_written(look, photos, tmp_path):
    out = tmp_path / "new" / "out"
    code, said, err = look("features.4", photos, "--units", "3,1", "--out", out)
    assert (code, err) == (0, "")
    assert said == f"features.4 of mobilenet_v3_small: {out / 'look-features.4.html'}\n"
    page = (out / "look-features.4.html").read_text("utf-8")
    assert page.index('id="channel-3"') < page.index('id="channel-1"')
    assert page.count('alt="patch of') == 18
    assert page.count("image made to excite channel") == 2
    assert page.count("what in it excites the channel") == 6


def test_without_images_channels_spread_over_all_are_made(look, tmp_path):
    code, _, err = look("features.4", "--units", "2", "--out", tmp_path)
    assert (code, err) == (0, "")
    page = (tmp_path / "look-features.4.html").read_text("utf-8")
    assert page.index('id="channel-0"') < page.index('id="channel-39"')
    assert "patch of" not in page


@pytest.mark.parametrize(
    ("layer", "arguments", "said"),
    [
        ("feature.4", [], "unknown layer 'feature.4'"),
        ("classifier.0", [], "layer 'classifier.0' gives (1024,) and has no places to look at"),
        ("features.4", ["--units", "40,"], "channel 40 is not in layer 'features.4', which has 40"),
        ("features.4", ["gone"], "gone"),
    ],
)
def test_what_cant_be_looked_at_is_one_line(look, layer, arguments, said, tmp_path):
    code, _, err = look(layer, *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("units", ["many", "0", "00", "1,-2", ","])
def test_channels_that_are_no_numbers_are_refused(look, units, capsys):
    with pytest.raises(SystemExit, match="2"):
        look("features.4", f"--units={units}")
    assert f"'{units}': expected how many, such as 10, or numbers" in capsys.readouterr().err


def test_a_look_is_at_one_backbone(capsys, tmp_path):
    two = ["--backbone", "mobilenet_v2,resnet18", "--weights", "random"]
    assert main(["--look", "features.4", *two, "--cache", str(tmp_path)]) == 2
    assert "--backbone mobilenet_v2,resnet18: expected one backbone" in capsys.readouterr().err


def test_images_that_cant_be_read_leave_no_page(look, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"no image")
    code, _, err = look("features.4", tmp_path / "photos", "--out", tmp_path / "out")
    assert (code, err) == (2, "error: none of the 1 images can be read\n")
    assert not (tmp_path / "out").exists()


def test_a_page_that_cant_be_written_is_one_line(look, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, _, err = look("features.4", "--units", "3,", "--out", tmp_path / "out" / "within")
    page = tmp_path / "out" / "within" / "look-features.4.html"
    assert (code, err) == (
        1,
        f"error: can't write {page} (Not a directory): make room or choose another folder with "
        "--out\n",
    )


def test_more_channels_than_there_are_are_all(look, tmp_path):
    code, said, _ = look("features.0", "--units", "999", "--out", tmp_path)
    assert code == 0
    note, where = said.splitlines()
    assert note == "999 channels were asked for, and layer 'features.0' has 16: all are shown"
    page = (tmp_path / "look-features.0.html").read_text("utf-8")
    assert page.count("image made to excite channel") == 16
    assert where.endswith("look-features.0.html")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--units", "5"], "--units is of --look: expected --look LAYER beside it"),
        (["--out", "seen"], "--out is of --look: expected --look LAYER beside it"),
        (["--look", "x", "--json"], "--json beside --look: a look is a page"),
        (["--look", "x", "--out", __file__], f"--out {__file__}: expected a folder, and this is"),
    ],
)
def test_options_that_would_not_count_are_refused(call, arguments, said):
    code, out, err = call(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err


def test_it_says_what_a_checkpoint_does_not_fill(call, tmp_path):
    state = load_backbone("mobilenet_v3_small", "random").filled_tensors()
    del state["classifier.3.bias"]
    torch.save(state, tmp_path / "w.pth")
    code, out, _ = call("--weights", tmp_path / "w.pth")
    assert code == 0
    assert "\nweights    243 tensors taken; left without weights: classifier.3\n" in out
