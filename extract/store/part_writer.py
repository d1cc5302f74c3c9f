"""Rows of a pass collected and written as parts, on a thread beside it."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from extract.errors import unwritable
from extract.files import again_where_gone, keeping
from extract.pooling import Tap, stored_type
from extract.store.parts import Rows, write_part

PART_SECONDS = 10.0  # a kill loses at most this much work
WAITING_BYTES = 64 << 20


class PartWriter:
    """Collects rows and writes them as immutable parts on a thread of its own.

    folder : of the parts.
    prepare : makes the folder, where it was removed meanwhile too.
    stored : type that float rows are kept in, as in `as_stored`.
    provenance : attributes of every part, read when it is written.
    keep : called with each part that is finished, on the thread.

    `seconds` counts the thread's time, `rows_kept` the rows that are on the disk.
    """

    def __init__(
        self,
        folder: Path,
        prepare: Callable[[], None],
        stored: type,
        provenance: Mapping[str, Any],
        keep: Callable[[Path], None] | None = None,
    ) -> None:
        self._folder = folder
        self._prepare = prepare
        self._stored = stored
        self._provenance = provenance
        self._keep = keep
        self._added: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self._bytes = 0
        self._since = time.monotonic()
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] = Future()
        self._writing.set_result(None)
        self.seconds = 0.0
        self.rows_kept = 0

    def __enter__(self) -> "PartWriter":
        keeping.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.flush()
            self._writing.result()
        finally:
            self._thread.shutdown()
            keeping.discard(self)

    def add(self, ids: np.ndarray, rows: Mapping[Tap, np.ndarray]) -> None:
        """(n, 16) uint8 ids and (n, d) rows for each tap; all calls name the same taps."""
        kept = {
            str(tap): as_stored(values, stored_type(tap, self._stored))
            for tap, values in rows.items()
        }
        self._added.append((ids, kept))  # in one step: an interrupt falls before it or after it
        self._bytes += sum(values.nbytes for values in kept.values())
        # half the time: the other half is for the writing
        if self._bytes >= WAITING_BYTES or time.monotonic() - self._since >= PART_SECONDS / 2:
            self.flush()

    def flush(self) -> None:
        """Start writing what was added; waits only for the part before."""
        if self._added:
            self._writing.result()
            ids = np.concatenate([ids for ids, _ in self._added])
            columns = {
                name: StackedRows([kept[name] for _, kept in self._added])
                for name in self._added[0][1]
            }
            self._writing = self._thread.submit(self._write, ids, columns)
        self._added = []
        self._bytes = 0
        self._since = time.monotonic()

    def _write(self, ids: np.ndarray, columns: Mapping[str, Rows]) -> None:
        started = time.monotonic()
        try:
            path = again_where_gone(partial(self._write_anew, ids, columns))
            if self._keep is not None:
                self._keep(path)
        except OSError as error:
            raise unwritable(self._folder.parent.parent, error, begun=True) from error
        self.rows_kept += len(ids)
        self.seconds += time.monotonic() - started

    def _write_anew(self, ids: np.ndarray, columns: Mapping[str, Rows]) -> Path:
        self._prepare()
        return write_part(self._folder, self._folder.parent.name, ids, columns, self._provenance)


class StackedRows:
    """Blocks of rows as one array-like (n, d), joined where they are asked for and no further."""

    def __init__(self, blocks: list[np.ndarray]) -> None:
        self._blocks = blocks
        self._starts = np.cumsum([0, *map(len, blocks)])
        self.dtype = np.result_type(*blocks)
        self.shape = (int(self._starts[-1]), *blocks[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        at, end, _ = rows.indices(len(self))
        first = np.searchsorted(self._starts, at, "right") - 1
        last = np.searchsorted(self._starts, end)
        blocks = [
            self._blocks[i][max(0, at - self._starts[i]) : end - self._starts[i]]
            for i in range(first, last)
        ]
        return np.concatenate(blocks, dtype=self.dtype)


def as_stored(values: np.ndarray, stored: type) -> np.ndarray:
    """(n, d) rows in the type they are kept in.

    A row that overflows float16 stays float32, alone: the other rows are rounded to float16.
    """
    if stored is not np.float16:
        return values.astype(stored, copy=False)
    wide = np.abs(values).max(axis=1, initial=0) > np.finfo(np.float16).max
    if not wide.any():
        return values.astype(np.float16)
    with np.errstate(over="ignore"):
        return np.where(wide[:, None], values, values.astype(np.float16).astype(np.float32))
