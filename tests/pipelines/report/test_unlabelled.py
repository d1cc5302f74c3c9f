"""Tests of pipelines/report/unlabelled.py: the words and the advice, from figures made up."""

import copy

import numpy as np
import pytest

from pipelines.report.advice import OTHERS
from pipelines.report.following import Step
from pipelines.report.reading import unlabelled_in_words
from pipelines.report.unlabelled import UnlabelledTable, worth_in_words, write_unlabelled


def row(name, accuracy, loss, taken=False, gain=None):
    gains = gain and {"difference": gain, "low": gain - 0.02, "high": gain + 0.02}
    return {
        "name": name,
        "validation_accuracy": accuracy,
        "validation_log_loss": loss,
        "test_metrics": {"accuracy": {"value": accuracy}},
        "taken": taken,
        "out_of_fold": gains,
        "test": gains and {**gains, "verdict": "better"},
    }


RESULTS = {
    "settings": {"labels": None},
    "unlabelled": {
        "n_images": 520,
        "threshold": 0.05,
        "n_unfamiliar": 515,
        "method": "product",
        "labels_a_class": 5.2,
        "file": "out/unlabelled.csv",
        "shift": {"differs": None},
        "rows": [
            row("labels alone", 0.6, 1.2),
            row("product", 0.65, 1.1, True, 0.05),
            row("propagation", 0.55, 1.3, False, -0.05),
        ],
    },
}


def test_each_way_is_told_beside_labels_alone():
    assert worth_in_words(RESULTS["unlabelled"]) == [
        "images without labels: 520, answered in unlabelled.csv by the chosen heads times what "
        "the neighbours in the graph say",
        "  product, for training images whose label is hidden: accuracy 0.6500, by labels alone "
        "0.6000 (+0.0500, +0.0300 to +0.0700); log loss 1.100, 1.200: taken",
        "  for test images, which decide nothing: 0.6500, 0.6000 (+0.0500, +0.0300 to +0.0700: "
        "better beyond chance)",
        "  propagation, for training images whose label is hidden: accuracy 0.5500, by labels "
        "alone 0.6000 (-0.0500, -0.0700 to -0.0300); log loss 1.300, 1.200: not taken",
        "  for test images, which decide nothing: 0.5500, 0.6000 (-0.0500, -0.0700 to -0.0300: "
        "better beyond chance)",
        "  unlike the training images: 515 of 520 images (5 % of images like the training ones "
        "are)",
        "  shift: not looked for, of too few images",
        "  the saved classifier looks at one image at a time, and answers by labels alone",
    ]
    assert worth_in_words(None) == []


def test_where_they_help_the_ranked_ones_are_to_be_labelled():
    words, step = OTHERS["unlabelled"](RESULTS)
    assert words == (
        "with 5 labels a class the images without labels help where labels are hidden: log "
        "loss 1.100, by labels alone 1.200, accuracy +0.050 (+0.030 to +0.070); of further labels "
        "first those that unlabelled.csv ranks"
    )
    assert step == Step(settings={"labels": "out/unlabelled.csv"}, promise=None)


def test_a_gain_of_accuracy_within_chance_is_no_help():
    results = copy.deepcopy(RESULTS)
    results["unlabelled"]["rows"][1]["out_of_fold"] |= {"low": -0.067, "high": 0.194}
    words, _ = OTHERS["unlabelled"](results)
    assert "the images without labels are used, by their answers where labels are hidden" in words
    assert "accuracy +0.050 (-0.067 to +0.194), no gain beyond chance; of further" in words


@pytest.mark.parametrize("change", ["none", "alone", "mended"])
def test_the_advice_is_silent_or_keeps_labels_that_were_given(change):
    results = copy.deepcopy(RESULTS)
    if change == "none":
        results["unlabelled"] = None
    elif change == "alone":
        for own in results["unlabelled"]["rows"]:
            own["taken"] = own["name"] == "labels alone"
    else:
        results["settings"]["labels"] = "fixes.csv"
    found = OTHERS["unlabelled"](results)
    assert (found and found[1]) == (Step(promise=None) if change == "mended" else None)


def test_the_file_has_no_label_but_those_given_and_an_earlier_one_goes(tmp_path):
    table = UnlabelledTable(
        np.array([1, 0]),
        np.array(["=a.jpg", "b.jpg"], object),
        np.array(["", "dog"], object),
        np.array(["cat", "dog"], object),
        np.array([0.5, 0.75]),
        np.array([1 / 3, 1.0]),
        "product",
        {"c.jpg": "drop"},
    )
    write_unlabelled(tmp_path / "unlabelled.csv", table)
    assert (tmp_path / "unlabelled.csv").read_text(encoding="utf-8").splitlines() == [
        "rank,path,label,predicted,probability,familiarity,method",
        "1,'=a.jpg,,cat,0.5,0.333333,product",
        ",b.jpg,dog,dog,0.75,1,product",
        ",c.jpg,drop,,,,",
    ]
    write_unlabelled(tmp_path / "unlabelled.csv", None)
    assert not list(tmp_path.iterdir())


def test_what_is_not_used_is_said():
    class Read:
        given, samples, n_copies, n_repeated, has_labels = "more", range(3), 2, 0, False
        labels = {}  # noqa: RUF012

    assert unlabelled_in_words(Read) == [
        "more: 3 images taken as without labels",
        "not used of more: 2 are labelled images too",
    ]


def test_labels_that_are_given_are_counted_and_others_are_not_looked_at():
    class Read:
        given, samples, n_copies, n_repeated, has_labels = "more", range(3), 0, 0, True
        labels = {"a.jpg": "cat", "b.jpg": "drop"}  # noqa: RUF012

    assert unlabelled_in_words(Read)[1:] == ["1 label of them given, to choose a correction by"]
    Read.labels = {}
    assert unlabelled_in_words(Read)[1:] == [
        "labels in more are not looked at: --test takes labelled images"
    ]
