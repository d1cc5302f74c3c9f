"""Decoding in a process of its own, which is ended when it takes too long or too much memory."""

import atexit
import contextlib
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from data.values import Values

LIMIT = 10.0  # seconds for a file
START = 60.0  # seconds for a process to import Pillow on a loaded machine
SLACK = 5.0  # seconds in which a decoder is ended by its parent, before it ends by itself
STRIP = 2**22  # bytes of pixels that are sent at once
BASE = 2**28  # bytes that a decoder may take besides what its file is estimated at

_LENGTH = struct.Struct("<Q")
_BEGIN = "import sys; sys.path[:] = {paths!r}; from data.apart import serve; serve()"


class TooLong(Exception):
    """The limit passed before the file was decoded."""


class Ended(Exception):
    """The process ended by itself."""


class Decoder:
    """A child process that decodes one file at a time, for as long as it is of use."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[1])
        paths = [root, *(path for path in sys.path if path)]
        self._process = subprocess.Popen(
            # -P: the folder that one happens to be in holds no modules of ours
            [sys.executable, "-P", "-c", _BEGIN.format(paths=paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # one thread for BLAS: its others would take address space
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            # Ctrl-C is for the parent
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin: IO[bytes] = self._process.stdin
        self._stdout: IO[bytes] = self._process.stdout
        self._late = False
        with self._at_most(START):
            self._read(1)

    def run(self, name: str, arguments: tuple, memory: int, limit: float) -> Any:
        """What the function `name` of `data.images` gives, or its ValueError."""
        request = pickle.dumps((name, arguments, memory, limit))
        try:
            self._stdin.write(_LENGTH.pack(len(request)))
            self._stdin.write(request)
            self._stdin.flush()
            with self._at_most(limit):
                answer = json.loads(self._read(*_LENGTH.unpack(self._read(_LENGTH.size))))
            if "error" in answer:
                raise ValueError(str(answer["error"]))
            with self._at_most(START):
                return self._received(answer)
        except BrokenPipeError:
            raise Ended from None

    def _received(self, answer: dict) -> Any:
        """What `_described` describes; no pickles, as a broken image may have taken the child."""
        ((kind, what),) = answer.items()
        if kind == "image":
            return self._image(*what)
        if kind == "array":
            dtype, shape = np.dtype(what[0]), what[1]
            return np.frombuffer(self._read(dtype.itemsize * math.prod(shape)), dtype).reshape(
                shape
            )
        if kind == "tuple":
            return tuple(self._received(one) for one in what)
        if kind == "values":
            return Values(**{name: self._received(one) for name, one in what.items()})
        return what

    def _image(self, width: int, height: int) -> Image.Image:
        """An RGB image, strip by strip: a copy of all its bytes is never in memory."""
        image = Image.new("RGB", (width, height))
        for top, bottom in _strips(width, height):
            raw = self._read(3 * width * (bottom - top))
            image.paste(Image.frombytes("RGB", (width, bottom - top), raw), (0, top))
        return image

    def _read(self, size: int) -> bytes:
        data = self._stdout.read(size)
        if len(data) < size:
            raise TooLong if self._late else Ended
        return data

    @contextlib.contextmanager
    def _at_most(self, seconds: float) -> Any:
        """The process is killed when the time is over, which ends every read from it."""
        timer = threading.Timer(seconds, self._kill_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _kill_late(self) -> None:
        self._late = True
        self._process.kill()

    @property
    def process(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take another file."""
        return not self._late and self._process.poll() is None

    def stop(self) -> None:
        """End it now."""
        self._process.kill()
        with contextlib.suppress(OSError):
            self._stdin.close()
        self._stdout.close()
        self._process.wait()

    def forget(self) -> None:
        """Close the pipes of a process that is another's."""
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                os.close(pipe.fileno())
        self._process.returncode = 0  # so that nobody waits for it


