"""The part of a network that is trained: from the image, or from the layer below it, to the tap."""

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from extract.engines import DeepestTapReached
from extract.errors import ExtractError
from extract.layers import first_tensor, hooked

CLOSE = 1e-4  # relative difference up to which a part gives what the whole network gives


class CannotCut(ExtractError):
    """The network has no place at which what lies above needs nothing else from below."""


def up_to(network: Any, layer: str) -> Callable[[Any], Any]:
    """(n, 3, height, width) images -> the layer's output; what lies behind it does not run."""
    module = network.get_submodule(layer)

    def forward(images: Any) -> Any:
        found = []

        def note(_name: str, _module: Any, _inputs: tuple, output: Any) -> None:
            found.append(first_tensor(output, len(images)))
            raise DeepestTapReached

        with hooked({layer: module}, note), contextlib.suppress(DeepestTapReached):
            network(images)
        return found[0]

    return forward


def above(network: Any, below: str, layer: str, blocks: Sequence[str]) -> Any:
    """What computes a layer's output from that of the block `below`: a module on the same weights.

    The code around the blocks is traced symbolically (torch.fx); what is inside of them runs as it
    is. Raises CannotCut where that code can't be traced, or where what lies above needs more than
    that one output.
    """
    from torch import fx

    class Tracer(fx.Tracer):
        def is_leaf_module(self, module: Any, name: str) -> bool:
            return not any(block.startswith(f"{name}.") for block in (*blocks, below, layer))

    try:
        graph = Tracer().trace(network, _other_arguments(network))
    # any: the network's own code, given what is no tensor
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CannotCut(f"the code around the blocks can't be traced: {reason}") from error
    start, end = _last_call(graph, below), _last_call(graph, layer)
    needed = _needed(end, start)
    if any(node.op == "placeholder" for node in needed):
        raise CannotCut(f"what lies above {below} needs more than its output")
    part = fx.Graph()
    copies = {start: part.placeholder("given")}
    for node in graph.nodes:  # in the order in which they are called
        if node in needed:
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(copies[end])
    return fx.GraphModule(network, part).eval()


def _other_arguments(network: Any) -> dict[str, Any]:
    """What a forward takes beside the images, as it is when they are given alone."""
    _, *others = inspect.signature(network.forward).parameters.values()
    return {own.name: own.default for own in others if own.default is not own.empty}


def _needed(end: Any, start: Any) -> set:
    """The calls that the last one is computed from, as far as the first, without that one."""
    needed: set = set()
    ahead = [end]
    while ahead:
        node = ahead.pop()
        if node is not start and node not in needed:
            needed.add(node)
            ahead += node.all_input_nodes
    return needed


def _last_call(graph: Any, layer: str) -> Any:
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if not calls:
        raise CannotCut(f"{layer} is not called as a module around the blocks")
    return calls[-1]


def check_above(part: Any, given: Any, wanted: Any, below: str) -> None:
    """CannotCut where the part does not give what the whole network gave."""
    import torch

    with torch.no_grad():
        found = first_tensor(part(given), len(given))
    if found is None or found.shape != wanted.shape:
        raise CannotCut(f"what lies above {below} gives another shape than the whole network")
    if float((found - wanted).norm()) > CLOSE * float(wanted.norm()):
        raise CannotCut(f"what lies above {below} gives other values than the whole network")
