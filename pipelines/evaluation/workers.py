"""Processes that compute beside this one: of threads that search heads, one waits for another."""

import contextlib
import ctypes
import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
# what a worker starts from: where this process finds its packages; Ctrl-C is for this process alone
BEGIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = sys.argv[1:]; from pipelines.evaluation.workers import work; work()"
)
# read by BLAS and OpenMP where they are loaded: a worker is one thread
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# so that a place warns as often as it would here
_WARNED: dict[str | tuple[str, type[Warning], int], int] = {}
ROOT = str(Path(__file__).resolve().parents[2])
LINUX = sys.platform == "linux"
PROTOCOL = pickle.HIGHEST_PROTOCOL


class Workers:
    """Up to `n` processes, each started when it is first needed and ended with `close`.

    A search of heads is made of many short array operations. Python lets one thread at a time go
    between two of them, so two threads take two thirds of one's time, and beside other programs
    more. Processes share nothing. Each imports what it is asked to compute with, and no torch; it
    ends as soon as this process does, however that ends.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._closed = False
        self._beginning = threading.Lock()
        self.started: list[_Worker] = []
        self._threads = ThreadPoolExecutor()
        # idle workers, and None for each that may still be started; the last used first
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(n):
            self._idle.put(None)

    def start(self) -> None:
        """Start all of them now, where they will be needed soon."""
        taken = [self._idle.get() for _ in range(self.n)]
        for worker in taken:
            with contextlib.suppress(OSError):  # it is computed here, then
                worker = worker or self._begun()
            self._idle.put(worker)

    def _begun(self) -> "_Worker":
        with self._beginning:  # none is begun that `close` does not see
            if self._closed:
                raise OSError("these workers are closed: no more can be computed by them")
            worker = _Worker()
            self.started.append(worker)
        return worker

    def call(self, function: Callable, arguments: Callable[[], tuple]) -> Any:
        """What the function returns or raises, from a worker; waits until one is idle.

        Where none can be started, or one is killed, it is computed here.

        function : of a module's top level. arguments : makes those of it, which are sent and let
            go. Both they and what it returns are pickled.
        """
        worker, answer = self._idle.get(), None
        try:
            worker = worker or self._begun()
            worker.send(function, arguments)
            answer = worker.receive()
        except (OSError, EOFError, pickle.UnpicklingError):
            if self._closed:
                raise
        finally:
            if worker and answer is None:  # whatever stopped it in the middle, it is no more asked
                worker.end()
            self._idle.put(worker if answer else None)
        if answer is None:
            return function(*arguments())
        return told(answer)

    def begin(self, make: Callable[[], T]) -> "Future[T]":
        """What `make` returns or raises later, from a thread that calls these workers."""
        return self._threads.submit(make)

    def close(self) -> None:
        """End the processes, whatever they are at."""
        with self._beginning:
            self._closed = True
        for worker in self.started:
            worker.end()
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def told(answer: tuple[bool, Any, list[tuple]]) -> Any:
    """What a function returned or raised in another process; it warns here as it did there."""
    succeeded, found, warned = answer
    for message, category, file, line in warned:
        warnings.warn_explicit(message, category, file, line, registry=_WARNED)
    if not succeeded:
        raise found
    return found


class NotSent(Exception):
    """What a worker found or raised can't be pickled."""


def compute(workers: Workers | None, function: Callable, arguments: Callable[[], tuple]) -> Any:
    """What the function returns, from a worker where there are any."""
    return function(*arguments()) if workers is None else workers.call(function, arguments)


class _Worker:
    """A process that takes (function, arguments) on its stdin and answers on its stdout."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # -P: the folder that one happens to be in holds no modules of ours
            [sys.executable, "-P", "-c", BEGIN, *_paths()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
            start_new_session=True,  # signals of a terminal are answered by this process alone
        )
        assert self._process.stdin
        assert self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, function: Callable, arguments: Callable[[], tuple]) -> None:
        pickle.dump((function, arguments()), self._to, PROTOCOL)
        self._to.flush()

    def receive(self) -> tuple[bool, Any, list[tuple]]:
        try:
            return pickle.load(self._from)
        except ValueError as error:
            if self._from.closed:  # it was ended meanwhile, by another thread
                raise EOFError("the process was ended") from error
            raise

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):  # what was not sent yet
                pipe.close()


def _paths() -> list[str]:
    """Where this process finds its packages, ours among them."""
    paths = [str(path) for path in sys.path if path]
    return paths if ROOT in paths else [*paths, ROOT]


def work() -> None:
    """What a worker does: tasks from stdin, answers to stdout, until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    tasks: queue.SimpleQueue[tuple[Callable, tuple]] = queue.SimpleQueue()
    # read by a thread of its own: it is at once seen when the other process is no more
    threading.Thread(target=_take_tasks, args=(tasks,), daemon=True).start()
    # glibc alone has it, and would keep what it was given
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None) if LINUX else None
    while True:
        answers.write(answer(*tasks.get()))
        answers.flush()
        if give_back:
            give_back(0)


def _take_tasks(tasks: queue.SimpleQueue) -> None:
    try:
        while True:
            tasks.put(pickle.load(sys.stdin.buffer))
    finally:
        os._exit(0)


def answer(function: Callable, arguments: tuple) -> bytes:
    """(whether it returned, what it returned or raised, its warnings), pickled."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            succeeded, found = True, function(*arguments)
        except Exception as error:
            error.add_note(f"in a process that computes beside:\n{traceback.format_exc()}")
            succeeded, found = False, error
    warned = [(str(own.message), own.category, own.filename, own.lineno) for own in caught]
    try:
        packed = pickle.dumps((succeeded, found, warned), PROTOCOL)
        if not succeeded:
            pickle.loads(packed)  # an exception may take more than it was pickled with
        return packed
    except Exception as error:
        return pickle.dumps((False, NotSent(f"{found!r} can't be sent: {error}"), []), PROTOCOL)
