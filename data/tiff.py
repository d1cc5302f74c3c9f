"""TIFF: Pillow for ordinary pictures of 8 bits, tifffile for what Pillow can't read right."""

import ctypes
import io
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from data import tiff_tags as tags
from data.opened import FORMATS_EXTRA, Asked, Opened
from data.tiff_tags import Page
from data.values import Values, count, declared_range

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, LAB, ICC_LAB = *range(7), 8, 9
# bands that are no extra ones
COLOURS = {
    WHITE_IS_ZERO: 1,
    BLACK_IS_ZERO: 1,
    RGB: 3,
    PALETTE: 1,
    MASK: 1,
    CMYK: 4,
    YCBCR: 3,
    LAB: 3,
    ICC_LAB: 3,
}
REFUSED = {
    10: "ITU Lab",
    32803: "a camera's raw colour filter",
    32844: "LogL",
    32845: "LogLuv",
    34892: "a camera's linear raw",
}
UNSIGNED, SIGNED, FLOAT, VOID = 1, 2, 3, 4
NUMBERS = {UNSIGNED: "iu", SIGNED: "i", FLOAT: "f", VOID: "iu"}
RAW, OLD_JPEG, JPEG = 1, 6, 7
CCITT = (2, 3, 4)
# what Pillow's libtiff decompresses, and tifffile by itself
BY_LIBTIFF = (RAW, *CCITT, 5, OLD_JPEG, JPEG, 8, 32773, 32946, 34925, 50000)
# LZW, JPEG, JPEG 2000, LERC, LZMA, Zstandard, WebP, JPEG XL: of the codecs that tifffile knows
# those that keep quiet about broken files
BY_IMAGECODECS = {RAW, 5, JPEG, 8, 32773, 32946, 33003, 33004, 33005, 34712, 34887, 34925}
BY_IMAGECODECS |= {50000, 50001, 50002, 52546}
BY_TIFFFILE = (RAW, 8, 32773, 32946)
# a byte of these holds at most so many of the picture; others have no such bound
EXPANDS = {5: 4_000, 8: 1_100, 32946: 1_100, 32773: 128}
BYTES_PER_PIXEL = 8  # of the limit on pixels: four bands of 16 bits, or one of 64
ALPHAS = {1: True, 2: False, 999: False}  # kind of an extra band -> premultiplied; 999: CorelDRAW

# the one place from which tifffile speaks of what it meets
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False


@dataclass(frozen=True)
class Layout:
    """How the pixels of a page lie, by its tags."""

    width: int
    height: int
    samples: int
    bits: int
    kind: int
    photometric: int
    extras: tuple[int, ...]
    planar: bool
    compression: int
    predictor: int

    @property
    def colours(self) -> int:
        """Bands that are no extra ones."""
        return self.samples - len(self.extras)

    @property
    def alpha(self) -> int | None:
        """Which band is transparency, if any."""
        for number, kind in enumerate(self.extras):
            if kind in ALPHAS:
                return self.colours + number
        return None

    @property
    def premultiplied(self) -> bool:
        """Whether colours were multiplied by the transparency."""
        return self.alpha is not None and ALPHAS[self.extras[self.alpha - self.colours]]


def read_tiff(data: bytes, asked: Asked) -> Opened:
    """The wanted page of a TIFF."""
    silence_libtiff()
    page, pages = tags.read_pages(tags.reader(data), len(data), asked.reading.page)
    layout = layout_of(page)
    asked.check_size(layout.width, layout.height)
    notes = []
    if pages > 1 and not asked.reading.page:  # another page was asked for, knowing so
        notes.append(f"1 of {pages} pages")
    if asked.reading.channels is None:
        notes += _check_bands(layout)
    size = layout.width * layout.height * layout.samples * layout.bits // 8
    if size > BYTES_PER_PIXEL * asked.max_pixels:
        raise ValueError(f"{size:,} bytes of pixels are over the limit")
    page = _check_segments(page, layout, data)
    if tags.PHOTOMETRIC not in page.entries:  # without it Pillow takes 0 for white
        page = page.with_numbers(tags.PHOTOMETRIC, 3, (layout.photometric,))
    clean = tags.rewritten(data, page)
    chosen = asked.reading.channels is not None
    plain = _is_plain(page, layout) and not (chosen and layout.extras)
    pixels: Image.Image | Values | None = _by_pillow(clean) if plain else None
    if pixels is None and chosen:
        pixels = Values(_array(clean, layout), _declared(page, layout), missing=_missing(page))
    elif pixels is None:
        pixels = _interpret(_array(clean, layout), page, layout)
    if not chosen and layout.alpha is not None and _shines_through(pixels):
        notes.append(f"band {layout.alpha + 1} of {layout.samples} is transparency by its tag")
    return Opened(pixels, tuple(notes), orientation=page.one(tags.ORIENTATION, 1))


