"""`--on ray`: a run by the workers of a Ray cluster finds the same; wrong places are refused."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from pipelines import RunSettings
from pipelines.errors import WrongSetting
from pipelines.evaluation.leaderboard import Row
from pipelines.findings import FOLDER
from pipelines.settings import NO_FIGURES

ROOT = Path(__file__).parent.parent.parent
BRIEF = (
    *("--layers", "features.4,features.2", "--pooling", "avg", "--heads", "logistic,knn"),
    *("--baselines", "off", "--report", "off", "--numerics", "float32", "--thorough"),
)


def test_another_place_is_refused(run, photos):
    said = "error: --on spark: expected ray or ray://HOST:PORT\n"
    assert run(photos, "--on", "spark") == (2, "", said)
    with pytest.raises(WrongSetting, match="expected ray or"):
        RunSettings(on="dask").check_features()


def test_where_it_runs_decides_no_figure():
    assert "on" in NO_FIGURES
    assert "on" not in RunSettings(on="ray").told()


@pytest.mark.slow
def test_a_run_on_ray_finds_what_a_run_here_finds(run, photos, small, tmp_path):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    kept, out = ["--cache", str(tmp_path / "cache")], ["--out", str(tmp_path / "there")]
    command = [sys.executable, "-m", "pipelines.run", str(photos), "--views", "plain", *BRIEF]
    done = subprocess.run(
        [*command, "--on", "ray", "--offline", "--quiet", *small, *kept, *out],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "error"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    shutil.rmtree(tmp_path / "cache" / FOLDER)  # else the search would be remembered
    code, said, err = run(photos, *BRIEF)
    assert code == 0, err
    assert "0 images computed, 24 from the store" in said
    assert rows_of(tmp_path / "there") == rows_of(tmp_path / "out")


def rows_of(out):
    """The leaderboard but for the time that each row took."""
    names = {field.name for field in fields(Row)} - {"seconds"}
    board = json.loads((out / "results.json").read_text(encoding="utf-8"))["leaderboard"]
    return [{name: row[name] for name in names if name in row} for row in board]
