"""Batch norm fused into the convolution before it, where running shows that it is the same."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from extract.layers import first_tensor, hooked
from extract.pooling import Activation

SAMPLE = 4096  # values of a layer that are compared: enough to see a change anywhere in it


def find_fusable(
    network: Any, batch: Any, activations: Mapping[str, Activation]
) -> list[tuple[str, str]]:
    """Pairs (convolution, batch norm) whose fusing leaves all other outputs within 1e-3 relative.

    A pair is taken where the norm is called once, right after the convolution, on its very output.
    What else the code may do with that output can't be seen, so the fused copy is run and
    compared; on any difference nothing is fused.
    """
    import torch

    with torch.inference_mode():
        pairs, before = _adjacent(network, batch, activations)
        if not pairs:
            return []
        _, after = _adjacent(fuse(copy.deepcopy(network), pairs), batch, activations)
    others = before.keys() - {conv for conv, _ in pairs}
    same = all((after[name] - before[name]).norm() <= 1e-3 * before[name].norm() for name in others)
    return pairs if same else []


def fuse(network: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    """Fuse each pair in place -> the network; the norm's place keeps its name, and does nothing."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for conv, norm in pairs:
        fused = fuse_conv_bn_eval(network.get_submodule(conv), network.get_submodule(norm))
        network.set_submodule(conv, fused)
        network.set_submodule(norm, torch.nn.Identity())
    return network


def _adjacent(
    network: Any, batch: Any, activations: Mapping[str, Activation]
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The pairs, and a sample of what each layer gives."""
    from torch import nn
    from torch.nn.utils.parametrize import is_parametrized

    pairs: list[tuple[str, str]] = []
    outputs: dict[str, Any] = {}
    last: tuple[str, Any] = ("", None)  # the convolution that ran last, and its output

    def note(name: str, module: Any, inputs: tuple, output: Any) -> None:
        nonlocal last
        if name in activations:
            values = first_tensor(output).flatten()
            outputs[name] = values[:: max(1, len(values) // SAMPLE)].float().clone()
        if isinstance(module, nn.Conv2d) and not is_parametrized(module):
            last = (name, output)
        elif (
            isinstance(module, nn.BatchNorm2d)
            and inputs
            and inputs[0] is last[1]
            and module.running_mean is not None
        ):
            pairs.append((last[0], name))

    once = {name for name, activation in activations.items() if activation.calls == 1}
    with hooked({name: module for name, module in network.named_modules() if name}, note):
        network(batch)
    return [(conv, norm) for conv, norm in pairs if conv in once and norm in once], outputs
