"""Tests of pipelines/evaluation/baselines.py through the whole run."""

import json

from pipelines import load_classifier
from pipelines.report.text import baselines_in_words


def results_of(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))


def test_baselines_stand_beside_the_leaderboard_and_are_kept(photos, run, tmp_path):
    short = ("--heads", "ridge", "--layers", "features.4", "--pooling", "avg")
    code, out, err = run(photos, *short)
    first = results_of(tmp_path)
    assert code == 0, err
    assert [row["backbone"] for row in first["baselines"]] == [
        "majority",
        "pixels",
        "histogram",
        "gabor",
    ]
    assert all(row["cv_low"] <= row["cv_accuracy"] <= row["cv_high"] for row in first["baselines"])
    assert f"baselines: {baselines_in_words(first['baselines'])}" in out
    run(photos, *short)
    strip = [{**row, "seconds": 0} for row in results_of(tmp_path)["baselines"]]
    assert strip == [{**row, "seconds": 0} for row in first["baselines"]]


def test_a_pretrained_network_is_compared_with_itself_untrained(photos, run, tmp_path):
    import torch

    from extract import load_backbone

    network = load_backbone("mobilenet_v3_small", "random", seed=5, size=32).network
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    code, out, err = run(
        photos,
        "--heads",
        "ridge",
        "--pooling",
        "avg",
        "--weights",
        tmp_path / "weights.pth",
        "--backbone",
        "mobilenet_v3_small",
        "--size",
        "32",
        "--cv",
        "3",
        "--cache",
        tmp_path / "c",
        "--out",
        tmp_path / "out",
        defaults=False,
    )
    assert code == 0, err
    assert results_of(tmp_path)["baselines"][-1]["backbone"] == "mobilenet_v3_small untrained"
    assert "the same network untrained" in out
    assert any("pretraining is worth" in line for line in results_of(tmp_path)["advice"])
    found = results_of(tmp_path)["comparisons"]["pretraining"]
    assert found["low"] < found["difference"] < found["high"]


def test_they_can_be_left_out(photos, run, tmp_path):
    _, out, _ = run(photos, "--heads", "ridge", "--baselines", "off")
    assert results_of(tmp_path)["baselines"] == []
    assert "baselines:" not in out


def test_a_baseline_is_a_backbone_by_name_and_its_bundle_predicts(photos, run, tmp_path):
    code, out, err = run(
        photos,
        "--backbone",
        "histogram",
        "--heads",
        "ridge",
        "--cv",
        "3",
        "--cache",
        tmp_path / "c",
        "--out",
        tmp_path / "out",
        "--baselines",
        "off",
        defaults=False,
    )
    assert code == 0, err
    assert "pipelines.predict" in out
    assert results_of(tmp_path)["backbone"]["numerics"] == "float32"
    loaded = load_classifier(tmp_path / "out" / "model")
    assert set(loaded.predict([str(path) for path in photos.rglob("*.png")])) <= {"cats", "dogs"}
