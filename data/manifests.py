"""Tables that list images: CSV files and JSON lines, with labels, groups and splits."""

import csv
import difflib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from typing import BinaryIO, TextIO, TypeAlias

from data.folders import Found
from data.images import FilePath, file_problem
from data.listing import is_local_folder, is_there, open_file
from data.names import from_cell, listed_briefly
from data.samples import NOT_USED, DataError, Samples
from data.urls import as_place, is_url, join

COLUMNS = ("path", "label", "group", "split")
EXPECTED = "path,label[,group][,split]"
SPLITS_GIVEN = ("train", "val", "test")
DELIMITERS = (",", ";", "\t")
# a line of JSON that is longer is none of a manifest's
LONGEST_LINE = 1 << 20
# the endings of what is counted, by number
ONE = {"s": "", "es": "s", "are": "is", "have": "has"}
SEVERAL = {"s": "s", "es": "", "are": "are", "have": "have"}
# columns that are not used are counted so far
MOST_COLUMNS = 1000
# what other programs write where they have no label; the second may be meant as a name
NO_LABEL = ("nan", "<na>", "#n/a", "nat")
MAYBE_NO_LABEL = ("na", "n/a", "null", "none", "nil", "?", "-")

_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?")

# a manifest's rows as they stand, each with its line number
NumberedRows: TypeAlias = Iterator[tuple[int, dict]]


def read_manifest(path: FilePath, labelled: bool = True) -> Samples:
    """The images that a table lists.

    Parameters
    ----------
    path : path
        A .csv with the header `path,label[,group][,split]`, or a .jsonl with an object of these
        keys on each line; at a path or a URL; in UTF-8, or in UTF-16 with its mark. A CSV's cells
        may be separated by commas, semicolons or tabs. Its paths are URLs, absolute or relative to
        its own folder, or, where nothing is there, to the working folder; names that
        `test_predictions.csv` and `predict --csv` write are read back. `split` is train, val
        or test; val joins train where there is a test part.
    labelled : bool, default=True
        False reads no labels, and needs none.

    Returns
    -------
    Samples
        In the table's order; missing files are in `problems`, what was read otherwise than it
        may have been meant is in `notes`.

    Raises
    ------
    DataError
        With the line number, for a row that can't be used; for a table that can't be read, or of
        which no file is there.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, "1.jpg").touch()
    ...     table = pathlib.Path(folder, "pets.csv")
    ...     _ = table.write_text("path,label\\n1.jpg,cat\\n")
    ...     read_manifest(table)
    Samples('pets': 1 image, 1 class)
    """
    table = _Table(as_place(path), labelled)
    for line, row in _numbered_rows(table):
        table.take(line, row)
    return table.samples()


def read_listed(path: FilePath) -> Iterator[tuple[str, str | None, dict]]:
    """The rows of a table one by one, without taking them together as samples.

    Parameters
    ----------
    path : path
        As for `read_manifest`.

    Yields
    ------
    (str, str or None, dict)
        Where a row's file lies, why it can't be read, and its columns but the path; a row without a
        path has an empty one. Of columns with one name the second is `name_2`.

    Raises
    ------
    DataError
        As `read_manifest` does, when the row is met.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pathlib.Path(folder, "pets.jsonl")
    ...     _ = table.write_text('{"path": "/gone.jpg", "site": 3}')
    ...     list(read_listed(table))
    [('/gone.jpg', 'no such file', {'site': 3})]
    """
    table = _Table(as_place(path), labelled=False)
    for line, row in _numbered_rows(table):
        cell = row.get("path")
        others = {name: value for name, value in row.items() if name != "path"}
        try:
            if not isinstance(cell, str) or not cell.strip():
                raise table.refuse(line, "no path; every row needs one")
            place = table._place(table._checked(line, "path", cell))
        except DataError as error:  # the other rows are there all the same
            yield "", str(error), others
        else:
            yield place, file_problem(place), others


