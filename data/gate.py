"""Every file is decoded through here: within the budget of memory, and apart where it is dear."""

from collections.abc import Callable
from typing import TypeVar

from data.apart import LIMIT, Ended, TooLong, run_apart
from data.limits import MIB, Cost, cost_of
from data.memory import SMALL, budget, most_for
from data.reading import Reading

IN_THREAD = 2.0  # seconds that are waited for: what may take longer can be stopped

Result = TypeVar("Result")


def decode_within_limits(
    function: Callable[..., Result],
    name: str,
    data: bytes,
    at_least: int | None,
    max_pixels: int,
    reading: Reading,
) -> Result:
    """What `function(data, at_least, max_pixels, reading)` gives.

    function: a module-level one of `data.images`. name: the file's format. Raises ValueError for
    what would take too much memory, or took too long.
    """
    arguments = (data, at_least, max_pixels, reading)
    cost = cost_of(name, data, at_least, max_pixels, reading.page)
    if cost.bytes < SMALL and cost.seconds <= IN_THREAD:
        return function(*arguments)
    _check_memory(cost, len(data))
    with budget().taken(cost.bytes, after=cost.bytes // 3):
        if cost.seconds <= IN_THREAD:
            return function(*arguments)
        try:
            return run_apart(function.__name__, arguments, cost.bytes)
        except TooLong:
            raise ValueError(
                f"took over {LIMIT:.0f} s to decode ({cost.why}); save it anew, or smaller"
            ) from None
        except Ended:
            raise ValueError(f"its decoder crashed ({cost.why})") from None


def _check_memory(cost: Cost, size: int) -> None:
    most = most_for(size)
    if cost.bytes > most:
        raise ValueError(
            f"would need {cost.bytes // MIB:,} MB of memory to decode ({cost.why} in a file of "
            f"{size:,} bytes); at most {most // MIB:,} MB are taken for it: save it smaller"
        )
