"""Tests of pipelines/report/tuning.py: what is said of the ways, by the figures."""

from pathlib import Path

import pytest

from pipelines.report.tuning import (
    advised_in_words,
    kept_in_words,
    outcome_in_words,
    places_of_kept,
    training_in_words,
    tuning_summary,
)


def way(name, kept=False):
    figure = {"value": 0.9, "low": 0.8, "high": 0.95}
    return {
        "name": name,
        "kept": kept,
        "validation_log_loss": 0.25,
        "test_metrics": {
            "accuracy": figure,
            "log_loss": {**figure, "value": 0.3},
            "balanced_accuracy": figure,
        },
    }


def less(first, second, verdict, difference=0.01):
    return {
        "first": first,
        "second": second,
        "difference": difference,
        "low": difference - 0.02,
        "high": difference + 0.02,
        "verdict": verdict,
        "n_gained": 5,
        "n_lost": 3,
        "p_mcnemar": 0.727,
    }


def results(alone="can't tell", joined="can't tell", kept="joined", difference=0.01):
    return {
        "scoring": "accuracy",
        "settings": {"choose": "best"},
        "seconds": {"heads": 8.0, "training": 24.0, "total": 33.0, "report": 1.0},
        "extraction": {"in_words": None},
        "compared": None,
        "chosen": {"head": "blend", "tap": None},
        "ways": {
            "chosen_by": "neg_log_loss",
            "rows": [
                way(name, name == kept) for name in ("last layer", "frozen", "tuned", "joined")
            ],
            "differences": [
                less("frozen", "last layer", "better"),
                less("tuned", "frozen", alone, difference),
                less("joined", "frozen", joined),
            ],
        },
        "tuning": {
            "kept": kept,
            "n_trained": 80,
            "n_validation": 20,
            "backbone": "net",
            "settings": {"views": 4, "epochs": 8, "augment": "light"},
            "groups": [{"layers": []}, {"layers": ["b", "a"]}],
            "history": [
                {"epoch": -1, "val_loss": 0.5},
                {"epoch": 0, "val_loss": 0.3},
                {"epoch": 1, "val_loss": 0.4},
            ],
            "best": 0,
            "share": 1.0,
            "source": "activations",
            "training_seconds": 20.0,
            "views_seconds": 4.0,
        },
    }


@pytest.mark.parametrize(
    ("alone", "joined", "said"),
    [
        ("better", "better", "tuning is worth it here: alone or joined it beats"),
        ("can't tell", "better", "tuning is worth it here: joined to the frozen heads it beats"),
        ("better", "can't tell", "tuning is worth it here: it beats the frozen heads"),
        ("worse", "can't tell", "tuning loses here: the frozen heads"),
        ("same", "same", "tuning makes no difference here beyond two points"),
        ("can't tell", "can't tell", "can't tell whether tuning is worth it: it is ahead of"),
    ],
)
def test_each_verdict_has_its_sentence(alone, joined, said):
    assert said in outcome_in_words(results(alone, joined))


@pytest.mark.parametrize(("difference", "said"), [(0.0, "as many are right"), (-0.01, "behind")])
def test_a_lead_that_is_none_is_not_said_to_be_one(difference, said):
    assert said in outcome_in_words(results(difference=difference))


def test_without_a_joined_way_the_tuned_one_is_judged_alone():
    found = results("worse")
    found["ways"]["differences"] = found["ways"]["differences"][:2]
    assert "tuning loses here" in outcome_in_words(found)


def test_it_is_said_by_what_a_way_is_kept():
    said = kept_in_words(results())
    assert "the least log loss on the 20 validation images does not beat it beyond chance" in said
    said = kept_in_words(results(kept="tuned"))
    assert "the least log loss on the 20 validation images; no test image took part" in said
    simple = results(kept="frozen") | {"settings": {"choose": "simplest"}}
    assert "what the frozen run chose: the simplest that the least log loss" in kept_in_words(
        simple
    )


def test_what_the_frozen_run_had_said_is_repeated():
    assert advised_in_words(results()) == []
    advised = [{"about": "tuning", "sentence": "it would lose"}, {"about": "depth"}]
    assert advised_in_words(results() | {"advised": advised}) == [
        "the frozen run's own figures had said: it would lose"
    ]


def test_it_is_said_what_was_trained_and_from_what():
    tuning = results()["tuning"]
    assert training_in_words(tuning) == (
        "trained: 2 blocks of net from kept activations of 4 views, 2 epochs over 80 images; epoch "
        "1 taken, validation loss 0.500 before and 0.300 then; 24 s"
    )
    said = training_in_words(tuning | {"best": -1, "source": "images"})
    assert "none better than the start" in said
    assert "from the images" in said
    assert "25% of them" in training_in_words(tuning | {"share": 0.25})


def test_the_summary_fits_a_terminal_and_names_what_to_type():
    lines = tuning_summary(results(), Path("runs/t")).splitlines()
    assert max(len(line) for line in lines[:6]) <= 88
    assert "kept" in lines[4]
    assert lines[-1] == "the network for other images: --backbone runs/t"


def test_the_summary_says_where_the_time_of_all_went():
    lines = tuning_summary(results(), Path("runs/t")).splitlines()
    place = lines.index("time: 34.0 s in all: the training 24.0 s, the search over heads 8.0 s")
    assert lines[place + 1] == (
        "  the training took longest: fewer --epochs or a smaller --unfreeze is shorter"
    )


def test_the_summary_says_what_became_of_the_earlier_runs_advice():
    problem = {"file": "old/results.json", "problem": "none of its test images is one of this run"}
    lines = tuning_summary(results() | {"compared": problem}, Path("runs/t")).splitlines()
    assert f"not compared with old/results.json: {problem['problem']}" in lines


@pytest.mark.parametrize("kept", ["joined", "tuned", "frozen"])
def test_the_headline_is_that_of_what_is_kept(kept):
    found = results(kept=kept)
    row = [own["name"] for own in found["ways"]["rows"]].index(kept)
    assert places_of_kept(found) == [
        ("ways", "rows", row, "test_metrics", "accuracy", name) for name in ("value", "low", "high")
    ]


def test_of_a_run_that_tuned_nothing_the_headline_is_of_what_was_chosen():
    assert places_of_kept({"chosen": {}})[0] == ("chosen", "test_accuracy")
