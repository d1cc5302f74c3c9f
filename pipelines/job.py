"""A whole run as one call: images and settings in, leaderboard, classifier and figures out."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data import Samples
from extract import FeatureStore, Recipe
from extract.cores import cores
from extract.store.ids import image_ids
from heads.catalog import is_shipped
from pipelines.bundle.save import write_bundle
from pipelines.classifier import ImageClassifier, MeasuredAccuracy, arrays_within
from pipelines.evaluation.differences import compare_others, compare_rows
from pipelines.evaluation.leaderboard import Entry
from pipelines.evaluation.sources import SEARCHED
from pipelines.evaluation.workers import Workers
from pipelines.features import FeatureTable, Listener, choose_taps, ignore
from pipelines.findings import Findings
from pipelines.outcome import Found, Job, PageFailed, RunResult, Tested
from pipelines.progress import RunPlanned, StageBegun
from pipelines.report.advice import give_advice
from pipelines.report.charts import KEPT, figure_script
from pipelines.report.extraction import describe_extraction
from pipelines.report.files import (
    PREDICTIONS,
    REPORT,
    UNLABELLED,
    write_page,
    write_predictions,
)
from pipelines.report.following import follow_up, with_command
from pipelines.report.images import IMAGES, ImageTable, write_images
from pipelines.report.results import (
    RESULTS_SCHEMA,
    describe_backbone,
    describe_data,
    describe_networks,
    describe_reading,
    describe_screened,
    describe_views,
    versions,
)
from pipelines.report.since import Earlier, compare_since, find_earlier
from pipelines.report.split import describe_split, read_split, take_split
from pipelines.report.timing import STAGES
from pipelines.report.unlabelled import UnlabelledTable, write_unlabelled
from pipelines.results_folder import (
    BUNDLE,
    ResultsFolder,
    refuse_edited,
    refuse_others,
    refuse_replacing,
    results_folder,
)
from pipelines.samples import SamplesRead, Split, group_by_path, read_labelled
from pipelines.settings import RunSettings
from pipelines.stages.classifier import make_classifier, rows_kept
from pipelines.stages.familiarity import Familiar, describe_familiar, find_familiar
from pipelines.stages.images import keep_images, settle_copies, settle_range, split_together
from pipelines.stages.mistakes import explain_mistakes
from pipelines.stages.networks import first_backbones, try_networks
from pipelines.stages.report import draw_map, judge_answers, tabulate_images
from pipelines.stages.search import audit_images, find_baselines, score_choice, search_taps, trace
from pipelines.stages.seen import see_layer
from pipelines.stages.unlabelled import keep_unlabelled, read_unlabelled, use_unlabelled
from pipelines.stages.views import add_random_views, add_views, refuse_unsized
from pipelines.threads import one_blas_thread

log = logging.getLogger(__name__)

MANY_IMAGES = 600


def run_job(
    images: str | Samples,
    settings: RunSettings | None = None,
    *,
    on_event: Listener = ignore,
    command: Sequence[str] = (),
) -> RunResult:
    """Find the best classifier of labelled images, and what it is worth on images it never saw.

    Parameters
    ----------
    images : str or Samples
        A folder, manifest or named set to read samples from, or labelled samples.
    settings : RunSettings or None
    on_event : callable
        Called with WeightsFitted, SamplesRead, RunPlanned, StageBegun, RangeFound, PassPlanned,
        PassAdvanced, BadImages, SplitTaken and SearchAdvanced.
    command : sequence of str
        What results.json names as the call.

    Returns
    -------
    RunResult

    Raises
    ------
    DataError, ExtractError, WrongCall
        Images or settings that can't be used.
    WorkFailed
        More unreadable images than `max_bad` allows, or results that can't be written.
    """
    watch = Stopwatch(on_event)
    # what the workers' threads limit is put back before the limit around them is
    with one_blas_thread(), Workers(min(cores(), SEARCHED)) as workers:
        job = prepare(images, settings or RunSettings(), on_event, workers)
        with results_folder(job.settings.out) as out, arrays_within():
            result = work_through(job, out, watch, command)
            if out is not None:
                leave_page(result, job, out, watch)
                out.write_results(result.results, job.settings.target_labels)
    return result


def leave_page(result: RunResult, job: Job, out: ResultsFolder, watch: "Stopwatch") -> None:
    """The page, where it is asked for."""
    if job.settings.report:
        leave_report(result.report, result.results, out, watch, job.on_event)


def leave_report(
    make: Callable[[], str],
    results: dict,
    out: ResultsFolder,
    watch: "Stopwatch",
    on_event: Listener,
) -> None:
    """A page; its own time comes beside the total that it shows."""
    try:
        page = make()
    except Exception as error:  # whatever it is: hours of work must not hang on their picture
        log.debug("no page", exc_info=True)
        on_event(PageFailed(f"{type(error).__name__}: {error}", out.out))
        return
    with out.writing(REPORT) as file:
        write_page(file, page)
    watch.lap("report")
    results["seconds"]["report"] = watch.seconds["report"]


def work_through(
    job: Job,
    out: ResultsFolder | None,
    watch: "Stopwatch",
    command: Sequence[str],
    on_split: Callable[[FeatureTable, Split], Any] = lambda table, split: None,
) -> RunResult:
    """The run, stage by stage; each is named by what it does in `seconds` of results.json.

    on_split : called with the images and the split once they are settled, to refuse them early.
    """
    job = settle_range(job)
    watch.lap("read")
    table = keep_images(job, out)
    watch.lap("extract")
    table, copies, flat = settle_copies(job, table)
    split, taken = split_together(job, table, copies)
    on_split(table, split)
    watch.lap("copies")
    job, table, networks = try_networks(job, table, split)
    watch.lap("networks")
    table, seen = add_views(job, table, split)
    table = add_random_views(job, table, split)
    watch.lap("views")
    others = keep_unlabelled(job, table, seen.used, out)
    watch.lap("unlabelled")
    found = search_taps(job, table, split)
    watch.lap("heads")
    curve_of = job.beside(lambda: trace(job, found))
    map_of = job.beside(lambda: draw_map(job, found))
    baselines = find_baselines(job, table, found)
    watch.lap("baselines")
    tested = score_choice(job, found)
    familiar = find_familiar(found)
    watch.lap("test")
    audit = audit_images(job, table, copies, flat, found)
    watch.lap("audit")
    as_tested, classifier = make_classifiers(job, found, familiar, tested)
    watch.lap("refit")
    used = use_unlabelled(job, found, tested, as_tested, (table, others))
    unlabelled, answered = used or (None, None)
    watch.lap("graph")
    drawn = map_of()
    watch.lap("map")
    images = tabulate_images(found, tested, familiar.of_test, drawn)
    explained = explain_mistakes(job, table, as_tested, images)
    watch.lap("explain")
    seen_inside = see_layer(job, found)
    watch.lap("seen")
    curve = curve_of()
    watch.lap("curve")
    comparisons = compare(table, found, baselines, tested, curve)
    watch.lap("comparisons")
    leave_classifier(tested, familiar.of_test, classifier, images, out)
    leave_unlabelled(answered, out)
    watch.lap("save")
    asked = job.settings
    blocks = {
        "command": list(command),
        "networks": networks and describe_networks(networks, job.settings.within),
        "views": describe_views(asked.view_names, seen, asked.augmented, asked.average_views),
        "split": describe_split(table.ids[split.train], table.ids[split.test], taken),
        "final": {"fitted_on": job.settings.final, "n_images": len(rows_kept(job, found))},
        "chosen": tested.chosen,
        "familiarity": describe_familiar(found, familiar, tested),
        "unlabelled": unlabelled,
        "baselines": [vars(entry.row) for entry in baselines],
        "learning_curve": curve,
        "comparisons": comparisons,
        "audit": audit,
        "answers": judge_answers(images, found.board.classes.tolist()),
        "map": drawn and drawn.described,
        "explained": explained,
        "seen": seen_inside,
        "compared": None,
    }
    results = describe(job, (table, others), found, blocks, watch.seconds)
    if job.earlier is not None:
        results["compared"] = compare_since(job.earlier, images, results)
        follow_earlier(job.earlier, results)
    # the run's processes end with it
    found = replace(found, search=replace(found.search, workers=None))
    return RunResult(table, found, tested, classifier, images, results, unlabelled=answered)


def follow_earlier(earlier: Earlier | None, results: dict) -> None:
    """Say what of an earlier run's advice was followed, and whether it came true."""
    if earlier is not None and earlier.images is not None:
        results["compared"]["advice"] = follow_up(earlier.advised, earlier.n_train, results)


