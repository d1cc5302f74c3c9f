"""`--backbone auto`: a run tries the networks that are here, and says what came of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data import read_image_folder
from extract import ExtractError, FeatureExtractor, load_backbone
from extract.weights import save_weights
from pipelines import RunSettings, load_classifier, run_job
from pipelines.evaluation.networks import BEST_ONE, GAIN, NO_GAIN, TOO_LONG, UNUSABLE
from pipelines.features import PassAdvanced, PassPlanned
from pipelines.outcome import Job
from pipelines.progress import StageBegun
from pipelines.report.text import summary
from pipelines.stages import networks
from pipelines.stages.networks import NetworksTried

NAMES = ("mobilenet_v3_small", "squeezenet1_1", "resnet18")
QUICK = {
    **{"backbone": "auto", "size": 32, "cv": 3, "heads": ("ridge",), "views": "plain"},
    **{"baselines": False, "pooling": "avg", "report": False},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of three small networks as files: random ones, but as good as any other."""
    folder = tmp_path_factory.mktemp("weights")
    found = []
    for seed, name in enumerate(NAMES):
        file = folder / f"{name}.safetensors"
        save_weights(load_backbone(name, "random", seed=seed), file)
        found.append((name, str(file)))
    return found


@pytest.fixture(autouse=True)
def here(weights, monkeypatch):
    """The list of networks that are here."""
    found = list(weights)
    monkeypatch.setattr(networks, "networks_here", lambda: found)
    return found


@pytest.fixture
def settings(tmp_path):
    def make(**options):
        return RunSettings(**{**QUICK, "cache": tmp_path / "cache", **options})

    return make


def judged(result):
    """What is said of the networks, but for what the clock says."""
    return [
        {key: own[key] for key in own if key not in ("images_per_second", "seconds")}
        for own in result.results["networks"]["tried"]
    ]


class Heard:
    """The events of a run; it ends at the first that `ends` says."""

    def __init__(self, ends=lambda event: False):
        self.ends, self.events = ends, []

    def __call__(self, event):
        self.events.append(event)
        if self.ends(event):
            raise KeyboardInterrupt

    @property
    def passes(self):
        return [
            (own.backbone, own.plan.compute) for own in self.events if isinstance(own, PassPlanned)
        ]


@pytest.mark.slow
def test_what_is_taken_is_searched_and_saved(photos, settings, tmp_path, here):
    here.insert(1, ("resnet34", str(tmp_path / "gone.pth")))
    result = run_job(str(photos), settings(out=tmp_path / "out", report=True))
    found = result.results["networks"]
    tried = {own["name"]: own for own in found["tried"]}
    assert set(tried) == {*NAMES, "resnet34"}
    assert found["found_copies"] == NAMES[0]
    n_train = len(result.split.train)
    assert {tried[name]["images"] for name in NAMES} == {n_train}
    assert all(tried[name]["seconds"] > 0 for name in NAMES)
    assert tried["resnet34"]["why"] == UNUSABLE
    assert "gone.pth" in tried["resnet34"]["problem"]
    taken = [name for name, own in tried.items() if own["taken"]]
    assert {tried[name]["why"] for name in taken} <= {BEST_ONE, GAIN}
    rows = result.results["leaderboard"]
    assert {row["backbone"] for row in rows if row["head"] != "blend"} <= {*taken}
    assert {own["name"] for own in result.results["backbones"]} == {*taken}
    assert result.results["settings"]["backbone"] == ["auto"]
    assert result.results["seconds"]["networks"] > 0
    paths = read_image_folder(photos).paths
    loaded = load_classifier(tmp_path / "out" / "model")
    assert loaded.predict(paths).tolist() == result.classifier.predict(paths).tolist()
    figures = (Path(__file__).parents[2] / "docs" / "figures.md").read_text(encoding="utf-8")
    assert [key for key in {*found, *tried[NAMES[0]]} if f"`{key}`" not in figures] == []
    said = summary(result.results, tmp_path / "out")
    assert f"a first look at {n_train} training images\n" in said
    assert "resnet34 (no weights file" in said
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Networks tried" in page
    assert page.count("can&#39;t be used") + page.count("no weights file") >= 1


def test_a_second_run_passes_nothing_and_says_the_same(photos, settings):
    first, heard = run_job(str(photos), settings()), Heard()
    second = run_job(str(photos), settings(), on_event=heard)
    assert heard.passes == []
    assert first.results["networks"] == second.results["networks"]
    assert first.results["leaderboard"] == second.results["leaderboard"]


@pytest.mark.slow
def test_an_interrupted_look_goes_on_from_there(photos, settings):
    """No image goes through a network twice."""
    ended = Heard(lambda event: isinstance(event, PassPlanned) and event.backbone == NAMES[2])
    with pytest.raises(KeyboardInterrupt):
        run_job(str(photos), settings(), on_event=ended)
    heard = Heard()
    result = run_job(str(photos), settings(), on_event=heard)
    assert NAMES[0] not in dict(heard.passes)
    looked_at = len(result.split.train)
    others = sum(n for name, n in heard.passes if name == NAMES[1])
    assert others <= 24 - looked_at  # those that the look was not of
    assert judged(result) == judged(run_job(str(photos), settings(cache=None)))


@pytest.mark.slow
def test_without_time_the_first_alone_is_taken(photos, settings):
    """It is there already; the others are named with the time that their passes would take."""
    result = run_job(str(photos), settings(within=1e-6))
    first, *others = result.results["networks"]["tried"]
    assert (first["taken"], first["why"]) == (True, BEST_ONE)
    for own in others:
        assert (own["taken"], own["why"], own["images"]) == (False, TOO_LONG, 0)
        assert own["seconds"] > 1e-6
    assert "(no time for its pass; about " in summary(result.results, photos)


