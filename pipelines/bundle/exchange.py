"""A folder that takes the place of another in one step: at every moment one of the two is there."""

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from extract.files import half_written, sync_file, sync_folder

AT_FDCWD = -100
RENAME_EXCHANGE = 2  # Linux: renameat2
RENAME_SWAP = 2  # macOS: renamex_np
LEFTOVER = re.compile(r"\.tmp-([0-9a-f]{8})-(\d{1,10})-([0-9a-f]{8})-[0-9a-f]{8}")


@contextlib.contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` as a whole, unless an error leaves it.

    What dead processes left beside it is cleared.
    """
    folder = Path(os.path.realpath(folder))  # a link stays one
    folder.parent.mkdir(parents=True, exist_ok=True)
    _restore(folder)
    with new_folder_in(folder.parent) as aside:
        yield aside
        sync_tree(aside)
        _put_in_place(aside, folder)
        sync_folder(folder.parent)


@contextlib.contextmanager
def new_folder_in(parent: Path) -> Iterator[Path]:
    """A new folder in a temporary one of `parent`: what is in that is gone afterwards.

    What dead processes left there is cleared.
    """
    clear_leftovers(parent)
    work = parent / f".tmp-{_place()}-{os.getpid()}-{_start(os.getpid())}-{_random()}"
    aside = work / "new"
    with half_written(work):
        aside.mkdir(parents=True)
        yield aside


def find_folder(folder: Path) -> Path:
    """The folder, or the one that waits beside it where a replacement was cut off half way."""
    for _ in range(3):  # it may come and go between two looks
        for place in (folder, waiting_place(folder)):
            if place.is_dir():
                return place
    return folder


def waiting_place(folder: Path) -> Path:
    """Where the old folder waits while the new one takes its place, if they can't be exchanged."""
    folder = Path(os.path.realpath(folder))
    return folder.with_name(f".old-{folder.name}")


def clear_leftovers(parent: Path) -> None:
    """Remove the temporary folders of processes that are no more; of another machine's none."""
    for entry in list(os.scandir(parent)):
        match = LEFTOVER.fullmatch(entry.name)
        if match is None or match[1] != _place():
            continue
        if _start(int(match[2])) != match[3]:
            shutil.rmtree(entry.path, ignore_errors=True)


def _restore(folder: Path) -> None:
    """Finish what a killed replacement without exchange began: an old folder that waits goes back,
    or away where the new one is in place."""
    waiting = waiting_place(folder)
    if not waiting.is_dir():
        return
    if folder.exists():
        shutil.rmtree(waiting)
    else:
        waiting.rename(folder)


def _put_in_place(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.rename(folder)
    elif not exchange(new, folder):
        waiting = waiting_place(folder)
        folder.rename(waiting)  # from here to the next line a reader finds it waiting
        try:
            new.rename(folder)
        except OSError:
            waiting.rename(folder)
            raise
        shutil.rmtree(waiting)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step -> whether this system and its file system can."""
    call = _find_exchange()
    return call is not None and call(os.fsencode(one), os.fsencode(other)) == 0


def _find_exchange() -> Callable[[bytes, bytes], int] | None:
    if os.name != "posix":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        swap = getattr(library, "renamex_np", None)
        return swap and (lambda one, other: swap(one, other, RENAME_SWAP))
    rename = getattr(library, "renameat2", None)
    return rename and (lambda one, other: rename(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE))


def sync_tree(folder: Path) -> None:
    """Have all below a folder on the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(place, name))
        sync_folder(Path(place))


def _random() -> str:
    return uuid.uuid4().hex[:8]


def _place() -> str:
    """8 hex digits for this machine and its numbering of processes."""
    numbering = ""
    with contextlib.suppress(OSError):
        numbering = os.readlink("/proc/self/ns/pid")
    return _digest(socket.gethostname(), numbering)


def _start(pid: int) -> str | None:
    """8 hex digits that tell a process from a later one of its number; None where it is no more."""
    with contextlib.suppress(OSError, IndexError):
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return _digest(Path("/proc/sys/kernel/random/boot_id").read_text(), start)
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            pass
    return _digest()


def _digest(*parts: str) -> str:
    return hashlib.blake2b("|".join(parts).encode(), digest_size=4).hexdigest()
