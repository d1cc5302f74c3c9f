"""What a search found on all folds, as `cv_results_` and `oof_scores_` hold it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from heads.catalog import find_head
from heads.validation import Task, Validated


def tabulate(task: Task, found: Sequence[Sequence[Validated]]) -> dict[str, Any]:
    """`cv_results_` as GridSearchCV lays it out; `found` is [fold][candidate]."""
    table: dict[str, Any] = {"params": task.settings}
    for key in ("fit_time", "score_time", "test_score"):
        values = np.array([[getattr(each, key) for each in of_fold] for of_fold in found])
        table[f"mean_{key}"] = values.mean(axis=0)
        table[f"std_{key}"] = values.std(axis=0)
        if key == "test_score":
            table |= {f"split{i}_{key}": of_fold for i, of_fold in enumerate(values)}
    certificates = [[each.certificate for each in of_fold] for of_fold in found]
    table["certificate"] = np.max(certificates, axis=0)
    ranks = rankdata(-comparable(table["mean_test_score"]), method="min")
    table["rank_test_score"] = ranks.astype(np.int32)
    return table | _parameter_columns(task.settings)


def _parameter_columns(settings: Sequence[dict[str, Any]]) -> dict[str, np.ma.MaskedArray]:
    """`param_…`: the values of each parameter, masked for the candidates that do not set it."""
    columns: dict[str, np.ma.MaskedArray] = {}
    for place, setting in enumerate(settings):
        for key, value in setting.items():
            name = f"param_{key}"
            if name not in columns:
                columns[name] = np.ma.masked_all(len(settings), dtype=object)
            columns[name][place] = value
    return columns


def comparable(means: np.ndarray) -> np.ndarray:
    """Mean scores for ranking: last bits dropped, failures last."""
    return np.where(np.isnan(means), -np.inf, np.round(means, 12))


def out_of_fold(
    task: Task, found: Sequence[Sequence[Validated]], classes: np.ndarray
) -> np.ndarray:
    """(candidates, n, classes): each row's mean over the folds that left it out, NaN where none."""
    total = np.zeros((len(task.candidates), len(task.y), len(classes)))
    times = np.zeros(len(task.y))
    kinds = [find_head(candidate.head).scores for candidate in task.candidates]
    for of_fold, (_, val) in zip(found, task.splits, strict=True):
        times[val] += 1
        for place, each in enumerate(of_fold):
            total[place, val] += _in_columns(each, classes, kinds[place])
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is wanted
        return np.where(times[:, None] > 0, total / times[:, None], np.nan)


def _in_columns(each: Validated, classes: np.ndarray, kind: str) -> np.ndarray:
    """Scores in the columns of all classes; those that the training rows lacked come last."""
    if len(each.classes) == len(classes):
        return each.scores
    lowest = 0.0 if kind == "probabilities" else each.scores.min(axis=1, keepdims=True) - 1
    full = np.zeros((len(each.scores), len(classes))) + lowest
    full[:, np.isin(classes, each.classes)] = each.scores
    return full
