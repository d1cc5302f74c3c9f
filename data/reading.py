"""How the files of one set are read: which page, which bands, what is black and what is white."""

import math
from dataclasses import dataclass
from typing import Any

FULL = "full"


@dataclass(frozen=True)
class Reading:
    """What is the same for every image of a set, and for images that are predicted later.

    Parameters
    ----------
    intensity : (float, float), "full" or None
        For gray and colour deeper than 8 bits whose file declares no fewer bits: the two numbers
        that become 0 and 255, or the whole range of the type. None: each file is its own set.
    page : int, default=0
        Which page of a file of several, from 0.
    channels : tuple of 1 or 3 int, optional
        Which bands become gray or red, green and blue, from 0.

    Raises
    ------
    ValueError
        For what no file could be read by.

    Examples
    --------
    >>> Reading((0, 4095), channels=(0, 2, 1)).text
    'intensity=0:4095 channels=0,2,1'
    >>> Reading.parse("intensity=full page=2")
    Reading(intensity='full', page=1, channels=None)
    """

    intensity: tuple[float, float] | str | None = None
    page: int = 0
    channels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _check_intensity(self.intensity)
        if not _is_count(self.page):
            raise ValueError(f"page {self.page!r}; expected a whole number, 0 for the first")
        if self.channels is not None and not (
            isinstance(self.channels, tuple)
            and len(self.channels) in (1, 3)
            and all(_is_count(channel) for channel in self.channels)
        ):
            raise ValueError(
                f"channels {self.channels!r}; expected 1 or 3 numbers of bands, 0 for the first"
            )

    @property
    def full(self) -> bool:
        """Whether the whole range of the type is taken."""
        return self.intensity == FULL

    @property
    def text(self) -> str:
        """All that is not the default, for a recipe; pages count from 1 as on the command line."""
        parts = []
        if self.intensity is not None:
            parts.append(f"intensity={intensity_text(self.intensity)}")
        if self.page:
            parts.append(f"page={self.page + 1}")
        if self.channels is not None:
            parts.append("channels=" + ",".join(map(str, self.channels)))
        return " ".join(parts)

    @classmethod
    def parse(cls, text: str) -> "Reading":
        """The reading whose `text` this is."""
        found: dict[str, Any] = {}
        for part in text.split():
            name, equals, value = part.partition("=")
            if not equals or name not in _PARSERS or name in found:
                raise ValueError(
                    f"{part!r} in a reading; expected intensity=LOW:HIGH, page=N and channels=A,B,C"
                )
            found[name] = _PARSERS[name](value)
        return cls(**found)


def parse_intensity(text: str) -> tuple[float, float] | str:
    """`LOW:HIGH` as two numbers, `full` as it is.

    Examples
    --------
    >>> parse_intensity("-1000:400")
    (-1000.0, 400.0)
    """
    if text == FULL:
        return FULL
    low, _, high = text.partition(":")
    try:
        intensity = (float(low), float(high))
    except ValueError:
        raise ValueError(f"intensity {text!r}; expected LOW:HIGH or full") from None
    _check_intensity(intensity)
    return intensity


def intensity_text(intensity: tuple[float, float] | str) -> str:
    """`LOW:HIGH` with no more digits than tell the numbers apart, or `full`."""
    return intensity if isinstance(intensity, str) else ":".join(map(_shortest, intensity))


def parse_page(text: str) -> int:
    """A page that counts from 1, as one that counts from 0."""
    if not text.isdecimal() or int(text[:9]) < 1:
        raise ValueError(f"page {text!r}; expected a whole number, 1 for the first")
    return int(text[:9]) - 1


def parse_channels(text: str) -> tuple[int, ...]:
    """`0,2,1` as numbers of bands."""
    parts = text.split(",")
    if not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise ValueError(f"channels {text!r}; expected 1 or 3 numbers of bands such as 0,2,1")
    return tuple(int(part) for part in parts)


_PARSERS: dict[str, Any] = {
    "intensity": parse_intensity,
    "page": parse_page,
    "channels": parse_channels,
}


def _check_intensity(intensity: Any) -> None:
    if intensity is None or intensity == FULL:
        return
    numbers = isinstance(intensity, tuple) and len(intensity) == 2
    if not (numbers and all(_is_number(one) for one in intensity)):
        raise ValueError(f"intensity {intensity!r}; expected two finite numbers or 'full'")
    low, high = intensity
    if not low < high or not math.isfinite(high - low):
        raise ValueError(f"intensity {intensity_text((low, high))}; expected LOW below HIGH")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


def _shortest(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e15 else repr(number)
