"""What a run is about, what it found, and what it tells on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data import Samples
from extract import Backbone, FeatureStore, Recipe
from heads.blended import Member
from pipelines.classifier import ImageClassifier
from pipelines.evaluation.choice import ChosenHead
from pipelines.evaluation.frames import make_frame, probability_columns
from pipelines.evaluation.leaderboard import Leaderboard
from pipelines.evaluation.search import Search
from pipelines.evaluation.workers import Workers
from pipelines.features import FeatureTable, Listener, Source
from pipelines.findings import Findings
from pipelines.report.files import write_page
from pipelines.report.images import ImageTable
from pipelines.report.since import Earlier
from pipelines.report.split import NEW, KnownSplit
from pipelines.report.unlabelled import UnlabelledTable
from pipelines.samples import Split
from pipelines.settings import RunSettings

T = TypeVar("T")


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
class PageFailed:
    """All is done but the page, for this reason; `out` is the run's folder."""

    reason: str
    out: Path


@dataclass(frozen=True)
class SearchAdvanced:
    """So many of `total` taps are searched, or looked at before the search while `screening`."""

    done: int
    total: int
    screening: bool


@dataclass(frozen=True)
class Unlabelled:
    """Images without labels beside those of a run, each once.

    given : the folder or manifest. n_copies : of it, that are labelled images too; n_repeated :
    copies of one another. has_labels : whether it has labels, which are not looked at. labels : by
    path, of those that have one after all, to choose a correction of shift by. labels_beside : of
    images that can't be used.
    """

    samples: Samples
    given: str
    n_copies: int
    n_repeated: int
    has_labels: bool
    labels: dict[str, str] = field(default_factory=dict)
    labels_beside: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What a run is about.

    known : the split of an earlier run, where it is to be taken. earlier : a run to compare with.
    workers : processes to search with, while the run lasts.
    here : names and weights of the networks to choose among; until then `backbones` is the first.
    asked : name and weights, by the backbone's own name, of those that were chosen.
    unlabelled : images beside the samples, where there are any.
    """

    samples: Samples
    settings: RunSettings
    store: FeatureStore
    backbones: list[Backbone]
    on_event: Listener
    known: KnownSplit | None = None
    earlier: Earlier | None = None
    workers: Workers | None = None
    here: Sequence[tuple[str, str]] = ()
    asked: Mapping[str, tuple[Any, str | None]] = field(default_factory=dict)
    unlabelled: Unlabelled | None = None

    @cached_property
    def findings(self) -> Findings:
        """What earlier runs over this cache found."""
        return Findings(self.store.cache)

    def beside(self, make: Callable[[], T]) -> Callable[[], T]:
        """What `make` returns, when it is asked for: from now on in the background, or made then.

        Where there are processes to compute, it waits for nothing but them.
        """
        return make if self.workers is None else self.workers.begin(make).result

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

    def read_for_training(self, source: int) -> np.ndarray:
        """The same, with random views of the training images below where there are any."""
        return self.table.read_for_training(source, self.split.train)


@dataclass(frozen=True)
class Tested:
    """The chosen heads on the test images, touched this once."""

    samples: Samples
    predicted: np.ndarray
    probabilities: np.ndarray
    chosen: dict

    @property
    def confidence(self) -> np.ndarray:
        """(n_test,) probability of the class that is predicted: the most probable one."""
        return self.probabilities.max(axis=1)


@dataclass(frozen=True)
class Answers:
    """What was answered to some images, beside what they are.

    Attributes
    ----------
    paths : tuple of n str
    labels, predictions : array of shape (n,)
        Class names.
    probabilities : array of shape (n, classes)
        Columns in the order of `classes`.
    classes : array of shape (classes,)
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def probability_of(self, name: str) -> np.ndarray:
        """(n,) probability of one class; ValueError for one that is none."""
        found = np.flatnonzero(self.classes == name)
        if not len(found):
            classes = ", ".join(map(str, self.classes))
            raise ValueError(f"got class {name!r}, expected one of {classes}")
        return self.probabilities[:, found[0]]

    def to_pandas(self) -> Any:
        """A pandas DataFrame: path, label, predicted, probability of that, and of each class.

        Raises ImportError where pandas is not installed.
        """
        columns = {
            "path": self.paths,
            "label": self.labels,
            "predicted": self.predictions,
            "probability": self.probabilities.max(axis=1),
        }
        return make_frame(columns | probability_columns(self.classes, self.probabilities))


