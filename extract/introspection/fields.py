"""Which pixels of the input a place of a map sees: its receptive field, found by probing."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.backbones import Backbone
from extract.introspection.layer_run import Run, running_to, spatial_layer, threads_to

# left, top, right and bottom as shares of what the network sees
Box = tuple[float, float, float, float]

NARROWED = 0.5  # of the input's side: a larger field is narrowed to its core
ENERGY = 0.9  # of the squared gradient, that lies in the core
NOISE_IMAGES = 4
LAST = 2  # of the three places that are probed


@dataclass(frozen=True)
class Axis:
    """The fields along one side of the input, in pixels.

    Attributes
    ----------
    length : int
        Of the input's side.
    places : int
        Of the map's side.
    start : int
        Where the field of the first place begins; negative where it reaches into the padding.
    stride, size : int
        From one field to the next, and of each. A field that no probe saw an end of has the size of
        the whole side, and begins at 0 for every place (stride 0).
    core : int
        Size of the middle of a field that most of the gradient comes from.

    Examples
    --------
    >>> axis = Axis(length=8, places=4, start=-1, stride=2, size=3, core=1)
    >>> axis.field(0), axis.field(3)
    ((0, 2), (5, 8))
    """

    length: int
    places: int
    start: int
    stride: int
    size: int
    core: int

    @property
    def seen(self) -> int:
        """Pixels of the side that a place sees at most: a field may reach beyond it."""
        return min(self.size, self.length)

    def field(self, place: int) -> tuple[int, int]:
        """First pixel of a place's field, and the one behind its last."""
        begin = self.start + place * self.stride
        return max(begin, 0), min(begin + self.size, self.length)

    def shown(self, place: int) -> tuple[int, int]:
        """The field, or its core where that is larger than half of the side."""
        if self.size <= NARROWED * self.length:
            return self.field(place)
        # moved inside rather than cut: all patches of a layer are of one size
        begin = round(self._centre(place) - self.core / 2)
        begin = min(max(begin, 0), self.length - self.core)
        return begin, begin + self.core

    def _centre(self, place: int) -> float:
        if not self.stride:
            return (place + 0.5) * self.length / self.places
        return self.start + place * self.stride + self.size / 2


