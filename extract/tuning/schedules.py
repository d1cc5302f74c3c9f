"""What becomes of the learning rates from step to step, and how many blocks an epoch trains."""

import math
from collections.abc import Callable

# of the highest rate: where one cycle begins, and where it ends (torch's OneCycleLR)
CYCLE_START, CYCLE_END = 1 / 25, 1 / 25e4


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """Up from a 25th and down to next to nothing, both along a half cosine (Smith & Topin, 2019).

    step : from 0 to steps - 1. warmup : share of the steps in which it rises.

    >>> [round(one_cycle(step, 11, 0.3), 3) for step in (0, 1, 5, 10)]
    [0.04, 0.422, 0.726, 0.0]
    """
    rising = warmup * steps - 1
    if step < rising:
        return _along(CYCLE_START, 1.0, step / rising)
    falling = steps - 1 - max(rising, 0)
    return _along(1.0, CYCLE_END, (step - max(rising, 0)) / falling if falling > 0 else 0.0)


def cosine(step: int, steps: int, warmup: float) -> float:
    """Up along a line, and down to nothing along a half cosine (Loshchilov & Hutter, 2017).

    >>> [round(cosine(step, 10, 0.2), 3) for step in (0, 1, 2, 5, 9)]
    [0.333, 0.667, 1.0, 0.691, 0.038]
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return _along(1.0, 0.0, (step - rising) / (steps - rising))


def _along(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


# by name: (step, steps, warmup) -> the factor of every group's rate
SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "one-cycle": one_cycle,
    "cosine": cosine,
}


def count_unfrozen(n_parts: int, epoch: int, epochs: int, gradual: bool) -> int:
    """How many of the trained parts, from the last down, an epoch trains.

    Gradually, they are all there when half of the epochs are over, in steps as even as they can be:
    what is unfrozen last is trained for as long as it was frozen.

    >>> [count_unfrozen(5, epoch, 8, gradual=True) for epoch in range(8)]
    [2, 3, 4, 5, 5, 5, 5, 5]
    """
    if not gradual:
        return n_parts
    return min(n_parts, math.ceil(n_parts * (epoch + 1) / max(1, epochs // 2)))
