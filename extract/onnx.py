"""What a frozen network computes, from pixels to pooled rows, as operators of an ONNX graph.

Resizing is that of Pillow, pixel for pixel: the same coefficients, rounded as it rounds them, and
summed in float64, which holds every sum exactly; and so is that of torchvision, which models of
Hugging Face may ask for. ONNX's own Resize rounds nothing in between and takes no box of fractions
of a pixel.

Functions take a graph whose `add(operator, *inputs, **attributes)` gives the name of an output, as
do `as_float64(name)` and `as_float32(name)`, and names of outputs before it; arrays among the
inputs are constants.
"""

import contextlib
import copy
import io
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from extract.backbones import Backbone
from extract.engines import mean_and_std
from extract.errors import ExtractError
from extract.layers import first_tensor, hooked
from extract.pooling import Activation, Tap, find_pooling
from extract.preprocessing import LONGEST, Preprocessing

OPSET = 20  # of every operator: graphs of several are not joined by a runtime
BITS = 22  # behind the point of Pillow's coefficients
BACK = np.iinfo(np.int64).min  # where a slice that runs backwards ends


class NotExported(ExtractError):
    """A network or a preprocessing that has no operators here."""


@dataclass(frozen=True)
class Axis:
    """How one axis of an image is resized, each a number of the graph, (1,) float64.

    low, high : the part of the image, in pixels. made : pixels that it becomes. first : of these,
    the first one that is taken; less than 0 where some are filled.
    """

    low: str
    high: str
    made: str
    first: str


@dataclass(frozen=True)
class Fitted:
    """How both axes are resized, down and across.

    window : for images that are a line of pixels, if others are taken for these. is_line : whether
    it is one.
    """

    axes: Sequence[Axis]
    window: Sequence[Axis] | None = None
    is_line: str = ""


def add_input(graph: Any, images: str, preprocessing: Any, view: str) -> str:
    """The operators from pixels to what the network is given.

    Parameters
    ----------
    graph : as above
    images : str
        (n, height, width, 3) uint8, RGB.
    preprocessing : Preprocessing
    view : {"plain", "flipped", "whole"}

    Returns
    -------
    str
        (n, 3, height, width) float32.

    Raises
    ------
    NotExported
        A preprocessing of one's own, another filter, or a view that is drawn.
    """
    _refuse_unknown(preprocessing, view)
    if view == "flipped":
        images = graph.add(
            "Slice", images, np.array([-1]), np.array([BACK]), np.array([2]), np.array([-1])
        )
    height, width = (
        graph.as_float64(graph.add("Shape", images, start=axis, end=axis + 1)) for axis in (1, 2)
    )
    sides = height, width
    if view == "whole":
        fitted = Fitted(
            [_whole(graph, own, to) for own, to in zip(sides, preprocessing.shape, strict=True)]
        )
    else:
        fitted = FITS[preprocessing.fit](graph, sides, preprocessing)
    pixels = graph.add("Transpose", graph.as_float64(images), perm=[0, 3, 1, 2])

    def resize(inner: Any) -> str:
        way = RESAMPLERS[preprocessing.resampler]
        return way(inner, pixels, sides, fitted.axes, preprocessing)

    if fitted.window is None:
        pixels = resize(graph)
    else:
        window = fitted.window
        pixels = graph.choose(
            fitted.is_line,
            lambda inner: _as_pillow(inner, pixels, sides, window, preprocessing),
            resize,
        )
    mean, std = (own.numpy() for own in mean_and_std(preprocessing, "cpu"))
    pixels = graph.as_float32(pixels)
    return graph.add("Div", graph.add("Sub", pixels, mean), std)


def _refuse_unknown(preprocessing: Any, view: str) -> None:
    if not isinstance(preprocessing, Preprocessing):
        raise NotExported(
            f"a preprocessing of one's own ({type(preprocessing).__name__}) has no operators: "
            "expected extract.Preprocessing"
        )
    if preprocessing.interpolation not in FILTERS:
        raise NotExported(
            f"{preprocessing.in_words()}: expected a resize that is {', '.join(FILTERS)}"
        )
    if view not in ("plain", "flipped", "whole"):
        raise NotExported(
            f"the view {view} is drawn anew for each image: expected plain, flipped or whole"
        )


