"""Which parts' ids lie in sorted files beside them, and those files kept up as parts come and go.

Parts whose ids no file holds are few: what reads them has all of theirs in memory. From
LOOSE_ROWS on their ids are written into a file, together with the files before it that have less
than GROWTH times as many: so an id is written a few times, whatever the store has grown to, and a
store of any size has a handful of files (a log-structured merge tree: O'Neil and others, 1996).
"""

import contextlib
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.files import remove_abandoned
from extract.store.parts import (
    INDEX_SUFFIX,
    Part,
    finished_names,
    is_passed_over,
    pass_over,
    set_aside,
)
from extract.store.rows_on_disk import WrongBytes
from extract.store.sorted_ids import (
    Entry,
    Held,
    Holding,
    SortedIds,
    SortedRun,
    read_sorted_ids,
    sorted_run,
    starts_of,
    write_sorted_ids,
)

FOLDER = "index"  # beside the recipe's parts
LOOSE_ROWS = 1 << 17
GROWTH = 4
SORTED_AT_ONCE = 1 << 22  # ids, in memory
# of those that some file holds, so many may be of parts that are there no more
MOST_GONE = 0.5


def list_index(folder: Path, known: dict[str, SortedIds]) -> list[SortedIds]:
    """The files of ids of a recipe's folder, oldest first; what is damaged is set aside.

    known : by name those that were read before, changed in place.

    Raises OSError where one can't be looked at.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names = sorted(finished_names(folder / FOLDER, INDEX_SUFFIX))
        for gone in set(known).difference(names):
            known.pop(gone, None)
        return [file for name in names if (file := _read(folder, name, known)) is not None]
    known.clear()
    return []


def _read(folder: Path, name: str, known: dict[str, SortedIds]) -> SortedIds | None:
    path = folder / FOLDER / name
    if is_passed_over(path):
        return None
    try:
        if name not in known:
            file = read_sorted_ids(path)
            if file.held.recipe != folder.name:
                raise WrongBytes(path, f"its ids are of another recipe, {file.held.recipe}")
            known[name] = file
        return known[name]
    except WrongBytes as error:
        set_aside(path, error)
    except PermissionError as error:
        pass_over(path, error)
    return None


def holdings(files: Sequence[SortedIds], names: Collection[str]) -> dict[str, Holding]:
    """By name of a part the file that holds its ids, the latest where several do."""
    found: dict[str, Holding] = {}
    for file in reversed(files):  # one into which others were merged, which may be there still
        for number, entry in enumerate(file.held.parts):
            if entry.name in names:
                found.setdefault(entry.name, Holding(file, number))
    return found


def is_behind(files: Sequence[SortedIds], parts: Sequence[Part]) -> bool:
    """Whether so many rows are in no file of ids that one is worth while, or a file tells of none.

    files, parts : all of a recipe.
    """
    loose: dict[frozenset[str], int] = defaultdict(int)
    for part in parts:
        loose[part.taps] += 0 if part.holding else part.rows
    return max(loose.values(), default=0) >= LOOSE_ROWS or bool(_useless(files, parts))


def _useless(files: Sequence[SortedIds], parts: Sequence[Part]) -> list[SortedIds]:
    """Files of which no part is there any more, or each is told by a later file."""
    used = {part.holding.file.path for part in parts if part.holding}
    return [file for file in files if file.path not in used]


def update_index(folder: Path, files: Sequence[SortedIds], parts: Sequence[Part]) -> None:
    """Write the ids of parts that no file holds into files, where they are many.

    folder : of the recipe. files, parts : all of its own, oldest first.

    What readers find stays the same at every moment. Raises WrongBytes for a file or a part that
    isn't as it was written, OSError where the disk fails or another process was first.
    """
    for taps in sorted({tuple(sorted(part.taps)) for part in parts}):
        own = [part for part in parts if part.taps == set(taps)]
        _update(folder, [file for file in files if file.held.taps == taps], own)
    for file in _useless(files, parts):
        file.path.unlink(missing_ok=True)
    remove_abandoned(folder / FOLDER)


def _update(folder: Path, files: Sequence[SortedIds], parts: Sequence[Part]) -> None:
    """`update_index` of files and parts that all have the same taps."""
    every = [_Level(file, _there(file, parts)) for file in files]
    worn = [level.file for level in every if level.is_worn]
    loose = [part for part in parts if part.holding is None or part.holding.file in worn]
    if sum(part.rows for part in loose) >= LOOSE_ROWS:
        levels = [level for level in every if not level.is_worn]
        for batch in _batches(loose):
            _write_level(folder, levels, batch)
        for file in worn:
            file.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Level:
    """A file of ids, and of which of its parts the rows are still there and told by no other."""

    file: SortedIds
    there: list[bool]

    @property
    def is_worn(self) -> bool:
        """Whether most of what the file tells of is not there any more."""
        rows = sum(
            entry.rows
            for entry, there in zip(self.file.held.parts, self.there, strict=True)
            if there
        )
        return rows < (1 - MOST_GONE) * self.file.starts[-1]


def _there(file: SortedIds, parts: Sequence[Part]) -> list[bool]:
    own = {part.holding.number for part in parts if part.holding and part.holding.file is file}
    return [number in own for number in range(len(file.held.parts))]


def _batches(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Parts in their order, of so many rows together that their ids are sorted in memory."""
    batch: list[Part] = []
    for part in parts:
        if batch and sum(own.rows for own in batch) + part.rows > SORTED_AT_ONCE:
            yield batch
            batch = []
        batch.append(part)
    yield batch


def _write_level(folder: Path, levels: list[_Level], loose: Sequence[Part]) -> None:
    """One more file of ids, the last of `levels`, instead of those that it has outgrown."""
    rows = [part.rows for part in loose]
    run = SortedRun(*sorted_run(np.concatenate([part.keys for part in loose])), rows)
    outgrown: list[_Level] = []
    n = sum(rows)
    while levels and levels[-1].file.held.rows < GROWTH * n:
        outgrown.insert(0, levels.pop())
        n += outgrown[0].file.held.rows
    kept: list[Entry] = []
    starts = []
    for level in outgrown:
        entries = level.file.held.parts
        starts.append(_starts(sum(entry.rows for entry in kept), entries, level.there))
        kept += [entry for entry, there in zip(entries, level.there, strict=True) if there]
    added = [Entry(part.path.name, part.size, part.rows, part.digest) for part in loose]
    starts.append(_starts(sum(entry.rows for entry in kept), added, [True] * len(added)))
    held = Held(folder.name, tuple(sorted(loose[0].taps)), (*kept, *added), 0)
    path = folder / FOLDER / f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}{INDEX_SUFFIX}"
    write_sorted_ids(path, held, [*(level.file for level in outgrown), run], starts)
    for level in outgrown:
        level.file.path.unlink(missing_ok=True)
    levels.append(_Level(read_sorted_ids(path), [True] * len(held.parts)))


def _starts(at: int, parts: Sequence[Entry], there: Sequence[bool]) -> np.ndarray:
    """Where each part's rows start, those there following one another from `at` on, else -1."""
    rows = [part.rows if own else 0 for part, own in zip(parts, there, strict=True)]
    return np.where(there, at + starts_of(rows)[:-1], -1)
