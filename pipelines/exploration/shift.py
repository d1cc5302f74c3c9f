"""Whether two sets of images differ, and which classes: by what is learnt to tell them apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

LEVEL = 0.95
HALVES = 2  # each is told apart by what was learnt of the other
FEWEST = 5  # images of either set, of a class that is told apart at all


@dataclass(frozen=True)
class Apart:
    """How well images of two sets are told apart.

    Attributes
    ----------
    value : float
        Probability that a drawn image of the second set looks more like the second than a drawn one
        of the first does (the area under the ROC curve): 0.5 by chance, 1 for all.
    low, high : float
        Its interval.
    n_first, n_second : int
    """

    value: float
    low: float
    high: float
    n_first: int
    n_second: int

    @property
    def differs(self) -> bool:
        """Whether they are told apart beyond chance."""
        return self.low > 0.5


@dataclass(frozen=True)
class Shift:
    """How far two sets of images lie apart.

    Attributes
    ----------
    whole : Apart
        Of all images, at 95 %.
    classes : dict of str to Apart
        Of the images that are predicted alike, the farthest apart first, at 95 % all together; of
        classes with five images or more in either set.
    shares : dict of str to (float, float)
        Share of the class in the first set and in the second, by what is predicted.
    """

    whole: Apart
    classes: dict[str, Apart]
    shares: dict[str, tuple[float, float]]

    @property
    def moved(self) -> list[str]:
        """The classes whose images are told apart beyond chance, where all images are."""
        return [name for name, own in self.classes.items() if self.whole.differs and own.differs]


def find_shift(
    first: np.ndarray,
    second: np.ndarray,
    predicted: tuple[Sequence[str], Sequence[str]] | None = None,
    seed: int = 0,
) -> Shift:
    """Test whether two sets of images are of one kind.

    A linear classifier learns to tell one half of both from each other and is asked about the other
    half, and the other way round: of two sets of one kind it can't do better than chance [1]_. The
    interval is Newcombe's [2]_, which has some width where all are told apart. Copies of an image
    on both sides are to be taken out before: they make sets look alike.

    Parameters
    ----------
    first, second : arrays of shape (n, d) and (m, d)
        Features, such as the averaged last layer; ten rows or more each.
    predicted : pair of sequences of n and m str, or None
        Classes by a classifier that has not seen either: of labelled images out of fold. Labels of
        the one and predictions of the other would differ by the classifier's errors alone.
    seed : int
        Of the halves.

    Returns
    -------
    Shift

    Raises
    ------
    ValueError
        Fewer than ten rows, or rows of two widths.

    References
    ----------
    .. [1] Lopez-Paz & Oquab (2017), "Revisiting classifier two-sample tests".
    .. [2] Newcombe (2006), "Confidence intervals for an effect size measure based on the
       Mann-Whitney statistic", part 2, method 5.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(300, 8))
    >>> find_shift(rows[:150], rows[150:]).whole.differs
    False
    >>> find_shift(rows[:150], rows[150:] + 1).whole.differs
    True
    """
    for rows in (first, second):
        if rows.ndim != 2 or rows.shape[1] != first.shape[1] or len(rows) < 2 * FEWEST:
            raise ValueError(
                f"features of shapes {first.shape} and {second.shape}: "
                f"expected (n, d) and (m, d), {2 * FEWEST} rows or more each"
            )
    n, m = len(first), len(second)
    is_second = np.arange(n + m) >= n
    halves = _halves(n, m, seed)
    scores = _scores(np.concatenate([first, second]).astype(np.float64), is_second, halves)
    whole = _apart(scores, is_second, halves, LEVEL)
    if predicted is None:
        return Shift(whole, {}, {})
    named = np.concatenate([np.asarray(own, object) for own in predicted])
    found = {str(name): named == name for name in np.unique(named.astype(str))}
    shares = {name: (float(own[:n].mean()), float(own[n:].mean())) for name, own in found.items()}
    enough = {
        name: own for name, own in found.items() if min(own[:n].sum(), own[n:].sum()) >= FEWEST
    }
    # each at a level at which all hold together (Bonferroni)
    level = 1 - (1 - LEVEL) / max(1, len(enough))
    classes = {
        name: _apart(scores[own], is_second[own], halves[own], level)
        for name, own in enough.items()
    }
    farthest = sorted(classes, key=lambda name: (-classes[name].low, name))
    return Shift(whole, {name: classes[name] for name in farthest}, shares)


def _halves(n: int, m: int, seed: int) -> np.ndarray:
    """0 or 1 for each row, as many of either set."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.permutation(np.arange(size) % HALVES) for size in (n, m)])


def _scores(rows: np.ndarray, is_second: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """How much each row looks like the second set, by what was learnt of the other half."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    scores = np.empty(len(rows))
    for half in range(HALVES):
        asked = halves == half
        scaler = StandardScaler().fit(rows[~asked])
        second = is_second[~asked]
        # both sets weigh the same, however large
        weights = np.where(second, 0.5 / second.mean(), 0.5 / (~second).mean())
        # more shrunk than a head would be: of so many features most tell nothing
        model = Ridge(alpha=rows.shape[1])
        model.fit(scaler.transform(rows[~asked]), np.where(second, 1.0, -1.0), weights)
        scores[asked] = model.predict(scaler.transform(rows[asked]))
    return scores


def _apart(scores: np.ndarray, is_second: np.ndarray, halves: np.ndarray, level: float) -> Apart:
    """Of pairs within a half: scores of two halves are of two classifiers."""
    above, pairs = 0.0, 0
    for half in range(HALVES):
        own, second = scores[halves == half], is_second[halves == half]
        m, n = int(second.sum()), int((~second).sum())
        # the ranks of the second's, less those among themselves (Mann & Whitney, 1947)
        above += float(rankdata(own)[second].sum()) - m * (m + 1) / 2
        pairs += m * n
    n_first, n_second = int((~is_second).sum()), int(is_second.sum())
    value = above / pairs if pairs else 0.5
    # both halves say the same: what is learnt of one tells the other apart as far as the mean
    # differences of the two agree, whichever comes first. So it is one half's spread
    interval = _interval(value, n_first / HALVES, n_second / HALVES, level)
    return Apart(value, *interval, n_first, n_second)


def _interval(value: float, n: float, m: float, level: float) -> tuple[float, float]:
    """The areas whose own spread would reach as far as this value."""
    z, mean = norm.ppf((1 + level) / 2), (n + m) / 2 - 1

    def beyond(area: float) -> float:
        # Hanley & McNeil (1982), with the mean of both sizes
        spread = area * (1 - area) * (1 + mean * ((1 - area) / (2 - area) + area / (1 + area)))
        return (value - area) ** 2 - z * z * spread / (n * m)

    tiny = 1e-12
    low = 0.0 if value < tiny else brentq(beyond, 0.0, value - tiny) if beyond(0.0) > 0 else 0.0
    high = 1.0 if beyond(1.0) <= 0 else brentq(beyond, value + tiny, 1.0)
    return float(low), float(high)