def _whole(graph: Any, side: str, made: float | str) -> Axis:
    """The whole axis, of which nothing is cropped."""
    return Axis(_number(graph, 0), side, _number(graph, made), _number(graph, 0))


def _number(graph: Any, value: float | str) -> str:
    return value if isinstance(value, str) else graph.add("Identity", np.array([float(value)]))


def _box(graph: Any, sides: Sequence[str], own: Preprocessing) -> Fitted:
    """As `Preprocessing._boxed`: the largest box of the aspect, shrunk, to the size at once."""
    shape = [np.array([float(side)]) for side in own.shape]
    ratios = [graph.add("Div", side, to) for side, to in zip(sides, shape, strict=True)]
    scale = graph.add("Mul", graph.add("Min", *ratios), np.float64(own.crop))
    axes = []
    for side, to in zip(sides, shape, strict=True):
        taken = graph.add("Mul", to, scale)
        low = graph.add("Div", graph.add("Sub", side, taken), np.float64(2))
        low = graph.add("Max", low, np.float64(0))
        high = graph.add("Min", graph.add("Add", low, taken), side)
        axes.append(Axis(low, high, _number(graph, float(to[0])), _number(graph, 0)))
    return Fitted(axes)


def _squash(graph: Any, sides: Sequence[str], own: Preprocessing) -> Fitted:
    made = [_number(graph, math.floor(side / own.crop)) for side in own.shape]
    return _centre(graph, sides, made, own)


def _shorter(graph: Any, sides: Sequence[str], own: Preprocessing) -> Fitted:
    tall, wide = (math.floor(side / own.crop) for side in own.shape)
    if tall != wide:
        return _by_ratio(graph, sides, own, "Min")
    shorter = graph.add("Min", *sides)
    # rounded down; the shorter side becomes `tall` itself
    made = [
        graph.add("Floor", graph.add("Div", graph.add("Mul", side, np.float64(tall)), shorter))
        for side in sides
    ]
    return _centre(graph, sides, made, own)


def _border(graph: Any, sides: Sequence[str], own: Preprocessing) -> Fitted:
    return _by_ratio(graph, sides, own, "Max")


def _by_ratio(graph: Any, sides: Sequence[str], own: Preprocessing, which: str) -> Fitted:
    """Both sides by the one ratio, rounded to even as Python does."""
    wanted = [np.float64(math.floor(side / own.crop)) for side in own.shape]
    ratio = graph.add(
        which, *(graph.add("Div", side, to) for side, to in zip(sides, wanted, strict=True))
    )
    made = [
        graph.add("Max", graph.add("Round", graph.add("Div", side, ratio)), np.float64(1))
        for side in sides
    ]
    return _centre(graph, sides, made, own)


def _centre(graph: Any, sides: Sequence[str], made: list[str], own: Preprocessing) -> Fitted:
    """The centre of what is made of the whole image; of a line of pixels the window alone."""
    most = np.float64(LONGEST * max(own.shape))
    is_line = graph.add("Squeeze", graph.add("Greater", graph.add("Max", *made), most))
    half_of = "Floor" if own.resampler == "torchvision" else "Round"
    axes, window = [], []
    for side, to, size in zip(sides, made, own.shape, strict=True):
        less = graph.add("Max", graph.add("Sub", np.float64(size), to), np.float64(0))
        before = graph.add("Floor", _half(graph, less))
        there = _half(graph, graph.add("Sub", graph.add("Add", to, less), np.float64(size)))
        first = graph.add("Sub", graph.add(half_of, there), before)
        axes.append(Axis(_number(graph, 0), side, to, first))
        # as `Preprocessing._window`: what would be (first, first + size) is made at once
        start = graph.add("Round", _half(graph, graph.add("Sub", to, np.float64(size))))
        across = graph.add("Div", side, to)
        low = graph.add("Mul", start, across)
        high = graph.add("Mul", graph.add("Add", start, np.float64(size)), across)
        window.append(Axis(low, high, _number(graph, size), _number(graph, 0)))
    return Fitted(axes, window, is_line)


