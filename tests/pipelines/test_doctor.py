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


def test_it_says_what_a_checkpoint_does_not_fill(call, tmp_path):
    state = load_backbone("mobilenet_v3_small", "random").filled_tensors()
    del state["classifier.3.bias"]
    torch.save(state, tmp_path / "w.pth")
    code, out, _ = call("--weights", tmp_path / "w.pth")
    assert code == 0
    assert "\nweights    243 tensors taken; left without weights: classifier.3\n" in out
