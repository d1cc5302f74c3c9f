"""A run with images without labels beside it: what is answered, listed, refused and repeated."""

import csv
import json
import shutil
from dataclasses import replace

import pytest

from pipelines import RunSettings, run_job
from pipelines.errors import WrongCall
from tests.pipelines.conftest import draw, write_photos

BRIEF = ["--heads", "logistic", "--layers", "features.4", "--pooling", "avg", "--baselines", "off"]


def rows_of(file):
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def results_of(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos_of_the_module, small_run):
    """(out folder, stdout, stderr, folder) of a run with images at different depths, some of which
    can't be used."""
    place = tmp_path_factory.mktemp("unlabelled")
    more = write_photos(place / "more", per_class=6, start=20)
    (more / "cats" / "deep").mkdir()
    draw("dogs", 30).save(more / "cats" / "deep" / "dog.png")
    shutil.copy(photos_of_the_module / "cats" / "1.png", more / "known.png")
    shutil.copy(more / "dogs" / "20.png", more / "twice.png")
    (more / "broken.png").write_bytes(b"no image")
    code, said, told = small_run(photos_of_the_module, place, *BRIEF, "--unlabelled", str(more))
    assert code == 0, told
    return place / "out", said, told, more


def test_each_new_image_is_answered_once(finished):
    out, _, _, more = finished
    rows = rows_of(out / "unlabelled.csv")
    names = {f"{kind}/{i}.png" for kind in ("cats", "dogs") for i in range(20, 26)}
    expected = {str(more / name) for name in names | {"cats/deep/dog.png"}}
    assert sorted(row["path"] for row in rows) == sorted(expected)
    assert {row["predicted"] for row in rows} <= {"cats", "dogs"}
    assert {row["label"] for row in rows} == {""}
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)
    assert all(0 < float(row["familiarity"]) <= 1 for row in rows)
    unlike = sum(float(row["familiarity"]) < 0.05 for row in rows)
    assert results_of(out)["unlabelled"]["n_unfamiliar"] == unlike


def test_what_is_worth_a_label_comes_first(finished):
    rows = rows_of(finished[0] / "unlabelled.csv")
    ranks = [row["rank"] for row in rows]
    n_ranked = sum(rank != "" for rank in ranks)
    assert ranks == [*map(str, range(1, n_ranked + 1)), *[""] * (len(rows) - n_ranked)]
    assert n_ranked > 0


def test_what_is_not_used_is_counted_and_listed(finished):
    out, _, told, more = finished
    found = results_of(out)["unlabelled"]
    counts = [found[name] for name in ("n_images", "n_bad", "n_copies", "n_repeated")]
    assert counts == [13, 1, 1, 1]
    # beside the 24 that are labelled
    assert results_of(out)["extraction"]["images"] == 24 + 13
    assert f"labels in {more} are not looked at" in told
    assert f"not used of {more}: 1 is a labelled image too, 1 copy of others in it" in told
    assert [row["path"] for row in rows_of(out / "bad_images.csv")] == [str(more / "broken.png")]


def test_figures_out_of_fold_and_of_the_test_stand_apart(finished):
    results = results_of(finished[0])
    rows = {row["name"]: row for row in results["unlabelled"]["rows"]}
    assert list(rows) == ["labels alone", "product", "propagation"]
    alone, taken = rows["labels alone"], rows[results["unlabelled"]["method"]]
    assert alone["test_metrics"]["accuracy"] == results["chosen"]["test_metrics"]["accuracy"]
    assert [row for row in rows.values() if row["taken"]] == [taken]
    least = min(row["validation_log_loss"] for row in rows.values())
    assert taken["validation_log_loss"] == least
    assert {row["method"] for row in rows_of(finished[0] / "unlabelled.csv")} == {taken["name"]}
    product = rows["product"]
    gain = product["validation_accuracy"] - alone["validation_accuracy"]
    assert product["out_of_fold"]["difference"] == pytest.approx(gain)


def test_it_is_told_on_the_screen_and_on_the_page(finished):
    out, said, _, _ = finished
    assert "images without labels: 13, answered in unlabelled.csv" in said
    assert "answers by labels alone" in said
    page = (out / "report.html").read_text(encoding="utf-8")
    assert '<section id="unlabelled"' in page
    assert "of 13 images (5 % of images like the training ones are)." in page


def test_the_saved_classifier_knows_nothing_of_them(finished, photos_of_the_module, small_run):
    """All that it answers and all figures are those of the same run without them."""
    out = finished[0]
    place = out.parent / "without"
    place.mkdir()
    shutil.copytree(out.parent / "cache", place / "cache")
    code, _, told = small_run(photos_of_the_module, place, *BRIEF)
    assert code == 0, told
    with_, without = results_of(out), results_of(place / "out")
    for name in ("leaderboard", "chosen", "familiarity", "audit"):
        assert with_[name] == without[name]
    for name in ("test_predictions.csv", "images.csv", "model/reference-judged.npy"):
        assert (out / name).read_bytes() == (place / "out" / name).read_bytes()
    assert without["unlabelled"] is None
    assert not (place / "out" / "unlabelled.csv").exists()


