"""Tests of pipelines/job.py and settings.py: a whole run as one call, as the command line gives
it."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from data import DataError, read_image_folder
from extract import ExtractError
from heads import HEADS
from heads.blend import Blend
from heads.blended import probabilities
from heads.catalog import is_shipped
from pipelines import RunSettings, load_classifier, run_job
from pipelines.errors import WorkFailed, WrongCall, WrongSetting
from pipelines.exploration.copies import Copies
from pipelines.features import PassAdvanced, PassPlanned, Source
from pipelines.outcome import BadImages, SearchAdvanced
from pipelines.progress import RunPlanned, StageBegun
from pipelines.report.timing import STAGES
from pipelines.samples import SamplesRead
from pipelines.stages.familiarity import _deepest

QUICK = {
    "backbone": "mobilenet_v3_small",
    "weights": "random",
    "size": 32,
    "cv": 3,
    "heads": ("ridge", "knn"),
    "views": "plain",
}


BRIEF = {"layers": "features.4", "pooling": "avg", "baselines": False}


@pytest.fixture
def settings(tmp_path):
    def make(**options):
        return RunSettings(**{**QUICK, "cache": tmp_path / "cache", **options})

    return make


def without_times(value):
    if isinstance(value, list):
        return [without_times(item) for item in value]
    if isinstance(value, dict):
        # a sentence of advice ends with the command that follows, of a command's run alone
        skipped = ("seconds", "command", "extraction", "advice")
        return {key: without_times(own) for key, own in value.items() if key not in skipped}
    return value


def test_a_script_gets_the_figures_of_the_command_line(photos, run, settings, tmp_path):
    result = run_job(str(photos), settings())
    code, _, err = run(photos, "--heads", "ridge,knn")
    assert code == 0, err
    written = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert without_times(json.loads(json.dumps(result.results))) == without_times(written)


def test_two_calls_with_one_seed_give_the_same(photos, settings):
    first, second = (
        run_job(str(photos), settings(baselines=False, pooling="avg")) for _ in range(2)
    )
    assert without_times(first.results) == without_times(second.results)
    assert np.array_equal(first.test_probabilities, second.test_probabilities)


def test_a_result_holds_what_a_notebook_needs(photos, settings):
    samples = read_image_folder(photos)
    result = run_job(samples, settings(baselines=False, layers="features.4", pooling="grid2"))
    n_train, n_test = len(result.split.train), len(result.split.test)
    assert (n_train, n_test) == (18, 6)
    assert result.ids.shape == (24, 16)
    assert len(result.samples) == 24
    assert result.features("features.4:grid2").shape == (24, result.leaderboard.rows[0].dim)
    assert result.oof_probabilities().shape == (n_train, 2)
    assert result.test_probabilities.shape == (n_test, 2)
    assert result.test_probabilities.sum(axis=1) == pytest.approx(1)
    assert result.chosen is result.results["chosen"]
    assert result.audit is result.results["audit"]
    assert result.curve is result.results["learning_curve"]
    tested = [samples.paths[row] for row in result.split.test]
    assert result.classifier.predict(tested).tolist() == result.tested.predicted.tolist()
    assert {member.head for member in result.members} <= {"ridge", "knn"}
    with pytest.raises(KeyError, match=r"features\.4:grid2"):
        result.features("features.4:avg")


def test_features_are_found_by_the_names_of_their_views(photos, settings):
    result = run_job(str(photos), settings(**BRIEF, views="flipped,whole"))
    tap = "features.4:avg"
    flipped, whole = result.features(tap, view="flipped"), result.features(tap, view="whole")
    assert not np.array_equal(flipped, whole)
    assert np.array_equal(result.features(tap), flipped)
    assert np.array_equal(result.features(tap, view="plain+flipped"), flipped)
    for asked, said in (
        ({"view": "plain"}, "view 'plain': expected one of flipped, whole"),
        ({"tap": "a:avg"}, "tap 'a:avg': expected one of features.4:avg"),
        ({"backbone": "vgg"}, "backbone 'vgg': expected one of mobilenet_v3_small"),
    ):
        with pytest.raises(KeyError, match=said):
            result.features(**{"tap": tap, **asked})


def test_nothing_is_written_without_a_folder(photos, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_job(str(photos), settings(**BRIEF))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "photos"]


def test_with_a_folder_it_leaves_what_the_command_leaves(photos, settings, tmp_path):
    run_job(str(photos), settings(**BRIEF, out=tmp_path / "out"))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        *("images.csv", "model", "report.html", "results.json", "test_predictions.csv")
    ]


def test_events_tell_of_the_pass_the_search_and_bad_images(photos, settings):
    (photos / "cats" / "bad.png").write_text("no image")
    events = []
    run_job(str(photos), settings(**BRIEF), on_event=events.append)
    kinds = [type(event) for event in events]
    assert kinds[:4] == [SamplesRead, RunPlanned, StageBegun, PassPlanned]
    begun = [event.name for event in events if isinstance(event, StageBegun)]
    assert begun == [name for name in STAGES if name != "read"]
    assert [event.done for event in events if isinstance(event, PassAdvanced)][-1] == 24
    assert [(e.n_bad, e.n_images, e.file) for e in events if isinstance(e, BadImages)] == [
        (1, 25, None)
    ]
    last = [event for event in events if isinstance(event, SearchAdvanced)][-1]
    assert last.done == last.total


def test_too_many_bad_images_end_it_in_words_for_a_script(photos, settings):
    (photos / "cats" / "bad.png").write_text("no image")
    with pytest.raises(WorkFailed, match=r"1 of 25 images can't be used .*bad\.png"):
        run_job(str(photos), settings(max_bad=0.01))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cv": 1}, WrongSetting, "cv=1: expected 2 folds or more"),
        ({"max_bad": 7}, WrongSetting, "max_bad=7: expected a fraction from 0 to 1"),
        ({"size": 0}, WrongSetting, "size=0: expected a side in pixels"),
        ({"choose": "worst"}, WrongSetting, "choose='worst': expected 'best' or 'simplest'"),
        ({"duplicates": "maybe"}, WrongSetting, "expected 'group' or 'drop' or 'keep'"),
        ({"class_weight": "heavy"}, WrongSetting, "expected None or 'balanced'"),
        ({"final": "test"}, WrongSetting, "expected 'train' or 'all'"),
        ({"views": ""}, WrongSetting, "views='': expected auto, or one or more of plain, flip"),
        ({"views": ","}, WrongSetting, "views=',': expected auto, or one or more"),
        ({"views": []}, WrongSetting, r"views=\[\]: expected auto, or one or more"),
        ({"views": "turned"}, WrongSetting, "views='turned': expected auto, or one or more"),
        ({"views": "auto,whole"}, WrongSetting, "views='auto,whole': expected auto, or one"),
        ({"heads": ""}, WrongSetting, "heads='': expected one name or more"),
        ({"pooling": ()}, WrongSetting, r"pooling=\(\): expected one name or more"),
        ({"backbone": ","}, WrongSetting, "backbone=',': expected one name or more"),
        ({"heads": "knm"}, WrongCall, "head 'knm' is unknown"),
        ({"pooling": "map"}, ExtractError, r"map \(auto:map\) keeps maps, for PixelC"),
        ({"scoring": "acuracy"}, WrongCall, "expected accuracy"),
        ({"cv": 20}, DataError, "20 folds need 20"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_the_pass(
    photos, settings, options, error, message
):
    events = []
    with pytest.raises(error, match=message):
        run_job(str(photos), settings(**options), on_event=events.append)
    assert events == []


def test_names_may_be_written_with_commas_or_as_a_sequence():
    written = RunSettings(backbone="a, b", pooling="avg,avg", heads=["knn"])
    assert written.backbones == ["a", "b"]
    assert written.poolings == ["avg"]
    assert written.head_names == ["knn"]
    assert RunSettings(views=" plain,,flipped,plain, ").view_names == ["plain", "flipped"]
    assert RunSettings() == RunSettings()


@pytest.mark.slow
@pytest.mark.parametrize("row", ["knn", "rbf_svm", "blend"])
def test_a_final_fit_on_all_images_changes_no_figure(photos, settings, tmp_path, monkeypatch, row):
    def chosen(board, how):
        return next(i for i, own in enumerate(board.rows) if own.head == row)

    monkeypatch.setattr("pipelines.stages.search.choose_row", chosen)
    monkeypatch.setattr("pipelines.evaluation.leaderboard.blend_candidates", all_alike)
    options = {"baselines": False, "heads": ("knn", "rbf_svm")}
    options |= {"layers": "features.4,features.6", "pooling": "avg"}
    honest, final = (
        run_job(str(photos), settings(**options, out=tmp_path / kind, final=kind))
        for kind in ("train", "all")
    )
    assert honest.results["final"] == {"fitted_on": "train", "n_images": 18}
    assert final.results["final"] == {"fitted_on": "all", "n_images": 24}
    figures = [
        without_times(one.results) | {"final": None, "settings": None} for one in (honest, final)
    ]
    assert figures[0] == figures[1]
    tested = [(tmp_path / kind / "test_predictions.csv").read_text() for kind in ("train", "all")]
    assert tested[0] == tested[1]
    for result, n_images in ((honest, 18), (final, 24)):
        fitted = [step.n_samples_fit_ for step in neighbours_of(result.classifier)]
        assert fitted == [n_images] * len(fitted)
        assert fitted or row == "rbf_svm"
        kind = result.results["final"]["fitted_on"]
        assert json.loads((tmp_path / kind / "model" / "bundle.json").read_text())[
            "fitted_on"
        ] == kind  # fmt: skip
        assert len(result.classifier.reference_) == n_images
        paths = result.samples.paths
        loaded = load_classifier(tmp_path / kind / "model")
        assert loaded.predict(paths).tolist() == result.classifier.predict(paths).tolist()
    judged = [one.classifier.reference_.judged for one in (honest, final)]
    assert np.array_equal(*judged)
    expected, refitted = honest.classifier.calibration_, final.classifier.calibration_
    assert (expected and expected.to_dict()) == (refitted and refitted.to_dict())
    X = np.hstack([final.table.read(source) for source in final.found.head.sources])
    assert not np.allclose(
        probabilities(honest.classifier.head_, expected, X),
        probabilities(final.classifier.head_, expected, X),
    )


def neighbours_of(classifier):
    """The fitted kNN classifiers among its heads."""
    heads = [own.estimator for own in getattr(classifier.head_, "members", ())]
    steps = [head[-1] for head in heads or [classifier.head_]]
    return [step for step in steps if hasattr(step, "n_samples_fit_")]


def all_alike(shares, codes, folds, scoring=None, kinds=None):
    """Every candidate, whatever it is worth."""
    weights = np.full(len(shares), 1 / len(shares))
    return Blend(weights, 0.5, np.tensordot(weights, shares, 1))


def test_settings_race_unless_a_thorough_search_or_groups_say_otherwise(photos, settings):
    def raced(**options):
        result = run_job(str(photos), settings(**BRIEF, report=False, **options))
        search = result.found.search
        assert search.workers is None  # they ended with the run
        return search.raced

    assert raced()
    assert not raced(thorough=True)
    assert not raced(groups=r"(\d)\.png")


def test_an_error_amid_a_run_leaves_the_threads_as_they_were(photos, settings, monkeypatch):
    def stops(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.job.MANY_IMAGES", 1)
    monkeypatch.setattr("pipelines.job.cores", lambda: 2)
    monkeypatch.setattr("pipelines.job.find_baselines", stops)
    with threadpool_limits(2):
        before = threadpool_info()
        with pytest.raises(KeyboardInterrupt):
            run_job(str(photos), settings(**BRIEF))
        assert threadpool_info() == before


def test_heads_of_this_process_alone_are_searched_in_it(photos, settings, monkeypatch):
    assert is_shipped()
    monkeypatch.setattr("pipelines.job.MANY_IMAGES", 1)
    monkeypatch.setattr("pipelines.job.cores", lambda: 2)
    monkeypatch.setitem(HEADS, "nearest", replace(HEADS["knn"], grid={"n_neighbors": (1, 2)}))
    assert not is_shipped()
    result = run_job(str(photos), settings(**BRIEF, heads="nearest"))
    assert {row.head for row in result.leaderboard.rows} == {"nearest"}


def test_stages_are_named_by_what_they_do(photos, settings):
    seconds = run_job(str(photos), settings(layers="features.4", pooling="avg")).results["seconds"]
    assert list(seconds) == [
        "read",
        "extract",
        "copies",
        "networks",
        "views",
        "unlabelled",
        "heads",
        "baselines",
        "test",
        "audit",
        "refit",
        "graph",
        "map",
        "explain",
        "seen",
        "curve",
        "comparisons",
        "save",
        "total",
    ]


def test_of_copies_that_are_dropped_the_flat_images_left_are_listed(photos, settings, monkeypatch):
    monkeypatch.setattr(
        "pipelines.stages.images.find_copies", lambda *_: [Copies(0, 1, "copy", 1.0)]
    )
    monkeypatch.setattr("pipelines.stages.images.find_flat", lambda _: np.array([1, 2, 5]))
    paths = read_image_folder(photos).paths
    result = run_job(str(photos), settings(**BRIEF, duplicates="drop"))
    assert len(result.samples) == 23
    assert result.audit["flat"] == [paths[2], paths[5]]


def test_what_the_flag_would_have_caught_is_in_the_results(photos, settings, tmp_path):
    options = {"layers": "features.4,features.6", "pooling": ("avg", "grid2"), "baselines": False}
    result = run_job(str(photos), settings(**options, heads=("logistic",), out=tmp_path / "out"))
    block = result.results["familiarity"]
    with open(tmp_path / "out" / "test_predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    said = {row["path"]: float(row["familiarity"]) for row in rows}
    again = result.classifier.judge(list(said)).familiarity
    assert again == pytest.approx(list(said.values()), abs=1e-5)
    flagged = [row for row in rows if float(row["familiarity"]) < block["threshold"]]
    others = [row for row in rows if row not in flagged]
    assert (block["n_flagged"], block["share_flagged"]) == (len(flagged), len(flagged) / len(rows))
    for name, part in (("accuracy_flagged", flagged), ("accuracy_others", others)):
        right = [row["label"] == row["predicted"] for row in part]
        assert block[name] == (pytest.approx(np.mean(right)) if right else None)
    deepest = result.found.head.sources[-1]
    assert block["tap"].split(":")[0] == result.found.table.sources[deepest].layer


def test_the_deepest_average_is_what_images_are_compared_in():
    sources = [Source("net", layer, pooling, 4) for layer in "ab" for pooling in ("avg", "grid2")]
    table = SimpleNamespace(sources=sources)
    assert [_deepest(table, own) for own in ([0, 2, 3], [1, 3], [0, 1], [0])] == [2, 3, 0, 0]
