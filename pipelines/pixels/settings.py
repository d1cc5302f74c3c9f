"""What a segmentation is asked for: every option of `python -m pipelines.segment`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import WrongSetting

if TYPE_CHECKING:
    from pipelines.pixels.classifier import PixelClassifier


@dataclass(frozen=True)
class SegmentSettings:
    """Every option of `python -m pipelines.segment`, under the same names.

    Parameters
    ----------
    layers, head, pixels_per_image, backbone, weights, size, ignore, numerics, device, cache, seed
    intensity, page, channels
        As in `PixelClassifier`; `seed` is that of the held-out quarter too.
    test : (images, masks) or None
        Folders of test images and their masks; None holds out a quarter of the images.
    out : path or None
        Where the results go; None writes none.

    Raises
    ------
    WrongSetting
        Where `test` is not two folders.

    Examples
    --------
    >>> SegmentSettings(head="forest", size=448).make_classifier()
    PixelClassifier(head='forest', size=448)
    """

    layers: str = "auto"
    head: str = "logistic"
    pixels_per_image: int = 256
    backbone: str = "mobilenet_v2"
    weights: str | None = None
    size: int | None = None
    ignore: int | None = None
    numerics: str = "auto"
    device: str = "auto"
    cache: str | Path | None = None
    seed: int = 0
    intensity: str | tuple[float, float] | None = "auto"
    page: int = 1
    channels: str | Sequence[int] | None = None
    test: Sequence[str | Path] | None = None
    out: str | Path | None = None

    def __post_init__(self) -> None:
        # a name of two letters is a sequence of two
        if self.test is not None and (isinstance(self.test, (str, Path)) or len(self.test) != 2):
            raise WrongSetting(
                "test", self.test, "expected two folders, of images and of their masks"
            )

    def make_classifier(self) -> "PixelClassifier":
        """The unfitted classifier that these settings name."""
        # here: scikit-learn takes a second to import
        from pipelines.pixels.classifier import PixelClassifier

        others = {"test", "out"}
        names = [own.name for own in fields(self) if own.name not in others]
        return PixelClassifier(**{name: getattr(self, name) for name in names})
