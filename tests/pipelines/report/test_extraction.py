"""Passes in figures and words: sums over backbones, and what would make them faster."""

import pytest

from extract.extraction import STAGES, Facts
from pipelines.report.extraction import describe_extraction, describe_pass, where_time_went

NO_TIMES = dict.fromkeys(STAGES, 0.0)


class Done:
    """A pass of these facts."""

    def __init__(self, *facts, **more):
        self._facts = Facts(*facts, **more)

    def facts(self):
        return self._facts


@pytest.mark.parametrize(
    ("device", "times", "said"),
    [
        (
            "cuda",
            {"wait": 7.0, "forward": 3.0},
            "decoding held the GPU back 70 % of the pass: more cores or pre-re",
        ),
        (
            "cuda:1",
            {"wait": 1.0, "forward": 3.0},
            "the network took 75 % of the pass and decoding kept up: the GPU",
        ),
        (
            "cpu",
            {"wait": 7.0, "forward": 3.0},
            "decoding took 70 % of the pass: more cores or pre-resized images",
        ),
        (
            "cpu",
            {"wait": 1.0, "forward": 3.0},
            "the network took 75 % of the pass: a GPU, a smaller backbone or",
        ),
        (
            "cpu",
            {"wait": 1.0, "write_wait": 3.0},
            "writing held the pass back 75 % of it: a faster disk",
        ),
    ],
)
def test_where_the_time_went_is_said_in_words(device, times, said):
    facts = Facts(1, 1, 10.0, NO_TIMES | times, device=device)
    assert where_time_went(facts).startswith(said)
    assert where_time_went(Facts(1, 0, 10.0, NO_TIMES | times, device=device)) is None


def test_a_pass_is_described():
    block = describe_pass(Facts(12, 9, 2.0, NO_TIMES | {"wait": 1.23456}, "torch-eager", "cpu"))
    assert (block["images"], block["from_store"], block["computed"]) == (12, 3, 9)
    assert (block["images_per_second"], block["wait_seconds"]) == (4.5, 1.235)
    assert (block["engine"], block["unused_gpu"]) == ("torch-eager", None)
    assert describe_pass(Facts(12, 0, 0.1, NO_TIMES))["images_per_second"] is None


def test_passes_over_other_images_are_added():
    passes = [Done(60, 0, 1.0, NO_TIMES), Done(60, 60, 2.0, NO_TIMES)]
    block = describe_extraction(passes, [Done(24, 24, 3.0, NO_TIMES), Done(24, 20, 1.0, NO_TIMES)])
    assert (block["images"], block["from_store"], block["computed"]) == (84, 0, 84)
    assert block["seconds"] == 7.0


def test_of_several_passes_seconds_are_sums_and_the_slowest_says_why():
    passes = [
        Done(12, 12, 2.0, NO_TIMES, "torch-eager", "cpu", "decode"),
        Done(12, 3, 5.0, NO_TIMES | {"start": 1.0}, "openvino", "cpu", "forward"),
    ]
    block = describe_extraction(passes)
    assert (block["seconds"], block["start_seconds"]) == (7.0, 1.0)
    assert (block["images"], block["from_store"], block["computed"]) == (12, 0, 12)
    assert (block["engine"], block["bottleneck"], block["images_per_second"]) == (
        "openvino",
        "forward",
        None,
    )
