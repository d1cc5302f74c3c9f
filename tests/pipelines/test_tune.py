"""Tests of pipelines/tune.py: the command line."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.console import OPTIONS, TUNING_KEPT, TUNING_OPTIONS
from pipelines.tune import build_parser, main
from pipelines.tuning.settings import TuneSettings

ROOT = Path(__file__).parent.parent.parent
QUICK = [
    *("--backbone", "squeezenet1_1", "--weights", "random", "--size", "32"),
    *("--numerics", "float32", "--cv", "3", "--views", "plain", "--layers", "features.6"),
    *("--pooling", "avg", "--heads", "ridge,knn", "--baselines", "off", "--report", "off"),
    *("--unfreeze", "1", "--rates", "3:4", "--epochs", "1", "--kept-views", "1", "--batch", "8"),
]


def test_the_defaults_are_those_of_the_settings():
    options = vars(build_parser().parse_args(["photos"]))
    settings = TuneSettings()
    for name in {*TUNING_OPTIONS, "cv", "choose"}:
        assert options[name] == getattr(settings, name)


def test_every_option_has_help_with_its_default():
    for name, how in TUNING_OPTIONS.items():
        assert OPTIONS[name] is how
        default = getattr(TuneSettings(), name)
        text = ":".join(f"{own:g}" for own in default) if name == "rates" else default
        said = f"{text:g}" if isinstance(text, float) else str(text)
        assert f"(default: {said}" in how["help"], name


def test_what_is_typed_is_what_is_set():
    words = ["photos", "--rates", "2:4:6", "--unfreeze", "gradual", "--kept-views", "0"]
    options = build_parser().parse_args(words)
    assert (options.rates, options.unfreeze, options.kept_views) == ((2, 4, 6), "gradual", 0)
    assert build_parser().parse_args(["photos", "--unfreeze", "7"]).unfreeze == 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rates", "2"], "--rates 2.0: expected two exponents or more"),
        (
            ["--rates=-1:2"],
            "--rates -1.0:2.0: expected two exponents or more of 0 or more",
        ),
        (["--rates", "fast"], "expected two powers of ten or more, such as 2:4:6"),
        (["--unfreeze", "0"], "expected a number of blocks such as 5, or gradual, or all"),
        (["--epochs", "0"], "--epochs 0: expected a whole number of 1 or more"),
        (["--kept-views", "-1"], "--kept-views -1: expected a whole number of 0 or more"),
        (["--augment", "wild"], "invalid choice"),
        (["--validation", "1"], "--validation 1.0: expected a share"),
        (["--backbone", "auto"], "--backbone auto: expected the name of one network"),
    ],
)
def test_what_cant_be_used_is_one_line_before_an_image_is_read(words, said, capsys):
    try:
        code = main(["no/such/folder", *words])
    except SystemExit as error:  # argparse's own
        code = error.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]


def test_a_share_that_leaves_too_few_to_train_on_is_one_line_before_a_head_is_searched(
    photos, tmp_path, capsys, monkeypatch
):
    def never(*arguments):
        raise AssertionError("the frozen run went on")

    monkeypatch.setattr("pipelines.job.search_taps", never)
    words = [str(photos), *QUICK, "--cache", str(tmp_path / "cache"), "--validation", "0.98"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "--validation 0.98: leaves class 'cats' 1 image to train on: expected 2 or more" in said


def test_a_command_leaves_a_run_and_a_network(photos, tmp_path, capsys):
    out = tmp_path / "out"
    words = [str(photos), *QUICK, "--cache", str(tmp_path / "cache"), "--out", str(out)]
    assert main(words) == 0
    printed, progress = capsys.readouterr()
    assert "tuning squeezenet1_1 on" in progress
    assert "epoch 1 of 1: loss" in progress
    assert f"the network for other images: --backbone {out}" in printed
    names = {path.name for path in out.iterdir()}
    assert {"results.json", "model", "network.safetensors", "images.csv"} <= names
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["command"][:4] == ["python", "-m", "pipelines.tune", str(photos)]
    assert [own["name"] for own in results["ways"]["rows"]][:3] == ["last layer", "frozen", "tuned"]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_what_is_kept_stays(photos, tmp_path, capsys, monkeypatch):
    cache, out = tmp_path / "cache", tmp_path / "out"
    replace = os.replace

    def refuse(old, new):
        if Path(new).parent.name == "tuned":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(old, new)

    monkeypatch.setattr("extract.files.os.replace", refuse)
    code = main([str(photos), *QUICK, "--quiet", "--cache", str(cache), "--out", str(out)])
    assert (code, *capsys.readouterr()) == (
        1,
        "",
        f"error: can't write to the cache {cache / 'tuned'}: No space left on device; what it "
        "holds stays: make room there and run again, or choose another with --cache DIR\n",
    )
    assert list((cache / "tuned").iterdir()) == []
    assert list(cache.glob("*/parts/*.h5"))
    assert not out.exists()


@pytest.mark.slow
def test_ctrl_c_in_training_is_one_line(photos, tmp_path):
    cache, out = tmp_path / "cache", tmp_path / "out"
    words = [str(photos), *QUICK, "--epochs", "100000", "--cache", str(cache), "--out", str(out)]
    command = subprocess.Popen(
        [sys.executable, "-m", "pipelines.tune", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    while not command.stderr.readline().startswith("epoch 2 "):
        assert command.poll() is None
    command.send_signal(signal.SIGINT)
    printed, said = command.communicate(timeout=60)
    assert (command.returncode, printed) == (130, "")
    assert said.splitlines()[-1] == f"interrupted: {TUNING_KEPT}"
    assert "Traceback" not in said
    assert not out.exists()
