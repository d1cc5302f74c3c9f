"""Tests of pipelines/run.py: the whole job on small photos, and wrong calls."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from extract import Interrupted, load_backbone
from heads.blend import Blend
from pipelines import load_classifier
from pipelines.evaluation import leaderboard
from pipelines.evaluation.scoring import SCORINGS
from pipelines.stages import search

ROOT = Path(__file__).parent.parent.parent
HEADS = ["logistic", "linear_svm", "rbf_svm", "knn"]
# one tap and one head: for what does not depend on them
BRIEF = ("--heads", "knn", "--layers", "features.4", "--pooling", "avg", "--baselines", "off")
READ = "photos: 24 images in 2 classes: cats 12, dogs 12"


def rows_of(file):
    with open(file, encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def results_of(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, photos_of_the_module, small_run):
    """A run with all heads and baselines: (the folder of its `cache` and `out`, stdout, stderr)."""
    place = tmp_path_factory.mktemp("whole")
    code, out, err = small_run(photos_of_the_module, place)
    assert code == 0, err
    return place, out, err


def test_the_whole_job(whole):
    place, out, err = whole
    results = results_of(place)
    assert results["schema"] == 1
    assert results["data"] == {
        "name": "photos",
        "classes": ["cats", "dogs"],
        "n_train": 18,
        "n_test": 6,
        "split": "held_out",
        "n_bad": 0,
        "n_noted": 0,
        "n_duplicates": 0,
        "intensity": None,
        "page": 1,
        "channels": None,
        "passed_over": {},
        "notes": [],
        "imbalance": {
            "largest": "cats",
            "n_largest": 10,  # which are held out follows from each image alone
            "smallest": "dogs",
            "n_smallest": 8,
            "imbalanced": False,
        },
    }
    board, chosen = results["leaderboard"], results["chosen"]
    alone = [row for row in board if row["members"] is None]
    assert {row["head"] for row in alone} == set(HEADS)
    assert len({(row["layer"], row["pooling"]) for row in alone}) * 4 == len(alone)
    assert board[0]["tied"]
    assert [row["cv_accuracy"] for row in board] == sorted(
        (row["cv_accuracy"] for row in board), reverse=True
    )
    assert {key: chosen[key] for key in board[0]} in board
    assert chosen["test_low"] <= chosen["test_accuracy"] <= chosen["test_high"]
    assert results["extraction"]["computed"] == results["extraction"]["images"] == 24
    assert set(results["seconds"]) >= {"read", "extract", "heads", "test", "save", "total"}
    assert "--final all refits it on all 24" in out
    assert "24 images to compute" in err
    assert "predict: python -m pipelines.predict" in out
    assert f"chosen: {chosen['head']} on " in out


def test_the_predictions_file_holds_the_test_figures(whole):
    place = whole[0]
    rows = rows_of(place / "out" / "test_predictions.csv")
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert right == pytest.approx(results_of(place)["chosen"]["test_accuracy"])
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


def test_the_bundle_predicts_the_same_labels_with_the_folder_moved(photos, run, tmp_path):
    run(photos, *BRIEF, "--heads", ",".join(HEADS))
    rows = rows_of(tmp_path / "out" / "test_predictions.csv")
    moved = Path(shutil.move(photos, tmp_path / "elsewhere"))
    paths = [str(moved / Path(row["path"]).relative_to(photos)) for row in rows]
    shutil.rmtree(tmp_path / "cache")
    command = [
        sys.executable,
        "-m",
        "pipelines.predict",
        str(tmp_path / "out" / "model"),
        *paths,
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == [
        row["predicted"] for row in rows
    ]
    assert not (tmp_path / "cache").exists()


def test_a_second_run_computes_nothing_and_takes_no_torch(
    whole, photos_of_the_module, small, tmp_path
):
    first = results_of(whole[0])
    arguments = [
        str(photos_of_the_module),
        *small,
        *("--views", "plain"),
        *("--cache", str(whole[0] / "cache")),
        *("--out", str(tmp_path / "out")),
    ]
    code = (
        "import sys\nfrom pipelines.run import main\n"
        f"assert main({arguments!r}) == 0\nassert not {{'torch', 'torchvision'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)
    second = results_of(tmp_path)
    assert second["extraction"]["computed"] == 0
    assert second["extraction"]["from_store"] == 24
    assert [{**row, "seconds": 0} for row in second["leaderboard"]] == [
        {**row, "seconds": 0} for row in first["leaderboard"]
    ]
    assert {**second["chosen"], "seconds": 0} == {**first["chosen"], "seconds": 0}


def test_a_new_head_computes_no_image(photos, run, tmp_path):
    run(photos, *BRIEF)
    run(photos, *BRIEF, "--heads", "ridge")
    assert results_of(tmp_path)["extraction"]["computed"] == 0


def test_json_prints_the_results_and_nothing_else(photos, run, tmp_path):
    _, out, _ = run(photos, "--json", *BRIEF)
    assert json.loads(out) == results_of(tmp_path)


def test_a_split_inside_is_used(tmp_path, run, add_photos):
    add_photos(tmp_path / "set" / "train", per_class=8)
    add_photos(tmp_path / "set" / "val", per_class=3, start=50)
    run(tmp_path / "set", *BRIEF)
    assert (results_of(tmp_path)["data"]["split"], results_of(tmp_path)["data"]["n_test"]) == (
        "given",
        6,
    )


def test_test_images_of_their_own(photos, tmp_path, run, add_photos):
    other = add_photos(tmp_path / "other", per_class=4, start=60)
    code, _, err = run(photos, "--test", other, *BRIEF)
    assert (code, results_of(tmp_path)["data"]["n_test"]) == (0, 8), err


def test_several_backbones_stand_on_one_leaderboard(photos, run, tmp_path):
    code, out, err = run(
        photos,
        "--heads",
        "knn",
        "--backbone",
        "mobilenet_v3_small,shufflenet_v2_x0_5",
        *("--pooling", "avg", "--baselines", "off"),
        "--weights",
        "random",
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
    board = results_of(tmp_path)["leaderboard"]
    assert {row["backbone"] for row in board} == {"mobilenet_v3_small", "shufflenet_v2_x0_5"}
    assert len(results_of(tmp_path)["backbones"]) == 2
    assert "v2_x0_5 " in out  # the first letters may be cut for 80 columns
    assert load_classifier(tmp_path / "out" / "model").predict([str(next(photos.rglob("*.png")))])


@pytest.fixture
def checkpoint(tmp_path):
    """A training checkpoint of mobilenet_v3_small for three classes -> its file."""
    state = load_backbone("mobilenet_v3_small", "random", seed=5).filled_tensors()
    state |= {"classifier.3.weight": torch.zeros(3, 1024), "classifier.3.bias": torch.zeros(3)}
    kept = {f"module.{name}": tensor for name, tensor in state.items()}
    kept |= {"module.projector.bias": torch.zeros(2)}
    torch.save({"epoch": 3, "state_dict": kept}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def run_with_weights(run, photos, tmp_path, weights):
    options = {
        "backbone": "mobilenet_v3_small", "weights": weights, "size": 32, "cv": 3,
        "heads": "ridge", "baselines": "off", "cache": tmp_path / "c", "out": tmp_path / "out",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return run(photos, *words, defaults=False)


def test_what_a_checkpoint_does_not_fill_is_said_in_a_line(photos, run, tmp_path, checkpoint):
    code, _, err = run_with_weights(run, photos, tmp_path, checkpoint)
    assert code == 0, err
    said = [line for line in err.splitlines() if "tensors taken" in line]
    assert said == [
        f"mobilenet_v3_small from {checkpoint}: 242 tensors taken, those under "
        "state_dict.module.; no place for projector.bias; of the wrong shape: "
        "classifier.3.weight (3, 1024), expected (1000, 1024), classifier.3.bias (3,), "
        "expected (1000,); left without weights: classifier.3"
    ]
    fit = results_of(tmp_path)["backbone"]["fit"]
    assert fit["unused"] == ["projector.bias"]
    assert fit["without"] == ["classifier.3"]
    checkpoint.unlink()  # a bundle holds the weights
    assert_the_bundle_predicts_as_the_run(tmp_path)


def test_a_checkpoint_of_another_width_is_one_line(photos, run, tmp_path, checkpoint):
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    state["module.features.0.0.weight"] = torch.zeros(8, 3, 3, 3)
    torch.save(state, checkpoint)
    code, _, err = run_with_weights(run, photos, tmp_path, checkpoint)
    assert code == 2
    assert "no layer has all its weights" in err.splitlines()[-1]
    assert "features.0.0.weight (8, 3, 3, 3), expected (16, 3, 3, 3)" in err.splitlines()[-1]


def assert_the_bundle_predicts_as_the_run(tmp_path):
    rows = rows_of(tmp_path / "out" / "test_predictions.csv")
    paths = [row["path"] for row in rows]
    loaded = load_classifier(tmp_path / "out" / "model")
    assert loaded.predict(paths).tolist() == [row["predicted"] for row in rows]
    shares = loaded.predict_proba(paths).max(axis=1)
    np.testing.assert_allclose(shares, [float(row["probability"]) for row in rows], atol=2e-3)
    return loaded


def test_flips_stand_beside_the_plain_rows_and_are_predicted_with(
    photos, run, tmp_path, monkeypatch
):
    short = ("--heads", "ridge", "--pooling", "avg", "--baselines", "off")
    run(photos, *short)
    monkeypatch.setattr(
        search,
        "choose_row",
        lambda board, how: next(
            i
            for i, row in enumerate(board.rows)
            if row.view == "plain+flipped" and row.head != "blend"
        ),
    )
    code, out, err = run(photos, *short, "--views", "plain,flipped")
    results = results_of(tmp_path)
    assert code == 0, err
    assert {row["view"] for row in results["leaderboard"]} == {"plain", "plain+flipped"}
    assert results["extraction"]["computed"] == 24
    assert results["views"]["asked"] == ["plain", "flipped"]
    assert ":avg flips " in out
    assert assert_the_bundle_predicts_as_the_run(tmp_path).extractor_.view == "flipped"
    run(photos, *short, "--views", "plain,flipped")
    assert results_of(tmp_path)["extraction"]["computed"] == 0


def test_a_first_look_chooses_views_and_says_so(photos, run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        search,
        "choose_row",
        lambda board, how: next(i for i, row in enumerate(board.rows) if row.view == "whole"),
    )
    monkeypatch.setattr("pipelines.evaluation.views.WORTH", -1.0)  # whatever it is worth here
    code, out, err = run(
        *(photos, "--heads", "ridge,logistic", "--views", "auto"),
        *("--pooling", "avg", "--baselines", "off"),
    )
    assert code == 0, err
    results = results_of(tmp_path)
    views = results["views"]
    assert (views["asked"], views["looked_at"]) == (["auto"], 18)
    assert views["used"] == ["plain", "plain+flipped", "whole"]
    assert set(views["gains"]) == {"plain+flipped", "whole"}
    assert {row["view"] for row in results["leaderboard"] if row["head"] != "blend"} == {
        "plain",
        "plain+flipped",
        "whole",
    }
    assert "views: plain, " in out
    assert results["extraction"]["images"] == results["extraction"]["computed"] == 24
    assert assert_the_bundle_predicts_as_the_run(tmp_path).extractor_.view == "whole"


def test_a_view_that_is_not_worth_it_is_computed_for_the_look_alone(
    photos, run, tmp_path, monkeypatch
):
    monkeypatch.setattr("pipelines.evaluation.views.WORTH", 1.0)
    code, out, err = run(photos, *BRIEF, "--heads", "ridge", "--views", "auto")
    assert code == 0, err
    results = results_of(tmp_path)
    assert results["views"]["used"] == ["plain"]
    assert {row["view"] for row in results["leaderboard"]} == {"plain"}
    assert "views: plain; left out " in out
    assert "18 images to compute" in err
    assert results["extraction"]["images"] == 24


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ("turned", "--views turned: expected auto, or one or more of plain, flipped, whole"),
        ("auto,plain", "--views auto,plain: expected auto, or one or more of plain, flipped"),
    ],
)
def test_views_that_are_none_are_refused(photos, run, views, expected):
    code, _, err = run(photos, "--views", views)
    assert code == 2
    assert expected in err.splitlines()[-1]


@pytest.mark.parametrize("views", ["", ",", " , "])
def test_no_views_are_refused(photos, run, capsys, views):
    with pytest.raises(SystemExit, match="2"):
        run(photos, "--views", views)
    said = "argument --views: expected one name or more, separated by commas"
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_joined_taps_are_a_row_and_a_bundle(photos, run, tmp_path):
    tap = "features.4:grid2+features.6:avg"
    code, out, err = run(photos, "--heads", "linear_svm", "--layers", tap, "--baselines", "off")
    chosen = results_of(tmp_path)["chosen"]
    assert code == 0, err
    assert (chosen["layer"], chosen["pooling"], chosen["tap"]) == (None, None, tap)
    assert [member["tap"] for member in chosen["members"]] == tap.split("+")
    assert f"chosen: linear_svm on {tap}" in out
    assert_the_bundle_predicts_as_the_run(tmp_path)


@pytest.mark.slow
def test_a_blend_across_backbones_is_predicted_with(photos, run, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "choose_row", lambda board, how: next(
        i for i, row in enumerate(board.rows) if "+" in row.backbone))  # fmt: skip
    monkeypatch.setattr(leaderboard, "blend_candidates", all_alike)
    code, _, err = run(
        photos,
        "--heads",
        "knn",
        "--backbone",
        "mobilenet_v3_small,shufflenet_v2_x0_5",
        *("--pooling", "avg", "--baselines", "off"),
        "--weights",
        "random",
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
    assert results_of(tmp_path)["chosen"]["backbone"].count("+") == 1
    assert len(assert_the_bundle_predicts_as_the_run(tmp_path).extractor_.extractors) == 2


def all_alike(shares, codes, folds, scoring=None, kinds=None):
    """Every candidate, whatever it is worth."""
    weights = np.full(len(shares), 1 / len(shares))
    return Blend(weights, 0.5, np.tensordot(weights, shares, 1))


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["balanced_accuracy", "f1_macro", "neg_log_loss", "roc_auc"])
def test_the_run_chooses_by_the_scoring(photos, run, tmp_path, scoring):
    for file in list((photos / "dogs").iterdir())[4:]:
        file.unlink()
    code, out, err = run(
        photos,
        "--heads",
        "logistic,knn",
        *("--layers", "features.4,features.6", "--pooling", "avg"),
        "--scoring",
        scoring,
        "--class-weight",
        "balanced",
        "--cv",
        "3",
    )
    assert code == 0, err
    results = results_of(tmp_path)
    assert (results["scoring"], results["class_weight"]) == (scoring, "balanced")
    scores = [row["cv_score"] for row in results["leaderboard"]]
    assert scores == sorted(scores, reverse=True)
    chosen = results["chosen"]
    assert chosen["test_score_low"] <= chosen["test_score"] <= chosen["test_score_high"]
    words = SCORINGS[scoring].words
    assert f"cv {words} (95 %)" in out
    assert f"cross-validated {words}, corrected" in out
    assert "read balanced accuracy" in out


def test_class_weights_reach_the_bundle(photos, run, tmp_path):
    run(
        photos,
        *BRIEF,
        "--heads",
        "logistic",
        "--class-weight",
        "balanced",
    )
    assert load_classifier(tmp_path / "out" / "model").head_[-1].class_weight == "balanced"


def test_bad_images_are_listed_and_the_run_goes_on(photos, run, tmp_path):
    (photos / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (photos / "dogs" / "loop.png").symlink_to("loop.png")
    code, _, err = run(photos, "--max-bad", "0.2", *BRIEF)
    rows = rows_of(tmp_path / "out" / "bad_images.csv")
    assert code == 0
    assert sorted(Path(row["path"]).name for row in rows) == ["broken.jpg", "loop.png"]
    assert all(row["reason"] for row in rows)
    assert "2 of 26 images can't be used" in err


def test_exact_duplicates_that_are_not_used_are_said(photos, run):
    (photos / "cats" / "copy.png").write_bytes((photos / "cats" / "0.png").read_bytes())
    _, _, err = run(photos, *BRIEF)
    assert "not used: 1 exact duplicate of other images" in err.splitlines()


def test_sites_with_classes_below_are_asked_about_and_the_level_is_taken(tmp_path, run, add_photos):
    for site, start in (("north", 0), ("south", 30)):
        add_photos(tmp_path / "sites" / site, 8, start)
    given = (tmp_path / "sites", *BRIEF)
    code, _, err = run(*given)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "give --class-level 2 if cats, dogs are the classes, --class-level 1 if north" in err
    code, _, err = run(*given, "--class-level", "2")
    assert code == 0
    assert "sites: 32 images in 2 classes: cats 16, dogs 16" in err


def test_too_many_bad_images_fail_the_run(photos, run, tmp_path):
    for i in range(2):
        (photos / "cats" / f"broken{i}.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    code, _, err = run(photos, "--heads", "knn")
    assert code == 1
    assert "limit 5%" in err.splitlines()[-1]
    assert (tmp_path / "out" / "bad_images.csv").exists()
    assert not (tmp_path / "out" / "results.json").exists()


def test_copies_are_counted_and_trained_on_once(photos, run, tmp_path):
    shutil.copy(photos / "cats" / "0.png", photos / "cats" / "copy.png")
    run(photos, *BRIEF)
    data = results_of(tmp_path)["data"]
    assert (data["n_duplicates"], data["n_train"] + data["n_test"]) == (1, 24)


def one_class(photos):
    shutil.rmtree(photos / "dogs")


def three_classes(photos):
    shutil.copytree(photos / "dogs", photos / "wolves")


def few_images(photos):
    for file in list((photos / "dogs").iterdir())[3:]:
        file.unlink()


def split_inside(photos):
    for part in ("train", "test"):
        shutil.copytree(photos / "cats", photos / part / "cats")
        shutil.copytree(photos / "dogs", photos / part / "dogs")
    shutil.rmtree(photos / "cats")
    shutil.rmtree(photos / "dogs")


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (None, ["nowhere"], "nowhere"),
        (one_class, [], "two classes"),
        (few_images, [], "dogs"),
        (None, ["--layers", "features.44"], "did you mean features.4"),
        (None, ["--heads", "logistik"], "logistic"),
        (None, ["--pooling", "gird3"], "unknown pooling 'gird3'"),
        (None, ["--cache", "{tmp}/file"], "can't write to the cache"),
        (None, ["--out", "{tmp}/file/out"], "choose another folder with --out"),
        (split_inside, ["--test", "{photos}"], "has a split inside"),
        (None, ["--backbone", "resnet81"], "did you mean"),
        (None, ["--weights", "gone.pth"], "no weights file"),
        (None, ["--numerics", "float8"], "unknown numerics"),
        (None, ["--device", "tpu"], "unknown device 'tpu'"),
        (None, ["--max-bad", "7"], "fraction from 0 to 1"),
        (None, ["--groups", "("], "no regular expression"),
        (None, ["--groups", "patient"], "matches no path"),
        (None, ["--scoring", "acuracy"], "unknown scoring 'acuracy': expected accuracy"),
        (None, ["--layers", "features.4+features.44"], "did you mean features.4"),
        (three_classes, ["--scoring", "roc_auc"], "two classes and there are 3"),
        (None, ["--cv", "1"], "2 folds or more"),
        (None, ["--size", "0"], "side in pixels"),
        (None, ["--layers", ",,"], "expected auto, all, or names"),
    ],
)
def test_wrong_calls_give_one_line_and_exit_2(
    photos, tmp_path, small, capsys, prepare, arguments, message
):
    from pipelines.run import main

    (tmp_path / "file").touch()
    if prepare:
        prepare(photos)
    filled = [argument.format(tmp=tmp_path, photos=photos) for argument in arguments]
    images = [] if filled[:1] == ["nowhere"] else [str(photos)]
    base = [*small, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    code = main([*images, *base, *filled])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    *read, error = err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert read in ([], [READ])  # what can be told from the settings comes before that
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [("--hed", "knn"), ("--seed", "-1"), ("--heads", ","), ("--cv", "x")]
)
def test_arguments_that_are_none_exit_with_2(run, arguments):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def write_manifest(file, photos, columns, row_of):
    rows = [row_of(i, path) for i, path in enumerate(sorted(photos.rglob("*.png")))]
    file.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]))
    return file


def test_a_group_on_both_sides_of_a_given_split_is_refused(photos, run, tmp_path):
    manifest = write_manifest(
        tmp_path / "m.csv", photos, "path,label,group,split",
        lambda i, path: (path, path.parent.name, i // 2, ("train", "test")[i % 2]),
    )  # fmt: skip
    code, _, err = run(manifest)
    assert code == 2
    assert "12 groups" in err


def test_test_images_without_groups_leave_the_training_groups(
    photos, tmp_path, run, add_photos, monkeypatch
):
    from pipelines.samples import read_samples

    manifest = write_manifest(
        tmp_path / "m.csv",
        photos,
        "path,label,group",
        lambda i, path: (path, path.parent.name, i // 2),
    )
    other = add_photos(tmp_path / "other", per_class=2, start=60)
    samples = read_samples(str(manifest), str(other))
    assert samples.groups[:4].tolist() == ["0", "0", "1", "1"]
    assert len(set(samples.groups[-4:])) == 4


def test_images_of_one_subject_stay_together(photos, run, tmp_path):
    """24 photos of twelve subjects, each a cat and a dog."""
    code, _, err = run(photos, "--groups", r"/(\d+)\.png", *BRIEF, "--duplicates", "keep")
    tested = [Path(row["path"]).stem for row in rows_of(tmp_path / "out" / "test_predictions.csv")]
    assert code == 0, err
    assert len(tested) == 6
    assert all(tested.count(subject) == 2 for subject in tested)


def test_groups_of_paths_are_named_by_the_first_part_or_the_whole_match(photos):
    from data import read_images
    from pipelines.samples import group_by_path

    samples = read_images(str(photos))
    assert set(group_by_path(samples, r"(cats|dogs)/[0-9]+").groups) == {"cats", "dogs"}
    assert set(group_by_path(samples, r"cats/1[01]?\.").groups[:12]) >= {
        "cats/1.",
        "cats/10.",
        "cats/11.",
    }
    assert len(set(group_by_path(samples, r"cats/1()\.").groups)) == 24


def test_no_readable_image_at_all(tmp_path, run):
    for kind in ("cats", "dogs"):
        (tmp_path / "bad" / kind).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "bad" / kind / f"{i}.png").write_text(f"no image {kind} {i}")
    code, _, err = run(tmp_path / "bad", "--max-bad", "1")
    assert code == 1
    assert "none of the 12 images can be read" in err


def test_ones_own_module_is_not_told_to_predict_by_a_command(photos, run, tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        "import torch\n\ndef make():\n"
        "    torch.manual_seed(0)\n"
        "    conv = torch.nn.Conv2d\n"
        "    return torch.nn.Sequential(conv(3, 8, 3, 4), torch.nn.ReLU(), conv(8, 8, 3, 2), "
        "torch.nn.ReLU())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = run(
        photos,
        "--backbone",
        "own_network:make",
        *("--heads", "knn", "--baselines", "off"),
        "--size",
        "64",
        "--cv",
        "3",
        "--cache",
        tmp_path / "c",
        "--out",
        tmp_path / "out",
        defaults=False,
    )
    assert code == 0, err
    assert "load_classifier(" in out
    assert "pipelines.predict" not in out


def test_what_is_no_bundle_is_refused_before_the_pass(photos, run, tmp_path):
    """It came out after the search, and no results were written."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").touch()
    code, _, err = run(photos)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "model exists and is no bundle" in err


