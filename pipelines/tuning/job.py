"""Fine-tuning as one call: the frozen run, the tuned network, and which of the ways is kept."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from data import Samples
from extract import Tuned, load_backbone
from extract.cores import cores
from extract.tuning.training import Epoch
from pipelines.bundle.save import write_bundle
from pipelines.classifier import arrays_within
from pipelines.evaluation.answers import describe_answers
from pipelines.evaluation.sources import SEARCHED
from pipelines.evaluation.ways import (
    Way,
    choose_way,
    compare_ways,
    describe_way,
    scoring_of_ways,
)
from pipelines.evaluation.workers import Workers
from pipelines.features import FeatureTable, KeptFeatures, Listener, ignore, watching
from pipelines.job import Stopwatch, follow_earlier, leave_page, prepare, work_through
from pipelines.outcome import Job, RunResult
from pipelines.report.files import PREDICTIONS, write_predictions
from pipelines.results_folder import BUNDLE, NETWORK, ResultsFolder, results_folder
from pipelines.samples import Split
from pipelines.stages.images import settle_range
from pipelines.threads import one_blas_thread
from pipelines.tuning.outcome import EpochEnded, TuneResult, TuningBegun
from pipelines.tuning.settings import TuneSettings
from pipelines.tuning.training import (
    FOLDER,
    check_network,
    depth_within,
    hold_back,
    make_head,
    probe,
    tune_from,
    tuned_tap,
)
from pipelines.tuning.ways import (
    FROZEN,
    Made,
    frozen_way,
    groups_held,
    joined_way,
    keep_last,
    last_way,
    make_kept,
    tuned_way,
)


def tune_job(
    images: str | Samples,
    settings: TuneSettings | None = None,
    *,
    on_event: Listener = ignore,
    command: Sequence[str] = (),
) -> TuneResult:
    """Train a network further on labelled images, and say whether that beats it frozen.

    The frozen run over the same images comes first; what it has from earlier runs is taken from the
    store. The network is tuned on its training images but for some, by which the epoch, what is
    joined and what is kept are chosen. The test images judge all ways alike, once.

    Parameters
    ----------
    images : str or Samples
        A folder, manifest or named set to read samples from, or labelled samples.
    settings : TuneSettings or None
    on_event : callable
        Called as by `run_job`, and with TuningBegun and EpochEnded.
    command : sequence of str
        What results.json names as the call.

    Returns
    -------
    TuneResult

    Raises
    ------
    DataError, ExtractError, WrongCall
        Images or settings that can't be used.
    WorkFailed
        As by `run_job`.
    """
    settings = settings or TuneSettings()
    settings.check_tuning()
    watch = Stopwatch(on_event)
    with one_blas_thread(), Workers(min(cores(), SEARCHED)) as workers:
        job = settle_range(prepare(images, settings, on_event, workers))
        depth = depth_within(job.backbones[0], settings.unfreeze)
        settings = replace(settings, unfreeze=depth)
        check_network(job.backbones[0], settings.tuning)
        with results_folder(settings.out) as out, arrays_within():
            # a share that leaves too few images is refused before they are searched
            hold = partial(hold_validation, settings=settings)
            frozen = work_through(job, out, watch, command, on_split=hold)
            result = tune_through(job, frozen, settings)
            if out is not None:
                leave_tuned(result, out)
                leave_page(result, job, out, Stopwatch())
                out.write_results(result.results)
    return result


def tune_through(job: Job, frozen: RunResult, settings: TuneSettings) -> TuneResult:
    """What follows the frozen run, step by step."""
    watch = Stopwatch()
    labels, classes, split = frozen.found.labels, frozen.leaderboard.classes, frozen.split
    held = hold_validation(frozen.table, split, settings)
    codes = np.searchsorted(classes, labels[held])
    backbone = job.backbones[0]
    tap = tuned_tap(backbone)
    last = keep_last(job, frozen, backbone, tap)
    usual = last_way(job, frozen, last, held)
    watch.lap("last layer")
    tuned = tune(job, frozen, settings, last, held)
    watch.lap("training")
    network = load_backbone(os.fspath(tuned.file), cache=job.store.cache)
    seen = keep_last(job, frozen, network, tap)
    weight = settings.class_weight
    features, groups = seen.read(split.train[held]), groups_held(frozen, held)
    head = make_head(tuned, features, labels[held], classes, weight, groups)
    watch.lap("features")
    alone = frozen_way(frozen, held, weight)
    own = tuned_way(job, frozen, seen, head, os.fspath(tuned.file), tuned.best >= 0)
    made = [usual, alone, own]
    share, joined = joined_way(frozen, alone, own, held, weight)
    if joined is not None:
        made.append(joined)
    ways = [one.way for one in made]
    scoring = frozen.leaderboard.scoring
    place, tied = choose_way(ways, codes, scoring, settings.choose, settings.seed)
    classifier = make_kept(frozen, made[place])
    watch.lap("comparison")
    results = frozen.results | {
        "tuning": describe_tuning(frozen, settings, tuned, held, made[place])
        | {"joined_share": share, "seconds": watch.seconds},
        "ways": describe_ways(frozen, ways, codes, place, tied),
        "seconds": in_all(frozen.results["seconds"], watch.seconds),
    }
    follow_earlier(job.earlier, results)
    return TuneResult(
        frozen.table,
        frozen.found,
        frozen.tested,
        classifier,
        frozen.images,
        results,
        tuned=tuned,
        ways=ways,
        kept=place,
    )


def in_all(of_run: Mapping[str, float], of_tuning: Mapping[str, float]) -> dict[str, float]:
    """The `seconds` of results.json: of the frozen run and of what follows it, and their sum.

    >>> in_all({"read": 1.0, "total": 1.0}, {"training": 2.5})
    {'read': 1.0, 'training': 2.5, 'total': 3.5}
    """
    stages = {name: own for name, own in {**of_run, **of_tuning}.items() if name != "total"}
    return {**stages, "total": round(sum(stages.values()), 3)}


def hold_validation(table: FeatureTable, split: Split, settings: TuneSettings) -> np.ndarray:
    """(n_train,) bool: the training images that the network is not trained on.

    Raises what `hold_back` does.
    """
    labels = table.samples.labels
    assert labels is not None
    groups = None if split.groups is None else split.groups[split.train]
    keys = [own.tobytes().hex() for own in table.ids[split.train]]
    return hold_back(labels[split.train], groups, settings.validation, settings.seed, keys)


def tune(
    job: Job, frozen: RunResult, settings: TuneSettings, last: KeptFeatures, held: np.ndarray
) -> Tuned:
    """Linear probing on the images that are trained on, then the training from there."""
    split, labels, backbone = frozen.split, frozen.found.labels, job.backbones[0]
    trained = split.train[~held]
    head = probe(
        last.read(trained),
        labels[~held],
        None if split.groups is None else split.groups[trained],
        settings.cv,
        frozen.leaderboard.scoring,
        settings.class_weight,
        settings.seed,
    )
    job.on_event(TuningBegun(backbone.name, len(trained), int(held.sum())))

    def tell(epoch: Epoch) -> None:
        job.on_event(EpochEnded(epoch, settings.epochs))

    return tune_from(
        head,
        frozen.samples[split.train].inputs,
        labels,
        held,
        backbone,
        last.taps[0],
        settings.tuning,
        folder=job.store.cache / FOLDER,
        store=job.store,
        numerics=settings.numerics,
        device=settings.device,
        reading=job.settings.reading(),
        watch=watching(backbone.name, last.taps, job.on_event),
        on_epoch=tell,
    )


def describe_tuning(
    frozen: RunResult, settings: TuneSettings, tuned: Tuned, held: np.ndarray, made: Made
) -> dict:
    """The `tuning` of results.json."""
    way, classes = made.way, frozen.leaderboard.classes
    labels = frozen.tested.samples.labels
    predicted = classes[way.test.argmax(axis=1)]
    confidence = way.test.max(axis=1)
    return {
        "settings": settings.tuning.to_dict() | {"validation": settings.validation},
        "backbone": frozen.results["backbone"]["name"],
        "tap": str(tuned.layer.tap),
        "n_trained": int((~held).sum()),
        "n_validation": int(held.sum()),
        "groups": [asdict(own) for own in tuned.groups],
        "history": [asdict(own) for own in tuned.history],
        "best": tuned.best,
        "share": tuned.share,
        "source": tuned.source,
        "why_images": tuned.why_images,
        "views_seconds": tuned.views_seconds,
        "training_seconds": tuned.seconds,
        "resumed": tuned.resumed,
        "network": NETWORK,
        "kept": way.name,
        "answers": describe_answers(labels, predicted, confidence, classes.tolist()),
    }


def describe_ways(
    frozen: RunResult, ways: Sequence[Way], codes: np.ndarray, place: int, tied: np.ndarray
) -> dict:
    """The `ways` of results.json; of the test images nothing was chosen by.

    codes : class numbers of the validation images.
    """
    board = frozen.leaderboard
    test = np.searchsorted(board.classes, frozen.tested.samples.labels)
    seed = frozen.results["seed"]
    rows = [
        describe_way(way, codes, test, board.scoring, seed)
        | {"kept": i == place, "tied": bool(tied[i])}
        for i, way in enumerate(ways)
    ]
    return {
        "chosen_by": scoring_of_ways(board.scoring).name,
        "rows": rows,
        "differences": compare_ways(ways, test),
    }


def leave_tuned(result: TuneResult, out: ResultsFolder) -> None:
    """The network, and what is kept in place of the frozen run's where it is another way."""
    with out.writing(NETWORK) as file:
        shutil.copyfile(result.tuned.file, file)
    if result.way.name == FROZEN:
        return
    samples, way = result.tested.samples, result.way
    predicted = result.leaderboard.classes[way.test.argmax(axis=1)]
    familiarity = result.classifier.judge(samples.inputs).familiarity
    assert familiarity is not None  # every way has a reference
    with out.writing(PREDICTIONS) as file:
        write_predictions(file, samples, predicted, way.test.max(axis=1), familiarity)
    with out.writing(BUNDLE) as folder:
        shutil.rmtree(folder)
        folder.mkdir()
        write_bundle(result.classifier, Path(folder))
