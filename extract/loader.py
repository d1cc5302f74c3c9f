"""Images decoded on all cores and handed over in batches; only a few batches are ever in memory."""

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from data import ImageError, Reading, decode_noted, read_bytes
from data.held import held_name
from data.images import held_bytes
from data.memory import budget
from data.remote import REQUESTS
from data.thumbnails import make_both
from data.urls import has_urls, is_url
from extract.augmentation import Augmented
from extract.cores import cores
from extract.errors import ExtractError
from extract.store.ids import ID_BYTES, bytes_id, open_in_memory, pixels_id

SHARES = (
    8  # tasks a core gets of each batch: few, since small images are quick; yet they end together
)
JPEG = b"\xff\xd8\xff"  # how a file of the one format begins that is decoded at a smaller scale


@dataclass(frozen=True)
class FileBytes:
    """An image file that was read already: its name, all its bytes and their id."""

    name: str
    data: bytes
    found: bytes


@dataclass(frozen=True)
class Decoding:
    """What becomes of an image, and of a batch of them.

    preprocessings: one or more, each from an RGB image to pixels of the network; the first's
    `at_least`, if any, says from which shorter side on a JPEG may be scaled down for all of them.
    stack: from a list of equal arrays to one. thumbnails: rows whose thumbnail is made too.
    reading: how files become RGB images. picture_side: longer side of the pictures that are handed
    over beside the pixels, 0 for none.
    """

    preprocessings: Sequence[Callable[[Image.Image], Any]]
    stack: Callable[[list[np.ndarray]], Any] = np.stack
    thumbnails: Collection[int] = frozenset()
    reading: Reading = field(default_factory=Reading)
    picture_side: int = 0


@dataclass
class Batch:
    """Decoded images that go through the network together.

    rows: their places among the inputs. ids: (n, 16) uint8, of the bytes that were decoded.
    pixels: what each preprocessing gave, stacked; empty of no images. bad: {row: ImageError}.
    decode_seconds: summed over threads. thumbnails: in gray and as JPEG, of those m that were asked
    for them. thumbnail_ids: (m, 16) uint8. notes: {row: what may have affected its pixels}.
    pictures: each whole image as it was decoded, shrunk, where they were asked for.
    """

    rows: np.ndarray
    ids: np.ndarray
    pixels: list[Any]
    bad: dict[int, ImageError]
    decode_seconds: float
    thumbnails: list[tuple[np.ndarray, bytes]]
    thumbnail_ids: np.ndarray
    notes: dict[int, tuple[str, ...]]
    pictures: list[Image.Image] = field(default_factory=list)


@dataclass
class _Decoded:
    """One image: its id and pixels, or the error; its thumbnail where one was asked for."""

    seconds: float = 0.0
    found: bytes = b""
    pixels: tuple[np.ndarray, ...] = ()
    thumbnail: tuple[np.ndarray, bytes] | None = None
    error: ImageError | None = None
    notes: tuple[str, ...] = ()
    picture: Image.Image | None = None


