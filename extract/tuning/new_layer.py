"""The linear layer that stands on the pooled last layer: how it begins, and as it was trained."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from extract.errors import ExtractError
from extract.pooling import Tap


@dataclass(frozen=True, eq=False)
class NewLayer:
    """A linear layer on standardised features; a frozen linear head is where tuning begins.

    Features are standardised once, by what they were before: one learning rate then means the same
    whatever their scale.

    Parameters
    ----------
    tap : Tap
        Whose rows (n, d) it takes.
    mean, scale : array of shape (d,)
        Of the features before tuning; they stay as they are.
    weight : array of shape (classes, d)
    bias : array of shape (classes,)

    Examples
    --------
    >>> import numpy as np
    >>> from extract import NewLayer, Tap
    >>> layer = NewLayer(Tap("a", "avg"), np.zeros(2), np.ones(2), np.eye(2), np.zeros(2))
    >>> layer.logits(np.array([[3.0, 1.0]]))
    array([[3., 1.]])
    """

    tap: Tap
    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(n, classes) of (n, d) features."""
        return ((features - self.mean) / self.scale) @ self.weight.T + self.bias

    def check(self, width: int, n_classes: int) -> None:
        """ExtractError where its arrays don't fit features of this width, or the classes."""
        wanted = {
            "mean": (width,),
            "scale": (width,),
            "weight": (n_classes, width),
            "bias": (n_classes,),
        }
        for name, shape in wanted.items():
            found = np.shape(getattr(self, name))
            if found != shape:
                raise ExtractError(
                    f"the new layer's {name} has the shape {found}, expected {shape}: "
                    f"{self.tap} gives {width} features, and the targets name {n_classes} classes"
                )
        if not np.min(self.scale) > 0:
            raise ExtractError("the new layer's scale holds numbers of 0 or below: expected above")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; of float32 numbers nothing is lost."""
        arrays = {
            own.name: np.asarray(getattr(self, own.name)).tolist() for own in fields(self)[1:]
        }
        return {"tap": [self.tap.layer, self.tap.pooling], **arrays}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "NewLayer":
        """The reverse of `to_dict`."""
        arrays = {own.name: np.array(values[own.name], np.float32) for own in fields(cls)[1:]}
        return cls(Tap(*values["tap"]), **arrays)
