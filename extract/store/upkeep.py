"""Small parts joined into larger ones, and what killed processes left half written removed."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from extract.errors import ExtractError
from extract.files import remove_abandoned, sync_folder
from extract.store.parts import DamagedPart, Part, write_part, wrong_bytes_set_aside
from extract.store.row_index import JoinedRows, RowIndex

log = logging.getLogger(__name__)

PART_BYTES = 256 << 20
SMALL_PARTS = 8


def join_small_parts(folder: Path, list_parts: Callable[[], list[Part]]) -> int:
    """Join small parts with the same taps, the new one first, then unlink the old -> parts joined.

    Nothing is lost where that can't be done: the parts stay as they are.
    """
    joined = 0
    with _unless_hindered(folder):
        for batch in _small_parts(list_parts):
            _join(batch)
            joined += len(batch)
    remove_abandoned(folder)
    remove_abandoned(folder.parent)
    return joined


def _small_parts(list_parts: Callable[[], list[Part]]) -> Iterator[list[Part]]:
    """Batches of parts worth joining."""
    for taps in {part.taps for part in list_parts()}:
        small = [p for p in list_parts() if p.taps == taps and p.size < PART_BYTES // 2]
        while len(small) > SMALL_PARTS:
            batch: list[Part] = []
            size = 0
            while small and size < PART_BYTES:
                size += small[0].size
                batch.append(small.pop(0))
            yield batch


def _join(parts: list[Part]) -> None:
    """One part with the rows of all, in their order; of an id that comes twice, the first."""
    index = RowIndex(tuple(parts))
    places = np.sort(np.unique(index.keys, return_index=True)[1])
    keys = index.keys[places]
    ids = keys.view(np.uint8).reshape(-1, keys.itemsize)
    columns = {name: JoinedRows(index, name, places) for name in sorted(parts[0].taps)}
    folder = parts[0].path.parent
    with wrong_bytes_set_aside():
        write_part(folder, parts[0].recipe, ids, columns, parts[0].provenance)
    for part in parts:
        part.path.unlink(missing_ok=True)
    sync_folder(folder)


@contextlib.contextmanager
def _unless_hindered(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        log.debug("another process joins the parts of %s", folder)
    except DamagedPart as error:
        log.debug("not joined: %s", error)
    except (OSError, RuntimeError, MemoryError, ExtractError) as error:  # HDF5's are RuntimeErrors
        log.warning("the parts in %s can't be joined: %s", folder, error)
