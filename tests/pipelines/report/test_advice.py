"""Tests of pipelines/report/advice.py: every adviser, fed figures for every verdict."""

import re

import numpy as np
import pytest

from pipelines.evaluation.differences import (
    BETTER,
    MARGIN,
    OPEN,
    SAME,
    WORSE,
    difference_of,
    images_to_tell,
    judge,
    widen,
)
from pipelines.report.advice import ADVISERS, find_imbalance, give_advice

# an interval for every verdict, by the words of `judge`
ENDS = {
    BETTER: (0.05, 0.15),
    WORSE: (-0.15, -0.05),
    SAME: (-0.01, 0.01),
    OPEN: (-0.05, 0.09),
}
NET = {"name": "net", "weights": "wheel", "architecture": "torchvision.net"}
NAMES = {
    "depth": ("early", "late"),
    "pretraining": ("early", "net untrained"),
    "simple": ("early", "gabor"),
    "simple_learnt": ("gabor", "majority"),
    "learnt": ("early", "majority"),
    "more_images": ("all images", "half of them"),
    "test": ("test", "cross-validation"),
    "choice": ("blend", "early"),
    "networks": ("net", "other"),
}


def found(name, verdict, score=0.7):
    low, high = ENDS[verdict]
    middle = (low + high) / 2
    return vars(difference_of(NAMES[name], (score + middle, score), (low, high), 100))


def row(layer, score=0.9, backbone="net", head="logistic"):
    return {"backbone": backbone, "layer": layer, "head": head, "cv_score": score, "tied": True}


def data_of(sizes=(30, 30), split="held_out", n_train=100, n_test=33):
    imbalance = find_imbalance(np.repeat(["x", "y"], sizes))
    return {
        "name": "photos",
        "imbalance": imbalance,
        "n_train": n_train,
        "n_test": n_test,
        "split": split,
    }


def sentences(results):
    """What is said of what was compared: of tuning something is said of every run."""
    return [row["sentence"] for row in give_advice(results) if row["about"] != "tuning"]


def results(comparisons=None, **changes):
    """A run of which nothing is said but what the comparisons say."""
    return {
        "data": data_of(),
        "scoring": "accuracy",
        "class_weight": None,
        "layers": {"net": ["early", "late"]},
        "backbones": [NET],
        "screened_out": [],
        "leaderboard": [row("early"), row("late", 0.8)],
        "chosen": {"test_balanced_accuracy": 0.81},
        "comparisons": {"learnt": found("learnt", BETTER), **(comparisons or {})},
    } | changes


SENTENCES = [
    (
        "depth",
        BETTER,
        "an earlier layer beats the last one: +0.100 (+0.050 to +0.150), early 0.800",
    ),
    ("depth", WORSE, "the last layer beats the earlier ones: -0.100 (-0.150 to -0.050), early 0.6"),
    (
        "depth",
        SAME,
        "early and late layers do equally well, within 0.02: +0.000 (-0.010 to +0.010)",
    ),
    ("depth", OPEN, "can't tell yet whether an earlier layer or the last does better, +0.020"),
    ("networks", BETTER, "net beats other by +0.100 (+0.050 to +0.150), 0.800 against 0.700"),
    ("networks", WORSE, "other beats net: -0.100 (-0.150 to -0.050), 0.600 against 0.700"),
    ("networks", SAME, "net and other do equally well, within 0.02: +0.000 (-0.010 to +0.010)"),
    ("networks", OPEN, "can't tell yet whether net or other does better, +0.020 (-0.050 to"),
    ("pretraining", BETTER, "pretraining is worth +0.100 (+0.050 to +0.150), 0.800 against 0.700"),
    ("pretraining", WORSE, "pretraining is worth no more than 0.02 here"),
    ("pretraining", SAME, "try a backbone trained on images nearer to these"),
    ("pretraining", OPEN, "can't tell yet what pretraining is worth, +0.020 (-0.050 to +0.090)"),
    ("more_images", BETTER, "brought +0.100 (+0.050 to +0.150): more are a likely gain"),
    ("more_images", WORSE, "more of this kind will hardly help"),
    ("more_images", SAME, "brought +0.000 (-0.010 to +0.010): more of this kind will hardly help"),
    ("more_images", OPEN, "can't tell yet whether more images would help; the last doubling"),
    ("learnt", BETTER, None),
    ("learnt", WORSE, "no head does better than the largest class alone, -0.100"),
    ("learnt", SAME, "no head does better than the largest class alone, +0.000 (-0.010 to +0.010)"),
    (
        "learnt",
        OPEN,
        "can't tell yet whether any head does better than the largest class alone, +0.020",
    ),
    ("simple", BETTER, None),
    ("simple", WORSE, "gabor alone does as well as the network, 0.700 against 0.600"),
    ("simple", SAME, "gabor alone does as well as the network, 0.700 against 0.700"),
    ("simple", OPEN, "can't tell yet whether the network beats gabor alone, +0.020"),
    ("test", BETTER, None),
    ("test", WORSE, "the test accuracy is below what cross-validation promised, -0.100"),
    ("test", SAME, None),
    ("test", OPEN, None),
]


