"""How many processor cores this process may use."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

# weights times images below which the network is done before a second core has woken up: beside
# other work each of its layers would wait for one
LITTLE_WORK = 1 << 23

_one_thread = threading.RLock()
_share: list[int] = []


def take_share(n: int) -> None:
    """From now on `cores()` is `n` in this process, as others compute beside it."""
    _share[:] = [n]


def share() -> int | None:
    """The cores that were taken as this process's own; None for all that it may use."""
    return _share[0] if _share else None


def cores() -> int:
    """At least 1; in a container or under `taskset`, fewer than the machine has."""
    if _share:
        return _share[0]
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch takes one thread: for many small steps, as of building a network."""
    import torch

    with _one_thread:  # else the number that one thread puts back could be another's 1
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def threads_for(network: Any, images: int) -> contextlib.AbstractContextManager[None]:
    """Inside, torch takes one thread for so few images through so small a network, else its own."""
    weights = sum(parameter.numel() for parameter in network.parameters())
    return one_thread() if weights * images <= LITTLE_WORK else contextlib.nullcontext()
