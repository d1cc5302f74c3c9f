"""The directories of a TIFF: what a file says of its pages, read within bounds."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

ReadAt = Callable[[int, int], bytes]  # (offset, size) -> so many bytes, fewer at the end

# letter of struct for each kind of number that pixels depend on; 2 and 7 stay bytes
KINDS = {
    1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i",
    11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q",
}  # fmt: skip

SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
FILL_ORDER, DESCRIPTION, STRIP_OFFSETS, ORIENTATION, SAMPLES = 266, 270, 273, 274, 277
ROWS_PER_STRIP, STRIP_COUNTS, MAX_VALUE, PLANAR, PREDICTOR = 278, 279, 281, 284, 317
COLORMAP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS = 320, 322, 323, 324, 325
SUB_DIRECTORIES, INK_SET, EXTRA, SAMPLE_FORMAT, SUBSAMPLING = 330, 332, 338, 339, 530
DEPTH, NODATA, DNG = 32997, 42113, 50706

# what a decoder needs and nothing else: whose tags these are not, it can't stumble over
DECODED = {
    WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, SAMPLES,
    ROWS_PER_STRIP, STRIP_COUNTS, PLANAR, 292, 293, PREDICTOR, COLORMAP, TILE_WIDTH, TILE_LENGTH,
    TILE_OFFSETS, TILE_COUNTS, INK_SET, EXTRA, SAMPLE_FORMAT, 347, *range(512, 522), 529,
    SUBSAMPLING, 531, 532, 50674,
}  # fmt: skip

MAX_PAGES = 65_536
MAX_ENTRIES = 4_096
_REDUCED_OR_MASK = 1 | 4


@dataclass(frozen=True)
class Entry:
    """One tag as it stands in the file: the kind of its numbers, how many, and their bytes."""

    kind: int
    many: int
    raw: bytes


@dataclass(frozen=True)
class Form:
    """How numbers are laid out: order of bytes, and whether offsets have 8 (a BigTIFF) or 4."""

    order: str
    big: bool

    @property
    def head(self) -> int:
        """Bytes of a directory's number of entries."""
        return 8 if self.big else 2

    @property
    def entry(self) -> int:
        """Bytes of an entry: tag and kind, how many, the value or where it is."""
        return 20 if self.big else 12

    @property
    def word(self) -> str:
        """Letter of struct for an offset."""
        return "Q" if self.big else "I"

    @property
    def word_size(self) -> int:
        """Bytes of an offset."""
        return 8 if self.big else 4

    def unpack(self, letters: str, raw: bytes) -> tuple:
        """Numbers of the file's byte order."""
        return struct.unpack(self.order + letters, raw)

    def pack(self, letters: str, *numbers: int) -> bytes:
        """Numbers in the file's byte order."""
        return struct.pack(self.order + letters, *numbers)


@dataclass(frozen=True)
class Page:
    """One directory, by tag."""

    form: Form
    entries: dict[int, Entry] = field(repr=False)

    def all(self, tag: int) -> tuple:
        """The numbers of a tag, or its bytes as the one value; () where it is absent."""
        entry = self.entries.get(tag)
        if entry is None:
            return ()
        letters = KINDS[entry.kind]
        if letters == "s":
            return (entry.raw,)
        try:
            return self.form.unpack(letters * entry.many, entry.raw)
        except struct.error:
            raise ValueError(f"tag {tag} is cut short") from None

    def one(self, tag: int, default: int) -> int:
        """The first number of a tag."""
        found = self.all(tag)
        return int(found[0]) if found and isinstance(found[0], int) else default

    def text(self, tag: int) -> str:
        """A tag of letters, up to its NUL."""
        found = self.all(tag)
        raw = found[0] if found and isinstance(found[0], bytes) else b""
        return raw.split(b"\0")[0].decode("latin-1")

    def with_numbers(self, tag: int, kind: int, numbers: list[int] | tuple[int, ...]) -> "Page":
        """The same page with another value of a tag."""
        raw = self.form.pack(KINDS[kind] * len(numbers), *numbers)
        return Page(self.form, {**self.entries, tag: Entry(kind, len(numbers), raw)})


def read_pages(read: ReadAt, size: int, wanted: int) -> tuple[Page, int]:
    """The wanted page, from 0, and how many there are; smaller copies and masks are not pages.

    A file that holds nothing else shows its first directory.
    """
    form, at = _form(read(0, 16))
    found: list[int] = []
    first = at
    seen: set[int] = set()
    while at and at not in seen:
        if len(seen) == MAX_PAGES:
            raise ValueError(f"over {MAX_PAGES:,} pages")
        seen.add(at)
        try:
            reduced, following = _glance(form, read, at)
        except (struct.error, ValueError):
            if not found:
                raise
            break  # a broken end of the chain does not cost the pages before it
        if not reduced:
            found.append(at)
        at = following
    if not found:
        page = _read_page(form, read, size, first)
        if page.all(SUB_DIRECTORIES):
            raise ValueError("holds a preview alone (a camera's raw file?); expected a picture")
        found = [first]
    if wanted >= len(found):
        frames = _imagej_frames(form, read, size, found)
        if wanted < frames:
            return _shifted(_read_page(form, read, size, found[0]), wanted), frames
        raise ValueError(f"page {wanted + 1} was asked for; the file has {max(len(found), frames)}")
    page = _read_page(form, read, size, found[wanted])
    return page, max(len(found), _imagej_frames(form, read, size, found))


