"""Tests of pipelines/tuning/job.py and ways.py: one quick job, looked at from all sides."""

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data import read_image_folder
from extract import load_backbone
from pipelines import (
    RunSettings,
    evaluation,
    load_classifier,
    run_job,
    save_classifier,
    tune_job,
    tuning,
)
from pipelines.evaluation.ways import parts_of
from pipelines.report.timing import STAGES, TUNING_STAGES
from pipelines.tuning.outcome import EpochEnded, TuningBegun
from pipelines.tuning.ways import frozen_way, joined_way, make_kept, tuned_way

FIGURES = (Path(__file__).parents[3] / "docs" / "figures.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def done(photos_of_the_module, tune_settings, tmp_path_factory):
    """(result, its folder, the events) of a job."""
    out, events = tmp_path_factory.mktemp("out") / "tuned", []
    settings = tune_settings(out=out)
    result = tune_job(str(photos_of_the_module), settings, on_event=events.append)
    return result, out, events


def test_the_frozen_run_is_the_run_that_would_have_been(done, photos_of_the_module, tune_settings):
    result, _, _ = done
    quick = tune_settings()
    names = RunSettings.__dataclass_fields__
    alone = run_job(
        str(photos_of_the_module), RunSettings(**{name: getattr(quick, name) for name in names})
    )
    for block in ("data", "split", "leaderboard", "answers", "audit"):
        assert result.results[block] == alone.results[block]
    own = {**alone.chosen}
    assert {name: result.chosen[name] for name in own} == own
    assert np.array_equal(result.test_probabilities, alone.test_probabilities)


def test_all_ways_answer_the_same_images(done):
    result, _, _ = done
    tuning, rows = result.results["tuning"], result.results["ways"]["rows"]
    assert [own["name"] for own in rows][:3] == ["last layer", "frozen", "tuned"]
    assert tuning["n_trained"] + tuning["n_validation"] == len(result.split.train)
    for way in result.ways:
        assert way.validation.shape == (tuning["n_validation"], 2)
        assert way.test.shape == (len(result.split.test), 2)
        assert way.test.sum(axis=1) == pytest.approx(1)
    assert [own["kept"] for own in rows].count(True) == 1
    assert rows[result.kept]["name"] == tuning["kept"] == result.way.name


def test_the_network_trains_on_no_validation_and_no_test_image(done):
    """Those it does train on are the ones whose random views are kept."""
    result, _, events = done
    begun = next(event for event in events if isinstance(event, TuningBegun))
    tuning = result.results["tuning"]
    assert (begun.n_trained, begun.n_validation) == (tuning["n_trained"], tuning["n_validation"])
    epochs = [event.epoch.epoch for event in events if isinstance(event, EpochEnded)]
    assert epochs == [-1, 0, 1] == [own["epoch"] for own in tuning["history"]]


def test_figures_are_json_and_say_how_it_was_trained(done):
    result, out, _ = done
    written = json.loads((out / "results.json").read_text(encoding="utf-8"))
    tuning = written["tuning"]
    assert tuning["settings"]["unfreeze"] == 2
    assert [own["rate"] for own in tuning["groups"]] == [1e-3, 1e-4]
    assert tuning["source"] == "activations"
    assert written["ways"] == json.loads(json.dumps(result.results["ways"]))
    assert written["chosen"]["head"] == result.chosen["head"]


def test_the_time_is_that_of_the_frozen_run_and_of_tuning(done):
    seconds, own = done[0].results["seconds"], done[0].results["tuning"]["seconds"]
    assert own.keys() == TUNING_STAGES.keys()
    assert own.items() <= seconds.items()
    assert seconds.keys() == {*STAGES, *TUNING_STAGES, "total"}
    stages = [value for name, value in seconds.items() if name not in ("total", "report")]
    assert seconds["total"] == pytest.approx(sum(stages), abs=1e-6)


def test_every_key_is_named_in_the_docs(done):
    results = done[0].results
    keys = keys_of(results["tuning"]) | keys_of(results["ways"]) | {"tuning", "ways"}
    assert sorted(key for key in keys if f"`{key}`" not in FIGURES) == []


def keys_of(value, name=None):
    if isinstance(value, list):
        return set().union(*(keys_of(item, name) for item in value))
    if not isinstance(value, dict) or name == "settings":
        return set()
    return set(value).union(*(keys_of(own, key) for key, own in value.items()))


def test_the_classifier_that_is_kept_answers_as_the_way_was_tested(done):
    result, out, _ = done
    paths = result.tested.samples.paths
    assert np.allclose(result.classifier.predict_proba(paths), result.way.test, atol=1e-6)
    kept = load_classifier(out / "model")
    assert np.allclose(kept.predict_proba(paths), result.way.test, atol=1e-6)
    predicted = (out / "test_predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.split(",")[2] for line in predicted] == kept.predict(paths).tolist()


def test_the_folder_is_a_backbone_for_other_images(done):
    result, out, _ = done
    network = load_backbone(str(out))
    assert network.name == "tuned:squeezenet1_1"
    assert network.card.digest == load_backbone(str(result.tuned.file)).card.digest


def test_the_page_shows_the_ways_and_the_epochs(done):
    result, out, _ = done
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('data-chart="epochs"') == 1
    assert f'data-key="/ways/rows/{result.kept}/test_metrics/accuracy/value"' in page
    assert "Tuned against frozen" in page


def test_a_second_call_trains_nothing(done, photos_of_the_module, tune_settings):
    result, _, _ = done
    again = tune_job(str(photos_of_the_module), tune_settings())
    assert again.tuned.resumed
    assert again.results["ways"] == result.results["ways"]


@pytest.fixture(scope="module")
def made(done):
    """Every way of the job with what it is made of, joined whatever the validation images say."""
    result, _, _ = done
    held = np.zeros(len(result.split.train), bool)
    held[::3] = True
    return result, held


def ways_of(result, held, tune_settings, photos):
    from extract.cores import cores
    from pipelines.evaluation.workers import Workers
    from pipelines.features import ignore
    from pipelines.job import prepare
    from pipelines.stages.images import settle_range
    from pipelines.tuning.training import make_head, tuned_tap
    from pipelines.tuning.ways import keep_last

    job = settle_range(prepare(str(photos), tune_settings(), ignore, Workers(cores())))
    frozen = replace(result, classifier=run_job(str(photos), tune_settings()).classifier)
    network = load_backbone(str(result.tuned.file))
    seen = keep_last(job, frozen, network, tuned_tap(network))
    labels, classes = frozen.found.labels, frozen.leaderboard.classes
    head = make_head(result.tuned, seen.read(frozen.split.train[held]), labels[held], classes)
    alone = frozen_way(frozen, held)
    return frozen, alone, tuned_way(job, frozen, seen, head, str(result.tuned.file))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tuned", "joined"])
def test_each_way_is_kept_in_a_bundle_that_needs_no_other_file(
    made, name, photos_of_the_module, tune_settings, tmp_path, monkeypatch
):
    result, held = made
    frozen, alone, tuned = ways_of(result, held, tune_settings, photos_of_the_module)
    way = tuned
    if name == "joined":
        monkeypatch.setattr("pipelines.evaluation.ways.choose_share", lambda *_: 0.4)
        share, way = joined_way(frozen, alone, tuned, held)
        assert share == 0.4
        assert way.way.n_networks == alone.way.n_networks + 1
    kept = make_kept(frozen, way)
    paths = list(frozen.tested.samples.paths)
    assert np.allclose(kept.predict_proba(paths), way.way.test, atol=1e-6)
    folder = save_classifier(kept, tmp_path / "model")
    # the tuned weights' own file is gone, and the process is another
    file = result.tuned.file
    file.rename(tmp_path / "away")
    try:
        code = (
            "import sys, json, numpy as np; from pipelines import load_classifier\n"
            "found = load_classifier(sys.argv[1]).predict_proba(sys.argv[2:])\n"
            "print(json.dumps(found.tolist()))"
        )
        said = subprocess.run(
            [sys.executable, "-c", code, str(folder), *map(str, paths)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    finally:
        (tmp_path / "away").rename(file)
    assert np.allclose(json.loads(said), way.way.test, atol=1e-6)


def test_every_way_is_calibrated_with_the_class_weights_and_by_other_groups(
    photos_of_the_module, tune_settings, monkeypatch
):
    """What is surer of the validation images by its calibration alone would else be kept."""
    weights, groups = {}, []

    def spy(module, name):
        call = getattr(module, name)

        def spied(*arguments, **named):
            own = inspect.signature(call).bind(*arguments, **named)
            calls = weights.setdefault(f"{module.__name__}.{name}", [])
            calls.append(own.arguments.get("class_weight"))
            return call(*arguments, **named)

        monkeypatch.setattr(module, name, spied)

    def noted(codes, given=None):
        groups.append(given)
        return parts_of(codes, given)

    for module in (evaluation.ways, tuning.training):
        spy(module, "oof_probabilities")
        monkeypatch.setattr(module, "parts_of", noted)
    for module in (tuning.ways, tuning.training):
        spy(module, "fit_calibration")
    monkeypatch.setattr(evaluation.ways, "choose_share", lambda *_: 0.4)
    samples = read_image_folder(photos_of_the_module)
    samples = replace(samples, groups=np.array([f"subject {i // 2}" for i in range(24)]))
    tune_job(samples, tune_settings(class_weight="balanced"))
    assert weights == {
        "pipelines.evaluation.ways.oof_probabilities": ["balanced"] * 3,  # all but the tuned way's
        "pipelines.tuning.training.oof_probabilities": ["balanced"],
        "pipelines.tuning.ways.fit_calibration": ["balanced"] * 2,  # of last layer and joined
        "pipelines.tuning.training.fit_calibration": ["balanced"],
    }
    assert len(groups) == 5
    assert all(len(np.unique(own)) * 2 == len(own) for own in groups)


def test_a_share_of_all_or_nothing_joins_nothing(
    made, photos_of_the_module, tune_settings, monkeypatch
):
    result, held = made
    frozen, alone, tuned = ways_of(result, held, tune_settings, photos_of_the_module)
    for share in (0.0, 1.0):
        choose = "pipelines.evaluation.ways.choose_share"
        monkeypatch.setattr(choose, lambda *_, share=share: share)
        assert joined_way(frozen, alone, tuned, held) == (share, None)
