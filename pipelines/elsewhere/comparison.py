"""Several embeddings of the same things, compared by the leaderboard of a run."""

from collections.abc import Sequence

import numpy as np

from data import DataError, folds
from pipelines.elsewhere.embeddings import Embeddings
from pipelines.evaluation.leaderboard import Leaderboard, make_leaderboard
from pipelines.evaluation.search import Search
from pipelines.features import Source

HEADS_COMPARED = ("logistic", "linear_svm", "knn")


def compare_embeddings(
    tables: Sequence[Embeddings],
    heads: Sequence[str] = HEADS_COMPARED,
    *,
    groups: Sequence | np.ndarray | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> Leaderboard:
    """Cross-validate heads on one or more embeddings over the same folds, as a run does its layers.

    Parameters
    ----------
    tables : sequence of Embeddings
        Of the same things: rows are matched by their names. Labels are the first one's; rows
        without one take no part.
    heads : sequence of str
        Names of `HEADS`.
    groups : array of shape (n,), optional
        Names of what stays on one side of a fold, for each row of the first table.
    n_folds : int
    seed : int
        Of the folds, and of what the intervals draw.

    Returns
    -------
    Leaderboard
        Its rows have `cv_accuracy` with Wilson's interval at 95 %; `corrected` is the best score
        with the luck of the choice taken out.

    Raises
    ------
    DataError
        No tables, or what is none; no heads, labels or groups, other names in one of the tables,
        or too few of a class for the folds.
    ValueError
        There is no such head.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["a", "b"], 20)
    >>> noise = rng.normal(size=(40, 3))
    >>> made = {"noise": noise, "apart": noise + 3 * (labels == "b")[:, None]}
    >>> tables = [Embeddings(X, range(40), labels, "made", name) for name, X in made.items()]
    >>> compare_embeddings(tables, ["ridge", "centroid"]).rows[0].layer
    'apart'
    """
    _check_call(tables, heads)
    first = tables[0]
    labelled = first.labelled
    assert labelled.labels is not None
    assert first.labels is not None
    if groups is not None:
        if len(groups) != len(first):
            raise DataError(
                f"{len(groups)} groups came for {len(first)} rows of {first.source}: expected one "
                "for each"
            )
        groups = np.asarray(groups)[first.labels != ""]
    rows = [_rows_of(table, labelled) for table in tables]
    sources = [_source(table) for table in tables]
    search = Search(heads, folds(labelled.labels, n_folds, groups, seed), seed=seed)
    return make_leaderboard(
        lambda number: tables[number].features[rows[number]], sources, labelled.labels, search
    )


def _check_call(tables: Sequence[Embeddings], heads: Sequence[str]) -> None:
    if isinstance(tables, Embeddings):
        raise DataError("a table came alone: expected a list of them, such as [table]")
    if not len(tables):
        raise DataError("no embeddings came: expected one table or more to compare")
    odd = next((table for table in tables if not isinstance(table, Embeddings)), None)
    if odd is not None:
        raise DataError(
            f"{type(odd).__name__} came among the tables: expected Embeddings, as read_embeddings "
            "gives them"
        )
    if isinstance(heads, str) or not len(heads):
        raise DataError(f"heads={heads!r}: expected a list of names, such as {[*HEADS_COMPARED]}")


def _rows_of(table: Embeddings, wanted: Embeddings) -> np.ndarray:
    """The rows of a table in the order of another's names."""
    at = {name: row for row, name in enumerate(table.names)}
    lacking = [name for name in wanted.names if name not in at]
    if lacking:
        raise DataError(
            f"{table.source} lacks {len(lacking)} of the {len(wanted)} labelled rows of "
            f"{wanted.source}, first {lacking[0]!r}: expected embeddings of the same things"
        )
    return np.array([at[name] for name in wanted.names])


def _source(table: Embeddings) -> Source:
    tap = table.tap
    return Source(table.source, tap.layer, tap.pooling, table.features.shape[1])
