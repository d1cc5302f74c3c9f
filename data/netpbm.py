"""Netpbm's formats: Pillow for PBM, PGM and PPM of 8 bits, numpy for deeper ones, PFM and PAM."""

import io
import re
from typing import NamedTuple

import numpy as np
from PIL.PpmImagePlugin import PpmImageFile

from data.opened import Asked, Opened
from data.values import Values, count

# possessive: nothing is kept for a second try, be a comment 50 MB long
_BETWEEN = rb"(?:[ \t\r\n\v\f]++|#[^\r\n]*+[\r\n])++"
_HEADS = {
    b"14": re.compile(rb"P." + 2 * (_BETWEEN + rb"([0-9]{1,9})") + rb"\s"),
    b"2356": re.compile(rb"P." + 3 * (_BETWEEN + rb"([0-9]{1,9})") + rb"\s"),
    b"fF": re.compile(
        rb"P." + 2 * (_BETWEEN + rb"([0-9]{1,9})") + _BETWEEN + rb"([-+.0-9eE]{1,30})\s"
    ),
}
_ALPHA = (b"GRAYSCALE_ALPHA", b"RGB_ALPHA", b"BLACKANDWHITE_ALPHA")
LONGEST_LINE = 10_000  # of a PAM's head


class _Head(NamedTuple):
    """end: where the pixels begin."""

    width: int
    height: int
    bands: int
    most: int
    end: int
    alpha: bool = False


def read_netpbm(data: bytes, asked: Asked) -> Opened:
    """The first picture of a Netpbm file."""
    if asked.reading.page:
        raise ValueError(f"page {asked.reading.page + 1} was asked for; only the first is read")
    kind = data[1:2]
    if kind == b"7":
        return Opened(_numbers(data, _pam_head(data), asked))
    found = next(one for kinds, one in _HEADS.items() if kind in kinds).match(data)
    if not found:
        raise ValueError("its first line lacks a width, a height or a highest value")
    width, height = int(found[1]), int(found[2])
    asked.check_size(width, height)
    if kind in b"fF":
        return Opened(_floats(data[found.end() :], (height, width), float(found[3]), kind == b"F"))
    most = 1 if kind in b"14" else int(found[3])
    if most > 255 and kind in b"56":
        head = _Head(width, height, 1 if kind == b"5" else 3, most, found.end())
        return Opened(_numbers(data, head, asked))
    if b"#" in found[0]:
        # Pillow reads a comment letter by letter, be it 50 MB long
        data = b" ".join((data[:2], *found.groups())) + b"\n" + data[found.end() :]
    image = PpmImageFile(io.BytesIO(data))
    image.load()
    if image.mode == "I":  # text of more than 8 bits, which Pillow spreads to 0..65535
        return Opened(Values(np.asarray(image), (0, 65535) if most < 65535 else None))
    return Opened(image)


def highest_value(head: bytes) -> int:
    """What the first bytes of a file say is white; 65536 for floats and where they say nothing."""
    kind = head[1:2]
    if kind in b"14":
        return 1
    found = _HEADS[b"2356"].match(head) if kind in b"2356" else None
    return int(found[3]) if found else 65536


def _numbers(data: bytes, head: _Head, asked: Asked) -> Values:
    asked.check_size(head.width, head.height)
    if not 0 < head.most < 65536:
        raise ValueError(f"a highest value of {head.most}; expected 1 to 65535")
    if asked.reading.channels is None and head.bands - head.alpha not in (1, 3):
        raise ValueError(f"{count(head.bands, 'band')}; expected 1 or 3 (--channels 0,2,1 chooses)")
    dtype = np.dtype("u1" if head.most < 256 else ">u2")
    wanted = head.width * head.height * head.bands
    if len(data) - head.end < wanted * dtype.itemsize:
        raise ValueError("the file is cut short")
    array = np.frombuffer(data, dtype, wanted, head.end)
    array = array.astype(dtype.newbyteorder("="), copy=False)
    array = array.reshape(head.height, head.width, head.bands)
    declared = (0, head.most) if head.most < 65535 else None
    if not head.alpha or asked.reading.channels is not None:
        return Values(array[..., 0] if head.bands == 1 else array, declared)
    alpha = np.floor(np.clip(array[..., -1] / head.most, 0, 1) * 255).astype(np.uint8)
    return Values(array[..., 0] if head.bands == 2 else array[..., :-1], declared, alpha)


def _floats(body: bytes, shape: tuple[int, int], scale: float, colour: bool) -> Values:
    # the scale's sign is the order of bytes; rows come from the bottom up
    dtype = np.dtype("<f4" if scale < 0 else ">f4")
    size = shape[0] * shape[1] * (3 if colour else 1)
    if len(body) < 4 * size:
        raise ValueError("the file is cut short")
    array = np.frombuffer(body, dtype, size).astype(np.float32)
    return Values(array.reshape(*shape, 3)[::-1] if colour else array.reshape(shape)[::-1])


def _pam_head(data: bytes) -> _Head:
    said: dict[bytes, bytes] = {}
    at = data.find(b"\n") + 1
    while not said.get(b"ENDHDR"):
        end = data.find(b"\n", at, at + LONGEST_LINE)
        if end < 0 or len(said) > 16:
            raise ValueError("a head of a PAM that has no end")
        name, _, value = data[at:end].strip().partition(b" ")
        if not name.startswith(b"#"):
            said[name] = value.strip() or name
        at = end + 1
    try:
        width, height, bands, most = (
            int(said[name][:9]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
        )
    except KeyError as error:
        raise ValueError(f"the head of a PAM lacks {error.args[0].decode()}") from None
    alpha = said.get(b"TUPLTYPE") in _ALPHA and bands in (2, 4)
    if bands < 1:
        raise ValueError(f"{bands} bands; expected 1 or 3")
    return _Head(width, height, bands, most, at, alpha)
