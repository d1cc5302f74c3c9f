"""What in an image excites a channel, by a view from the channel back to the pixels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from data import Reading
from extract.backbones import Backbone
from extract.engines import made_ready, mean_and_std
from extract.errors import ExtractError
from extract.introspection.fields import Box, find_field
from extract.introspection.layer_run import (
    check_channels,
    running_to,
    spatial_layer,
    threads_to,
)
from extract.loader import Decoding, load_batches
from extract.preprocessing import seen_as

BATCH = 8  # a backward pass holds every activation up to the layer
CONTRAST = 99.5  # percentile of a view's absolute values that is drawn in full
SMOOTHED = 1 / 32  # of the side that is shown, over which a view's strength is smoothed


def _deconvnet(rectified: Any, value: Any) -> Any:
    """What is passed back is rectified, wherever the image had let pass."""
    return value + (rectified - value).detach()


def _guided(rectified: Any, _value: Any) -> Any:
    """What is passed back is rectified, and goes where the image has let pass alone."""
    return rectified


# how what a rectifier gave is joined to what it was given, so that gradients go as the rule says
RULES: dict[str, Callable[[Any, Any], Any]] = {"deconvnet": _deconvnet, "guided": _guided}


@dataclass(frozen=True, eq=False)
class ViewBack:
    """What in an image excites the strongest place of a channel.

    channel: its number. place: row and column of the map. value: the activation there. pixels:
    (height, width, 3) float32 of what the network sees, positive where more of a colour excites.
    box: left, top, right and bottom pixel edges of the place's receptive field, outside of which
    nothing is. shown: that, or the core of it, in shares of the sides.
    """

    channel: int
    place: tuple[int, int]
    value: float
    pixels: np.ndarray
    box: tuple[int, int, int, int]
    shown: Box

    def drawn(self) -> np.ndarray:
        """(height, width, 3) uint8, gray where nothing excites; each view has its own contrast."""
        scaled = self.pixels / _most(np.abs(self.pixels))
        return np.clip(127.5 + 127.5 * scaled, 0, 255).round().astype(np.uint8)

    def strength(self) -> np.ndarray:
        """(height, width) uint8, 255 where most excites, smoothed.

        Of a deep layer the view is a pattern of single pixels: where it is strong says more.
        """
        colours = np.abs(self.pixels).max(axis=2)
        whole = Image.fromarray(_as_bytes(colours / _most(colours)))
        across = (self.shown[2] - self.shown[0]) * whole.width
        smooth = np.asarray(whole.filter(ImageFilter.GaussianBlur(SMOOTHED * across)), np.float32)
        return _as_bytes(smooth / _most(smooth))


def _most(strengths: np.ndarray) -> float:
    """What is drawn in full: not the largest, beside which all else would be faint."""
    some = strengths[strengths > 0]
    return float(np.percentile(some, CONTRAST)) if len(some) else 1.0


def _as_bytes(shares: np.ndarray) -> np.ndarray:
    return np.clip(255 * shares, 0, 255).round().astype(np.uint8)


def view_back(
    backbone: Backbone,
    layer: str,
    inputs: Sequence,
    channels: Sequence[int],
    rule: str = "guided",
    *,
    view: str = "plain",
    reading: Reading | None = None,
) -> list[ViewBack]:
    """From the strongest place of one channel in each image back to the image's pixels.

    The map is passed back through the network's convolutions transposed, through the switches of
    its pools, and through rectifiers that pass only what is positive: Zeiler & Fergus (2014). Of
    `guided` (Springenberg et al., 2015) they pass it where the image had let pass alone, which
    stays sharp in networks without pools. Batch norms and sums of residual blocks are linear.

    Parameters
    ----------
    backbone : Backbone
        Rectified by ReLU, ReLU6 or Hardswish.
    layer : str
        With a spatial map.
    inputs : n paths, PIL images or uint8 arrays
    channels : sequence of n int
        One for each image.
    rule : str
        `guided` or `deconvnet`.
    view : str
        `plain`, or `whole`.
    reading : Reading, optional
        How files become RGB images.

    Returns
    -------
    list of n ViewBack

    Raises
    ------
    ExtractError
        A layer, channel or rule that is not there; a network that is rectified in other ways.
    ImageError
        The first image that can't be read.

    Examples
    --------
    >>> from extract import load_backbone
    >>> images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    >>> found, = view_back(load_backbone("resnet18", "random", size=64), "layer1", images, [5])
    >>> found.pixels.shape, found.drawn().dtype
    ((64, 64, 3), dtype('uint8'))
    """
    if rule not in RULES:
        raise ExtractError(f"unknown rule {rule!r}: expected {' or '.join(RULES)}")
    check_channels(spatial_layer(backbone, layer), layer, channels)
    field = find_field(backbone, layer)
    made: list[ViewBack] = []
    decoding = Decoding([seen_as(view)(backbone.preprocessing)], reading=reading or Reading())
    with running_to(backbone, layer) as run:
        for batch in load_batches(inputs, range(len(inputs)), decoding, lambda: BATCH, 0):
            if batch.bad:
                raise batch.bad[min(batch.bad)]
            own = [channels[row] for row in batch.rows]
            with _rectified_back(backbone, layer, rule), threads_to(backbone, layer, BATCH):
                found = list(_passed_back(run, _as_input(backbone, batch.pixels[0]), own))
            made += [
                ViewBack(channel, place, value, pixels, field.box(*place), field.shown(*place))
                for channel, (place, value, pixels) in zip(own, found, strict=True)
            ]
    return made


def _as_input(backbone: Backbone, pixels: np.ndarray) -> Any:
    import torch

    images = torch.from_numpy(pixels)
    if images.dtype != torch.uint8:  # a preprocessing of one's own made them ready
        return images.float()
    return made_ready(images, mean_and_std(backbone.preprocessing, "cpu"))


def _passed_back(
    run: Callable[[Any], Any], batch: Any, channels: Sequence[int]
) -> Iterator[tuple[tuple[int, int], float, np.ndarray]]:
    """By image the strongest place of its channel, the value, and (h, w, 3) what comes back."""
    import torch

    batch.requires_grad_()
    maps = run(batch)[torch.arange(len(batch)), torch.tensor(channels)]
    values, at = maps.flatten(1).max(dim=1)
    values.sum().backward()
    width = maps.shape[2]
    for value, place, pixels in zip(values.tolist(), at.tolist(), batch.grad, strict=True):
        yield divmod(place, width), value, pixels.permute(1, 2, 0).numpy()


@contextmanager
def _rectified_back(backbone: Backbone, layer: str, rule: str) -> Iterator[None]:
    """Inside, gradients go back through rectifiers by the rule; ExtractError for other kinds.

    Calls are met on their way into torch, as modules (`nn.ReLU`) and as functions alike.
    """
    import torch
    from torch import Tensor
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    # each by one that leaves its input as it is: a gradient needs both
    own = (functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
    rectifiers: dict[Any, Callable[[Any], Any]] = dict.fromkeys(own, torch.relu)
    rectifiers |= {same: same for same in (functional.relu6, functional.hardswish)}
    smooth = {functional.gelu, functional.silu, functional.mish, functional.elu, functional.softmax}

    class Rectified(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func in smooth:
                raise ExtractError(
                    f"{backbone.name} has {func.__name__} before layer {layer!r}, through which "
                    "there is no view back: expected a network of ReLU, ReLU6 or Hardswish alone"
                )
            if func not in rectifiers:
                return func(*args, **(kwargs or {}))
            value = args[0] if args else kwargs["input"]
            given = RULES[rule](rectifiers[func](value), value)
            if given.requires_grad:
                given.register_hook(lambda gradient: gradient.clamp(min=0))
            return given

    with Rectified():
        yield
