"""Small parts joined into larger ones, and what killed processes left half written removed."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from extract.errors import ExtractError
from extract.files import remove_abandoned, sync_folder
from extract.store.copies import first_of_each
from extract.store.parts import DamagedPart, Part, write_part, wrong_bytes_set_aside
from extract.store.row_index import JoinedRows, RowIndex

log = logging.getLogger(__name__)

PART_BYTES, PART_ROWS = 256 << 20, 1 << 20  # the latter of narrow rows: their ids are in memory
SMALL_PARTS = 8


def join_small_parts(folder: Path, list_parts: Callable[[], list[Part]]) -> dict[str, str]:
    """Join small parts with the same taps, the new one first, then unlink the old.

    -> by the name of each part that was joined, that of the part that holds its rows.

    Nothing is lost where that can't be done: the parts stay as they are.
    """
    joined: dict[str, str] = {}
    with _unless_hindered(folder):
        for batch in _small_parts(list_parts):
            new = _join(batch)
            joined |= {part.path.name: new.name for part in batch}
        if joined:
            list_parts()  # has the index follow
    remove_abandoned(folder)
    remove_abandoned(folder.parent)
    return joined


def _small_parts(list_parts: Callable[[], list[Part]]) -> Iterator[list[Part]]:
    """Batches of parts worth joining."""
    for taps in {part.taps for part in list_parts()}:
        small = [part for part in list_parts() if part.taps == taps and _is_small(part)]
        while len(small) > SMALL_PARTS:
            batch: list[Part] = []
            size = rows = 0
            while small and size < PART_BYTES and rows < PART_ROWS:
                size, rows = size + small[0].size, rows + small[0].rows
                batch.append(small.pop(0))
            yield batch


def _is_small(part: Part) -> bool:
    return part.size < PART_BYTES // 2 and part.rows < PART_ROWS // 2


def _join(parts: list[Part]) -> Path:
    """One part with the rows of all, in their order; of an id that comes twice, the first."""
    folder = parts[0].path.parent
    with wrong_bytes_set_aside():
        keys = np.concatenate([part.keys for part in parts])
        ids = keys.view(np.uint8).reshape(-1, keys.itemsize)
        places = first_of_each(ids)
        ids = ids[places]
        index = RowIndex(parts)
        columns = {name: JoinedRows(index, name, places) for name in sorted(parts[0].taps)}
        joined = write_part(folder, parts[0].recipe, ids, columns, parts[0].provenance)
    for part in parts:
        part.path.unlink(missing_ok=True)
    sync_folder(folder)
    return joined


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
