"""Which views of the images are worth a pass: a first look at some images, in closed form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import delayed

from heads import screen_probabilities
from heads.blend import choose_weights
from pipelines.evaluation.search import in_parallel

LOOK = 200  # training images that a first look is of
WORTH = 0.02  # by what share of the log loss a view must lower it
BEST, ROUNDS = 4, 10  # taps of a view that are blended, and how many times one is added


@dataclass(frozen=True)
class ViewsChosen:
    """Which views are used, and what a first look said of each.

    used : views as in recipes, the first always. gains : by each other view, by what share of the
    log loss it lowered a blend's without it. looked_at : images that this is known of.
    """

    used: tuple[str, ...]
    gains: dict[str, float]
    looked_at: int

    @property
    def left_out(self) -> dict[str, float]:
        """The views that are not used, with their gains."""
        return {view: gain for view, gain in self.gains.items() if view not in self.used}


def draw_look(labels: np.ndarray, rows: np.ndarray, seed: int, size: int = LOOK) -> np.ndarray:
    """Some of the rows, of every class its share: about `size`, or all where there are few more.

    labels : (n,) of all. rows : those to draw from.
    """
    if len(rows) <= 1.25 * size:
        return rows
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(rows)
    # sorted by class, and every k-th of that: each class comes in proportion
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    places = np.linspace(0, len(by_class) - 1, size).round().astype(int)
    return np.sort(by_class[places])


def choose_views(
    features: Callable[[int], np.ndarray],
    views: Sequence[str],
    labels: np.ndarray,
    n_jobs: int | None = 1,
) -> ViewsChosen:
    """Add the view that lowers the log loss of a blend most, while it does so by WORTH of it.

    Each tap in each view has leave-one-out probabilities by ridge regression; of the best taps of
    the views in use a blend is made. It saw every label, as each view's does: it compares views,
    and estimates nothing.

    features : number of a source -> its (n, d) rows of the look. views : of each source; the first
    one's is always used. labels : (n,) class names. n_jobs : threads.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    shares: dict[str, list[np.ndarray]] = {}
    jobs = (delayed(screen_probabilities)(features(i), labels) for i in range(len(views)))
    for view, own in zip(views, in_parallel(jobs, n_jobs), strict=True):
        shares.setdefault(view, []).append(own)
    best = {view: sorted(own, key=lambda p: _loss(p, codes))[:BEST] for view, own in shares.items()}
    used = [views[0]]
    loss = _blend_loss(best, used, codes)
    gains: dict[str, float] = {}
    while len(used) < len(best):
        losses = {
            view: _blend_loss(best, [*used, view], codes) for view in best if view not in used
        }
        gains |= {view: float(1 - other / loss) for view, other in losses.items()}
        added = min(losses, key=losses.__getitem__)
        if gains[added] < WORTH:
            break
        used.append(added)
        loss = losses[added]
    return ViewsChosen(tuple(view for view in best if view in used), gains, len(labels))


def _blend_loss(
    best: Mapping[str, Sequence[np.ndarray]], views: Sequence[str], codes: np.ndarray
) -> float:
    P = np.array([one for view in views for one in best[view]])
    return _loss(np.tensordot(choose_weights(P, codes, ROUNDS), P, 1), codes)


def _loss(P: np.ndarray, codes: np.ndarray) -> float:
    return float(-np.log(P[np.arange(len(codes)), codes]).mean())