def listed_columns(path: FilePath) -> list[str]:
    """The columns of a table but the path, in the order in which they are met.

    Parameters
    ----------
    path : path
        As for `read_manifest`; all its rows are read.

    Returns
    -------
    list of str

    Raises
    ------
    DataError
        As `read_manifest` does.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pathlib.Path(folder, "pets.csv")
    ...     _ = table.write_text("path,site\\n1.jpg,3\\n")
    ...     listed_columns(table)
    ['site']
    """
    met: dict[str, None] = {}
    for _, row in _numbered_rows(_Table(as_place(path), labelled=False)):
        met |= dict.fromkeys(row)
    return [name for name in met if name != "path"]


def _numbered_rows(table: "_Table") -> NumberedRows:
    """The rows of a table as they stand; DataError for one that can't be read."""
    path = table.path
    if not is_manifest(path):
        raise DataError(
            f"{path}: not a manifest by its name; expected one ending in {' or '.join(MANIFESTS)}"
        )
    read = MANIFESTS[os.path.splitext(path)[1].lower()]
    try:
        # newline="": csv wants line ends untouched
        with open_file(path) as raw, TextIOWrapper(raw, _encoding(raw), newline="") as file:
            yield from read(table, file)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: can't be read as a manifest in UTF-8 ({error})") from error


def is_manifest(source: str) -> bool:
    """Whether a source is a manifest by its name."""
    return os.path.splitext(source)[1].lower() in MANIFESTS and not is_local_folder(source)