@pytest.mark.slow
def test_labels_of_test_images_decide_nothing(add_photos, settings, tmp_path):
    folder = tmp_path / "split"
    add_photos(folder / "train")
    add_photos(folder / "val", per_class=4, start=20)
    samples = read_image_folder(folder)
    other = samples.labels.copy()
    tests = np.flatnonzero(samples.split == "test")
    other[tests] = other[tests][::-1]
    changed = replace(samples, labels=other)
    assert not np.array_equal(samples.labels, changed.labels)
    found = [judged(run_job(own, settings(duplicates="keep"))) for own in (samples, changed)]
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_speed_is_told_anew_where_it_was_forgotten(photos, settings, tmp_path):
    """Rows that are kept say nothing of the time that the others take."""
    run_job(str(photos), settings(within=1e-6))
    for file in (tmp_path / "cache" / "found").iterdir():
        file.unlink()
    tried = run_job(str(photos), settings(within=1e-6)).results["networks"]["tried"]
    assert [own["why"] for own in tried[1:]] == [TOO_LONG, TOO_LONG]
    assert all(own["seconds"] > 1e-6 for own in tried[1:])


def test_a_speed_is_told_from_the_second_part_of_a_pass_on(monkeypatch):
    """The first is slow: the network warms up."""
    heard, now = [], iter([10.0, 12.0, 13.0])
    monkeypatch.setattr(networks.time, "perf_counter", lambda: next(now))
    timed = networks._Timed(heard.append)
    for done in (32, 64, 96):
        timed(PassAdvanced(done))
    assert timed.images_per_second == 64 / 3
    assert heard == [PassAdvanced(32), PassAdvanced(64), PassAdvanced(96)]


def test_of_one_network_that_is_here_it_is_searched(photos, settings, here):
    del here[1:]
    heard = Heard()
    result = run_job(str(photos), settings(), on_event=heard)
    assert [own["why"] for own in result.results["networks"]["tried"]] == [BEST_ONE]
    assert len(heard.passes) == 1
    assert result.results["comparisons"]["networks"] is None


@pytest.mark.slow
def test_named_networks_are_compared_over_the_folds(photos, settings):
    """Whatever chose them."""
    names = "mobilenet_v3_small,squeezenet1_1"
    result = run_job(str(photos), settings(backbone=names, weights="random"))
    assert result.results["networks"] is None
    found = result.results["comparisons"]["networks"]
    assert {found["first"], found["second"]} == set(names.split(","))
    assert found["low"] < found["difference"] < found["high"]
    said = " ".join(result.results["advice"])
    assert f"{found['first']} or {found['second']}" in said


@pytest.mark.slow
def test_the_stage_is_told_and_what_came_of_it(photos, settings):
    heard = Heard()
    run_job(str(photos), settings(), on_event=heard)
    stages = [own.name for own in heard.events if isinstance(own, StageBegun)]
    assert stages.index("networks") == stages.index("copies") + 1
    (found,) = [own for own in heard.events if isinstance(own, NetworksTried)]
    assert {own.why for own in found.tried} <= {BEST_ONE, GAIN, NO_GAIN}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backbone", "auto,resnet18"), "--backbone auto,resnet18: expected auto alone"),
        (("--backbone", "auto", "--weights", "own.pth"), "--weights own.pth: expected none beside"),
        (("--backbone", "auto", "--weights", "random"), "--weights random: expected none beside"),
        (("--backbone", "auto", "--layers", "layer1"), "--layers layer1: expected auto or all"),
        (("--backbone", "auto", "--within", "0"), "--within 0.0: expected seconds above 0"),
        (("--backbone", "auto", "--within", "nan"), "--within nan: expected seconds above 0"),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_one_line(photos, tmp_path, capsys, arguments, said):
    from pipelines.run import main

    code = main([str(photos), "--cache", str(tmp_path / "c"), *arguments])
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("broken", [False, True])
def test_where_no_network_is_here_it_is_said_what_brings_one(
    photos, tmp_path, capsys, here, broken
):
    from pipelines.run import main

    here[:] = [("resnet18", str(tmp_path / "gone.pth"))] if broken else []
    code = main([str(photos), "--cache", str(tmp_path / "c"), "--backbone", "auto"])
    err = capsys.readouterr().err
    assert code == 2
    assert "permafrost[demo]" in err
    assert ("gone.pth" in err) == broken
    assert err.count("\n") == 1


def test_it_is_for_runs_alone(photos, tmp_path, capsys):
    from pipelines.doctor import main as doctor
    from pipelines.extract import main as extract

    for main in (doctor, extract):
        assert main([str(photos), "--backbone", "auto", "--cache", str(tmp_path / "c")]) == 2
        err = capsys.readouterr().err
        assert "--backbone auto: expected names" in err
        assert err.count("\n") == 1
    with pytest.raises(ExtractError, match="expected the name of one"):
        FeatureExtractor(layer="a", backbone="auto").transform([str(photos / "cats" / "1.png")])


def test_a_job_of_named_networks_tries_none(photos, settings):
    assert Job.__dataclass_fields__["here"].default == ()
    result = run_job(str(photos), settings(backbone="squeezenet1_1", weights="random"))
    assert result.results["networks"] is None
    assert json.loads(json.dumps(result.results))["settings"]["within"] == 300.0
