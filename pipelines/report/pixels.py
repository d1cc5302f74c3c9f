"""`report.html` of a segmentation: overlap by class, and images beside their masks."""

import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data import Reading, open_image
from data.masks import mask_palette
from pipelines.report.overlay import address_of
from pipelines.report.page import render_still

MOST_SHOWN = 24
SIDE = 256  # pixels of the longer side of a picture


@dataclass(frozen=True)
class Shown:
    """An image of the page. place : of `images` in the results; three data: addresses."""

    place: int
    path: str
    image: str
    truth: str
    predicted: str


def show(
    place: int, path: str, truth: np.ndarray, predicted: np.ndarray, reading: Reading
) -> Shown:
    """The pictures of an image and its masks (h, w), small enough for a page."""
    image = open_image(path, SIDE, reading)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    masks = (_address(_coloured(own, image.size), "PNG") for own in (truth, predicted))
    return Shown(place, path, _address(image, "JPEG"), *masks)


def _coloured(mask: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A mask in the colours of its numbers, those above 255 in theirs modulo 256."""
    small = Image.fromarray((mask & 255).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return Image.fromarray(mask_palette()[np.asarray(small)])


def _address(image: Image.Image, kind: str) -> str:
    written = io.BytesIO()
    image.save(written, kind)
    return address_of(written.getvalue(), kind)


def make_pixels_page(results: dict, images: Sequence[Shown]) -> str:
    """The page of a segmentation, whole in itself and without a script.

    results : what results.json holds. images : in the order of the page.
    """
    ignored = results["data"]["ignore"]
    colours = ["#{:02x}{:02x}{:02x}".format(*own) for own in mask_palette()]
    return render_still(
        "pixels.html",
        results,
        images=images,
        colours=[colours[number % 256] for number in results["data"]["classes"]],
        ignored=None if ignored is None else colours[ignored % 256],
        command=shlex.join(map(str, results["command"])),
    )
