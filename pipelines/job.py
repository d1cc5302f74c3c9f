"""A whole run as one call: images and settings in, leaderboard, classifier and figures out."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data import Samples
from data.names import counted
from extract import Backbone, FeatureExtractor, FeatureStore, Recipe, kept_thumbnails
from extract.backbones import BASELINES, scheme_of
from extract.cores import cores
from extract.extractor import JoinedExtractor
from extract.preprocessing import PLAIN, WHOLE, WITH_FLIPS, Preprocessing, name_of, named_view
from extract.store.ids import image_ids
from heads.blended import Member, answers
from pipelines.bundle.save import write_bundle
from pipelines.classifier import ImageClassifier
from pipelines.errors import WorkFailed
from pipelines.evaluation.baselines import measure_baselines
from pipelines.evaluation.choice import (
    ChosenHead,
    choose_row,
    describe_choice,
    fit_chosen,
    trace_curve,
)
from pipelines.evaluation.differences import compare_others, compare_rows
from pipelines.evaluation.final import refit
from pipelines.evaluation.labels import rank_labels
from pipelines.evaluation.leaderboard import Entry, Leaderboard, make_leaderboard
from pipelines.evaluation.scoring import find_scoring
from pipelines.evaluation.search import Search, screen_sources
from pipelines.evaluation.views import Look, ViewsChosen, look_twice
from pipelines.exploration.copies import Copies, find_copies, group_copies
from pipelines.exploration.flat import find_flat
from pipelines.exploration.table import EXPLORATIONS
from pipelines.features import (
    FeatureTable,
    KeptFeatures,
    Listener,
    Source,
    baseline_features,
    choose_taps,
    find_range,
    ignore,
    keep_features,
    load_backbones,
    refuse_changed,
)
from pipelines.report.advice import give_advice
from pipelines.report.audit import (
    describe_copies,
    describe_explored,
    describe_flat,
    describe_suspects,
)
from pipelines.report.extraction import describe_extraction
from pipelines.report.files import (
    BAD_IMAGES,
    PREDICTIONS,
    RESULTS,
    disk_errors_named,
    write_bad_images,
    write_predictions,
    write_results,
)
from pipelines.report.results import (
    RESULTS_SCHEMA,
    describe_backbone,
    describe_data,
    describe_reading,
    describe_screened,
    describe_views,
    versions,
)
from pipelines.report.split import (
    NEW,
    TRAIN,
    KnownSplit,
    SplitTaken,
    describe_split,
    read_split,
    take_split,
)
from pipelines.results_folder import BUNDLE, ResultsFolder, refuse_others, results_folder
from pipelines.samples import SAME, SamplesRead, Split, group_by_path, read_samples, split_samples
from pipelines.settings import AUTO, RunSettings

# rows whose probabilities are averaged to judge labels: what one head alone misjudges ranks lower
BELIEVED = 5


@dataclass(frozen=True)
class BadImages:
    """Some images can't be used, or are used and noted: what came out may not be all there is.

    n_duplicates : left out as copies of others, byte by byte.
    file : says which and why, where a run writes files. note : the first one's.
    """

    n_bad: int
    n_noted: int
    n_duplicates: int
    note: str
    n_images: int
    file: Path | None


@dataclass(frozen=True)
class SearchAdvanced:
    """So many of `total` taps are searched, or looked at before the search while `screening`."""

    done: int
    total: int
    screening: bool


@dataclass(frozen=True)
class Job:
    """What a run is about.

    known : the split of an earlier run, where it is to be taken.
    """

    samples: Samples
    settings: RunSettings
    store: FeatureStore
    backbones: list[Backbone]
    on_event: Listener
    known: KnownSplit | None = None

    def sides(self, table: FeatureTable) -> np.ndarray:
        """(n,) "train", "test", or "" where no split says so before the images are split."""
        if table.samples.split is not None:
            return table.samples.split
        ids = table.ids
        return np.full(len(ids), NEW) if self.known is None else self.known.of(ids)


@dataclass(frozen=True)
class Found:
    """What the search over taps and heads found.

    table : the sources that were searched in full. screened_out : the others' scores, by their
        number.
    """

    table: FeatureTable
    split: Split
    search: Search
    board: Leaderboard
    place: int
    head: ChosenHead
    screened_out: dict[int, float]

    @property
    def labels(self) -> np.ndarray:
        """(n_train,) class names."""
        return self.table.samples.labels[self.split.train]

    @property
    def source(self) -> Source:
        """The chosen source; of a blend the first."""
        return self.table.sources[self.head.sources[0]]

    @property
    def recipe(self) -> Recipe:
        """What the chosen source is made by."""
        return self.table.features[self.head.sources[0]].recipe

    def read(self, source: int) -> np.ndarray:
        """(n_train, d) features of one of the sources searched."""
        return self.table.read(source, self.split.train)


@dataclass(frozen=True)
class Tested:
    """The chosen heads on the test images, touched this once."""

    samples: Samples
    classes: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    chosen: dict

    @property
    def confidence(self) -> np.ndarray:
        """(n_test,) probability of the class that is predicted."""
        columns = np.searchsorted(self.classes, self.predicted)
        return self.probabilities[np.arange(len(columns)), columns]


@dataclass(frozen=True)
class RunResult:
    """What a run found, without its files.

    Attributes
    ----------
    table : FeatureTable
        The images that could be used, with their ids and the features of all taps.
    found : Found
        The leaderboard, the chosen row and its heads, and over which folds.
    tested : Tested
        The chosen heads, fitted on the training images, on the test images.
    classifier : ImageClassifier
        The chosen heads, fitted on the training images or, where `final` asks for it, on all.
    results : dict
        What results.json holds.
    """

    table: FeatureTable
    found: Found
    tested: Tested
    classifier: ImageClassifier
    results: dict

    @property
    def leaderboard(self) -> Leaderboard:
        """Rows best first, each with its heads and out-of-fold scores."""
        return self.found.board

    @property
    def chosen(self) -> dict:
        """The chosen row with its figures: `chosen` of results.json."""
        return self.results["chosen"]

    @property
    def members(self) -> list[Member]:
        """The chosen heads: one, or a blend's, each with its out-of-fold scores."""
        return self.found.board.members[self.found.place]

    @property
    def audit(self) -> dict:
        """Near copies, suspect labels, outliers: `audit` of results.json."""
        return self.results["audit"]

    @property
    def curve(self) -> dict:
        """The learning curve: `learning_curve` of results.json."""
        return self.results["learning_curve"]

    @property
    def samples(self) -> Samples:
        """The images that could be used: without bad and duplicate ones."""
        return self.table.samples

    @property
    def ids(self) -> np.ndarray:
        """(n, 16) uint8 ids of the samples."""
        return self.table.ids

    @property
    def split(self) -> Split:
        """Training and test rows of the samples, and the folds of the training rows."""
        return self.found.split

    @property
    def test_probabilities(self) -> np.ndarray:
        """(n_test, classes) of the test images, columns in the order of `leaderboard.classes`."""
        return self.tested.probabilities

    def features(self, tap: str, backbone: str | None = None, view: str = "plain") -> np.ndarray:
        """(n, d) float32 features of all samples, in their order.

        tap : as in the leaderboard, such as "features.14:grid3".
        backbone : its name; None is the first.

        Raises KeyError for a tap that was not kept.
        """
        sources = self.table.sources
        wanted = (backbone or sources[0].backbone, tap, view)
        for number, source in enumerate(sources):
            if (source.backbone, source.tap, source.view) == wanted:
                return self.table.read(number)
        there = ", ".join(dict.fromkeys(str(source.tap) for source in sources))
        raise KeyError(f"no features of {tap} ({view}) of {wanted[0]}: expected one of {there}")

    def oof_probabilities(self, place: int | None = None) -> np.ndarray:
        """(n_train, classes) out-of-fold probabilities of a row, or of the chosen one."""
        place = self.found.place if place is None else place
        return self.leaderboard.probabilities[place]


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
        Called with SamplesRead, RangeFound, PassPlanned, PassAdvanced, BadImages, SplitTaken and
        SearchAdvanced.
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
    watch = Stopwatch()
    job = prepare(images, settings or RunSettings(), on_event)
    with results_folder(job.settings.out) as out:
        result = work_through(job, out, watch, command)
        if out is not None:
            with out.writing(RESULTS) as file:
                write_results(file, result.results)
    return result


