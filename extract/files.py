"""Bytes written aside, synced, then renamed, so that a reader never sees half a file."""

import contextlib
import errno
import os
import stat
import time
import uuid
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

USED_SECONDS = 3600.0  # a use is noted once in this time
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
    try:
        yield aside
        sync_file(aside)
        os.replace(aside, path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


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


def note_use(path: Path) -> None:
    """Have the time of a file say when it was last used, to the hour."""
    # no access time: file systems are mounted without them
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > USED_SECONDS:
            os.utime(path)
