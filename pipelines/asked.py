"""What `predict` is asked about: files, folders, tables and names on standard input, in order."""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

STDIN = "-"


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

    def __iter__(self) -> Iterator[Asked]:
        for source in self.sources:
            if source == STDIN:
                for name in filter(None, (line.rstrip("\r\n") for line in self.stdin)):
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


def _is_table(source: str) -> bool:
    # read here: `data.manifests` is imported where there is a table alone
    return os.path.splitext(source)[1].lower() in (".csv", ".jsonl") and not os.path.isdir(source)


def _rows(table: str) -> Iterator[Asked]:
    from data.manifests import read_listed

    for path, problem, given in read_listed(table):
        yield Asked(path, problem, given)