def work_through(
    job: Job, out: ResultsFolder | None, watch: "Stopwatch", command: Sequence[str]
) -> RunResult:
    """The run, stage by stage; each is named by what it does in `seconds` of results.json."""
    job = settle_range(job)
    watch.lap("read")
    table = keep_images(job, out)
    watch.lap("extract")
    table, copies, flat = settle_copies(job, table)
    split, taken = split_together(job, table, copies)
    watch.lap("copies")
    table, seen = add_views(job, table, split)
    watch.lap("views")
    found = search_taps(job, table, split)
    watch.lap("heads")
    baselines = find_baselines(job, table, found)
    watch.lap("baselines")
    curve = trace_curve(found.board, found.place, found.read, found.labels, found.search)
    watch.lap("curve")
    tested = score_choice(job, found)
    watch.lap("test")
    audit = audit_images(job, table, copies, flat, found)
    watch.lap("audit")
    comparisons = compare(table, found, baselines, tested, curve)
    watch.lap("comparisons")
    classifier = make_classifier(job, found)
    watch.lap("refit")
    leave_classifier(tested, classifier, out)
    watch.lap("save")
    blocks = {
        "command": list(command),
        "views": describe_views(job.settings.view_names, seen),
        "split": describe_split(table.ids[split.train], table.ids[split.test], taken),
        "final": {"fitted_on": job.settings.final, "n_images": len(rows_kept(job, found))},
        "chosen": tested.chosen,
        "baselines": [vars(entry.row) for entry in baselines],
        "learning_curve": curve,
        "comparisons": comparisons,
        "audit": audit,
    }
    results = describe(job, table, found, blocks, watch.seconds)
    return RunResult(table, found, tested, classifier, results)


