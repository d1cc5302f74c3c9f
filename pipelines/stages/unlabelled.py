"""The stage of a run that takes images without labels: their features, and what they are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from data import DataError, Samples, read_images
from data.names import counted
from extract import FeatureStore
from extract.backbones import BASELINES
from extract.cores import cores
from extract.store.ids import image_ids
from heads.blended import answers
from heads.propagation import NEAR, join_taps, link_neighbours
from pipelines.classifier import ImageClassifier
from pipelines.errors import WrongCall
from pipelines.evaluation.transduction import (
    ALONE,
    choose_answers,
    describe_transduction,
    join_new,
    join_out_of_fold,
)
from pipelines.evaluation.ways import Way
from pipelines.exploration.neighbours import find_neighbours
from pipelines.exploration.reference import UNFAMILIAR
from pipelines.exploration.review import choose_for_review, margins
from pipelines.features import FeatureTable, keep_features
from pipelines.outcome import BadImages, Found, Job, Tested, Unlabelled
from pipelines.report.files import BAD_IMAGES, UNLABELLED
from pipelines.report.unlabelled import UnlabelledTable
from pipelines.results_folder import ResultsFolder
from pipelines.stages.images import list_bad_images
from pipelines.stages.shift import judge_shift, read_target_labels

RANKED = 50  # images that are asked about, in the order in which their labels are worth most
CHUNK = 1000  # images whose features are in memory at once


@dataclass(frozen=True)
class Judged:
    """What a classifier says of images one by one.

    paths, familiarity : (n,). probabilities : (n, classes). places : (n, k), as of a `Reference`.
    """

    paths: np.ndarray
    probabilities: np.ndarray
    familiarity: np.ndarray
    places: np.ndarray


def read_unlabelled(
    given: str | Path | None,
    samples: Samples,
    store: FeatureStore,
    target_labels: str | Path | None = None,
) -> Unlabelled | None:
    """The images without labels that stand beside the labelled ones, each of them once.

    What is a copy of a labelled image, or of another one here, byte by byte, is left out; labels
    that the images have are not looked at.

    target_labels : a table of labels of some of them, by which a correction of shift is chosen.

    Raises DataError where there are no images, WrongCall where all are among the labelled ones.
    """
    if given is None:
        return None
    read = read_images(given, labelled=False)
    stands, unreadable = _each_once(read, samples, store)
    new, n_copies = np.flatnonzero(stands == np.arange(len(read))), int((stands < 0).sum())
    usable = np.where(np.isin(stands, unreadable), -1, stands)
    labels, beside = read_target_labels(target_labels, read, samples.classes, usable)
    if not len(new):
        raise WrongCall(
            f"--unlabelled {given}: none of its {counted(len(read), 'image')} is new beside "
            f"{samples.name}: give images that have no label yet"
        )
    left = replace(read[new], problems=read.problems)
    n_repeated = len(read) - len(new) - n_copies
    has_labels = _has_labels(given)
    return Unlabelled(left, str(given), n_copies, n_repeated, has_labels, labels, beside)


def _each_once(
    read: Samples, samples: Samples, store: FeatureStore
) -> tuple[np.ndarray, list[int]]:
    """(n,) the first row of each image, -1 of those that are samples too; rows without an id."""
    memory = store.cache / "ids"
    labelled = set(map(bytes, image_ids(samples.inputs, memory, cores())[0]))
    ids, bad = image_ids(read.inputs, memory, cores())
    first: dict[bytes, int] = dict.fromkeys(labelled, -1)
    # what can't be opened has no id yet: the pass says what is wrong with it
    stands = [
        row if row in bad else first.setdefault(own, row) for row, own in enumerate(map(bytes, ids))
    ]
    return np.array(stands, int), list(bad)


def _has_labels(given: str | Path) -> bool:
    try:
        read_images(given)
    except DataError:
        return False
    return True


def keep_unlabelled(
    job: Job, table: FeatureTable, views: Sequence[str], out: ResultsFolder | None
) -> FeatureTable | None:
    """The pass over the images without labels, if there are any.

    Those that can't be used are listed with the others.

    table : of the labelled images. views : as in recipes, that they are seen in.
    """
    if job.unlabelled is None:
        return None
    # the same numerics as theirs, whatever the store may hold of these images
    of_networks = (own for own in table.features if own.source.backbone not in BASELINES)
    numerics = next((own.recipe.numerics for own in of_networks), job.settings.numerics)
    found = keep_features(
        job.unlabelled.samples,
        job.backbones,
        job.store,
        replace(job.settings, numerics=numerics),
        views=views,
        settle=False,
        on_event=job.on_event,
    )
    if out is not None:
        both = replace(table, bad=[*table.bad, *found.bad], notes=[*table.notes, *found.notes])
        list_bad_images(out, both)
    if found.bad or found.notes:
        note = found.notes[0][1] if found.notes else ""
        n_images = len(job.unlabelled.samples) + len(job.unlabelled.samples.problems)
        file = out.out / BAD_IMAGES if out else None
        job.on_event(BadImages(len(found.bad), len(found.notes), 0, note, n_images, file))
    return found


def use_unlabelled(
    job: Job,
    found: Found,
    tested: Tested,
    classifier: ImageClassifier,
    tables: tuple[FeatureTable, FeatureTable | None],
) -> tuple[dict, UnlabelledTable] | None:
    """The `unlabelled` of results.json, and the answers to the images without labels.

    classifier : as it was tested. tables : of the labelled images and of the others.
    """
    labelled, others = tables
    if job.unlabelled is None or others is None:
        return None
    board, taps = found.board, _taps_of_graph(labelled)
    graphs = _Graphs(labelled, others, taps)
    judged = _judge(classifier, others.samples)
    ways, answered = _answer(job, found, tested, judged, graphs)
    train, test = (
        np.searchsorted(board.classes, labels) for labels in (found.labels, tested.samples.labels)
    )
    place = choose_answers(ways, train, board.scoring)
    method = ways[place].name
    shift, method, answered_by = judge_shift(
        job, found, (labelled, others), (method, answered[method]), judged.probabilities
    )
    described = {
        **_described(job, others, len(board.classes), len(train)),
        "taps": [asdict(labelled.sources[tap]) for tap in taps],
        **describe_transduction(ways, place, train, test, board.scoring, job.settings.seed),
        "method": method,
        "threshold": UNFAMILIAR,
        "n_unfamiliar": int((judged.familiarity < UNFAMILIAR).sum()),
        "shift": shift,
    }
    for row in described["rows"]:  # what is taken may be a correction in place of all of them
        row["taken"] = row["name"] == method
    table = _tabulate(judged, answered_by, board.classes, method, job.unlabelled.labels)
    given = job.unlabelled.labels | job.unlabelled.labels_beside
    unanswered = given.keys() - set(table.path)
    return described, replace(table, beside={path: given[path] for path in sorted(unanswered)})


def _answer(
    job: Job, found: Found, tested: Tested, judged: Judged, graphs: "_Graphs"
) -> tuple[list[Way], dict[str, np.ndarray]]:
    """Every way of answering with its figures' probabilities, and by name its answers to the images
    without labels.

    A way is chosen by the training images out of fold, in a graph without the test images; these
    stand without labels in a graph of their own, for the figures alone.
    """
    board, split = found.board, found.split
    train, alone = np.searchsorted(board.classes, found.labels), judged.probabilities
    out_of_fold = board.probabilities[found.place]
    graph = graphs.of(split.train)
    hidden, calibrations = join_out_of_fold(
        graph, train, split.folds, out_of_fold, job.settings.class_weight
    )
    with_test = graphs.of(np.concatenate([split.train, split.test]))
    new = np.concatenate([tested.probabilities, alone])
    of_test = join_new(with_test, train, new, calibrations)
    n_test = len(split.test)
    ways = [Way(ALONE, out_of_fold, tested.probabilities)]
    ways += [Way(name, own, of_test[name][:n_test]) for name, own in hidden.items()]
    return ways, {ALONE: alone} | join_new(graph, train, alone, calibrations)


def _described(job: Job, others: FeatureTable, n_classes: int, n_train: int) -> dict:
    own = job.unlabelled
    assert own is not None
    return {
        "folder": own.given,
        "file": None if job.settings.out is None else str(Path(job.settings.out) / UNLABELLED),
        "n_images": len(others.samples),
        "n_bad": len(others.bad),
        "n_copies": own.n_copies,
        "n_repeated": own.n_repeated,
        "has_labels": own.has_labels,
        "labels_a_class": n_train / n_classes,
        "neighbours": NEAR,
    }


def _taps_of_graph(table: FeatureTable) -> list[int]:
    """Of each network the deepest tap, its average if there is one: neighbours in it are of one
    class more often than in several depths joined (docs/unlabelled.md)."""
    by_network: dict[str, list[int]] = {}
    for number, source in enumerate(table.sources):
        by_network.setdefault(source.backbone, []).append(number)
    return [own[table.only(own).last()] for own in by_network.values()]


@dataclass(frozen=True)
class _Graphs:
    """Graphs of labelled images with all others below them, by the features of some taps."""

    labelled: FeatureTable
    others: FeatureTable
    taps: list[int]

    def of(self, rows: np.ndarray) -> csr_array:
        """The one of these labelled images."""
        features = [self._read(tap, rows) for tap in self.taps]
        return link_neighbours(*find_neighbours(join_taps(features), NEAR))

    def _read(self, tap: int, rows: np.ndarray) -> np.ndarray:
        same = self.others.read_same(self.labelled, tap)
        return np.concatenate([self.labelled.read(tap, rows), same])


def _judge(classifier: ImageClassifier, samples: Samples) -> Judged:
    """What the classifier says of images one by one.

    Chunk by chunk: what the heads take may be a thousand times as wide as what they say.
    """
    reference = classifier.reference_
    assert reference is not None  # a run's classifier has one
    found = []
    for start in range(0, len(samples), CHUNK):
        features = classifier.extractor_.transform(samples[start : start + CHUNK].inputs)
        _, shares = answers(classifier.head_, classifier.calibration_, features)
        found.append((shares, reference.familiarity(features), reference.places(features)))
    return Judged(np.array(samples.paths, object), *map(np.concatenate, zip(*found, strict=True)))


def _tabulate(
    judged: Judged,
    answered: np.ndarray,
    classes: np.ndarray,
    method: str,
    known: Mapping[str, str],
) -> UnlabelledTable:
    """The answers, those first whose labels would teach most.

    answered : (n, classes) probabilities. known : labels by path, which need not be asked for.
    """
    margin = margins(answered)
    labels = np.array([known.get(path, "") for path in judged.paths], object)
    unlike = judged.familiarity < UNFAMILIAR
    asked = labels == ""
    ranked = _rank(margin, judged.places, (asked & ~unlike, asked & unlike))
    rest = np.setdiff1d(np.argsort(margin, kind="stable"), ranked, assume_unique=True)
    order = np.concatenate([ranked, rest])
    rank = np.zeros(len(order), int)
    rank[: len(ranked)] = 1 + np.arange(len(ranked))
    return UnlabelledTable(
        rank=rank,
        path=judged.paths[order],
        label=labels[order],
        predicted=classes[answered.argmax(axis=1)[order]].astype(object),
        probability=answered.max(axis=1)[order],
        familiarity=judged.familiarity[order],
        method=method,
    )


def _rank(
    margin: np.ndarray, places: np.ndarray, parts: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """At most RANKED rows, the one first whose label is worth most; what is unlike the training
    images comes last, as most of such would show no class that is there.

    parts : (n,) bool, which rows are like them, and which are not.
    """
    found = np.empty(0, int)
    for among in map(np.flatnonzero, parts):
        n = RANKED - len(found)
        if len(among) and n:
            found = np.concatenate(
                [found, among[choose_for_review(margin[among], places[among], n).rows]]
            )
    return found
