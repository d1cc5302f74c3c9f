"""What of a network is trained: blocks from the last down, in groups with rates of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.backbones.card import Card
from extract.errors import ExtractError
from extract.pooling import Tap
from extract.tuning.settings import ALL, GRADUAL, Tuning

NEW_LAYER, STEM = "new layer", "stem"


@dataclass(frozen=True)
class Group:
    """Layers that are trained at one rate.

    Attributes
    ----------
    name : str
        Its layers in a word.
    layers : tuple of str
        Blocks from the last down; `stem` is what lies in none; none of the new layer.
    rate : float
        The highest of its learning rates; the schedule scales it.

    Examples
    --------
    >>> Group("features.18 … features.15", ("features.18",), 1e-4).rate
    0.0001
    """

    name: str
    layers: tuple[str, ...]
    rate: float


def trained_blocks(card: Card, tap: Tap, unfreeze: int | str) -> tuple[list[str], str | None]:
    """The blocks that are trained, from the last down, and the one below them that is not.

    Below is None where all are trained, the stem with them. ExtractError for more blocks than
    there are.
    """
    deepest = card.check(tap).order
    blocks = [name for name in card.blocks if card.activations[name].order <= deepest]
    if unfreeze in (ALL, GRADUAL):
        return [*reversed(blocks), STEM], None
    if int(unfreeze) >= len(blocks):
        raise ExtractError(
            f"unfreeze={unfreeze}: {card.name} has {len(blocks)} blocks up to {tap.layer}; "
            f"expected fewer, or {ALL!r} or {GRADUAL!r}"
        )
    return blocks[: -int(unfreeze) - 1 : -1], blocks[-int(unfreeze) - 1]


def divide(parts: Sequence[str], tuning: Tuning) -> list[Group]:
    """The new layer, then the parts from the last down in groups as equal as they can be.

    >>> [group.layers for group in divide(["c", "b", "a"], Tuning(rates=(2, 4, 6)))]
    [(), ('c', 'b'), ('a',)]
    """
    rates = [10.0**-rate for rate in tuning.rates]
    if len(rates) - 1 > len(parts):
        raise ExtractError(
            f"{len(rates)} rates, of the new layer and {len(rates) - 1} groups of blocks, and "
            f"{len(parts)} are trained: expected at most {len(parts) + 1} rates"
        )
    divided = [tuple(map(str, own)) for own in np.array_split(list(parts), len(rates) - 1)]
    return [
        Group(NEW_LAYER, (), rates[0]),
        *(Group(_name(own), own, rate) for own, rate in zip(divided, rates[1:], strict=True)),
    ]


def _name(layers: Sequence[str]) -> str:
    return layers[0] if len(layers) == 1 else f"{layers[0]} … {layers[-1]}"


def parameters_of(
    network: Any, card: Card, parts: Sequence[str], reached: Sequence[str]
) -> dict[str, list[tuple[str, Any]]]:
    """By part the parameters of it, with their names, of those that the tap is computed from; a
    part without any is left out.

    What lies between two blocks, such as a convolution that halves the map, goes with the block
    behind it; what comes before the first is the stem.
    """
    known = dict(network.named_parameters())
    own: dict[str, list[tuple[str, Any]]] = {part: [] for part in parts}
    for name in reached:
        part = _part_of(name, card)
        if part in own:
            own[part].append((name, known[name]))
    return {part: named for part, named in own.items() if named}


def _part_of(name: str, card: Card) -> str:
    inside = next((block for block in card.blocks if name.startswith(f"{block}.")), None)
    owner = name.rpartition(".")[0]
    # a module that gives no row an image, or a tensor of the network itself, has no order
    if inside is not None or owner not in card.activations:
        return inside or STEM
    order = card.activations[owner].order
    first = min(
        activation.order
        for layer, activation in card.activations.items()
        if layer == card.blocks[0] or layer.startswith(f"{card.blocks[0]}.")
    )
    if order < first:
        return STEM
    return next(block for block in card.blocks if card.activations[block].order > order)
