"""Ways from images to classes on equal terms: joined, chosen by images held back, compared.

Arrays alone: each way is its probabilities of the validation images, which it has not seen, and of
the test images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import binomtest

from heads import as_logits, oof_probabilities
from pipelines.evaluation.comparison import paired_interval, score_interval, tied_with_best
from pipelines.evaluation.differences import judge
from pipelines.evaluation.intervals import LEVEL
from pipelines.evaluation.metrics import log_loss, log_losses, measure
from pipelines.evaluation.scoring import ACCURACY, SCORINGS, Scoring

PARTS = 5  # of the validation images: what is fitted on four of them answers the fifth
SHARES = tuple(step / 10 for step in range(11))  # of the tuned network in what is joined
EQUAL = 0.5


@dataclass(frozen=True)
class Way:
    """A way from images to classes.

    validation : (n_validation, classes) probabilities of images that it has not seen.
    test : (n_test, classes).
    n_networks : that see each image; n_weights : networks among them whose weights it brings;
    n_heads : that are averaged. The fewer, the simpler.
    learnt : whether it may be kept: a training that learnt nothing adds weights and luck alone.
    """

    name: str
    validation: np.ndarray
    test: np.ndarray
    n_networks: int = 1
    n_heads: int = 1
    n_weights: int = 0
    learnt: bool = True

    @property
    def cost(self) -> tuple[int, int, int]:
        """What is simpler comes first."""
        return self.n_networks, self.n_weights, self.n_heads


def parts_of(codes: np.ndarray, groups: np.ndarray | None = None) -> list[np.ndarray]:
    """The rows in parts that have the classes about evenly, a group's rows in one of them.

    codes : (n,) class numbers. groups : (n,); where all are of one group the rows are parted.

    >>> [rows.tolist() for rows in parts_of(np.array([0, 1, 0, 1, 0, 1]))]
    [[0, 5], [2], [4], [1], [3]]
    """
    units = np.arange(len(codes)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if units.max() == 0:  # nothing else would be left to fit on
        units = np.arange(len(codes))
    counts = np.zeros((units.max() + 1, codes.max() + 1), int)
    np.add.at(counts, (units, codes), 1)
    # dealt out in turn: by their commonest class, the large ones first
    order = np.lexsort((-counts.sum(axis=1), counts.argmax(axis=1)))
    part = np.empty(len(order), int)
    part[order] = np.arange(len(order)) % PARTS
    return [np.flatnonzero(part[units] == own) for own in range(min(PARTS, len(order)))]


def calibrated(
    probabilities: np.ndarray,
    codes: np.ndarray,
    n_classes: int,
    class_weight: str | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Probabilities (n, classes) as a calibration makes them that was fitted on other parts."""
    return oof_probabilities(
        as_logits(probabilities, "probabilities"),
        "logits",
        codes,
        np.arange(n_classes),
        parts_of(codes, groups),
        class_weight,
    )


