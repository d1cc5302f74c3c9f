"""Tests of pipelines/report/text.py: what the summary shows of the choice."""

from pathlib import Path

import pytest

from pipelines.report.text import _final_in_words, _interval, summary


def row(place, head="logistic"):
    score = 0.9 - place / 100
    return {
        "backbone": "net",
        "view": "plain",
        "layer": f"layer{place}",
        "tap": f"layer{place}:avg",
        "dim": 10,
        "head": head,
        "params": {"logisticregression__C": 0.1},
        "members": None,
        "tied": place < 13,
        "cv_score": score,
        "cv_score_low": score - 0.05,
        "cv_score_high": score + 0.05,
    }


def test_it_is_said_how_many_settings_were_stopped():
    said = results(0, "best")
    assert "stopped" not in summary(said, Path("run"))
    for own in (*said["leaderboard"], said["chosen"]):
        own |= {"stopped": False, "n_stopped": 0}
    assert "stopped" not in summary(said, Path("run"))
    said["leaderboard"][3] |= {"n_stopped": 1}
    one = "1 setting was stopped after the first fold, beaten beyond chance; --thorough stops none"
    assert one in summary(said, Path("run")).splitlines()
    assert not any(line.endswith(" stopped") for line in summary(said, Path("run")).splitlines())
    said["leaderboard"][14] |= {"stopped": True, "n_stopped": 7}
    said["leaderboard"] = [said["leaderboard"][i] for i in (0, 3, 14)]
    assert sum(line.endswith(" stopped") for line in summary(said, Path("run")).splitlines()) == 1
    more = "8 settings were stopped after the first fold, beaten beyond chance, 1 row with all of"
    assert more in summary(said, Path("run"))


def results(place, why, imbalanced=False):
    rows = [row(i) for i in range(15)]
    interval = {"low": 0.8, "high": 0.9}
    chosen = rows[place] | {
        "why": why,
        "cv_nested": 0.8765,
        "test_accuracy": 0.85,
        "test_low": 0.8,
        "test_high": 0.9,
        "test_metrics": {"accuracy": {"value": 0.85, **interval}},
        "test_recall": {"rare": 0.5, "usual": 0.9},
        "test_recall_intervals": {
            "rare": {"low": 0.2, "high": 0.8, "images": 4},
            "usual": {"low": 0.85, "high": 0.93, "images": 96},
        },
        "cv_corrected": 0.86,
        "cv_corrected_low": 0.8,
        "cv_corrected_high": 0.9,
        "cv_corrected_among": 40,
    }
    return {
        "scoring": "accuracy",
        "backbones": [{"name": "net"}],
        "backbone": {"architecture": "torchvision.x"},
        "leaderboard": rows,
        "screened_out": [],
        "baselines": [],
        "chosen": chosen,
        "final": {"fitted_on": "train", "n_images": 300},
        "data": {"n_test": 100, "n_train": 300, "imbalance": {"imbalanced": imbalanced}},
        "advice": [],
        "advised": [],
        "networks": None,
        "views": {
            "asked": ["auto"],
            "used": ["plain", "whole"],
            "looked_at": 200,
            "worth": 0.02,
            "gains": {"whole": 0.068, "plain+flipped": -0.006},
        },
        "audit": {
            "n_copies": 0,
            "n_suspect_labels": 0,
            "labels_audited": True,
            "label_agreement": 0.9,
            "label_agreement_by_chance": 0.5,
            "n_outliers": 0,
            "n_flat": 0,
            "flat": [],
        },
        "familiarity": {
            "threshold": 0.05,
            "n_judged": 100,
            "n_flagged": 0,
            "share_flagged": 0.0,
            "accuracy_flagged": None,
            "accuracy_others": 0.85,
        },
        "compared": None,
        "extraction": {"computed": 0, "from_store": 0, "in_words": None, "unused_gpu": None},
        "seconds": {"total": 1.0, "heads": 1.0},
    }


@pytest.mark.parametrize(("place", "shown"), [(0, 10), (9, 10), (10, 11), (14, 11)])
def test_the_chosen_row_is_always_shown_and_marked(place, shown):
    lines = summary(results(place, "best"), Path("out")).splitlines()
    (own,) = [line for line in lines if line.endswith(" chosen")]
    assert own.startswith(f"layer{place}:avg")
    assert sum(line.startswith("layer") for line in lines) == shown
    assert f"… and {15 - shown} more in results.json" in lines