@pytest.mark.parametrize(("name", "verdict", "sentence"), SENTENCES)
def test_each_adviser_has_its_sentence_for_every_verdict(name, verdict, sentence):
    comparisons = {"simple_learnt": found("simple_learnt", BETTER), name: found(name, verdict)}
    said = sentences(results(comparisons))
    if sentence is None:
        assert said == []
    else:
        assert len(said) == 1
        assert sentence in said[0]


def tried(name, why="best", seconds=5.0, gain=None, log_loss=0.4):
    return {
        **{"name": name, "why": why, "seconds": seconds, "gain": gain, "log_loss": log_loss},
        **{"images": 300, "taken": why in ("best", "gain")},
    }


def test_a_network_that_there_was_no_time_for_is_named_where_it_was_measured():
    """What it would bring, and the time that it needs beside those taken."""
    late = tried("vit", "time", 412.3, gain=0.31)
    unseen = tried("huge", "time", 9000, log_loss=None)
    every = [tried("net", seconds=30.0), tried("second", "gain", 20.0, gain=0.1), late, unseen]
    networks = {"found_copies": "net", "within": 300, "tried": every}
    (said,) = sentences(results(networks=networks))
    assert said == (
        "vit was left out for its time: its pass would take about 412 s, and in a look at 300 "
        "training images it lowered the log loss by 31 %: --within 441 takes it"
    )
    networks["tried"] = [tried("net"), tried("bad", "no gain", gain=0.001), unseen]
    assert sentences(results(networks=networks)) == []
    assert sentences(results(networks=None)) == []


def test_every_adviser_and_every_verdict_is_in_the_table():
    assert {(name, verdict) for name, verdict, _ in SENTENCES} == {
        (name, verdict) for name in ADVISERS for verdict in ENDS
    }


def test_a_question_says_how_many_images_would_tell():
    (said,) = sentences(results({"depth": found("depth", OPEN)}))
    # half-width 0.07 at 100 training images, 0.02 from 0: 1300 of them, and a third as many to test
    assert said.endswith(": about 1800 labelled images in all would tell (133 are there)")
    close = vars(difference_of(NAMES["depth"], (0.51, 0.5), (-0.39, 0.41), 100))
    (said,) = sentences(results({"depth": close}))
    assert said.endswith(": it would take far more images")


def test_of_a_given_test_part_the_training_images_are_counted():
    (said,) = sentences(
        results({"depth": found("depth", OPEN)}, data=data_of(split="given", n_test=500))
    )
    assert said.endswith(": about 1300 training images in all would tell (100 are there)")


