"""What a run says is defined in the docs, and the same each time."""

import json
import re
import shutil
from pathlib import Path

import pytest

FIGURES = (Path(__file__).parents[3] / "docs" / "figures.md").read_text(encoding="utf-8")
NAMED_BY_DATA = {"params", "layers", "test_recall", "test_recall_intervals", "passed_over"}
NAMED_BY_DATA |= {"settings"}  # which are the options of `run`
TIMES = re.compile(
    r"seconds|images_per_second|in_words|command|bottleneck|engine|from_store|computed"
)


def results_of(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def keys_of(value, name=None):
    """Every key of a results.json, but for those that name classes, backbones or parameters."""
    if isinstance(value, list):
        return set().union(*(keys_of(item, name) for item in value))
    if not isinstance(value, dict) or name in NAMED_BY_DATA:
        return set()
    return set(value).union(*(keys_of(own, key) for key, own in value.items()))


def without_times(value):
    """The same without what may differ between two runs."""
    if isinstance(value, list):
        return [without_times(item) for item in value]
    if isinstance(value, dict):
        return {key: without_times(own) for key, own in value.items() if not TIMES.search(key)}
    return value


def test_every_key_is_named_in_the_docs(photos, run, tmp_path):
    from PIL import Image

    Image.open(photos / "cats" / "1.png").save(photos / "cats" / "again.jpg", quality=90)
    shutil.copy(photos / "cats" / "2.png", photos / "dogs" / "mislabelled.png")
    with open(photos / "dogs" / "mislabelled.png", "ab") as file:
        file.write(b"other bytes")
    code, _, err = run(
        *(photos, "--heads", "logistic,knn", "--layers", "all", "--pooling", "avg,max"),
        *("--views", "auto"),
    )
    assert code == 0, err
    keys = keys_of(results_of(tmp_path / "out"))
    assert {"cv_score", "similarity", "gain_low", "screening_accuracy", "roc_auc"} <= keys
    assert sorted(key for key in keys if f"`{key}`" not in FIGURES) == []


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["accuracy", "roc_auc"])
def test_two_runs_with_one_seed_print_the_same_figures(photos, run, tmp_path, monkeypatch, scoring):
    """Features computed afresh each time; once with one thread, once with two."""
    found = []
    for threads in (1, 2):
        monkeypatch.setattr("pipelines.stages.search.cores", lambda threads=threads: threads)
        out = tmp_path / f"out{threads}"
        code, printed, err = run(
            photos,
            "--heads",
            "logistic,rbf_svm",
            *("--layers", "features.4,features.6", "--pooling", "avg"),
            "--scoring",
            scoring,
            "--views",
            "plain,flipped",
            "--backbone",
            "mobilenet_v3_small",
            "--weights",
            "random",
            "--size",
            "32",
            "--cv",
            "3",
            "--cache",
            tmp_path / f"cache{threads}",
            "--out",
            out,
            defaults=False,
        )
        assert code == 0, err
        lines = [
            line
            for line in printed.splitlines()
            if not re.search(r" s in all|took longest|out\d", line)
        ]
        text = (out / "results.json").read_text(encoding="utf-8")
        for own in (f"out{threads}", f"cache{threads}"):  # the commands that follow name them
            text = text.replace(str(tmp_path / own), own[:-1])
        found.append((lines, without_times(json.loads(text))))
    assert found[0] == found[1]
    assert any("test accuracy" in line for line in found[0][0])
