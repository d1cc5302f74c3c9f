"""Features of a pass read from the store a slice of rows at a time, never all at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from extract.pooling import Tap

if TYPE_CHECKING:
    from extract.extraction import Extraction


class KeptRows:
    """What `Extraction.rows` gives: (n, d) float32 rows, each read when a slice with it is taken.

    extraction, taps, view : as `Extraction.read` takes them. rows : (n,) places among the inputs.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, extraction: "Extraction", taps: Sequence[Tap], rows: np.ndarray, view: str | None
    ) -> None:
        self._extraction = extraction
        self._taps = taps
        self._rows = rows
        self._view = view
        self.shape = (len(rows), extraction.width(taps))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._extraction.read(self._taps, self._rows[rows], self._view)
