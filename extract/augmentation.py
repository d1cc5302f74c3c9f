"""Random views of an image, each drawn from its name and the image's id: the same whenever made."""

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from extract.errors import ExtractError

TRIES = 10  # of drawing a crop that lies in the image; then it is the middle one
NAMED = re.compile(r"([a-z]+)-(0|[1-9]\d{0,9})-(0|[1-9]\d{0,9})", re.ASCII)


@dataclass(frozen=True)
class Augmentation:
    """From what random views are drawn.

    Parameters
    ----------
    share : (float, float)
        Least and largest share of the image's area that a crop has.
    aspect : (float, float)
        Narrowest and widest of a crop, width by height, before it is resized.
    flip : float
        Probability of the mirror image, left for right.
    brightness, contrast, saturation : float
        How far a factor may lie from 1; 0 leaves them.
    hue : float
        How far hues may be turned, in turns.

    Examples
    --------
    >>> AUGMENTATIONS["light"].share
    (0.5, 1.0)
    """

    share: tuple[float, float]
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


# features are kept under these names: other numbers need another name
AUGMENTATIONS: dict[str, Augmentation] = {
    "light": Augmentation((0.5, 1.0)),
    "strong": Augmentation((0.25, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
}


@dataclass(frozen=True)
class Drawn:
    """What was drawn for one view of one image.

    Attributes
    ----------
    box : (left, top, width, height)
        The crop, in pixels of the image.
    is_flipped : bool
    colours : tuple of (str, float)
        torchvision's adjustments in their order, each with its factor.
    """

    box: tuple[int, int, int, int]
    is_flipped: bool
    colours: tuple[tuple[str, float], ...]


def is_random(view: str) -> bool:
    """Whether a view's name is one of random views, such as `light-0-3`.

    >>> is_random("light-0-3"), is_random("flipped"), is_random("light-00-3")
    (True, False, False)
    """
    match = NAMED.fullmatch(view)
    return match is not None and match[1] in AUGMENTATIONS


def random_view(augmentation: str, seed: int, number: int) -> str:
    """The name of a view.

    >>> random_view("light", 0, 3)
    'light-0-3'
    """
    return f"{augmentation}-{seed}-{number}"


class Augmented:
    """A preprocessing of one random view.

    Parameters
    ----------
    preprocessing : Preprocessing
        Whose size and filter the crop is resized with.
    view : str
        Its name: augmentation, seed and number.

    Raises
    ------
    ExtractError
        A preprocessing of one's own, which says no size.

    Examples
    --------
    >>> from extract import Preprocessing
    >>> seen = Augmented(Preprocessing(size=32), "light-0-3")
    >>> seen.see(Image.new("RGB", (60, 40)), key=bytes(16)).shape
    (32, 32, 3)
    """

    def __init__(self, preprocessing: Any, view: str) -> None:
        if not hasattr(preprocessing, "interpolation"):
            raise ExtractError(
                f"the view `{view}` needs extract.Preprocessing, which says the network's size: "
                f"got {type(preprocessing).__name__}"
            )
        self.view = view
        self._augmentation = AUGMENTATIONS[view.partition("-")[0]]
        self._shape = preprocessing.shape
        self._filter = Image.Resampling[preprocessing.interpolation.upper()]
        # the plain view's, so that one decode serves every view, and a view is the same beside any
        self.at_least = preprocessing.at_least

    def see(self, image: Image.Image, key: bytes) -> np.ndarray:
        """RGB image of any size -> uint8 array (height, width, 3).

        key : the image's id: its copies are seen alike.
        """
        drawn = draw(self._augmentation, image.size, random_of(self.view, key))
        left, top, width, height = drawn.box
        box = (left, top, left + width, top + height)
        made = image.resize(self._shape[::-1], self._filter, box=box)
        if drawn.is_flipped:
            made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(_coloured(made, drawn) if drawn.colours else made)


def random_of(view: str, key: bytes) -> np.random.Generator:
    """What a view of an image is drawn with: of nothing but these two, and not of torch's numbers,
    which are the caller's and which threads would take from one another."""
    digest = hashlib.blake2b(view.encode() + b"\0" + key, digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def draw(augmentation: Augmentation, size: tuple[int, int], random: np.random.Generator) -> Drawn:
    """What torchvision's RandomResizedCrop, RandomHorizontalFlip and ColorJitter draw.

    size : (width, height) of the image.
    """
    box = _draw_box(augmentation, size, random)
    is_flipped = bool(random.random() < augmentation.flip)
    return Drawn(box, is_flipped, _draw_colours(augmentation, random))


def _draw_box(
    augmentation: Augmentation, size: tuple[int, int], random: np.random.Generator
) -> tuple[int, int, int, int]:
    wide, tall = size
    narrowest, widest = augmentation.aspect
    for _ in range(TRIES):
        area = wide * tall * random.uniform(*augmentation.share)
        # both ways from a square alike
        aspect = math.exp(random.uniform(math.log(narrowest), math.log(widest)))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= wide and 0 < height <= tall:
            left = int(random.integers(wide - width + 1))
            return left, int(random.integers(tall - height + 1)), width, height
    width, height = wide, tall
    if wide / tall < narrowest:
        height = round(wide / narrowest)
    elif wide / tall > widest:
        width = round(tall * widest)
    return (wide - width) // 2, (tall - height) // 2, width, height


def _draw_colours(
    augmentation: Augmentation, random: np.random.Generator
) -> tuple[tuple[str, float], ...]:
    factors = [
        (f"adjust_{name}", random.uniform(max(0.0, 1 - most), 1 + most))
        for name in ("brightness", "contrast", "saturation")
        if (most := getattr(augmentation, name))
    ]
    if augmentation.hue:
        factors.append(("adjust_hue", random.uniform(-augmentation.hue, augmentation.hue)))
    return tuple(factors[place] for place in random.permutation(len(factors)))


def _coloured(image: Image.Image, drawn: Drawn) -> Image.Image:
    # here: crops and flips alone need none of it
    from torchvision.transforms.v2 import functional

    for adjust, factor in drawn.colours:
        image = getattr(functional, adjust)(image, factor)
    return image
