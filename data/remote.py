"""Images on object storage and other file systems that fsspec knows: listed at once, read by name.

A process remembers what it has listed, with sizes and versions, so that no image costs a request
but the one that reads it.
"""

import contextlib
import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

from data.offline import NOT_ALLOWED, is_offline
from data.urls import parent_of, protocol_of

EXTRA = 'pip install "permafrost[remote]"'
IN_MEMORY = "memory"  # the protocol that reaches for no other machine
# of one folder so many files are asked for one by one; then all of it is listed
ASKED_ALONE = 4
LISTED_SECONDS = 600.0  # what was listed is taken as it was for so long
WAITS = (0.5, 2.0)  # seconds before what failed is tried again
REQUESTS = 32  # that wait for an answer at a time
HELD_BYTES = 256 << 20  # of files that were read once and may be read once more
OWN_SECONDS = 3.0  # of a call that failed, from which on it is not made again
LONGEST_REASON = 200
# what a file system tells of a file's content, and of when it was written
VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "VersionId", "version_id")
TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
# a file that was written less than this before it was listed may change again at the same time
SETTLED_SECONDS = 2.0


class Entry(NamedTuple):
    """A file as its listing has it.

    size : in bytes; None where the file system does not tell, as HTTP may not.
    version : what changes with its content; None where nothing that is told does so for sure.
    """

    size: int | None
    version: str | None


NOTHING_KNOWN = Entry(None, None)
Names: TypeAlias = dict[str, Entry | None]  # of a folder: its files, and None for its folders
Given = TypeVar("Given")


class RemoteError(OSError):
    """What another file system can't do, or has refused; `strerror` says why, on one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.strerror = reason


class RemoteEntry(NamedTuple):
    """What lies in a folder, asked as `os.DirEntry` is; object stores know no links."""

    name: str
    path: str
    is_folder: bool

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder."""
        return self.is_folder

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a file."""
        return not self.is_folder

    def is_symlink(self) -> bool:
        """Whether it is a link."""
        return False


class Held:
    """Files that were read once, for as long as there is room and they are not read again."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, Entry], bytes] = {}
        self._room = HELD_BYTES
        self._turn = threading.Lock()

    def hold(self, file: tuple[str, Entry], data: bytes) -> None:
        """Hold the bytes of a file, if they fit."""
        with self._turn:
            if file not in self._files and len(data) <= self._room:
                self._files[file] = data
                self._room -= len(data)

    def give_up(self, file: tuple[str, Entry]) -> bytes | None:
        """The bytes of a file that were held and are so no more; None where they were not."""
        with self._turn:
            data = self._files.pop(file, None)
            self._room += len(data or b"")
            return data

    def clear(self) -> None:
        """Hold nothing more."""
        with self._turn:
            self._room += sum(map(len, self._files.values()))
            self._files.clear()


# what is known of this process; by folder: when it was listed, and its names
_folders: dict[str, tuple[float, Names]] = {}
_asked: Counter[str] = Counter()  # by folder: of how many of its files one was asked alone
_failing: set[str] = set()  # hosts of which the last call failed, however often it was tried
_held = Held()
_listing = threading.Lock()  # threads that meet one folder list it once


def list_below(url: str) -> bool:
    """List all that lies below a URL anew, by one call -> whether it is a folder.

    Raises RemoteError where it can't be listed.
    """
    try:
        found, root = ask(url, _found_below)
    except (FileNotFoundError, NotADirectoryError):
        found, root = {}, ""
    forget(url)
    if not found or (set(found) == {root} and not _is_folder(root, found[root])):
        return False
    _remember(url, root, found)
    return True


def names_in(url: str) -> Names:
    """The names in a folder, which is listed where neither it nor one above it was.

    Raises OSError where it can't be listed.
    """
    known = _known(url)
    if known is None:
        found, root = ask(url, _found_in)
        if root in found and not _is_folder(root, found[root]):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), url)
        # alone: of the folders in it no more is known than their names
        known = {
            name[len(root) :].strip("/"): None if _is_folder(name, info) else _entry(info)
            for name, info in found.items()
            if name.rstrip("/") != root
        }
        _folders[url] = time.time(), known
    return known


def scan(url: str) -> Iterator[RemoteEntry]:
    """What lies in a folder, as `os.scandir` gives it."""
    for name, entry in names_in(url).items():
        yield RemoteEntry(name, f"{url}/{name}", entry is None)


