"""Batch norm fused into the convolution before it, where running shows that it is the same."""

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
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
    compared; on any difference nothing is fused. Where all norms stand in sequences that were
    called whole, there is no such code and nothing is run.
    """
    import torch
    from torch import nn

    norms = {name for name, own in network.named_modules() if type(own) is nn.BatchNorm2d}
    pairs = _in_sequences(network, activations)
    if norms == {norm for _, norm in pairs}:
        return pairs
    with torch.inference_mode():
        pairs, before = _adjacent(network, batch, activations)
        if not pairs:
            return []
        _, after = _adjacent(fuse(copy.deepcopy(network), pairs), batch, activations)
    others = before.keys() - {conv for conv, _ in pairs}
    same = all((after[name] - before[name]).norm() <= 1e-3 * before[name].norm() for name in others)
    return pairs if same else []


def _in_sequences(network: Any, activations: Mapping[str, Activation]) -> list[tuple[str, str]]:
    """Pairs that torch's own sequence hands on, with nothing else there to see the first's output.

    Each of the three is called once; who steps through a sequence himself does not call it.
    """
    from torch import nn

    def is_plain(name: str, module: Any) -> bool:
        called = not name or (name in activations and activations[name].calls == 1)
        return called and not (module._forward_hooks or module._forward_pre_hooks)

    pairs = []
    for prefix, sequence in network.named_modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        if type(sequence).forward is not nn.Sequential.forward or not is_plain(prefix, sequence):
            continue
        inside = [
            (f"{prefix}.{name}" if prefix else name, module)
            for name, module in sequence.named_children()
        ]
        for (conv, first), (norm, second) in pairwise(inside):
            if _can_fuse(first, second) and is_plain(conv, first) and is_plain(norm, second):
                pairs.append((conv, norm))
    return sorted(pairs, key=lambda pair: activations[pair[0]].order)


def _can_fuse(conv: Any, norm: Any) -> bool:
    """Whether both do what torch's own do: a subclass may add an activation or a padding."""
    from torch import nn
    from torch.nn.utils.parametrize import is_parametrized

    are_plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d
    return are_plain and norm.running_mean is not None and not is_parametrized(conv)


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

    pairs: list[tuple[str, str]] = []
    outputs: dict[str, Any] = {}
    last: tuple[str, Any] = ("", None)  # the convolution that ran last, and its output

    def note(name: str, module: Any, inputs: tuple, output: Any) -> None:
        nonlocal last
        if name in activations:
            values = first_tensor(output).flatten()
            outputs[name] = values[:: max(1, len(values) // SAMPLE)].float().clone()
        if isinstance(module, nn.Conv2d):
            last = (name, output)
        elif inputs and inputs[0] is last[1] and _can_fuse(network.get_submodule(last[0]), module):
            pairs.append((last[0], name))

    once = {name for name, activation in activations.items() if activation.calls == 1}
    with hooked({name: module for name, module in network.named_modules() if name}, note):
        network(batch)
    return [(conv, norm) for conv, norm in pairs if conv in once and norm in once], outputs