@pytest.mark.parametrize("n_train", [20, 53, 100, 244, 998])
@pytest.mark.parametrize("low", [-0.02, -0.011, -0.0001])
def test_more_images_are_asked_for_than_are_there(n_train, low):
    barely = difference_of(NAMES["depth"], (0.51, 0.5), (low, 0.02), n_train)
    assert barely.verdict == OPEN
    assert barely.images_to_tell > n_train
    data = data_of(n_train=n_train, n_test=n_train // 3)
    (said,) = sentences(results({"depth": vars(barely)}, data=data))
    wanted, there = map(int, re.findall(r"(\d+) (?:labelled|are there)", said))
    assert wanted > there == n_train + n_train // 3


@pytest.mark.parametrize("verdict", ENDS)
def test_of_an_untrained_network_no_layer_is_the_best(verdict):
    untrained = [NET | {"weights": "random"}]
    assert sentences(results({"depth": found("depth", verdict)}, backbones=untrained)) == []


def test_of_a_last_layer_that_was_screened_out_that_alone_is_said():
    changes = {"leaderboard": [row("early")], "screened_out": [{"layer": "late"}]}
    assert sentences(results({"depth": None}, **changes)) == [
        "the last layer (late) was screened out: it is not compared with earlier ones"
    ]


@pytest.mark.parametrize("verdict", [WORSE, SAME, OPEN])
def test_a_baseline_that_knows_nothing_is_not_compared_with(verdict):
    comparisons = {
        "simple_learnt": found("simple_learnt", verdict),
        "simple": found("simple", SAME),
    }
    assert sentences(results(comparisons)) == []


def test_a_baseline_as_backbone_is_not_compared_with_itself():
    comparisons = {
        "simple_learnt": found("simple_learnt", BETTER),
        "simple": found("simple", SAME),
    }
    gabor = {"name": "gabor", "weights": None, "architecture": "baseline"}
    rows = [row("gabor", backbone="gabor")]
    changes = {"backbones": [gabor], "leaderboard": rows}
    assert sentences(results(comparisons, **changes)) == []


@pytest.mark.parametrize("verdict", [BETTER, WORSE])
def test_what_a_module_of_ones_own_was_trained_on_is_not_known(verdict):
    comparisons = {"depth": found("depth", verdict)}
    (said,) = sentences(results(comparisons))
    assert "like those the backbone was trained on" in said
    own = [NET | {"architecture": "own:Net:abc:1"}]
    (said,) = sentences(results(comparisons, backbones=own))
    assert "trained" not in said


@pytest.mark.parametrize(
    "comparisons",
    [
        {"pretraining": found("pretraining", SAME, 0.98)},
        {"pretraining": found("pretraining", SAME), "learnt": found("learnt", OPEN)},
    ],
    ids=["saturated", "nothing learnt"],
)
def test_no_other_backbone_is_advised_where_it_can_gain_nothing_or_nothing_is_learnt(comparisons):
    said = [line for line in sentences(results(comparisons)) if "pretraining" in line]
    assert len(said) == 1
    assert "backbone" not in said[0]


@pytest.mark.parametrize(("score", "easy"), [(0.7, False), (0.97, True)])
def test_a_set_is_easy_only_where_it_is_nearly_all_right(score, easy):
    comparisons = {
        "simple_learnt": found("simple_learnt", BETTER),
        "simple": found("simple", SAME, score),
    }
    (said,) = sentences(results(comparisons))
    assert ("an easy set" in said) == easy


def test_a_gain_that_surely_lies_below_the_margin_is_none_however_low_it_may_be():
    low = vars(difference_of(NAMES["more_images"], (0.5, 0.6), (-0.21, 0.01), 100))
    (said,) = sentences(results({"more_images": low}))
    assert said.endswith("more of this kind will hardly help")


@pytest.mark.parametrize(
    ("name", "ends"), [("more_images", (-0.6, -0.2)), ("learnt", (-0.4, 0.01)), ("simple", (-1, 0))]
)
def test_of_too_few_images_nothing_is_said_but_that(name, ends):
    few = difference_of(NAMES[name], (0.5, 0.9), ends, 20)
    assert few.too_few
    comparisons = {"simple_learnt": found("simple_learnt", BETTER), name: vars(few)}
    (said,) = sentences(results(comparisons, data=data_of(n_train=20, n_test=7)))
    assert said.startswith("can't tell yet ")
    assert said.endswith(": about 41 labelled images in all would tell (27 are there)")
    assert not difference_of(NAMES[name], (0.5, 0.9), ends, 30).too_few


def test_the_gain_is_of_accuracy_whatever_the_scoring():
    (said,) = sentences(results({"more_images": found("more_images", BETTER)}, scoring="f1_macro"))
    assert "+0.150) of accuracy: more" in said


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "x 90, y 10"),
        (
            {},
            "--scoring balanced_accuracy and --class-weight balanced would weigh the classes alike",
        ),
        ({"class_weight": "balanced"}, "; --scoring balanced_accuracy would weigh"),
        (
            {"class_weight": "balanced", "scoring": "f1_macro"},
            "0.810, and the recall of each class above",
        ),
    ],
)
def test_unequal_classes(changes, sentence):
    data = data_of([90, 10])
    assert any(sentence in line for line in sentences(results(data=data, **changes)))


