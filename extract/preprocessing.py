"""How an RGB image becomes the square the network sees: one resize, then mean and std."""

import math
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from extract.errors import ExtractError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """Resize and crop on uint8, and the mean and std that the device applies afterwards.

    The largest centred box with the aspect of `size` is shrunk by `crop` (the share of its side
    that is kept: 224/256 in the usual preset) and resized with antialiasing, so a pixel outside the
    crop is never made.

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

    Raises
    ------
    ExtractError
        A size, crop or interpolation that can't be used.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _checked_size(self.size))
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if not 0 < self.crop <= 1:
            raise ExtractError(f"crop={self.crop!r}: expected a share in (0, 1], such as 0.875")
        if self.interpolation not in FILTERS:
            raise ExtractError(
                f"interpolation={self.interpolation!r}: expected one of {', '.join(FILTERS)}"
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
        return f"box-{self.interpolation}:{height}x{width}:crop{self.crop:.6g}:{numbers}"

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image of any size -> uint8 array (height, width, 3)."""
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

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Preprocessing":
        """The reverse of `to_dict`."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


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
        filter_ = FILTERS[self._preprocessing.interpolation]
        return np.asarray(image.resize((width, height), filter_))


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
        Names of VIEWS; each has features of its own, and of several the mean is read.

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
    """`plain`, `flipped` (the mean of the image and its mirror image) or `whole`.

    Examples
    --------
    >>> str(named_view("flipped"))
    'plain+flipped'
    """
    if name not in NAMED_VIEWS:
        raise ExtractError(f"view={name!r}: expected one of {', '.join(NAMED_VIEWS)}")
    return NAMED_VIEWS[name]


def parse_view(text: str) -> View:
    """A view as it is written in recipes; ExtractError for one that isn't there.

    Examples
    --------
    >>> parse_view("plain+flipped").parts
    ('plain', 'flipped')
    """
    view = View(tuple(text.split("+")))
    for part in view.parts:
        if part not in VIEWS:
            raise ExtractError(
                f"unknown view {part!r}: expected {', '.join(VIEWS)}, or several joined by +"
            )
    return view


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
    raise ExtractError(f"unknown view {view!r}: expected one of {', '.join(NAMED_VIEWS)}")


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
