"""Tests of pipelines/fetch.py, and of what every command says of weights that are not to be had."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.__main__ import main as permafrost

ROOT = Path(__file__).parents[2]
NAME = "shufflenet_v2_x0_5"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("PERMAFROST_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture(scope="module")
def weights_answer(tmp_path_factory):
    import torch
    from torchvision import models

    path = tmp_path_factory.mktemp("file") / "weights.pth"
    with torch.random.fork_rng(devices=[]):
        torch.save(models.get_model(NAME).state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def served(loopback, weights_answer, monkeypatch):
    from torchvision import models

    from extract.backbones import names

    path = f"/{NAME}-{hashlib.sha256(weights_answer).hexdigest()[:8]}.pth"
    loopback.path = path
    loopback.serve(path, weights_answer)
    member = models.get_model_weights(NAME).DEFAULT
    monkeypatch.setattr(member.value, "url", loopback.url + path)
    names._shared.clear()
    return loopback


@pytest.fixture
def photo(tmp_path):
    """A folder with one image: less than a command looks at before it asks for weights."""
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "1.png")
    return str(tmp_path / "photos")


def test_a_network_is_fetched_carried_and_used_offline(served, photo, tmp_path, capsys):
    carried = tmp_path / "carried"
    assert permafrost(["fetch", NAME, f"--to={carried}"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{NAME} (IMAGENET1K_V1): fetched, 1 file, ")
    assert f"PERMAFROST_WEIGHTS={carried}" in said.err
    assert permafrost(["fetch", NAME, f"--to={carried}", "--quiet"]) == 0
    again = capsys.readouterr()
    assert (again.out.count("there already"), again.err) == (1, "")
    assert len(served.asked) == 1
    words = ["extract", photo, "--backbone", NAME, "--weights", "DEFAULT", "--size", "32"]
    words += ["--layers", "stage4", "--pooling", "avg", "--cache", str(tmp_path / "kept")]
    os.environ["PERMAFROST_WEIGHTS"] = str(carried)  # taken back by the fixture
    assert permafrost([*words, "--offline"]) == 0
    assert len(served.asked) == 1
    assert "PERMAFROST_OFFLINE" not in os.environ


def one_line(words, capsys):
    """What a command that is refused says: one line on stderr, nothing else, exit 2."""
    capsys.readouterr()
    assert permafrost(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["resnet81"], "unknown backbone 'resnet81': did you mean"),
        (["resnet18", "--weights", "IMAGENET1K_V9"], "unknown weights 'IMAGENET1K_V9'"),
        (["mobilenet_v2"], "or name others with --weights DEFAULT"),
        (["package.module:function"], "can't fetch"),
        (["resnet18", "--offline"], "fetch opens connections"),
        ([NAME, "--to", "/proc/nowhere"], "choose another with --to DIR"),
    ],
)
def test_fetches_that_are_refused(words, said, capsys):
    assert said in one_line(["fetch", *words], capsys)


# what is wrong with the weights of a run -> what is said; {} stands for a folder
WRONG = {
    "unknown network": (["--backbone", "resnet81"], "did you mean resnet18"),
    "unknown weights": (["--backbone", NAME, "--weights", "IMAGENET1K_V9"], "expected DEFAULT"),
    "no such file": (["--backbone", NAME, "--weights", "{}/gone.pth"], "no weights file"),
    "half a file": (["--backbone", NAME, "--weights", "{}/half.pth"], "can't read weights"),
    "half a safetensors": (
        ["--backbone", NAME, "--weights", "{}/half.safetensors"],
        "can't read weights",
    ),
    "of another network": (["--backbone", NAME, "--weights", "{}/other.pth"], "none of the 1"),
    "half a download": (["--backbone", NAME], "ended after"),
    "gated": (["--backbone", NAME], "answers 403"),
    "not here": (["--backbone", NAME, "--offline"], "put shufflenet_v2_x0_5-"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("command", ["run", "extract"])
def test_weights_that_can_not_be_had_are_one_line(
    served, photo, tmp_path, weights_answer, capsys, command, wrong
):
    import torch
    from safetensors.torch import save

    words, said = WRONG[wrong]
    (tmp_path / "half.pth").write_bytes(weights_answer[: len(weights_answer) // 2])
    (tmp_path / "half.safetensors").write_bytes(save({"a": torch.zeros(999)})[:1000])
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    if wrong == "half a download":
        served.serve(served.path, weights_answer, cut=1000)
    elif wrong == "gated":
        served.serve(served.path, b"", status=403)
    images = photo if command == "extract" else "digits"
    line = one_line(
        [command, images, *(word.format(tmp_path) for word in words), "--quiet"], capsys
    )
    assert said in line


@pytest.mark.slow
@pytest.mark.parametrize("by", ["option", "variable"])
def test_offline_holds_a_network_of_ones_own_to_it(tmp_path, photo, by):
    """Code of others that reaches for another machine is refused, and the line says so."""
    (tmp_path / "reaching.py").write_text(
        "import urllib.request\n"
        "def network():\n"
        "    return urllib.request.urlopen('http://permafrost.invalid/weights.pth')\n"
    )
    words = ["extract", photo, "--backbone", "reaching:network", "--quiet"]
    words += ["--offline"] * (by == "option")
    own = {"PERMAFROST_OFFLINE": "1"} if by == "variable" else {}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **own},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)
    assert "a connection to permafrost.invalid was refused" in done.stderr
    assert done.returncode in (1, 2)
