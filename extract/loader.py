"""Images decoded on all cores and handed over in batches; only a few batches are ever in memory."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from data import ImageError, decode, read_bytes
from extract.errors import ExtractError
from extract.recipe import bytes_id, open_in_memory, pixels_id

SHARES = 8  # tasks a core gets of each batch: few, since a small image takes less than a task; yet they end together


@dataclass
class Batch:
    """Decoded images that go through the network together.

    rows: their places among the inputs. ids: (n, 16) uint8, of the bytes that were decoded. pixels: what the
    preprocessing gave, stacked. bad: {row: ImageError}. decode_seconds: summed over threads.
    """

    rows: np.ndarray
    ids: np.ndarray
    pixels: np.ndarray | None
    bad: dict[int, ImageError]
    decode_seconds: float


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_batches(
    inputs: Sequence,
    rows,
    preprocessing,
    size: Callable[[], int],
    ahead: int,
    stack: Callable = np.stack,
) -> Iterator[Batch]:
    """Decode `inputs[row]` for each row, in order, `ahead` batches before they are asked for.

    size: how many images the next batch takes. stack: from a list of equal arrays to one.
    ahead=0 decodes a batch only when it is asked for: on a CPU, decoding and the network would compete for the
    same cores.
    """
    at_least = getattr(preprocessing, "at_least", None)
    pending, at = deque(), 0
    decoders, collector = ThreadPoolExecutor(cores()), ThreadPoolExecutor(1)

    def start():
        nonlocal at
        group = np.asarray(rows[at : at + size()])
        at += len(group)
        step = max(1, len(group) // (SHARES * cores()))
        decoded = [
            decoders.submit(
                _decode_some,
                [inputs[row] for row in group[first : first + step]],
                preprocessing,
                at_least,
            )
            for first in range(0, len(group), step)
        ]
        pending.append(collector.submit(_collect, group, decoded, stack))

    try:
        while at < len(rows) or pending:
            while at < len(rows) and len(pending) <= ahead:
                start()
            yield pending.popleft().result()
    finally:
        for pool in (decoders, collector):
            pool.shutdown(wait=True, cancel_futures=True)


def _decode_some(items, preprocessing, at_least):
    return [_decode_one(item, preprocessing, at_least) for item in items]


def _decode_one(item, preprocessing, at_least):
    started = time.perf_counter()
    try:
        if isinstance(item, (str, os.PathLike)):
            data = read_bytes(item)
            image, found = decode(data, os.fspath(item), at_least), bytes_id(data)
        else:
            image = open_in_memory(item)
            found = pixels_id(np.asarray(image))
        return found, np.asarray(preprocessing(image)), time.perf_counter() - started
    except ImageError as error:
        return None, error, time.perf_counter() - started


def _collect(rows, decoded, stack):
    results = [result for future in decoded for result in future.result()]
    good = [i for i, (found, _, _) in enumerate(results) if found is not None]
    shapes = sorted({results[i][1].shape for i in good})
    if len(shapes) > 1:
        raise ExtractError(
            f"preprocessing gave images of several sizes, {shapes[0]} and {shapes[-1]}, expected one"
        )
    return Batch(
        rows=rows[good],
        ids=np.array([np.frombuffer(results[i][0], np.uint8) for i in good], np.uint8).reshape(
            -1, 16
        ),
        pixels=stack([results[i][1] for i in good]) if good else None,
        bad={
            int(row): error
            for row, (found, error, _) in zip(rows, results, strict=True)
            if found is None
        },
        decode_seconds=sum(seconds for _, _, seconds in results),
    )
