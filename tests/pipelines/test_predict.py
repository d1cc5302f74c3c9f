"""Tests of pipelines/predict.py and the `permafrost` script."""

import csv
import io
import json

import pytest

from data import read_image_folder
from pipelines import ImageClassifier, save_classifier
from pipelines.__main__ import main as permafrost
from pipelines.predict import main


@pytest.fixture
def bundle(photos, tmp_path):
    """A trained bundle of a small network."""
    samples = read_image_folder(photos)
    options = {
        "backbone": "mobilenet_v3_small",
        "weights": "random",
        "size": 32,
        "layer": "features.4",
    }
    classifier = ImageClassifier(head="linear_svm", cache=tmp_path / "cache", **options)
    return save_classifier(classifier.fit(samples.paths, samples.labels), tmp_path / "bundle")


def call(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_a_folder_as_json_lines(bundle, photos, capsys):
    code, out, _ = call(capsys, bundle, photos / "cats", "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(answers) == 12
    for answer in answers:
        assert set(answer) == {"path", "label", "probability", "probabilities", "error"}
        assert answer["error"] is None
        assert answer["probability"] == answer["probabilities"][answer["label"]]
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(answer["label"] == "cats" for answer in answers) >= 10


def test_as_csv(bundle, photos, capsys):
    _, out, _ = call(capsys, bundle, photos / "cats" / "0.png", photos / "dogs" / "1.png", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["path"] for row in rows] == [
        str(photos / "cats" / "0.png"),
        str(photos / "dogs" / "1.png"),
    ]
    assert all(row["label"] in ("cats", "dogs") and row["error"] == "" for row in rows)


def test_a_file_that_cannot_be_read_has_an_error_and_the_others_their_labels(
    bundle, photos, tmp_path, capsys
):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    paths = [
        photos / "cats" / "0.png",
        tmp_path / "broken.jpg",
        photos / "cats" / "1.png",
        tmp_path / "gone.png",
    ]
    code, out, err = call(capsys, bundle, *paths, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    answers = {answer["path"]: answer for answer in lines}
    assert code == 1
    assert [answer["path"] for answer in lines] == [str(path) for path in paths]
    assert [answers[str(path)]["error"] is None for path in paths] == [True, False, True, False]
    assert answers[str(paths[1])]["label"] is None
    assert "2 of 4 images can't be read" in err


def test_only_unreadable_files(bundle, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    code, out, _ = call(capsys, bundle, tmp_path / "broken.jpg", "--json")
    assert (code, len(out.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nowhere", "{photos}"], "is no bundle"),
        (["{bundle}", "{tmp}/empty"], "no images in"),
        (["{bundle}", "{photos}", "--device", "mps"], "not on this machine"),
    ],
)
def test_wrong_calls_give_one_line_and_exit_2(bundle, photos, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"tmp": tmp_path, "photos": photos, "bundle": bundle}
    code, out, err = call(capsys, *(argument.format(**places) for argument in arguments))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err


def test_the_script_hands_over_to_the_commands(bundle, photos, capsys):
    assert permafrost(["predict", str(bundle), str(photos / "cats" / "0.png")]) == 0
    assert "cats" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["rum"], 2)])
def test_the_script_names_its_commands(arguments, code, capsys):
    assert permafrost(arguments) == code
    shown = "".join(capsys.readouterr())
    assert all(name in shown for name in ("run", "extract", "predict"))


def test_what_is_not_used_is_said_in_one_line(bundle, photos, capsys):
    (photos / "cats" / "notes.txt").touch()
    (photos / "cats" / "up").symlink_to("..")
    _, out, err = call(capsys, bundle, photos / "cats", photos / "dogs" / "0.png")
    assert len(out.splitlines()) == 13
    assert err == "not used: 1 .txt, 1 link to a folder above it\n"
    (photos / "none").mkdir()
    (photos / "none" / "notes.txt").touch()
    code, _, err = call(capsys, bundle, photos / "none")
    assert code == 2
    assert err.endswith("expected image files or folders of them (not used: 1 .txt)\n")


def test_the_folder_of_a_run_is_taken_for_the_bundle_in_it(bundle, photos, tmp_path, capsys):
    image = photos / "cats" / "0.png"
    (tmp_path / "run").mkdir()
    bundle.rename(tmp_path / "run" / "model")
    expected = call(capsys, tmp_path / "run" / "model", image)
    assert expected[0] == 0
    assert call(capsys, tmp_path / "run", image) == expected
