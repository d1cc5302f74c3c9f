"""Which correction of shift answers: by labels of the other place, else by agreement."""

import numpy as np
import pytest

from heads.alignment import ALIGNMENTS
from pipelines.evaluation.corrections import (
    NONE,
    agreements,
    choose_correction,
    correct_shift,
    judge_corrections,
)

CODES = np.arange(20) % 2
RIGHT = np.where(CODES[:, None] == [0, 1], 0.9, 0.1)
UNSURE = np.where(CODES[:, None] == [0, 1], 0.6, 0.4)
WRONG = RIGHT[:, ::-1]


def answers(otherwise, **corrections):
    """Of all corrections, those that are not given all wrong; uncorrected all wrong."""
    return {"product": otherwise, NONE: WRONG, **dict.fromkeys(ALIGNMENTS, WRONG), **corrections}


def test_a_place_that_moved_is_answered_again():
    random = np.random.default_rng(0)
    codes = np.arange(80) % 2
    source = random.normal(size=(80, 6)) + 4 * codes[:, None]
    folds = [(np.arange(40), np.arange(40, 80)), (np.arange(40, 80), np.arange(40))]
    found = correct_shift(source, codes, folds, (3 * source - 30).astype(np.float32))
    assert list(found) == [NONE, *ALIGNMENTS]
    right = {name: (own.argmax(axis=1) == codes).mean() for name, own in found.items()}
    assert right[NONE] == 0.5
    assert min(right[name] for name in ALIGNMENTS) > 0.95
    for own in found.values():
        assert own.shape == (80, 2)
        np.testing.assert_allclose(own.sum(axis=1), 1)


def test_labels_choose_and_the_gain_is_of_labels_that_had_no_part():
    rows = np.arange(20)
    found = judge_corrections(answers(WRONG, coral=RIGHT), rows, CODES)
    assert (found["chosen_by"], found["taken"], found["n_labels"]) == ("labels", "coral", 20)
    assert (found["nested"]["accuracy"], found["nested"]["difference"]) == (1, 1)
    by_name = {row["name"]: row["on_labels"] for row in found["rows"]}
    assert by_name["coral"]["accuracy"] == by_name["coral"]["difference"] == 1
    assert by_name["product"]["difference"] == by_name["standardised"]["difference"] == 0


@pytest.mark.parametrize("otherwise", [RIGHT, UNSURE])
def test_what_answers_otherwise_stays_unless_choosing_gains(otherwise):
    name, _ = choose_correction({"product": otherwise, "coral": WRONG}, CODES)
    assert name == "product"


def test_of_equals_what_answers_otherwise_stays():
    assert choose_correction({"product": RIGHT, "coral": RIGHT}, CODES)[0] == "product"


def test_a_lower_loss_alone_takes_no_fewer_right():
    """A correction that is surer of the same answers is taken; one that is wrong more often not."""
    assert choose_correction({"product": UNSURE, "coral": RIGHT}, CODES)[0] == "coral"
    one_wrong = RIGHT.copy()
    one_wrong[3] = one_wrong[3, ::-1]
    assert choose_correction({"product": UNSURE, "coral": one_wrong}, CODES)[0] == "product"


@pytest.mark.parametrize("n", [0, 9])
def test_too_few_labels_leave_it_to_agreement(n):
    rows = np.arange(n)
    found = judge_corrections(answers(RIGHT, standardised=RIGHT, coral=UNSURE), rows, CODES[:n])
    assert (found["chosen_by"], found["taken"]) == ("agreement", "standardised")
    assert found["nested"] is None
    assert [row["on_labels"] is None for row in found["rows"]] == [n == 0] * 5


def test_what_is_no_correction_is_never_taken_by_agreement():
    own = answers(RIGHT, standardised=RIGHT, coral=RIGHT)
    assert agreements(own)["product"] == pytest.approx(2 / 3)
    assert agreements(own)["coral"] == 0.5
    assert judge_corrections(own, np.empty(0, int), np.empty(0, int))["taken"] == "standardised"
