"""The stage of a run that makes what is kept: the chosen heads as a classifier of image files."""

import itertools
from collections.abc import Sequence

import numpy as np

from extract import FeatureExtractor
from extract.backbones import brings_weights
from extract.extractor import JoinedExtractor
from extract.preprocessing import name_of
from pipelines.classifier import ImageClassifier
from pipelines.evaluation.choice import ChosenHead, average_views
from pipelines.evaluation.final import refit
from pipelines.features import FeatureTable, KeptFeatures
from pipelines.outcome import Found, Job
from pipelines.stages.familiarity import Familiar, name_images


def rows_kept(job: Job, found: Found) -> np.ndarray:
    """Rows of the samples that the classifier which is kept is fitted on."""
    if job.settings.final == "train":
        return found.split.train
    # a class that the training images lack has no place in what was chosen
    return np.flatnonzero(np.isin(found.table.samples.labels, found.board.classes))


def views_averaged(job: Job, table: FeatureTable) -> tuple[str, ...]:
    """The random views of an image that are averaged with the plain one to predict it."""
    if not job.settings.average_views:
        return ()
    assert table.random is not None  # the settings refuse one without the other
    return table.random.names


def head_over_views(job: Job, table: FeatureTable, head: ChosenHead) -> ChosenHead:
    """The head as it predicts: itself, or on each of the views that are averaged."""
    n_views = 1 + len(views_averaged(job, table))
    width = sum(table.sources[source].dim for source in head.sources)
    return head if n_views == 1 else average_views(head, n_views, width)


def make_classifier(job: Job, found: Found, familiar: Familiar, final: str) -> ImageClassifier:
    """The chosen heads as a classifier of image files.

    final : "train" as they were tested; "all" refitted on all images.
    """
    head, table = found.head, found.table
    if final == "all":
        rows = rows_kept(job, found)
        members = found.board.members[found.place]
        labels = table.samples.labels[rows]
        head = refit(
            head,
            members,
            lambda source: table.read_for_training(source, rows),
            labels,
            job.settings.class_weight,
        )
    seen = [
        (name, [table.features[source] for source in own])
        for (name, _), own in itertools.groupby(
            head.sources, key=lambda i: (table.sources[i].backbone, table.sources[i].view)
        )
    ]
    extractors = [make_extractor(job, name, own) for name, own in seen]
    for view in views_averaged(job, table):  # the plain ones stay first, as in average_views
        extractors += [make_extractor(job, name, own, view) for name, own in seen]
    head = head_over_views(job, table, head)
    extractor = extractors[0] if len(extractors) == 1 else JoinedExtractor(extractors)
    fitted = head.estimator, head.calibration, head.rows
    reference = familiar.reference
    if final == "all":
        rows = rows_kept(job, found)
        reference = reference.of_more(table.read(familiar.source, rows), name_images(table, rows))
    return ImageClassifier().assemble(extractor, *fitted, fitted_on=final, reference=reference)


def make_extractor(
    job: Job, name: str, kept: Sequence[KeptFeatures], view: str | None = None
) -> FeatureExtractor:
    """The extractor of one backbone's taps, side by side; in their own view or another."""
    number = [backbone.name for backbone in job.backbones].index(name)
    named = job.settings.backbones[min(number, len(job.settings.backbones) - 1)]
    given, weights = job.asked.get(name, (named, job.settings.weights))
    return FeatureExtractor(
        layer="+".join(str(own.source.tap) for own in kept),
        backbone=given,
        weights=None if brings_weights(given) else weights,
        size=job.backbones[number].size if isinstance(given, str) else None,
        numerics=kept[0].recipe.numerics,
        cache=job.settings.cache,
        seed=job.settings.seed,
        view=view or name_of(kept[0].source.view),
        intensity=job.settings.intensity,
        page=job.settings.page,
        channels=job.settings.channels,
    )
