"""Tests of pipelines/report/timing.py: what is said about time is about the whole run."""

import pytest

from pipelines.report.timing import STAGES, time_in_words


def results(in_words="the network took 89 % of the pass: a GPU would help", **seconds):
    report = {"report": seconds.pop("report")} if "report" in seconds else {}
    seconds["total"] = sum(seconds.values())
    return {"seconds": seconds | report, "extraction": {"in_words": in_words}}


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (
            results(extract=6.0, heads=39.0, baselines=30.0, curve=9.0, save=1.0),
            [
                "85.0 s in all: the search over heads 39.0 s, the baselines 30.0 s, "
                "the learning curve 9.0 s",
                "the search over heads took longest: "
                "fewer --layers, --pooling or --heads would make it shorter",
            ],
        ),
        (
            results(extract=60.0, heads=2.0),
            [
                "62.0 s in all: the pass over the images 60.0 s",
                "the pass over the images took longest: "
                "the network took 89 % of the pass: a GPU would help",
            ],
        ),
        (
            results(None, extract=6.0, heads=2.0, map=20.0, report=4.0),
            [
                "32.0 s in all: the map 20.0 s, the pass over the images 6.0 s, the page 4.0 s",
                "the map took longest: --report off leaves it out",
            ],
        ),
        (results(extract=5.0, heads=1.0), ["6.0 s in all: the pass over the images 5.0 s, "
                                           "the search over heads 1.0 s"]),
        (
            results(heads=4.0, training=16.0),
            [
                "20.0 s in all: the training 16.0 s, the search over heads 4.0 s",
                "the training took longest: fewer --epochs or a smaller --unfreeze is shorter",
            ],
        ),
        (results(), ["0.0 s in all"]),
    ],
)  # fmt: skip
def test_the_longest_stages_are_named_and_what_would_shorten_the_first(found, lines):
    assert time_in_words(found) == lines


def test_every_stage_of_a_run_has_words(photos, run, tmp_path):
    import json

    code, printed, err = run(
        *(photos, "--heads", "knn", "--layers", "features.4", "--pooling", "avg"),
    )
    assert code == 0, err
    seconds = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))["seconds"]
    assert set(seconds) - {"total"} == set(STAGES)
    assert "\ntime: " in printed
