"""Tests of what is remembered of searches: under what decides it, to the last bit."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from extract import files
from heads import search as heads_search
from pipelines import RunSettings, findings, run_job
from pipelines.evaluation import sources as searches
from pipelines.findings import Findings

FIGURES = {
    "a": np.array([[0.1, np.nan], [np.inf, -0.0]]),
    "flags": np.array([True, False]),
    "none": np.empty((0, 3), np.float32),
    "rows": [{"x": 0.1 + 0.2, "y": None, "z": "é", "n": float("nan")}, [1, [2]]],
}


@pytest.fixture
def known(tmp_path):
    return Findings(tmp_path)


def never():
    raise AssertionError("it is made again")


def test_what_is_made_once_comes_back_to_the_last_bit(known, tmp_path):
    made = known.of("figures", ["a", 1], lambda: FIGURES)
    for found in (made, Findings(tmp_path).of("figures", ["a", 1], never)):
        for name in ("a", "flags", "none"):
            assert found[name].dtype == FIGURES[name].dtype
            assert found[name].shape == FIGURES[name].shape
            assert found[name].tobytes() == FIGURES[name].tobytes()
            assert found[name].flags.writeable
        assert json.dumps(found["rows"]) == json.dumps(FIGURES["rows"])


@pytest.mark.parametrize(
    "other",
    [
        ("other", ["a", np.arange(4), None]),
        ("kind", ["b", np.arange(4), None]),
        ("kind", ["a", np.arange(4), 0]),
        ("kind", ["a", np.arange(4)]),
        ("kind", ["a", None, np.arange(4)]),
        ("kind", ["a", np.arange(4, dtype=np.int32), None]),
        ("kind", ["a", np.arange(4).reshape(2, 2), None]),
        ("kind", ["a", np.array([0, 1, 2, 4]), None]),
        ("kind", ["a", [np.arange(3), np.arange(4)], None]),
        ("kind", ["a" + str(np.arange(4)), None]),
    ],
)
def test_whatever_decides_it_tells_results_apart(known, other):
    known.remember("kind", ["a", np.arange(4), None], 1)
    assert known.recall("kind", ["a", np.arange(4), None]) == 1
    assert known.recall(*other) is None


def test_other_code_or_libraries_make_other_results(known, monkeypatch):
    known.remember("kind", [], 1)
    monkeypatch.setattr(findings, "version", lambda name: "0.0")
    findings._code.cache_clear()
    assert known.recall("kind", []) is None
    monkeypatch.undo()
    findings._code.cache_clear()
    assert known.recall("kind", []) == 1


@pytest.mark.parametrize(
    "place", ["heads/catalog.py", "extract/backbones/baselines.py", "data/thumbnails.py"]
)
def test_whatever_code_is_another_makes_other_results(known, monkeypatch, place):
    known.remember("kind", [], 1)
    read = Path.read_bytes
    monkeypatch.setattr(
        Path,
        "read_bytes",
        lambda file: read(file) + b" " * file.as_posix().endswith(f"/{place}"),
    )
    findings._code.cache_clear()
    assert known.recall("kind", []) is None
    monkeypatch.undo()
    findings._code.cache_clear()
    assert known.recall("kind", []) == 1


def test_what_is_too_long_is_not_written_out_first(known, monkeypatch):
    monkeypatch.setattr(findings, "_arrays_out", never)
    monkeypatch.setattr(findings, "LONGEST_REMEMBERED", 1000)
    known.remember("kind", [], {"rows": [np.zeros(1000)]})
    assert known.recall("kind", []) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"flipped", None])
def test_what_is_damaged_is_made_again(known, tmp_path, damage):
    known.remember("kind", [1], FIGURES)
    [file] = (tmp_path / "found").iterdir()
    if damage is None:  # of another result
        known.remember("kind", [2], [2])
        os.replace(next(own for own in (tmp_path / "found").iterdir() if own != file), file)
    elif damage == b"flipped":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    else:
        file.write_bytes(damage)
    assert known.of("kind", [1], lambda: "again") == "again"
    assert known.recall("kind", [1]) == "again"


def test_without_a_place_it_is_made_each_time(tmp_path, monkeypatch):
    (tmp_path / "found").write_text("a file in the folder's place")
    known = Findings(tmp_path)
    assert known.of("kind", [1], lambda: 1) == 1
    assert known.of("kind", [1], lambda: 2) == 2
    monkeypatch.setattr(findings, "LONGEST_REMEMBERED", 1000)
    known = Findings(tmp_path / "other")
    assert known.of("kind", [1], lambda: np.zeros(1000)).size == 1000
    assert not (tmp_path / "other").exists()


@pytest.fixture
def job(photos, tmp_path):
    def call(**options):
        settings = {
            "backbone": "mobilenet_v3_small",
            "weights": "random",
            "size": 32,
            "cv": 3,
            "heads": "ridge,knn",
            "layers": "features.4,features.8",
            "pooling": "avg",
            "views": "plain",
            "thorough": True,
            "cache": tmp_path / "cache",
            **options,
        }
        return run_job(str(photos), RunSettings(**settings)).results

    return call


@pytest.fixture
def counted(monkeypatch):
    """Which heads were searched, an entry for each set of features."""
    seen = []
    search = searches.search_heads
    monkeypatch.setattr(
        searches,
        "search_heads",
        lambda X, y, own: (seen.append(list(own.heads)), search(X, y, own))[1],
    )
    return seen


def without_times(results):
    return {key: own for key, own in results.items() if key not in ("seconds", "extraction")}


@pytest.mark.parametrize("thorough", [True, False])
def test_a_run_that_changes_nothing_searches_nothing(job, counted, monkeypatch, thorough):
    first = job(views="auto", thorough=thorough)
    assert set(map(tuple, counted)) == ({("ridge", "knn")} if thorough else set())
    assert sum(row["n_stopped"] > 0 for row in first["leaderboard"]) == 0 or not thorough
    monkeypatch.setattr(searches, "_search_source", never)
    monkeypatch.setattr("pipelines.stages.search.make_leaderboard", never)
    monkeypatch.setattr("pipelines.stages.search.measure_baselines", never)
    monkeypatch.setattr("pipelines.stages.search.trace_curve", never)
    monkeypatch.setattr("pipelines.stages.report.map_images", never)
    monkeypatch.setattr("pipelines.stages.images.find_copies", never)
    monkeypatch.setattr("pipelines.stages.views.look_twice", never)
    second = job(views="auto", thorough=thorough)
    assert without_times(second) == without_times(first)


def test_one_head_or_layer_more_is_all_that_is_searched(job, counted):
    job()
    counted.clear()
    more = job(heads="ridge,knn,logistic")
    assert counted == [["logistic"]] * 2
    counted.clear()
    job(heads="ridge,knn,logistic", layers="features.4,features.8,features.11")
    assert counted == [["ridge", "knn", "logistic"]]
    # a table made of what is remembered is that of a search
    rows = {(row["tap"], row["head"]): row for row in more["leaderboard"] if row["tap"]}
    assert len(rows) == 6


def test_of_a_race_one_head_more_is_tried_alone_and_what_is_left_then(job, monkeypatch):
    seen = []
    search = searches._search_source

    def noting(kind, *given):
        seen.append((kind, *given[-1]))
        return search(kind, *given)

    monkeypatch.setattr(searches, "_search_source", noting)
    job(thorough=False)
    assert {own for own in seen if own[0] == "first fold"} == {("first fold", "ridge", "knn")}
    seen.clear()
    job(thorough=False, heads="ridge,knn,logistic")
    assert {own for own in seen if own[0] == "first fold"} == {("first fold", "logistic")}
    assert all("logistic" in own for own in seen)
    seen.clear()
    job(heads="ridge,knn,logistic")  # a thorough search is another one
    assert seen == [("search", "ridge", "knn", "logistic")] * 2


@pytest.mark.parametrize("thorough", [True, False])
def test_what_was_searched_in_parts_is_what_is_searched_at_once(job, tmp_path, thorough):
    job(thorough=thorough)
    in_parts = job(heads="ridge,knn,logistic", thorough=thorough)
    other = tmp_path / "other"
    at_once = job(heads="ridge,knn,logistic", thorough=thorough, cache=other)
    for one, other in zip(in_parts["leaderboard"], at_once["leaderboard"], strict=True):
        for name in ("cv_log_loss", "cv_score", "cv_fold_low"):
            assert one[name] == pytest.approx(other[name], abs=1e-9)
    assert in_parts["chosen"]["head"] == at_once["chosen"]["head"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"scoring": "balanced_accuracy"},
        {"class_weight": "balanced"},
        {"cv": 4},
        {"size": 48},
        {"weights": "random", "backbone": "mobilenet_v3_large"},
    ],
)
def test_whatever_decides_a_search_makes_it_anew(job, counted, change):
    job()
    counted.clear()
    job(**change)
    assert counted == [["ridge", "knn"]] * 2


def test_other_labels_or_images_are_searched_anew(job, counted, photos, tmp_path):
    job()
    counted.clear()
    fixes = tmp_path / "fixes.csv"
    fixes.write_text(f"path,label\n{photos / 'cats' / '3.png'},dogs\n")
    job(labels=fixes)
    assert counted == [["ridge", "knn"]] * 2
    counted.clear()
    (photos / "dogs" / "2.png").unlink()
    job()
    assert counted == [["ridge", "knn"]] * 2


def test_a_search_that_stops_keeps_what_was_searched(job, counted, monkeypatch):
    make = heads_search.HeadSearchCV.fit
    fits = []

    def stops(self, *given):
        fits.append(1)
        if len(fits) == 2:
            raise KeyboardInterrupt
        return make(self, *given)

    monkeypatch.setattr("pipelines.evaluation.search.HeadSearchCV.fit", stops)
    monkeypatch.setattr("pipelines.stages.search.count_workers", lambda jobs: 1)
    with pytest.raises(KeyboardInterrupt):
        job()
    monkeypatch.setattr("pipelines.evaluation.search.HeadSearchCV.fit", make)
    counted.clear()
    job()
    assert len(counted) == 1


def test_what_a_killed_process_left_half_written_is_removed(known, tmp_path):
    known.remember("kind", [], 1)
    host = files._host()
    left = tmp_path / "found" / f".tmp-{host}-4194303-01234567"
    left.write_text("{")
    ours = tmp_path / "found" / f".tmp-{host}-{os.getpid()}-01234567"
    ours.write_text("{")
    Findings(tmp_path).remember("kind", [1], 1)  # as the next run does, once
    assert not left.exists()
    assert ours.exists()