@pytest.mark.parametrize(
    ("place", "why", "words"),
    [
        (0, "best", "chosen: logistic on layer0:avg\n"),
        (12, "simplest", "chosen: logistic on layer12:avg, the simplest of the 13 tied rows\n"),
        (3, "nested", "without the fold that scores it, gives accuracy 0.8765\n"),
    ],
)
def test_it_is_said_why_a_row_is_chosen_that_is_not_the_first(place, why, words):
    assert words in summary(results(place, why), Path("out"))


def test_the_recall_of_each_class_is_printed_where_the_advice_names_it():
    text = summary(results(0, "best", imbalanced=True), Path("out"))
    assert (
        "recall of each class: rare 0.500 (0.200 to 0.800, 4 images), "
        "usual 0.900 (0.850 to 0.930, 96 images)" in text
    )
    assert "recall of each class" not in summary(results(0, "best"), Path("out"))


@pytest.mark.parametrize(
    ("fitted_on", "n_images", "words"),
    [
        (
            "train",
            300,
            "saved: as tested, fitted on the 300 training images; "
            "--final all refits it on all 400, the figures stay",
        ),
        (
            "all",
            400,
            "saved: the chosen setting refitted on all 400 images; "
            "the figures above are of heads fitted on 300 and tested on the other 100",
        ),
    ],
)
def test_it_is_said_which_images_the_saved_classifier_was_fitted_on(fitted_on, n_images, words):
    final = {"fitted_on": fitted_on, "n_images": n_images}
    assert _final_in_words(results(0, "best") | {"final": final}) == words


def test_it_is_said_which_views_were_left_out_and_why():
    said = summary(results(0, "best"), Path("out"))
    assert (
        "views: plain, whole (-6.8 %); left out flipped (+0.6 %): by the log loss of a first look "
        "at 200 training images, which a view has to lower by 2 %\n"
    ) in said
    asked = results(0, "best") | {"views": {"asked": ["plain"], "used": ["plain"], "looked_at": 0}}
    assert "views:" not in summary(asked, Path("out"))


def test_no_figure_is_a_negative_zero():
    row = {"cv_score_low": -0.00001, "cv_score_high": -0.0}
    assert _interval(row, "cv_score") == "0.0000 to 0.0000"


def test_it_is_said_where_the_heads_are_too_weak_to_audit_labels():
    weak = results(0, "best")
    assert "audited" not in summary(weak, Path("out"))
    weak["audit"] |= {"labels_audited": False, "label_agreement": 0.468}
    assert (
        "- training labels are not audited: the heads are too weak for it, right for 0.47 of the "
        "images they did not see, by chance for 0.50"
    ) in summary(weak, Path("out")).splitlines()


@pytest.mark.parametrize("scoring", ["accuracy", "balanced_accuracy", "neg_log_loss"])
@pytest.mark.parametrize(("view", "backbones"), [("plain", 1), ("plain+flipped", 1), ("whole", 3)])
def test_the_leaderboard_has_80_columns(scoring, view, backbones):
    found = results(12, "best")
    found["scoring"] = scoring
    found["backbones"] *= backbones
    found["chosen"] |= {"test_score": 0.5, "test_score_low": 0.4, "test_score_high": 0.6}
    for row in found["leaderboard"]:
        row |= {"view": view, "tap": "features.12.block.3:grid3", "head": "linear_svm"}
        row["params"] = {"rbf__C": 10, "rbf__gamma": 0.000347, "weights": "distance"}
        row["cv_score"] = -0.123
    found["chosen"] |= found["leaderboard"][12]
    lines = summary(found, Path("out")).split("\n\n")[0].splitlines()[:-1]
    assert max(map(len, lines)) == 80
    assert sum(":grid3" in line for line in lines) == 11
    assert all("C=10" in line for line in lines if ":grid3" in line)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((0, 0.0, None, 0.85), "no test image (5 % of images like the training ones are)"),
        (
            (3, 0.03, 0.667, 0.9),
            "3 test images (3.0 %; 5 % of images like the training ones are), 0.67 of them right, "
            "of the others 0.90",
        ),
        ((1, 1.0, 0.0, None), "1 test image (100.0 %; 5 % of images like the training ones are)"),
    ],
)
def test_it_is_said_how_many_test_images_are_strangers(found, said):
    names = ("n_flagged", "share_flagged", "accuracy_flagged", "accuracy_others")
    told = results(0, "best")
    told["familiarity"] |= dict(zip(names, found, strict=True))
    lines = summary(told, Path("out")).splitlines()
    assert f"unlike the training images: {said}" in lines