def _half(graph: Any, value: str) -> str:
    return graph.add("Div", value, np.float64(2))


FITS: dict[str, Callable[[Any, Sequence[str], Preprocessing], Fitted]] = {
    "box": _box,
    "shorter": _shorter,
    "squash": _squash,
    "border": _border,
}


def _as_pillow(
    graph: Any, pixels: str, sides: Sequence[str], axes: Sequence[Axis], own: Preprocessing
) -> str:
    """Pixels (n, 3, h, w) resized as Pillow does -> (n, 3, *own.shape), all float64."""
    down, across = _shares_of(graph, sides, axes, own)
    bits = np.float64(BITS)

    def columns_first(inner: Any) -> str:
        return _along_rows(inner, _along_columns(inner, pixels, across, bits), down, bits)

    def rows_first(inner: Any) -> str:
        return _along_columns(inner, _along_rows(inner, pixels, down, bits), across, bits)

    is_tall = TALL[tall_rule()](graph, sides, [axis.made for axis in axes])
    if is_tall is None:
        made = columns_first(graph)
    else:
        made = graph.choose(graph.add("Squeeze", is_tall), rows_first, columns_first)
    return _fill(graph, made, axes, own)


def _as_torchvision(
    graph: Any, pixels: str, sides: Sequence[str], axes: Sequence[Axis], own: Preprocessing
) -> str:
    """As torchvision resizes uint8: Pillow's shares, with as many bits as 16 leave room for."""
    down, across = _shares_of(graph, sides, axes, own)
    bits = [
        _bits_of_16(graph, axis, side, own.interpolation)
        for axis, side in zip(axes, sides, strict=True)
    ]
    made = _along_columns(graph, pixels, across, bits[1])
    made = _along_rows(graph, made, down, bits[0])
    return _fill(graph, made, axes, own)


RESAMPLERS: dict[str, Callable[[Any, str, Sequence[str], Sequence[Axis], Preprocessing], str]] = {
    "pil": _as_pillow,
    "torchvision": _as_torchvision,
}


@dataclass(frozen=True)
class Reach:
    """Which pixels of an axis count in those that are made, each (count, 1) or one number, float64.

    centre : in pixels of the image. first, last : the first pixel that counts, and the one behind
    the last. shrunk : what distances are multiplied by.
    """

    centre: str
    first: str
    last: str
    shrunk: str


def _reach(graph: Any, axis: Axis, side: str, places: Any, interpolation: str) -> Reach:
    """As Pillow's `precompute_coeffs`. places : (count, 1) of the pixels that are made."""
    # the box comes to Pillow in single precision, and its difference is taken there
    low, high = (graph.as_float32(own) for own in (axis.low, axis.high))
    part = graph.as_float64(graph.add("Sub", high, low))
    scale = graph.add("Div", part, axis.made)
    stretch = graph.add("Max", scale, np.float64(1))
    reach = graph.add("Mul", stretch, np.float64(FILTERS[interpolation][0]))
    centre = graph.add("Mul", graph.add("Add", places, np.float64(0.5)), scale)
    centre = graph.add("Add", graph.as_float64(low), centre)
    first, last = (
        graph.add("Floor", graph.add("Add", graph.add(way, centre, reach), np.float64(0.5)))
        for way in ("Sub", "Add")
    )
    first, last = graph.add("Max", first, np.float64(0)), graph.add("Min", last, side)
    return Reach(centre, first, last, graph.add("Reciprocal", stretch))


