"""Tests of pipelines/explore.py: the command line, and the way from clusters to a run."""

import csv
import json
import shutil

import pytest

from pipelines.console import EXPLORING_OPTIONS
from pipelines.explore import build_parser, main
from pipelines.exploring.settings import ExploreSettings

QUICK = [
    *("--backbone", "mobilenet_v3_small", "--weights", "random", "--size", "32"),
    *("--layers", "features.4", "--pooling", "avg,grid2", "--numerics", "float32"),
]


@pytest.fixture
def flat(photos, tmp_path):
    """The photos side by side, in a folder that says no classes."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for file in photos.rglob("*.png"):
        shutil.copy(file, folder / f"{file.parent.name}-{file.name}")
    return folder


def test_the_defaults_are_those_of_the_settings():
    options = vars(build_parser().parse_args(["photos"]))
    settings = ExploreSettings()
    for name in {*EXPLORING_OPTIONS, "seed", "pooling", "max_bad"}:
        assert options[name] == getattr(settings, name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--clusters", "0"], "--clusters 0: expected 1 or more, such as 10"),
        (["--clusters", "many"], "argument --clusters: invalid int value: 'many'"),
        (["--n", "-3"], "--n -3: expected 1 image or more to ask labels for"),
        (["--backbone", "resnet18,resnet50"], "--backbone resnet18,resnet50: expected the name of"),
        ([], "no such file or folder; expected a folder of images, a manifest"),
    ],
)
def test_what_cant_be_used_is_one_line(words, said, capsys):
    try:
        code = main(["no/such/folder", *words])
    except SystemExit as error:  # argparse's own
        code = error.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]


def test_a_command_says_what_it_found_and_where(photos, tmp_path, capsys):
    out = tmp_path / "out"
    words = [str(photos), *QUICK, "--cache", str(tmp_path / "cache"), "--out", str(out)]
    assert main([*words, "--n", "4", "--report", "off"]) == 0
    printed, progress = capsys.readouterr()
    assert "photos: 24 images without labels" in progress
    assert "clusterings of other draws agree by" in printed
    assert "to label first: 4 images, the most typical of each of as many groups" in printed
    assert f"run IMAGES --labels {out / 'clusters.csv'}" in printed
    assert "page:" not in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["command"][:4] == ["python", "-m", "pipelines.explore", str(photos)]
    # again, into its own folder
    assert main([*words, "--json", "--clusters", "2", "--report", "off"]) == 0
    assert json.loads(capsys.readouterr().out)["clusters"]["chosen_by"] == "given"


@pytest.mark.parametrize("by_folder", [False, True])
def test_named_clusters_are_labels_of_a_run(flat, run, tmp_path, capsys, by_folder):
    """Of images side by side, and of those in folders that are none of the clusters."""
    if by_folder:
        for file in list(flat.iterdir()):
            year = flat / str(2019 + len(file.stem) % 2)
            year.mkdir(exist_ok=True)
            file.rename(year / file.name)
    out, cache = tmp_path / "explored", str(tmp_path / "cache")
    words = [str(flat), *QUICK, "--cache", cache, "--out", str(out), "--clusters", "2"]
    assert main([*words, "--report", "off", "--quiet"]) == 0
    with open(out / "clusters.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {"cluster-1", "cluster-2"}
    for row in rows:
        row["label"] = "cats" if "cats" in row["path"] else "dogs"
    rows[0]["label"] = "drop"
    with open(out / "clusters.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    capsys.readouterr()
    quick = ["--layers", "features.4", "--pooling", "avg", "--heads", "ridge", "--baselines", "off"]
    code, _, err = run(flat, "--labels", out / "clusters.csv", *quick, "--report", "off")
    assert code == 0
    assert "labelled by a table: 23 images; 1 dropped, 0 without a label left out" in err
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["data"]["classes"] == ["cats", "dogs"]
