"""Tests of pipelines/exploring/job.py: one quick job, looked at from all sides."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from data import DataError, Samples, read_image_folder
from pipelines import ExploreSettings, explore_job
from pipelines.errors import WorkFailed, WrongCall
from pipelines.progress import StageBegun
from pipelines.report.timing import EXPLORING_STAGES

QUICK = {
    "backbone": "mobilenet_v3_small",
    "weights": "random",
    "size": 32,
    "layers": "features.4",
    "pooling": "avg,grid2",
    "numerics": "float32",
    "n": 6,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def settings(cache):
    return ExploreSettings(cache=cache, **QUICK)


@pytest.fixture(scope="module")
def done(photos_of_the_module, settings, tmp_path_factory):
    """(result, its folder, the events) of a job."""
    out, events = tmp_path_factory.mktemp("out") / "explored", []
    asked = replace(settings, out=out)
    return explore_job(str(photos_of_the_module), asked, on_event=events.append), out, events


def read(file):
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_a_job_leaves_its_files_and_figures(done):
    result, out, events = done
    names = {path.name for path in out.iterdir()}
    assert names == {"results.json", "report.html", "clusters.csv", "to_label.csv"}
    written = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(result.results))
    assert set(written["seconds"]) == {*EXPLORING_STAGES, "total"}
    begun = [event.name for event in events if isinstance(event, StageBegun)]
    assert begun == list(EXPLORING_STAGES)[1:]


def test_every_image_is_in_one_cluster_the_typical_ones_first(done):
    result, out, _ = done
    rows = read(out / "clusters.csv")
    assert sorted(row["path"] for row in rows) == sorted(result.samples.paths)
    described = result.results["clusters"]["rows"]
    assert sum(own["images"] for own in described) == len(rows)
    for own in described:
        inside = [row for row in rows if row["label"] == own["name"]]
        assert [row["path"] for row in inside][: len(own["typical"])] == own["typical"]
        typical = [float(row["typicality"]) for row in inside]
        assert typical == sorted(typical, reverse=True)


def test_what_to_label_is_listed_with_an_empty_label(done):
    result, out, _ = done
    rows = read(out / "to_label.csv")
    assert [row["rank"] for row in rows] == list(map(str, range(1, 7)))
    assert {row["label"] for row in rows} == {""}
    assert [row["path"] for row in rows] == [result.samples.paths[i] for i in result.to_label]
    assert result.results["to_label"]["rule"] == "typical"


def test_labels_are_compared_with_and_change_nothing_else(done, photos_of_the_module, settings):
    result, _, _ = done
    samples = read_image_folder(photos_of_the_module)
    assert result.samples.labels is None
    assert result.results["clusters"]["labels"]["classes"] == 2
    own = replace(samples, labels=samples.labels[::-1])
    bare = replace(samples, labels=None, classes=())
    for other in (own, bare):
        again = explore_job(other, settings)
        by_path = dict(zip(again.samples.paths, again.clusters.tolist(), strict=True))
        assert [by_path[path] for path in result.samples.paths] == result.clusters.tolist()
    assert again.results["clusters"]["labels"] is None


def test_a_second_job_says_the_same(done, photos_of_the_module, settings):
    result, _, _ = done
    again = explore_job(str(photos_of_the_module), settings)
    assert again.results["extraction"]["computed"] == 0
    for block in ("clusters", "dense", "to_label", "audit", "map"):
        assert again.results[block] == result.results[block]


def test_the_number_of_clusters_may_be_given(photos_of_the_module, settings):
    given = replace(settings, clusters=5, report=False)
    result = explore_job(str(photos_of_the_module), given)
    assert result.results["clusters"]["k"] == 5
    assert result.results["clusters"]["stability"] == []
    assert result.results["map"] is None
    assert np.isnan(result.places).all()
    assert repr(result).endswith("24 images in 5 clusters, 6 to label first)")


def label(file, pairs):
    with open(file, "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("path", "label"), *pairs])
    return file


def test_with_few_labels_typical_images_of_other_groups_are_asked_for(
    photos_of_the_module, settings, done, tmp_path
):
    result, _, _ = done
    known = [result.samples.paths[row] for row in result.to_label]
    table = label(tmp_path / "known.csv", [(path, path.split("/")[-2]) for path in known])
    again = explore_job(str(photos_of_the_module), replace(settings, labelled=table, report=False))
    described = again.results["to_label"]
    assert (described["rule"], described["n_labelled"]) == ("typical", 6)
    assert {own["path"] for own in described["rows"]}.isdisjoint(known)


def test_with_more_labels_unsure_ones_are_asked_for(photos_of_the_module, settings, tmp_path):
    samples = read_image_folder(photos_of_the_module)
    pairs = [(samples.paths[row], samples.labels[row]) for row in (*range(4), *range(12, 16))]
    pairs += [(samples.paths[5], "drop"), (samples.paths[6], "")]
    table = label(tmp_path / "known.csv", pairs)
    asked = replace(settings, labelled=table, report=False, out=tmp_path / "out")
    result = explore_job(str(photos_of_the_module), asked)
    described = result.results["to_label"]
    assert (described["rule"], described["n_labelled"], described["n_classes"]) == ("unsure", 8, 2)
    assert {own["why"] for own in described["rows"]} <= {"cats or dogs?", "dogs or cats?"}
    assert {own["path"] for own in described["rows"]}.isdisjoint(path for path, _ in pairs[:8])
    assert samples.paths[5] not in result.samples.paths
    # once it is filled in, the new table is the whole one
    rows = read(tmp_path / "out" / "to_label.csv")
    assert {row["path"]: row["label"] for row in rows if row["label"]} == dict(pairs[:9])
    assert [row["rank"] for row in rows[:6]] == list("123456")


def test_a_label_of_a_copy_that_was_left_out_counts(photos, settings, tmp_path):
    """The first of exact copies stays, and it may be the other that is labelled."""
    shutil.copy(photos / "cats" / "0.png", photos / "cats" / "z.png")
    table = label(tmp_path / "known.csv", [(str(photos / "cats" / "z.png"), "cats")])
    result = explore_job(str(photos), replace(settings, labelled=table, report=False))
    assert result.results["data"]["n_duplicates"] == 1
    assert result.results["to_label"]["n_labelled"] == 1
    asked = {own["path"] for own in result.results["to_label"]["rows"]}
    assert asked.isdisjoint({str(photos / "cats" / "0.png"), str(photos / "cats" / "z.png")})


def test_images_at_any_depth_are_taken(photos, settings):
    (photos / "cats" / "2019" / "may").mkdir(parents=True)
    (photos / "cats" / "1.png").rename(photos / "cats" / "2019" / "may" / "1.png")
    (photos / "dogs" / "1.png").rename(photos / "loose.png")
    result = explore_job(str(photos), replace(settings, clusters=2, report=False))
    assert len(result.samples) == 24


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_are_no_error(photos, settings, n):
    paths = sorted(map(str, photos.rglob("*.png")))[:n]
    result = explore_job(Samples(tuple(paths)), settings)
    assert len(result.samples) == n
    assert 1 <= len(result.to_label) <= n
    if n == 1:
        assert "1 image in 1 cluster, 1 to label first" in repr(result)
    assert result.report().startswith("<!doctype html>")


def test_what_cant_be_used_is_one_line(photos, settings, tmp_path):
    other = label(tmp_path / "a.csv", [("x.png", "cats")])
    with pytest.raises(
        DataError, match=r"1 of 1 path with a label is no image of photos, first x\."
    ):
        explore_job(str(photos), replace(settings, labelled=other))
    none = label(tmp_path / "b.csv", [(str(path), "drop") for path in photos.rglob("*.png")])
    with pytest.raises(WrongCall, match="drops every image: expected some to stay"):
        explore_job(str(photos), replace(settings, labelled=none))
    (photos / "cats" / "0.png").write_bytes(b"nothing")
    with pytest.raises(WorkFailed, match="1 of 24 images can't be used"):
        explore_job(str(photos), replace(settings, max_bad=0, clusters=2))


@pytest.mark.parametrize("name", ["to_label.csv", "clusters.csv"])
def test_labels_that_were_written_into_a_table_are_not_lost(photos, settings, tmp_path, name):
    asked = replace(settings, out=tmp_path / "out", clusters=2, report=False)
    explore_job(str(photos), asked)
    explore_job(str(photos), asked)  # nothing was written
    table = tmp_path / "out" / name
    edited = table.read_text(encoding="utf-8").replace(".png,", ".png,cats,", 1)
    table.write_text(edited, encoding="utf-8")
    with pytest.raises(WrongCall, match=f"{name} was changed since it was written"):
        explore_job(str(photos), replace(asked, labelled=table))
    assert table.read_text(encoding="utf-8") == edited
    table.unlink()
    explore_job(str(photos), asked)


def test_a_runs_folder_is_left_alone(photos, settings, tmp_path):
    (tmp_path / "run").mkdir()
    written = {"schema": 1, "data": {}, "leaderboard": [], "chosen": {}}
    (tmp_path / "run" / "results.json").write_text(json.dumps(written))
    with pytest.raises(WrongCall, match=r"holds a results\.json that no exploration wrote"):
        explore_job(str(photos), replace(settings, out=tmp_path / "run"))