def _weigh(graph: Any, own: Reach, pixels: str, interpolation: str) -> str:
    """How much pixels count, each row summing to 1; pixels : (1, m) or (count, m)."""
    inside = graph.add(
        "And", graph.add("GreaterOrEqual", pixels, own.first), graph.add("Less", pixels, own.last)
    )
    away = graph.add("Add", graph.add("Sub", pixels, own.centre), np.float64(0.5))
    values = FILTERS[interpolation][1](graph, graph.add("Mul", away, own.shrunk))
    weights = graph.add("Where", inside, values, np.float64(0))
    total = graph.add("ReduceSum", weights, np.array([1]), keepdims=1)
    # of a row that is filled afterwards there may be nothing
    is_none = graph.add("Equal", total, np.float64(0))
    return graph.add("Div", weights, graph.add("Where", is_none, np.float64(1), total))


def _shares_of(
    graph: Any, sides: Sequence[str], axes: Sequence[Axis], own: Preprocessing
) -> list[str]:
    """Of the axis down and of that across."""
    return [
        _shares(graph, axis, side, count, own.interpolation)
        for axis, side, count in zip(axes, sides, own.shape, strict=True)
    ]


def _shares(graph: Any, axis: Axis, side: str, count: int, interpolation: str) -> str:
    """(count, side) float64: by how much each pixel counts in each that is taken."""
    own = _reach(graph, axis, side, _places(graph, axis, count), interpolation)
    pixels = graph.add("Unsqueeze", _up_to(graph, side), np.array([0]))
    return _weigh(graph, own, pixels, interpolation)


def _up_to(graph: Any, number: str) -> str:
    """0, 1, … before a number (1,)."""
    return graph.add("Range", np.float64(0), graph.add("Squeeze", number), np.float64(1))


def _places(graph: Any, axis: Axis, count: int) -> str:
    """(count, 1) float64: which of the pixels that are made are taken."""
    return graph.add("Add", np.arange(count, dtype=np.float64)[:, None], axis.first)


def _bits_of_16(graph: Any, axis: Axis, side: str, interpolation: str) -> str:
    """How many bits behind the point leave the largest share below 2^15, as torch counts them: of
    all pixels that are made, also those that are cropped."""
    places = graph.add("Unsqueeze", _up_to(graph, axis.made), np.array([1]))
    own = _reach(graph, axis, side, places, interpolation)
    widths = graph.add("Sub", own.last, own.first)
    widest = graph.add("ReduceMax", widths, np.array([0]), keepdims=0)
    # those that count alone: all pixels for all places may be gigabytes
    near = graph.add("Unsqueeze", _up_to(graph, widest), np.array([0]))
    shares = _weigh(graph, own, graph.add("Add", own.first, near), interpolation)
    largest = graph.add("ReduceMax", shares, keepdims=0)
    powers = 2.0 ** np.arange(1, BITS + 1)
    rounded = graph.add(
        "Floor", graph.add("Add", graph.add("Mul", largest, powers), np.float64(0.5))
    )
    fits = graph.as_float64(graph.add("Less", rounded, np.float64(1 << 15)))
    return graph.add("ReduceSum", fits, keepdims=0)


def _along_columns(graph: Any, pixels: str, shares: str, bits: Any) -> str:
    """(n, 3, h, w) by (count, w) -> (n, 3, h, count)."""
    weights = graph.add("Transpose", _fixed(graph, shares, bits), perm=[1, 0])
    return _rounded(graph, graph.add("MatMul", pixels, weights), bits)


def _along_rows(graph: Any, pixels: str, shares: str, bits: Any) -> str:
    """(n, 3, h, w) by (count, h) -> (n, 3, count, w)."""
    return _rounded(graph, graph.add("MatMul", _fixed(graph, shares, bits), pixels), bits)


def _fixed(graph: Any, shares: str, bits: Any) -> str:
    """Shares as whole numbers, rounded half away from zero."""
    scaled = graph.add("Mul", shares, graph.add("Pow", np.float64(2), bits))
    rounded = graph.add("Floor", graph.add("Add", graph.add("Abs", scaled), np.float64(0.5)))
    return graph.add("Mul", graph.add("Sign", scaled), rounded)


