"""Batch norms in training as one with the convolutions before them, and trained as they are."""

from collections.abc import Sequence
from typing import Any


def fold_norms(network: Any, pairs: Sequence[tuple[str, str]]) -> None:
    """Have each convolution compute what it and the norm behind it give, and the norm nothing.

    The norm's averages stand still in training, so that it is a scale and an offset of each channel
    (as `fuse` has it), and these are multiplied into the weights in every call: a pass over some
    thousand weights in place of one over every image's map, forth and back. The parameters stay
    those of the two modules, and so do their gradients.

    network : is changed in place. pairs : (convolution, norm) as of `Card.folds`.
    """
    for conv, norm in pairs:
        first, second = network.get_submodule(conv), network.get_submodule(norm)
        first.forward = _Folded(first, second)
        second.forward = _as_it_comes


def _as_it_comes(values: Any) -> Any:
    return values


class _Folded:
    """The forward of a convolution and its norm."""

    def __init__(self, conv: Any, norm: Any) -> None:
        self._conv, self._norm = conv, norm
        # oneDNN has no fast bfloat16 way back through these: ten times the time of float32
        self._in_float32 = conv.groups > 1 and max(conv.stride) > 1

    def __call__(self, values: Any) -> Any:
        import torch

        conv, norm = self._conv, self._norm
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        offset = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
        offset = offset * scale
        if norm.bias is not None:
            offset = offset + norm.bias
        weight = conv.weight * scale.view(-1, 1, 1, 1)
        if self._in_float32 and values.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return conv._conv_forward(values.float(), weight, offset)
        return conv._conv_forward(values, weight, offset)
