"""Which networks are worth a pass: what each knows of some training images, in closed form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from joblib import delayed

from heads import screen_probabilities
from pipelines.evaluation.comparison import difference_interval
from pipelines.evaluation.scoring import SCORINGS
from pipelines.evaluation.search import in_parallel
from pipelines.evaluation.views import BEST, blend_looks, log_loss_of

DRAWN = 300  # training images that networks are compared on
MOST = 3  # networks that are taken
WORTH = 0.02  # by what share of the log loss a further network must lower it
# why a network is taken, or not
BEST_ONE, GAIN, NO_GAIN = "best", "gain", "no gain"
TOO_LONG, ENOUGH, UNUSABLE = "time", "enough", "unusable"


@dataclass(frozen=True)
class NetworkTried:
    """What is known of a network before the search.

    name, weights : as of its backbone.
    images : training images that were looked at; 0 where not even that fits into the time, or where
        it can't be used.
    log_loss : leave-one-out, of a blend of its best taps. difference, low, high : the same less
        that of the best network here, and its interval at 95 %, paired by image.
    gain : by what share it lowers the log loss of the networks taken before it.
    images_per_second, seconds : of a pass over all images; None where the store has all of it, and
        how fast it was is not known.
    taken : whether it goes into the search. why : "best", "gain", or why not: "no gain", "time",
        "enough", "unusable". problem : of one that can't be used.
    """

    name: str
    weights: str
    images: int = 0
    log_loss: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    gain: float | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    taken: bool = False
    why: str = ""
    problem: str | None = None


def look_at(
    features: Callable[[int], np.ndarray],
    n_sources: int,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    n_jobs: int | None = 1,
) -> np.ndarray:
    """(BEST or fewer, n, classes) leave-one-out probabilities of a network's best taps.

    Of a ridge regression in closed form; a row's group is left out with it. They saw every label
    but the row's own in choosing penalty and taps: they compare networks, and estimate nothing.

    features : number of a source -> its (n, d) rows.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    jobs = (
        delayed(screen_probabilities)(features(i), labels, groups=groups) for i in range(n_sources)
    )
    return np.array(
        sorted(in_parallel(jobs, n_jobs), key=lambda own: log_loss_of(own, codes))[:BEST]
    )


def choose_networks(
    tried: Sequence[NetworkTried],
    looks: Mapping[str, np.ndarray],
    labels: np.ndarray,
    within: float,
    passed: str,
    seed: int = 0,
) -> list[NetworkTried]:
    """The best network whose pass fits into the time, and those that add to it -> all, judged.

    A further one is taken while it lowers the log loss of a blend of the best taps of those taken
    by WORTH of it, the passes of all fit, and there are no more than MOST.

    tried : each with its seconds. looks : by name, as of `look_at`, of those looked at.
    labels : (n,) of the images looked at. within : seconds of all passes together. passed : the
    network whose pass is done, and takes no more time; it was looked at.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    usable = [own for own in tried if own.problem is None]
    seconds = {own.name: own.seconds or 0.0 for own in usable} | {passed: 0.0}

    def loss_with(names: Sequence[str]) -> float:
        P = [one for name in names for one in looks[name]]
        return log_loss_of(blend_looks(P, codes), codes)

    fitting = [name for name in looks if seconds[name] <= within]
    taken = [min(fitting, key=lambda name: loss_with([name]))]
    loss, left = loss_with(taken), within - seconds[taken[0]]
    gains: dict[str, float] = {}
    while True:
        further = {name: loss_with([*taken, name]) for name in looks if name not in taken}
        gains |= {name: float(1 - other / loss) for name, other in further.items()}
        worthy = [name for name in further if gains[name] >= WORTH and seconds[name] <= left]
        if not worthy or len(taken) == MOST:
            break
        taken.append(min(worthy, key=further.__getitem__))
        loss, left = further[taken[-1]], left - seconds[taken[-1]]
    judged = [_judge(own, taken, gains, seconds.get(own.name, 0) <= left) for own in tried]
    return _compare(judged, looks, codes, seed)


def _judge(
    own: NetworkTried, taken: Sequence[str], gains: Mapping[str, float], fits: bool
) -> NetworkTried:
    """With whether it is taken, and why."""
    if own.problem is not None:
        return replace(own, why=UNUSABLE)
    if own.name in taken:
        why = GAIN if own.name in gains else BEST_ONE
    elif own.name in gains and gains[own.name] < WORTH:
        why = NO_GAIN
    else:
        why = ENOUGH if fits and own.name in gains else TOO_LONG
    return replace(own, taken=own.name in taken, why=why, gain=gains.get(own.name))


def _compare(
    tried: Sequence[NetworkTried], looks: Mapping[str, np.ndarray], codes: np.ndarray, seed: int
) -> list[NetworkTried]:
    """With the log loss of each, and what it is above that of the best."""
    scoring = SCORINGS["neg_log_loss"]
    facts = {
        name: scoring.facts(codes, None, blend_looks(list(own), codes))
        for name, own in looks.items()
    }
    best = max(facts, key=lambda name: facts[name].mean())
    found = []
    for own in tried:
        if own.name in facts and own.problem is None:
            own = replace(own, images=len(codes), log_loss=float(-facts[own.name].mean()))
            if own.name != best:
                pair = np.array([facts[best], facts[own.name]])
                difference, low, high = difference_interval(pair, scoring, codes, seed)
                own = replace(own, difference=difference, low=low, high=high)
        found.append(own)
    return found
