"""A reading goes into a recipe as text and comes back the same, or is refused in one line."""

import pytest

from data import Reading
from data.reading import parse_channels, parse_intensity, parse_page

READINGS = [
    Reading(),
    Reading((0, 4095)),
    Reading((-1000.5, 400)),
    Reading((1e-30, 0.1)),
    Reading((-2.5e20, 3e20)),
    Reading("full"),
    Reading(page=3),
    Reading(channels=(0, 2, 1)),
    Reading((0, 255), 2, (4,)),
]


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.text or "default")
def test_text_and_back(reading):
    assert Reading.parse(reading.text) == reading
    assert "\n" not in reading.text


def test_the_default_adds_nothing_to_a_recipe():
    assert Reading().text == ""


def test_equal_readings_have_one_text():
    assert Reading((0, 4095)).text == Reading((0.0, 4095.0)).text == "intensity=0:4095"


def test_pages_count_from_one_on_the_command_line():
    assert parse_page("1") == 0
    assert Reading(page=1).text == "page=2"


@pytest.mark.parametrize(
    "text",
    [
        "intensity=4095:0",
        "intensity=1:1",
        "intensity=0",
        "intensity=0:inf",
        "intensity=nan:1",
        "page=0",
        "page=x",
        "channels=1,2",
        "channels=-1",
        "channels=",
        "colour=3",
        "page=1 page=2",
        "page",
    ],
)
def test_what_no_file_could_be_read_by(text):
    with pytest.raises(ValueError, match="expected") as caught:
        Reading.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"intensity": (1, 0)},
        {"intensity": (0,)},
        {"intensity": "auto"},
        {"intensity": (True, 2)},
        {"page": -1},
        {"page": 1.5},
        {"channels": (0, 1)},
        {"channels": [0]},
        {"channels": (0, -1, 2)},
    ],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Reading(**wrong)


def test_options_of_the_command_line():
    assert parse_intensity("full") == "full"
    assert parse_intensity("-1e3:400") == (-1000, 400)
    assert parse_channels("2,0,1") == (2, 0, 1)
