"""The stage of a run that asks which images a classifier knows: training images as reference."""

from dataclasses import dataclass

import numpy as np

from pipelines.exploration.reference import UNFAMILIAR, Names, Reference, fit_reference
from pipelines.features import FeatureTable, Source
from pipelines.outcome import Found, Tested


@dataclass(frozen=True)
class Familiar:
    """The training images as a reference, and how familiar the test images are.

    source : whose features are compared: the deepest of those that the chosen heads take.
    of_test : (n_test,) familiarity.
    """

    reference: Reference
    source: int
    of_test: np.ndarray


def find_familiar(found: Found) -> Familiar:
    """Compare the training images with one another, and the test images with them."""
    table, split, sources = found.table, found.split, found.head.sources
    source = _deepest(table, sources)
    before = [table.sources[other].dim for other in sources if other < source]
    names = name_images(table, split.train)
    reference = fit_reference(found.read(source), split.folds, names, sum(before))
    return Familiar(reference, source, reference.judge(table.read(source, split.test)))


def name_images(table: FeatureTable, rows: np.ndarray) -> Names:
    """What these samples are called and what they show."""
    samples = table.samples
    paths = np.array([samples.paths[row] for row in rows], object)
    return Names(paths, samples.labels[rows], table.ids[rows])


def describe_familiar(found: Found, familiar: Familiar, tested: Tested) -> dict:
    """The `familiarity` of results.json: what the flag would have caught in the test part."""
    flagged = familiar.of_test < UNFAMILIAR
    right = tested.predicted == tested.samples.labels
    source: Source = found.table.sources[familiar.source]
    return {
        "backbone": source.backbone,
        "view": source.view,
        "tap": source.tap,
        "threshold": UNFAMILIAR,
        "n_judged": len(familiar.reference.judged),
        "n_flagged": int(flagged.sum()),
        "share_flagged": float(flagged.mean()),
        "accuracy_flagged": float(right[flagged].mean()) if flagged.any() else None,
        "accuracy_others": float(right[~flagged].mean()) if not flagged.all() else None,
    }


def _deepest(table: FeatureTable, sources: list[int]) -> int:
    """The deepest of these sources, its average if there is one: strangers differ most there."""
    last = table.sources[sources[-1]]
    alike = [source for source in sources if _place(table.sources[source]) == _place(last)]
    averaged = (source for source in alike if table.sources[source].pooling == "avg")
    return next(averaged, sources[-1])


def _place(source: Source) -> tuple[str, str, str | None]:
    return source.backbone, source.view, source.layer
