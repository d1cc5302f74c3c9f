"""Ctrl-C, SIGTERM and SIGHUP end a command in one line and with the right exit code, at any moment.

The first raises KeyboardInterrupt, so that what is computed is kept; what takes longer than GRACE
is cut, and a second one ends at once.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
NOTHING, ALL = "nothing was begun", "all was done"
GRACE = 1.0  # seconds to end in, for all but a pass
LONGEST = 10.0  # seconds for a pass to write what it has computed
SAME = 0.2  # `timeout` and wrappers send a signal twice: so soon it counts as one


class _Signals:
    """What this process does on a signal: a thread waits for it, whatever the main one does."""

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._stderr = os.dup(2)
        self._ending = threading.Lock()
        self._raised = False
        self.first = 0  # the signal's number
        self.inside = False  # whether an exception in the main thread ends in one line
        self.kept = NOTHING

    def watch(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # Python's own handlers wait for the main thread, which may be in one long call. The thread
        # is told before the first of them is there: a signal in between would be heard by none.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._wait, args=(reading,), daemon=True).start()
        for name in WORDS:
            number = getattr(signal, name, signal.SIGINT)  # Windows knows no SIGHUP
            if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` asks for that
                self._watched.add(number)
                signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._begin(number)
        if self.inside and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _begin(self, number: int) -> None:
        if not self.first:
            self.first = number
            # threads and libraries that are torn down say much, and none of it helps
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def _wait(self, reading: int) -> None:
        self._begin(self._next(reading))
        threading.Thread(target=self._lose_patience, daemon=True).start()
        began = time.monotonic()
        while True:
            self._next(reading)
            if time.monotonic() - began > SAME:
                self.end()

    def _next(self, reading: int) -> int:
        """Wait for a signal of ours: a library may handle others."""
        while (number := os.read(reading, 1)[0]) not in self._watched:
            pass
        return number

    def _lose_patience(self) -> None:
        began = time.monotonic()
        files = sys.modules.get("extract.files")
        while self.inside and time.monotonic() - began < LONGEST:
            if time.monotonic() - began >= GRACE and not (files and files.keeping):
                break
            time.sleep(0.02)
        self.end()

    def end(self, kept: str | None = None) -> None:
        """Say what was kept, drop what is half written, and leave; the first call alone does."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()
        word = WORDS[signal.Signals(self.first).name]
        # over the bar, where there is one
        clear = "\r\x1b[K" if os.isatty(self._stderr) else ""
        with contextlib.suppress(OSError):  # a terminal that was closed
            os.write(self._stderr, f"{clear}{word}: {kept or self.kept}\n".encode())
        if files := sys.modules.get("extract.files"):
            files.drop_unfinished()
        os._exit(128 + self.first)


_signals: _Signals | None = None


def watch_signals() -> None:
    """Answer the signals of this process from now on: for a command, before it imports much."""
    global _signals
    if _signals is None and threading.current_thread() is threading.main_thread():
        with contextlib.suppress(OSError):  # without a stderr there is nobody to tell
            _signals = _Signals()
            _signals.watch()


class raising:
    """Within it a signal raises KeyboardInterrupt; a process whose signals are watched ends so.

    kept : what the one line says where an exception does not.
    """

    def __init__(self, kept: str) -> None:
        self._kept = kept

    def __enter__(self) -> None:
        if _signals:
            _signals.kept = self._kept
            _signals.inside = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if _signals:
            _signals.inside = False
            _signals.kept = self._kept if kind else ALL
            if _signals.first:  # whatever became of the exception on its way
                with contextlib.suppress(OSError, ValueError):
                    sys.stdout.flush()
                said = str(error) if kind and issubclass(kind, KeyboardInterrupt) else ""
                _signals.end(said.partition(": ")[2] or None)
