"""Tests of what a run says of each image, and of its page, made by the run and made again."""

import json
import os
import shutil

import numpy as np
import pytest

from extract import loader
from extract import thumbnails as kept_thumbnails_file
from heads.blend import Blend
from pipelines import RunSettings, run_job
from pipelines.__main__ import main as permafrost
from pipelines.report.__main__ import main
from pipelines.report.images import read_images
from pipelines.stages.report import heaviest_source

QUICK = {
    "backbone": "mobilenet_v3_small",
    "weights": "random",
    "size": 32,
    "cv": 3,
    "heads": "ridge,knn",
    "views": "plain",
    "layers": "features.4",
    "pooling": "avg",
    "baselines": False,
}


@pytest.fixture
def job(photos, tmp_path):
    """Run the photos into `out`, or into no folder -> its result."""

    def call(images=photos, out=tmp_path / "out", **options):
        settings = {**QUICK, "cache": tmp_path / "cache", "out": out, **options}
        return run_job(images if images != photos else str(photos), RunSettings(**settings))

    return call


@pytest.fixture
def page(tmp_path, capsys):
    """Make the page of `out` again -> (exit code, stdout, stderr, the page)."""

    def call(*arguments):
        code = main([str(tmp_path / "out"), *map(str, arguments)])
        return code, *capsys.readouterr(), (tmp_path / "out" / "report.html").read_text("utf-8")

    return call


def test_each_image_is_told_with_what_was_said_of_it(job, tmp_path):
    result = job()
    images = read_images(tmp_path / "out" / "images.csv")
    classes = result.leaderboard.classes
    for part, rows, probabilities in (
        ("train", result.split.train, result.oof_probabilities()),
        ("test", result.split.test, result.test_probabilities),
    ):
        assert np.flatnonzero(images.part == part).tolist() == rows.tolist()
        answers = probabilities.argmax(axis=1)
        assert images.predicted[rows].tolist() == classes[answers].tolist()
        own = np.searchsorted(classes, result.samples.labels[rows])
        each = np.arange(len(rows))
        assert np.allclose(images.probability[rows], probabilities[each, answers], 1e-8, 0)
        assert np.allclose(images.probability_of_label[rows], probabilities[each, own], 1e-8, 0)
    assert images.path.tolist() == list(result.samples.paths)
    assert images.label.tolist() == result.samples.labels.tolist()
    assert np.array_equal(images.ids, result.ids)
    assert np.isfinite(images.x).all()
    tested = images.part == "test"
    assert np.array_equal(np.isnan(images.familiarity), ~tested)
    flagged = (images.familiarity < 0.05).sum()
    assert flagged == result.results["familiarity"]["n_flagged"]
    # what is kept is what was written, to the last digit: a page of either says the same
    for name in ("probability", "probability_of_label", "x", "y"):
        assert np.array_equal(getattr(images, name), getattr(result.images, name))


def test_the_answers_of_the_results_are_those_of_the_images(job):
    result = job(out=None)
    for part in ("test", "train"):
        own = result.images.part == part
        found = result.results["answers"][part]
        assert sum(cell["images"] for cell in found["confusion"]) == own.sum()
        right = sum(
            cell["images"] for cell in found["confusion"] if cell["label"] == cell["predicted"]
        )
        assert right == (own & ~result.images.is_wrong).sum()
    assert {
        row["class"]: row["value"] for row in result.results["answers"]["test"]["recall"]
    } == result.chosen["test_recall"]
    assert result.results["map"]["tap"] == "features.4:avg"
    assert result.results["map"]["images"] == 24


def test_of_a_blend_the_source_that_weighs_most_is_mapped(job, monkeypatch):
    def blended(board, how):
        return next(i for i, row in enumerate(board.rows) if row.head == "blend")

    def uneven(shares, codes, folds, scoring=None, kinds=None):
        weights = np.array([0.3, *[0.7 / (len(shares) - 1)] * (len(shares) - 1)])
        return Blend(weights, 0.5, np.tensordot(weights, shares, 1))

    monkeypatch.setattr("pipelines.stages.search.choose_row", blended)
    monkeypatch.setattr("pipelines.evaluation.leaderboard.blend_candidates", uneven)
    result = job(out=None, layers="features.4,features.6", pooling="avg")
    weights = {}
    for member in result.members:
        weights[member.source] = weights.get(member.source, 0) + member.weight
    source = heaviest_source(result.found)
    assert weights[source] == max(weights.values())
    assert result.results["map"]["tap"] == result.found.table.sources[source].tap


