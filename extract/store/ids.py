"""Which image it is: a 128-bit id of its bytes, remembered by file so that it is read once."""

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data import ImageError, open_image
from data.held import held_name, reading_held
from data.images import held_bytes, read_blocks
from data.remote import REQUESTS, version_of
from data.urls import has_urls, is_url
from extract.files import note_use, read_remembered, remove_abandoned, write_remembered

ID_BYTES = 16
SETTLED_SECONDS = 2.0  # a file changed less than this before it was read is not remembered
ID_BLOCK = 64  # small files take less than a task of their own: threads get blocks of them


def bytes_id(data: bytes) -> bytes:
    """Id of an image file's bytes."""
    digest = hashlib.blake2b(b"file", digest_size=ID_BYTES)
    digest.update(data)
    return digest.digest()


def file_id(path: str | os.PathLike) -> bytes:
    """Id of an image file's bytes, which are never in memory all at once."""
    digest = hashlib.blake2b(b"file", digest_size=ID_BYTES)
    for block in read_blocks(path):
        digest.update(block)
    return digest.digest()


def pixels_id(pixels: np.ndarray) -> bytes:
    """Id of an in-memory RGB image, uint8 (height, width, 3)."""
    shape = "x".join(str(side) for side in pixels.shape)
    head = f"pixels{shape}|".encode()
    digest = hashlib.blake2b(head, digest_size=ID_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def known_ids(inputs: Sequence, memory: "IdMemory") -> tuple[np.ndarray, dict[int, ImageError]]:
    """As `image_ids` without reading a file: zeros for one whose id is not remembered."""
    ids = np.zeros((len(inputs), ID_BYTES), np.uint8)
    bad: dict[int, ImageError] = {}
    for row, item in enumerate(inputs):
        is_path = isinstance(item, (str, os.PathLike))
        found = memory.recall(item) if is_path else _input_id(item, None)
        if isinstance(found, ImageError):
            bad[row] = found
        elif found:
            ids[row] = np.frombuffer(found, np.uint8)
    return ids, bad


def image_ids(
    inputs: Sequence, memory: Path | None = None, threads: int = 2
) -> tuple[np.ndarray, dict[int, ImageError]]:
    """Paths or in-memory images -> (ids (n, 16) uint8, {row: ImageError} of what can't be read).

    Ids of files are remembered below `memory` by real path, size, times and inode, those of URLs
    by what their file system tells of a version.
    """
    known = IdMemory(memory) if memory else None
    ids = np.zeros((len(inputs), ID_BYTES), np.uint8)
    bad: dict[int, ImageError] = {}

    def find(block: range) -> None:
        for row in block:
            found = _input_id(inputs[row], known)
            if isinstance(found, ImageError):
                bad[row] = found
            else:
                ids[row] = np.frombuffer(found, np.uint8)

    step = ID_BLOCK
    if has_urls(inputs):  # who reads from elsewhere waits for answers, and not for a core
        step, threads = 1, max(threads, REQUESTS)
    blocks = [range(at, min(at + step, len(inputs))) for at in range(0, len(inputs), step)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(find, blocks))
    if known:
        known.save()
    return ids, dict(sorted(bad.items()))


def _input_id(item: Any, known: "IdMemory | None") -> bytes | ImageError:
    try:
        if not isinstance(item, (str, os.PathLike)):
            data = held_bytes(item)
            return pixels_id(np.asarray(open_in_memory(item))) if data is None else bytes_id(data)
        return known.find(item) if known else file_id(item)
    except ImageError as error:
        return error


def open_in_memory(item: Any) -> Image.Image:
    """The RGB image of a PIL image or an array, its pixels read; ImageError where they can't be."""
    if isinstance(item, Image.Image):
        try:
            with reading_held:
                item.load()
        except (OSError, SyntaxError, ValueError, EOFError, AssertionError) as error:
            raise ImageError(held_name(item), f"its pixels can't be read: {error}") from error
    return open_image(item)


class IdMemory:
    """Image ids by file, one small JSON file for each folder of images, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._loaded: dict[str, dict] = {}
        self._changed: dict[str, dict] = {}
        self._real: dict[str, str] = {}

    def find(self, path: str | os.PathLike) -> bytes:
        """The id of a file, remembered where its size, times and inode are those of then."""
        remembered = self.recall(path)
        if remembered:
            return remembered
        key, started = file_key(path), time.time()
        found = file_id(path)
        self.learn(path, settled(path, key, started), found)
        return found

    def recall(self, path: str | os.PathLike) -> bytes | None:
        """The id of a file that is as it was when it was read; the file is not read."""
        real = self._real_path(os.fspath(path))
        parent, name = os.path.split(real)
        return _remembered_id(self._entries(parent).get(name), file_key(real))

    def learn(self, path: str | os.PathLike, key: list | None, found: bytes) -> None:
        """Remember the id that a file was found to have; without a settled key nothing is."""
        if key:
            parent, name = os.path.split(self._real_path(os.fspath(path)))
            self._changed.setdefault(parent, {})[name] = [*key, found.hex()]

    def _real_path(self, path: str) -> str:
        """As `os.path.realpath`, but the folders above a file are looked at once a folder."""
        if is_url(path):
            return path
        if os.path.islink(path):
            return os.path.realpath(path)
        parent, name = os.path.split(path)
        if name in ("", os.curdir, os.pardir):
            return os.path.realpath(path)
        if parent not in self._real:
            self._real[parent] = os.path.realpath(parent)
        return os.path.join(self._real[parent], name)

    def save(self) -> None:
        """Add what was learnt to the files; what other processes added stays."""
        # a cache that can only be read still gives what it holds
        with contextlib.suppress(OSError):
            for parent, rows in self._changed.items():
                write_remembered(self._file(parent), self._read(parent) | rows)
        if self._changed:
            remove_abandoned(self._folder)
        self._changed = {}

    def _entries(self, parent: str) -> dict:
        if parent not in self._loaded:
            self._loaded[parent] = self._read(parent)
            note_use(self._file(parent))
        return self._loaded[parent]

    def _file(self, parent: str) -> Path:
        digest = hashlib.blake2b(os.fsencode(parent), digest_size=ID_BYTES).hexdigest()
        return self._folder / f"{digest}.json"

    def _read(self, parent: str) -> dict:
        rows = read_remembered(self._file(parent))
        return rows if isinstance(rows, dict) else {}


def _remembered_id(row: Any, key: list | None) -> bytes | None:
    # a row that isn't of our making counts as none
    with contextlib.suppress(TypeError, ValueError):
        if key and row and row[:-1] == key:
            found = bytes.fromhex(row[-1])
            return found if len(found) == ID_BYTES else None
    return None


def file_key(path: str | os.PathLike) -> list | None:
    """What changes with a file's content; None where nothing does for sure."""
    if is_url(path):
        return version_of(os.fspath(path))
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def settled(path: str | os.PathLike, key: list | None, started: float) -> list | None:
    """The key of a file that did not change while it was read, nor shortly before; else None.

    One written to within the clock's grain of the read could change again without changing its
    key. What a file system elsewhere tells of a version is no time of ours.

    key : from before the read. started : the time then, in seconds since 1970.
    """
    if key is None or key != file_key(path):
        return None
    is_old = is_url(path) or started - max(key[1], key[2]) / 1e9 >= SETTLED_SECONDS
    return key if is_old else None
