"""The stage of a run that says why its surest mistakes were made, from what is kept alone."""

import numpy as np

from pipelines.classifier import ImageClassifier
from pipelines.explanation import explain_kept
from pipelines.features import FeatureTable
from pipelines.outcome import Job
from pipelines.report.explained import Explanation
from pipelines.report.images import ImageTable

SHOWN = 24  # as many as the page shows at first


def explain_mistakes(
    job: Job, table: FeatureTable, classifier: ImageClassifier, images: ImageTable
) -> list[dict]:
    """The `explained` of results.json: of the surest wrong answers, the evidence and what is near.

    No image is opened and no network runs. A map is of features that are kept by the cells of a
    grid; there is none without, nor where the classifier as it was tested does not side with the
    answer, as it may of the images that it was trained on.
    """
    rows = images.surest_mistakes()[:SHOWN]
    if not job.settings.report or not len(rows):
        return []
    found = explain_kept(classifier, table, rows, images.predicted[rows].tolist())
    made = [(images.path[row], found.get(images.id[row])) for row in rows]
    return [_described(path, own) for path, own in made if own is not None]


def _described(path: str, own: Explanation) -> dict:
    drawn = own.map if own.map.size > 1 and own.evidence > 0 else None
    return {
        "path": path,
        "id": own.id,
        "predicted": str(own.label),
        "label": str(own.runner_up),
        "evidence": own.evidence,
        "map": None if drawn is None else np.round(drawn.astype(float), 4).tolist(),
        "box": [round(edge, 4) for edge in own.box],
        "nearest": [
            {"path": near.path, "id": near.id, "label": near.label, "distance": near.distance}
            for near in own.nearest
        ],
    }