def test_a_full_disk_is_no_wrong_call(photos, run, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "touch", fail)
    code, _, err = run(photos)
    assert code == 1
    read, error = err.splitlines()
    assert read == READ
    assert error.startswith("error: ")
    assert "No space left on device" in error


def test_ctrl_c_says_what_was_kept(photos, run, monkeypatch):
    def stop(*_, **__):
        raise Interrupted(12, 24)

    monkeypatch.setattr("pipelines.features.extract", stop)
    code, _, err = run(photos)
    assert code == 130
    assert "12 of 24 images" in err


def test_a_damaged_part_is_computed_again(photos, run, tmp_path):
    run(photos, *BRIEF)
    part = next((tmp_path / "cache").rglob("*.h5"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 255
    part.write_bytes(data)
    code, _, err = run(photos, *BRIEF)
    assert code == 0, err
    assert results_of(tmp_path)["chosen"]["test_accuracy"] > 0.5


def test_an_unexpected_error_is_one_line_and_a_traceback_only_with_debug(photos, run, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr("pipelines.features.extract", fail)
    code, _, err = run(photos)
    assert (code, err.splitlines()) == (
        1,
        [READ, "error: RuntimeError: boom (run with --debug for the traceback)"],
    )
    _, _, err = run(photos, "--debug")
    assert "Traceback" in err


def test_many_taps_are_screened_and_those_left_out_are_listed(photos, run, tmp_path):
    code, out, err = run(
        *(photos, "--layers", "all", "--pooling", "avg,max", "--heads", "knn"),
        *("--baselines", "off"),
    )
    results = results_of(tmp_path)
    assert code == 0, err
    alone = [row for row in results["leaderboard"] if row["members"] is None]
    assert len({(row["layer"], row["pooling"]) for row in alone}) == 12
    assert len(results["screened_out"]) == 26 - 12
    assert f"{len(results['screened_out'])} more taps were screened out" in out
    row = results["screened_out"][0]
    assert {"backbone", "layer", "pooling", "dim", "screening_accuracy"} <= set(row)
    chosen = results["chosen"]
    loaded = load_classifier(tmp_path / "out" / "model")
    taps = {
        member["tap"]
        for member in chosen["members"] or [{"tap": f"{chosen['layer']}:{chosen['pooling']}"}]
    }
    assert set(map(str, loaded.extractor_.taps())) == taps


def test_a_class_called_drop_is_learnt_and_labels_are_refused_before_any_work(
    run, photos, tmp_path
):
    (photos / "dogs").rename(photos / "drop")
    (tmp_path / "fixes.csv").write_text(f"path,label\n{photos}/cats/0.png,drop\n")
    few = ["--layers", "features.4", "--pooling", "avg", "--heads", "ridge", "--baselines", "off"]
    code, out, err = run(photos, *few, "--labels", tmp_path / "fixes.csv")
    assert (code, out) == (2, "")
    assert "has a class 'drop'" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()
    assert run(photos, *few)[0] == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert "drop" in results["data"]["classes"]
