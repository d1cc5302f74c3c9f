"""Bytes written aside, synced, then renamed, so that a reader never sees half a file."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import cache, partial
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

# of a process that is told to end: what has rows that are not on the disk yet, and what is half
# written; the lock is never given back by the thread that drops it
keeping: set[object] = set()
_unfinished: set[Path] = set()
_naming = threading.RLock()
_read_only: ContextVar[bool] = ContextVar("read_only", default=False)
USED_SECONDS = 3600.0  # a use is noted once in this time
ABANDONED = re.compile(r"\.tmp-(?P<host>[0-9a-f]{12})-(?P<process>[0-9]{1,10})-[0-9a-f]{8}")
CHECKSUM_BYTES = 32  # hex digits
HEAD = b'{"blake2b": "%s",\n "value": '
HEAD_BYTES = len(HEAD % bytes(CHECKSUM_BYTES))
LONGEST_REMEMBERED = 256 << 20
READ_BYTES = 1 << 20
TRIES = 5  # of writing into a folder that others remove
O_BINARY = getattr(os, "O_BINARY", 0)  # Windows alone tells text from bytes here


Written = TypeVar("Written")


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


def again_where_gone(write: Callable[[], Written]) -> Written:
    """Call what makes a folder and writes into it; again where it is removed under it."""
    for left in reversed(range(TRIES)):
        try:
            return write()
        except (FileNotFoundError, FileExistsError):  # mkdir finds it there, then not
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """Within it, in this thread, every file is as on a disk that can only be read."""
    before = _read_only.set(True)
    try:
        yield
    finally:
        _read_only.reset(before)


def refuse_writing() -> None:
    """OSError where nothing is to be written."""
    if _read_only.get():
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; left without an error, it is synced and renamed."""
    refuse_writing()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".tmp-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
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
    """Replace a text file as a whole; a folder in its place is moved away."""
    _make_way(path)
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_remembered(path: Path, value: Any) -> None:
    """Replace a JSON file that `read_remembered` reads; a folder in its place is moved away.

    Raises OSError where it can't be written.
    """
    body = json.dumps(value).encode() + b"}\n"
    _make_way(path)
    with written_aside(path) as aside:
        aside.write_bytes(HEAD % _checksum(path, [body]) + body)


def _make_way(path: Path) -> None:
    """Anything but a folder is replaced by renaming."""
    refuse_writing()
    if path.is_dir() and not path.is_symlink():
        os.replace(path, path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}.damaged"))


def read_remembered(path: Path) -> Any:
    """The value as it was written under this name; None where it is not, whatever is there."""
    # a value is a convenience: what can't be read is forgotten and found out anew
    with contextlib.suppress(OSError, ValueError, RecursionError, MemoryError):
        with opened(path) as file:
            if os.fstat(file.fileno()).st_size > LONGEST_REMEMBERED:
                return None
            data = file.read()
        head, body = data[:HEAD_BYTES], data[HEAD_BYTES:]
        if head == HEAD % _checksum(path, [body]):
            return json.loads(body[:-2])
    return None


def write_sealed(path: Path, body: bytes) -> None:
    """Replace a file of any bytes that `read_sealed` reads; OSError where it can't be written."""
    with written_aside(path) as aside, open(aside, "wb") as file:
        file.write(_checksum(path, [body]))
        file.write(body)


def read_sealed(path: Path) -> bytes | None:
    """The bytes as they were written under this name; None where they are not, as above."""
    with contextlib.suppress(OSError, NoFile, MemoryError), opened(path) as file:
        said = file.read(CHECKSUM_BYTES)
        body = file.read()
        if said == _checksum(path, [body]):
            return body
    return None


def is_sealed(path: Path) -> bool:
    """Whether `read_sealed` reads the file, which is not taken into memory for it.

    Raises OSError where it can't be read, which says nothing of its bytes.
    """
    with contextlib.suppress(NoFile), opened(path) as file:
        said = file.read(CHECKSUM_BYTES)
        return said == _checksum(path, iter(partial(file.read, READ_BYTES), b""))
    return False


def _checksum(path: Path, pieces: Iterable[bytes]) -> bytes:
    """Of the name, too: of two files that were swapped neither is believed."""
    digest = hashlib.blake2b(os.fsencode(path.name) + b"\n", digest_size=CHECKSUM_BYTES // 2)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest().encode()


def remove_abandoned(folder: Path) -> None:
    """Remove what processes of this machine that live no more left half written in a folder.

    Of other machines' nothing can be said, by no clock either: it stays.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_abandoned(entry.name):
                with contextlib.suppress(OSError):  # another process was first
                    os.unlink(entry.path)


def is_abandoned(name: str) -> bool:
    """Whether a process of this machine that lives no more left a file of this name."""
    named = ABANDONED.match(name)
    if named is None or named["host"] != _host():
        return False
    return not _is_alive(int(named["process"]))


@cache
def _host() -> str:
    """This machine since it was started, and what its process numbers are counted in."""
    told = [socket.gethostname(), str(uuid.getnode())]
    with contextlib.suppress(OSError):
        told = [socket.gethostname(), Path("/proc/sys/kernel/random/boot_id").read_text()]
        told.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.blake2b("|".join(told).encode(), digest_size=6).hexdigest()


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # to ask there is to end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's
        return True
    return True


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
    # no access time: file systems are mounted without them; a link in its place is no way out
    follow = os.utime not in os.supports_follow_symlinks
    with contextlib.suppress(OSError):
        refuse_writing()
        if time.time() - path.lstat().st_mtime > USED_SECONDS:
            os.utime(path, follow_symlinks=follow)
