"""Numbers that are not yet 0 to 255, and how a range of them becomes pixels."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

from data.reading import Reading

LOWEST, HIGHEST = 0.1, 99.9  # percentiles: a hot pixel or a few do not decide a range
SAMPLED = 2**18  # values of one image that its own range is found from
BLOCK = 2**20  # values made floating at once
TABLE = 2**17  # values from which on a table of all of 16 bits is quicker
ABSURD = 1e30  # floating numbers beyond are no measurements: NoData is often 3.4e38
SENTINELS = (-9999, -99999, -32768)  # what marks a missing value where no tag says so
FLAT = 4  # levels of 256 that make no picture


@dataclass(frozen=True)
class Values:
    """An image before its numbers are scaled.

    array: (h, w) or (h, w, bands) of integers or floats. declared: the two numbers that the file
    itself says are black and white, if it does. alpha: (h, w) uint8, 255 where nothing shines
    through. premultiplied: colours were multiplied by it. missing: what marks a missing value.
    """

    array: np.ndarray
    declared: tuple[float, float] | None = None
    alpha: np.ndarray | None = None
    premultiplied: bool = False
    white_is_zero: bool = False
    missing: float | None = None


def declared_range(bits: int) -> tuple[float, float] | None:
    """Black and white of whole numbers of so many bits; None where the bits fill their type.

    Examples
    --------
    >>> declared_range(12), declared_range(16)
    ((0, 4095), None)
    """
    return (0, 2**bits - 1) if bits < 16 else None


def render(values: Values, reading: Reading) -> Image.Image:
    """The RGB image of the values, by the range they declare, else the set's, else their own."""
    array = values.array
    if array.dtype.kind not in "biuf":
        raise ValueError(f"numbers of type {array.dtype}; expected integers or floats")
    if not array.size:
        raise ValueError("no pixels")
    array = _choose(array, reading.channels)
    with np.errstate(all="ignore"):  # what is no number, or too large for its type, is met later on
        pixels = _scale(array, _range(array, values, reading))
        if values.white_is_zero:
            pixels = 255 - pixels
        if array.dtype.kind == "f" or values.missing is not None:
            pixels[is_missing(array, values.missing)] = 0
    image = Image.fromarray(pixels).convert("RGB")
    if values.alpha is None or reading.channels is not None:
        return image
    if values.premultiplied:
        backdrop = Image.fromarray(255 - values.alpha).convert("RGB")
        return ImageChops.add(image, backdrop)
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=Image.fromarray(values.alpha))
    return white