def test_nothing_is_said_without_a_measurement():
    assert sentences(results(dict.fromkeys(NAMES))) == []


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.3, BETTER),
        (-0.3, -0.001, WORSE),
        (-0.019, 0.019, SAME),
        (0.005, 0.015, SAME),
        (-0.212, 0.212, OPEN),
        (-0.007, 0.073, OPEN),
        (-0.019, MARGIN, OPEN),
        (0.0, 0.03, OPEN),
    ],
)
def test_verdicts(low, high, verdict):
    assert judge(low, high) == verdict


def test_images_to_tell_fall_with_the_square_of_the_half_width():
    assert images_to_tell(-0.05, 0.15, 100) == 400
    # from the margin, where the difference is near 0
    assert images_to_tell(-0.04, 0.04, 100) == 400
    assert images_to_tell(-0.4, 0.41, 100) is None


@pytest.mark.parametrize("verdict", ENDS)
def test_fewer_than_thirty_training_images_settle_nothing(verdict):
    own = difference_of(NAMES["depth"], (0.7, 0.6), ENDS[verdict], 18)
    assert own.verdict == OPEN
    assert own.images_to_tell == (230 if verdict == OPEN else 30)
    tested = difference_of(NAMES["test"], (0.7, 0.6), ENDS[verdict], 18, fewest=0)
    assert tested.verdict == verdict


def test_intervals_of_all_comparisons_together_are_wider():
    low, high = widen(0.5, 0.4, 0.7)
    assert (low, high) == pytest.approx((0.359, 0.783), abs=2e-3)


def test_where_scores_still_rise_at_the_last_layer_a_stronger_backbone_is_named():
    def said(score, **changes):
        return sentences(results({"depth": found("depth", WORSE, score)}, **changes))[0]

    assert said(0.7).endswith("and a run compares two")
    assert "stronger" not in said(0.97)  # little is left to gain
    assert "stronger" not in said(0.7, backbones=[NET, NET | {"name": "other"}])
    for verdict in (BETTER, SAME, OPEN):
        assert "stronger" not in sentences(results({"depth": found("depth", verdict)}))[0]


@pytest.mark.parametrize(
    ("n_train", "promise", "said"),
    [
        (299, "no better", "fine-tuning will most likely do no better than this: 299 training"),
        (300, "better", "fine-tuning may well do better than this, alone or joined with it: 300"),
    ],
)
def test_tuning_is_advised_by_the_number_of_images(n_train, promise, said):
    row = give_advice(results(data=data_of(n_train=n_train)))[-1]
    assert row["sentence"].startswith(said)
    assert (row["about"], row["follows"], row["promise"]) == ("tuning", "tune", promise)


@pytest.mark.parametrize(("verdict", "kind"), [(BETTER, "unlike"), (WORSE, "like")])
def test_tuning_is_advised_with_what_the_images_are_like(verdict, kind):
    *_, row = give_advice(results({"depth": found("depth", verdict)}))
    assert f"100 training images that are {kind} the backbone's" in row["sentence"]


@pytest.mark.parametrize(
    "changes",
    [
        {"leaderboard": [row("early", 0.96)]},
        {"backbones": [NET | {"weights": "random"}]},
        {"comparisons": {"learnt": found("learnt", SAME)}},
        {"tuning": {}},
    ],
    ids=["nearly all right", "untrained", "nothing learnt", "tuned already"],
)
def test_where_tuning_is_no_question(changes):
    assert "tuning" not in [row["about"] for row in give_advice(results(**changes))]
