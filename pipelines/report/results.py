"""The blocks of results.json that say what was done: versions, data, backbones, taps left out."""

import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data import Reading, Samples
from pipelines.evaluation.networks import WORTH as WORTH_OF_NETWORKS
from pipelines.evaluation.views import WORTH, ViewsChosen
from pipelines.report.advice import find_imbalance

RESULTS_SCHEMA = 1
PACKAGES = ("permafrost", "torch", "torchvision", "scikit-learn", "numpy", "pillow", "h5py")


def versions() -> dict[str, str | None]:
    """Versions of what the figures depend on; None for a package that is not installed."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def describe_data(samples: Samples, train_labels: np.ndarray, n_test: int) -> dict:
    """The `data` block, but for what was left out of the samples as they were read."""
    return {
        "name": samples.name,
        "classes": list(samples.classes),
        "n_train": len(train_labels),
        "n_test": n_test,
        "split": "held_out" if samples.split is None else "given",
        "passed_over": dict(samples.passed_over),
        "notes": list(samples.notes),
        "imbalance": find_imbalance(train_labels),
    }


def describe_reading(reading: Reading) -> dict:
    """How files became RGB images; page and channels as they are typed."""
    intensity = reading.intensity
    return {
        "intensity": list(intensity) if isinstance(intensity, tuple) else intensity,
        "page": reading.page + 1,
        "channels": reading.channels and list(reading.channels),
    }


def describe_backbone(backbone: Any, recipe: Any) -> dict:
    """One backbone (an `extract.Backbone`) and the recipe of its features."""
    card = backbone.card
    return {
        "name": backbone.name,
        "weights": card.weights,
        "architecture": card.architecture,
        "sha256": card.digest,
        "file_sha256": card.file_sha256,
        "fit": card.fit and asdict(card.fit),
        "numerics": recipe.numerics,
        "size": (card.preprocessing or {}).get("size"),
        "recipe": recipe.id,
    }


def describe_views(asked: Sequence[str], seen: ViewsChosen, augmented: int, averaged: bool) -> dict:
    """Which views were asked for and used; `gains` are shares of the log loss in a first look.

    augmented : how many random views of each image were trained on beside it. averaged : whether
    the mean over them predicts.
    """
    gains = {view: round(gain, 4) for view, gain in seen.gains.items()}
    return {
        "asked": list(asked),
        "used": list(seen.used),
        "looked_at": seen.looked_at,
        "worth": WORTH,
        "gains": gains,
        "augmented": augmented,
        "averaged": averaged,
    }


def describe_networks(networks: Any, within: float) -> dict:
    """Which networks were tried (a `stages.networks.NetworksTried`), and what came of it."""
    tried = [
        {
            name: round(own, 6) if isinstance(own, float) else own
            for name, own in asdict(one).items()
        }
        for one in networks.tried
    ]
    return {
        "within": within,
        "worth": WORTH_OF_NETWORKS,
        "found_copies": networks.found_copies,
        "tried": tried,
    }


def describe_screened(sources: Sequence[Any], scores: Mapping[int, float]) -> list[dict]:
    """Taps that were not searched in full, with the leave-one-out accuracy that screened them."""
    return [{**vars(sources[i]), "screening_accuracy": score} for i, score in scores.items()]
