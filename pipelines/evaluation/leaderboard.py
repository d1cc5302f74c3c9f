"""The leaderboard: every tap with every head, and the blend of the best, by cross-validation."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from heads import HEADS, as_logits, blend_candidates, oof_probabilities
from heads.blended import Member
from pipelines.evaluation.comparison import (
    choose_without_fold,
    corrected_score,
    score_interval,
    tied_with_best,
)
from pipelines.evaluation.frames import make_frame
from pipelines.evaluation.intervals import nadeau_bengio_interval, wilson_interval
from pipelines.evaluation.metrics import log_loss
from pipelines.evaluation.scoring import ACCURACY, Scoring
from pipelines.evaluation.search import BestSetting, Search, judged_probabilities
from pipelines.evaluation.sources import KnownSearches, search_sources

BLEND = "blend"
ALL = slice(None)


class RowSource(Protocol):
    """What a row says of its features, as `features.Source` does; here they are arrays alone."""

    @property
    def backbone(self) -> str: ...
    @property
    def view(self) -> str: ...
    @property
    def layer(self) -> str | None: ...
    @property
    def pooling(self) -> str | None: ...
    @property
    def dim(self) -> int: ...
    @property
    def tap(self) -> str | None: ...


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard: a tap and a head with its best parameters, or a blend.

    backbone, view, layer, pooling, dim, tap : as in `features.Source`; a blend has no tap of its
        own.
    members : of a blend or of joined taps, each with its tap, head, parameters and weight.
    cv_accuracy : share of the training images predicted right while out of fold, by probabilities
        that are calibrated without their fold: exactly what a bundle of this row predicts by.
    cv_low, cv_high : its Wilson interval at 95 %.
    cv_fold_low, cv_fold_high : Nadeau & Bengio's, of the folds' accuracies, which allows for other
        training images too and is wide with few folds.
    cv_log_loss : mean negative log of the true class's probability among these; it orders rows of
        equal score.
    cv_score, cv_score_low, cv_score_high : of the scoring that the leaderboard is ordered by.
    seconds : what the search on this tap took.
    tied : whether the best row does not beat this one beyond chance.
    stopped : whether the row was beaten beyond chance after the first fold: its figures are of that
        fold's images alone, calibrated on themselves, and it stands behind the others.
    n_stopped : how many of the head's settings were stopped so, in a row that went on too.
    """

    backbone: str
    view: str
    layer: str | None
    pooling: str | None
    dim: int
    tap: str | None
    head: str
    params: dict
    members: list | None
    cv_accuracy: float
    cv_low: float
    cv_high: float
    cv_log_loss: float
    seconds: float
    cv_fold_low: float
    cv_fold_high: float
    cv_score: float
    cv_score_low: float
    cv_score_high: float
    tied: bool = False
    stopped: bool = False
    n_stopped: int = 0


