"""The audit through the whole run: copies planted as re-encoded files."""

import json
import shutil

import pytest
from PIL import Image


@pytest.fixture
def big(tmp_path, add_photos):
    """Photos of which six cats have a re-encoded copy in the same folder."""
    folder = add_photos(tmp_path / "photos")
    for i in range(6):
        with Image.open(folder / "cats" / f"{i}.png") as image:
            image.resize((96, 80)).save(folder / "cats" / f"again{i}.jpg", quality=90)
    return folder


def results_of(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))


def planted(results):
    """Planted pairs that were found, by number."""
    pairs = [(pair["first"], pair["second"]) for pair in results["audit"]["copies"]]
    return {i for i in range(6) for pair in pairs if any(f"again{i}.jpg" in p for p in pair)
            and any(p.endswith(f"/{i}.png") for p in pair)}  # fmt: skip


def test_near_copies_stay_on_one_side(big, run, tmp_path):
    code, out, err = run(big, "--heads", "ridge", "--baselines", "off")
    results = results_of(tmp_path)
    assert code == 0, err
    assert planted(results) == set(range(6))
    assert results["audit"]["n_copies_across_split"] == 0
    assert "kept on one side of every fold" in out
    assert results["data"]["n_train"] + results["data"]["n_test"] == 30


@pytest.mark.slow
def test_near_copies_are_dropped(big, run, tmp_path):
    run(big, "--heads", "ridge", "--baselines", "off", "--duplicates", "drop")
    results = results_of(tmp_path)
    assert results["data"]["n_duplicates"] >= 6
    assert planted(results) == set()


@pytest.mark.slow
def test_a_given_split_stays_and_copies_across_it_are_warned_of(big, run, tmp_path, add_photos):
    for i in range(6):
        (tmp_path / "set" / "test" / "cats").mkdir(parents=True, exist_ok=True)
        shutil.move(big / "cats" / f"again{i}.jpg", tmp_path / "set" / "test" / "cats")
    add_photos(tmp_path / "set" / "test", per_class=6, start=50)
    shutil.move(big, tmp_path / "set" / "train")
    code, out, err = run(tmp_path / "set", "--heads", "ridge", "--baselines", "off")
    results = results_of(tmp_path)
    assert code == 0, err
    assert results["audit"]["n_copies_across_split"] >= 6
    assert results["data"]["n_test"] == 18
    assert "across train and test, which flatters the test accuracy" in out


def test_suspect_labels_and_outliers_are_listed_with_their_paths(photos, run, tmp_path):
    code, _, err = run(photos, "--heads", "ridge,logistic", "--baselines", "off")
    audit = results_of(tmp_path)["audit"]
    assert code == 0, err
    for name in ("suspect_labels", "outliers"):
        assert len(audit[name]) == audit[f"n_{name}"]
        assert all(str(photos) in entry["path"] for entry in audit[name])
    assert all(entry["label"] != entry["proposed"] for entry in audit["suspect_labels"])
