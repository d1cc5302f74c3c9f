"""An exploration as one call: clusters, a map, copies and outliers, and what to label first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data import DataError, Samples, read_corrections, read_images
from data.corrections import DROP, labels_of
from extract import FeatureStore
from pipelines.errors import WrongCall
from pipelines.exploring.description import (
    describe,
    describe_chosen,
    describe_dense,
    describe_grouped,
    describe_strange,
)
from pipelines.exploring.outcome import ExploreResult
from pipelines.exploring.settings import ExploreSettings
from pipelines.exploring.stages import Exploring, choose_to_label, draw_map, group_images, see
from pipelines.features import (
    Listener,
    choose_taps,
    find_range,
    ignore,
    keep_features,
    load_backbones,
)
from pipelines.job import Stopwatch, leave_report
from pipelines.report.audit import describe_copies, describe_flat
from pipelines.report.files import CLUSTERS, TO_LABEL, write_csv
from pipelines.report.timing import EXPLORING_STAGES
from pipelines.results_folder import (
    EXPLORATION,
    ResultsFolder,
    refuse_edited,
    refuse_others,
    results_folder,
)
from pipelines.samples import SamplesRead
from pipelines.stages.images import look_for_copies, settle_bad
from pipelines.threads import one_blas_thread


def explore_job(
    images: str | Samples,
    settings: ExploreSettings | None = None,
    *,
    on_event: Listener = ignore,
    command: Sequence[str] = (),
) -> ExploreResult:
    """What images show without their labels, and which of them to label first.

    Parameters
    ----------
    images : str or Samples
        A folder of images at any depth, a manifest or a named set, or samples. Labels that these
        have are compared with the clusters, and used for nothing else.
    settings : ExploreSettings or None
    on_event : callable
        Called with WeightsFitted, SamplesRead, StageBegun, RangeFound, PassPlanned, PassAdvanced
        and BadImages.
    command : sequence of str
        What results.json names as the call.

    Returns
    -------
    ExploreResult

    Raises
    ------
    DataError, ExtractError, WrongCall
        Images or settings that can't be used.
    WorkFailed
        More unreadable images than `max_bad` allows, or results that can't be written.
    """
    settings = settings or ExploreSettings()
    watch = Stopwatch(on_event, EXPLORING_STAGES)
    with one_blas_thread():
        job = prepare(images, settings, on_event)
        with results_folder(settings.out, EXPLORATION) as out:
            result = look_through(job, out, watch, command)
            if out is not None:
                leave_tables(result, out)
                if settings.report:
                    leave_report(result.report, result.results, out, watch, on_event)
                out.write_results(result.results)
    return result


def prepare(images: str | Samples, settings: ExploreSettings, on_event: Listener) -> Exploring:
    """Read and check all that is asked for, before anything is computed or written."""
    if settings.out is not None:
        refuse_others(Path(settings.out), settings.cache, EXPLORATION)
        refuse_edited(Path(settings.out), EXPLORATION)
    settings.check()
    samples, labels = read_apart(images)
    given = np.full(len(samples), "", object)
    if settings.labelled is not None:
        given = labels_of(samples, read_corrections(settings.labelled))
    rows = np.flatnonzero(given != DROP)
    if not len(rows):
        raise WrongCall(f"--labelled {settings.labelled} drops every image: expected some to stay")
    kept = replace(samples[rows], passed_over=samples.passed_over, problems=samples.problems)
    store = FeatureStore(settings.cache)
    [backbone] = load_backbones(kept, settings, store, on_event)
    choose_taps(backbone.card, settings.layers, settings.poolings)
    on_event(SamplesRead(replace(kept, notes=samples.notes)))
    own = None if labels is None else labels[rows]
    known = zip(samples.paths, given.tolist(), strict=True)
    labelled = {path: label for path, label in known if label}
    return Exploring(kept, own, given[rows], settings, store, backbone, on_event, labelled)


def read_apart(images: str | Samples) -> tuple[Samples, np.ndarray | None]:
    """All images, without labels, groups and split; and beside them the labels that there are."""
    if isinstance(images, Samples):
        return _bare(images), images.labels
    samples = read_images(images, labelled=False)
    try:
        labelled = read_images(images)
    except DataError:  # the layout says no classes
        return _bare(samples), None
    assert labelled.labels is not None
    known = dict(zip(labelled.paths, labelled.labels.tolist(), strict=True))
    labels = np.array([known.get(path, "") for path in samples.paths], object)
    return _bare(samples), labels


def _bare(samples: Samples) -> Samples:
    return replace(samples, labels=None, classes=(), groups=None, split=None, train_only=None)


def look_through(
    job: Exploring, out: ResultsFolder | None, watch: Stopwatch, command: Sequence[str]
) -> ExploreResult:
    """The exploration, stage by stage; each is named by what it does in `seconds`."""
    settings = find_range(job.samples, job.settings, job.on_event)
    job = replace(job, settings=settings)
    watch.lap("read")
    table = keep_features(job.samples, [job.backbone], job.store, settings, on_event=job.on_event)
    settle_bad(table, job.samples, settings.max_bad, out, job.on_event)
    watch.lap("extract")
    copies, flat = look_for_copies(table, job.store, job.findings, settings.reading())
    watch.lap("copies")
    seen = see(table, settings.seed)
    grouped = group_images(job, seen)
    watch.lap("clusters")
    chosen = choose_to_label(job, table, seen, copies, flat)
    watch.lap("selection")
    on_map, method = draw_map(job, seen, grouped.drawn)
    watch.lap("map")
    results = {
        **describe(job, table, command),
        "clusters": describe_grouped(job, table, grouped),
        "dense": describe_dense(job, table, grouped),
        "to_label": describe_chosen(job, chosen, table.samples, grouped.names),
        "audit": {
            **describe_copies(table.samples, copies, np.empty(0, int)),
            **describe_flat(table.samples, flat),
            **describe_strange(table),
        },
        "map": {"method": method, "images": len(grouped.drawn)} if settings.report else None,
        "seconds": watch.seconds | {"total": round(sum(watch.seconds.values()), 3)},
    }
    own = grouped.clusters, grouped.dense, grouped.typicality
    return ExploreResult(table, *own, chosen.rows, on_map, results)


def leave_tables(result: ExploreResult, out: ResultsFolder) -> None:
    """The clusters as labels that a run takes, and what to label first."""
    for name, header, rows in (
        (CLUSTERS, ("path", "label", "typicality", "dense"), cluster_rows(result)),
        (TO_LABEL, ("rank", "path", "label", "cluster", "why"), label_rows(result.results)),
    ):
        with out.writing(name) as file:
            write_csv(file, header, rows)


def cluster_rows(result: ExploreResult) -> list[tuple]:
    """Images cluster by cluster, the most typical first, so that the top row of each names it."""
    order = np.lexsort((-result.typicality, result.clusters))
    names, paths = result.names, result.samples.paths
    return [
        (paths[i], str(names[i]), f"{result.typicality[i]:.6g}", _dense_name(result.dense[i]))
        for i in order
    ]


def _dense_name(number: int) -> str:
    return "" if number < 0 else f"dense-{number + 1}"


def label_rows(results: Mapping) -> list[tuple]:
    """What is asked for, and below it what was labelled before: filled in, it is the whole table.

    The label is left to who looks: a guess in its place would be learnt as if it were one.
    """
    asked, labelled = results["to_label"]["rows"], results["to_label"]["labelled"]
    rows = [(own["rank"], own["path"], "", own["cluster"], own["why"]) for own in asked]
    return rows + [("", path, label, "", "labelled") for path, label in labelled.items()]
