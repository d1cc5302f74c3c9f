"""What an exploration of images is asked for: every option with its default and its check."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipelines.errors import WrongSetting
from pipelines.settings import NO_FIGURES, FeatureSettings


@dataclass(frozen=True)
class ExploreSettings(FeatureSettings):
    """Every option of `python -m pipelines.explore`, under the same names.

    Parameters
    ----------
    backbone, weights, layers, pooling, size, numerics, device, cache, seed, intensity
    page, channels, on
        Which features, as in `FeatureSettings`; of backbones one.
    class_level : {None}
        Images are taken at any depth.
    clusters : int or None
        How many clusters; None takes the number that comes again most in other draws.
    n : int
        How many images to ask labels for.
    labelled : path or None
        A CSV of the labels that are there already, as in `data.read_corrections`.
    report : bool
        Whether the images are mapped and the page `report.html` is written.
    max_bad : float
        Share of unreadable images above which the job fails.
    out : path or None
        Where the results go; None writes nothing.

    Examples
    --------
    >>> ExploreSettings(n=20).clusters is None
    True
    """

    clusters: int | None = None
    n: int = 50
    labelled: str | Path | None = None
    report: bool = True
    max_bad: float = 0.05
    out: str | Path | None = None

    def told(self) -> dict[str, Any]:
        """Every option that figures may depend on, as JSON has it."""
        asked = {own.name: getattr(self, own.name) for own in fields(self)}
        asked |= {
            "backbone": [getattr(own, "name", own) for own in self.backbones],
            "pooling": self.poolings,
            "labelled": self.labelled and str(self.labelled),
        }
        return {name: value for name, value in asked.items() if name not in NO_FIGURES}

    def check(self) -> None:
        """Raise WrongSetting, DataError or ExtractError for what can't be used."""
        if len(self.backbones) > 1:
            given = ",".join(str(getattr(own, "name", own)) for own in self.backbones)
            raise WrongSetting("backbone", given, "expected the name of one network")
        if self.clusters is not None and self.clusters < 1:
            raise WrongSetting("clusters", self.clusters, "expected 1 or more, such as 10")
        if self.n < 1:
            raise WrongSetting("n", self.n, "expected 1 image or more to ask labels for")
        if not 0 <= self.max_bad <= 1:
            raise WrongSetting("max_bad", self.max_bad, "expected a fraction from 0 to 1")
        self.check_features()
        self.refuse_maps()
