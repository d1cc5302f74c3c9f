"""The file that a PIL image was opened from, while the image has not read its pixels yet."""

import threading
from typing import IO, Any

from PIL import Image
from PIL.ImageFile import ImageFile

# two threads that read of one image's file at once spoil each other's place in it
reading_held = threading.Lock()


def held_file(image: Any) -> IO[bytes] | None:
    """The open file of a PIL image that `Image.open` gave and nothing was done with.

    None for any other: pixels that were read, another page sought or another scale asked for are
    the caller's choice.
    """
    if not isinstance(image, ImageFile) or image.fp is None or image.fp.closed:
        return None
    is_read = not image.tile and image._im is not None
    is_scaled = bool(getattr(image, "decoderconfig", ()))
    return None if is_read or is_scaled or image.tell() else image.fp


def held_name(image: Image.Image) -> str:
    """The name of the file that a PIL image was opened from; "" where it has none."""
    name = getattr(image, "filename", "")
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