def is_deep(page: Page) -> bool:
    """Whether a page's numbers need a range that it does not declare."""
    layout = layout_of(page)
    return layout.photometric not in (PALETTE, CMYK, YCBCR, LAB, ICC_LAB) and (
        _declared(page, layout) is None
    )


def silence_libtiff() -> None:
    """Keep libtiff, below Pillow, from writing to the process's stderr; once is for all threads."""
    if silence_libtiff.done:  # type: ignore[attr-defined]
        return
    silence_libtiff.done = True  # type: ignore[attr-defined]
    try:
        # a library's symbols are found through the one that is linked with it
        linked = ctypes.CDLL(Image.core.__file__)
        for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
            setter = getattr(linked, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
    except (OSError, AttributeError):
        pass  # a Pillow that hides them: its lines are ugly, no more


silence_libtiff.done = False  # type: ignore[attr-defined]


def layout_of(page: Page) -> Layout:
    """How the pixels lie; refuses what no reader takes."""
    compression = page.one(tags.COMPRESSION, RAW)
    samples = page.one(tags.SAMPLES, 3 if compression == OLD_JPEG else 1)
    photometric = page.one(tags.PHOTOMETRIC, BLACK_IS_ZERO if samples < 3 else RGB)
    if photometric not in COLOURS:
        what = REFUSED.get(photometric, f"pixels of kind {photometric}")
        raise ValueError(f"{what}; expected gray, RGB, a palette, CMYK, YCbCr or Lab")
    bits = _alike(page, tags.BITS, samples, 1, "bits")
    kind = _alike(page, tags.SAMPLE_FORMAT, samples, UNSIGNED, "sample formats")
    if kind not in NUMBERS:
        raise ValueError(f"complex numbers of {bits} bits; expected integers or floats")
    if not 1 <= bits <= 64 or samples < 1:
        raise ValueError(f"{count(samples, 'band')} of {bits} bits; expected 1 or 3 bands")
    if kind == FLOAT and bits not in (16, 24, 32, 64):
        raise ValueError(f"floats of {bits} bits; expected 16, 24, 32 or 64")
    if page.one(tags.DEPTH, 1) > 1:
        raise ValueError(f"a volume of {page.one(tags.DEPTH, 1)} planes; expected a picture")
    return Layout(
        width=page.one(tags.WIDTH, 0),
        height=page.one(tags.LENGTH, 0),
        samples=samples,
        bits=bits,
        kind=kind,
        photometric=photometric,
        extras=_extras(page, samples, photometric),
        planar=page.one(tags.PLANAR, 1) == 2 and samples > 1,
        compression=compression,
        predictor=page.one(tags.PREDICTOR, 1),
    )


def _alike(page: Page, tag: int, samples: int, default: int, what: str) -> int:
    found = page.all(tag)[:samples] or (default,)
    if len(set(found)) > 1:
        text = ", ".join(map(str, found[:8]))
        raise ValueError(f"bands of different {what} ({text}); expected them alike")
    return found[0] if isinstance(found[0], int) else default


def _extras(page: Page, samples: int, photometric: int) -> tuple[int, ...]:
    """The kind of each band beyond the colours, 0 for none."""
    colours = 1 if photometric == YCBCR and samples == 1 else COLOURS[photometric]
    many = samples - colours
    if many <= 0:
        return ()
    said = page.all(tags.EXTRA)
    if not said and photometric == RGB and samples == 4:
        return (2,)  # as Pillow and most others take a fourth band that says nothing of itself
    kinds = [kind if isinstance(kind, int) else 0 for kind in said[:many]]
    return (*kinds, *[0] * (many - len(kinds)))


def _check_bands(layout: Layout) -> list[str]:
    """Notes about bands that are left out; refuses where nothing says which ones are colours."""
    extras = layout.extras
    if layout.samples < COLOURS[layout.photometric] and layout.photometric != YCBCR:
        raise ValueError(
            f"{count(layout.samples, 'band')} of colour; expected {COLOURS[layout.photometric]} "
            "(--channels 0 chooses)"
        )
    unknown = [layout.colours + n for n, kind in enumerate(extras) if kind not in ALPHAS]
    guessed = layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and len(unknown) > 1
    if layout.samples > 4 + (layout.colours == 4 and not unknown) or guessed:
        raise ValueError(
            f"{count(layout.samples, 'band')} of {layout.bits} bits; expected 1 or 3 "
            "(--channels 0,2,1 chooses)"
        )
    return [f"band {band + 1} of {layout.samples} left out" for band in unknown]


def _check_segments(page: Page, layout: Layout, data: bytes) -> Page:
    """The page with the bytes of each strip or tile; refuses where they are not all in the file."""
    if layout.compression == OLD_JPEG:
        return page  # its pieces may lie in one stream, which has no counts
    tiled = tags.TILE_OFFSETS in page.entries
    width, height = layout.width, min(page.one(tags.ROWS_PER_STRIP, layout.height), layout.height)
    if tiled:
        width, height = page.one(tags.TILE_WIDTH, 0), page.one(tags.TILE_LENGTH, 0)
    if width < 1 or height < 1 or width * height > 4 * layout.width * layout.height + 2**24:
        raise ValueError(f"strips or tiles of {width} x {height}")
    planes = layout.samples if layout.planar else 1
    across, down = -(-layout.width // width), -(-layout.height // height)
    needed = across * down * planes
    offsets = page.all(tags.TILE_OFFSETS if tiled else tags.STRIP_OFFSETS)
    counts_tag = tags.TILE_COUNTS if tiled else tags.STRIP_COUNTS
    counts = page.all(counts_tag)
    if len(offsets) < needed:
        raise ValueError(f"{count(len(offsets), 'strip or tile')}; expected {needed:,}")
    row = math.ceil(width * layout.bits * layout.samples // planes / 8)
    if layout.compression == RAW and not _is_subsampled(page, layout):
        last = height if tiled else (layout.height - 1) % height + 1
        sizes = ([row * height] * (down - 1) * across + [row * last] * across) * planes
        # counts are left out, or wrong, where nothing needs them
        if len(counts) < needed or any(
            0 < had < want for had, want in zip(counts, sizes, strict=False)
        ):
            counts = tuple(sizes)
            page = page.with_numbers(counts_tag, 16 if page.form.big else 4, counts)
    if len(counts) < needed:
        raise ValueError("no sizes of its strips or tiles")
    _check_inside(offsets[:needed], counts[:needed], len(data))
    stored, most = sum(counts[:needed]), EXPANDS.get(layout.compression)
    if most and row * height * needed > most * stored + 2**20:
        raise ValueError(f"{count(stored, 'byte')} can't hold its pixels")
    return page


def _check_inside(offsets: tuple, counts: tuple, size: int) -> None:
    for at, many in zip(offsets, counts, strict=True):
        # both 0 is a tile that a sparse file never wrote
        if at + many > size or (not many and at) or (many and not at):
            raise ValueError("the file is cut short")
    if not any(counts):
        raise ValueError("no pixels in it")


def _is_subsampled(page: Page, layout: Layout) -> bool:
    if layout.photometric != YCBCR or layout.samples == 1:
        return False
    factors = page.all(tags.SUBSAMPLING) or (2, 2)
    if factors == (1, 1):
        return False
    # files that leave the tag out and hold every pixel's colour: the bytes tell
    whole = layout.width * layout.height * 3
    return sum(page.all(tags.STRIP_COUNTS) or page.all(tags.TILE_COUNTS)) < whole


def _is_plain(page: Page, layout: Layout) -> bool:
    """Whether Pillow gives the right pixels."""
    if layout.bits > 8 or layout.kind not in (UNSIGNED, VOID):
        return False
    if layout.compression not in BY_LIBTIFF or layout.photometric in (MASK, ICC_LAB):
        return False
    if layout.bits not in ((8,) if layout.samples > 1 else (1, 2, 4, 8)):
        return False
    if layout.compression == RAW and (layout.planar or layout.predictor != 1):
        return False
    if layout.photometric == PALETTE and max(page.all(tags.COLORMAP), default=0) < 256:
        return False
    if layout.photometric in (WHITE_IS_ZERO, LAB) and layout.extras:
        return False
    if layout.compression == RAW and layout.photometric == YCBCR and _is_subsampled(page, layout):
        raise ValueError("YCbCr of fewer colours than pixels, without JPEG; expected RGB")
    return True


def _by_pillow(clean: bytes) -> Image.Image | None:
    """The page by Pillow; None for a combination of bands that it does not know."""
    try:
        image = TiffImageFile(io.BytesIO(clean))
    except (SyntaxError, KeyError):
        return None
    image.load()
    return image.convert("LA") if image.mode == "La" else image


def _array(clean: bytes, layout: Layout) -> np.ndarray:
    """(h, w) or (h, w, bands), as the numbers stand in the file."""
    if not _tifffile_can(layout):
        return _array_by_pillow(clean, layout)
    import tifffile  # 40 ms, for files that need it

    with tifffile.TiffFile(io.BytesIO(clean)) as file:
        # (planes, depth, height, width, bands)
        array = file.pages.first.asarray(squeeze=False, maxworkers=1)[:, 0]
    array = np.moveaxis(array, 0, -1)[..., 0, :] if len(array) > 1 else array[0]
    if array.shape != (layout.height, layout.width, layout.samples):
        raise ValueError(f"pixels of shape {array.shape}")
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    if array.dtype.kind not in NUMBERS[layout.kind]:
        raise ValueError(f"{layout.bits}-bit numbers that came as {array.dtype}")
    return array[..., 0] if layout.samples == 1 else array


def _tifffile_can(layout: Layout) -> bool:
    if find_spec("imagecodecs") is not None:
        return layout.compression in BY_IMAGECODECS
    return (
        layout.compression in BY_TIFFFILE
        and layout.bits in (1, 8, 16, 32, 64)
        and layout.predictor in (1, 2)
    )


def _array_by_pillow(clean: bytes, layout: Layout) -> np.ndarray:
    """What tifffile needs imagecodecs for and libtiff decompresses as well."""
    if layout.compression not in BY_LIBTIFF or layout.samples > 4:
        raise _needs_extra(layout)
    try:
        image = TiffImageFile(io.BytesIO(clean))
        other = TiffImageFile(io.BytesIO(clean))
    except (SyntaxError, KeyError):
        raise _needs_extra(layout) from None
    little = sys.byteorder == "little"
    if image.mode in ("I", "F") and layout.compression != RAW and little:
        # libtiff gives the machine's order, which Pillow forgets for these two
        _tell(image, lambda rawmode: rawmode.replace("B", ""))
    image.load()
    if image.mode in ("I", "F", "I;16", "I;16B"):
        array = np.asarray(image)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        unsigned = layout.bits == 32 and layout.kind == UNSIGNED
        return array.view(np.uint32) if unsigned else array
    if image.mode in ("RGB", "RGBA") and layout.bits == 16:
        # Pillow keeps one byte of two; which one depends on the order of bytes that it is told
        _tell(other, lambda rawmode: rawmode[:-1] + ("B" if little else "L"))
        other.load()
        return np.asarray(image).astype(np.uint16) << 8 | np.asarray(other)
    raise _needs_extra(layout)


def _tell(image: Any, change: Callable[[str], str]) -> None:
    """Have Pillow take the numbers that libtiff hands over for others."""
    image.tile = [tile._replace(args=(change(tile.args[0]), *tile.args[1:])) for tile in image.tile]


def _needs_extra(layout: Layout) -> ValueError:
    read = layout.compression in BY_IMAGECODECS
    return ValueError(
        f"{count(layout.samples, 'band')} of {layout.bits} bits under compression "
        f"{layout.compression}; "
        + (f"{FORMATS_EXTRA} reads them" if read else "expected a common one such as LZW")
    )


def _interpret(array: np.ndarray, page: Page, layout: Layout) -> Image.Image | Values:
    """The picture that the numbers of a page make by its tags."""
    alpha, over = None, False
    if layout.alpha is not None:
        alpha, over = _alpha8(array[..., layout.alpha], layout), layout.premultiplied
    colours = array[..., : layout.colours] if array.ndim == 3 else array[..., None]
    declared = _declared(page, layout)
    if layout.photometric == PALETTE:
        colours, declared = _by_palette(colours[..., 0], page), (0, 255)
    elif layout.photometric in (CMYK, LAB, ICC_LAB):
        colours, declared = np.asarray(_converted(colours, page, layout)), (0, 255)
    elif layout.photometric == YCBCR and layout.compression not in (OLD_JPEG, JPEG):
        raise ValueError(
            f"YCbCr of {layout.bits} bits under compression {layout.compression}; expected RGB"
        )
    values = Values(
        colours[..., 0] if colours.shape[2] == 1 else colours,
        declared,
        alpha,
        white_is_zero=layout.photometric == WHITE_IS_ZERO,
        missing=_missing(page),
    )
    return replace(values, premultiplied=over)


def _declared(page: Page, layout: Layout) -> tuple[float, float] | None:
    if layout.kind == FLOAT:
        return None
    if layout.kind == SIGNED:
        half = 2 ** (layout.bits - 1)
        return (-half, half - 1) if layout.bits < 16 else None
    most = page.one(tags.MAX_VALUE, 0)
    # other numbers than all bits set are what this one picture holds at most, not what it may hold
    if layout.bits > 8 and 255 <= most < 2**layout.bits - 1 and not most & (most + 1):
        return 0, most
    return declared_range(layout.bits)


def _missing(page: Page) -> float | None:
    try:
        return float(page.text(tags.NODATA))
    except ValueError:
        return None


def _alpha8(band: np.ndarray, layout: Layout) -> np.ndarray:
    if layout.kind == FLOAT:
        return np.rint(np.clip(np.nan_to_num(band), 0, 1) * 255).astype(np.uint8)
    most = 2 ** (layout.bits - (layout.kind == SIGNED)) - 1
    return np.floor(np.clip(band, 0, most) * (255 / most)).astype(np.uint8)


def _by_palette(places: np.ndarray, page: Page) -> np.ndarray:
    entries = np.array(page.all(tags.COLORMAP), np.uint16)
    if not entries.size or entries.size % 3 or places.max() >= entries.size // 3:
        raise ValueError("a palette that lacks colours of the picture")
    # 16 bits by the book; some write 8
    eight = (entries if entries.max() < 256 else entries >> 8).astype(np.uint8)
    return eight.reshape(3, -1).T[places]


def _converted(colours: np.ndarray, page: Page, layout: Layout) -> Image.Image:
    """CMYK and Lab of 8 or 16 bits, by Pillow from the high byte."""
    if layout.bits not in (8, 16) or layout.kind == FLOAT:
        raise ValueError(f"{colours.shape[2]} colour bands of {layout.bits} bits; expected 8 or 16")
    if layout.photometric == CMYK and page.one(tags.INK_SET, 1) != 1:
        raise ValueError("bands of inks other than CMYK")
    eight = np.ascontiguousarray(colours)
    if layout.bits == 16:
        eight = (eight.view(np.uint16) >> 8).astype(np.uint8)
    eight = eight.view(np.uint8)
    mode = "CMYK" if layout.photometric == CMYK else "LAB"
    if layout.photometric == ICC_LAB:
        eight = eight ^ np.array([0, 128, 128], np.uint8)  # from an offset of 128 to signed
    raw = eight.tobytes()
    return Image.frombytes(mode, (layout.width, layout.height), raw, "raw", mode).convert("RGB")


def _shines_through(pixels: Image.Image | Values) -> bool:
    if isinstance(pixels, Values):
        return pixels.alpha is not None and bool(pixels.alpha.min() < 255)
    if pixels.mode not in ("RGBA", "LA", "PA"):
        return False
    return bool(np.asarray(pixels.getchannel("A")).min() < 255)
