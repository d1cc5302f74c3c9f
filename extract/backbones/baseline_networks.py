"""The networks behind the baselines: raw pixels, colour histogram, Gabor filters."""

import math

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, pad

from extract.preprocessing import Preprocessing

LUMA = (0.299, 0.587, 0.114)


def _raw(size: int) -> Preprocessing:
    """The centred square at so many pixels, values from 0 to 1."""
    return Preprocessing(size, crop=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Whole(nn.Module):
    """A network of one named layer; `network.pixels` is the layer's name in a tap."""

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        # a container of one, as layers worth keeping are looked for among modules with children
        self.add_module(name, nn.Sequential(layer))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return next(self.children())(images)


class Pixels(nn.Module):
    """(n, 3, h, w) -> (n, 3 h w, 1, 1): every value a channel, so that pooling leaves them all."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :, None, None]


class ColourBins(nn.Module):
    """(n, 3, h, w) of 0..1 -> (n, bins^3, 3, 3): roots of a cell's shares of pixels in each bin.

    Joint histogram of the three colours (Swain & Ballard, 1991, "Color indexing") in each of 3 x 3
    cells; the root turns distances between shares into Hellinger's (Arandjelović & Zisserman,
    2012).
    """

    def __init__(self, bins: int = 4, cells: int = 3) -> None:
        super().__init__()
        self.bins, self.cells = bins, cells

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        n, side = len(images), images.shape[-1] // self.cells
        images = images[:, :, : side * self.cells, : side * self.cells].float()
        red, green, blue = (
            ((images * 255).round() * self.bins / 256).long().clamp(0, self.bins - 1).unbind(1)
        )
        colours = (red * self.bins + green) * self.bins + blue
        by_cell = colours.unfold(1, side, side).unfold(2, side, side).flatten(3).flatten(1, 2)
        counts = torch.zeros(n, self.cells**2, self.bins**3, device=images.device)
        counts.scatter_add_(2, by_cell, torch.ones_like(by_cell, dtype=counts.dtype))
        return (counts / side**2).sqrt().transpose(1, 2).unflatten(2, (self.cells, self.cells))


class GaborBank(nn.Module):
    """(n, 3, h, w) of 0..1 -> (n, 2 x scales x orientations, 3, 3): two moments of each filter.

    The bank and its two moments are Manjunath & Ma's (1996, "Texture features for browsing and
    retrieval of image data"): centre frequencies an octave apart from 0.4 cycles a pixel down to
    0.05, six orientations. A lower octave is the same filter on the picture at half the size.
    Moments are taken in each of 3 x 3 cells.
    """

    def __init__(
        self, scales: int = 4, orientations: int = 6, cells: int = 3, side: int = 13
    ) -> None:
        super().__init__()
        self.scales, self.cells = scales, cells
        self.register_buffer("luma", torch.tensor(LUMA)[None, :, None, None])
        self.register_buffer("filters", gabor_filters(orientations, side))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        gray = (images * self.luma).sum(1, keepdim=True)
        found = []
        for _ in range(self.scales):
            found.append(self._moments(gray))
            gray = avg_pool2d(gray, 2)
        means, deviations = zip(*found, strict=True)
        return torch.cat([*means, *deviations], 1)

    def _moments(self, gray: torch.Tensor) -> torch.Tensor:
        reach = self.filters.shape[-1] // 2
        around = pad(gray, (reach,) * 4, mode="reflect")
        even, odd = conv2d(around, self.filters).chunk(2, 1)
        magnitude = (even.square() + odd.square()).sqrt()
        side = gray.shape[-1] // self.cells
        mean = avg_pool2d(magnitude, side)
        square = avg_pool2d(magnitude.square(), side)
        return mean, (square - mean.square()).clamp(min=0).sqrt()


def gabor_filters(orientations: int, side: int, frequency: float = 0.4) -> torch.Tensor:
    """(2 x orientations, 1, side, side): cosine, then sine phases, without a mean, of length one.

    The envelope makes the bandwidth one octave: sigma = 3 sqrt(ln 2 / 2) / (pi frequency) (Daugman,
    1985).
    """
    sigma = 3 * math.sqrt(math.log(2) / 2) / (math.pi * frequency)
    places = torch.arange(side, dtype=torch.float64) - side // 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    envelope = torch.exp(-(x * x + y * y) / (2 * sigma * sigma))
    angles = [math.pi * k / orientations for k in range(orientations)]
    waves = torch.stack(
        [2 * math.pi * frequency * (x * math.cos(a) + y * math.sin(a)) for a in angles]
    )
    even, odd = envelope * waves.cos(), envelope * waves.sin()
    even = even - envelope * (even.sum((1, 2), keepdim=True) / envelope.sum())
    filters = torch.cat([even, odd])
    return (filters / filters.flatten(1).norm(dim=1)[:, None, None]).float()[:, None]


def pixels() -> tuple[nn.Module, Preprocessing]:
    """Raw pixels: the centred square at 32 x 32, 3,072 values."""
    return Whole("pixels", Pixels()), _raw(32)


def histogram() -> tuple[nn.Module, Preprocessing]:
    """Colour histogram: 4 x 4 x 4 joint bins of the colours, of the centred square at 96 px."""
    return Whole("histogram", ColourBins()), _raw(96)


def gabor() -> tuple[nn.Module, Preprocessing]:
    """Gabor filter bank: 4 scales x 6 orientations, two moments, of the square at 128 px."""
    return Whole("gabor", GaborBank()), _raw(128)
