"""Damaged images give our own errors alone, soon, and in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("fuzz_images.py")


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_images_are_read_or_refused(count):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, PROGRAM, str(count), "7"],
        capture_output=True,
        text=True,
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": ""},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    found = json.loads(done.stdout)
    assert found["read"] + found["refused"] == count
    assert found["read"] >= count // 50
    assert found["refused"] >= count // 3
