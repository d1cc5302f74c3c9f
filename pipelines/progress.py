"""How far a run is: one line on a terminal with the stage's name and the time left of the run."""

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from data.names import shown
from pipelines.report.timing import STAGES

# where nothing is measured yet: 1,797 digits, 12 taps and 4 heads took 28 s on 2 cores, their
# baselines, the learning curve and the map beside them, 0.93 times as long
SEARCH_SECONDS = 0.00032  # of an image, a tap and a head
OF_SEARCH = {"baselines": 0.8, "curve": 0.05, "test": 0.03, "audit": 0.02}
OF_IMAGES = {"copies": 0.0005, "map": 0.0005, "report": 0.001}
STARTS = {
    "networks": 3.0,
    "views": 3.0,
    "baselines": 4.0,
    "curve": 1.0,
    "map": 1.0,
    "seen": 2.0,
    "report": 1.0,
}  # seconds
RISE = 3.0  # seconds by which the time left may rise in a second: more would be a jump
SLOWEST = 8.0  # times that a pass may take what was planned and still tell of the search
MOST_TAPS = 12  # that are searched in full
LOOKED_AT = 300  # images that a first look computes anew, views and all
PASSING = ("networks", "views", "baselines")  # stages with passes of their own
PAUSE = 0.1  # seconds between two drawings of the line


@dataclass(frozen=True)
class RunPlanned:
    """What a run has ahead.

    skipped : stages that take no time, as nothing is asked of them.
    n_tried : networks that a choice is made among. n_unlabelled : images beside those.
    """

    n_images: int
    n_taps: int
    n_heads: int
    n_backbones: int
    skipped: frozenset[str] = frozenset()
    n_tried: int = 0
    n_unlabelled: int = 0


@dataclass(frozen=True)
class StageBegun:
    """A stage of a run begins, by its name in `seconds` of results.json."""

    name: str