@dataclass(frozen=True, repr=False)
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
    images : ImageTable
        What became of each image: what images.csv holds.
    results : dict
        What results.json holds.
    unlabelled : UnlabelledTable or None
        The answers to the images without labels: what unlabelled.csv holds.
    """

    table: FeatureTable
    found: Found
    tested: Tested
    classifier: ImageClassifier
    images: ImageTable
    results: dict
    # by name alone: the result of a tuning has more fields, without defaults
    unlabelled: UnlabelledTable | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        chosen = self.chosen
        return (
            f"RunResult({self.results['data']['name']!r}: {chosen['head']} on "
            f"{chosen['tap'] or 'several taps'}, test accuracy {chosen['test_accuracy']:.4f} "
            f"({chosen['test_low']:.4f} to {chosen['test_high']:.4f}))"
        )

    def _repr_html_(self) -> str:
        # here: whoever only computes needs none of it
        from pipelines.notebook import run_view

        return run_view(self.results)

    @property
    def leaderboard(self) -> Leaderboard:
        """Rows best first, each with its heads and out-of-fold scores; a frame by `to_pandas`."""
        return self.found.board

    @property
    def test(self) -> Answers:
        """The answers to the test images, as scikit-learn's displays and metrics take them."""
        tested = self.tested
        return Answers(
            tested.samples.paths,
            tested.samples.labels,
            tested.predicted,
            tested.probabilities,
            self.found.board.classes,
        )

    @property
    def chosen(self) -> dict:
        """The chosen row with its figures: `chosen` of results.json."""
        return self.results["chosen"]

    def report(self, file: str | Path | None = None) -> str:
        """The page of the run as HTML: what `report.html` holds.

        file : where to write it as well.
        """
        from pipelines.report.charts import KEPT
        from pipelines.report.page import make_page
        from pipelines.report.pictures import gather_pictures
        from pipelines.report.seen import find_seen

        request = self.table.features[0].extraction.request
        assert request is not None  # a run's pass keeps what it was asked for
        pictures = gather_pictures(self.results, self.images, self.samples.inputs, request.store)
        cut = self._cut_seen(Findings(request.store.cache))
        seen = find_seen(self.results, self.images, cut, pictures)
        page = make_page(self.results, self.images, pictures, request.store.cache / KEPT, seen)
        if file is not None:
            write_page(Path(file), page)
        return page

    def _cut_seen(self, findings: Findings) -> list[str | None]:
        """The patches of the page, remembered where all are there: no image is opened again."""
        from pipelines.report.seen import cut_seen

        decided = [self.results["seen"], self.results["data"]]
        cut = findings.recall("patches", decided)
        if cut is None:
            cut = cut_seen(self.results, self.images, self.samples.inputs)
            if all(cut):
                findings.remember("patches", decided, cut)
        return cut

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

    def features(
        self, tap: str, backbone: str | None = None, view: str | None = None
    ) -> np.ndarray:
        """(n, d) float32 features of all samples, in their order.

        tap : as in the leaderboard, such as "features.14:grid3".
        backbone : its name; None is the first.
        view : `plain`, `flipped` or `whole`; None is the run's first.

        Raises KeyError for what was not kept.
        """
        return self.table.read(self.table.find(tap, backbone, view))

    def oof_probabilities(self, place: int | None = None) -> np.ndarray:
        """(n_train, classes) out-of-fold probabilities of a row, or of the chosen one.

        Of a stopped row NaN but for the first fold.
        """
        place = self.found.place if place is None else place
        return self.leaderboard.probabilities[place]