def test_a_second_run_computes_nothing_and_says_the_same(finished, photos_of_the_module, small_run):
    out, _, _, more = finished
    before = (out / "unlabelled.csv").read_bytes(), results_of(out)["unlabelled"]
    code, _, told = small_run(photos_of_the_module, out.parent, *BRIEF, "--unlabelled", str(more))
    assert code == 0, told
    assert ((out / "unlabelled.csv").read_bytes(), results_of(out)["unlabelled"]) == before
    assert results_of(out)["extraction"]["computed"] == 0


def test_the_ranked_file_is_taken_once_it_has_labels(finished, photos_of_the_module):
    out, _, _, more = finished
    rows = rows_of(out / "unlabelled.csv")
    fixes = out.parent / "fixes.csv"
    with open(fixes, "w", newline="", encoding="utf-8") as opened:
        table = csv.DictWriter(opened, rows[0].keys())
        table.writeheader()
        table.writerows([rows[0] | {"label": "dogs"}, *rows[1:]])
    settings = RunSettings(
        backbone="mobilenet_v3_small", weights="random", size=32, cv=3, heads="logistic",
        layers="features.4", pooling="avg", views="plain", baselines=False, report=False,
        labels=fixes, unlabelled=str(more), cache=out.parent / "cache",
    )  # fmt: skip
    result = run_job(str(photos_of_the_module), settings)
    assert len(result.samples) == 25
    assert rows[0]["path"] not in set(result.unlabelled.path)
    assert len(result.unlabelled) == 12


def test_labels_that_were_written_into_the_table_are_not_lost(photos, tmp_path):
    """Refused before anything is read or computed, whether the file is given or not."""
    out = tmp_path / "out"
    out.mkdir()
    written = dict.fromkeys(("schema", "data", "leaderboard", "chosen"))
    (out / "results.json").write_text(json.dumps(written | {"tables": {"unlabelled.csv": "0"}}))
    table = out / "unlabelled.csv"
    table.write_text("path,label\na.png,cats\n", encoding="utf-8")
    asked = RunSettings(out=out, cache=tmp_path / "cache")
    for more, words in (
        ({}, "was changed since it was written, and would be replaced"),
        ({"unlabelled": str(photos)}, "was changed since it was written"),
        ({"labels": table}, r"unlabelled\.csv is read, and would be replaced"),
    ):
        with pytest.raises(WrongCall, match=words):
            run_job(str(photos), replace(asked, **more))
    with pytest.raises(WrongCall, match="is read, and would be replaced"):
        run_job(str(table), replace(asked, target_labels=table))
    assert table.read_text(encoding="utf-8") == "path,label\na.png,cats\n"


def settings(folder, tmp_path):
    return RunSettings(
        backbone="mobilenet_v3_small", weights="random", size=32, cv=3,
        unlabelled=str(folder), cache=tmp_path / "cache",
    )  # fmt: skip


@pytest.mark.parametrize("where", ["itself", "a part of it", "copies"])
def test_images_that_are_all_labelled_are_refused(photos, tmp_path, where):
    folder = {"itself": photos, "a part of it": photos / "cats"}.get(where, tmp_path / "copies")
    if where == "copies":
        shutil.copytree(photos / "dogs", folder)
    with pytest.raises(WrongCall, match="give images that have no label yet"):
        run_job(str(photos), settings(folder, tmp_path))


def test_bad_folders_are_told_in_one_line(photos, tmp_path, small_run):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    for name, code, words in (
        ("empty", 2, "no images found"),
        ("nowhere", 2, "nowhere"),
        ("broken", 1, "none of the 1 image can be read"),
    ):
        found, _, told = small_run(photos, tmp_path, "--unlabelled", str(tmp_path / name))
        assert (found, words in told.splitlines()[-1]) == (code, True), told
    assert not (tmp_path / "out" / "results.json").exists()


def test_tuning_takes_none(photos, tmp_path):
    from pipelines import TuneSettings, tune_job
    from pipelines.errors import WrongSetting

    with pytest.raises(WrongSetting, match="a run without tuning tries them"):
        tune_job(str(photos), TuneSettings(unlabelled="more", cache=tmp_path / "cache"))


def test_its_figures_are_named_in_the_docs(finished):
    from tests.pipelines.report.test_results import FIGURES, keys_of

    keys = keys_of(results_of(finished[0])["unlabelled"])
    assert sorted(key for key in keys if f"`{key}`" not in FIGURES) == []