class _Table:
    """A manifest as it is read, row by row."""

    def __init__(self, path: str, labelled: bool) -> None:
        self.path = path
        self.folder = os.path.dirname(path)
        self.labelled = labelled
        self.found = Found()
        self.n_rows = 0
        self.used: dict[str, int] = {}  # optional columns, and their first line
        self.lacking: dict[str, int] = {}  # optional columns, and the first line without them
        self.met: dict[str, tuple[int, str | None, str | None]] = {}
        self.unused: dict[str, str] = {}  # columns as they are shown, and what may be meant
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}  # an example of what is counted
        self.names: dict[str, str] = {}  # each label is in memory once

    def refuse(self, line: int, why: str) -> DataError:
        """The error of a line."""
        return DataError(f"{self.path}, line {line}: {why}")

    def check_header(self, header: Sequence[str]) -> None:
        """Refuse columns that can't be used; note those that are not."""
        listed = ", ".join(header)
        for name in COLUMNS:
            if header.count(name) > 1:
                raise DataError(f"{self.path}: two columns {name!r}; has {listed}; leave one")
        if "path" not in header:
            raise DataError(f"{self.path} has the columns {listed}; expected {EXPECTED}")
        if self.labelled and "label" not in header:
            raise DataError(
                f"{self.path}: no column 'label'; has {listed}; expected {EXPECTED}, one class "
                "name a row"
            )

    def take(self, line: int, row: Mapping) -> None:
        """One more row."""
        self.n_rows += 1
        cells = self._cells(line, row)
        for name in ("path", "label") if self.labelled else ("path",):
            if name not in cells:
                raise self.refuse(line, f"no {name}; every row needs one")
        for name in ("group", "split"):
            known = self.used if name in cells else self.lacking
            known.setdefault(name, line)
        label = self._label(line, cells["label"]) if self.labelled else None
        path = self._place(cells["path"])
        self._check_twice(line, path, label, cells.get("split"))
        if not self.found.is_file(path):
            return
        self.found.paths.append(path)
        self.found.labels.append(label)
        self.found.splits.append(cells.get("split"))
        self.found.groups.append(cells.get("group"))

    def samples(self) -> Samples:
        """The samples of all rows."""
        if not self.n_rows:
            raise DataError(f"{self.path}: has no rows; expected {EXPECTED}")
        for name, line in self.lacking.items():
            if name in self.used:
                raise self.refuse(line, f"no {name}; other rows have one; all or none must")
        self._check_numbers()
        if not self.found.paths:
            path, reason = self.found.problems[0]
            raise DataError(
                f"{self.path}: none of its {self.n_rows} files is there, first {path}: {reason}"
            )
        if self.unused:
            self.found.notes.append(self._unused_in_words())
        for words, count in self.counts.items():
            forms = ONE if count == 1 else SEVERAL
            self.found.notes.append(words.format(n=count, first=self.first[words], **forms))
        return self.found.samples(os.path.splitext(os.path.basename(self.path))[0])

    def _cells(self, line: int, row: Mapping) -> dict[str, str]:
        """The row's known columns that hold something, as text."""
        cells: dict[str, str] = {}
        for key, value in row.items():
            if key not in COLUMNS:
                self._note_unused(key)
            elif _is_text(key, value):
                # a file's name may begin or end with a space
                text = value if key == "path" else str(value).strip()
                if text.strip():
                    cells[key] = self._checked(line, key, text)
            elif value is not None:
                raise self.refuse(line, f"{key} is {_short(value)}; expected text")
        split = cells.get("split", "train")
        if split not in SPLITS_GIVEN:
            raise self.refuse(
                line, f"split is {_short(split)}; expected one of {', '.join(SPLITS_GIVEN)}"
            )
        return cells

    def _checked(self, line: int, key: str, text: str) -> str:
        """A cell's text, with our own escapes read."""
        text = from_cell(text)
        try:
            os.fsencode(text).decode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise self.refuse(
                line, f"{key} is {_short(text)}, which is no text: half of a surrogate pair"
            ) from None
        if "\0" in text:
            raise self.refuse(line, f"{key} is {_short(text)}, which holds a NUL; save it anew")
        return text

    def _note_unused(self, key: object) -> None:
        name = _short(key)
        if name not in self.unused and len(self.unused) < MOST_COLUMNS:
            near = difflib.get_close_matches(str(key)[:40].lower(), COLUMNS, 1)
            self.unused[name] = f" (did you mean {near[0]}?)" if near else ""

    def _unused_in_words(self) -> str:
        """One line for a table of thousands of columns too; those that may be meant come first."""
        names = sorted(self.unused, key=lambda name: not self.unused[name])
        listed = listed_briefly([name + self.unused[name] for name in names])
        what = "column" if len(names) == 1 else "columns"
        return f"{NOT_USED}{what} {listed}; expected {EXPECTED}"

    def _count(self, words: str, example: str) -> None:
        self.first.setdefault(words, example)
        self.counts[words] += 1

    def _label(self, line: int, label: str) -> str:
        if label.lower() in NO_LABEL:
            raise self.refuse(
                line,
                f"label is {label!r}, which tables write where there is none; "
                "leave the row out, or call the class otherwise",
            )
        if label.lower() in MAYBE_NO_LABEL:
            self._count(
                "{n} row{s} {have} the label {first!r}: a class of that name, or none?", label
            )
        return self.names.setdefault(label, label)

    def _place(self, cell: str) -> str:
        """Where a row's file lies; read as it may be meant where there is none of that name."""
        path = join(self.folder, cell)
        if not is_url(path) and not os.path.lexists(path) and os.path.lexists(cell):
            # as a run's own tables have them, which lie in its folder
            self._count("{n} path{s} {are} relative to the working folder, first {first}", cell)
            return cell
        spaced, turned = cell.strip(), cell.strip().replace("\\", os.sep)
        if turned != cell and not is_there(path):
            other = next(
                (each for each in (spaced, turned) if is_there(join(self.folder, each))),
                cell,
            )
            path = join(self.folder, other)
            if other not in (cell, spaced):
                self._count(
                    "{n} path{s} with backslashes {are} read as with /, first {first}", cell
                )
        if not is_url(cell) and not _is_below(self.folder, path):
            self._count("{n} path{s} lead{es} out of the manifest's folder, first {first}", cell)
        return path

    def _check_twice(self, line: int, path: str, label: str | None, split: str | None) -> None:
        key = os.path.normpath(path)
        first_line, first_label, first_split = self.met.setdefault(key, (line, label, split))
        if first_line == line:
            return
        for name, now, first in (("label", label, first_label), ("split", split, first_split)):
            if now != first:
                raise self.refuse(
                    line,
                    f"{path} has the {name} {now!r}, and {first!r} in line {first_line}; leave one",
                )
        self._count("{n} row{s} list{es} a path once more, first {first}", path)

    def _check_numbers(self) -> None:
        """Refuse labels that write one number in two ways: a table was joined from two."""
        first: dict[float, str] = {}
        for label in sorted(self.names):
            value = _number(label)
            if value is not None and first.setdefault(value, label) != label:
                raise DataError(
                    f"{self.path}: labels {first[value]!r} and {label!r} are one number: "
                    "write them alike, or call the classes otherwise"
                )


