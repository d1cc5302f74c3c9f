"""A small share of `benchmarks.faults`: what is to hold after a fault, at some of all steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import FAULTS

ROOT = Path(__file__).parent.parent.parent
KILLS, STEPS = 6, 8  # of each kind; the benchmark tries all steps and 250 kills

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="every trial is a forked process"),
]


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "long"])
def test_all_holds_after_a_fault(fault, tmp_path):
    command = [sys.executable, "-m", "benchmarks.faults", "--only", fault, "--folder", tmp_path]
    done = subprocess.run(
        [*command, "--kills", str(KILLS), "--steps", str(STEPS)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    name, tried, held, *_ = done.stdout.splitlines()[1].split()
    assert (name, tried) == (fault, held)
    if fault == "full-disk" and tried == "0":
        pytest.skip("this user may not mount a disk")
    assert int(tried) >= 3
    assert list(tmp_path.iterdir()) == []
