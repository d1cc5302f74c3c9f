"""Samples: the images of a run in order, with their labels, groups and split."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data.names import counted

SPLITS = ("train", "test")
NOT_USED = "not used: "  # begins a note on what a source holds that is no part of its samples


class DataError(ValueError):
    """Images, labels or splits that can't be used.

    Its message is one line that says what came, what was expected and what to do.
    """


class PixelRows(Sequence):
    """Some rows of a sequence of images, in a given order, each fetched when it is asked for."""

    images: Sequence | np.ndarray
    rows: np.ndarray

    def __init__(self, images: Sequence | np.ndarray, rows: np.ndarray) -> None:
        # rows of rows are looked up here, so that slices of slices stay one step from the images
        if isinstance(images, PixelRows):
            self.images = images.images
            self.rows = images.rows[rows]
        else:
            self.images = images
            self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return PixelRows(self.images, self.rows[index])
        return self.images[int(self.rows[operator.index(index)])]


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """Images in a fixed order, n of them, with what is known of each.

    `samples[rows]` with a slice, indices or a boolean mask is again Samples.

    Parameters
    ----------
    paths : sequence of n str
        File names, or names such as "digits/0001" where `pixels` holds the images.
    labels : ndarray of shape (n,), str, optional
        Class names; None where nothing is labelled.
    classes : tuple of str, optional
        All class names, sorted; by default those of `labels`. A slice has those of the whole.
    groups : ndarray of shape (n,), str, optional
        Names of what belongs together (a patient, a burst of photos).
    split : ndarray of shape (n,), str, optional
        "train" or "test"; None where no split was given.
    train_only : ndarray of shape (n,), bool, optional
        Images that are never held out, such as those picked for being hard; None where all may be.
    pixels : sequence of n images, optional
        For sets that are not files: uint8 arrays (h, w, 3) or PIL images, maybe lazy.
    name : str, default="images"
        What the set is called in reports.
    passed_over : mapping of str to int, optional
        How many entries were not taken, by reason; empty in a slice.
    problems : tuple of (path, reason), optional
        Entries that were meant as images and can't be; empty in a slice.
    notes : tuple of str, optional
        How the images were read where that was not plain, a sentence each; empty in a slice.

    Raises
    ------
    DataError
        Where the fields don't fit together.

    Examples
    --------
    >>> samples = Samples(("a.jpg", "b.jpg", "c.jpg"), labels=["cat", "dog", "cat"], name="pets")
    >>> samples
    Samples('pets': 3 images, 2 classes)
    >>> samples[samples.labels == "cat"].paths
    ('a.jpg', 'c.jpg')
    """

    paths: tuple[str, ...]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    split: np.ndarray | None = None
    pixels: Sequence | np.ndarray | None = None
    name: str = "images"
    passed_over: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    train_only: np.ndarray | None = None

    def __post_init__(self) -> None:
        self._settle("paths", tuple(str(path) for path in self.paths))
        for name in ("labels", "groups", "split"):
            self._settle(name, _column(name, getattr(self, name), len(self)))
        self._settle("train_only", _column("train_only", self.train_only, len(self), bool))
        if self.pixels is not None and len(self.pixels) != len(self):
            raise DataError(
                f"pixels has {len(self.pixels)} images for {len(self)} paths; "
                "give one for each path"
            )
        names = self.classes
        if self.labels is not None and not len(names):
            names = self.labels.tolist()
        self._settle("classes", tuple(sorted({str(name) for name in names})))
        _check_values("labels", self.labels, self.classes)
        _check_values("split", self.split, SPLITS)

    def _settle(self, name: str, value: object) -> None:
        """Put a field into its final form."""
        # the class is frozen: past its own __setattr__, and only while it is made
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        images, classes = counted(len(self), "image"), counted(len(self.classes), "class")
        return f"Samples({self.name!r}: {images}, {classes})"

    def _repr_html_(self) -> str:
        # here: whoever only computes needs none of it
        from data.notebook import samples_view

        return samples_view(self)

    def __getitem__(self, rows: Any) -> "Samples":
        # numpy settles what a slice, a mask or a negative index means, and what is out of range
        at = np.arange(len(self))[rows]
        if at.ndim != 1:
            raise TypeError(
                f"Samples got the index {rows!r}; "
                "give a slice, an array of indices or a boolean mask"
            )
        return replace(
            self,
            paths=tuple(self.paths[i] for i in at),
            labels=_rows_of(self.labels, at),
            groups=_rows_of(self.groups, at),
            split=_rows_of(self.split, at),
            train_only=_rows_of(self.train_only, at),
            pixels=None if self.pixels is None else PixelRows(self.pixels, at),
            passed_over={},
            problems=(),
            notes=(),
        )

    @property
    def inputs(self) -> Sequence | np.ndarray:
        """What to decode: the pixels where there are any, else the list of paths."""
        return list(self.paths) if self.pixels is None else self.pixels


def _rows_of(column: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if column is None else column[rows]


def _column(
    name: str, values: Sequence | np.ndarray | None, n: int, dtype: type = str
) -> np.ndarray | None:
    """`values` as an (n,) array, of strings by default, or None."""
    if values is None:
        return None
    column: np.ndarray = np.asarray(values, dtype=dtype)
    if column.shape != (n,):
        raise DataError(
            f"{name} has shape {column.shape} for {n} paths; give one value for each path"
        )
    return column


def _check_values(name: str, column: np.ndarray | None, allowed: Sequence[str]) -> None:
    if column is None:
        return
    unknown = sorted(set(column.tolist()) - set(allowed))
    if unknown:
        raise DataError(f"{name} holds {unknown[0]!r}; expected one of {', '.join(allowed)}")
