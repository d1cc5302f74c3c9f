"""Bytes written aside, synced, then renamed, so that a reader never sees half a file."""

import contextlib
import errno
import os
import shutil
import stat
import threading
import uuid
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

# of a process that is told to end: what has rows that are not on the disk yet, and what is half
# written; the lock is never given back by the thread that drops it
keeping: set[object] = set()
_unfinished: set[Path] = set()
_naming = threading.RLock()
O_BINARY = getattr(os, "O_BINARY", 0)  # Windows alone tells text from bytes here


class NoFile(ValueError):
    """No plain file is there, but a folder, a FIFO, a device, a link to itself or to nothing."""


def opened(path: Path) -> BufferedReader:
    """A plain file opened for reading, waiting for nobody.

    Raises NoFile for anything else, and OSError where it can't be opened or is gone.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: that can move a device
            raise NoFile(f"{path} is no plain file")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | O_BINARY)
    except OSError as error:
        # with a link in its place it has not gone meanwhile
        gone = error.errno == errno.ENOENT and os.path.islink(path)
        if gone or error.errno == errno.ELOOP:
            raise NoFile(f"{path} is a link that leads to no file") from error
        raise
    file = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise NoFile(f"{path} is no plain file")
    return file


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; left without an error, it is synced and renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}")
    with half_written(aside):
        yield aside
        sync_file(aside)
        os.replace(aside, path)
        sync_folder(path.parent)


@contextlib.contextmanager
def half_written(path: Path) -> Iterator[None]:
    """Within it a temporary file or folder is known as such; afterwards it is gone."""
    with _naming:
        _unfinished.add(path)
    try:
        yield
    finally:
        _drop(path)
        _unfinished.discard(path)


def drop_unfinished() -> None:
    """Remove what is half written, of all threads; nothing is begun any more."""
    _naming.acquire()
    for path in list(_unfinished):
        with contextlib.suppress(OSError):
            _drop(path)


def _drop(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def sync_file(path: Path) -> None:
    """Have the file's bytes on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the folder's names on the disk; Windows can't open a folder and needs none of it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
