"""Tests of pipelines/report/split.py: the split of a run, kept, read back and taken by another."""

import json
from pathlib import Path

import numpy as np
import pytest

from data import DataError, Samples, read_image_folder
from pipelines import RunSettings, run_job
from pipelines.console import Narrator
from pipelines.errors import WrongCall
from pipelines.exploration.copies import Copies
from pipelines.report.images import read_images
from pipelines.report.split import (
    KnownSplit,
    SplitTaken,
    describe_split,
    read_split,
    take_split,
)
from pipelines.samples import split_samples

IDS = np.random.default_rng(0).integers(0, 256, (9, 16)).astype(np.uint8)


def written(path, block):
    path.write_text(json.dumps({"split": block}))
    return path


def test_a_split_is_read_back_as_it_was_kept(tmp_path):
    block = describe_split(IDS[:6], IDS[6:8], None)
    assert len(block["test"]) == 44
    for place in (written(tmp_path / "results.json", block), tmp_path):
        known = read_split(place)
        assert known.file == str(tmp_path / "results.json")
        assert known.of(IDS).tolist() == ["train"] * 6 + ["test"] * 2 + [""]


def test_what_is_new_and_what_is_gone_is_counted(tmp_path):
    known = read_split(written(tmp_path / "r.json", describe_split(IDS[:6], IDS[6:8], None)))
    taken = take_split(known, IDS[4:])
    assert taken == SplitTaken(str(tmp_path / "r.json"), n_known=4, n_new=1, n_gone=4)
    assert describe_split(IDS[:1], IDS[1:2], taken)["taken"] == vars(taken)
    with pytest.raises(WrongCall, match="8 images, none of them among these 1: expected"):
        take_split(known, IDS[8:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't be read"),
        ("", "holds no split"),
        ("[" * 100_000, "holds no split"),
        ("[]", "holds no split"),
        ('{"schema": 1}', "holds no split"),
        ('{"split": {"train": "", "test": 3}}', "holds no split"),
        ('{"split": {"train": "AAAA", "test": "AAAA"}}', "holds no split"),
        ('{"split": {"train": "%", "test": ""}}', "holds no split"),
        ('{"split": {"train": "", "test": ""}}', "not as a run wrote it"),
        (json.dumps({"split": describe_split(IDS[:2], IDS[1:3], None)}), "not as a run wrote it"),
    ],
)
def test_what_holds_no_split_is_a_wrong_call(tmp_path, text, message):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(WrongCall, match=rf"--split .*{message}.* expected the results\.json"):
        read_split(tmp_path / "results.json")


def samples_of(labels, groups=None):
    return Samples(
        tuple(f"{i}.png" for i in range(len(labels))), labels=np.array(labels), groups=groups
    )


def test_new_images_go_where_their_group_or_their_copies_are():
    samples = samples_of(list("ab" * 12))
    known = np.array(["train", "test"] * 2 + ["train", "train", "test", "test"] * 2 + [""] * 12)
    copies = [Copies(1, 12, "copy", 1.0), Copies(0, 13, "copy", 1.0), Copies(0, 14, "mirrored", 1)]
    copies += [Copies(0, 15, "copy", 1.0), Copies(1, 15, "copy", 1.0)]  # it joins both sides
    split = split_samples(samples, copies, 2, 0, sides=known)
    is_test = np.isin(np.arange(24), split.test)
    assert (is_test[:12] == (known[:12] == "test")).all()
    assert is_test[[12, 13, 15]].tolist() == [True, True, True]
    usual = split_samples(samples, [], 2, 0).test
    alone = split_samples(samples, [], 2, 0, sides=known)
    assert np.array_equal(np.isin(range(12, 24), alone.test), np.isin(range(12, 24), usual))


def test_a_group_on_both_sides_and_a_class_on_one_are_refused():
    known = np.array(["train"] * 6 + ["test"] * 6)
    groups = [str(i % 6) for i in range(12)]
    with pytest.raises(DataError, match="6 groups, '0' among them"):
        split_samples(samples_of(list("ab" * 6), groups), [], 2, 0, sides=known)
    with pytest.raises(DataError, match=r"class 'a' has no test image by the split"):
        split_samples(samples_of(list("ab" * 3 + "bbbbbb")), [], 2, 0, sides=known)
    with pytest.raises(DataError, match=r"class 'a' has no training image by the split"):
        split_samples(samples_of(list("bbbbbb" + "ab" * 3)), [], 2, 0, sides=known)


@pytest.fixture
def job(photos, tmp_path):
    """job(**settings) -> (RunResult, its SplitTaken or None)."""

    def call(**options):
        quick = {"weights": "random", "size": 32, "cv": 3, "heads": "knn", "baselines": False}
        quick |= {"backbone": "mobilenet_v3_small", "layers": "features.4", "pooling": "avg"}
        quick |= {"views": "plain"}
        events = []
        settings = RunSettings(**quick, cache=tmp_path / "cache", **options)
        result = run_job(read_image_folder(photos), settings, on_event=events.append)
        taken = [event for event in events if isinstance(event, SplitTaken)]
        return result, taken[0] if taken else None

    return call


