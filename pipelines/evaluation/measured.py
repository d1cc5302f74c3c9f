"""What a classifier is expected to be worth: the accuracy that was measured before it was kept."""

from dataclasses import dataclass

import numpy as np

from pipelines.evaluation.intervals import wilson_interval


@dataclass(frozen=True)
class MeasuredAccuracy:
    """Share of images predicted right that the heads were not trained on.

    Attributes
    ----------
    right, images : int
        So many of so many.
    on : str
        "test": images that took part in no choice. "folds": the training images out of fold, by
        which the parameters were chosen as well, so rather too high than too low.
    """

    right: int
    images: int
    on: str

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, on: str) -> "MeasuredAccuracy":
        """Of n labels and what was predicted."""
        return cls(int(np.sum(labels == predicted)), len(labels), on)

    @property
    def value(self) -> float:
        """The share."""
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end at 95 % (Wilson, 1927)."""
        return wilson_interval(self.right, self.images)
