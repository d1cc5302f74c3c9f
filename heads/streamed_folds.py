"""Folds of rows that are read in blocks: their moments, Gram matrices and class sums, by passes."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np

from heads.bases import ROUNDING
from heads.blocks import Blocks
from heads.fold_passes import FAR
from heads.reduction import Fold
from heads.streamed_columns import StreamedColumns


class StreamedFold(Fold):
    """A `Fold` whose rows are never in memory together; moments are set by `share_moments`.

    Parameters
    ----------
    blocks : Blocks
    train, others : index arrays of shape (n,) and (m,)

    Attributes
    ----------
    counts : array of shape (n_all,), float64
        How often each row is trained on.
    """

    def __init__(self, blocks: Blocks, train: np.ndarray, others: np.ndarray) -> None:
        super().__init__(cast(np.ndarray, blocks.rows), train, others)
        self.blocks = blocks
        self.counts = np.bincount(train, minlength=blocks.n).astype(np.float64)
        # inner products of all rows are out of reach: heads are solved over columns
        self.refined = True

    @property
    def reduced(self) -> bool:
        return False

    @cached_property
    def columns(self) -> StreamedColumns:
        """All rows by their columns, as `solvers.solve` takes them."""
        return StreamedColumns(self.blocks, self.mean, self.scale, self.counts)

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Fold.spectrum`, of a Gram matrix (d, d) from one pass."""
        values, vectors = np.linalg.eigh(self.weighted_gram(self.counts, np.zeros(self.d)))
        above = values > values.max(initial=0) * ROUNDING
        return values[above], vectors[:, above]

    def weighted_gram(self, weights: np.ndarray, center: np.ndarray) -> np.ndarray:
        """Squares and products (d, d) of the rows less a center, by weights (n_all,)."""
        root = np.sqrt(weights)

        def work(place: slice, rows: np.ndarray) -> np.ndarray:
            own = np.flatnonzero(root[place])
            Z = self.standardise(rows[own]) - center
            Z *= root[place][own, None]
            return Z.T @ Z

        return self.blocks.summed(work, (self.d, self.d))

    def class_means(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Fold.class_means`, from one pass."""
        counts = np.bincount(codes)
        members = np.zeros((len(self.counts), len(counts)))
        np.add.at(members, (self.rows[: self.n], codes), 1)

        def work(place: slice, rows: np.ndarray) -> np.ndarray:
            return members[place].T @ self.standardise(rows)

        total = self.blocks.summed(work, (len(counts), self.d))
        return total / counts[:, None], counts / len(codes)

    def standardise(self, rows: np.ndarray) -> np.ndarray:
        """Rows of a block as the fold's heads see them, float64."""
        B = rows.astype(np.float64)
        B -= self.mean
        B /= self.scale
        return B

    def held_out(self, place: slice) -> tuple[np.ndarray, np.ndarray]:
        """The places among the m held-out rows of those in a block, and theirs in the block."""
        number = self.rows[self.n :]
        among = np.flatnonzero((number >= place.start) & (number < place.stop))
        return among, number[among] - place.start


class _Sums(NamedTuple):
    """By fold: row counts (folds, 1), means and squared deviations summed, (folds, d)."""

    n: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    def joined(self, other: "_Sums") -> "_Sums":
        """Of the rows of both; no digit is lost where blocks differ.

        Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance".
        """
        n = self.n + other.n
        part = other.n / np.maximum(n, 1)
        apart = other.mean - self.mean
        squares = self.squares + other.squares + apart**2 * self.n * part
        return _Sums(n, self.mean + part * apart, squares)


def share_moments(blocks: Blocks, folds: Sequence[StreamedFold]) -> None:
    """Set `moments` of all folds by one pass, and refuse rows that hold no finite numbers.

    Raises
    ------
    ValueError
        A block holds NaN or infinity.
    """
    counts = np.stack([fold.counts for fold in folds])

    def work(place: slice, rows: np.ndarray) -> _Sums:
        if not np.isfinite(rows).all():
            bad = place.start + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise ValueError(
                f"row {bad} of X holds NaN or infinity, expected finite numbers; leave it out"
            )
        own = counts[:, place]
        n = own.sum(axis=1, keepdims=True)
        B = rows.astype(np.float64)
        center = B.mean(axis=0)
        B -= center
        shift = own @ B / np.maximum(n, 1)
        B *= B
        squares = np.maximum(own @ B - n * shift**2, 0)
        return _Sums(n, center + shift, squares)

    total: _Sums | None = None
    for found in blocks.over(work):
        total = found if total is None else total.joined(found)
    assert total is not None
    variances = total.squares / total.n
    for fold, mean, var in zip(folds, total.mean, variances, strict=True):
        fold.moments = mean, var
    _repair_moments(blocks, folds, total.mean.copy())


def _repair_moments(blocks: Blocks, folds: Sequence[StreamedFold], means: np.ndarray) -> None:
    """Take mean and variance anew where a fold is nearly constant and far from the other rows.

    Taken about the blocks' own means they have lost the digits of such a column. One that is zero
    but in rows held out, as the unit of a network may be, would be left with a rounding error for
    its mean, and that for its spread.
    """
    spread = np.abs(means - means[0]).max(axis=0)
    doubtful = [np.flatnonzero(fold.var <= FAR**-2 * spread**2) for fold in folds]
    if not any(map(len, doubtful)):
        return
    for fold, own in zip(folds, doubtful, strict=True):
        fold.mean[own] = 0
    for fold, own, mean in zip(folds, doubtful, _moments(blocks, folds, doubtful, 1), strict=True):
        fold.mean[own] = mean
    for fold, own, var in zip(folds, doubtful, _moments(blocks, folds, doubtful, 2), strict=True):
        fold.var[own] = var


def _moments(
    blocks: Blocks, folds: Sequence[StreamedFold], columns: Sequence[np.ndarray], power: int
) -> list[np.ndarray]:
    """By fold, of some of its columns less their mean the mean power."""

    def work(place: slice, rows: np.ndarray) -> list[np.ndarray]:
        return [
            fold.counts[place] @ (rows[:, own].astype(np.float64) - fold.mean[own]) ** power
            for fold, own in zip(folds, columns, strict=True)
        ]

    totals = [np.zeros(len(own)) for own in columns]
    for found in blocks.over(work):
        for total, part in zip(totals, found, strict=True):
            total += part
    return [total / fold.n for total, fold in zip(totals, folds, strict=True)]
