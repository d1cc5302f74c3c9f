"""`benchmarks.gpu`: its steps run small on a processor, and without a GPU it says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SMALL = ["--device", "cpu", "--networks", "mobilenet_v3_small", "--side", "64"]
SMALL += ["--images", "48", "--seconds", "0.05"]


def measured(*words):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_steps_run_on_a_processor():
    done = measured(*SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    met = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" met")}
    assert {"equal", "memory", "processes"} <= met
    assert "MISSED" not in done.stdout
    begun = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert begun == {"equal", "accuracy", "forward", "pass", "memory", "processes"}
    assert "went on with 4" in done.stdout


@pytest.mark.slow
def test_rows_that_differ_are_said(monkeypatch, capsys):
    """A benchmark that can't miss a bar measures nothing."""
    from benchmarks import gpu

    monkeypatch.setattr(gpu, "EQUAL", -1.0)
    assert gpu.main([*SMALL, "--only", "equal,memory"]) == 1
    assert capsys.readouterr().out.count("MISSED") >= 2


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_a_line():
    done = measured()
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("no GPU that torch can use is here")