class _Decoders:
    """Those that are idle, and all there are: one for each thread that needs one at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[Decoder] = []
        self.all: set[Decoder] = set()

    def borrow(self) -> Decoder:
        with self.lock:
            while self.idle:
                decoder = self.idle.pop()
                if decoder.alive:
                    return decoder
                self.all.discard(decoder)
                decoder.stop()
        decoder = Decoder()
        with self.lock:
            self.all.add(decoder)
        return decoder

    def give_back(self, decoder: Decoder) -> None:
        with self.lock:
            self.idle.append(decoder)

    def drop(self, decoder: Decoder) -> None:
        with self.lock:
            self.all.discard(decoder)
        decoder.stop()

    def stop(self) -> None:
        with self.lock:
            for decoder in self.all:
                decoder.stop()
            self.all.clear()
            self.idle.clear()


_decoders = _Decoders()


def stop_decoders() -> None:
    """End all processes that decode; they are started anew when they are needed."""
    _decoders.stop()


def decoders() -> list[int]:
    """Numbers of the processes that there are."""
    with _decoders.lock:
        return [decoder.process for decoder in _decoders.all]


atexit.register(stop_decoders)


def _after_fork() -> None:
    global _decoders
    theirs, _decoders = _decoders.all, _Decoders()
    for decoder in theirs:
        decoder.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run_apart(name: str, arguments: tuple, memory: int, limit: float | None = None) -> Any:
    """What a function of `data.images` gives for arguments that can be pickled.

    name: the function; it gives RGB images, Values, arrays, what JSON knows, or tuples of them.
    memory: bytes it is estimated to take. Raises TooLong, Ended, or ValueError with what the
    function raised.
    """
    decoder = _decoders.borrow()
    whole = False
    try:
        result = decoder.run(name, arguments, memory, LIMIT if limit is None else limit)
        whole = True
        return result
    except ValueError:
        whole = True
        raise
    finally:
        if whole and decoder.alive:
            _decoders.give_back(decoder)
        else:
            _decoders.drop(decoder)


def serve() -> None:
    """Decode what comes on stdin until it ends; run in the child."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # what a library prints must not be taken for an answer
    os.dup2(2, 1)
    from data import images

    answers.write(b"\1")
    answers.flush()
    while head := requests.read(_LENGTH.size):
        name, arguments, memory, limit = pickle.loads(requests.read(*_LENGTH.unpack(head)))
        function = getattr(images, name)
        ends = _ends_with_parent(requests.fileno(), limit)
        for piece in _answer(function, arguments, ends, memory):
            answers.write(piece)
        answers.flush()


def _answer(
    function: Any, arguments: tuple, ends: AbstractContextManager, memory: int
) -> Iterable[bytes]:
    try:
        with ends, _limited_memory(memory):
            found = function(*arguments)
    except Exception as error:  # whatever a plugin raises is the file's, and the parent's to tell
        text = "does not fit in memory" if isinstance(error, MemoryError) else str(error)
        yield from _message({"error": " ".join(text.split()) or type(error).__name__})
        return
    pieces: list[Iterable[bytes]] = []
    yield from _message(_described(found, pieces))
    for piece in pieces:
        yield from piece


def _described(value: Any, pieces: list[Iterable[bytes]]) -> dict:
    """A value in JSON; pixels and numbers are appended to `pieces`, which are sent after it."""
    match value:
        case Image.Image():
            strips = _strips(*value.size)
            pieces.append(
                value.crop((0, top, value.width, bottom)).tobytes() for top, bottom in strips
            )
            return {"image": value.size}
        case np.ndarray():
            pieces.append([np.ascontiguousarray(value).tobytes()])
            return {"array": [value.dtype.str, value.shape]}
        case Values():
            fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
            return {"values": {name: _described(one, pieces) for name, one in fields.items()}}
        case tuple():
            return {"tuple": [_described(one, pieces) for one in value]}
    return {"plain": value}


def _message(answer: dict) -> Iterable[bytes]:
    text = json.dumps(answer).encode()
    yield _LENGTH.pack(len(text))
    yield text


def _strips(width: int, height: int) -> Iterable[tuple[int, int]]:
    step = max(1, STRIP // (3 * width))
    return ((top, min(top + step, height)) for top in range(0, height, step))


@contextlib.contextmanager
def _ends_with_parent(requests: int, limit: float) -> Any:
    """Nothing outlives its parent, nor its limit, even in one long call of a library."""
    if sys.platform == "win32":
        yield
        return
    import fcntl
    import select
    import signal

    # the kernel ends us by either signal: by the alarm, and where the pipe's other end is closed
    signal.setitimer(signal.ITIMER_REAL, limit + SLACK)
    flags = fcntl.fcntl(requests, fcntl.F_GETFL)
    fcntl.fcntl(requests, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(requests, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        # of a parent that ended before, no signal comes; and it sends nothing before our answer
        if select.select([requests], [], [], 0)[0]:
            raise SystemExit
        yield
    finally:
        fcntl.fcntl(requests, fcntl.F_SETFL, flags)
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _limited_memory(memory: int) -> Any:
    if sys.platform == "win32":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + BASE + memory
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