def make_classifiers(
    job: Job, found: Found, familiar: Familiar, tested: Tested
) -> tuple[ImageClassifier, ImageClassifier]:
    """The one that was tested, and the one that is kept, which may be it."""
    as_tested, final = make_classifier(job, found, familiar, "train"), job.settings.final
    kept = as_tested if final == "train" else make_classifier(job, found, familiar, final)
    kept.accuracy_ = MeasuredAccuracy.of(tested.samples.labels, tested.predicted, "test")
    return as_tested, kept


def leave_classifier(
    tested: Tested,
    familiarity: np.ndarray,
    classifier: ImageClassifier,
    images: ImageTable,
    out: ResultsFolder | None,
) -> None:
    """What the classifier says of each image, and its bundle, where a run writes files."""
    if out is None:
        return
    with out.writing(PREDICTIONS) as file:
        confidence = tested.confidence
        write_predictions(file, tested.samples, tested.predicted, confidence, familiarity)
    with out.writing(IMAGES) as file:
        write_images(file, images)
    with out.writing(BUNDLE) as folder:
        folder.mkdir()
        write_bundle(classifier, folder)


def leave_unlabelled(answered: UnlabelledTable | None, out: ResultsFolder | None) -> None:
    """The answers to the images without labels, where there are any and a run writes files."""
    if out is not None:
        with out.writing(UNLABELLED) as file:
            write_unlabelled(file, answered)


