"""Tests of pipelines/predict.py and the `permafrost` script."""

import csv
import gc
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data import read_image_folder
from pipelines import ImageClassifier, load_classifier, save_classifier
from pipelines import asked as asked_file
from pipelines import predict as predict_file
from pipelines.__main__ import main as permafrost
from pipelines.asked import Asking
from pipelines.predict import main

KEYS = [
    "path", "label", "probability", "probabilities", "familiarity", "unlike_training", "rejected",
    "error",
]  # fmt: skip


@pytest.fixture
def bundle(photos, tmp_path):
    """A trained bundle of a small network."""
    samples = read_image_folder(photos)
    options = {
        "backbone": "mobilenet_v3_small",
        "weights": "random",
        "size": 32,
        "layer": "features.4",
        "numerics": "float32",  # which every machine has, and needs not be asked for
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
        assert list(answer) == KEYS
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


def as_probabilities(out):
    lines = [json.loads(line) for line in out.splitlines()]
    return {answer["path"]: answer["probabilities"] for answer in lines}


def test_features_that_are_kept_are_read_and_nothing_is_written(bundle, photos, tmp_path, capsys):
    cache = tmp_path / "cache"
    for path in cache.rglob("*"):
        os.utime(path, (1e9, 1e9))
    before = snapshot(cache)
    _, kept, _ = call(capsys, bundle, photos, "--json", "--cache", cache)
    _, computed, _ = call(capsys, bundle, photos, "--json", "--cache", tmp_path / "none")
    assert snapshot(cache) == before
    assert not (tmp_path / "none").exists()
    kept, computed = as_probabilities(kept), as_probabilities(computed)
    for path, answer in kept.items():
        assert computed[path] == pytest.approx(answer, abs=1e-5)
        _, alone, _ = call(capsys, bundle, path, "--json", "--cache", cache)
        assert as_probabilities(alone) == {path: answer}


@pytest.mark.parametrize("heads", ["linear_svm", "linear_svm,rbf_svm,knn"])
def test_what_a_run_said_of_its_test_images_is_what_predict_says(
    photos, run, tmp_path, capsys, heads
):
    short = ("--layers", "features.4,features.6", "--pooling", "avg", "--baselines", "off")
    assert run(photos, "--heads", heads, "--intensity", "auto", *short)[0] == 0
    with open(tmp_path / "out" / "test_predictions.csv", encoding="utf-8", newline="") as file:
        said = {row["path"]: row for row in csv.DictReader(file)}
    model, whole, alone = tmp_path / "out" / "model", {}, {}
    for cache, tolerance in ((tmp_path / "cache", 0), (tmp_path / "none", 1e-5)):
        for found, calls in ((whole, [list(said)]), (alone, [[path] for path in said])):
            for images in calls:
                _, out, _ = call(capsys, model, *images, "--csv", "--cache", cache)
                found |= {row["path"]: row for row in csv.DictReader(io.StringIO(out))}
            for path, row in said.items():
                assert found[path]["label"] == row["predicted"]
                expected = pytest.approx(float(row["probability"]), abs=tolerance)
                assert float(found[path]["probability"]) == expected


def test_what_is_written_gives_the_log_loss_of_the_run(photos, run, tmp_path, capsys):
    short = ("--layers", "features.4", "--pooling", "avg", "--baselines", "off")
    assert run(photos, "--heads", "logistic", *short)[0] == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    with open(tmp_path / "out" / "test_predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = [row["path"] for row in rows]
    call_of = (tmp_path / "out", *paths, "--json", "--cache", tmp_path / "cache")
    said = as_probabilities(call(capsys, *call_of)[1])
    chances = [float(row["probability"]) for row in rows]
    of_label = [
        chance if row["predicted"] == row["label"] else 1 - chance  # of two classes
        for row, chance in zip(rows, chances, strict=True)
    ]
    expected = pytest.approx(results["chosen"]["test_metrics"]["log_loss"]["value"], abs=1e-8)
    assert -np.mean(np.log(of_label)) == expected
    assert -np.mean(np.log([said[row["path"]][row["label"]] for row in rows])) == expected


def snapshot(folder):
    """What the files of a folder hold, and when they were changed."""
    return {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


def test_kept_features_need_no_network(bundle, photos, tmp_path):
    command = (
        "import sys; from pipelines.predict import main; code = main(sys.argv[1:])\n"
        "print(code, 'torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, bundle, photos, "--cache", tmp_path / "cache"],
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines() == ["0 False"]
    assert len(done.stdout.splitlines()) == 24


def test_the_first_answers_come_before_the_last_images_are_read(
    bundle, photos, tmp_path, capsys, monkeypatch
):
    read = []

    def noted(classifier, paths, rules):
        read.append((len(paths), len(capsys.readouterr().out.splitlines())))
        return own(classifier, paths, rules)

    own = predict_file._predictions
    monkeypatch.setattr(predict_file, "_predictions", noted)
    main([str(bundle), str(photos), "--cache", str(tmp_path / "cache")])
    assert read == [(4, 0), (16, 4), (4, 16)]


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


def test_names_on_standard_input_and_tables(bundle, photos, tmp_path, capsys, monkeypatch):
    (tmp_path / "t.csv").write_text(
        "site,path,label\n3,photos/cats/0.png,cat\n4,gone.png,dog\n", encoding="utf-8"
    )
    (tmp_path / "t.jsonl").write_text(
        json.dumps({"path": str(photos / "dogs" / "1.png"), "when": 1999}), encoding="utf-8"
    )
    listed = f"{photos / 'cats' / '2.png'}\n\n{photos / 'dogs'}\r\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(listed))
    asked = (bundle, tmp_path / "t.csv", "-", tmp_path / "t.jsonl")
    code, out, err = call(capsys, *asked, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, len(rows)) == (1, 16)
    assert "1 of 16 images can't be read" in err
    assert [row["site"] for row in rows] == ["3", "4", *[""] * 14]
    assert [row["given_label"] for row in rows[:3]] == ["cat", "dog", ""]
    assert rows[1]["error"] == "no such file"
    assert rows[2]["path"] == str(photos / "cats" / "2.png")
    assert rows[-1]["when"] == "1999"
    code, out, _ = call(capsys, bundle, tmp_path / "t.jsonl", "--json")
    assert (code, json.loads(out)["given"]) == (0, {"when": 1999})


def test_names_that_are_still_coming_are_answered_in_part(bundle, photos, tmp_path, monkeypatch):
    shown = []

    def names():
        for place, path in enumerate(sorted(map(str, photos.rglob("*.png")))):
            shown.append((place, len(sys.stdout.getvalue().splitlines())))
            yield f"{path}\n"

    monkeypatch.setattr("sys.stdin", names())
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert main([str(bundle), "-", "--cache", str(tmp_path / "cache")]) == 0
    assert [answered for _, answered in shown] == [0] * 4 + [4] * 16 + [20] * 4


@pytest.mark.parametrize(("width", "most"), [(1280, 3276), (100_000, 64)])
def test_later_chunks_are_large_but_for_wide_features(width, most):
    """Each chunk is a pass of its own, whose start takes a second or two."""
    sizes = [len(chunk) for chunk in predict_file._chunks(range(10_000), width)]
    assert sizes[:5] == [4, 16, 64, most, most]
    assert sum(sizes) == 10_000


def test_strangers_are_flagged_and_rejected_where_it_is_asked_for(bundle, photos, tmp_path, capsys):
    image = photos / "cats" / "0.png"
    assert json.loads(call(capsys, bundle, image, "--json")[1])["unlike_training"] is False
    classifier = load_classifier(bundle)
    near = replace(classifier.reference_, judged=np.zeros(24, np.float32))  # so all else is far
    classifier.reference_ = near
    save_classifier(classifier, bundle)
    flagged = json.loads(call(capsys, bundle, image, "--json")[1])
    assert (flagged["label"], flagged["unlike_training"]) == ("cats", True)
    assert (flagged["familiarity"], flagged["rejected"]) == (1 / 25, None)
    code, out, _ = call(capsys, bundle, image, "--csv", "--reject", "0.05")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (code, row["label"], row["familiarity"]) == (0, "", "0.04")
    assert row["rejected"].startswith("unlike the training images")
    assert call(capsys, bundle, image, "--csv", "--reject", "0.041")[1].count(",cats,") == 0
    for share in ("0.03", "0.04"):
        code, out, err = call(capsys, bundle, image, "--csv", "--reject", share)
        assert (code, out) == (2, "")
        assert err == (
            f"error: --reject {share} would reject nothing: of 24 training images that are "
            "compared with no familiarity is below 0.04; expected more than that\n"
        )
    text = call(capsys, bundle, image, "--min-probability", "0.999999")[1]
    assert "rejected: probability" in text


def test_a_bundle_without_training_images_says_so(bundle, photos, tmp_path, capsys):
    classifier = load_classifier(bundle)
    classifier.reference_ = None
    save_classifier(classifier, bundle)
    image = photos / "cats" / "0.png"
    code, out, _ = call(capsys, bundle, image, "--json")
    assert (code, json.loads(out)["familiarity"]) == (0, None)
    code, out, err = call(capsys, bundle, image, "--reject", "0.05")
    assert (code, out) == (2, "")
    assert "holds no training images to compare with" in err


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


def test_no_garbage_is_looked_for_until_the_first_answers(bundle, photos, tmp_path, monkeypatch):
    """It took a fifth of the time to the answer for one image."""
    looked = []

    def noted(classifier, paths, rules):
        looked.append(gc.isenabled())
        return own(classifier, paths, rules)

    own = predict_file._predictions
    monkeypatch.setattr(predict_file, "_predictions", noted)
    assert main([str(bundle), str(photos), "--cache", str(tmp_path / "cache")]) == 0
    assert looked == [False, True, True]
    assert main([str(tmp_path / "nowhere"), str(photos)]) == 2
    assert gc.isenabled()


def test_a_review_is_a_table_that_the_next_run_learns_from(
    run, photos, add_photos, tmp_path, capsys
):
    few = ["--layers", "features.4", "--pooling", "avg", "--heads", "logistic"]
    few += ["--baselines", "off", "--report", "off"]
    assert run(photos, *few)[0] == 0
    new = add_photos(tmp_path / "new", 8, start=40)
    (new / "broken.png").write_bytes(b"none")
    code, out, err = call(capsys, tmp_path / "out", new, "--review", "5")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 1
    assert "broken.png" in err
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert all(float(row["probability"]) >= float(row["runner_up_probability"]) for row in rows)
    familiar = [float(row["familiarity"]) >= 0.05 for row in rows]
    assert familiar == sorted(familiar, reverse=True)
    assert [row["label"] for row in rows] == [""] * 5
    assert {row["guess"] for row in rows} <= {"cats", "dogs"}
    labelled = [f"{row['path']},{row['guess']}" for row in rows[:3]]
    labelled += [f"{row['path']}," for row in rows[3:]]
    (tmp_path / "asked.csv").write_text("\n".join(["path,label", *labelled]))
    code, _, err = run(
        photos, *few, "--labels", tmp_path / "asked.csv", "--split", tmp_path / "out"
    )
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    said = "0 dropped, 3 added to train on, 2 without a label skipped"
    assert said in results["data"]["notes"][-1]
    assert said in err
    assert results["compared"]["n_added"] == 3
    with open(tmp_path / "out" / "images.csv", encoding="utf-8", newline="") as file:
        part_of = {row["path"]: row["part"] for row in csv.DictReader(file)}
    assert {part_of[row["path"]] for row in rows[:3]} == {"train"}


def test_what_a_review_can_not_be_asked_with(bundle, photos, capsys):
    code, _, err = call(capsys, bundle, photos, "--json", "--review")
    assert code == 2
    assert err == "error: --review and --json were given: leave one of them out\n"
    with pytest.raises(SystemExit):
        call(capsys, bundle, "--review", photos)
    assert "or --review as the last word" in capsys.readouterr().err


def test_names_that_come_slowly_are_answered_after_a_second(monkeypatch):
    monkeypatch.setattr(asked_file, "LONGEST_WAIT", 0.05)
    reading, writing = os.pipe()
    with open(reading) as stdin:
        chunks = predict_file._chunks(Asking(["-"], stdin), 1280)
        sizes = []
        for names in (b"a.png\n", b"b.png\nc.p", b"ng\r\nd\xe9.png\n"):
            os.write(writing, names)
            sizes.append([asked.path for asked in next(chunks)])
        os.write(writing, b"\ne.png")
        os.close(writing)
        sizes += [[asked.path for asked in chunk] for chunk in chunks]
    expected = [["a.png"], ["b.png"], ["c.png", os.fsdecode(b"d\xe9.png")], ["e.png"]]
    assert sizes == expected


def test_a_row_without_a_path_and_columns_of_one_name(bundle, photos, tmp_path, capsys):
    image = photos / "cats" / "0.png"
    (tmp_path / "t.csv").write_text(f"x,path,x\n1,,2\n3,{image},4\n", encoding="utf-8")
    code, out, err = call(capsys, bundle, tmp_path / "t.csv", "--csv", "--top", "99")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 1
    assert "1 of 2 images can't be read" in err
    assert rows[0]["error"].endswith("t.csv, line 2: no path; every row needs one")
    assert (rows[1]["label"], rows[1]["x"], rows[1]["x_2"]) == ("cats", "3", "4")
    assert [name for name in rows[0] if name.startswith("label")] == ["label", "label_2"]


def test_what_is_explained_when_it_is_interrupted_has_its_page(
    bundle, photos, tmp_path, monkeypatch
):
    def interrupted(classifier, chunk, rules):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict_file, "_answers", interrupted)
    assert main([str(bundle), str(photos), "--explain", str(tmp_path / "why")]) == 130
    assert (tmp_path / "why" / "index.html").read_text().count("<figure>") == 4


STREAMED = 2000  # files; a benchmark may raise it


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_memory_stays_flat_over_many_files(bundle, tmp_path):
    """After the first 500 answers it grows by less than 100 MB, whatever number follows."""
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(STREAMED):
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        picture.save(folder / f"{number:05}.png")
    command = [sys.executable, "-m", "pipelines.predict", str(bundle), str(folder), "--csv"]
    command += ["--cache", str(tmp_path / "none")]
    sizes = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as done:
        for number, _ in enumerate(done.stdout):
            if number > 500 and number % 100 == 0:
                with open(f"/proc/{done.pid}/status") as status:
                    lines = [line for line in status if line.startswith("VmRSS")]
                sizes += [int(line.split()[1]) / 1024 for line in lines]
    assert (done.returncode, number) == (0, STREAMED)
    assert max(sizes) - min(sizes) < 100


def test_images_by_url_are_answered_as_those_of_the_folder(
    bundle, photos, bucket, capsys, tmp_path
):
    shutil.copytree(photos, bucket.folder / "photos")
    url = f"{bucket.url}/photos"
    (tmp_path / "new.csv").write_text(f"path\n{url}/dogs/1.png\n")
    there = call(capsys, bundle, f"{url}/cats", f"{url}/gone.png", tmp_path / "new.csv", "--csv")
    here = call(
        capsys, bundle, photos / "cats", photos / "gone.png", photos / "dogs/1.png", "--csv"
    )
    assert there[0] == here[0] == 1
    assert there[1].replace(url, str(photos)) == here[1]
