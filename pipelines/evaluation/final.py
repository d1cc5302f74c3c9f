"""The chosen setting refitted on all labelled images, once its figures are known."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from heads.blended import BlendedHead, Member
from heads.rows import training_rows
from heads.search import fit_head
from pipelines.evaluation.choice import ChosenHead
from pipelines.evaluation.random_views import labels_of


def refit(
    chosen: ChosenHead,
    members: Sequence[Member],
    read: Callable[[int], np.ndarray],
    labels: np.ndarray,
    class_weight: str | None = None,
) -> ChosenHead:
    """The same heads with the same parameters, weights and calibration, fitted on more rows.

    Calibrations stay, as they come of out-of-fold scores, which the added rows have none of.

    chosen : fitted on the training rows. members : of its row. read : a source's features (n, d) of
    all rows, or with random views of the images below.
    """
    if not isinstance(chosen.estimator, BlendedHead):
        (alone,) = members
        estimator, rows = _fit(alone, read(chosen.sources[0]), labels, class_weight)
        return replace(chosen, estimator=estimator, rows=rows)
    fitted = list(chosen.estimator.members)
    for source in chosen.sources:  # one source's features at a time: they may be wide
        features = read(source)
        for i, member in enumerate(fitted):
            if member.source == source:
                estimator, rows = _fit(member, features, labels, class_weight)
                fitted[i] = replace(member, estimator=estimator, rows=rows)
    return replace(chosen, estimator=BlendedHead(fitted))


def _fit(
    member: Member, features: np.ndarray, labels: np.ndarray, class_weight: str | None
) -> tuple[object, np.ndarray | None]:
    """A member's head on these rows -> (fitted, the rows that it keeps)."""
    of_all = labels_of(features, labels)
    head = fit_head(member.head, member.params, features, of_all, class_weight)
    return head, training_rows(head, features)