def entry_of(url: str) -> Entry | None:
    """What is known of a file; None for a folder.

    The first files of a folder are asked for alone, since it may hold a million others; with the
    next one it is listed. Of one that shows no names, as a server may, any file counts as there:
    whether it is turns out when it is read. Raises OSError where a file is not there or can't be
    asked for.
    """
    folder, name = parent_of(url), url.rpartition("/")[2]
    with _listing:
        known = _known(folder)
        if known is None and ASKED_ALONE <= _asked[folder] <= 2 * ASKED_ALONE:
            with contextlib.suppress(OSError):
                known = names_in(folder)
        if known is not None and name in known:
            return known[name]
        if _asked[folder] > 2 * ASKED_ALONE:
            return NOTHING_KNOWN
        if known is None:
            _asked[folder] += 1
    info = ask(url, lambda system, path: system.info(path))
    if known is not None:  # it is there, and the listing, which may be older, has it not
        _asked[folder] += 1
    return None if _is_folder(url, info) else _entry(info)


def read_range(url: str, start: int, end: int | None) -> bytes:
    """The bytes of a file from one place to another, by one request; OSError where that fails."""
    return ask(url, lambda system, path: system.cat_file(path, start=start or None, end=end))


def read_start(url: str, many: int) -> bytes:
    """The first bytes of a file, as a rule all of it; OSError where they can't be read.

    An image is read to know which it is, and then to be decoded: what was read is held for a second
    time, which gives it up, as far as there is room. So a set of some thousand photos costs one
    request an image, and so does each block of images where one follows the other.
    """
    known = _known(parent_of(url)) or {}
    entry = known.get(url.rpartition("/")[2])
    if entry is None or entry.version is None:
        return read_range(url, 0, many)
    held = _held.give_up((url, entry))
    if held is not None:
        return held
    data = read_range(url, 0, many)
    _held.hold((url, entry), data)
    return data


def size_of(url: str) -> int:
    """How many bytes a file has; OSError where it can't be asked for."""
    entry = entry_of(url)
    if entry is None or entry.size is None:
        return int(ask(url, lambda system, path: system.size(path)) or 0)
    return entry.size


def version_of(url: str) -> list | None:
    """What changes with a file's content, for JSON; None where nothing is known that does."""
    try:
        entry = entry_of(url)
    except OSError:  # who reads it says why
        return None
    return [entry.size, entry.version] if entry and entry.version else None


def ask(url: str, call: Callable[[Any, str], Given]) -> Given:
    """What a call gives of a file system and a path in it, tried again where it may be of use.

    Raises FileNotFoundError, NotADirectoryError or RemoteError.
    """
    host = _host(url)
    for wait in (None,) if host in _failing else (*WAITS, None):
        started = time.monotonic()
        try:
            given = call(*opened(url))
            _failing.discard(host)
            return given
        except (FileNotFoundError, NotADirectoryError) as error:
            # of many file systems it says a name alone
            code = errno.ENOENT if isinstance(error, FileNotFoundError) else errno.ENOTDIR
            raise type(error)(code, os.strerror(code), url) from error
        except Exception as error:  # each file system has errors of its own: none is passed over
            # what took long has been tried again by the file system itself
            is_last = wait is None or time.monotonic() - started > OWN_SECONDS
            if is_last or _is_final(error):
                if not _is_final(error):
                    _failing.add(host)  # a million images don't wait for it one by one
                raise RemoteError(_reason(url, error)) from error
            time.sleep(wait or 0.0)
    raise AssertionError("the last try gives or raises")


def opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it; RemoteError where it may not be asked."""
    protocol = protocol_of(url)
    if is_offline() and protocol != IN_MEMORY:
        raise RemoteError(NOT_ALLOWED)
    if "::" in url and url.count("://") > 1:
        raise RemoteError(
            "a URL inside another is not read; expected one such as s3://bucket/photos"
        )
    system = _file_system(_host(url), os.getpid())
    return system, system._strip_protocol(url)


def _host(url: str) -> str:
    """A URL up to the first name in it: the bucket or the server."""
    protocol, _, inside = url.partition("://")
    return f"{protocol}://{inside.partition('/')[0]}"


@cache
def _file_system(host: str, process: int) -> Any:
    # by process: its connections don't outlive a fork. fsspec's own memory is one of each thread,
    # which would connect anew
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise RemoteError(f"{host}… is read by fsspec, which is not installed: {EXTRA}") from error
    return url_to_fs(host)[0]


def _found_below(system: Any, root: str) -> tuple[dict[str, Mapping], str]:
    """Everything below a path, by its name there."""
    if not _walks(system):
        system.invalidate_cache()
        return system.find(root, withdirs=True, detail=True), root.rstrip("/")
    # fsspec's own walk passes over folders that can't be read, and the images in them
    found: dict[str, Mapping] = {}
    waiting = [root]
    while waiting:
        inside, _ = _found_in(system, waiting.pop())
        waiting += [name for name, info in inside.items() if info["type"] == "directory"]
        found |= inside
    found.setdefault(root.rstrip("/"), {"type": "directory"})  # there, if empty
    return found, root.rstrip("/")


def _found_in(system: Any, root: str) -> tuple[dict[str, Mapping], str]:
    system.invalidate_cache()
    return {info["name"]: info for info in system.ls(root, detail=True)}, root.rstrip("/")


def _walks(system: Any) -> bool:
    """Whether a file system can't list all that lies below a folder at once."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    if isinstance(system, AsyncFileSystem):
        return type(system)._find is AsyncFileSystem._find
    return type(system).find is AbstractFileSystem.find


