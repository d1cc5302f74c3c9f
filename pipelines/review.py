"""Which of many unlabelled images to label next, as rows that `--labels` takes once labelled."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from data.names import counted
from heads.blended import answers
from pipelines.asked import Asked
from pipelines.errors import WrongCall
from pipelines.exploration.reference import UNFAMILIAR
from pipelines.exploration.review import choose_for_review, margins
from pipelines.report.files import as_familiarity, as_probability

if TYPE_CHECKING:
    from pipelines.classifier import ImageClassifier

HEADER = (
    "rank", "path", "label", "guess", "probability", "runner_up", "runner_up_probability",
    "familiarity", "reason",
)  # fmt: skip
SURE = 0.9  # a margin above which an answer is not called unsure


class Reviewing:
    """Images are added chunk by chunk, of which some numbers each are kept; then they are ranked.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted, with training images to compare with.

    Attributes
    ----------
    n_failed : int
        Images that could not be read.

    Raises
    ------
    WrongCall
        For a classifier without training images to compare with.
    """

    def __init__(self, classifier: "ImageClassifier") -> None:
        if classifier.reference_ is None:
            raise WrongCall(
                "the bundle holds no training images to compare with, expected for --review: make "
                "it again with this version"
            )
        self._classifier = classifier
        self._reference = classifier.reference_
        self._paths: list[str] = []
        self._figures: list[np.ndarray] = []  # of each image its answers, familiarity and margin
        self._places: list[np.ndarray] = []
        self.n_failed = 0

    def add(self, asked: Sequence[Asked]) -> Iterator[tuple[str, str]]:
        """Look at some images -> paths of those that can't be read, and why."""
        readable = [own.path for own in asked if own.problem is None]
        failed = [(own.path, own.problem) for own in asked if own.problem is not None]
        if readable:
            rows, features, bad = self._classifier.extractor_.transform_readable(readable)
            failed += [(readable[row], error.reason) for row, error in bad.items()]
            if len(rows):
                self._keep([readable[row] for row in rows], features)
        self.n_failed += len(failed)
        yield from failed

    def _keep(self, paths: list[str], features: np.ndarray) -> None:
        own = self._classifier
        _, shares = answers(own.head_, own.calibration_, features)
        two = np.argsort(-shares, axis=1, kind="stable")[:, :2]
        familiarity = self._reference.familiarity(features)
        self._paths += paths
        self._places.append(self._reference.places(features))
        self._figures.append(
            np.column_stack(
                [two, np.take_along_axis(shares, two, axis=1), familiarity, margins(shares)]
            )
        )

    def rank(self, n: int) -> Iterator[tuple]:
        """Rows under HEADER of at most n images, the one first whose label is worth most."""
        if not self._paths:
            return
        figures = np.concatenate(self._figures)
        places, unlike = np.concatenate(self._places), figures[:, 4] < UNFAMILIAR
        rank = 0
        # most strangers would be dropped: the labels go where they can teach a class that is there
        for among in (np.flatnonzero(~unlike), np.flatnonzero(unlike)):
            if len(among) and rank < n:
                found = choose_for_review(figures[among, -1], places[among], n - rank)
                for row, n_alike in zip(among[found.rows].tolist(), found.alike, strict=True):
                    rank += 1
                    yield self._row(rank, row, figures[row], int(n_alike))

    @property
    def unlike_in_words(self) -> str:
        """How many images are strangers, and what that means for the table; empty for none."""
        familiarity = np.concatenate([own[:, 4] for own in self._figures] or [np.empty(0)])
        n_unlike = int((familiarity < UNFAMILIAR).sum())
        if not n_unlike:
            return ""
        return (
            f"{n_unlike} of {counted(len(familiarity), 'image')} are unlike the training images, "
            "and asked for last: where they show a class that is to be learnt, label some"
        )

    def _row(self, rank: int, row: int, figures: np.ndarray, n_alike: int) -> tuple:
        first, second, probability, other, familiarity, margin = figures.tolist()
        guess, runner_up = (str(self._classifier.classes_[int(own)]) for own in (first, second))
        reasons = [f"or {runner_up}?" if margin < SURE else "rather sure"]
        if n_alike > 1:
            reasons.append(f"{n_alike - 1} more like it")
        if familiarity < UNFAMILIAR:
            reasons.append("unlike the training images")
        shares = map(as_probability, (probability, other))
        own = (as_familiarity(familiarity), "; ".join(reasons))
        # the label is left to who looks: a guess in its place would be learnt as if it were one
        return rank, self._paths[row], "", guess, next(shares), runner_up, next(shares), *own