def test_of_many_images_a_part_is_mapped_and_every_class_in_it(job, monkeypatch):
    monkeypatch.setattr("pipelines.stages.report.MOST", 10)
    result = job(out=None)
    drawn = ~np.isnan(result.images.x)
    assert (drawn.sum(), result.results["map"]["images"]) == (10, 10)
    assert np.unique(result.images.label[drawn], return_counts=True)[1].tolist() == [5, 5]
    assert np.array_equal(drawn, ~np.isnan(result.images.y))


def test_a_page_that_fails_takes_nothing_with_it(job, photos, run, page, tmp_path, monkeypatch):
    def fails(*given):
        raise ValueError("no page today")

    few = ("--heads", "knn", "--layers", "features.4", "--pooling", "avg", "--baselines", "off")
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.report.page.make_page", fails)
        code, printed, err = run(photos, *few, "--report", "on")
    assert code == 0
    assert "no page could be made (ValueError: no page today); all else is there" in err
    assert "page:" not in printed
    assert sorted(os.listdir(tmp_path / "out")) == [
        *("images.csv", "model", "results.json", "test_predictions.csv")
    ]
    assert page("--cache", tmp_path / "cache")[0] == 0


def test_results_of_another_shape_are_refused_in_a_line(job, tmp_path, capsys):
    job(report=False)
    file = tmp_path / "out" / "results.json"
    whole = json.loads(file.read_text("utf-8"))
    for other in ({"comparisons": {}}, {"seconds": None}, {"chosen": {}}, {"leaderboard": []}):
        file.write_text(json.dumps(whole | other))
        assert main([str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "out" / "report.html").exists()


def test_the_surest_mistakes_are_explained_by_what_is_kept(job, photos):
    for i in (3, 4, 7):
        (photos / "cats" / f"{i}.png").rename(photos / "dogs" / f"cat {i}.png")
    result = job(heads="logistic", pooling="grid2")
    images, explained = result.images, result.results["explained"]
    rows = images.surest_mistakes()
    assert list(images.probability[rows]) == sorted(images.probability[rows], reverse=True)
    assert set(rows) == set(np.flatnonzero(images.is_wrong))
    assert [own["id"] for own in explained] == images.id[rows].tolist()
    of_path = dict(zip(images.path, images.label, strict=True))
    for row, own in zip(rows, explained, strict=True):
        told = own["path"], own["predicted"], own["label"]
        assert told == (images.path[row], images.predicted[row], images.label[row])
        assert np.shape(own["map"]) == ((2, 2) if own["evidence"] > 0 else ())
        if images.part[row] == "test":
            odds = images.probability[row] / images.probability_of_label[row]
            assert own["evidence"] == pytest.approx(np.log(odds), abs=1e-6)
        assert [near["label"] for near in own["nearest"]] == [
            of_path[near["path"]] for near in own["nearest"]
        ]
        assert own["path"] not in [near["path"] for near in own["nearest"]]
    assert any(own["map"] for own in explained)
    # of an average there is no map; without a page nothing is explained
    assert {own["map"] for own in job(heads="logistic").results["explained"]} == {None}
    assert job(heads="logistic", report=False).results["explained"] == []


def test_without_a_report_nothing_is_mapped_and_a_page_can_be_had(job, tmp_path):
    job()
    result = job(report=False)
    assert sorted(os.listdir(tmp_path / "out")) == [
        *("images.csv", "model", "results.json", "test_predictions.csv")
    ]
    assert result.results["map"] is None
    assert "report" not in result.results["seconds"]
    assert np.isnan(result.images.x).all()
    assert "<html" in result.report()


@pytest.mark.parametrize(("asked", "there"), [("on", True), ("off", False)])
def test_the_command_line_leaves_it_out(photos, run, tmp_path, asked, there):
    few = ("--heads", "knn", "--layers", "features.4", "--pooling", "avg", "--baselines", "off")
    code, printed, err = run(photos, *few, "--report", asked)
    assert code == 0, err
    assert (tmp_path / "out" / "report.html").exists() == there
    assert (f"page: {tmp_path / 'out' / 'report.html'}" in printed) == there


def test_every_image_is_decoded_once_and_again_for_its_patches_alone(
    job, page, tmp_path, monkeypatch
):
    decoded, made = [], []
    decode_noted, make = loader.decode_noted, kept_thumbnails_file._make

    def counting(data, name, *rest, **more):
        decoded.append(name)
        return decode_noted(data, name, *rest, **more)

    monkeypatch.setattr(loader, "decode_noted", counting)
    monkeypatch.setattr(
        kept_thumbnails_file, "_make", lambda *given: (made.append(given), make(*given))[1]
    )
    result = job()
    channels = result.results["seen"]["channels"]
    cut = {patch["path"] for own in channels for patch in own["patches"]}
    # in the pass, to find the places of patches, and to cut these out
    assert sorted(decoded) == sorted([*result.samples.paths, *cut, *cut])
    decoded.clear()
    result.report()
    job()
    assert decoded == []
    code, _, err, _ = page("--cache", tmp_path / "cache")
    assert (code, err) == (0, "")
    assert sorted(decoded) == sorted(cut)
    assert made == []


@pytest.mark.slow
def test_the_page_is_the_same_however_it_is_made(job, page, tmp_path):
    result = job()
    del result.results["seconds"]["report"]  # the page was made before
    file = tmp_path / "out" / "report.html"
    first = file.read_text("utf-8")
    assert result.report(tmp_path / "again.html") == first
    assert (tmp_path / "again.html").read_text("utf-8") == first
    results = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert results["seconds"].pop("report") > 0
    (tmp_path / "out" / "results.json").write_text(json.dumps(results))
    code, printed, err, again = page("--cache", tmp_path / "cache")
    assert (code, printed, err) == (0, f"page: {file}\n", "")
    assert again == first


@pytest.mark.slow
def test_pictures_come_of_the_files_where_the_cache_has_none(job, page, tmp_path, photos):
    job()
    first = page("--cache", tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    assert page("--cache", tmp_path / "cache") == first
    assert not (tmp_path / "cache").exists()
    (photos / "cats" / "1.png").unlink()
    shutil.copy(photos / "cats" / "2.png", photos / "cats" / "3.png")  # another image by now
    (photos / "cats" / "4.png").write_bytes(b"none")
    code, printed, err, _ = page("--cache", tmp_path / "cache")
    assert (code, printed) == first[:2]
    assert "21 of 24 images have a picture in it" in err
    shutil.rmtree(photos)
    code, _, err, _ = page("--cache", tmp_path / "cache")
    assert (code, err.split(";")[0]) == (0, "0 of 24 images have a picture in it")


@pytest.mark.slow
def test_the_script_makes_it_too(job, tmp_path, capsys):
    job(report=False)
    assert permafrost(["report", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]) == 0
    assert (tmp_path / "out" / "report.html").exists()
    assert str(tmp_path / "out" / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("results.json", None, "can't read {out}/results.json (No such file or directory)"),
        ("images.csv", None, "can't read {out}/images.csv (No such file or directory)"),
        ("results.json", "[1", "{out}/results.json is not as a run wrote it"),
        ("results.json", "[1]", "{out}/results.json has no 'answers'"),
        ("results.json", '{"data": 1}', "{out}/results.json has no 'answers'"),
        ("images.csv", "path\na", "{out}/images.csv is not as a run wrote it"),
        ("images.csv", "id", "{out}/images.csv is not as a run wrote it"),
    ],
)
def test_what_is_no_finished_run_is_refused_in_a_line(tmp_path, capsys, file, content, said):
    out = tmp_path / "out"
    out.mkdir()
    needed = ("data", "leaderboard", "chosen", "audit", "answers", "map", "explained")
    (out / "results.json").write_text(json.dumps(dict.fromkeys(needed)))
    header = "path,id,part,label,predicted,probability,probability_of_label,familiarity,x,y"
    (out / "images.csv").write_text(header)
    (out / file).unlink()
    if content is not None:
        (out / file).write_text(content)
    assert main([str(out)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {said.format(out=out)}")
    assert len(err.splitlines()) == 1
