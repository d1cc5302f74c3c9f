"""A backbone run up to one layer, as the ways into its channels need it: with gradients."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from extract.backbones import Backbone
from extract.cores import LITTLE_WORK, one_thread
from extract.engines import DeepestTapReached, mean_and_std
from extract.errors import ExtractError
from extract.layers import first_tensor, hooked
from extract.pooling import Activation, Tap
from extract.preprocessing import Preprocessing

Run = Callable[[Any], Any]


def spatial_layer(backbone: Backbone, layer: str) -> Activation:
    """What a layer gives; ExtractError where it is not there, or has no map of places."""
    card = backbone.card
    activation = card.check(Tap(layer, "avg"))
    if not activation.has_places("flatten"):
        raise ExtractError(
            f"layer {layer!r} gives {activation.shape} and has no places to look at: "
            f"expected one with a spatial map, such as {_with_places(card)}"
        )
    return activation


def _with_places(card: Any) -> str:
    spatial = [name for name in card.blocks if card.activations[name].has_places("flatten")]
    return spatial[-1] if spatial else "a convolution"


def check_channels(activation: Activation, layer: str, channels: Sequence[int]) -> list[int]:
    """The numbers as they are; ExtractError for one that the layer has not."""
    count = activation.map_shape[0]
    for channel in channels:
        if not 0 <= channel < count:
            raise ExtractError(
                f"channel {channel} is not in layer {layer!r}, which has {count}: "
                f"expected 0 to {count - 1}"
            )
    return list(channels)


def needs_pixels(backbone: Backbone) -> Preprocessing:
    """The preprocessing by which pixels become input, so that input can be shown as pixels.

    Raises ExtractError for one of one's own, which can't be undone.
    """
    preprocessing = backbone.preprocessing
    if not isinstance(preprocessing, Preprocessing):
        raise ExtractError(
            f"{backbone.name} has a preprocessing of its own, which says no mean and std: "
            "expected a backbone with extract.Preprocessing"
        )
    return preprocessing


@contextlib.contextmanager
def running_to(backbone: Backbone, layer: str) -> Iterator[Run]:
    """Inside, a function from input (n, 3, h, w) to the layer's map (n, channels, height, width).

    It is the network itself in float32 on the processor, and nothing behind the layer runs. Its
    weights want no gradient; an input that does has one.
    """
    activation = spatial_layer(backbone, layer)
    network, calls, found = backbone.network, Counter[str](), []

    def note(name: str, _module: Any, _inputs: tuple, output: Any) -> None:
        calls[name] += 1
        if calls[name] == activation.calls:
            found.append(activation.as_map(first_tensor(output)))
            raise DeepestTapReached

    def run(batch: Any) -> Any:
        calls.clear()
        found.clear()
        with contextlib.suppress(DeepestTapReached):
            network(batch)
        return found.pop()

    with hooked({layer: network.get_submodule(layer)}, note):
        yield run


def threads_to(backbone: Backbone, layer: str, images: float) -> contextlib.AbstractContextManager:
    """Inside, torch takes one thread for so few images through the part up to so early a layer.

    Of an image that is smaller than the network's own it takes a share.
    """
    order = backbone.card.activations[layer].order
    weights = sum(
        parameter.numel()
        for name, own in backbone.card.activations.items()
        if own.order <= order
        for parameter in backbone.network.get_submodule(name).parameters(recurse=False)
    )
    return one_thread() if weights * images <= LITTLE_WORK else contextlib.nullcontext()


def input_scale(preprocessing: Preprocessing) -> tuple[Any, Any]:
    """Mean and std (3, 1, 1) of pixels from 0 to 1."""
    mean, std = mean_and_std(preprocessing, "cpu")
    return mean[0] / 255, std[0] / 255
