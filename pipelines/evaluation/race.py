"""A race of all settings of all sources: who is beaten after the first fold goes no further."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from heads.racing import beaten, grids_of
from pipelines.evaluation.scoring import ACCURACY
from pipelines.evaluation.search import (
    BestSetting,
    HeadsSearched,
    Search,
    Tried,
    judge_settings,
    plain_params,
    try_settings,
)

# with fewer folds the first is too much of all to be looked at alone
FEWEST_FOLDS = 3
# scores of a source's settings are kept for the folds to come up to so many values, 32 MB; of more
# (many classes) those that go on see the first fold again
MOST_SCORES = 1 << 22


@dataclass(frozen=True)
class FirstFold:
    """A head's settings on a source after the first fold; m rows are left out of it.

    params : of each setting, without the head. right : (settings, m) which rows it has right.
    scores : (settings, m, classes), or None where they are too many.
    best_scores : (m, classes) of the setting with most rows right, of equals the first.
    seconds : (settings,)
    """

    params: list[dict]
    right: np.ndarray
    scores: np.ndarray | None
    best_scores: np.ndarray
    seconds: np.ndarray

    @property
    def best(self) -> int:
        """The setting with most rows right."""
        return int(self.right.sum(axis=1).argmax())

    def some(self, settings: Sequence[int]) -> "FirstFold":
        """Of some of the settings."""
        return replace(
            self,
            params=[self.params[i] for i in settings],
            right=self.right[settings],
            scores=None if self.scores is None else self.scores[settings],
            seconds=self.seconds[settings],
        )


def races(search: Search) -> bool:
    """Whether settings are stopped: the sign test is one of right answers, so of accuracy alone."""
    return search.raced and search.scoring is ACCURACY and len(search.folds) >= FEWEST_FOLDS


def try_first_fold(X: np.ndarray, labels: np.ndarray, search: Search) -> dict[str, FirstFold]:
    """All settings of each head on features (n, d), on the first fold."""
    codes = np.unique(labels, return_inverse=True)[1]
    seen = search.folds[0][1]
    tried = try_settings(X, labels, replace(search, folds=search.folds[:1]))
    n_classes = tried.scores.shape[2]
    # of all heads or of none: where those of one are lacking, the first fold is seen again by all
    is_kept = len(tried.params) * len(seen) * n_classes <= MOST_SCORES
    found = {}
    for head in search.heads:
        own = np.flatnonzero(tried.heads == head)
        if not len(own):
            continue
        scores = tried.scores[own][:, seen]
        right = scores.argmax(axis=2) == codes[seen]
        found[head] = FirstFold(
            [plain_params(tried.params[i]) for i in own],
            right,
            scores if is_kept else None,
            scores[right.sum(axis=1).argmax()],
            tried.seconds[own],
        )
    return found


def settings_left(
    firsts: Sequence[Mapping[str, FirstFold]], groups: Sequence[str]
) -> list[dict[str, list[int]]]:
    """By source and head, the settings that the best of all has not beaten beyond chance.

    Where none of a head, or of a group of sources, is left, its best row goes on, with all that the
    row's own best has not beaten: layers are compared with one another, and heads, and what is
    compared is the best of each over all folds.

    groups : by source, such as its layer.
    """
    rows = [(i, head) for i, own in enumerate(firsts) for head in own]
    right = np.concatenate([firsts[i][head].right for i, head in rows])
    stopped = beaten(right, int(right.sum(axis=1).argmax()))
    ends = np.cumsum([len(firsts[i][head].right) for i, head in rows])
    left = [np.flatnonzero(~own).tolist() for own in np.split(stopped, ends[:-1])]
    n_right = [int(firsts[i][head].right.sum(axis=1).max()) for i, head in rows]
    for kinds in ([groups[i] for i, _ in rows], [head for _, head in rows]):
        for kind in dict.fromkeys(kinds):
            own = [place for place, other in enumerate(kinds) if other == kind]
            if not any(left[place] for place in own):
                best = max(own, key=lambda place: (n_right[place], -place))
                i, head = rows[best]
                own_right = firsts[i][head].right
                left[best] = np.flatnonzero(~beaten(own_right, firsts[i][head].best)).tolist()
    found: list[dict[str, list[int]]] = [{} for _ in firsts]
    for (i, head), settings in zip(rows, left, strict=True):
        found[i][head] = settings
    return found


def try_other_folds(
    X: np.ndarray, labels: np.ndarray, search: Search, firsts: Mapping[str, FirstFold]
) -> HeadsSearched:
    """The settings that are left on the other folds, and the best of each head over all."""
    settings = [{"head": head, **own} for head in firsts for own in firsts[head].params]
    known = all(own.scores is not None for own in firsts.values())
    folds = search.folds[1:] if known else search.folds
    tried = try_settings(X, labels, replace(search, heads=grids_of(settings), folds=folds))
    seen = search.folds[0][1]
    seconds = tried.seconds.copy()
    for place, params in enumerate(tried.params):
        first = firsts[params["head"]]
        before = first.params.index(plain_params(params))
        seconds[place] += first.seconds[before]
        if known and first.scores is not None:
            tried.scores[place][seen] = first.scores[before]
    search = replace(search, heads=list(firsts))
    return judge_settings(Tried(tried.params, tried.scores, seconds), labels, search)


def stopped_setting(first: FirstFold, labels: np.ndarray, search: Search) -> BestSetting:
    """The best setting of a head none of which went on: it knows the first fold's rows alone."""
    n_classes, seen = len(np.unique(labels)), search.folds[0][1]
    oof = np.full((len(labels), n_classes), np.nan)
    oof[seen] = first.best_scores
    facts = np.zeros(len(labels), bool)
    facts[seen] = first.right[first.best]
    return BestSetting(
        first.params[first.best],
        oof,
        facts,
        float(first.seconds.sum()),
        n_stopped=len(first.params),
        is_stopped=True,
    )