def _encoding(file: BinaryIO) -> str:
    """UTF-8, or what the file's mark says, as spreadsheets write it."""
    mark = file.read(2)
    file.seek(0)
    return "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _csv_rows(table: _Table, file: TextIO) -> NumberedRows:
    """(line number, {column: text}) of every row under the header."""
    first = file.readline(LONGEST_LINE)
    delimiter = delimiter_of(first)
    reader = csv.reader(_lines(table, first, file), strict=True, delimiter=delimiter)
    try:
        header = [_column_name(name) for name in next(reader, [])]
        if not header:
            return
        if delimiter != ",":
            table.found.notes.append(f"{table.path}: cells are separated by {delimiter!r}")
        table.check_header(header)
        header = _distinct(header)
        for row in reader:
            if not row:
                continue
            if len(row) > len(header):
                raise table.refuse(reader.line_num, "more cells than the header has; quote commas")
            yield reader.line_num, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise DataError(
            f"{table.path}, line {reader.line_num}: can't be read as a manifest ({error}); "
            "is a quote never closed, or a letter behind a closing one?"
        ) from error


def _distinct(header: Sequence[str]) -> list[str]:
    """The names of columns, the second of one name with `_2` and so on: no column is lost."""
    names: list[str] = []
    for name in header:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        taken = {*names, *header} if name in names else ()
        names.append(next(own for own in itertools.chain([name], numbered) if own not in taken))
    return names


def _lines(table: _Table, first: str, file: TextIO) -> Iterator[str]:
    line = first
    while line:
        if len(line) >= LONGEST_LINE:
            raise DataError(f"{table.path}: a line of over a million characters; no manifest")
        yield line
        line = file.readline(LONGEST_LINE)


def delimiter_of(header: str) -> str:
    """What separates the cells of a header: the first with which it has the column path."""
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            continue
        if "path" in map(_column_name, names):
            return delimiter
    return ","


def _column_name(name: str) -> str:
    """A column's name as it is compared: `Path` is path; others stay as they are written."""
    name = name.strip()
    return name.lower() if name.lower() in COLUMNS else name


def _json_rows(table: _Table, file: TextIO) -> NumberedRows:
    """(line number, object) of every line that is not blank."""
    first = file.readline(LONGEST_LINE)
    for line, text in enumerate(_lines(table, first, file), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{table.path}, line {line}: not JSON ({error}); expected one object per line"
            ) from error
        if not isinstance(row, dict):
            raise table.refuse(
                line, f"{text.strip()[:40]!r} came; expected an object with path and label"
            )
        yield line, row


def _once(pairs: Sequence[tuple[str, object]]) -> dict:
    """An object of JSON, each key once."""
    row = dict(pairs)
    if len(row) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {key!r} comes twice")
    return row


def _is_text(key: str, value: object) -> bool:
    """Whether JSON's value serves: a string, or a whole number for a label, group or split."""
    # type() is not isinstance(): true and false are whole numbers to Python
    return isinstance(value, str) or (key != "path" and type(value) is int)


def _is_below(folder: str, path: str) -> bool:
    """Whether a path stays in a folder as it is written; links are not followed."""
    top = os.path.join(os.path.abspath(folder), "")
    return os.path.abspath(path).startswith(top)


def _number(label: str) -> float | None:
    """What a label is worth as a decimal number, or None."""
    # 01 beside 1 is a code, and so is what is longer than a number's digits
    return float(label) if len(label) < 16 and _DECIMAL.fullmatch(label) else None


def _short(value: object) -> str:
    """What came, as far as a line holds it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


# by suffix, what reads the open file
MANIFESTS: dict[str, Callable[[_Table, TextIO], NumberedRows]] = {
    ".csv": _csv_rows,
    ".jsonl": _json_rows,
}
