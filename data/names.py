"""Names of files and classes made fit for a screen and for the cells of a CSV file, and back."""

import re
from collections.abc import Sequence

# control characters, what turns the direction of text, line ends of Unicode, the byte order mark,
# and halves of surrogate pairs, as which bytes that are no UTF-8 come from the file system
_UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4})")
_ESCAPED_OR_DOUBLED = re.compile(r"\\(?:\\|x[0-9a-f]{2}|u[0-9a-f]{4})")
# what a spreadsheet would compute; a name with apostrophes before it gets one more
_FORMULA = re.compile(r"'*[=+\-@]")


def shown(text: str) -> str:
    r"""Text in which nothing moves the cursor or hides, for a screen: one line, always writable.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        Control characters and bytes that are no UTF-8 as `\xNN`, others that are unfit as `\uNNNN`.

    Examples
    --------
    >>> print(shown("caf\udce9 \x1b[31m.jpg"))
    caf\xe9 \x1b[31m.jpg
    """
    return _UNFIT.sub(_escape, text)


def as_cell(name: str) -> str:
    r"""A name as a cell of a CSV file, from which `from_cell` gets it back.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        As `shown`; with backslashes doubled where one could be mistaken for an escape, and an
        apostrophe before `=`, `+`, `-` or `@`, with which a formula would begin.

    Examples
    --------
    >>> as_cell("=1+1.jpg"), as_cell("cat.jpg")
    ("'=1+1.jpg", 'cat.jpg')
    """
    if _UNFIT.search(name) or _ESCAPE.search(name):
        name = shown(name.replace("\\", "\\\\"))
    return f"'{name}" if _FORMULA.match(name) else name


def from_cell(cell: str) -> str:
    r"""The name that `as_cell` wrote.

    Parameters
    ----------
    cell : str

    Returns
    -------
    str

    Examples
    --------
    >>> from_cell("'=1+1.jpg"), from_cell(r"caf\xe9.jpg") == "caf\udce9.jpg"
    ('=1+1.jpg', True)
    """
    if cell.startswith("'") and _FORMULA.match(cell):
        cell = cell[1:]
    return _ESCAPED_OR_DOUBLED.sub(_read, cell) if _ESCAPE.search(cell) else cell


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number and what it counts, in the singular for one.

    Parameters
    ----------
    number : int
    one : str
    several : str, optional
        By default with s, or es after s.

    Returns
    -------
    str

    Examples
    --------
    >>> counted(1, "class"), counted(3, "class"), counted(1797, "image")
    ('1 class', '3 classes', '1797 images')
    """
    if several is None:
        several = one + ("es" if one.endswith("s") else "s")
    return f"{number} {one if number == 1 else several}"


def as_utf8(name: str) -> str:
    """A name that any program takes: bytes of it that are no UTF-8 are escaped.

    Parameters
    ----------
    name : str
        Such bytes are halves of surrogates, as they come from the file system.

    Returns
    -------
    str

    Examples
    --------
    >>> as_utf8("caf\\udce9") == r"caf\\udce9"
    True
    """
    return name.encode("utf-8", "backslashreplace").decode()


def listed_briefly(names: Sequence[str], most: int = 4) -> str:
    """The first names of a list, and how many more there are.

    Parameters
    ----------
    names : sequence of str
    most : int

    Returns
    -------
    str

    Examples
    --------
    >>> listed_briefly(["cat", "dog", "owl"], most=2)
    'cat, dog and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _escape(found: re.Match) -> str:
    code = ord(found[0])
    if code < 0x80:
        return f"\\x{code:02x}"
    # a byte of a file name, as the file system gives it; U+0080 to U+009F are written \u0080
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _read(found: re.Match) -> str:
    if found[0] == "\\\\":
        return "\\"
    code = int(found[0][2:], 16)
    return chr(code + 0xDC00 if found[0][1] == "x" and code >= 0x80 else code)