def _rounded(graph: Any, sums: str, bits: Any) -> str:
    """Whole numbers from 0 to 255: between the two passes as well."""
    share = graph.add("Div", sums, graph.add("Pow", np.float64(2), bits))
    found = graph.add("Floor", graph.add("Add", share, np.float64(0.5)))
    return graph.add("Min", graph.add("Max", found, np.float64(0)), np.float64(255))


def _never(graph: Any, sides: Sequence[str], made: Sequence[str]) -> None:
    return None


def _hundredfold(graph: Any, sides: Sequence[str], made: Sequence[str]) -> str:
    height, width = sides
    is_line = graph.add("Greater", height, graph.add("Mul", width, np.float64(100)))
    return graph.add("And", is_line, graph.add("Less", made[0], height))


def _twice(graph: Any, sides: Sequence[str], made: Sequence[str]) -> str:
    less = [graph.add("Sub", side, to) for side, to in zip(sides, made, strict=True)]
    is_less = graph.add("Greater", less[0], np.float64(0))
    much = graph.add("Greater", less[0], graph.add("Mul", less[1], np.float64(2)))
    return graph.add("And", is_less, much)


# When Pillow resizes along the rows first, which rounds otherwise: never before 12.3; from there on
# where an image is a hundred times as high as it is wide; since 13 where its height shrinks by more
# than twice as many pixels as its width.
TALL: dict[str, Callable[[Any, Sequence[str], Sequence[str]], str | None]] = {
    "never": _never,
    "hundredfold": _hundredfold,
    "twice": _twice,
}
TRIED = {"hundredfold": (2, 300), "twice": (40, 90)}  # (width, height), in order


@cache
def tall_rule() -> str:
    """The name in TALL of what the Pillow that is installed does, found by trying."""
    found = [rule for rule, sides in TRIED.items() if _is_rows_first(*sides)]
    return found[-1] if found else "never"


def _is_rows_first(width: int, height: int) -> bool:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image, by = Image.fromarray(pixels), Image.Resampling.BILINEAR
    apart = image.resize((30, height), by).resize((30, 30), by)
    return np.asarray(image.resize((30, 30), by)).tobytes() != apart.tobytes()


def _fill(graph: Any, pixels: str, axes: Sequence[Axis], own: Preprocessing) -> str:
    """The mean where less was made than the network sees."""
    outside = []
    for axis, count in zip(axes, own.shape, strict=True):
        places = _places(graph, axis, count)
        before = graph.add("Less", places, np.float64(0))
        behind = graph.add("GreaterOrEqual", places, axis.made)
        outside.append(graph.add("Or", before, behind))
    down, across = outside
    is_filled = graph.add("Or", down, graph.add("Transpose", across, perm=[1, 0]))
    colours = np.array([float(round(255 * value)) for value in own.mean]).reshape(1, 3, 1, 1)
    return graph.add("Where", is_filled, colours, pixels)


def _triangle(graph: Any, x: str) -> str:
    return graph.add("Max", graph.add("Sub", np.float64(1), graph.add("Abs", x)), np.float64(0))


def _cubic(graph: Any, x: str) -> str:
    """Keys' cubic with a = -0.5, in Pillow's order of operations."""
    a, x = -0.5, graph.add("Abs", x)
    square = graph.add("Mul", x, x)
    near = graph.add("Sub", graph.add("Mul", x, np.float64(a + 2)), np.float64(a + 3))
    near = graph.add("Add", graph.add("Mul", near, square), np.float64(1))
    far = graph.add("Add", graph.add("Mul", graph.add("Sub", x, np.float64(5)), x), np.float64(8))
    far = graph.add("Sub", graph.add("Mul", far, x), np.float64(4))
    far = graph.add("Mul", far, np.float64(a))
    far = graph.add("Where", graph.add("Less", x, np.float64(2)), far, np.float64(0))
    return graph.add("Where", graph.add("Less", x, np.float64(1)), near, far)