@dataclass(repr=False)
class Leaderboard:
    """Rows best first, with what the choice and the fit need of each.

    members : by row, the heads it is made of: one, or a blend's.
    probabilities : by row, out-of-fold (n, classes): of each fold by calibration, and of a blend by
        weights, that saw the other folds alone; of a stopped row NaN but for the first fold.
    blend_logits : (n, classes) what a blend's own calibration is fitted on; None without a blend.
    tried : how many settings were compared, stopped ones too.
    corrected : score of the choice with its luck taken out, and its interval.
    nested : score of the best single row where it is chosen without the fold that scores it.
    """

    rows: list[Row]
    members: list[list[Member]]
    probabilities: list[np.ndarray]
    blend_logits: np.ndarray | None
    tried: int
    classes: np.ndarray
    corrected: tuple[float, float, float]
    nested: float
    scoring: Scoring = ACCURACY

    def __repr__(self) -> str:
        best = self.rows[0]
        return (
            f"Leaderboard({len(self.rows)} rows, first {best.head} on "
            f"{best.tap or 'several taps'}: {self.scoring.words} {best.cv_score:z.4f})"
        )

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame, best first, with a column for each figure.

        Raises ImportError where pandas is not installed.
        """
        names = [field.name for field in fields(Row)]
        return make_frame({name: [getattr(row, name) for row in self.rows] for name in names})


class Entry(NamedTuple):
    """A row on its way into the leaderboard.

    probabilities : (n, classes) as in Leaderboard. facts : (n,) what the scoring makes of them.
    logits : of a blend, what its own calibration is fitted on.
    """

    row: Row
    members: list[Member]
    probabilities: np.ndarray
    facts: np.ndarray
    logits: np.ndarray | None = None


def make_leaderboard(
    features: Callable[[int], np.ndarray],
    sources: Sequence[RowSource],
    labels: np.ndarray,
    search: Search,
    on_progress: Callable[[int], None] | None = None,
    known: KnownSearches | None = None,
) -> Leaderboard:
    """Cross-validate every head on every source over the same folds.

    Parameters
    ----------
    features : callable
        Number of a source -> its (n, d) float32 training rows; called once for each, in a race
        twice.
    sources : sequence of length sources
        What the rows say of their features, such as `features.Source`.
    labels : (n,) class names
    search : Search
    on_progress : callable or None
        Called with the number of sources done.
    known : KnownSearches or None
        What need not be searched.

    Returns
    -------
    Leaderboard

    Raises
    ------
    ValueError
        Unknown head.
    """
    scoring = search.scoring
    classes, codes = np.unique(labels, return_inverse=True)
    widths = [source.dim for source in sources]
    layers = [f"{source.backbone} {source.layer or source.tap}" for source in sources]
    found = search_sources(features, widths, labels, search, on_progress, known, layers)
    entries, stopped = [], []
    for i, searched in enumerate(found):
        for head, best in searched.best.items():
            member = Member(head, best.params, 1.0, i, best.oof)
            if best.is_stopped:
                stopped.append(_stopped_entry(sources[i], member, labels, search, best))
            else:
                seconds = round(best.seconds, 3)
                entry = make_entry(sources[i], member, labels, search, seconds, best.judged)
                entries.append(entry._replace(row=replace(entry.row, n_stopped=best.n_stopped)))
    entries.sort(key=_order)
    facts = np.array([entry.facts for entry in entries])
    nested = choose_without_fold(facts, codes, search.folds, scoring)
    tried = [searched.facts for searched in found]
    n_tried = sum(searched.n_tried for searched in found)
    blended = _blend(entries, sources, labels, search)
    if blended is not None:
        entries = sorted([*entries, blended], key=_order)
        tried.append(blended.facts[None])
        n_tried += 1
    facts_of_all = np.concatenate(tried)
    seed = search.seed or 0
    tied = tied_with_best(np.array([entry.facts for entry in entries]), scoring, codes, seed=seed)
    rows = [replace(entry.row, tied=bool(own)) for entry, own in zip(entries, tied, strict=True)]
    stopped.sort(key=_order)
    entries += stopped
    return Leaderboard(
        [*rows, *(entry.row for entry in stopped)],
        [entry.members for entry in entries],
        [entry.probabilities for entry in entries],
        None if blended is None else blended.logits,
        n_tried,
        classes,
        corrected_score(facts_of_all, scoring, codes, seed=seed),
        float(scoring.values(codes, nested[None])[0]),
        scoring,
    )


def _stopped_entry(
    source: RowSource, member: Member, labels: np.ndarray, search: Search, best: BestSetting
) -> Entry:
    """As `make_entry`, of a head that saw the first fold alone."""
    classes = np.unique(labels)
    seen = search.folds[0][1]
    # there are no other folds to calibrate by
    judged = oof_probabilities(
        member.oof, HEADS[member.head].scores, labels, classes, None, search.class_weight
    )
    first = replace(search, folds=search.folds[:1])
    row = _row_of(source, member, labels, first, round(best.seconds, 3), judged, seen)
    return Entry(replace(row, stopped=True, n_stopped=best.n_stopped), [member], judged, best.facts)


def _order(entry: Entry) -> tuple:
    # last bits dropped: they differ between machines and would shuffle rows of equal score
    return -round(entry.row.cv_score, 9), round(entry.row.cv_log_loss, 9), entry.row.dim


def _blend(
    entries: Sequence[Entry], sources: Sequence[RowSource], labels: np.ndarray, search: Search
) -> Entry | None:
    """The rows blended; None where one alone is all there is to it."""
    started = time.perf_counter()
    classes, codes = np.unique(labels, return_inverse=True)
    validation = [val for _, val in search.folds]
    candidates = _worth_blending(entries, codes, search.scoring)
    if len(candidates) < 2:
        return None
    scoring = search.scoring
    # what counts right answers alone is served better by log loss, which counts near misses too
    score = None if scoring is ACCURACY else _averages_scorer(scoring)
    probabilities = np.array([entry.probabilities for entry in candidates])
    # each view of a backbone is a pass over every image that is predicted
    kinds = [f"{entry.row.backbone} {entry.row.view}" for entry in candidates]
    found = blend_candidates(probabilities, codes, validation, scoring=score, kinds=kinds)
    chosen = sorted(np.flatnonzero(found.weights), key=lambda i: (-found.weights[i], i))
    if len(chosen) < 2:
        return None
    members = [replace(candidates[i].members[0], weight=float(found.weights[i])) for i in chosen]
    # judged as it is saved: averaged, then calibrated, each fold by the others' weights
    judged = oof_probabilities(
        found.probabilities, "probabilities", labels, classes, validation, search.class_weight
    )
    facts = scoring.facts(codes, judged.argmax(axis=1), judged)
    seconds = round(time.perf_counter() - started, 3)
    described = _describe_blend(sources, members, judged, labels, seconds)
    row = Row(**described, **_figures(judged, labels, search))
    mean = np.tensordot(found.weights, probabilities, 1)
    return Entry(row, members, judged, facts, as_logits(mean, "probabilities"))


def _worth_blending(entries: Sequence[Entry], codes: np.ndarray, scoring: Scoring) -> list[Entry]:
    """The rows of heads that are no baselines and beat the largest class."""
    shares = np.bincount(codes) / len(codes)
    majority = np.tile(shares, (len(codes), 1))
    to_beat = scoring.values(
        codes, scoring.facts(codes, np.full(len(codes), shares.argmax()), majority)[None]
    )[0]
    return [
        entry
        for entry in entries
        if not HEADS[entry.row.head].is_baseline and entry.row.cv_score > to_beat
    ]


def _averages_scorer(scoring: Scoring) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def score(codes: np.ndarray, averages: np.ndarray) -> np.ndarray:
        """(candidates,) scores of averaged probabilities (candidates, n, classes)."""
        facts = [scoring.facts(codes, each.argmax(axis=1), each) for each in averages]
        return scoring.values(codes, np.array(facts))

    return score


def make_entry(
    source: RowSource,
    member: Member,
    labels: np.ndarray,
    search: Search,
    seconds: float,
    judged: np.ndarray | None = None,
) -> Entry:
    """The leaderboard row of one head on one source, from its out-of-fold scores.

    judged : their probabilities (n, classes), where they are known.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    if judged is None:
        judged = judged_probabilities(member.oof, member.head, labels, search)
    facts = search.scoring.facts(codes, judged.argmax(axis=1), judged)
    row = _row_of(source, member, labels, search, seconds, judged)
    return Entry(row, [member], judged, facts)