def leave_classifier(
    tested: Tested, classifier: ImageClassifier, out: ResultsFolder | None
) -> None:
    """The test predictions and the bundle, where a run writes files."""
    if out is None:
        return
    with out.writing(PREDICTIONS) as file:
        write_predictions(file, tested.samples, tested.predicted, tested.confidence)
    with out.writing(BUNDLE) as folder:
        folder.mkdir()
        write_bundle(classifier, folder)


def prepare(images: str | Samples, settings: RunSettings, on_event: Listener) -> Job:
    """Read and check all that is asked for, before anything is computed or written."""
    if settings.out is not None:
        refuse_others(Path(settings.out), settings.cache)
    samples = read_samples(images, settings.test, settings.class_level)
    samples = group_by_path(samples, settings.groups)
    settings.check(samples)
    store = FeatureStore(settings.cache)
    known = None if settings.split is None else read_split(settings.split)
    if known is not None:  # of other images it is refused at once; the pass remembers their ids
        take_split(known, image_ids(samples.inputs, store.cache / "ids", cores())[0])
    backbones = load_backbones(samples, settings, store)
    for backbone in backbones:
        choose_taps(backbone.card, settings.layers, settings.poolings)
    on_event(SamplesRead(samples))
    return Job(samples, settings, store, backbones, on_event, known)


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
    if out is not None:
        list_bad_images(out, table)
    n_images = len(job.samples) + len(job.samples.problems)
    fraction = len(table.bad) / max(1, n_images)
    if fraction > job.settings.max_bad:
        listed = out.unfinished_list if out else table.bad[0]
        raise WorkFailed(
            f"{len(table.bad)} of {counted(n_images, 'image')} can't be used ({fraction:.0%}, "
            f"limit {job.settings.max_bad:.0%}): see {listed}, "
            "mend them or raise --max-bad"
        )
    if table.bad or table.notes or table.n_duplicates:
        note = table.notes[0][1] if table.notes else ""
        file = out.out / BAD_IMAGES if out else None
        counts = len(table.bad), len(table.notes), table.n_duplicates
        job.on_event(BadImages(*counts, note, n_images, file))
    return table


def first_views(settings: RunSettings) -> list[str]:
    """The views of the first pass, as in recipes: all, or the one that others are added to."""
    if settings.view_names == [AUTO]:
        return [str(PLAIN)]
    return [str(named_view(name)) for name in settings.view_names]


