"""Tests of pipelines/progress.py: the time left is of the whole run, and the line fits."""

import io
import os
import re
from dataclasses import replace

import pytest

from pipelines.console import Narrator, say
from pipelines.outcome import SearchAdvanced
from pipelines.progress import (
    OF_IMAGES,
    OF_SEARCH,
    RISE,
    SEARCH_SECONDS,
    STARTS,
    ProgressLine,
    RunPlanned,
    StageBegun,
    TimeLeft,
)
from pipelines.report.timing import STAGES

PLANNED = RunPlanned(1000, 12, 4, 1)
SEARCH = SEARCH_SECONDS * 1000 * 12 * 4


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def left(clock):
    found = TimeLeft(clock)
    found.plan(PLANNED)
    return found


def test_nothing_is_said_without_a_base(left, clock):
    left.begin("extract")
    clock.now = 1
    assert left.left() is None
    left.begin("heads")
    left.count(20)  # a look at the taps first
    assert left.left() is None


def test_it_is_of_all_stages_ahead(left, clock):
    left.begin("extract")
    left.begin_pass(1000, 40.0)
    guessed = SEARCH * (1 + sum(OF_SEARCH.values())) + 1000 * sum(OF_IMAGES.values())
    guessed += sum(STARTS.values()) - STARTS["networks"]  # there is no other to try
    whole = 40 + guessed + 0.04 * 300 + 0.04 * 750  # the first look, and the untrained network
    assert left.left() == pytest.approx(whole)
    clock.now = 10
    left.advance(500, 1000)  # twice as fast as planned
    assert left.left() == pytest.approx(10 + guessed + 0.02 * 300 + 0.02 * 750)


def test_networks_to_try_take_a_look_each_and_a_pass(left, clock):
    left.begin("copies")
    left._per_image = 0.04
    before = left.left()
    left.plan(replace(PLANNED, n_tried=3))
    left._last = None
    assert left.left() - before == pytest.approx(2 * STARTS["networks"] + 0.04 * (2 * 300 + 1000))


def test_images_without_labels_have_a_pass_of_their_own(left):
    left.begin("copies")
    left._per_image = 0.04
    before = left.left()
    left.plan(replace(PLANNED, n_unlabelled=50))
    left._last = None
    assert left.left() - before == pytest.approx(0.04 * 50)


def test_what_is_skipped_takes_no_time(clock):
    found = TimeLeft(clock)
    ahead = frozenset(STAGES) - {"read", "extract"}
    found.plan(RunPlanned(1000, 12, 4, 2, ahead))
    found.begin("extract")
    found.begin_pass(1000, 40.0)
    assert found.left() == pytest.approx(80)  # the pass of another network is to come


def test_guesses_are_scaled_by_the_search(left, clock):
    left.begin("heads")
    clock.now = 2 * SEARCH / 4
    left.advance(3, 12)  # twice as long as guessed
    scaled = 2 * SEARCH * sum(OF_SEARCH.values()) + OF_IMAGES["map"] * 1000
    scaled += OF_IMAGES["report"] * 1000
    scaled += sum(STARTS[name] for name in ("curve", "map", "seen", "report"))
    assert left.left() == pytest.approx(2 * SEARCH * 3 / 4 + scaled)


def test_it_does_not_jump_up(left, clock):
    left.begin("extract")
    left.begin_pass(1000, 10.0)
    before = left.left()
    clock.now = 5
    left.advance(1, 1000)  # 5,000 s by this
    assert left.left() == pytest.approx(before + 5 * RISE)
    after = left.left()
    for now in range(6, 60):
        clock.now = now
        left.advance(now * 10, 1000)
        last, after = after, left.left()
        assert after <= last + RISE
    left.begin("report")
    assert left.left() <= 2


def test_a_slow_pass_tells_of_a_slow_search(left, clock):
    left.begin("extract")
    left.begin_pass(1000, 10.0)
    clock.now = 15
    left.advance(500, 1000)  # 3 times as slow as planned
    slow = 3 * SEARCH * (1 + sum(OF_SEARCH.values())) + 1000 * sum(OF_IMAGES.values())
    slow += sum(STARTS.values()) - STARTS["networks"] + 0.03 * 300 + 0.03 * 750
    assert left.left() == pytest.approx(15 + slow)


def test_a_pass_alone_has_a_time_too(clock):
    found = TimeLeft(clock)
    found.begin_pass(100, 20.0)
    assert found.left() == pytest.approx(20)
    clock.now = 5
    found.advance(50, 100)
    assert found.left() == pytest.approx(5)


@pytest.mark.parametrize("columns", [80, 20, 2, 1])
def test_the_line_fits_and_goes_without_a_trace(monkeypatch, columns):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, 24)))
    stream = Terminal()
    line = ProgressLine(stream)
    line.draw("searching heads\x1b[31m\n, 3 of 12 taps, about 40 s left", at_once=True)
    line.draw("short", at_once=True)
    line.draw("not yet")
    line.clear()
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\n" not in text
    assert "not yet" not in text
    assert all(len(part) < max(columns, 1) + (columns == 1) for part in text.split("\r"))
    assert text.endswith("\r")


def test_no_line_where_stderr_is_no_terminal():
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.draw("searching heads", at_once=True)
    line.clear()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_run_is_told_stage_by_stage(monkeypatch, quiet):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    narrator = Narrator(quiet)
    for event in (
        PLANNED,
        StageBegun("heads"),
        SearchAdvanced(2, 20, True),
        SearchAdvanced(12, 12, False),
        StageBegun("map"),
    ):
        narrator(event)
    narrator.close()
    say("the end")
    text = stream.getvalue()
    seen = re.findall(r"over heads, 2 of 20 taps looked at|12 of 12 taps|the map, a", text)
    assert len(seen) == (0 if quiet else 3)
    assert text.rpartition("\r")[2] == "the end\n"
