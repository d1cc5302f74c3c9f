"""The stages of a run before any head: the pass, what can be used, copies, the split."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from data import Reading, Samples
from data.names import counted
from extract import FeatureStore, kept_thumbnails
from pipelines.errors import WorkFailed
from pipelines.exploration.copies import Copies, find_copies, group_copies
from pipelines.exploration.flat import find_flat
from pipelines.features import FeatureTable, Listener, find_range, keep_features
from pipelines.findings import Findings
from pipelines.outcome import BadImages, Job
from pipelines.parts import refuse_lost
from pipelines.report.files import BAD_IMAGES, disk_errors_named, write_bad_images
from pipelines.report.split import NEW, TRAIN, SplitTaken, take_split
from pipelines.results_folder import ResultsFolder
from pipelines.samples import SAME, Split, split_samples
from pipelines.stages.remembered import sources_of
from pipelines.stages.views import first_views


def settle_range(job: Job) -> Job:
    """What is black and what is white in images deeper than 8 bits."""
    return replace(job, settings=find_range(job.samples, job.settings, job.on_event))


def keep_images(job: Job, out: ResultsFolder | None) -> FeatureTable:
    """The pass; what can't be used is listed, and ends the run where it is too much."""
    table = keep_features(
        job.samples,
        job.backbones,
        job.store,
        job.settings,
        views=first_views(job.settings),
        on_event=job.on_event,
    )
    settle_bad(table, job.samples, job.settings.max_bad, out, job.on_event)
    return table


def settle_bad(
    table: FeatureTable,
    samples: Samples,
    max_bad: float,
    out: ResultsFolder | None,
    on_event: Listener,
) -> None:
    """List and tell what of the samples can't be used; WorkFailed where it is too much."""
    if out is not None:
        list_bad_images(out, table)
    n_images = len(samples) + len(samples.problems)
    fraction = len(table.bad) / max(1, n_images)
    if fraction > max_bad:
        listed = out.unfinished_list if out else table.bad[0]
        raise WorkFailed(
            f"{len(table.bad)} of {counted(n_images, 'image')} can't be used ({fraction:.0%}, "
            f"limit {max_bad:.0%}): see {listed}, "
            "mend them or raise --max-bad"
        )
    if table.bad or table.notes or table.n_duplicates:
        note = table.notes[0][1] if table.notes else ""
        file = out.out / BAD_IMAGES if out else None
        counts = len(table.bad), len(table.notes), table.n_duplicates
        on_event(BadImages(*counts, note, n_images, file))


def list_bad_images(out: ResultsFolder, table: FeatureTable) -> None:
    """With the results, and at once where it stays if the run does not finish."""
    with out.writing(BAD_IMAGES) as file:
        write_bad_images(file, table.bad, table.notes)
    with disk_errors_named(out.unfinished_list):
        write_bad_images(out.unfinished_list, table.bad, table.notes)


def look_for_copies(
    table: FeatureTable, store: FeatureStore, findings: Findings, reading: Reading
) -> tuple[list[Copies], np.ndarray]:
    """Pairs of near copies, and rows that came out flat."""
    source = table.middle()

    def looked() -> list:
        thumbnails = kept_thumbnails(store, table.samples.inputs, table.ids, reading)
        pairs = find_copies(table.read(source), thumbnails)
        return [[asdict(pair) for pair in pairs], find_flat(thumbnails)]

    decided = [table.ids, sources_of(table)[source]]
    pairs, flat = findings.of("copies", decided, looked)
    return [Copies(**pair) for pair in pairs], flat


def settle_copies(job: Job, table: FeatureTable) -> tuple[FeatureTable, list[Copies], np.ndarray]:
    """Find near copies, and drop all but one of each group if asked -> (table, pairs left, rows of
    it that came out flat)."""
    pairs, flat = look_for_copies(table, job.store, job.findings, job.settings.reading())
    if job.settings.duplicates != "drop":
        return table, pairs, flat
    groups = group_copies(len(table.samples), pairs, kinds=SAME)
    sides = job.sides(table)
    # of a group the first row stays, a test image before a training one, and that before a new one
    order = np.lexsort((np.arange(len(groups)), sides == TRAIN, sides == NEW))
    rows = np.sort(order[np.unique(groups[order], return_index=True)[1]])
    place = {row: i for i, row in enumerate(rows.tolist())}
    left = [
        replace(pair, first=place[pair.first], second=place[pair.second])
        for pair in pairs
        if pair.first in place and pair.second in place
    ]
    return table.of_rows(rows), left, np.flatnonzero(np.isin(rows, flat))


def split_together(
    job: Job, table: FeatureTable, copies: Sequence[Copies]
) -> tuple[Split, SplitTaken | None]:
    """Training and test rows and folds; near copies on one side where they are to be grouped."""
    settings, taken, sides = job.settings, None, None
    refuse_lost(job.samples, table, job.known)
    if job.known is not None:
        taken, sides = take_split(job.known, table.ids), job.sides(table)
        job.on_event(taken)
    together = copies if settings.duplicates == "group" else ()
    keys = [own.tobytes().hex() for own in table.ids]
    split = split_samples(table.samples, together, settings.cv, settings.seed, keys, sides)
    return split, taken