def add_views(job: Job, table: FeatureTable, split: Split) -> tuple[FeatureTable, ViewsChosen]:
    """Further views of all images, where a look at some training images says so."""
    asked = tuple(first_views(job.settings))
    further = views_of(job.backbones) if job.settings.view_names == [AUTO] else []
    if not further:
        return table, ViewsChosen(asked, {}, 0)

    def see(rows: np.ndarray, views: Sequence[str]) -> Look:
        seen = keep_more(job, table, rows, [*asked, *views])
        groups = None if split.groups is None else split.groups[rows]
        return Look(seen.read, [own.view for own in seen.sources], seen.samples.labels, groups)

    labels, seed = table.samples.labels, job.settings.seed
    seen = look_twice(see, further, labels, split.train, seed, count_workers(len(table.sources)))
    job.on_event(seen)
    if len(seen.used) > 1:
        table = keep_more(job, table, np.arange(len(table.samples)), seen.used)
    return table, seen


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


def list_bad_images(out: ResultsFolder, table: FeatureTable) -> None:
    """With the results, and at once where it stays if the run does not finish."""
    with out.writing(BAD_IMAGES) as file:
        write_bad_images(file, table.bad, table.notes)
    with disk_errors_named(out.unfinished_list):
        write_bad_images(out.unfinished_list, table.bad, table.notes)


def settle_copies(job: Job, table: FeatureTable) -> tuple[FeatureTable, list[Copies], np.ndarray]:
    """Find near copies, and drop all but one of each group if asked -> (table, pairs left, rows of
    it that came out flat)."""
    reading = job.settings.reading()
    thumbnails = kept_thumbnails(job.store, table.samples.inputs, table.ids, reading)
    pairs, flat = find_copies(table.read(table.middle()), thumbnails), find_flat(thumbnails)
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
    if job.known is not None:
        taken, sides = take_split(job.known, table.ids), job.sides(table)
        job.on_event(taken)
    together = copies if settings.duplicates == "group" else ()
    keys = [own.tobytes().hex() for own in table.ids]
    split = split_samples(table.samples, together, settings.cv, settings.seed, keys, sides)
    return split, taken


def search_taps(job: Job, table: FeatureTable, split: Split) -> Found:
    """Cross-validate all heads on all taps, choose, and fit the choice on all training images."""
    settings, n_sources = job.settings, len(table.sources)
    labels = table.samples.labels[split.train]
    scoring = find_scoring(settings.scoring, len(table.samples.classes))
    search = Search(
        settings.head_names,
        split.folds,
        scoring,
        settings.class_weight,
        settings.seed,
        count_workers(n_sources),
    )
    searched, screened_out = screen_sources(
        lambda source: table.read(source, split.train),
        n_sources,
        labels,
        n_jobs=search.n_jobs,
        on_progress=lambda done: job.on_event(SearchAdvanced(done, n_sources, True)),
    )
    own = table.only(searched)

    def read(source: int) -> np.ndarray:
        return own.read(source, split.train)

    board = make_leaderboard(
        read,
        own.sources,
        labels,
        search,
        lambda done: job.on_event(SearchAdvanced(done, len(searched), False)),
    )
    place = choose_row(board, settings.choose)
    head = fit_chosen(board, place, read, labels, settings.class_weight)
    return Found(own, split, search, board, place, head, screened_out)


def count_workers(jobs: int) -> int:
    """As many threads as there are cores, and no more than jobs."""
    return max(1, min(cores(), jobs))


def find_baselines(job: Job, table: FeatureTable, found: Found) -> list[Entry]:
    """What the network has to beat, over the leaderboard's folds."""
    if not job.settings.baselines:
        return []
    majority = Source("majority", None, None, 0)
    features = baseline_features(
        table.of_rows(found.split.train),
        job.backbones[0],
        job.store,
        job.settings,
        found.recipe.numerics,
        job.on_event,
    )
    return measure_baselines(majority, features, found.labels, found.search)


def score_choice(job: Job, found: Found) -> Tested:
    """Predict the test images by the chosen heads."""
    samples = found.table.samples[found.split.test]
    head = found.head
    features = [found.table.read(source, found.split.test) for source in head.sources]
    predicted, probabilities = answers(head.estimator, head.calibration, np.hstack(features))
    chosen = describe_choice(
        found.board, found.place, samples.labels, predicted, probabilities, job.settings.seed
    )
    return Tested(samples, found.board.classes, predicted, probabilities, chosen)