class TimeLeft:
    """Seconds until the whole run is done: measured speeds, and guesses scaled by them.

    clock : seconds, of which differences count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._planned: RunPlanned | None = None
        self._stage = "read"
        self._begun = self._counting = clock()
        self._done = self._total = 0
        self._n_passes = 0
        self._per_image: float | None = None  # of a pass
        self._factor: float | None = None  # how long the search takes, in terms of the guess
        self._planned_per_image = 0.0
        self._last: tuple[float, float] | None = None  # when it was told, and what

    def plan(self, planned: RunPlanned) -> None:
        """Know what is ahead."""
        self._planned = planned

    def begin(self, stage: str) -> None:
        """Another stage begins."""
        if self._stage == "heads" and self._planned is not None and self._search_guess():
            self._factor = (self._clock() - self._begun) / self._search_guess()
        self._stage, self._begun = stage, self._clock()
        self.count(0)

    def begin_pass(self, n_images: int, seconds: float) -> None:
        """A pass begins, which is expected to take so long."""
        if self._planned is None:
            self._stage = "extract"  # of a command that does nothing else
        self._n_passes += self._stage == "extract"
        if n_images and self._stage == "extract":
            self._per_image = self._planned_per_image = seconds / n_images
        self.count(n_images)

    def count(self, total: int) -> None:
        """So many images or taps are ahead."""
        self._done, self._total, self._counting = 0, total, self._clock()

    def advance(self, done: int, total: int) -> None:
        """So many of all are done."""
        self._done, self._total = done, total
        took = self._clock() - self._counting
        if self._stage == "extract" and done and took > 0:
            self._per_image = took / done
        if self._stage == "heads" and done and self._search_guess():
            self._factor = took / done * total / self._search_guess()

    def left(self) -> float | None:
        """Seconds, or None while nothing is measured; it rises by RISE s a second at most."""
        if self._per_image is None and self._factor is None:
            return None
        if self._planned is None and self._stage != "extract":
            return None  # of a job that is no run a pass alone is known
        names = list(STAGES)
        ahead = names[names.index(self._stage) + 1 :]
        found = self._of_stage() + sum(map(self._guess, ahead))
        now = self._clock()
        if self._last is not None:
            passed = now - self._last[0]
            found = min(found, self._last[1] + RISE * passed)
        self._last = now, found
        return found

    def _of_stage(self) -> float:
        now, ahead = self._clock(), 0.0
        if self._stage == "extract" and self._planned is not None and self._per_image:
            left = max(self._planned.n_backbones - self._n_passes, 0)
            ahead = left * self._per_image * self._planned.n_images
        if self._done and self._stage in ("extract", "heads"):
            return ahead + (now - self._counting) / self._done * (self._total - self._done)
        if self._stage == "extract":
            return ahead + max((self._per_image or 0) * self._total - (now - self._counting), 0)
        return max(self._guess(self._stage) - (now - self._begun), 0)

    def _guess(self, stage: str) -> float:
        """Seconds of a whole stage."""
        planned = self._planned
        if planned is None or stage in planned.skipped:
            return 0.0
        per_image = self._per_image or 0.0
        start = STARTS.get(stage, 0.0) if per_image or stage not in PASSING else 0.0
        if stage == "networks":  # a look at each of the others, and a pass of one of them
            others = max(planned.n_tried - 1, 0)
            seen = others * min(LOOKED_AT, planned.n_images) + min(others, 1) * planned.n_images
            return start * others + per_image * seen
        if stage == "views":
            return start + per_image * min(LOOKED_AT, 2 * planned.n_images)
        if stage == "unlabelled":
            return per_image * planned.n_unlabelled
        search = self._search_guess() * self._slowness()
        if stage == "heads":
            return search
        found = (
            start + search * OF_SEARCH.get(stage, 0) + planned.n_images * OF_IMAGES.get(stage, 0)
        )
        if stage == "baselines":  # the untrained network sees the training images
            found += per_image * planned.n_images * 0.75
        return found

    def _slowness(self) -> float:
        """How many times longer than guessed things take here: by the search, else by the pass."""
        if self._factor is not None:
            return self._factor
        if not self._per_image or not self._planned_per_image:
            return 1.0
        return min(max(self._per_image / self._planned_per_image, 1.0), SLOWEST)

    def _search_guess(self) -> float:
        planned = self._planned
        if planned is None:
            return 0.0
        taps = min(planned.n_taps, MOST_TAPS)
        return SEARCH_SECONDS * planned.n_images * taps * planned.n_heads


def time_in_words(seconds: float) -> str:
    """`about 40 s left`: in steps that the figure is good for.

    Examples
    --------
    >>> [time_in_words(seconds) for seconds in (0.4, 7.2, 44, 100)]
    ['a few s left', 'about 8 s left', 'about 45 s left', 'about 2 min left']
    >>> time_in_words(4000)
    'about 1 h 10 min left'
    """
    if seconds < 3:
        return "a few s left"
    if seconds < 90:
        step = 1 if seconds < 15 else 5
        return f"about {int(-(-seconds // step) * step)} s left"
    minutes = int(-(-seconds // 60))
    if minutes < 60:
        return f"about {minutes} min left"
    hours, rest = divmod(-(-minutes // 10) * 10, 60)
    return f"about {hours} h {rest} min left" if rest else f"about {hours} h left"


class ProgressLine:
    """The last line of a terminal, drawn over itself; nothing where the file is none.

    stream : stderr, as it is when the line is drawn.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._width = 0  # of what stands there
        self._drawn = float("-inf")

    def draw(self, text: str, at_once: bool = False) -> None:
        """Show this; unless at once, not more often than can be read."""
        stream = self._stream or sys.stderr
        now = time.monotonic()
        if not stream.isatty() or not (at_once or now - self._drawn >= PAUSE):
            return
        columns = shutil.get_terminal_size().columns
        line = shown(text)[: max(columns - 1, 0)]  # the last column would begin another line
        stream.write("\r" + line.ljust(min(self._width, max(columns - 1, 0))))
        stream.flush()
        self._width, self._drawn = len(line), now

    def clear(self) -> None:
        """Leave an empty line, for others to write on."""
        if self._width:
            stream = self._stream or sys.stderr
            columns = shutil.get_terminal_size().columns
            stream.write("\r" + " " * min(self._width, max(columns - 1, 0)) + "\r")
            stream.flush()
        self._width, self._drawn = 0, float("-inf")
