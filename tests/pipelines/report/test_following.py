"""Where advice leads: a command that its own parser takes, and whether it came true."""

import importlib
import json
import shlex

import pytest

from pipelines.evaluation.differences import BETTER, OPEN, SAME, WORSE
from pipelines.report.advice import ADVISERS, give_advice
from pipelines.report.following import (
    FOLLOWING,
    MANNERS,
    NOT_OF_TUNE,
    OF_TUNE_ALONE,
    SWITCHES,
    Step,
    advice_to_follow,
    advised,
    command_of,
    follow_up,
    followed_in_words,
    with_command,
)
from tests.pipelines.report.test_advice import NAMES, NET, SENTENCES, data_of, found, results, row

CALL = ["python", "-m", "pipelines.run", "my photos", "--seed", "3", "--out", "runs/old"]
SETTINGS = {"layers": "auto", "pooling": ["avg", "grid3"], "seed": 3, "baselines": True}


def made(comparisons=None, **changes):
    return results(comparisons, command=CALL, settings=SETTINGS, seed=3, **changes)


SAID = [(name, verdict) for name, verdict, sentence in SENTENCES if sentence is not None]


@pytest.mark.parametrize(("name", "verdict"), SAID)
def test_each_sentence_names_a_command_that_its_parser_takes(name, verdict):
    comparisons = {"simple_learnt": found("simple_learnt", BETTER), name: found(name, verdict)}
    rows = give_advice(made(comparisons), "runs/old")
    (row,) = [row for row in rows if row["about"] == name]
    python, m, module, *arguments = row["command"]
    assert (python, m) == ("python", "-m")
    home = "pipelines.report.__main__" if module == "pipelines.report" else module
    importlib.import_module(home).build_parser().parse_args(arguments)
    assert row["about"] in NAMES
    assert with_command(row) == f"{row['sentence']}: {shlex.join(row['command'])}"
    json.dumps(row)


def test_every_sentence_has_what_follows():
    said = {(name, verdict) for name, verdict in SAID}
    assert said == {(name, verdict) for name, own in FOLLOWING.items() for verdict in own}
    assert FOLLOWING.keys() == ADVISERS.keys()


STEPS = [
    (
        Step(settings={"layers": "all"}),
        "pipelines.run 'my photos' --seed 3 --split runs/old --layers all",
    ),
    (Step(), "pipelines.run 'my photos' --seed 3 --split runs/old"),
    (
        Step(settings={"seed": 4, "split": None}),
        "pipelines.run 'my photos' --seed 4",
    ),
    (
        Step(settings={"pooling": ["avg", "max"], "baselines": False}),
        "pipelines.run 'my photos' --seed 3 --split runs/old --pooling avg,max --baselines off",
    ),
    (
        Step(settings={"class_weight": "balanced"}),
        "pipelines.run 'my photos' --seed 3 --split runs/old --class-weight balanced",
    ),
    (Step("tune"), "pipelines.tune 'my photos' --seed 3 --split runs/old --backbone net"),
    (Step("report"), "pipelines.report runs/old"),
]


@pytest.mark.parametrize(("step", "expected"), STEPS)
def test_the_call_is_this_runs_own_with_what_changes(step, expected):
    found = command_of(made(), step, "runs/old")
    assert shlex.join(found) == f"python -m {expected}"


def test_of_a_given_test_part_no_split_is_taken():
    found = command_of(made(data=data_of(split="given")), Step(settings={"layers": "all"}), "out")
    assert found[3:] == ["my photos", "--seed", "3", "--layers", "all"]


def test_options_written_with_an_equals_sign_are_replaced_too():
    given = ["python", "-m", "pipelines.run", "--layers=auto", "p", "--split=x", "--layersx=1"]
    found = command_of(made() | {"command": given}, Step(settings={"layers": "all"}), "out")
    assert found[3:] == ["p", "--layersx=1", "--split", "out", "--layers", "all"]


def test_tuning_takes_one_network_and_names_the_digits():
    given = ["python", "-m", "pipelines.run", "--backbone", "auto", "--within", "9", "--final=all"]
    given += ["--average-views", "--augmented", "3", "--json", "--quiet"]
    data = data_of() | {"name": "digits"}
    found = command_of(made(data=data) | {"command": given}, Step("tune"), "out")
    assert found[2:] == ["pipelines.tune", "digits", "--split", "out", "--backbone", "net"]


TUNED = NET | {"name": "tuned:net"}
OWN = NET | {"architecture": "own:Net:abc:1"}
BASELINE = NET | {"name": "gabor", "weights": None, "architecture": "permafrost.gabor/1"}
OF_RUN = (
    "--augmented 2 --average-views --within 9 --final all --layers early,late --pooling grid3 "
    "--json --quiet --thorough"
)
OF_TUNE = (
    "--unfreeze 2 --rates 2:4 --epochs=3 --batch 8 --schedule cosine --warmup 0.1 --patience 2 "
    "--weight-decay 0.1 --augment light --kept-views 2 --mixup 0.1 --smoothing 0.1 --dropout 0.1 "
    "--precision float32 --validation 0.3 --views plain --layers early --json"
)