def _lanczos(graph: Any, x: str) -> str:
    third = graph.add("Div", x, np.float64(3))
    found = graph.add("Mul", _sinc(graph, x), _sinc(graph, third))
    is_near = graph.add("Less", graph.add("Abs", x), np.float64(3))
    return graph.add("Where", is_near, found, np.float64(0))


def _sinc(graph: Any, x: str) -> str:
    is_zero = graph.add("Equal", x, np.float64(0))
    angle = graph.add("Mul", graph.add("Where", is_zero, np.float64(1), x), np.float64(math.pi))
    found = graph.add("Div", graph.add("Sin", angle), angle)
    return graph.add("Where", is_zero, np.float64(1), found)


# by name of a filter: how far it reaches, and its values
FILTERS: dict[str, tuple[float, Callable[[Any, str], str]]] = {
    "bilinear": (1.0, _triangle),
    "bicubic": (2.0, _cubic),
    "lanczos": (3.0, _lanczos),
}


def export_trunk(backbone: Backbone, taps: Sequence[Tap]) -> Any:
    """The network up to its taps, as torch's exporter writes it.

    Parameters
    ----------
    backbone : Backbone
    taps : sequence of Tap

    Returns
    -------
    onnx.ModelProto
        From (n, 3, height, width) float32 to rows (n, d) float32, an output for each tap.

    Raises
    ------
    NotExported
        An operator that torch's exporter doesn't know, named.
    """
    import torch

    height, width = backbone.preprocessing.shape  # type: ignore[union-attr]  # no function is here
    example = torch.zeros(2, 3, height, width)
    n = torch.export.Dim("n", min=1)
    try:
        with torch.inference_mode(False), torch.no_grad(), _quiet():
            program = torch.onnx.export(
                _trunk(backbone, taps),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: n},),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever it stumbles over: a dozen kinds, none of them ours
        raise NotExported(f"{backbone.name} can't be written as ONNX: {_reason(error)}") from error
    return program.model_proto


def _trunk(backbone: Backbone, taps: Sequence[Tap]) -> Any:
    """A module of the network with norms fused, as the engine has it, that gives pooled rows."""
    import torch

    from extract.fusing import fuse

    card = backbone.card
    for tap in taps:
        card.check(tap)
    layers = {tap.layer for tap in taps}
    pairs = tuple((conv, norm) for conv, norm in card.folds if conv not in layers)

    class Trunk(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = fuse(copy.deepcopy(backbone.network), pairs)

        def forward(self, images: Any) -> tuple:
            calls: Counter[str] = Counter()
            rows: dict[Tap, Any] = {}

            def note(layer: str, _module: Any, _inputs: tuple, output: Any) -> None:
                calls[layer] += 1
                activation = card.activations[layer]
                if calls[layer] < activation.calls:
                    return
                tensor = first_tensor(output, images.shape[0])
                for tap in taps:
                    if tap.layer == layer:
                        # the next module may work in place
                        rows[tap] = _pool(activation, tensor, tap.pooling).clone()

            with hooked({name: self.network.get_submodule(name) for name in layers}, note):
                self.network(images)
            return tuple(rows[tap] for tap in taps)

    return Trunk().eval()


def _pool(activation: Activation, output: Any, pooling: str) -> Any:
    """As `Activation.pool`; a grid by its shares, as ONNX has no windows that overlap."""
    import torch

    found = find_pooling(pooling)
    if not found.grid or found.shares is None:
        return activation.pool(output, pooling)
    maps = activation.as_map(output)
    down, across = (
        torch.tensor(found.shares(side), dtype=torch.float32) for side in activation.map_shape[1:]
    )
    return (down @ maps @ across.T).flatten(1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter prints and warns of while it works."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """What an exporter stumbled over, in one line: the operator where it names one."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = lines[0] if lines else "no reason given"
    return f"{type(error).__name__}: {told[:300]}"
