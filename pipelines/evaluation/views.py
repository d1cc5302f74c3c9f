"""Which views of the images are worth a pass: a look at some images, in closed form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from joblib import delayed

from heads import screen_probabilities
from heads.blend import choose_weights
from pipelines.evaluation.search import in_parallel

FIRST, LOOK = 100, 150  # training images that a first look is of, and both looks together
WORTH = 0.02  # by what share of the log loss a view must lower it
PROMISING = 0.01  # by what share in the first look, to be looked at in more images
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
    """Some of the rows, of every class its share: `size`, or all where there are no more.

    labels : (n,) of all. rows : those to draw from.
    """
    if len(rows) <= size:
        return rows
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(rows)
    # sorted by class, and every k-th of that: each class comes in proportion
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    places = np.linspace(0, len(by_class) - 1, size).round().astype(int)
    return np.sort(by_class[places])


@dataclass(frozen=True)
class Look:
    """Some images in several views.

    features : number of a source -> its (n, d) rows. views : of each source, as in recipes; the
    first one's is always used. labels : (n,) class names. groups : (n,) what is left out together,
    or None for each image by itself.
    """

    features: Callable[[int], np.ndarray]
    views: Sequence[str]
    labels: np.ndarray
    groups: np.ndarray | None = None


def look_twice(
    see: Callable[[np.ndarray, Sequence[str]], Look],
    further: Sequence[str],
    labels: np.ndarray,
    rows: np.ndarray,
    seed: int,
    n_jobs: int | None = 1,
) -> ViewsChosen:
    """A look at FIRST of the rows, and at LOOK of them in those views that it found promising.

    see : rows and further views -> those images in the first view and these. further : the views
    to choose from. labels : (n,) of all images. rows : those to draw from.
    """
    wide = draw_look(labels, rows, seed)
    narrow = draw_look(labels, wide, seed, FIRST)
    looked = {len(narrow): narrow, len(wide): wide}  # one of them where there are few images
    gains: dict[str, float] = {}
    for own in looked.values():
        least = WORTH if own is wide else PROMISING
        found = choose_views(see(own, further), n_jobs, least)
        gains |= found.gains
        further = [view for view in found.used if view in further]
        if not further:
            break
    return replace(found, gains=gains)


def choose_views(look: Look, n_jobs: int | None = 1, least: float = WORTH) -> ViewsChosen:
    """Add the view that lowers the log loss of a blend most, while it does so by `least` of it.

    Each tap in each view has leave-one-out probabilities by ridge regression (without the image's
    group where there are groups); of the best taps of
    the views in use a blend is made. It saw every label, as each view's does: it compares views,
    and estimates nothing.

    n_jobs : threads.
    """
    labels, views = look.labels, look.views
    codes = np.unique(labels, return_inverse=True)[1]
    shares: dict[str, list[np.ndarray]] = {}
    jobs = (
        delayed(screen_probabilities)(look.features(i), labels, groups=look.groups)
        for i in range(len(views))
    )
    for view, own in zip(views, in_parallel(jobs, n_jobs), strict=True):
        shares.setdefault(view, []).append(own)
    best = {
        view: sorted(own, key=lambda p: log_loss_of(p, codes))[:BEST]
        for view, own in shares.items()
    }
    used = [views[0]]
    loss = _blend_loss(best, used, codes)
    gains: dict[str, float] = {}
    while len(used) < len(best):
        losses = {
            view: _blend_loss(best, [*used, view], codes) for view in best if view not in used
        }
        gains |= {view: float(1 - other / loss) for view, other in losses.items()}
        added = min(losses, key=losses.__getitem__)
        if gains[added] < least:
            break
        used.append(added)
        loss = losses[added]
    return ViewsChosen(tuple(view for view in best if view in used), gains, len(labels))


def _blend_loss(
    best: Mapping[str, Sequence[np.ndarray]], views: Sequence[str], codes: np.ndarray
) -> float:
    return log_loss_of(blend_looks([one for view in views for one in best[view]], codes), codes)


def blend_looks(P: Sequence[np.ndarray], codes: np.ndarray) -> np.ndarray:
    """(n, classes) of the greedy blend of several (n, classes)."""
    every = np.array(P)
    return np.tensordot(choose_weights(every, codes, ROUNDS), every, 1)


def log_loss_of(P: np.ndarray, codes: np.ndarray) -> float:
    """Mean of -ln p of the true class."""
    return float(-np.log(P[np.arange(len(codes)), codes]).mean())
