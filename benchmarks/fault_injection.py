"""What `benchmarks.faults` does to a process from inside: counted steps, errors, slow passes."""

import builtins
import io
import itertools
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

# what is done to files, each a step; a disk that is full or read-only does the first kind alone
HINDERED = ("open", "write", "close", "mkdir", "replace", "rename", "fsync", "h5py")
FREEING = ("unlink", "rmdir")

Act = Callable[[int, str], None]


def kill_at(step: int) -> Act:
    """Die at the step without a word."""
    return signal_at(step, signal.SIGKILL)


def signal_at(step: int, number: int) -> Act:
    """Get a signal at the step."""

    def act(count: int, name: str) -> None:
        if count == step:
            os.kill(os.getpid(), number)

    return act


def fail_from(step: int, number: int) -> Act:
    """An error of the system at the step and at all that follow, but for those that free space."""

    def act(count: int, name: str) -> None:
        if count >= step and name in HINDERED:
            raise OSError(number, os.strerror(number))

    return act


def count_steps(act: Act, folders: Sequence[Path], tell: Callable[[str], None]) -> None:
    """Call `act(number, name)` before each step of writing below the folders; tell the number."""
    numbers, lock = itertools.count(1), threading.Lock()

    def step(name: str) -> None:
        with lock:
            number = next(numbers)
        tell(f"step {number}")
        act(number, name)

    def ours(path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and any(
            Path(path).is_relative_to(folder) for folder in folders
        )

    for name in ("mkdir", "replace", "rename", *FREEING):
        _before(os, name, lambda args, name=name: ours(args[0]) and step(name))
    _before(os, "fsync", lambda args: step("fsync"))
    opened = io.open

    def open_stepped(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not (ours(file) and set(mode) & set("wax+")):
            return opened(file, mode, *args, **kwargs)
        step("open")
        return _SteppedFile(opened(file, mode, *args, **kwargs), step)

    io.open = builtins.open = open_stepped  # type: ignore[assignment]
    h5py = import_module("h5py")
    for kind, names in (
        (h5py.Group, ("create_dataset", "create_group")),
        (h5py.AttributeManager, ("__setitem__",)),
    ):
        for name in names:
            _before(kind, name, lambda args: step("h5py"))
    for name in ("flush", "close"):
        _before(h5py.File, name, lambda args: args[0] and args[0].mode == "r+" and step("h5py"))


def _before(owner: Any, name: str, call: Callable[[tuple], Any]) -> None:
    original = getattr(owner, name)

    def stepped(*args: Any, **kwargs: Any) -> Any:
        call(args)
        return original(*args, **kwargs)

    setattr(owner, name, stepped)


class _SteppedFile:
    """A file each of whose writes is a step, and its end."""

    def __init__(self, file: Any, step: Callable[[str], None]) -> None:
        self._file = file
        self._step = step

    def write(self, data: Any) -> int:
        self._step("write")
        return self._file.write(data)

    def close(self) -> None:
        was_open = not self._file.closed
        self._file.close()
        if was_open:
            self._step("close")

    def __enter__(self) -> "_SteppedFile":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def slow_passes(pause: float, part_seconds: float | None, tell: Callable[[str], None]) -> None:
    """Batches of 16 images, so many seconds between them, and parts so often; progress is told."""
    forward_pass = import_module("extract.forward_pass")
    forward_pass.LARGEST_CHUNK = 16
    if part_seconds is not None:
        import_module("extract.store.part_writer").PART_SECONDS = part_seconds
    advance = forward_pass.ForwardPass._advance

    def advance_slowly(self: Any, *args: Any) -> None:
        advance(self, *args)
        tell(f"done {time.monotonic()} {self._done}")
        time.sleep(pause)

    forward_pass.ForwardPass._advance = advance_slowly


def roomy_disk() -> None:
    """Have a pass believe that there is room, as where another process takes it meanwhile."""
    forward_pass = import_module("extract.forward_pass")
    forward_pass.DISK_RESERVE = -(1 << 50)


def only_so_large(size: int) -> None:
    """No file may grow beyond so many bytes; the system refuses the write, wherever it is made."""
    roomy_disk()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def call_at(place: str, call: int, do: Callable[[tuple], None]) -> None:
    """Do something before a call of a function `module:name` or `module:Class.name`."""
    module, _, dotted = place.partition(":")
    owner: Any = import_module(module)
    *above, name = dotted.split(".")
    for part in above:
        owner = getattr(owner, part)
    numbers = itertools.count(1)
    _before(owner, name, lambda args: next(numbers) == call and do(args))


def error_at(place: str, call: int, error: BaseException) -> None:
    """Raise before a call of a function."""

    def fail(args: tuple) -> None:
        raise error

    call_at(place, call, fail)
