"""GIF, WebP and BMP: by Pillow as they are, the wanted frame of an animation."""

import io

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.WebPImagePlugin import WebPImageFile

from data.opened import NO_PAGES, Asked, Opened, Reader

MAX_GIF_BLOCKS = 100_000


def _plain(plugin: type[ImageFile]) -> Reader:
    """The reader of a format whose files Pillow's plugin opens as they are."""

    def read(data: bytes, asked: Asked) -> Opened:
        image = plugin(io.BytesIO(data))
        asked.check_size(*image.size)
        page = asked.reading.page
        if page and plugin is not BmpImageFile:
            _seek(image, page)
        image.load()
        # a GIF is asked in its own way: Pillow would read it to its end
        frames = getattr(image, "n_frames", 1) if plugin is WebPImageFile else 1
        notes = (f"{page + 1} of {frames} frames",) if frames > 1 else ()
        if page and plugin is BmpImageFile:
            notes = (NO_PAGES,)
        return Opened(image, notes, image.info.get("exif"), image.info.get("xmp"))

    return read


read_webp, read_bmp = _plain(WebPImageFile), _plain(BmpImageFile)
_gif_of_one = _plain(GifImageFile)


def read_gif(data: bytes, asked: Asked) -> Opened:
    """A GIF, and whether it is an animation."""
    opened = _gif_of_one(data, asked)
    if not _moves(data):
        return opened
    return opened._replace(notes=(f"frame {asked.reading.page + 1} of an animation",))


def _moves(data: bytes) -> bool:
    """Whether a GIF holds a second picture; Pillow takes long to tell."""
    at, pictures = 13 + _palette_size(data[10:11]), 0
    for _ in range(MAX_GIF_BLOCKS):
        kind = data[at : at + 1]
        if kind == b",":
            pictures += 1
            if pictures == 2:
                return True
            at += 11 + _palette_size(data[at + 9 : at + 10])
        elif kind == b"!":
            at += 2
        else:
            return False
        at = _after_blocks(data, at)
    return False


def _after_blocks(data: bytes, at: int) -> int:
    """Where a run of blocks ends, which tell their own length and of which the last has none."""
    for _ in range(MAX_GIF_BLOCKS):
        length = data[at : at + 1]
        if length in (b"\0", b""):
            break
        # most are as long as can be: those are counted many at once
        lengths = data[at : at + 2**16 : 256] if length == b"\xff" else b""
        full = len(lengths) - len(lengths.lstrip(b"\xff"))
        at += 256 * full or length[0] + 1
    return at + 1


def _palette_size(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _seek(image: Image.Image, page: int) -> None:
    try:
        image.seek(page)
    except EOFError:
        raise ValueError(f"page {page + 1} was asked for; the file has fewer") from None