def load_batches(
    inputs: Sequence,
    rows: Sequence[int] | np.ndarray,
    decoding: Decoding,
    size: Callable[[], int],
    ahead: int,
) -> Generator[Batch, None, None]:
    """Decode `inputs[row]` for each row, in order, `ahead` batches before they are asked for.

    size: how many images the next batch takes.
    ahead=0 decodes a batch only when it is asked for: on a CPU, decoding and the network would
    compete for the same cores.
    """
    pending: deque[Future[Batch]] = deque()
    at = 0
    decoders, collector = ThreadPoolExecutor(cores()), ThreadPoolExecutor(1)
    fetched = _Fetched(inputs)

    def start() -> None:
        nonlocal at
        group = np.asarray(rows[at : at + size()])
        at += len(group)
        fetched.ask(rows[at - len(group) : at + len(group)])  # and those of the batch after it
        step = max(1, len(group) // (SHARES * cores()))
        decoded = [
            decoders.submit(_decode_some, fetched, group[first : first + step], decoding)
            for first in range(0, len(group), step)
        ]
        pending.append(collector.submit(_collect, group, decoded, decoding.stack))

    try:
        while at < len(rows) or pending:
            while at < len(rows) and len(pending) <= ahead:
                start()
            yield pending.popleft().result()
    finally:
        for pool in (fetched.pool, decoders, collector):
            pool.shutdown(wait=True, cancel_futures=True)


class _Fetched:
    """Inputs, of which those at a URL are read before they are decoded.

    Decoders are as many as cores; so many requests would leave the cores idle while they wait.
    """

    def __init__(self, inputs: Sequence) -> None:
        self.inputs = inputs
        self.pool = ThreadPoolExecutor(REQUESTS)  # starts no thread before it is asked
        self._has_urls = has_urls(inputs)
        self._asked: dict[int, Future[bytes]] = {}

    def ask(self, rows: Sequence[int] | np.ndarray) -> None:
        """Begin to read some rows, those that are not being read already."""
        for row in map(int, rows) if self._has_urls else ():
            if row not in self._asked and is_url(self.inputs[row]):
                self._asked[row] = self.pool.submit(read_bytes, self.inputs[row])

    def bytes(self, row: int, item: Any) -> bytes | None:
        """All bytes of the row's file; None for pixels, ImageError where they can't be read."""
        if row in self._asked:
            return self._asked.pop(row).result()
        return read_bytes(item) if isinstance(item, (str, os.PathLike)) else held_bytes(item)


def _decode_some(fetched: _Fetched, rows: np.ndarray, decoding: Decoding) -> list[_Decoded]:
    return [_decode_one(fetched, int(row), decoding) for row in rows]


def _decode_one(fetched: _Fetched, row: int, decoding: Decoding) -> _Decoded:
    started = time.perf_counter()
    done = _Decoded()
    try:
        # pixels stay in memory until they have become the network's
        with budget().kept():
            _fill(done, fetched, row, decoding)
    except ImageError as error:
        done.error = error
    done.seconds = time.perf_counter() - started
    return done


def _fill(done: _Decoded, fetched: _Fetched, row: int, decoding: Decoding) -> None:
    item = fetched.inputs[row]  # once: it may be opened for it
    file = item if isinstance(item, FileBytes) else _file_of(item, fetched.bytes(row, item))
    data = None if file is None else file.data
    if file is not None:
        at_least = getattr(decoding.preprocessings[0], "at_least", None)
        image, done.notes = decode_noted(file.data, file.name, at_least, reading=decoding.reading)
        done.found = file.found
    else:
        image = open_in_memory(item)
        done.found = pixels_id(np.asarray(image))
    if row in decoding.thumbnails:
        # from the bytes only where they may have been decoded at a larger scale than its own
        done.thumbnail = (
            make_both(data, decoding.reading)
            if data is not None and data.startswith(JPEG)
            else make_both(image)  # read as asked already
        )
    done.pixels = tuple(
        # a random view is drawn by the image's id
        one.see(image, done.found) if isinstance(one, Augmented) else np.asarray(one(image))
        for one in decoding.preprocessings
    )
    if decoding.picture_side:
        done.picture = image.copy()
        done.picture.thumbnail((decoding.picture_side, decoding.picture_side))


def _file_of(item: Any, data: bytes | None) -> FileBytes | None:
    """The file of a path, or that a PIL image has not read yet; None for pixels in memory."""
    if data is None:
        return None
    is_path = isinstance(item, (str, os.PathLike))
    return FileBytes(os.fspath(item) if is_path else held_name(item), data, bytes_id(data))


def _collect(
    rows: np.ndarray, decoded: list[Future[list[_Decoded]]], stack: Callable[[list], Any]
) -> Batch:
    results = [result for future in decoded for result in future.result()]
    good = [i for i, result in enumerate(results) if result.error is None]
    pixels = [result.pixels for result in results if result.pixels]
    shapes = sorted({one.shape for own in pixels for one in own})
    if len(shapes) > 1:
        raise ExtractError(
            f"preprocessing gave images of several sizes, {shapes[0]} and {shapes[-1]}, "
            "expected one"
        )
    pictured = [
        (result.found, result.thumbnail) for result in results if result.thumbnail is not None
    ]
    return Batch(
        rows=rows[good],
        ids=_as_ids([results[i].found for i in good]),
        pixels=[stack(list(one)) for one in zip(*pixels, strict=True)],
        bad={
            int(row): result.error
            for row, result in zip(rows, results, strict=True)
            if result.error is not None
        },
        decode_seconds=sum(result.seconds for result in results),
        thumbnails=[thumbnail for _, thumbnail in pictured],
        thumbnail_ids=_as_ids([found for found, _ in pictured]),
        notes={
            int(row): result.notes
            for row, result in zip(rows, results, strict=True)
            if result.notes
        },
        pictures=[result.picture for result in results if result.picture is not None],
    )


def _as_ids(found: list[bytes]) -> np.ndarray:
    """(n, 16) uint8."""
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, ID_BYTES)