def _row_of(
    source: RowSource,
    member: Member,
    labels: np.ndarray,
    search: Search,
    seconds: float,
    judged: np.ndarray,
    rows: np.ndarray | slice = ALL,
) -> Row:
    """The row of probabilities (n, classes), its figures of all images or of some."""
    taps = source.tap.split("+") if source.tap else []
    members = None
    if len(taps) > 1:
        members = [_describe_member(source, tap, member) for tap in taps]
    codes = np.unique(labels, return_inverse=True)[1]
    return Row(
        backbone=source.backbone,
        view=source.view,
        layer=source.layer,
        pooling=source.pooling,
        dim=source.dim,
        tap=source.tap,
        head=member.head,
        params=member.params,
        members=members,
        cv_log_loss=log_loss(codes[rows], None, judged[rows]),
        seconds=seconds,
        **_figures(judged, labels, search, rows),
    )


def _describe_blend(
    sources: Sequence[RowSource],
    members: Sequence[Member],
    probabilities: np.ndarray,
    labels: np.ndarray,
    seconds: float,
) -> dict:
    """What a blend's row says beside its figures; it has no tap or parameters of its own."""
    used = {member.source: sources[member.source] for member in members}
    codes = np.unique(labels, return_inverse=True)[1]
    return {
        "backbone": "+".join(dict.fromkeys(source.backbone for source in used.values())),
        "view": ",".join(dict.fromkeys(source.view for source in used.values())),
        "layer": None,
        "pooling": None,
        "dim": sum(source.dim for source in used.values()),
        "tap": None,
        "head": BLEND,
        "params": {},
        "members": [
            _describe_member(used[member.source], used[member.source].tap, member)
            for member in members
        ],
        "cv_log_loss": log_loss(codes, None, probabilities),
        "seconds": seconds,
    }


def _describe_member(source: RowSource, tap: str | None, member: Member) -> dict:
    return {
        "tap": tap,
        "backbone": source.backbone,
        "view": source.view,
        "head": member.head,
        "params": member.params,
        "weight": member.weight,
    }


def _figures(
    probabilities: np.ndarray,
    labels: np.ndarray,
    search: Search,
    rows: np.ndarray | slice = ALL,
) -> dict:
    """The figures of a row that do not depend on what it is made of, of all images or of some."""
    scoring = search.scoring
    codes = np.unique(labels, return_inverse=True)[1]
    answers = probabilities.argmax(axis=1)
    right = answers == codes
    low, high = wilson_interval(right[rows].sum(), len(right[rows]))
    by_fold = [right[val].mean() for _, val in search.folds]
    sizes = np.mean([[len(train), len(val)] for train, val in search.folds], axis=0)
    # of one fold there is nothing that varies
    ends = nadeau_bengio_interval(by_fold, *sizes) if len(by_fold) > 1 else (low, high)
    fold_low, fold_high = ends
    codes, facts = codes[rows], scoring.facts(codes[rows], answers[rows], probabilities[rows])
    score_low, score_high = score_interval(facts, scoring, codes)
    return {
        "cv_accuracy": float(right[rows].mean()),
        "cv_low": low,
        "cv_high": high,
        # folds that are all right have no variance
        "cv_fold_low": min(fold_low, low),
        "cv_fold_high": max(fold_high, high),
        "cv_score": float(scoring.values(codes, facts[None])[0]),
        "cv_score_low": score_low,
        "cv_score_high": score_high,
    }
