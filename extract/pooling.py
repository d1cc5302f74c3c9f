"""How an activation map becomes a vector, and how a layer with a pooling (a tap) is written."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.errors import ExtractError


@dataclass(frozen=True, order=True)
class Tap:
    """A layer with a pooling, written `features.14:grid3`.

    Parameters
    ----------
    layer : str
        Dotted name of a module.
    pooling : str
        A name of POOLINGS, or `gridN`.

    Examples
    --------
    >>> str(Tap("features.14", "grid3"))
    'features.14:grid3'
    """

    layer: str
    pooling: str

    def __str__(self) -> str:
        return f"{self.layer}:{self.pooling}"


def parse_taps(text: str, pooling: str = "avg") -> tuple[Tap, ...]:
    """Taps as they are written; the columns of joined ones follow each other.

    Parameters
    ----------
    text : str
        Layers joined by `+`, each with a pooling of its own behind a colon or without.
    pooling : str
        Of the layers that name none.

    Returns
    -------
    tuple of Tap

    Raises
    ------
    ExtractError
        An unknown pooling.

    Examples
    --------
    >>> parse_taps("a:grid3+b", "max")
    (Tap(layer='a', pooling='grid3'), Tap(layer='b', pooling='max'))
    """
    taps = []
    for part in str(text).split("+"):
        layer, _, own = part.partition(":")
        taps.append(Tap(layer.strip(), find_pooling(own.strip() or pooling).name))
    return tuple(taps)


@dataclass(frozen=True)
class Pooling:
    """One way from a map (n, channels, height, width) to rows (n, d).

    name: as typed, such as `grid3`.
    width: (channels, height, width) -> d.
    apply: float tensor (n, channels, height, width) -> tensor (n, d).
    grid: side of the grid where there is one; it must fit into the map.
    shares: side of a map -> (cells, side), what each of its rows or columns counts in each cell;
        None where a row's values are no weighted sums over places.
    stored: numpy's type that holds its values without loss, where it is narrower than float32.
    """

    name: str
    width: Callable[[int, int, int], int]
    apply: Callable
    grid: int = 0
    shares: Callable[[int], np.ndarray] | None = None
    stored: type | None = None


RAW = "raw16"  # the whole output, rounded to float16: what a network is tuned from
MAP = "map"  # the map as it is, rounded to float16: what single pixels are told from


def _avg(maps: Any) -> Any:
    return maps.mean((2, 3))


def _max(maps: Any) -> Any:
    return maps.amax((2, 3))


def _avgmax(maps: Any) -> Any:
    return _join([_avg(maps), _max(maps)])


def _gem(maps: Any) -> Any:
    """Generalised mean with p=3 (Radenović et al., 2018)."""
    return maps.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


def _std(maps: Any) -> Any:
    return maps.var((2, 3), correction=0).sqrt()


def _flatten(maps: Any) -> Any:
    return maps.flatten(1)


def _grid(maps: Any, n: int) -> Any:
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(maps, n).flatten(1)


def _rounded(output: Any) -> Any:
    """Rounded to float16 and no further: what overflows it becomes its largest value."""
    most = float(np.finfo(np.float16).max)
    return output.clamp(-most, most).half().float().flatten(1)


def _join(parts: Sequence[Any]) -> Any:
    import torch

    return torch.cat(parts, 1)


def _grid_shares(side: int, n: int) -> np.ndarray:
    """(n, side): torch's adaptive windows, which overlap where n does not divide the side."""
    shares = np.zeros((n, side))
    for cell in range(n):
        start, stop = cell * side // n, -(-(cell + 1) * side // n)
        shares[cell, start:stop] = 1 / (stop - start)
    return shares


POOLINGS = {
    "avg": Pooling(
        "avg", lambda c, h, w: c, _avg, shares=lambda side: np.full((1, side), 1 / side)
    ),
    "max": Pooling("max", lambda c, h, w: c, _max),
    "avgmax": Pooling("avgmax", lambda c, h, w: 2 * c, _avgmax),
    "gem": Pooling("gem", lambda c, h, w: c, _gem),
    "std": Pooling("std", lambda c, h, w: c, _std),
    "flatten": Pooling("flatten", lambda c, h, w: c * h * w, _flatten, shares=np.eye),
    # the class token is picked before there is a map, so nothing is left to pool
    "cls": Pooling("cls", lambda c, h, w: c, _avg),
    MAP: Pooling(MAP, lambda c, h, w: c * h * w, _rounded, stored=np.float16),
    # taken of the output as it is, class tokens and all, before there is a map
    RAW: Pooling(RAW, lambda c, h, w: c * h * w, _rounded, stored=np.float16),
}


