"""How an RGB image becomes the square the network sees: resized and cropped, then mean and std."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from extract.augmentation import AUGMENTATIONS, Augmented, is_random
from extract.errors import ExtractError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


FITS = ("box", "shorter", "squash", "border")
RESAMPLERS = ("pil", "torchvision")
LONGEST = 128  # times what the network sees: a longer image is cropped before it is resized


@dataclass(frozen=True)
class Preprocessing:
    """Resize and crop on uint8, and the mean and std that the device applies afterwards.

    By default the largest centred box with the aspect of `size` is shrunk by `crop` (the share of
    its side that is kept: 224/256 in the usual preset) and resized with antialiasing, so a pixel
    outside the crop is never made. The other fits are those of timm and Hugging Face, to the pixel.

    Parameters
    ----------
    size : int or (height, width)
        Side in pixels of the square the network sees.
    crop : float
        Share of the box's side that is kept, in (0, 1].
    interpolation : str
        One of FILTERS.
    mean, std : tuple of three float
        Per channel, of values scaled to [0, 1].
    fit : str
        `box`, as above. `shorter`: the image is resized until its shorter side has `size` / `crop`
        pixels, rounded down, and the centre is cropped. `squash`: so are both sides, whatever the
        aspect. `border`: the longer side has that many, and the rest is filled with the mean.
    resampler : str
        `pil`, or `torchvision`: its antialiased resize of a uint8 tensor, which rounds otherwise.

    Raises
    ------
    ExtractError
        A size, crop, interpolation, fit or resampler that can't be used.

    Examples
    --------
    >>> Preprocessing(size=160, crop=1.0).shape
    (160, 160)
    """

    size: int | tuple[int, int] = 224
    crop: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    fit: str = "box"
    resampler: str = "pil"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _checked_size(self.size))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _three(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise ExtractError(f"std={self.std!r}: expected three numbers above 0")
        if not 0 < self.crop <= 1:
            raise ExtractError(f"crop={self.crop!r}: expected a share in (0, 1], such as 0.875")
        named = {"interpolation": FILTERS, "fit": FITS, "resampler": RESAMPLERS}
        for name, known in named.items():
            if getattr(self, name) not in known:
                raise ExtractError(
                    f"{name}={getattr(self, name)!r}: expected one of {', '.join(known)}"
                )
        if self.resampler == "torchvision" and self.fit == "box":
            raise ExtractError(
                "fit='box' is a resize of Pillow's: choose another, or resampler='pil'"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of what the network sees, in pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    @property
    def at_least(self) -> int:
        """Shorter side, in pixels, below which a scaled decode would lose detail."""
        return math.ceil(max(self.shape) / self.crop - 1e-9)

    @property
    def transform_id(self) -> str:
        """What of it decides a feature's value, as text."""
        height, width = self.shape
        numbers = ",".join(f"{value:.6g}" for value in (*self.mean, *self.std))
        filter_ = self.interpolation
        if self.resampler != "pil":
            filter_ = f"{self.resampler}-{filter_}"
        return f"{self.fit}-{filter_}:{height}x{width}:crop{self.crop:.6g}:{numbers}"

    def in_words(self) -> str:
        """All of it in a line, as a person reads it.

        Examples
        --------
        >>> Preprocessing(160, 1.0, mean=(0, 0, 0), std=(1, 1, 1), fit="squash").in_words()
        'squashed to 160 x 160, centre 160 x 160, bilinear; mean 0 0 0, std 1 1 1'
        """
        height, width = self.shape
        tall, wide = (math.floor(side / self.crop) for side in self.shape)
        share = "all" if self.crop == 1 else f"{self.crop:.3g}"
        steps = {
            "box": f"box of the aspect of {height} x {width}, {share} of its side",
            "shorter": f"shorter side to {min(tall, wide)}, centre {height} x {width}",
            "squash": f"squashed to {tall} x {wide}, centre {height} x {width}",
            "border": f"longer side to {max(tall, wide)}, filled to {height} x {width}",
        }
        by = self.interpolation + ("" if self.resampler == "pil" else f" of {self.resampler}")
        numbers = (" ".join(f"{value:.4g}" for value in own) for own in (self.mean, self.std))
        return "{}, {}; mean {}, std {}".format(steps[self.fit], by, *numbers)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image of any size -> uint8 array (height, width, 3)."""
        if self.fit == "box":
            return self._boxed(image)
        sides = self._resized(image.width, image.height)
        if max(sides) > LONGEST * max(self.shape):
            return self._window(image, sides)
        if self.resampler == "torchvision":
            pixels = _torchvision_resize(image, sides, self.interpolation)
        else:
            pixels = np.asarray(image.resize(sides, FILTERS[self.interpolation]))
        fill = [round(255 * value) for value in self.mean]  # timm's, of a border
        # Hugging Face's processors round a half down, where torchvision and timm round to even
        half = math.floor if self.resampler == "torchvision" else round
        return _centred(pixels, self.shape, fill, half)

    def _boxed(self, image: Image.Image) -> np.ndarray:
        height, width = self.shape
        scale = min(image.width / width, image.height / height) * self.crop
        left = max((image.width - width * scale) / 2, 0.0)
        top = max((image.height - height * scale) / 2, 0.0)
        box = (
            left,
            top,
            min(left + width * scale, image.width),
            min(top + height * scale, image.height),
        )
        return np.asarray(image.resize((width, height), FILTERS[self.interpolation], box=box))

    def _window(self, image: Image.Image, sides: tuple[int, int]) -> np.ndarray:
        """The centre alone, resized at once: a line of pixels would take gigabytes to resize."""
        height, width = self.shape
        wide, tall = sides
        left, top = round((wide - width) / 2.0), round((tall - height) / 2.0)
        across, down = image.width / wide, image.height / tall
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        return np.asarray(image.resize((width, height), FILTERS[self.interpolation], box=box))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the image before its centre is cropped.

        Rounded as timm and torchvision do: the wanted sides down, the longer side of a square's fit
        down too, of another aspect to the nearest.
        """
        tall, wide = (math.floor(side / self.crop) for side in self.shape)
        if self.fit == "squash":
            return wide, tall
        if self.fit == "shorter" and tall == wide:
            if width <= height:
                return tall, int(tall * height / width)
            return int(tall * width / height), tall
        ratios = height / tall, width / wide
        ratio = max(ratios) if self.fit == "border" else min(ratios)
        return max(round(width / ratio), 1), max(round(height / ratio), 1)

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Preprocessing":
        """The reverse of `to_dict`."""
        own = (field.name for field in fields(cls))
        return cls(**{name: values[name] for name in own if name in values})