@pytest.mark.slow
def test_a_run_takes_an_earlier_ones_split_with_labels_and_names_changed(
    photos, job, add_photos, tmp_path
):
    first, nothing = job(out=tmp_path / "out", seed=3)
    assert nothing is None
    assert first.results["split"]["taken"] is None
    tested = {first.ids[row].tobytes() for row in first.split.test}
    (photos / "cats" / "5.png").rename(photos / "dogs" / "renamed.png")
    (photos / "dogs" / "7.png").unlink()
    add_photos(photos, per_class=4, start=40)
    second, taken = job(split=tmp_path / "out", out=tmp_path / "out")
    assert (taken.n_known, taken.n_new, taken.n_gone) == (23, 8, 1)
    assert second.results["split"]["taken"] == vars(taken)
    known = read_split(tmp_path / "out").sides
    again = {second.ids[row].tobytes() for row in second.split.test}
    first_ids = {own.tobytes() for own in first.ids}
    gone = first_ids - {own.tobytes() for own in second.ids}
    assert again & first_ids == tested - gone
    assert {own for own, side in known.items() if side == "test"} == again


@pytest.mark.slow
def test_of_copies_dropped_the_image_that_was_there_stays(photos, job, tmp_path, monkeypatch):
    first, _ = job(out=tmp_path / "out")
    row = int(first.split.test[-1])
    old = Path(first.samples.paths[row])
    new = photos / "cats" / "-1.png"
    new.write_bytes((photos / "cats" / "0.png").read_bytes() + b"more")
    paths = read_image_folder(photos).paths
    pair = Copies(paths.index(str(new)), paths.index(str(old)), "copy", 1.0)
    monkeypatch.setattr("pipelines.stages.images.find_copies", lambda *_: [pair])
    second, _ = job(split=tmp_path / "out" / "results.json", duplicates="drop")
    assert str(new) not in second.samples.paths
    assert str(old) in [second.samples.paths[row] for row in second.split.test]


def test_it_does_not_go_with_a_given_split(photos, run, tmp_path, add_photos):
    (tmp_path / "r.json").write_text(json.dumps({"split": describe_split(IDS[:2], IDS[2:4], None)}))
    other = add_photos(tmp_path / "other", per_class=4, start=60)
    code, _, err = run(photos, "--split", tmp_path / "r.json", "--test", other)
    assert (code, "leave one of them out" in err.splitlines()[-1]) == (2, True)


def test_that_of_other_images_is_refused_before_the_pass(photos, run, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"split": describe_split(IDS[:2], IDS[2:4], None)}))
    code, out, err = run(photos, "--split", tmp_path / "r.json")
    assert (code, out) == (2, "")
    assert "none of them among these 24" in err.splitlines()[-1]
    assert "to compute" not in err
    assert not (tmp_path / "out").exists()
    code, _, err = run(photos, "--split", tmp_path / "gone.json")
    assert (code, len(err.splitlines())) == (2, 1)


@pytest.mark.slow
def test_the_command_says_what_became_of_the_split(photos, run, tmp_path):
    short = ("--heads", "knn", "--layers", "features.4", "--pooling", "avg", "--baselines", "off")
    run(photos, *short)
    out = tmp_path / "out"
    code, _, err = run(photos, *short, "--split", out)
    assert code == 0
    assert f"split of {out / 'results.json'}: 24 images are where they were" in err.splitlines()


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((24, 0, 0), "24 images are where they were"),
        (
            (1, 1, 1),
            "1 image is where it was, 1 new one is placed as usual, 1 image of it not among these",
        ),
        ((3, 0, 2), "3 images are where they were, 2 images of it not among these"),
    ],
)
def test_only_what_happened_to_the_split_is_said(counts, words, capsys):
    Narrator()(SplitTaken("r.json", *counts))
    assert capsys.readouterr().err == f"split of r.json: {words}\n"


def test_known_sides_are_told_by_bytes():
    known = KnownSplit("f", {IDS[0].tobytes(): "test"})
    assert known.of(IDS[:0]).shape == (0,)
    assert known.of(IDS[:2]).tolist() == ["test", ""]


def test_corrected_labels_are_laid_over_on_the_same_test_images(photos, job, tmp_path):
    job(out=tmp_path / "out")
    table = read_images(tmp_path / "out" / "images.csv")
    is_cat, is_test = table.label == "cats", table.part == "test"
    tested = max(np.flatnonzero(is_test & is_cat), np.flatnonzero(is_test & ~is_cat), key=len)
    dropped, mended = table.path[tested[0]], table.path[is_cat & ~is_test][0]
    fixes = {dropped: "drop", mended: "dogs"}
    rows = [f"{path},{label}" for path, label in fixes.items()]
    (tmp_path / "fixes.csv").write_text("\n".join(["path,label", *rows]))
    second, taken = job(split=tmp_path / "out", labels=tmp_path / "fixes.csv")
    assert (taken.n_known, taken.n_new, taken.n_gone) == (len(table) - 1, 0, 1)
    again = second.images
    assert dropped not in again.path
    label_of = dict(zip(again.path, again.label, strict=True))
    expected = dict(zip(table.path, table.label, strict=True)) | fixes
    assert label_of == {path: label for path, label in expected.items() if label != "drop"}
    assert set(again.path[again.part == "test"]) == set(table.path[is_test]) - {dropped}
    assert "1 dropped" in second.results["data"]["notes"][-1]
    assert Path(dropped).exists()


def test_corrections_that_fit_nothing_end_the_call(photos, run, tmp_path):
    (tmp_path / "fixes.csv").write_text("path,label\nnone.png,cats\n")
    code, _, err = run(photos, "--labels", tmp_path / "fixes.csv")
    assert code == 2
    assert "1 of 1 path with a label is no image of" in err.splitlines()[-1]
