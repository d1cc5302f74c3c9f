"""The stages of a run that say what became of each image: answers, places on the map, the page."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pipelines.evaluation.answers import describe_answers
from pipelines.evaluation.workers import compute
from pipelines.exploration.maps import MOST, even_order, map_images
from pipelines.features import Source
from pipelines.outcome import Found, Job, Tested
from pipelines.report.files import as_familiarity, as_probability
from pipelines.report.images import ImageTable
from pipelines.report.split import TEST, TRAIN
from pipelines.stages.remembered import sources_of


@dataclass(frozen=True)
class Mapped:
    """Images in a plane.

    rows : (m,) those of the samples that were drawn for it. places : (m, 2).
    described : the `map` of results.json.
    """

    rows: np.ndarray
    places: np.ndarray
    described: dict


def draw_map(job: Job, found: Found) -> Mapped | None:
    """The images in a plane, by the features that weigh most in the chosen row."""
    if not job.settings.report:
        return None
    labels = found.table.samples.labels
    rows = np.sort(even_order(labels, job.settings.seed)[:MOST])
    source = heaviest_source(found)
    decided = [found.table.ids[rows], sources_of(found.table)[source], job.settings.seed]
    drawn = job.findings.of(
        "map",
        decided,
        lambda: asdict(
            compute(
                job.workers,
                map_images,
                lambda: (found.table.read(source, rows), job.settings.seed),
            )
        ),
    )
    described = {
        **_named(found.table.sources[source]),
        "method": drawn["method"],
        "images": len(rows),
    }
    return Mapped(rows, drawn["places"], described)


def heaviest_source(found: Found) -> int:
    """The source whose heads have the largest share in the chosen row."""
    members = found.board.members[found.place]
    weights = dict.fromkeys(found.head.sources, 0.0)
    for member in members:
        weights[member.source] += member.weight
    return max(weights, key=lambda source: weights[source])


def _named(source: Source) -> dict:
    names = ("backbone", "view", "layer", "pooling", "tap", "dim")
    return {name: getattr(source, name) for name in names}


def tabulate_images(
    found: Found, tested: Tested, familiarity: np.ndarray, drawn: Mapped | None
) -> ImageTable:
    """What became of each image, in the order of the samples.

    familiarity : (n_test,).
    """
    samples, split, board = found.table.samples, found.split, found.board
    n = len(samples)
    probabilities = np.empty((n, len(board.classes)))
    probabilities[split.train] = board.probabilities[found.place]
    probabilities[split.test] = tested.probabilities
    answers = probabilities.argmax(axis=1)
    own = np.searchsorted(board.classes, samples.labels)
    part = np.full(n, TRAIN, object)
    part[split.test] = TEST
    familiar = np.full(n, np.nan)
    familiar[split.test] = [float(as_familiarity(value)) for value in familiarity]
    places = np.full((n, 2), np.nan)
    if drawn is not None:
        places[drawn.rows] = drawn.places
    return ImageTable(
        path=np.array(samples.paths, object),
        id=np.array([row.tobytes().hex() for row in found.table.ids], object),
        part=part,
        label=samples.labels.astype(object),
        predicted=board.classes[answers].astype(object),
        probability=_as_written(probabilities[np.arange(n), answers]),
        probability_of_label=_as_written(probabilities[np.arange(n), own]),
        familiarity=familiar,
        x=places[:, 0],
        y=places[:, 1],
    )


def _as_written(probabilities: np.ndarray) -> np.ndarray:
    """Rounded as in the file, so that a page made from that says the same."""
    return np.array([float(as_probability(value)) for value in probabilities])


def judge_answers(images: ImageTable, classes: Sequence[str]) -> dict:
    """The `answers` of results.json: of the test images, and of the training images out of fold."""
    return {
        part: describe_answers(
            images.label[images.part == part],
            images.predicted[images.part == part],
            images.probability[images.part == part],
            classes,
        )
        for part in (TEST, TRAIN)
    }
