"""What a part says of itself behind its HDF5 bytes, and the checks that the whole file holds it.

A reader asks HDF5 nothing: what lies where stands in this description, and a checksum of it covers
whatever is not a row.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from extract.recipe import SCHEMA
from extract.store.rows_on_disk import Column, WrongBytes

DTYPES = {
    np.dtype(kind).str: np.dtype(kind) for kind in (np.uint8, np.float16, np.float32, np.float64)
}
MAGIC = b"permafrost part\n"
DIGEST_BYTES = 16
END = struct.Struct(f"<Q{DIGEST_BYTES}s{len(MAGIC)}s")  # the text's length, its digest, whose it is
LONGEST_TEXT = 16 << 20
LONGEST_REST = 256 << 20  # of what is neither a row nor the text; a few kilobytes are usual
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """Where the (n, width) rows of one dataset lie: chunks of `step` rows, the last one padded.

    offsets, crc32: of each chunk, in bytes from the file's start, and of the bytes of all its rows.
    """

    dtype: str
    width: int
    step: int
    offsets: list[int]
    crc32: list[int]


@dataclass(frozen=True)
class Description:
    """All that is read from a part beside its rows.

    recipe : id of the recipe whose rows these are.
    rows : of every dataset.
    datasets : by the name in the file, `ids` and `taps/<tap>`.
    provenance : as it stands in the file's attributes.
    size : of the HDF5 bytes.
    rest : CRC-32 of those of them that lie in no chunk.
    """

    recipe: str
    rows: int
    datasets: Mapping[str, Layout]
    provenance: Mapping[str, str]
    size: int
    rest: int

    def to_bytes(self) -> bytes:
        """What follows the HDF5 bytes."""
        text = self._text()
        return text + END.pack(len(text), _digest(text), MAGIC)

    @property
    def digest(self) -> str:
        """Hex digits that stand for all that the part holds: the rows by their checksums."""
        return _digest(self._text()).hex()

    def _text(self) -> bytes:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, sort_keys=True).encode()

    def column(self, path: Path, file_size: int, name: str) -> Column:
        """The rows of a dataset in the file at `path`."""
        layout = self.datasets[name]
        return Column(
            path=path,
            file_size=file_size,
            dtype=DTYPES[layout.dtype],
            shape=(self.rows, layout.width),
            step=layout.step,
            offsets=np.array(layout.offsets, np.int64),
            checksums=np.array(layout.crc32, np.uint32),
            checked=np.zeros(len(layout.offsets), bool),
        )

    def gaps(self) -> Iterator[tuple[int, int]]:
        """(start, end) of the HDF5 bytes between the chunks; ValueError where chunks overlap."""
        at = 0
        for start, end in sorted(self._chunks()):
            if start < at:
                raise ValueError("two of its chunks lie in one place")
            yield at, start
            at = end
        if at > self.size:
            raise ValueError("a chunk lies behind its end")
        yield at, self.size

    def _chunks(self) -> Iterator[tuple[int, int]]:
        for layout in self.datasets.values():
            size = layout.step * layout.width * DTYPES[layout.dtype].itemsize
            yield from ((offset, offset + size) for offset in layout.offsets)


def read_description(path: Path, file: BinaryIO) -> Description:
    """The description of an open part, all but its rows compared with it; else WrongBytes."""
    size = os.fstat(file.fileno()).st_size
    try:
        described = _parsed(_text(file, size))
        if described.size + len(described.to_bytes()) != size:
            raise ValueError(f"its size is not {described.size} bytes and their description")
        gaps = list(described.gaps())
        if sum(end - start for start, end in gaps) > LONGEST_REST:
            raise ValueError("too little of it is rows")
        if _crc(file, gaps) != described.rest:
            raise ValueError("wrong checksum of what lies between its rows")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise WrongBytes(path, str(error) or type(error).__name__) from error
    return described


def _text(file: BinaryIO, size: int) -> bytes:
    """The description's bytes, found from the file's end."""
    if size < END.size:
        raise ValueError(f"{size} bytes are no part")
    file.seek(size - END.size)
    length, digest, magic = END.unpack(file.read(END.size))
    if magic != MAGIC:
        raise ValueError("it does not end as a part of this version does")
    if length > min(size - END.size, LONGEST_TEXT):
        raise ValueError(f"its description can't be {length} bytes long")
    file.seek(size - END.size - length)
    text = file.read(length)
    if _digest(text) != digest:
        raise ValueError("wrong checksum of its description")
    return text


def _parsed(text: bytes) -> Description:
    """A description whose numbers make sense together; who writes the digest may write nonsense."""
    values = json.loads(text)
    if values.pop("schema") != SCHEMA:
        raise ValueError(f"it is not of schema {SCHEMA}")
    datasets = {name: Layout(**layout) for name, layout in values.pop("datasets").items()}
    described = Description(**values, datasets=datasets)
    numbers = [described.rows, described.size, described.rest]
    for layout in datasets.values():
        numbers += [layout.width, layout.step, *layout.offsets, *layout.crc32]
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers):
        raise ValueError("a number of its description is none")
    texts = [described.recipe, *described.provenance.values()]
    if not all(type(text) is str for text in texts):
        raise ValueError("a text of its description is none")
    for name, layout in datasets.items():
        chunks = -(-described.rows // max(1, layout.step))
        whole = layout.step <= max(1, described.rows)  # a reader makes room for a chunk
        if not whole or len(layout.offsets) != chunks or len(layout.crc32) != chunks:
            raise ValueError(f"{name} is not {described.rows} rows in chunks of {layout.step}")
        if layout.dtype not in DTYPES:
            raise ValueError(f"{name} is of {layout.dtype!r}, expected {', '.join(DTYPES)}")
    ids = datasets["ids"]
    if (ids.dtype, ids.width) != ("|u1", 16):
        raise ValueError("its ids are not 16 bytes each")
    return described


def _crc(file: BinaryIO, gaps: list[tuple[int, int]]) -> int:
    crc = 0
    for start, end in gaps:
        file.seek(start)
        for at in range(start, end, READ_BYTES):
            crc = zlib.crc32(file.read(min(READ_BYTES, end - at)), crc)
    return crc


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()