def following(module, typed, network=NET, asked="net", **settings):
    """Every piece of advice of a call, as rows of `advised`."""
    call = ["python", "-m", module, "photos", "--backbone", asked, *shlex.split(typed)]
    told = SETTINGS | {"layers": "early,late", "backbone": [asked], **settings}
    board = [row("early", backbone=network["name"]), row("late", 0.8, network["name"])]
    changes = {"backbones": [network], "leaderboard": board, "command": call, "settings": told}
    changes["layers"] = {network["name"]: ["early", "late"]}
    rows = []
    for name, verdict in SAID:
        comparisons = {"simple_learnt": found("simple_learnt", BETTER), name: found(name, verdict)}
        rows += give_advice(results(comparisons, **changes), "runs/old")
    return rows


NETWORKS = [(NET, "net"), (TUNED, "runs/tuned"), (OWN, "nets:make"), (BASELINE, "gabor")]


@pytest.mark.parametrize(("network", "asked"), NETWORKS)
@pytest.mark.parametrize(
    ("module", "typed"), [("pipelines.run", OF_RUN), ("pipelines.tune", OF_TUNE)]
)
def test_every_command_of_a_run_and_of_a_tuned_network_is_taken(module, typed, network, asked):
    rows = following(module, typed, network, asked)
    assert "run" in {row["follows"] for row in rows}
    for advice in rows:
        _, _, called, *arguments = advice["command"]
        home = "pipelines.report.__main__" if called == "pipelines.report" else called
        options = importlib.import_module(home).build_parser().parse_args(arguments)
        assert not {"--json", "--quiet"} & set(arguments)
        assert "tuned:" not in shlex.join(arguments)
        if called == "pipelines.tune":
            assert options.backbone == [asked]
            assert called == module or options.thorough


@pytest.mark.parametrize(("network", "asked"), [(OWN, "nets:make"), (BASELINE, "gabor")])
def test_what_cant_be_tuned_is_not_advised_to_be(network, asked):
    rows = following("pipelines.run", "", network, asked)
    assert "tune" not in {row["follows"] for row in rows}
    assert "fine-tuning" not in " ".join(row["sentence"] for row in rows)


@pytest.mark.parametrize(("score", "follows"), [(0.94, "tune"), (0.96, "report")])
def test_where_nearly_all_is_right_the_rest_is_looked_at(score, follows):
    rows = give_advice(
        made({"more_images": found("more_images", SAME)}, leaderboard=[row("late", score)])
    )
    (own,) = [own for own in rows if own["about"] == "more_images"]
    assert own["follows"] == follows


def test_another_network_takes_no_layers_or_weights_of_the_old_one():
    typed = "--layers early,late --weights my.pth --pooling grid3 --size 96"
    rows = [
        own
        for own in following("pipelines.run", typed, weights="my.pth")
        if "backbone" in own["settings"] and own["about"] != "networks"
    ]
    assert {row["about"] for row in rows} == {"learnt", "depth", "simple"}
    for own in rows:
        called = own["command"]
        assert not {"--layers", "--weights"} & set(called)
        assert own["settings"]["backbone"] == ["gabor" if own["about"] == "simple" else "resnet50"]
        of_network = {"--pooling", "--size"} if own["about"] != "simple" else set()
        assert {"--pooling", "--size"} & set(called) == of_network


def test_the_better_of_two_networks_takes_what_both_took_under_the_name_that_was_typed():
    both = [NET, TUNED]
    found_of = found("networks", WORSE) | {"second": "tuned:net"}
    call = [*CALL, "--backbone", "net,runs/tuned", "--weights", "random", "--layers", "early"]
    own = made({"networks": found_of}, backbones=both)
    own |= {"command": call, "settings": SETTINGS | {"backbone": ["net", "runs/tuned"]}}
    (advice,) = [row for row in give_advice(own, "out") if row["about"] == "networks"]
    assert advice["settings"] == {"backbone": ["runs/tuned"]}
    expected = ["--weights", "random", "--layers", "early", "--split", "out"]
    assert advice["command"][-8:] == [*expected, "--backbone", "runs/tuned"]


def test_both_layers_of_the_best_network_are_asked_of_it_alone():
    changes = {"leaderboard": [row("early")], "screened_out": [{"layer": "late"}]}
    own = made({"depth": None}, **changes) | {"settings": SETTINGS | {"backbone": ["auto"]}}
    (advice,) = [row for row in give_advice(own, "out") if row["about"] == "depth"]
    assert advice["settings"] == {"layers": "early,late", "backbone": ["net"]}


def options_of(module):
    parser = importlib.import_module(module).build_parser()
    return {own.dest: own for own in parser._actions if own.dest not in ("help", "images")}


def test_what_one_command_alone_takes_is_known():
    run, tune = options_of("pipelines.run"), options_of("pipelines.tune")
    assert run.keys() - tune.keys() == set(NOT_OF_TUNE)
    assert tune.keys() - run.keys() == set(OF_TUNE_ALONE)
    left_out = {*NOT_OF_TUNE, *OF_TUNE_ALONE, *MANNERS}
    every = run | tune
    assert {name for name in left_out if every[name].nargs == 0} == set(SWITCHES)


