"""What affected an image's pixels when it was decoded, remembered by its id like the id itself."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np

from data import Reading
from extract.files import read_remembered, write_remembered

Notes = dict[int, tuple[str, ...]]


def keep_notes(folder: Path | None, reading: Reading, ids: np.ndarray, found: Notes) -> Notes:
    """Notes by row, those of a pass joined with those of earlier ones; what was found is kept.

    folder : where ids are remembered, None to remember nothing. ids : (n, 16) uint8. found : notes
        of the rows that were decoded now.
    """
    if folder is None:
        return found
    file = folder / f"notes-{_digest(reading)}.json"
    known = _read(file)
    new = {ids[row].tobytes().hex(): list(notes) for row, notes in found.items()}
    if any(known.get(key) != notes for key, notes in new.items()):
        # again: another process may have added some; a cache that can only be read stays as it is
        known = _read(file) | new
        with contextlib.suppress(OSError):
            write_remembered(file, known)
    if not known:
        return found
    by_row = ((row, known.get(own.tobytes().hex())) for row, own in enumerate(ids))
    return {row: tuple(notes) for row, notes in by_row if notes}


def _digest(reading: Reading) -> str:
    return hashlib.blake2b(reading.text.encode(), digest_size=8).hexdigest()


def _read(file: Path) -> dict[str, list[str]]:
    known = read_remembered(file)
    return known if isinstance(known, dict) else {}
