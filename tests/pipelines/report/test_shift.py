"""What is said of shift, from figures made up."""

import copy

import pytest

from heads.alignment import ALIGNMENTS
from pipelines.evaluation.corrections import NONE
from pipelines.report.advice import OTHERS
from pipelines.report.following import Step
from pipelines.report.shift import CORRECTIONS, shift_in_words


def apart(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.01}


def row(name, accuracy):
    return {"name": name, "agreement": 0.5, "on_labels": {"accuracy": accuracy}}


SHIFT = {
    "differs": True,
    "whole": apart(0.9),
    "classes": [
        {"name": "cats", "moved": True, "apart": apart(0.95)},
        {"name": "dogs", "moved": False, "apart": apart(0.51)},
        {"name": "owls", "moved": None, "apart": None},
    ],
    "corrections": {
        "chosen_by": "labels",
        "taken": "coral",
        "n_labels": 60,
        "nested": {"difference": 0.2, "low": 0.05, "high": 0.35},
        "rows": [row("product", 0.4), row("coral", 0.62)],
    },
}
AGREED = SHIFT["corrections"] | {"chosen_by": "agreement", "n_labels": 0, "nested": None}
TOLD = "told from the training images with probability 0.900 (0.880 to 0.910)"


def test_every_correction_has_its_words():
    assert list(CORRECTIONS) == [NONE, *ALIGNMENTS]


def test_labels_vouch_for_what_they_chose():
    assert shift_in_words(SHIFT) == [
        f"shift: {TOLD}; moved: cats 0.950 (0.930 to 0.960)",
        "  product, by 60 labels of these images: accuracy 0.4000",
        "  coral, by 60 labels of these images: accuracy 0.6200",
        "  coral is taken; to choose so, scored by labels that had no part in it, is +0.2000 "
        "(+0.0500 to +0.3500) beside product",
    ]


def test_where_nothing_is_chosen_the_figure_is_of_what_was_not_done():
    nested = {"difference": -0.1, "low": -0.2, "high": 0.0}
    stays = SHIFT["corrections"] | {"taken": "product", "nested": nested}
    assert shift_in_words(SHIFT | {"corrections": stays})[-1] == (
        "  to choose a correction, scored by labels that had no part in it, would be -0.1000 "
        "(-0.2000 to +0.0000) beside product; the answers stay as they are"
    )


def test_for_agreement_no_figure_vouches():
    assert shift_in_words(SHIFT | {"corrections": AGREED})[1:] == [
        "  coral is taken by what the corrections agree on, for which no figure vouches; where "
        "classes are not as common here as among the training images it does harm: label some of "
        "these images and give them with --target-labels"
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"differs": None, "whole": None}, "shift: not looked for, of too few images"),
        (
            {"differs": False, "whole": {"value": 0.5, "low": 0.42, "high": 0.58}},
            "shift: none found, told from the training images with probability 0.500 (0.420 to "
            "0.580), no better than chance: features are taken as they are",
        ),
        (
            {"differs": False, "whole": {"value": 0.689, "low": 0.428, "high": 0.861}},
            "shift: can't tell, told from the training images with probability 0.689 (0.428 to "
            "0.861), which of so few images may be chance: features are taken as they are",
        ),
        (
            {},
            f"shift: {TOLD}, but no class is by itself: the classes are not as common as among "
            "these, or moved too little to tell; features are taken as they are",
        ),
    ],
)
def test_without_a_correction_one_line_says_why(changes, words):
    assert shift_in_words(SHIFT | {"corrections": None} | changes) == [words]


@pytest.mark.parametrize(
    ("corrections", "file", "settings"),
    [
        (AGREED, "out/unlabelled.csv", {"target_labels": "out/unlabelled.csv"}),
        (AGREED, None, {}),
        (SHIFT["corrections"], "out/unlabelled.csv", None),
        (None, "out/unlabelled.csv", None),
    ],
)
def test_labels_are_asked_for_where_none_chose(corrections, file, settings):
    shift = copy.deepcopy(SHIFT) | {"corrections": corrections}
    advised = OTHERS["shift"]({"unlabelled": {"shift": shift, "file": file}})
    if settings is None:
        assert advised is None
    else:
        words, step = advised
        assert words.endswith("answers by coral: label some of them, first those that "
                              "unlabelled.csv ranks, and let these labels choose")  # fmt: skip
        assert step == Step(settings=settings, promise=None)


def test_without_such_images_nothing_is_advised():
    assert OTHERS["shift"]({"unlabelled": None}) is None