@pytest.mark.parametrize(("command", "out"), [([], "out"), (CALL, None)])
def test_of_a_script_there_is_no_command(command, out):
    row = advised(made() | {"command": command}, "depth", "it helps", Step(), out)
    assert row["command"] is None
    assert with_command(row) == "it helps"


def a_row(follows="run", settings=None, promise="better", about="depth"):
    return {
        "about": about,
        "sentence": "it helps",
        "command": ["python", "-m", f"pipelines.{follows}", "photos"],
        "follows": follows,
        "settings": settings or {},
        "promise": promise,
    }


def now(verdict=OPEN, n_train=100, **more):
    ends = {BETTER: (0.01, 0.05), WORSE: (-0.05, -0.01), SAME: (-0.01, 0.01), OPEN: (-0.02, 0.05)}
    low, high = ends[verdict]
    compared = {"difference": (low + high) / 2, "low": low, "high": high, "level": 0.95}
    compared["verdict"] = verdict
    settings = {"layers": "all", "pooling": ["avg"], "baselines": False}
    return {"settings": settings, "data": {"n_train": n_train}, "compared": compared} | more


OUTCOMES = [
    ("better", BETTER, "came true"),
    ("better", SAME, "did not come true"),
    ("better", WORSE, "did not come true"),
    ("better", OPEN, "can't tell"),
    ("no worse", BETTER, "came true"),
    ("no worse", SAME, "came true"),
    ("no worse", WORSE, "did not come true"),
    ("no worse", OPEN, "can't tell"),
    ("no better", BETTER, "did not come true"),
    ("no better", SAME, "came true"),
    ("no better", WORSE, "came true"),
    ("no better", OPEN, "can't tell"),
    (None, BETTER, None),
]


@pytest.mark.parametrize(("promise", "verdict", "outcome"), OUTCOMES)
def test_whether_it_came_true(promise, verdict, outcome):
    row = a_row(settings={"layers": "all"}, promise=promise)
    (told,) = follow_up([row], 100, now(verdict))
    assert (told["followed"], told["outcome"]) == (True, outcome)
    assert (told["difference"] is None) == (outcome is None)


@pytest.mark.parametrize(
    ("row", "followed"),
    [
        (a_row(settings={"layers": "all", "baselines": False}), True),
        (a_row(settings={"layers": "all", "pooling": ["avg", "max"]}), False),
        (a_row(settings={"views": ["plain"]}), False),
        (a_row("report"), False),
        (a_row("tune"), False),
        (a_row(), False),
    ],
)
def test_what_counts_as_followed(row, followed):
    (told,) = follow_up([row], 100, now())
    assert told["followed"] == followed


@pytest.mark.parametrize(("n_train", "followed"), [(149, False), (150, True)])
def test_more_images_are_half_as_many_again(n_train, followed):
    (told,) = follow_up([a_row()], 100, now(n_train=n_train))
    assert told["followed"] == followed


def a_difference(first, second, value, verdict):
    figures = {"difference": value, "low": value - 0.01, "high": value + 0.01}
    figures |= {"verdict": verdict, "level": 1 - 0.05 / 6}
    return {"first": first, "second": second} | figures


@pytest.mark.parametrize(
    ("kept", "value"),
    [("frozen", -0.03), ("tuned", -0.03), ("joined", 0.02), ("last layer", -0.03)],
)
def test_of_a_tuned_network_the_ways_are_asked(kept, value):
    differences = [
        a_difference("frozen", "last layer", 0.1, BETTER),
        a_difference("tuned", "last layer", 0.07, BETTER),
        a_difference("tuned", "frozen", -0.03, WORSE),
        a_difference("joined", "frozen", 0.02, BETTER),
    ]
    names = ("last layer", "frozen", "tuned", "joined")
    rows = [{"name": name, "kept": name == kept} for name in names]
    ways = {"rows": rows, "differences": differences}
    (told,) = follow_up([a_row("tune")], 100, now(tuning={}, ways=ways))
    assert told["difference"] == value
    assert told["outcome"] == ("came true" if value > 0 else "did not come true")
    (said,) = followed_in_words({"advice": [told]})
    assert f"{value:+.4f} (99.17 % {value - 0.01:+.4f} to {value + 0.01:+.4f}): " in said


def test_it_is_said_in_a_line_each_what_was_followed_first():
    rows = [a_row(settings={"layers": "x"}), a_row(settings={"layers": "all"})]
    said = followed_in_words({"advice": follow_up(rows, 100, now(BETTER))})
    call = "python -m pipelines.run photos"
    assert said == [
        f"advised then and followed: {call}: +0.0300 (95 % +0.0100 to +0.0500): came true, "
        "promised better",
        f"advised then and not followed: {call}",
    ]
    assert followed_in_words({}) == []


def test_what_was_tuned_is_not_asked_to_be_tuned():
    rows = [a_row("tune", about="tuning"), a_row()]
    assert advice_to_follow({"advised": rows}) == rows
    assert advice_to_follow({"advised": rows, "tuning": {}}) == rows[1:]
