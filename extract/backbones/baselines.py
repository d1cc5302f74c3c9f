"""The baselines: what images tell without a trained network, each a backbone by its name."""

import importlib
from dataclasses import dataclass

from extract.backbones.backbone import Backbone
from extract.backbones.card import Built
from extract.backbones.names import Asked, refuse_preprocessing
from extract.errors import ExtractError

NO_WEIGHTS = "none"


@dataclass(frozen=True)
class Baseline:
    """One row of the table of baselines.

    Attributes
    ----------
    words : str
        As printed.
    network : str
        `module:function` that returns (torch.nn.Module, Preprocessing); its one layer has the
        baseline's name.
    pooling : str
        How a run pools it.
    version : int
        Stands for its code: it goes up when its features change.
    """

    words: str
    network: str
    pooling: str = "grid3"
    version: int = 1


BASELINES = {
    "pixels": Baseline("raw pixels", "extract.backbones.baseline_networks:pixels", "avg"),
    "histogram": Baseline("colours", "extract.backbones.baseline_networks:histogram"),
    "gabor": Baseline("Gabor filters", "extract.backbones.baseline_networks:gabor"),
}


def load(asked: Asked) -> Backbone:
    """A baseline by its name; ExtractError for another name, and for weights or a size."""
    if asked.name not in BASELINES:
        raise ExtractError(f"unknown baseline {asked.name!r}: expected {', '.join(BASELINES)}")
    refuse_preprocessing(asked)
    if asked.weights not in (None, NO_WEIGHTS) or asked.size is not None:
        raise ExtractError(f"backbone {asked.name!r} has no weights and one size: leave both out")
    key = (asked.name, NO_WEIGHTS)
    build = BaselineBuild(asked.name)
    return Backbone(asked.name, NO_WEIGHTS, build, memory=asked.cache, key=key)


@dataclass(frozen=True)
class BaselineBuild:
    """Builds a baseline; picklable, unlike its network."""

    name: str

    def __call__(self) -> Built:
        row = BASELINES[self.name]
        module, _, function = row.network.partition(":")
        network, preprocessing = getattr(importlib.import_module(module), function)()
        architecture = f"permafrost.{self.name}/{row.version}"
        return Built(network, NO_WEIGHTS, architecture, set(network.state_dict()), preprocessing)
