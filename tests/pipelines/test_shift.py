"""A run with images of another place beside it: what is told, corrected and refused."""

import csv
import json
import shutil

import pytest
from PIL import ImageOps

from data import DataError, read_images
from extract import FeatureStore
from pipelines.errors import WrongCall
from pipelines.stages.unlabelled import read_unlabelled
from tests.pipelines.conftest import draw, write_photos

BRIEF = ["--heads", "logistic", "--layers", "features.4", "--pooling", "avg", "--baselines", "off"]
CLASSES = ("cats", "dogs")


def write_rows(file, rows):
    with open(file, "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("path", "label"), *rows])
    return file


def rows_of(file):
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def results_of(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def write_others(folder, per_class=16):
    """Photos of the two classes as another camera sees them: dark, of little contrast."""
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for i in range(60, 60 + per_class):
            image = ImageOps.invert(draw(kind, i)).point(lambda value: 10 + value // 6)
            image.save(folder / kind / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """(labelled photos, those of another place, a table of labels of twelve of these)."""
    place = tmp_path_factory.mktemp("places")
    photos, others = write_photos(place / "photos", per_class=24), write_others(place / "others")
    labels = [(others / kind / f"{i}.png", kind) for kind in CLASSES for i in range(60, 66)]
    return photos, others, write_rows(place / "some.csv", labels)


@pytest.fixture(scope="module")
def corrected(places, small_run):
    """(out folder, stdout, stderr) of a run with labels of the other place."""
    photos, others, table = places
    given = ["--unlabelled", str(others), "--target-labels", str(table)]
    code, said, told = small_run(photos, photos.parent, *BRIEF, *given)
    assert code == 0, told
    return photos.parent / "out", said, told


def test_shift_and_the_classes_that_moved_are_told(corrected):
    out, said, told = corrected
    found = results_of(out)["unlabelled"]
    shift = found["shift"]
    assert shift["differs"]
    assert shift["whole"]["value"] > 0.9
    assert any(own["moved"] for own in shift["classes"])
    assert "moved: " in said
    assert "12 labels of them given, to choose a correction by" in told
    assert "are not looked at" not in told
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Whether they are of another place" in page
    assert "Corrections of shift" in page


def test_what_answers_is_what_labels_chose(corrected):
    out = corrected[0]
    found = results_of(out)["unlabelled"]
    corrections = found["shift"]["corrections"]
    assert (corrections["chosen_by"], corrections["n_labels"]) == ("labels", 12)
    assert corrections["taken"] == found["method"]
    assert {row["method"] for row in rows_of(out / "unlabelled.csv")} == {found["method"]}
    assert [row["name"] for row in found["rows"] if row["taken"]] == [
        row["name"] for row in found["rows"] if row["name"] == found["method"]
    ]


def test_labels_that_were_given_stand_in_the_table_and_are_not_asked_for(corrected, places):
    rows = rows_of(corrected[0] / "unlabelled.csv")
    known = {row["path"]: row["label"] for row in rows if row["label"]}
    assert known == {row["path"]: row["label"] for row in rows_of(places[2])}
    assert not [row for row in rows if row["label"] and row["rank"]]


def test_the_table_of_a_run_is_the_next_ones(corrected, places, small_run):
    """Read and written in one call, it loses none of its labels; and nothing is computed again."""
    out = corrected[0]
    photos, others, _ = places
    before = (out / "unlabelled.csv").read_bytes(), results_of(out)["unlabelled"]
    table = out / "unlabelled.csv"
    given = ["--unlabelled", str(others), "--target-labels", str(table), "--report", "off"]
    code, _, told = small_run(photos, photos.parent, *BRIEF, *given)
    assert code == 0, told
    assert (table.read_bytes(), results_of(out)["unlabelled"]) == before
    assert results_of(out)["extraction"]["computed"] == 0
    # its labels may stand in no other file by now
    code, _, told = small_run(photos, photos.parent, *BRIEF, "--report", "off")
    assert (code, table.read_bytes()) == (2, before[0])
    assert "unlabelled.csv may hold labels of yours, and would be replaced" in told


def test_its_figures_are_named_in_the_docs(corrected):
    from tests.pipelines.report.test_results import FIGURES, keys_of

    keys = keys_of(results_of(corrected[0])["unlabelled"])
    assert sorted(key for key in keys if f"`{key}`" not in FIGURES) == []


def test_without_labels_agreement_chooses_and_nothing_vouches_for_it(places, small_run, tmp_path):
    photos, others, _ = places
    given = ["--unlabelled", str(others), "--report", "off"]
    code, said, told = small_run(photos, tmp_path, *BRIEF, *given)
    assert code == 0, told
    found = results_of(tmp_path / "out")
    corrections = found["unlabelled"]["shift"]["corrections"]
    assert (corrections["chosen_by"], corrections["nested"]) == ("agreement", None)
    assert found["unlabelled"]["method"] == corrections["taken"]
    assert "for which no figure vouches" in said
    assert [row["settings"] for row in found["advised"] if row["about"] == "shift"] == [
        {"target_labels": str(tmp_path / "out" / "unlabelled.csv")}
    ]


@pytest.mark.parametrize(("per_class", "words"), [(4, "of too few images"), (12, "none found")])
def test_images_of_the_same_place_are_answered_as_they_are(
    places, small_run, tmp_path, per_class, words
):
    photos = places[0]
    more = write_photos(tmp_path / "more", per_class=per_class, start=30)
    given = ["--unlabelled", str(more), "--report", "off"]
    code, said, told = small_run(photos, tmp_path, *BRIEF, *given)
    assert code == 0, told
    found = results_of(tmp_path / "out")["unlabelled"]
    assert found["shift"]["corrections"] is None
    assert found["method"] in {row["name"] for row in found["rows"]}
    assert f"shift: {words}" in said or f"shift: not looked for, {words}" in said


def refused(small_run, photos, place, *given):
    code, _, told = small_run(photos, place, *BRIEF, *map(str, given))
    assert not (place / "out" / "results.json").exists()
    assert code == 2
    return told.splitlines()[-1]


@pytest.mark.parametrize(
    ("label", "n", "words"),
    [
        ("owls", 12, "is no class: expected one of cats, dogs"),
        ("cats", 9, "9 images with a label: expected 10 or more, by which corrections"),
        ("drop", 12, "0 images with a label: expected 10 or more"),
        ("", 12, "0 images with a label: expected 10 or more"),
    ],
)
def test_labels_that_can_not_choose_are_refused(places, small_run, tmp_path, label, n, words):
    photos, others, _ = places
    rows = [(others / "cats" / f"{60 + i}.png", label) for i in range(n)]
    table = write_rows(tmp_path / "some.csv", rows)
    told = refused(small_run, photos, tmp_path, "--unlabelled", others, "--target-labels", table)
    assert words in told


def test_a_label_of_a_copy_goes_to_the_one_that_stays_and_none_is_lost(places, tmp_path):
    """What is a labelled image too, or can't be read, takes no part, and is not counted."""
    photos, others = places[0], shutil.copytree(places[1], tmp_path / "others")
    pairs = [(others / kind / f"{i}.png", kind) for kind in CLASSES for i in range(60, 65)]
    shutil.copy(pairs[0][0], others / "copy.png")
    shutil.copy(photos / "cats" / "1.png", others / "known.png")
    (others / "broken.png").write_bytes(b"no image")
    left_over = [(others / "known.png", "cats"), (others / "broken.png", "cats")]
    store, samples = FeatureStore(tmp_path / "cache"), read_images(photos)

    def read(rows):
        return read_unlabelled(others, samples, store, write_rows(tmp_path / "some.csv", rows))

    found = read([(others / "copy.png", "cats"), *pairs[1:], *left_over])
    assert found.labels == {str(path): kind for path, kind in pairs}
    assert found.labels_beside == {str(path): "cats" for path, _ in left_over}
    with pytest.raises(WrongCall, match="9 images with a label, and 2 that can't be used: expec"):
        read([*pairs[1:], *left_over])
    with pytest.raises(DataError, match=r"is given the label 'dogs', and its copy .*: leave"):
        read([*pairs, (others / "copy.png", "dogs")])


def test_labels_of_other_images_are_refused(places, small_run, tmp_path):
    photos, others, _ = places
    table = write_rows(tmp_path / "some.csv", [(photos / "cats" / "1.png", "cats")])
    told = refused(small_run, photos, tmp_path, "--unlabelled", others, "--target-labels", table)
    assert "is no image of others" in told


def test_labels_without_images_are_refused(places, small_run, tmp_path):
    told = refused(small_run, places[0], tmp_path, "--target-labels", places[2])
    assert "expected --unlabelled, whose images it labels" in told


def test_tuning_takes_none(places, tmp_path):
    from pipelines import TuneSettings, tune_job
    from pipelines.errors import WrongSetting

    with pytest.raises(WrongSetting, match="target_labels"):
        tune_job(str(places[0]), TuneSettings(target_labels="some.csv", cache=tmp_path / "cache"))
