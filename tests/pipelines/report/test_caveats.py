"""What is to be mistrusted is said before the answer, and nothing where all is well."""

import copy

import pytest

from pipelines.report.caveats import find_warnings
from pipelines.report.page import Figures

WELL = {
    "scoring": "accuracy",
    "chosen": {"test_low": 0.9, "test_high": 0.95, "test_balanced_accuracy": 0.92},
    "data": {
        "n_test": 400,
        "n_bad": 0,
        "imbalance": {
            "imbalanced": False,
            "largest": "a<b",
            "n_largest": 90,
            "smallest": "c",
            "n_smallest": 9,
        },
    },
    "comparisons": {
        "learnt": {"verdict": "better"},
        "test": {"verdict": "same", "first_score": 0.8, "second_score": 0.95},
    },
    "audit": {"n_copies_across_split": 0, "n_flat": 0, "flat": ["dark\x1b.png"]},
    "familiarity": {"n_flagged": 20, "share_flagged": 0.05, "threshold": 0.05},
}
CASES = [
    (("audit", "n_copies_across_split"), 2, "2</data> pairs of near copies have one image in"),
    (("audit", "n_copies_across_split"), 1, "1</data> pair of near copies has one image in"),
    (("data", "n_test"), 40, "Few test images"),
    (("chosen", "test_low"), 0.5, "anything from"),
    (("comparisons", "learnt", "verdict"), "can't tell", "too few to tell whether any head"),
    (("comparisons", "learnt", "verdict"), "same", "Nothing learnt"),
    (("comparisons", "test", "verdict"), "worse", "80.0</data>"),
    (("data", "imbalance", "imbalanced"), True, "a&lt;b has"),
    (("audit", "n_flat"), 3, "such as dark\\x1b.png"),
    (("data", "n_bad"), 1, "1</data> image could not be used"),
    (("familiarity", "share_flagged"), 0.4, "unlike the training images"),
]


def test_nothing_is_said_where_all_is_well():
    assert find_warnings(WELL, Figures(WELL)) == []
    without = {key: own for key, own in WELL.items() if key != "familiarity"}
    assert find_warnings(without, Figures(without)) == []


@pytest.mark.parametrize(("place", "value", "words"), CASES)
def test_each_is_said_with_its_figure(place, value, words):
    results = copy.deepcopy(WELL)
    own = results
    for step in place[:-1]:
        own = own[step]
    own[place[-1]] = value
    [sentence] = find_warnings(results, Figures(results))
    assert words in sentence
