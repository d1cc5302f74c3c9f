"""What `predict` is asked about: files, folders, tables and names on standard input, in order."""

import itertools
import os
import select
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

STDIN = "-"
LONGEST_WAIT = 1.0  # seconds that a name on standard input waits for others


@dataclass(frozen=True)
class Asked:
    """One image that an answer is wanted for.

    problem : why it can't be read, or None.
    given : the further columns of a table's row.
    """

    path: str
    problem: str | None = None
    given: dict = field(default_factory=dict)


class Asking:
    """The images that are asked about, met one by one; names on stdin may still be coming.

    Parameters
    ----------
    sources : sequence of str
        Image files, folders of them, tables (.csv or .jsonl with a column path), or `-`.
    stdin : text file
        Whose lines `-` stands for, a name each.

    Attributes
    ----------
    passed_over : Counter
        What the folders met so far hold that is no image, by suffix or reason.
    """

    def __init__(self, sources: Sequence[str], stdin: TextIO) -> None:
        self.sources = sources
        self.stdin = stdin
        self.passed_over: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Asked | None]:
        """The images, and None where those before it have waited long enough for others."""
        for source in self.sources:
            if source == STDIN:
                for name in _names(self.stdin):
                    if name is None:
                        yield None
                    elif name:
                        yield from self._met(name)
            elif _is_table(source):
                yield from _rows(source)
            else:
                yield from self._met(source)

    def columns(self) -> list[str]:
        """The further columns of all tables, as they come; for a header before the first row."""
        from data.manifests import listed_columns

        tables = filter(_is_table, self.sources)
        return list(dict.fromkeys(itertools.chain.from_iterable(map(listed_columns, tables))))

    def _met(self, source: str) -> Iterator[Asked]:
        from data.folders import images_among

        found = images_among([source])
        self.passed_over += found.passed_over
        yield from (Asked(path) for path in found.paths)
        yield from (Asked(path, problem) for path, problem in found.problems)


def _names(stdin: TextIO) -> Iterator[str | None]:
    """Lines without their ends, and None where one has waited long and no other is there."""
    try:
        number = stdin.fileno()
        select.select([number], [], [], 0)
    except (OSError, ValueError, AttributeError):  # no file, or of Windows, which selects sockets
        yield from (line.rstrip("\r\n") for line in stdin)
        return
    left, since = b"", None
    while True:
        wait = None if since is None else max(0.0, since + LONGEST_WAIT - time.monotonic())
        if not select.select([number], [], [], wait)[0]:
            since = None
            yield None
            continue
        read = os.read(number, 1 << 16)
        *lines, left = (left + read).split(b"\n")
        if lines and since is None:
            since = time.monotonic()
        yield from (os.fsdecode(line.rstrip(b"\r")) for line in lines)
        if not read:
            break
    if left:
        yield os.fsdecode(left.rstrip(b"\r"))


def _is_table(source: str) -> bool:
    # read here: `data.manifests` is imported where there is a table alone
    return os.path.splitext(source)[1].lower() in (".csv", ".jsonl") and not os.path.isdir(source)


def _rows(table: str) -> Iterator[Asked]:
    from data.manifests import read_listed

    for path, problem, given in read_listed(table):
        yield Asked(path, problem, given)
