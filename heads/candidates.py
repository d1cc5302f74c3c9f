"""What a search tries: each head with each setting of its grid, in a fixed order."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import ParameterGrid

from heads.catalog import Head, find_head, make_head
from heads.fold_scores import FOLD_SCORERS, known_parameters


class Candidate(NamedTuple):
    """A head with one setting of its parameters.

    params : what its pipeline sets, class weights included.
    values : its parameters as the shared work takes them; None where scikit-learn has to fit it.
    """

    head: str
    params: dict[str, Any]
    values: dict[str, Any] | None

    def pipeline(self) -> Any:
        """Its unfitted pipeline, made when it is needed: that takes longer than a small fold."""
        return make_head(self.head, **self.params)


def list_settings(
    heads: Sequence[str] | Mapping[str, Any], X: Any, n_train: int
) -> list[dict[str, Any]]:
    """Settings like {"head": "logistic", "logisticregression__C": 0.1}, in their fixed order.

    Those that ask for more rows than `n_train`, the smallest training fold, are left out.
    """
    found = []
    for name in heads:
        head = find_head(name)
        grid = heads[name] if isinstance(heads, Mapping) else _own_grid(head, X)
        for params in ParameterGrid(grid):
            if _asks_for(head, params) <= n_train:
                found.append({"head": name, **params})
    if not found:
        raise ValueError(
            f"heads {heads!r} give no candidate; name at least one of the catalogue's heads"
        )
    return found


def _asks_for(head: Head, params: Mapping[str, Any]) -> float:
    """The number of training rows that these parameters ask for."""
    values = [params.get(head.prefix + name) for name in head.bounded_by_rows]
    return max((float(value) for value in values if isinstance(value, Real)), default=1)


def _own_grid(head: Head, X: Any) -> dict[str, list]:
    """The grid of the catalogue by the pipeline's names, what is per feature divided by them."""
    grid = {head.prefix + key: list(values) for key, values in head.grid.items()}
    # rows that are read in blocks have no such head
    if head.per_feature and isinstance(X, np.ndarray):
        varying = max(int(np.count_nonzero(X.max(axis=0) > X.min(axis=0))), 1)
        for key in head.per_feature:
            values = grid[head.prefix + key]
            grid[head.prefix + key] = [_per_feature(value, varying) for value in values]
    return grid


def _per_feature(value: Any, varying: int) -> Any:
    # three digits, so that a setting can be read and typed again; "scale" is per feature already
    return float(f"{value / varying:.3g}") if isinstance(value, Real) else value


def make_candidates(
    settings: Sequence[Mapping[str, Any]], class_weight: Any = None
) -> list[Candidate]:
    """The candidates of settings, with class weights for the heads that take them."""
    made = []
    defaults: dict[str, dict] = {}
    for setting in settings:
        name = setting["head"]
        head = find_head(name)
        params = {key: value for key, value in setting.items() if key != "head"}
        weights = {head.prefix + "class_weight": class_weight} if head.weighted else {}
        values = None
        if name in FOLD_SCORERS:
            if name not in defaults:
                defaults[name] = head.make_classifier().get_params()
            plain = {key.removeprefix(head.prefix): value for key, value in params.items()}
            values = known_parameters(name, defaults[name], plain)
        made.append(Candidate(name, weights | params, values))
    return made
