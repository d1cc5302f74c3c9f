"""One budget of memory for all decoders of this process, so that many large images wait in turn."""

import contextlib
import os
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

MIB = 2**20
ORDINARY = 400 * MIB  # a picture of 100 million pixels
FOR_A_CORE = 64 * MIB  # a photo of a camera on every core
TIMES_ITS_SIZE = 256  # what a file may need beyond ORDINARY: photos take 5 to 50 times their size
SMALL = 8 * MIB  # less than this is not counted: an ordinary image waits for nobody


class Budget:
    """So many bytes, taken in the order in which they are asked for.

    Examples
    --------
    >>> budget = Budget(4 * SMALL)
    >>> with budget.taken(3 * SMALL):
    ...     print(budget.free == SMALL)
    True
    """

    def __init__(self, size: int) -> None:
        self.size = self.free = size
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._local = threading.local()

    @contextlib.contextmanager
    def taken(self, amount: int, after: int = 0) -> Iterator[None]:
        """Wait for `amount` bytes; what is larger than the whole budget is alone with it.

        In a `kept` block what the thread took there already counts, and `after` bytes stay taken
        to the end of that block.
        """
        if amount < SMALL:
            yield
            return
        amount = min(amount, self.size)
        held = getattr(self._local, "held", None)
        if held is None:
            self._take(amount)
            try:
                yield
            finally:
                self._give(amount)
            return
        if amount > held:
            # given back first: who waits and holds some may wait for somebody who does so too
            self._hold(0)
            self._take(amount)
            self._local.held = amount
        yield
        self._hold(min(self._local.held, max(held, after)))

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """What decoding leaves in memory counts until the end of the block."""
        self._local.held = 0
        try:
            yield
        finally:
            self._hold(0)
            self._local.held = None

    def _hold(self, amount: int) -> None:
        """Give back what the thread holds beyond that."""
        if self._local.held > amount:
            self._give(self._local.held - amount)
            self._local.held = amount

    def _take(self, amount: int) -> None:
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self.free >= amount)
            self.free -= amount

    def _give(self, amount: int) -> None:
        with self._changed:
            self.free += amount
            self._changed.notify_all()


@cache
def budget() -> Budget:
    """The budget of this process, found when it is first asked for."""
    cores = os.cpu_count() or 1
    return Budget(min(available() // 2, max(ORDINARY, FOR_A_CORE * cores)))


def most_for(size: int) -> int:
    """Bytes of memory that a file of `size` bytes may take to decode."""
    if TIMES_ITS_SIZE * size <= ORDINARY:
        return min(ORDINARY, budget().size)
    return min(max(ORDINARY, TIMES_ITS_SIZE * size), available() // 2)


def available() -> int:
    """Bytes of memory that can be taken without swapping, by the machine and by its container."""
    found = [_machine_has()]
    for limit, used in _CONTAINERS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(limit.read_text()) - int(used.read_text()))
    return max(0, min(found))


_CONTAINERS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def _machine_has() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return 4096 * MIB


def _after_fork() -> None:
    budget.cache_clear()  # a thread that is not here any more may have held its locks


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
