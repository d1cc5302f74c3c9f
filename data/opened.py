"""What is asked of a reader of one format, and what it hands back."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from PIL import Image

from data.reading import Reading
from data.values import Values

FORMATS_EXTRA = "pip install permafrost[formats]"

# the note on a picture of which another page was asked for
NO_PAGES = "its format has no pages: its one picture is taken"


class Asked(NamedTuple):
    """at_least, max_pixels and reading as for `data.decode`."""

    at_least: int | None
    max_pixels: int
    reading: Reading

    def check_size(self, width: int, height: int) -> None:
        """Refuse what has too many pixels, or none."""
        if width * height > self.max_pixels:
            raise ValueError(f"{width} x {height} is over the limit of {self.max_pixels:,} pixels")
        if width < 1 or height < 1:
            raise ValueError(f"{width} x {height}; expected at least one pixel")


class Opened(NamedTuple):
    """An image as its format's reader leaves it, not yet turned upright.

    pixels: 8 bits as a PIL image of any mode, or numbers still to be scaled. notes: what affected
    the pixels. exif, xmp: as they stand in the file. orientation: EXIF's number, where the format
    says it elsewhere.
    """

    pixels: Image.Image | Values
    notes: tuple[str, ...] = ()
    exif: bytes | None = None
    xmp: object = None
    orientation: int | None = None


Reader: TypeAlias = Callable[[bytes, Asked], Opened]