def _torchvision_resize(
    image: Image.Image, sides: tuple[int, int], interpolation: str
) -> np.ndarray:
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    # a copy, as torch warns of memory that must not be written
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    mode = InterpolationMode(interpolation)
    made = resize(pixels, [sides[1], sides[0]], interpolation=mode, antialias=True)
    return made.permute(1, 2, 0).numpy()


def _centred(
    pixels: np.ndarray, shape: tuple[int, int], fill: Sequence[int], half: Callable[[float], int]
) -> np.ndarray:
    """The centre (height, width, 3), filled where there is less; half of what is left is rounded
    by `half`."""
    less = [max(side - there, 0) for side, there in zip(shape, pixels.shape, strict=False)]
    if any(less):
        made = np.empty((*np.add(pixels.shape[:2], less), 3), np.uint8)
        made[:] = fill
        top, left = (side // 2 for side in less)
        made[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
        pixels = made
    top, left = (
        half((there - side) / 2.0) for side, there in zip(shape, pixels.shape, strict=False)
    )
    return np.ascontiguousarray(pixels[top : top + shape[0], left : left + shape[1]])


class Flipped:
    """A preprocessing of the image's mirror image, left for right."""

    def __init__(self, preprocessing: Any) -> None:
        self._preprocessing = preprocessing
        self.at_least = getattr(preprocessing, "at_least", None)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """As the preprocessing's own."""
        return self._preprocessing(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


class Whole:
    """The whole image resized to the network's square, its aspect given up and nothing cropped."""

    def __init__(self, preprocessing: Any) -> None:
        if not isinstance(preprocessing, Preprocessing):
            raise ExtractError(
                f"the view `whole` needs extract.Preprocessing, which says the network's size: "
                f"got {type(preprocessing).__name__}"
            )
        self._preprocessing = preprocessing
        # the crop's, so that one decode serves every view
        self.at_least = preprocessing.at_least

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image of any size -> uint8 array (height, width, 3)."""
        height, width = self._preprocessing.shape
        name = self._preprocessing.interpolation
        if self._preprocessing.resampler == "torchvision":
            return _torchvision_resize(image, (width, height), name)
        return np.asarray(image.resize((width, height), FILTERS[name]))


def _plain(preprocessing: Any) -> Any:
    return preprocessing


# what becomes of a backbone's preprocessing in each view; a further view is a row
VIEWS: dict[str, Callable[[Any], Any]] = {
    "plain": _plain,
    "flipped": Flipped,
    "whole": Whole,
}


@dataclass(frozen=True)
class View:
    """Which copies of the image are seen, written `plain` or `plain+flipped`.

    Parameters
    ----------
    parts : tuple of str
        Names of VIEWS, or of random views; each has features of its own, and of several the mean
        is read.

    Examples
    --------
    >>> str(View(("plain", "flipped")))
    'plain+flipped'
    """

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "+".join(self.parts)

    @property
    def is_averaged(self) -> bool:
        """Whether it is the mean of several."""
        return len(self.parts) > 1


PLAIN, WITH_FLIPS, WHOLE = View(("plain",)), View(("plain", "flipped")), View(("whole",))
# what they are called where one is asked for
NAMED_VIEWS = {"plain": PLAIN, "flipped": WITH_FLIPS, "whole": WHOLE}


def named_view(name: str) -> View:
    """`plain`, `flipped` (the mean of the image and its mirror image), `whole`, or a random one.

    Examples
    --------
    >>> str(named_view("flipped"))
    'plain+flipped'
    """
    if name in NAMED_VIEWS:
        return NAMED_VIEWS[name]
    if is_random(name):
        return View((name,))
    raise ExtractError(
        f"view={name!r}: expected one of {', '.join(NAMED_VIEWS)}, or such as light-0-3"
    )


def parse_view(text: str) -> View:
    """A view as it is written in recipes; ExtractError for one that isn't there.

    Examples
    --------
    >>> parse_view("plain+flipped").parts
    ('plain', 'flipped')
    """
    view = View(tuple(text.split("+")))
    for part in view.parts:
        seen_as(part)
    return view


def seen_as(part: str) -> Callable[[Any], Any]:
    """What becomes of a backbone's preprocessing in one view: of VIEWS, or a random one.

    Raises ExtractError for one that isn't there.

    Examples
    --------
    >>> seen_as("light-0-3")(Preprocessing(size=32)).view
    'light-0-3'
    """
    if is_random(part):
        return lambda preprocessing: Augmented(preprocessing, part)
    if part not in VIEWS:
        raise ExtractError(
            f"unknown view {part!r}: expected {', '.join(VIEWS)}, such as light-0-3 "
            f"({' or '.join(AUGMENTATIONS)}, seed, number), or several joined by +"
        )
    return VIEWS[part]


def name_of(view: str) -> str:
    """The name of a view as it is written in recipes: the reverse of `named_view`.

    Examples
    --------
    >>> name_of("plain+flipped")
    'flipped'
    """
    for name, named in NAMED_VIEWS.items():
        if str(named) == view:
            return name
    if is_random(view):
        return view
    raise ExtractError(f"unknown view {view!r}: expected one of {', '.join(NAMED_VIEWS)}")


def _three(name: str, values: Any) -> tuple[float, ...]:
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        found = ()
    if len(found) != 3 or not all(map(math.isfinite, found)):
        raise ExtractError(f"{name}={values!r}: expected three numbers, one a colour")
    return found


def _checked_size(size: Any) -> Any:
    try:
        height, width = sides = [
            operator.index(s) for s in (size if isinstance(size, (tuple, list)) else (size, size))
        ]
    except (TypeError, ValueError):
        sides = [0]
    if min(sides) < 1:
        raise ExtractError(
            f"size={size!r}: expected a side of 1 pixel or more, such as 224, or (height, width)"
        )
    return (height, width) if isinstance(size, (tuple, list)) else height