@dataclass(frozen=True)
class Field:
    """The receptive fields of a layer's places, along both sides of the input.

    Attributes
    ----------
    down, across : Axis
    """

    down: Axis
    across: Axis

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom pixel edges of all that a place of the map sees."""
        (top, bottom), (left, right) = self.down.field(row), self.across.field(column)
        return left, top, right, bottom

    def shown(self, row: int, column: int) -> Box:
        """The box to show of a place, in shares of the input: its field, or the core of that."""
        (top, bottom), (left, right) = self.down.shown(row), self.across.shown(column)
        height, width = self.down.length, self.across.length
        return left / width, top / height, right / width, bottom / height


def find_field(backbone: Backbone, layer: str) -> Field:
    """What each place of a layer's map sees of the input.

    A quadrant of the input is made NaN, which every sum and maximum passes on: the places that
    become NaN are those that see some of it, whatever the weights are. A binary search for the last
    pixel that the first two places see, and for the first that the last place sees, gives start,
    stride and size. Gates that average over all of a map (squeeze and excitation) are left out. A
    place that sees all of the input, by attention or by depth, sees most of it faintly: its core
    is the middle that 90 % of the squared gradient comes from, on images of noise (the effective
    receptive field of Luo et al., 2016).

    Parameters
    ----------
    backbone : Backbone
    layer : str
        With a spatial map.

    Returns
    -------
    Field

    Raises
    ------
    ExtractError
        A layer that is not there or has no places.

    Examples
    --------
    >>> from extract import load_backbone
    >>> field = find_field(load_backbone("resnet18", "random", size=64), "relu")
    >>> field.across.stride, field.across.size, field.box(5, 5)
    (2, 7, (7, 7, 14, 14))
    """
    key = "field", layer
    if key not in backbone.ready:  # some thirty images' time
        backbone.ready[key] = _find_field(backbone, layer)
    return backbone.ready[key]


def _find_field(backbone: Backbone, layer: str) -> Field:
    places = spatial_layer(backbone, layer).map_shape[1:]
    sides = _input_sides(backbone)
    with running_to(backbone, layer) as run, threads_to(backbone, layer, NOISE_IMAGES):
        with _nan_stays_in_place(backbone.network):
            ends = _probe_ends(run, sides, places)
        cores = _core_sides(run, sides, places)
    return Field(*map(_axis, sides, places, ends, cores))


def _input_sides(backbone: Backbone) -> tuple[int, int]:
    from PIL import Image

    preprocessing = backbone.preprocessing
    if hasattr(preprocessing, "shape"):
        height, width = preprocessing.shape
    else:
        height, width = np.asarray(preprocessing(Image.new("RGB", (256, 256)))).shape[-2:]
    return int(height), int(width)


def _axis(length: int, places: int, ends: Sequence[int], core: int) -> Axis:
    """From the last pixels that places 0 and 1 see, and the first that the last place sees."""
    first, second, last = ends
    stride = second - first
    if stride < 1 or second == length - 1:  # an end that lies outside was not seen
        return Axis(length, places, 0, 0, length, core)
    start = last - (places - 1) * stride
    return Axis(length, places, start, stride, first - start + 1, core)


def _probe_ends(
    run: Run, sides: Sequence[int], places: Sequence[int]
) -> list[tuple[int, int, int]]:
    """By side: the last pixels that places 0 and 1 see, and the first that the last place sees."""
    low, high = np.zeros((3, 2), int), np.tile(np.array(sides), (3, 1))
    while (low < high - 1).any():
        middle = (low + high) // 2
        middle[LAST] = np.maximum(middle[LAST], 1)  # an empty quadrant is seen by none
        seen = _are_seen(run, sides, places, middle)
        # more of the input is hidden from the first places and less from the last, as it rises
        up = np.concatenate([seen[:LAST], ~seen[LAST:]])
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    return [tuple(own) for own in low.T.tolist()]


def _are_seen(run: Run, sides: Sequence[int], places: Sequence[int], at: np.ndarray) -> np.ndarray:
    """(3, 2) whether places 0, 1 and the last see any of their quadrants, by side."""
    import torch

    batch = torch.zeros(len(at), 3, *sides)
    for image, (y, x) in zip(batch, at.tolist(), strict=True):
        image[:, y:, x:] = torch.nan
    batch[LAST] = 0
    y, x = at[LAST].tolist()
    batch[LAST, :, :y, :x] = torch.nan
    touched = torch.isnan(run(batch)).any(dim=1)
    asked = [(0, 0), [min(1, side - 1) for side in places], [side - 1 for side in places]]
    return np.array(
        [
            [own[row].any().item(), own[:, column].any().item()]
            for own, (row, column) in zip(touched, asked, strict=True)
        ]
    )


@contextlib.contextmanager
def _nan_stays_in_place(network: Any) -> Iterator[None]:
    """Inside, a place becomes NaN by what it sees alone.

    What has shrunk to one place for all of a map is what a gate multiplies the map by: its NaN goes
    no further. (Torch's convolutions on a processor are direct; Winograd's would mix the places of
    a tile.)
    """
    import torch

    def clean(_module: Any, inputs: tuple) -> tuple:
        return tuple(torch.nan_to_num(own) if _is_of_one_place(own) else own for own in inputs)

    handles = [module.register_forward_pre_hook(clean) for module in network.modules()]
    try:
        with torch.inference_mode():
            yield
    finally:
        for handle in handles:
            handle.remove()


def _is_of_one_place(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.dim() == 4 and value.shape[2:] == (1, 1)


def _core_sides(run: Run, sides: Sequence[int], places: Sequence[int]) -> tuple[int, int]:
    """Of the middle place, how high and wide the middle is that most of the gradient comes from."""
    import torch

    drawn = torch.Generator().manual_seed(0)
    batch = torch.randn(NOISE_IMAGES, 3, *sides, generator=drawn).requires_grad_()
    maps = run(batch)
    row, column = (side // 2 for side in places)
    of_place = maps[:, :, row, column]
    # a sum: for a gradient that it is handed torch imports a compiler first, for a second
    (of_place * torch.randn(of_place.shape, generator=drawn)).sum().backward()
    assert batch.grad is not None
    energy = batch.grad.square().sum(dim=(0, 1)).double().numpy()
    return _core(energy.sum(axis=1)), _core(energy.sum(axis=0))


def _core(energy: np.ndarray) -> int:
    """Length of the shortest stretch about the centre of mass that holds most of the energy."""
    at = np.arange(len(energy))
    centre = round(float((at * energy).sum() / energy.sum()))
    from_centre = np.abs(at - centre)
    held = np.bincount(from_centre, weights=energy).cumsum() / energy.sum()
    return min(2 * int(np.searchsorted(held, ENERGY)) + 1, len(energy))
