"""A race of candidates: those beaten beyond chance after some folds are searched no further."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

# the chance at which a candidate as good as a leader that was named before is stopped
CHANCE = 0.01


def beaten(right: np.ndarray, leader: int, chance: float = CHANCE) -> np.ndarray:
    """Which candidates the leader has beaten beyond chance on the rows seen so far.

    By the exact sign test (McNemar's): of the rows that one of both has right and the other wrong,
    a candidate as good as the leader has at least half, but for chance. Nothing is corrected for
    the leader being the luckiest of many: of hundreds that are equally good a third may be stopped,
    and what is left is as good.

    Parameters
    ----------
    right : array of shape (candidates, rows), bool
        Which rows each candidate has right, all on the same rows.
    leader : int
        The candidate that is best so far.
    chance : float
        Of stopping a candidate that is as good.

    Returns
    -------
    array of shape (candidates,), bool
        The leader itself is never among them.

    Raises
    ------
    ValueError
        No rows.

    Examples
    --------
    >>> right = np.zeros((3, 40), dtype=bool)
    >>> right[0], right[1, 2:], right[2, 10:] = True, True, True
    >>> beaten(right, 0).tolist()
    [False, False, True]
    """
    if not right.shape[1]:
        raise ValueError("there are no rows to compare candidates on, expected one or more")
    ahead = np.count_nonzero(right[leader] & ~right, axis=1)
    behind = np.count_nonzero(~right[leader] & right, axis=1)
    # of so many rows that differ, at least `ahead` in the leader's favour where each is a toss
    return (ahead > behind) & (binom.sf(ahead - 1, ahead + behind, 0.5) < chance)


def grids_of(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, list]]]:
    """The grids by which `HeadSearchCV` tries these settings and no others, in their order.

    Parameters
    ----------
    settings : sequence of dict
        As `cv_results_["params"]` has them.

    Returns
    -------
    dict of str to list of dict

    Examples
    --------
    >>> grids_of([{"head": "ridge", "ridgeclassifier__alpha": 1.0}, {"head": "centroid"}])
    {'ridge': [{'ridgeclassifier__alpha': [1.0]}], 'centroid': [{}]}
    """
    grids: dict[str, list[dict[str, list]]] = {}
    for setting in settings:
        own = {key: [value] for key, value in setting.items() if key != "head"}
        grids.setdefault(setting["head"], []).append(own)
    return grids
