"""A map of evidence drawn over the picture that it belongs to."""

import base64
import io

import numpy as np
from PIL import Image

# ColorBrewer's purple and orange: told apart by people who see no red or no green
AGAINST, FOR = (84, 39, 136), (230, 97, 1)
STRONGEST = 0.8  # opacity of the strongest place
OUTSIDE = 0.45  # brightness of what the network does not see
QUALITY = 85


def draw_overlay(
    picture: Image.Image, places: np.ndarray, box: tuple[float, float, float, float]
) -> Image.Image:
    """The picture, grayed, orange where the evidence is for the label and purple where against.

    Parameters
    ----------
    picture : PIL image
    places : (h, w)
        Evidence by place; the strongest of either sign is drawn in full.
    box : (left, top, right, bottom)
        Where the map lies, in shares of the picture's sides; the rest is darkened.

    Returns
    -------
    PIL image
        RGB, of the picture's size.

    Examples
    --------
    >>> gray = Image.new("RGB", (40, 20), (120, 120, 120))
    >>> drawn = draw_overlay(gray, np.array([[1.0, -1.0]]), (0.0, 0.0, 1.0, 1.0))
    >>> drawn.getpixel((5, 10))[0] > drawn.getpixel((5, 10))[2]  # orange
    True
    >>> drawn.getpixel((35, 10))[0] < drawn.getpixel((35, 10))[2]  # purple
    True
    """
    colour = np.asarray(picture.convert("RGB"), np.float32)
    gray = np.asarray(picture.convert("L"), np.float32)[:, :, None]
    # neither black nor white, in which a tint is not seen
    drawn = 40 + 0.7 * (0.3 * colour + 0.7 * gray)
    height, width = gray.shape[:2]
    left, right = (round(share * width) for share in box[::2])
    top, bottom = (round(share * height) for share in box[1::2])
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    inside = np.zeros((height, width, 1), bool)
    inside[top:bottom, left:right] = True
    strongest = np.abs(places).max() or 1.0
    grid = Image.fromarray((places / strongest).astype(np.float32))
    heat = grid.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    shares = np.clip(np.asarray(heat), -1, 1)[:, :, None]
    opacity = STRONGEST * np.abs(shares)
    tint = np.where(shares > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    seen = drawn[top:bottom, left:right]
    drawn = np.where(inside, drawn, OUTSIDE * drawn)
    drawn[top:bottom, left:right] = (1 - opacity) * seen + opacity * tint
    return Image.fromarray(drawn.round().astype(np.uint8))


def as_jpeg(picture: Image.Image, quality: int = QUALITY) -> bytes:
    """A JPEG file of a picture."""
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=quality)
    return written.getvalue()


def as_uri(picture: Image.Image | str, side: int = 96) -> str:
    """A picture as the address of its own bytes, its longer side of so many pixels.

    One that is such an address stays as it is.
    """
    if isinstance(picture, str):
        return picture
    scale = side / max(picture.size)
    width, height = (max(1, round(scale * length)) for length in picture.size)
    # a patch of few pixels is enlarged: they are what there is to see
    shown = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    return address_of(as_jpeg(shown, 80), "JPEG")


def address_of(data: bytes, kind: str) -> str:
    """The address of a picture's own bytes, such as a page holds; kind : as Pillow names it."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"
