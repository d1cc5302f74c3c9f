"""The maps of several layers, of one pass over whole images, read a few images at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from extract import Extraction, Tap
from extract.backbones import Card
from extract.errors import ExtractError
from extract.pooling import MAP

BLOCK_BYTES = 1 << 25  # of maps in memory at a time


def map_taps(card: Card, layers: str) -> list[Tap]:
    """The layers (`auto`, `all`, names) whose maps are kept.

    With `auto` and `all` those without positions are left out. Raises ExtractError for a named one,
    and where none is left.
    """
    taps = [Tap(layer, MAP) for layer in card.choose_layers(layers)]
    if layers in ("auto", "all"):
        taps = [tap for tap in taps if card.fits(tap)]
        if not taps:
            raise ExtractError(
                f"no layer of {card.name} has positions: choose another backbone, or a larger size"
            )
    for tap in taps:
        card.check(tap)
    return taps


@dataclass(frozen=True, eq=False)
class KeptMaps:
    """The maps of a pass. extraction: of it. taps: whose maps, in the order of their channels."""

    extraction: Extraction
    taps: Sequence[Tap]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """(channels, height, width) of each tap."""
        return [self.extraction.shape(tap) for tap in self.taps]

    def each(self) -> Iterator[list[np.ndarray]]:
        """Of each image, in order, a float32 array (channels, height, width) for each tap."""
        n_bytes = 4 * sum(int(np.prod(shape)) for shape in self.shapes)
        step = max(1, BLOCK_BYTES // n_bytes)
        rows = np.arange(len(self.extraction.ids))
        for at in range(0, len(rows), step):
            own = rows[at : at + step]
            found = [
                self.extraction.read([tap], own).reshape(len(own), *shape)
                for tap, shape in zip(self.taps, self.shapes, strict=True)
            ]
            yield from (list(maps) for maps in zip(*found, strict=True))
