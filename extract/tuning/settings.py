"""How a network is trained further: what is trained, how fast, on which views, and for how long."""

import math
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

from extract.augmentation import AUGMENTATIONS
from extract.errors import ExtractError
from extract.tuning.schedules import SCHEDULES

ALL, GRADUAL, OFF = "all", "gradual", "off"
PRECISIONS = ("auto", "float32", "bfloat16")
SOURCES = ("auto", "images")


@dataclass(frozen=True)
class Tuning:
    """How a network is trained further.

    Linear probing comes first and its layer is where training starts: from a random one, the first
    steps would spoil the features that are there (Kumar et al., 2022).

    Parameters
    ----------
    unfreeze : int, "gradual" or "all"
        So many blocks from the end, all of them, or all of them one step after the other from the
        last (Howard & Ruder, 2018).
    rates : tuple of float
        Learning rates as 10 ** -rate: the first is the new layer's; the trained blocks, from the
        last to the bottommost, are divided into as many groups as there are further ones.
        `(2, 4, 6)` stands for 1e-2, 1e-4 and 1e-6.
    epochs, batch : int
        Times that each image is seen, and images of a step.
    schedule : str
        What becomes of the rates from step to step: one of SCHEDULES.
    warmup : float
        Share of the steps in which they rise, in [0, 1).
    weight_decay : float
        AdamW's (Loshchilov & Hutter, 2019); of weights alone, not of biases and norms.
    augment : str
        Which random views are seen: "off" for none, or a name of AUGMENTATIONS.
    views : int
        How many random views an image has; 0 for another one in every epoch. With fewer than epochs
        they come again, each as often as the others.
    mixup : float
        Alpha of the Beta distribution that two images' shares are drawn from (Zhang et al., 2018;
        of activations: Verma et al., 2019); 0 mixes none.
    smoothing : float
        Share of the target that is spread over all classes, in [0, 1).
    dropout : float
        Share of the new layer's inputs that are dropped in training, in [0, 1).
    average : bool
        Whether weights between the start's and those of the best epoch are taken where they do
        better on the validation images (Wortsman et al., 2022).
    patience : int
        Epochs without a better validation loss after which it stops; 0 goes through all. The
        weights are those of the best epoch either way.
    precision : str
        "float32", "bfloat16" (torch's autocast), or "auto": bfloat16 where it is there in hardware.
    source : str
        "images" computes activations anew in each epoch; "auto" keeps them, once a view, where the
        blocks below the trained ones stay as they are.
    seed : int

    Examples
    --------
    >>> Tuning(unfreeze="gradual", rates=(2, 4, 6)).check()
    >>> Tuning(epochs=0).check()
    Traceback (most recent call last):
    extract.errors.ExtractError: epochs=0: expected a whole number of 1 or more
    """

    unfreeze: int | str = 5
    rates: tuple[float, ...] = (4, 3.5)
    epochs: int = 16
    batch: int = 32
    schedule: str = "one-cycle"
    warmup: float = 0.3
    weight_decay: float = 1e-2
    augment: str = "strong"
    views: int = 4
    mixup: float = 0.0
    smoothing: float = 0.0
    dropout: float = 0.2
    average: bool = True
    patience: int = 0
    precision: str = "auto"
    source: str = "auto"
    seed: int = 0

    def check(self) -> None:
        """Raise ExtractError for the first field that can't be used."""
        for name, (is_right, expected) in CHECKS.items():
            value = getattr(self, name)
            if not is_right(value):
                raise ExtractError(f"{name}={value!r}: expected {expected}")

    @property
    def is_from_images(self) -> bool:
        """Whether each epoch goes through the images: a fresh view is seen once, and not kept."""
        return self.source == "images" or (self.views == 0 and self.augment != OFF)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: of NumPy's numbers Python's."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _whole(least: int) -> Callable[[Any], bool]:
    def is_right(value: Any) -> bool:
        try:
            return not isinstance(value, bool) and operator.index(value) >= least
        except TypeError:
            return False

    return is_right


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else [float(own) for own in value]


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value < 1


def _at_least_0(value: Any) -> bool:
    return _number(value) and value >= 0


def _are_rates(value: Any) -> bool:
    is_list = isinstance(value, tuple | list) or getattr(value, "ndim", 0) == 1
    return is_list and len(value) > 1 and all(map(_at_least_0, value))


def _one_of(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in names


def _is_depth(value: Any) -> bool:
    return _one_of(ALL, GRADUAL)(value) or _whole(1)(value)


AUGMENTED = (OFF, *AUGMENTATIONS)
COUNT, AT_LEAST_0 = "a whole number of 1 or more", "a number of 0 or more"
# by field: whether a value is right, and what is expected
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "unfreeze": (_is_depth, f"a number of blocks, {GRADUAL!r} or {ALL!r}"),
    "rates": (
        _are_rates,
        "two exponents or more of 0 or more, such as (2, 4) for 1e-2, 1e-4",
    ),
    "epochs": (_whole(1), COUNT),
    "batch": (_whole(1), COUNT),
    "schedule": (_one_of(*SCHEDULES), f"one of {', '.join(SCHEDULES)}"),
    "warmup": (_share, "a share of the steps in [0, 1)"),
    "weight_decay": (_at_least_0, AT_LEAST_0),
    "augment": (_one_of(*AUGMENTED), f"one of {', '.join(AUGMENTED)}"),
    "views": (_whole(0), "a whole number of 0 or more"),
    "mixup": (_at_least_0, AT_LEAST_0),
    "smoothing": (_share, "a share in [0, 1)"),
    "dropout": (_share, "a share in [0, 1)"),
    "average": (lambda value: isinstance(value, bool), "true or false"),
    "patience": (_whole(0), "a whole number of 0 or more"),
    "precision": (_one_of(*PRECISIONS), f"one of {', '.join(PRECISIONS)}"),
    "source": (_one_of(*SOURCES), f"one of {', '.join(SOURCES)}"),
    "seed": (_whole(0), "a whole number of 0 or more"),
}
