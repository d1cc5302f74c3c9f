"""Images that are made to excite a channel, from noise, by gradient ascent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.backbones import Backbone
from extract.introspection.layer_run import (
    check_channels,
    input_scale,
    needs_pixels,
    running_to,
    spatial_layer,
    threads_to,
)
from extract.pooling import Activation
from extract.preprocessing import Preprocessing

SIDE, STEPS, RATE = 128, 64, 0.05
DECAYS = 0.9, 0.999  # Adam's, of the gradient's mean and of its square's
# by which the image is moved at random in each step: pixels, shares and degrees
SHIFTED, SCALED, TURNED = 8.0, 0.1, 5.0
GROUP = 16  # channels at a time: memory, which grows with them, holds one image's maps of each
SPREAD = 0.01  # of the noise that it begins with, in the spectrum
# square root of the covariance of colours in photos (ImageNet), each row a colour: red, green, blue
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


@dataclass(frozen=True, eq=False)
class Maximised:
    """An image made to excite a channel.

    channel: its number. image: (height, width, 3) uint8. before, after: the channel's mean
    activation over the map, of the noise that it began with and of the image.
    """

    channel: int
    image: np.ndarray
    before: float
    after: float


def maximise(
    backbone: Backbone,
    layer: str,
    channels: Sequence[int],
    seed: int = 0,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Maximised]:
    """For each channel an image of 128 pixels a side that makes its mean activation large.

    Adam climbs for 64 steps in the Fourier coefficients of the image, scaled by one over the
    frequency, in colours decorrelated as those of photos are (Olah et al., 2017); each step sees
    the image shifted by up to 8 pixels, scaled by up to 10 % and turned by up to 5 degrees
    (Mordvintsev et al., 2015). Both keep it from noise that only the network sees.

    Parameters
    ----------
    backbone : Backbone
        With `Preprocessing`, which says what pixels its input is made of.
    layer : str
        With a spatial map. Of one whose tokens have fixed places the image has the network's size.
    channels : sequence of int
    seed : int
        The same gives the same images on the same machine, whichever channels come together.
    on_progress : callable of (int, int), optional
        Called after each step with how many there have been, and of how many.

    Returns
    -------
    list of Maximised
        In the order of the channels.

    Raises
    ------
    ExtractError
        A layer or channel that is not there, a preprocessing of one's own.

    Examples
    --------
    >>> from extract import load_backbone
    >>> made, = maximise(load_backbone("resnet18", "random", size=64), "relu", [3])
    >>> made.image.shape, made.after > made.before
    ((128, 128, 3), True)
    """
    channels = check_channels(spatial_layer(backbone, layer), layer, channels)
    groups = [channels[at : at + GROUP] for at in range(0, len(channels), GROUP)]
    made: list[Maximised] = []
    for number, group in enumerate(groups):

        def stepped(step: int, before: int = number * STEPS) -> None:
            if on_progress is not None:
                on_progress(before + step, len(groups) * STEPS)

        made += _climbed(backbone, layer, group, seed, stepped)
    return made


def _climbed(
    backbone: Backbone,
    layer: str,
    channels: Sequence[int],
    seed: int,
    stepped: Callable[[int], None],
) -> list[Maximised]:
    """Of one group, each channel as it would be alone: all are moved alike, as the seed draws."""
    import torch

    activation, preprocessing = spatial_layer(backbone, layer), needs_pixels(backbone)
    height, width = _sides(activation, preprocessing)
    mean, std = input_scale(preprocessing)
    drawn = torch.Generator().manual_seed(seed)
    # one noise for all channels: which image comes does not hang on the channels beside it
    noise = SPREAD * torch.randn(1, 3, height, width // 2 + 1, 2, generator=drawn)
    spectrum = noise.repeat(len(channels), 1, 1, 1, 1).requires_grad_()
    own = torch.arange(len(channels)), torch.tensor(channels)
    climb = _Adam(spectrum)
    own_sides = math.prod(preprocessing.shape)
    n_whole = len(channels) * height * width / own_sides

    with running_to(backbone, layer) as run, threads_to(backbone, layer, n_whole):

        def excited(images: Any) -> Any:
            seen = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
            return run(seen)[own].mean(dim=(1, 2))

        with torch.no_grad():
            before = excited(_painted(spectrum, (height, width))).tolist()
        for step in range(STEPS):
            moved = _moved(_painted(spectrum, (height, width)), drawn)
            (uphill,) = torch.autograd.grad(excited(moved).sum(), spectrum)
            climb.step(uphill)
            stepped(step + 1)
        with torch.no_grad():
            images = _painted(spectrum, (height, width))
            after = excited(images).tolist()
    pixels = (255 * images).round().byte().permute(0, 2, 3, 1).numpy()
    return list(map(Maximised, channels, pixels, before, after))


class _Adam:
    """Steps of Kingma & Ba (2015) uphill; torch's own imports a compiler first, for seconds."""

    def __init__(self, values: Any) -> None:
        self._values = values.data
        self._mean, self._square = self._values.clone().zero_(), self._values.clone().zero_()
        self._steps = 0

    def step(self, uphill: Any) -> None:
        self._steps += 1
        of_mean, of_square = DECAYS
        self._mean.lerp_(uphill, 1 - of_mean)
        self._square.lerp_(uphill.square(), 1 - of_square)
        # both began at zero, from which they are still near in the first steps
        mean = self._mean / (1 - of_mean**self._steps)
        spread = (self._square / (1 - of_square**self._steps)).sqrt()
        self._values += RATE * mean / (spread + 1e-8)


def _sides(activation: Activation, preprocessing: Preprocessing) -> tuple[int, int]:
    """Of the image: tokens and windows have places for one size alone."""
    return (SIDE, SIDE) if activation.kind == "map" else preprocessing.shape


def _painted(spectrum: Any, sides: tuple[int, int]) -> Any:
    """Coefficients (n, 3, h, w // 2 + 1, 2) -> images (n, 3, h, w) from 0 to 1.

    Scaled by one over the frequency, as photos are, all scales of an image grow alike.
    """
    import torch

    height, width = sides
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    frequency = (down.square() + across.square()).sqrt().clamp(min=1 / max(sides))
    scaled = torch.view_as_complex(spectrum) * (math.sqrt(height * width) / frequency)
    planes = torch.fft.irfft2(scaled, s=sides) / 4
    colours = torch.tensor(COLOURS)
    mixed = torch.einsum("rc,nchw->nrhw", colours / colours.norm(dim=1).max(), planes)
    return torch.sigmoid(mixed)


def _moved(images: Any, drawn: Any) -> Any:
    """All of the images shifted, scaled and turned alike, what comes in from outside mirrored."""
    import torch
    from torch.nn import functional

    across, down, larger, turned = (2 * torch.rand(4, generator=drawn) - 1).tolist()
    angle, scale = math.radians(TURNED * turned), 1 + SCALED * larger
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    height, width = images.shape[2:]
    matrix = torch.tensor(
        [[cos, -sin, 2 * SHIFTED * across / width], [sin, cos, 2 * SHIFTED * down / height]]
    )
    grid = functional.affine_grid(
        matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False
    )
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