def _remember(url: str, root: str, found: Mapping[str, Mapping]) -> None:
    """Keep what was found at or below a folder, by folder."""
    now, below = time.time(), {url: Names()}
    for name, info in found.items():
        inside = name[len(root) :].strip("/")
        if inside:
            _place(below, url, inside, None if _is_folder(name, info) else _entry(info))
    _folders.update({folder: (now, names) for folder, names in below.items()})


def _place(below: dict[str, Names], url: str, inside: str, entry: Entry | None) -> None:
    """One more name, and the folders above it, of which a store may have no entries."""
    folder, _, name = f"{url}/{inside}".rpartition("/")
    if folder not in below:
        below[folder] = {}
        _place(below, url, folder[len(url) + 1 :], None)
    if entry is None:
        below[folder].setdefault(name, None)
        below.setdefault(f"{folder}/{name}", {})
    else:
        below[folder][name] = entry


def forget(url: str = "") -> None:
    """Forget what was listed at or below a URL, by default all, and whatever was read."""
    _held.clear()
    for known in (_folders, _asked):
        for folder in list(known):
            if not url or folder == url or folder.startswith(f"{url}/"):
                known.pop(folder)


def _known(folder: str) -> Names | None:
    """The names of a folder that was listed not long ago."""
    listed, names = _folders.get(folder, (0.0, None))
    return names if time.time() - listed < LISTED_SECONDS else None


def _is_folder(name: str, info: Mapping) -> bool:
    # a key that ends so is what programs put in place of a folder
    return info.get("type") == "directory" or name.endswith("/")


def _entry(info: Mapping) -> Entry:
    told = [f"{name}={info[name]}" for name in (*VERSIONS, *TIMES) if info.get(name)]
    is_sure = any(info.get(name) for name in VERSIONS) or _is_settled(info)
    return Entry(info.get("size"), "|".join(told) if is_sure else None)


def _is_settled(info: Mapping) -> bool:
    """Whether the times that are told lie so far back that they would tell another writing."""
    times = [_seconds(info[name]) for name in TIMES if info.get(name)]
    return bool(times) and time.time() - max(times) >= SETTLED_SECONDS


def _seconds(when: Any) -> float:
    """A time as one file system or another tells it; one that is not understood is not over yet."""
    with contextlib.suppress(TypeError, ValueError):
        return when.timestamp() if isinstance(when, datetime) else float(when)
    with contextlib.suppress(TypeError, ValueError):
        return datetime.fromisoformat(when).timestamp()
    return float("inf")


def _is_final(error: Exception) -> bool:
    """Whether the same call would fail again."""
    return isinstance(error, (RemoteError, PermissionError, ImportError, ValueError, TypeError))


def _reason(url: str, error: Exception) -> str:
    """Why a call failed, in plain words on one line."""
    if isinstance(error, ImportError):
        return (
            f"{protocol_of(url)}:// needs a package that is not installed: {_package(url, error)}"
        )
    if isinstance(error, ValueError) and "rotocol" in str(error):
        return f"fsspec knows no protocol {protocol_of(url)}; expected one such as s3, gs or az"
    said = next((words for kind, words in REASONS if isinstance(error, kind)), None)
    if said is not None:
        return said
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text[:LONGEST_REASON] or type(error).__name__


def _package(url: str, error: ImportError) -> str:
    """What to install for a protocol, by fsspec's own table."""
    from fsspec.registry import known_implementations

    place = known_implementations.get(protocol_of(url), {}).get("class", "")
    room = place.partition(".")[0]
    return f"pip install {room}" if room not in ("", "fsspec") else " ".join(str(error).split())


# what is said of errors that many file systems have in common; the first that fits
REASONS: tuple[tuple[type[Exception], str], ...] = (
    (PermissionError, "permission denied"),
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "the connection was refused"),
)