def mixed(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """So much of the second and the rest of the first."""
    return (1 - share) * first + share * second


def choose_share(frozen: np.ndarray, tuned: np.ndarray, codes: np.ndarray) -> float:
    """How much of the tuned network's probabilities (n, classes) to join with the frozen heads'.

    Half, unless another of SHARES has less log loss by more than the standard error of the
    difference, paired by image: few images, by which the epoch was chosen too, would else give all
    of it to one side by luck. (As the one standard error rule of Breiman et al., 1984, with what
    hedges best in the simplest's place.) Of equals it is the first, which has less of it.
    """
    losses = np.array([_losses(mixed(frozen, tuned, share), codes) for share in SHARES])
    best = int(np.round(losses.mean(axis=1), 9).argmin())
    gains = losses[SHARES.index(EQUAL)] - losses[best]
    error = gains.std(ddof=1) / np.sqrt(len(codes)) if len(codes) > 1 else np.inf
    return SHARES[best] if gains.mean() > error else EQUAL


def _losses(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return log_losses(probabilities[np.arange(len(codes)), codes])


def join(
    frozen: np.ndarray,
    tuned: np.ndarray,
    codes: np.ndarray,
    class_weight: str | None = None,
    groups: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """The share of the tuned network, and what is joined as of images that chose no share.

    Each part of the images is joined by the share that the others choose, and calibrated by them.

    frozen, tuned : (n, classes). codes : (n,) class numbers. groups : (n,), as in `parts_of`.
    """
    joined = np.empty_like(frozen)
    for rows in parts_of(codes, groups):
        others = np.setdiff1d(np.arange(len(codes)), rows)
        share = choose_share(frozen[others], tuned[others], codes[others])
        joined[rows] = mixed(frozen[rows], tuned[rows], share)
    shares = calibrated(joined, codes, frozen.shape[1], class_weight, groups)
    return choose_share(frozen, tuned, codes), shares


def scoring_of_ways(scoring: Scoring) -> Scoring:
    """What ways are chosen by: what counts right answers alone is served better by log loss, which
    tells ways apart on the few validation images; any other score is taken as it is."""
    return SCORINGS["neg_log_loss"] if scoring is ACCURACY else scoring


def choose_way(
    ways: Sequence[Way], codes: np.ndarray, scoring: Scoring, how: str = "best", seed: int = 0
) -> tuple[int, np.ndarray]:
    """The place of the way to keep, and which are not beaten beyond chance; no test image counts.

    "best" is what joins networks, where it is there and the best score on the validation images
    does not beat it beyond chance: an average of both sides hangs less on which few images these
    are, as a blend does in `choose_row`; else the way of the best score. "simplest" is the simplest
    of those that the best does not beat beyond chance; of equals the simpler.

    codes : (n_validation,) class numbers.
    """
    own = scoring_of_ways(scoring)
    facts = np.array([_facts(own, way.validation, codes) for way in ways])
    scores = np.round(own.values(codes, facts), 9)
    tied = tied_with_best(facts, own, codes, seed=seed)
    candidates = [i for i, way in enumerate(ways) if way.learnt]
    among = [i for i in candidates if tied[i]] or candidates
    if how == "simplest":
        return min(among, key=lambda i: (ways[i].cost, -scores[i])), tied
    joined = [i for i in among if ways[i].n_weights and ways[i].n_networks > 1]
    return min(joined or candidates, key=lambda i: (-scores[i], ways[i].cost)), tied


def _facts(scoring: Scoring, probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return scoring.facts(codes, probabilities.argmax(axis=1), probabilities)


def describe_way(
    way: Way, validation: np.ndarray, test: np.ndarray, scoring: Scoring, seed: int
) -> dict:
    """A way's figures for results.json.

    validation, test : class numbers of their images. scoring : of the run.
    """
    facts = _facts(scoring, way.validation, validation)
    low, high = score_interval(facts, scoring, validation, seed)
    answers = way.test.argmax(axis=1)
    measured = measure(test, answers, way.test, np.arange(way.test.shape[1]), seed=seed)
    right = way.validation.argmax(axis=1) == validation
    return {
        "name": way.name,
        "n_networks": way.n_networks,
        "n_heads": way.n_heads,
        "validation_score": float(scoring.values(validation, facts[None])[0]),
        "validation_score_low": low,
        "validation_score_high": high,
        "validation_accuracy": float(right.mean()),
        "validation_log_loss": log_loss(validation, None, way.validation),
        "test_metrics": {
            name: {end: None if np.isnan(own) else own for end, own in figure.items()}
            for name, figure in measured.items()
        },
    }


def compare_ways(ways: Sequence[Way], codes: np.ndarray) -> list[dict]:
    """The accuracy of each way on the test images less that of each one before it, by pairs.

    The intervals hold together at 95 % (Bonferroni; Dunn, 1961). p is McNemar's (1947), exact: how
    often as many of the images that one way alone has right would be one way's, were it a coin.

    codes : (n_test,) class numbers.
    """
    right = {way.name: way.test.argmax(axis=1) == codes for way in ways}
    pairs = [(later, earlier) for earlier, later in combinations(right, 2)]
    level = 1 - (1 - LEVEL) / max(len(pairs), 1)
    return [
        {"first": first, "second": second} | compare_pair(right[first], right[second], level)
        for first, second in pairs
    ]


def compare_pair(first: np.ndarray, second: np.ndarray, level: float = LEVEL) -> dict:
    """The accuracy of one way less that of another on the same images.

    first, second : (n,) bool, which answers are right.
    """
    difference = first.astype(float) - second
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    low, high = paired_interval(difference, level)
    return {
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "level": level,
        "verdict": judge(low, high),
        "n_gained": gained,
        "n_lost": lost,
        "p_mcnemar": float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
    }