def rewritten(data: bytes, page: Page) -> bytes:
    """The file with this page alone, and of its tags those that a decoder needs.

    A BigTIFF becomes a smaller one where it can: Pillow mistakes those of big-endian order.
    """
    entries = {tag: one for tag, one in page.entries.items() if tag in DECODED}
    if page.form.big and len(data) < 2**31:
        page = Page(Form(page.form.order, False), {})
        entries = {tag: _narrowed(page, one) for tag, one in entries.items()}
    form = page.form
    at = len(data) + len(data) % 2
    after = at + form.head + form.entry * len(entries) + form.word_size
    table, later = [form.pack("Q" if form.big else "H", len(entries))], b""
    for tag, one in sorted(entries.items()):
        value = one.raw
        if len(value) > form.word_size:
            value = form.pack(form.word, after + len(later))
            later += one.raw + b"\0" * (len(one.raw) % 2)
        table.append(form.pack("HH" + form.word, tag, one.kind, one.many))
        table.append(value.ljust(form.word_size, b"\0"))
    table.append(bytes(form.word_size))
    version = form.pack("HHH", 43, 8, 0) if form.big else form.pack("H", 42)
    head = data[:2] + version + form.pack(form.word, at)
    return b"".join([head, data[len(head) :], b"\0" * (len(data) % 2), *table, later])


def _narrowed(page: Page, entry: Entry) -> Entry:
    """Numbers of 8 bytes as numbers of 4."""
    if entry.kind not in (16, 18):
        return entry
    numbers = page.form.unpack("Q" * entry.many, entry.raw)
    return Entry(4, entry.many, page.form.pack("I" * entry.many, *numbers))


def _form(head: bytes) -> tuple[Form, int]:
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    form = Form(order, head[2:4] in (b"+\0", b"\0+"))
    if form.big and head[4:8] != form.pack("HH", 8, 0):
        raise ValueError("a BigTIFF whose offsets have not 8 bytes")
    start = 8 if form.big else 4
    (at,) = form.unpack(form.word, head[start : start + form.word_size])
    return form, at


def _glance(form: Form, read: ReadAt, at: int) -> tuple[bool, int]:
    """Whether a directory is of a reduced picture or a mask, and where the next one is."""
    many = _entries(form, read, at)
    # tags are sorted, and this one has the lowest number of all
    tag, kind, _, value = form.unpack("HH" + form.word * 2, read(at + form.head, form.entry))
    if tag == SUBFILE and form.order == ">" and kind == 3:
        value >>= 8 * (form.word_size - 2)
    reduced = tag == SUBFILE and bool(value & _REDUCED_OR_MASK)
    end = at + form.head + form.entry * many
    following = read(end, form.word_size)
    # a file that ends with its last entry lacks the 0 that says so
    return reduced, form.unpack(form.word, following)[0] if len(following) == form.word_size else 0


def _entries(form: Form, read: ReadAt, at: int) -> int:
    (many,) = form.unpack("Q" if form.big else "H", read(at, form.head))
    if not 0 < many <= MAX_ENTRIES:
        raise ValueError(f"a directory of {many:,} tags")
    return many


def _read_page(form: Form, read: ReadAt, size: int, at: int) -> Page:
    many = _entries(form, read, at)
    table = read(at + form.head, form.entry * many)
    if len(table) < form.entry * many:
        raise ValueError("a directory is cut short")
    entries: dict[int, Entry] = {}
    left = size  # what all tags together may hold
    for number in range(many):
        raw = table[number * form.entry : (number + 1) * form.entry]
        tag, kind, values = form.unpack("HH" + form.word, raw[: -form.word_size])
        if kind not in KINDS or tag in entries:
            continue
        length = values * struct.calcsize("<" + KINDS[kind])
        if length <= form.word_size:
            body = raw[-form.word_size :][:length]
        elif tag in DECODED or tag in (DESCRIPTION, NODATA, SUB_DIRECTORIES):
            left -= length
            if left < 0:
                raise ValueError(f"tag {tag} holds more than the file")
            body = read(form.unpack(form.word, raw[-form.word_size :])[0], length)
            if len(body) < length:
                if tag in DECODED:
                    raise ValueError(f"tag {tag} lies outside of the file")
                continue
        else:
            continue
        entries[tag] = Entry(kind, values, body)
    return Page(form, entries)


def _imagej_frames(form: Form, read: ReadAt, size: int, found: list[int]) -> int:
    """How many pictures ImageJ wrote one after the other below one directory; 1 if it did not."""
    if len(found) != 1:
        return 1
    page = _read_page(form, read, size, found[0])
    lines = page.text(DESCRIPTION).split("\n")
    frames = [line.removeprefix("images=") for line in lines if line.startswith("images=")]
    contiguous = len(page.all(STRIP_OFFSETS)) == 1 and page.one(COMPRESSION, 1) == 1
    if not (contiguous and lines[0].startswith("ImageJ=") and frames and frames[0].isdecimal()):
        return 1
    fit = (size - page.one(STRIP_OFFSETS, 0)) // max(1, page.one(STRIP_COUNTS, 0))
    return max(1, min(int(frames[0][:9]), fit))


def _shifted(page: Page, frames: int) -> Page:
    at = page.one(STRIP_OFFSETS, 0) + frames * page.one(STRIP_COUNTS, 0)
    return page.with_numbers(STRIP_OFFSETS, 16 if page.form.big else 4, (at,))


def reader(data: bytes) -> ReadAt:
    """Bytes in memory, as `read_pages` asks for them."""
    return lambda at, size: data[at : at + size]