def rows_kept(job: Job, found: Found) -> np.ndarray:
    """Rows of the samples that the classifier which is kept is fitted on."""
    if job.settings.final == "train":
        return found.split.train
    # a class that the training images lack has no place in what was chosen
    return np.flatnonzero(np.isin(found.table.samples.labels, found.board.classes))


def make_classifier(job: Job, found: Found) -> ImageClassifier:
    """The chosen heads as a classifier of image files; refitted on all of them where asked for."""
    head, table = found.head, found.table
    if job.settings.final == "all":
        rows = rows_kept(job, found)
        members = found.board.members[found.place]
        labels = table.samples.labels[rows]
        head = refit(
            head,
            members,
            lambda source: table.read(source, rows),
            labels,
            job.settings.class_weight,
        )
    seen = itertools.groupby(
        head.sources, key=lambda i: (table.sources[i].backbone, table.sources[i].view)
    )
    extractors = [
        _make_extractor(job, name, [table.features[source] for source in own])
        for (name, _), own in seen
    ]
    extractor = extractors[0] if len(extractors) == 1 else JoinedExtractor(extractors)
    fitted = head.estimator, head.calibration, head.rows
    return ImageClassifier().assemble(extractor, *fitted, fitted_on=job.settings.final)


def _make_extractor(job: Job, name: str, kept: Sequence[KeptFeatures]) -> FeatureExtractor:
    """The extractor of one backbone's taps, side by side."""
    number = [backbone.name for backbone in job.backbones].index(name)
    given = job.settings.backbones[number]
    return FeatureExtractor(
        layer="+".join(str(own.source.tap) for own in kept),
        backbone=given,
        weights=None if scheme_of(given) == "baseline" else job.settings.weights,
        size=job.backbones[number].size if isinstance(given, str) else None,
        numerics=kept[0].recipe.numerics,
        cache=job.settings.cache,
        seed=job.settings.seed,
        view=name_of(kept[0].source.view),
        intensity=job.settings.intensity,
        page=job.settings.page,
        channels=job.settings.channels,
    )


def audit_images(
    job: Job, table: FeatureTable, copies: Sequence[Copies], flat: np.ndarray, found: Found
) -> dict:
    """Copies, flat images, suspect labels, and images unlike all others, for results.json."""
    board = found.board
    believed = range(min(BELIEVED, len(board.rows)))
    probabilities = np.mean([board.probabilities[place] for place in believed], axis=0)
    audit = {
        "duplicates": job.settings.duplicates,
        **describe_copies(table.samples, copies, found.split.test),
        **describe_flat(table.samples, flat),
        **describe_suspects(
            table.samples[found.split.train],
            rank_labels(probabilities, found.labels, board.classes.tolist()),
        ),
    }
    for name, row in EXPLORATIONS.items():
        source = table.last() if row.tap == "last" else table.middle()
        ranked = row.rank(table.read(source))
        audit |= describe_explored(name, row, table.samples, ranked)
    return audit


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
    job: Job, table: FeatureTable, found: Found, blocks: dict, seconds: dict[str, float]
) -> dict:
    """The whole of results.json; `blocks` are those that came of the steps."""
    settings, split = job.settings, found.split
    recipes: dict[str, Recipe] = {}  # the first of each backbone
    for own in table.features:
        recipes.setdefault(own.source.backbone, own.recipe)
    backbones = [describe_backbone(backbone, recipes[backbone.name]) for backbone in job.backbones]
    data = describe_data(job.samples, table.samples.labels[split.train], len(split.test))
    data |= describe_reading(settings.reading())
    results = {
        "schema": RESULTS_SCHEMA,
        "versions": versions(),
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
        "extraction": describe_extraction([*table.earlier, *table.passes]),
        "leaderboard": [vars(row) for row in found.board.rows],
        "screened_out": describe_screened(table.sources, found.screened_out),
        **blocks,
        "seconds": seconds | {"total": round(sum(seconds.values()), 3)},
    }
    return results | {"advice": give_advice(results)}


class Stopwatch:
    """Seconds by stage: a lap ends one and begins the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Note the time since the lap before."""
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now