def stored_type(tap: Tap, stored: type) -> type:
    """The type that rows of a tap are kept in, where others of their recipe are kept in `stored`.

    >>> stored_type(Tap("features.14", "raw16"), np.float32).__name__
    'float16'
    """
    own = POOLINGS.get(tap.pooling)  # thumbnails are kept by names that are no poolings
    return stored if own is None or own.stored is None else own.stored


def refuse_maps(taps: Iterable[Tap]) -> None:
    """Raise ExtractError for the first tap that keeps a map, where heads are to get vectors.

    >>> refuse_maps(parse_taps("a:avg+b:grid3"))
    """
    for tap in taps:
        if tap.pooling == MAP:
            raise ExtractError(
                f"pooling map ({tap}) keeps maps, for PixelClassifier: expected one that gives "
                "vectors, such as avg or grid3"
            )


def refuse_joined_maps(taps: Sequence[Tap]) -> None:
    """Raise ExtractError where a tap that keeps a map is joined to another one.

    >>> refuse_joined_maps(parse_taps("a:map"))
    """
    if len(taps) > 1 and any(tap.pooling == MAP for tap in taps):
        raise ExtractError(
            f"{'+'.join(map(str, taps))}: maps of several layers are not joined; take one layer "
            "at a time"
        )


def find_pooling(name: str) -> Pooling:
    """The pooling of that name, `gridN` for any N of 1 or more; else ExtractError."""
    if name in POOLINGS:
        return POOLINGS[name]
    match = re.fullmatch(r"grid([1-9]\d?)", str(name))
    if not match:
        raise ExtractError(
            f"unknown pooling {name!r}: expected one of {', '.join(POOLINGS)} or gridN (grid3)"
        )
    n = int(match[1])
    return Pooling(
        name,
        lambda c, h, w: c * n * n,
        lambda maps: _grid(maps, n),
        grid=n,
        shares=lambda side: _grid_shares(side, n),
    )


@dataclass(frozen=True)
class Activation:
    """What one layer gives for one image: its shape and how to read it as a map.

    kind: `map` (channels, height, width), `grid` (height, width, channels), `tokens` (count,
        channels) or `vector` (channels,).
    shape: of one image's output.
    order: place of the layer's last call among all calls; calls: how often it is called in one
    pass. tokens_grid: (height, width) of the patch tokens; the tokens before them are class or
    register tokens.
    """

    kind: str
    shape: tuple[int, ...]
    order: int
    calls: int
    tokens_grid: tuple[int, int] | None = None

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) as the poolings see it."""
        if self.kind == "map":
            channels, height, width = self.shape
            return channels, height, width
        if self.kind == "grid":
            return self.shape[2], self.shape[0], self.shape[1]
        if self.kind == "tokens":
            height, width = self.tokens_grid or (self.shape[0], 1)
            return self.shape[1], height, width
        return self.shape[0], 1, 1

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand before the patch tokens."""
        return self.shape[0] - math.prod(self.tokens_grid) if self.tokens_grid else 0

    def width(self, pooling: str) -> int:
        """Length d of the pooled vector."""
        if pooling == RAW:
            return math.prod(self.shape)
        return find_pooling(pooling).width(*self.map_shape)

    def problem(self, pooling: str) -> str | None:
        """Why this pooling can't be used here, or None."""
        found = find_pooling(pooling)
        _, height, width = self.map_shape
        if found.grid > min(height, width):
            return f"{pooling} does not fit a map of {height}x{width}"
        if found.grid and self.kind == "tokens" and not self.tokens_grid:
            return f"{pooling} needs a grid, and its {self.shape[0]} tokens form none"
        if pooling == "cls" and not self.prefix_tokens:
            return "cls needs a class token, and it has none"
        if pooling == MAP and not self.has_positions:
            return "map needs more than one position, and it has none that lie on the image"
        return None

    @property
    def has_positions(self) -> bool:
        """Whether it gives a map of more than one place, which lies on the image."""
        lies = self.kind in ("map", "grid") or self.tokens_grid is not None
        return lies and math.prod(self.map_shape[1:]) > 1

    def has_places(self, pooling: str) -> bool:
        """Whether rows are weighted sums over the places of a map that lies on the image."""
        return self.has_positions and find_pooling(pooling).shares is not None

    def pool(self, output: Any, pooling: str) -> Any:
        """Layer output (n, ...) as a float32 tensor -> pooled rows (n, d)."""
        if pooling == "cls":
            return output[:, 0]
        if pooling == RAW:
            return _rounded(output)
        return find_pooling(pooling).apply(self.as_map(output))

    def as_map(self, output: Any) -> Any:
        """Layer output (n, ...) -> (n, channels, height, width)."""
        if self.kind == "map":
            return output
        if self.kind == "grid":
            return output.permute(0, 3, 1, 2)
        if self.kind == "vector":
            return output[:, :, None, None]
        patches = output[:, self.prefix_tokens :].transpose(1, 2)
        return patches.unflatten(2, self.tokens_grid or (self.shape[0], 1))
