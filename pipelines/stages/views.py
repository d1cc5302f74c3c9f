"""Which views a run sees its images in, and the passes that they take."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from extract import Backbone
from extract.augmentation import random_view
from extract.backbones import BASELINES
from extract.preprocessing import PLAIN, WHOLE, WITH_FLIPS, Preprocessing, named_view
from pipelines.errors import WrongSetting
from pipelines.evaluation.views import Look, ViewsChosen, look_twice
from pipelines.features import FeatureTable, RandomViews, keep_features, refuse_changed
from pipelines.outcome import Job
from pipelines.samples import Split
from pipelines.settings import AUTO, RunSettings
from pipelines.stages.remembered import sources_of
from pipelines.stages.search import count_workers

AUGMENTED = "light"  # of AUGMENTATIONS


def first_views(settings: RunSettings) -> list[str]:
    """The views of the first pass, as in recipes: all, or the one that others are added to."""
    if settings.view_names == [AUTO]:
        return [str(PLAIN)]  # alone beside random views
    return [str(named_view(name)) for name in settings.view_names]


def add_views(job: Job, table: FeatureTable, split: Split) -> tuple[FeatureTable, ViewsChosen]:
    """Further views of all images, where a look at some training images says so."""
    asked = tuple(first_views(job.settings))
    further = views_of(job.backbones) if job.settings.looks_at_views else []
    if not further:
        return table, ViewsChosen(asked, {}, 0)

    def see(rows: np.ndarray, views: Sequence[str]) -> Look:
        seen = keep_more(job, table, rows, [*asked, *views])
        groups = None if split.groups is None else split.groups[rows]
        return Look(seen.read, [own.view for own in seen.sources], seen.samples.labels, groups)

    labels, seed = table.samples.labels, job.settings.seed

    def looked() -> dict:
        workers = count_workers(len(table.sources))
        return asdict(look_twice(see, further, labels, split.train, seed, workers))

    decided = [table.ids, labels.tolist(), split.train, split.groups, sources_of(table)]
    found = job.findings.of("views", [*decided, list(further), seed], looked)
    seen = ViewsChosen(**found | {"used": tuple(found["used"])})
    job.on_event(seen)
    if len(seen.used) > 1:
        table = keep_more(job, table, np.arange(len(table.samples)), seen.used)
    return table, seen


def add_random_views(job: Job, table: FeatureTable, split: Split) -> FeatureTable:
    """Random views of the images that heads are fitted on; of the test images too where these are
    fitted on in the end, or predicted by the mean over views."""
    settings = job.settings
    if not settings.augmented:
        return table
    every = np.arange(len(table.samples))
    is_of_all = settings.final == "all" or settings.average_views
    rows = every if is_of_all else np.sort(split.train)
    names = [random_view(AUGMENTED, settings.seed, i) for i in range(settings.augmented)]
    more = keep_more(job, table, rows, names)
    return replace(
        table,
        random=RandomViews(tuple(names), rows, more),
        earlier=(*table.earlier, *more.passes),
    )


def refuse_unsized(settings: RunSettings, backbones: Sequence[Backbone]) -> None:
    """WrongSetting where random views are asked of a network that says no size, before the pass."""
    for backbone in backbones:
        if settings.augmented and not isinstance(backbone.preprocessing, Preprocessing):
            raise WrongSetting(
                "augmented",
                settings.augmented,
                f"expected 0 with {backbone.name}, whose preprocessing is not "
                "extract.Preprocessing and says no size to crop for",
            )


def keep_more(
    job: Job, table: FeatureTable, rows: np.ndarray, views: Sequence[str]
) -> FeatureTable:
    """Some of the samples, of a pass for all that these views lack of them."""
    samples = table.samples[rows]
    more = keep_features(
        samples,
        job.backbones,
        job.store,
        job.settings,
        views=views,
        settle=False,
        on_event=job.on_event,
    )
    passed = more.features[0].extraction
    refuse_changed(samples, passed.ids, table.ids[rows], passed.bad)
    return replace(
        table,
        samples=samples,
        ids=table.ids[rows],
        places=more.places,
        features=more.features,
        earlier=(*table.earlier, *table.passes),
    )


def views_of(backbones: Sequence[Backbone]) -> list[str]:
    """The further views that every backbone can be given, as in recipes."""
    if any(backbone.name in BASELINES for backbone in backbones):
        return []
    known = all(isinstance(own.preprocessing, Preprocessing) for own in backbones)
    return [str(WITH_FLIPS), str(WHOLE)] if known else [str(WITH_FLIPS)]