def prepare(
    images: str | Samples, settings: RunSettings, on_event: Listener, workers: Workers
) -> Job:
    """Read and check all that is asked for, before anything is computed or written."""
    if settings.out is not None:
        out = Path(settings.out)
        refuse_others(out, settings.cache)
        given = None if isinstance(images, Samples) else images
        refuse_replacing(out, [given, settings.test, settings.labels, settings.unlabelled])
        # labels that choose a correction stand in the new table again
        refuse_edited(out, kept=settings.target_labels)
    samples = group_by_path(read_labelled(images, settings), settings.groups)
    settings.check(samples)
    store = FeatureStore(settings.cache)
    # of few images a search is over before a process could begin it; of heads that were added in
    # this process another knows nothing
    many = workers.n > 1 and len(samples) >= MANY_IMAGES and is_shipped()
    if many and not Findings(store.cache).exist():
        # all has yet to be searched: processes begin while this one reads
        workers.start()
        if settings.report and settings.out is not None:
            join_script = partial(workers.call, figure_script, lambda: (store.cache / KEPT,))
            workers.begin(join_script)
    unlabelled = read_unlabelled(settings.unlabelled, samples, store, settings.target_labels)
    known = None if settings.split is None else read_split(settings.split)
    if known is not None:  # of other images it is refused at once; the pass remembers their ids
        take_split(known, image_ids(samples.inputs, store.cache / "ids", cores())[0])
    backbones, here = first_backbones(samples, settings, store, on_event)
    refuse_unsized(settings, backbones)
    n_taps = sum(
        len(choose_taps(own.card, settings.layers, settings.poolings)) for own in backbones
    )
    on_event(SamplesRead(samples))
    if unlabelled is not None:
        on_event(unlabelled)
    n_unlabelled = 0 if unlabelled is None else len(unlabelled.samples)
    on_event(plan_run(settings, len(samples), n_taps, len(here), n_unlabelled))
    return Job(
        samples,
        settings,
        store,
        backbones,
        on_event,
        known,
        find_earlier(settings.split, settings.out),
        workers if many else None,
        here,
        unlabelled=unlabelled,
    )