def sample(values: Values, reading: Reading, at_most: int = SAMPLED) -> np.ndarray:
    """Measured values of an image, spread evenly over it; missing and infinite ones left out."""
    array = _choose(values.array, reading.channels)
    step = 1
    while -(-array.shape[0] // step) * -(-array.shape[1] // step) > at_most:
        step += 1
    some = np.ravel(array[::step, ::step])
    with np.errstate(all="ignore"):
        if some.dtype.kind == "f":
            some = some.astype(np.float64)
        left_out = is_missing(some, values.missing)
        if some.dtype.kind in "fi":
            left_out |= np.isin(some, SENTINELS)
        if some.dtype.kind == "f":
            left_out |= ~np.isfinite(some)
    return some[~left_out]


def robust_range(some: np.ndarray) -> tuple[float, float] | None:
    """Two numbers between which nearly all values lie; None where all are one.

    Numbers that fill their type, unsigned ones and floats from 0 to 1, keep its whole range.

    Examples
    --------
    >>> robust_range(np.arange(10_000))
    (9.0, 9990.0)
    >>> robust_range(np.arange(300, 60_000, dtype=np.uint16))
    (0.0, 65535.0)
    """
    if not some.size:
        return None
    low, high = map(float, np.percentile(some, (LOWEST, HIGHEST), method="inverted_cdf"))
    if not low < high:
        low, high = float(some.min()), float(some.max())
    bottom, top = whole_range(some.dtype)
    if bottom == 0 <= low and top / 2 < high <= top:
        return bottom, top
    return (low, high) if low < high else None


def is_missing(array: np.ndarray, missing: float | None) -> np.ndarray:
    """Where no value was measured: not a number, absurdly large, or the file's own mark."""
    left_out = np.zeros(array.shape, bool)
    if array.dtype.kind == "f":
        left_out |= np.isnan(array)
        # 1e30 is inf as float16
        left_out |= np.isfinite(array) & (np.abs(array) >= array.dtype.type(ABSURD))
    if missing is not None:
        # a mark is written as text, and read back it must equal the float32 that was meant
        left_out |= np.isclose(array, missing, rtol=1e-6, atol=0)
    return left_out


def is_flat(pixels: np.ndarray | Image.Image) -> bool:
    """Whether an image holds nothing to see: nearly all its pixels are of nearly one value.

    Parameters
    ----------
    pixels : uint8 array of shape (h, w) or (h, w, 3), or PIL image
        A few odd pixels (1 %) do not count.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_flat(np.zeros((8, 8), np.uint8)), is_flat(np.arange(64, dtype=np.uint8).reshape(8, 8))
    (True, False)
    """
    array = np.asarray(pixels)
    low, high = np.percentile(array, (0.5, 99.5), axis=(0, 1), method="inverted_cdf")
    return bool((high.astype(int) - low.astype(int) < FLAT).all())


def _choose(array: np.ndarray, channels: tuple[int, ...] | None) -> np.ndarray:
    bands = 1 if array.ndim == 2 else array.shape[2]
    if channels is None:
        return array[..., 0] if array.ndim == 3 and bands == 1 else array
    if max(channels) >= bands:
        raise ValueError(
            f"{count(bands, 'band')}; channels {','.join(map(str, channels))} asks for one more "
            f"(the first is 0)"
        )
    array = array.reshape(*array.shape[:2], bands)
    return array[..., channels[0]] if len(channels) == 1 else array[..., channels]


def _range(array: np.ndarray, values: Values, reading: Reading) -> tuple[float, float]:
    if values.declared is not None:
        return values.declared
    if isinstance(reading.intensity, tuple):
        return reading.intensity
    own = None if reading.full else robust_range(sample(values, reading))
    return own or whole_range(array.dtype)


def whole_range(dtype: np.dtype) -> tuple[float, float]:
    """What full means: all of an integer type, 0 to 1 of floats."""
    if dtype.kind not in "iu":
        return 0.0, 1.0
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def _scale(array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """(h, w) or (h, w, 3) uint8."""
    low, high = limits
    if array.dtype == np.uint8 and (low, high) == (0, 255):
        return np.array(array)
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2 and array.size > TABLE:
        bits = np.dtype(f"u{array.dtype.itemsize}")
        every = np.arange(2 ** (8 * bits.itemsize), dtype=bits).view(array.dtype)
        return np.take(_scaled(every, low, high), array.view(bits))
    pixels = np.empty(array.shape, np.uint8)
    rows = max(1, BLOCK // max(1, array[0].size))
    for at in range(0, len(array), rows):
        pixels[at : at + rows] = _scaled(array[at : at + rows], low, high)
    return pixels


def _scaled(array: np.ndarray, low: float, high: float) -> np.ndarray:
    above, span = np.clip(array.astype(np.float64), low, high) - low, high - low
    if array.dtype.kind in "iu" and span >= 255:
        # equal steps of whole numbers: 8 bits that were widened, either way, come back as they were
        pixels = np.floor(above * (256 / (span + 1)))
    else:
        pixels = np.rint(above * (255 / span))
    return np.nan_to_num(np.clip(pixels, 0, 255)).astype(np.uint8)


def count(number: int, of: str) -> str:
    """`1 band`, `4 bands`."""
    return f"{number} {of}" if number == 1 else f"{number:,} {of}s"
