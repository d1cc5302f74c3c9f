"""Which layers a network has, what each gives, and which of them are worth keeping."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from extract.errors import ExtractError
from extract.pooling import Activation

AUTO_LAYERS = 6
CLASSIFIERS = ("classifier", "head", "fc")
FAR_FROM_ASPECT = 2.5  # from there on the two sides of a map are not those of the image
ACTIVATIONS = ("ReLU", "GELU", "SiLU", "Hardswish", "Tanh", "ELU", "LeakyReLU", "PReLU")


def first_tensor(output: Any, rows: int | None = None) -> Any:
    """The tensor of a module's output; None where it gives none.

    Of several it is the first that has so many rows, one an image (TNT gives its pixels' first), or
    else the first.
    """
    import torch

    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, dict):
        output = tuple(output.values())
    if not isinstance(output, (tuple, list)):
        return None
    found = [own for own in (first_tensor(part, rows) for part in output) if own is not None]
    by_image = (own for own in found if own.dim() and own.shape[0] == rows)
    return next(by_image, found[0] if found else None)


@contextlib.contextmanager
def hooked(modules: Mapping[str, Any], hook: Callable) -> Iterator[None]:
    """Inside, call `hook(name, module, inputs, output)` after each forward of {name: module}."""
    handles = [
        module.register_forward_hook(lambda m, args, out, name=name: hook(name, m, args, out))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def probe_layers(
    network: Any, batch: Any, patch: tuple[int, int] | None = None
) -> dict[str, Activation]:
    """Run `network` once on `batch` (n >= 2 images) -> what each module gives, by its last call.

    patch: (height, width) of the patches in pixels, where it is known that the tokens are theirs.
    A module whose output has not one row an image (window attention's inner ones) is left out: it
    can't be kept by image.
    """
    aspect = batch.shape[-2] / batch.shape[-1]
    calls: dict[str, int] = {}
    seen: dict[str, tuple[int, ...]] = {}

    def note(name: str, _module: Any, _inputs: tuple, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        tensor = first_tensor(output, batch.shape[0])
        seen.pop(name, None)
        if tensor is not None and tensor.dim() in (2, 3, 4) and tensor.shape[0] == batch.shape[0]:
            seen[name] = tuple(tensor.shape[1:])

    with hooked({name: module for name, module in network.named_modules() if name}, note):
        network(batch)
    kinds = _map_kinds(
        network, {name: shape for name, shape in seen.items() if len(shape) == 3}, aspect
    )
    grid = patch and (batch.shape[-2] // patch[0], batch.shape[-1] // patch[1])
    return {
        name: _activation(shape, order, calls[name], kinds.get(name), (aspect, grid))
        for order, (name, shape) in enumerate(seen.items())
    }


def _map_kinds(network: Any, shapes: Mapping[str, tuple], aspect: float) -> dict:
    """`map` or `grid` by name, by which two sides have the image's aspect.

    Where as many channels as pixels leave it open, a convolution gives a map, another what the next
    one gives.
    """
    from torch import nn

    kinds = {}
    after = "map"
    for name, shape in reversed(list(shapes.items())):
        as_map, as_grid = (abs(math.log(a / b / aspect)) for a, b in (shape[1:], shape[:2]))
        if as_map != as_grid:
            after = "grid" if as_grid < as_map else "map"
        kinds[name] = "map" if isinstance(network.get_submodule(name), nn.Conv2d) else after
    return kinds


def _activation(
    shape: tuple[int, ...], order: int, calls: int, map_kind: Any, seen: tuple
) -> Activation:
    if len(shape) == 1:
        return Activation("vector", shape, order, calls)
    if len(shape) == 2:
        return Activation("tokens", shape, order, calls, _patch_grid(shape[0], *seen))
    return Activation(map_kind, shape, order, calls)


def _patch_grid(
    tokens: int,
    aspect: float,
    known: tuple[int, int] | None = None,
    most_prefix_tokens: int = 8,
) -> tuple[int, int] | None:
    """(height, width) of the patches among `tokens`, beside a few class and register tokens.

    known: the grid of the network's patches, where it is known to have one.
    """
    if known and 0 <= tokens - math.prod(known) <= most_prefix_tokens:
        return known
    for patches in range(tokens, max(tokens - most_prefix_tokens, 1) - 1, -1):
        height = round(math.sqrt(patches * aspect))
        if height and patches % height == 0 and round(height / aspect) == patches // height:
            return height, patches // height
    return None


def block_layers(
    network: Any, activations: dict[str, Activation], aspect: float = 1.0
) -> list[str]:
    """Names of the residual, dense or transformer blocks or stages, in the order of their calls.

    A container is opened while it is a sequence of composite modules, or holds one and more than
    half of the network's parameters, and its siblings of one class with it; what then stays whole
    is a block. A network of bare leaves (VGG, AlexNet) gives its activations instead. Only layers
    before the classifier whose map or tokens lie on an image of this aspect (height by width)
    count, and no map of one place that was pooled from many.
    """
    total = sum(parameter.numel() for parameter in network.parameters())

    def counts(name: str, module: Any) -> bool:
        is_classifier = name.partition(".")[0] in CLASSIFIERS
        return not is_classifier and _is_spatial(activations.get(name), aspect)

    blocks = _without_pooled(_blocks(network, "", total, counts), activations)
    if len(blocks) < 2:
        blocks = (
            _leaves(network, activations, ACTIVATIONS)
            or _leaves(network, activations, ("Conv2d",))
            or blocks
        )
        blocks.sort(key=lambda name: activations[name].order)
    return blocks + _final_norm(network, blocks, activations)


def _blocks(
    module: Any, name: str, total: int, counts: Callable[[str, Any], bool]
) -> Iterator[str]:
    children = list(module.named_children())
    opened = {type(child) for _, child in children if _opens(child, total)}
    for child_name, child in children:
        path = f"{name}.{child_name}" if name else child_name
        is_composite = any(True for _ in child.children())
        if type(child) in opened and (inside := list(_blocks(child, path, total, counts))):
            yield from inside
        elif is_composite and counts(path, child):
            yield path


def _without_pooled(names: Iterable[str], activations: Mapping[str, Activation]) -> list[str]:
    """In order of depth, without maps of one place made at once of many."""
    blocks: list[str] = []
    side = 1
    for name in sorted(names, key=lambda name: activations[name].order):
        shape = activations[name].map_shape[1:]
        if math.prod(shape) == 1 and side > 2:
            continue
        side = max(shape)
        blocks.append(name)
    return blocks


def _opens(module: Any, total: int) -> bool:
    """Whether what is inside is worth more than the whole: a stage opens, its blocks do not."""
    composite = _composite(module)
    if _is_sequence(module):
        return bool(composite)
    if sum(p.numel() for p in module.parameters()) <= total / 2:
        return False
    classes = [type(child) for child in composite]
    return (
        len(classes) == 1  # a wrapper
        or len(set(classes)) < len(classes)
        or any(_opens(child, total) for child in composite)  # a sequence inside, at any depth
    )


def _composite(module: Any) -> list:
    return [child for child in module.children() if any(True for _ in child.children())]


def _is_sequence(module: Any) -> bool:
    from torch import nn

    return isinstance(module, (nn.Sequential, nn.ModuleList))


def _is_spatial(activation: Activation | None, aspect: float = 1.0) -> bool:
    """Whether it has places that lie on the image; windows or heads among its axes have none."""
    if activation is None or activation.kind == "vector":
        return False
    _, height, width = activation.map_shape
    if activation.kind == "tokens" and activation.tokens_grid is None:
        return True  # a sequence of whatever kind
    # a side of few places is rounded a good deal
    return abs(math.log((height + 1) / (width + 1) / aspect)) <= math.log(FAR_FROM_ASPECT)


def _leaves(
    network: Any, activations: Mapping[str, Activation], class_names: Sequence[str]
) -> list[str]:
    return [
        name
        for name, module in network.named_modules()
        if type(module).__name__ in class_names and _is_spatial(activations.get(name))
    ]


def _final_norm(
    network: Any, blocks: list[str], activations: Mapping[str, Activation]
) -> list[str]:
    """The norm that closes the trunk (DenseNet, ViT, Swin), after the last block."""
    if not blocks:
        return []
    last = activations[blocks[-1]].order
    grid = activations[blocks[-1]].map_shape[1:]
    modules = dict(network.named_modules())
    after = [
        name
        for name, activation in activations.items()
        if activation.order > last
        and activation.map_shape[1:] == grid
        and math.prod(grid) > 1
        and "Norm" in type(modules[name]).__name__
    ]
    # one at the end, not one at the start of a block that gives something else
    return [min(after, key=lambda name: name.count("."))] if after else []


def spread(layers: list[str], count: int = AUTO_LAYERS) -> list[str]:
    """The last layer of each of `count` equal stretches of depth: the very last is one."""
    if len(layers) <= count:
        return list(layers)
    return [layers[math.ceil(len(layers) * k / count) - 1] for k in range(1, count + 1)]


def unknown_layer(name: str, known: Iterable[str]) -> ExtractError:
    """The error for a layer that isn't there, with the nearest names."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[-3:]
    return ExtractError(f"unknown layer {name!r}: did you mean {', '.join(near)}?")