def plan_run(
    settings: RunSettings, n_images: int, n_taps: int, n_here: int = 0, n_unlabelled: int = 0
) -> RunPlanned:
    """What is ahead, for the time that it will take."""
    wanted = {
        "networks": settings.chooses_networks,
        "views": settings.looks_at_views or bool(settings.augmented),
        "unlabelled": n_unlabelled > 0,
        "baselines": settings.baselines,
        "refit": settings.final == "all",
        "graph": n_unlabelled > 0,
        "map": settings.report,
        "explain": settings.report,
        "seen": settings.report,
        "report": settings.report and settings.out is not None,
    }
    skipped = frozenset(name for name, is_wanted in wanted.items() if not is_wanted)
    n_heads, n_backbones = len(settings.head_names), len(settings.backbones)
    return RunPlanned(n_images, n_taps, n_heads, n_backbones, skipped, n_here, n_unlabelled)


def compare(
    table: FeatureTable, found: Found, baselines: Sequence[Entry], tested: Tested, curve: dict
) -> dict:
    """The `comparisons` of results.json: the differences that the advice rests on."""
    layers = layers_of(table)
    rows = compare_rows(found.board, found.place, baselines, layers, found.labels, found.search)
    sizes = len(found.split.train), len(found.split.test)
    return rows | compare_others(curve, tested.chosen, sizes)


def layers_of(table: FeatureTable) -> dict[str, list[str]]:
    """By backbone the layers of all taps, in order of depth; those screened out too."""
    layers: dict[str, dict] = {}
    for own in table.features:
        of_backbone = layers.setdefault(own.source.backbone, {})
        if own.source.layer:
            of_backbone[own.source.layer] = None
    return {name: list(own) for name, own in layers.items()}


def describe(
    job: Job,
    tables: tuple[FeatureTable, FeatureTable | None],
    found: Found,
    blocks: dict,
    seconds: dict[str, float],
) -> dict:
    """The whole of results.json; `blocks` are those that came of the steps.

    tables : of the labelled images and, where there are any, of those without.
    """
    (table, others), settings, split = tables, job.settings, found.split
    recipes: dict[str, Recipe] = {}  # the first of each backbone
    for own in table.features:
        recipes.setdefault(own.source.backbone, own.recipe)
    backbones = [describe_backbone(backbone, recipes[backbone.name]) for backbone in job.backbones]
    data = describe_data(job.samples, table.samples.labels[split.train], len(split.test))
    data |= describe_reading(settings.reading())
    results = {
        "schema": RESULTS_SCHEMA,
        "versions": versions(),
        "settings": settings.told(),
        "seed": settings.seed,
        "scoring": settings.scoring,
        "class_weight": settings.class_weight,
        "data": data
        | {
            "n_bad": len(table.bad),
            "n_noted": len(table.notes),
            "n_duplicates": table.n_duplicates,
        },
        "backbone": next(block for block in backbones if block["name"] == found.source.backbone),
        "backbones": backbones,
        "layers": layers_of(table),
        "extraction": describe_extraction(
            [*table.earlier, *table.passes], others.passes if others else ()
        ),
        "leaderboard": [vars(row) for row in found.board.rows],
        "screened_out": describe_screened(table.sources, found.screened_out),
        **blocks,
        "seconds": seconds | {"total": round(sum(seconds.values()), 3)},
    }
    advised = give_advice(results, settings.out)
    return results | {"advised": advised, "advice": list(map(with_command, advised))}


class Stopwatch:
    """Seconds by stage: a lap ends one and begins the next of `stages`, which is told."""

    def __init__(self, on_event: Listener = ignore, stages: Iterable[str] = STAGES) -> None:
        self._on_event = on_event
        self._next = dict(itertools.pairwise(stages))  # the stage after each
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Note the time since the lap before."""
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now
        following = self._next.get(name)
        if following is not None:
            self._on_event(StageBegun(following))
