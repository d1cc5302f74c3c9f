"""What a run looks for in its images without their labels: one row each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.exploration.outliers import rank_outliers


@dataclass(frozen=True)
class Exploration:
    """One row of the table of explorations.

    Attributes
    ----------
    words : str
        What its images are, as printed.
    rank : callable
        Features (n, d) -> an object with `order` (n,), rows with the most striking first, and the
        two attributes that follow.
    value : str
        Attribute (n,) that the order is by, and its key in results.json.
    flagged : str
        Attribute (n,) bool: which images are listed.
    tap : {"last", "middle"}
        Whose features it sees: of the deepest layer, averaged, or of a middle one with its grid.
    """

    words: str
    rank: Callable[[np.ndarray], Any]
    value: str
    flagged: str
    tap: str = "last"


EXPLORATIONS = {
    "outliers": Exploration("images unlike all others", rank_outliers, "distance", "outlying"),
}
