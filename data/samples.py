"""Samples: the images of a run in order, with their labels, groups and split."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

SPLITS = ("train", "test")


class DataError(ValueError):
    """Images, labels or splits that can't be used; the message is one line that says what to do."""


class PixelRows(Sequence):
    """Some rows of a sequence of images, in a given order, each fetched only when it is asked for."""

    def __init__(self, images, rows):
        nested = isinstance(images, PixelRows)
        self.images = images.images if nested else images
        self.rows = images.rows[rows] if nested else rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return PixelRows(self.images, self.rows[index])
        return self.images[int(self.rows[operator.index(index)])]


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """n images in a fixed order; `samples[rows]` with a slice, indices or a boolean mask is again Samples.

    paths        n file names, or names such as "digits/0001" where `pixels` holds the images
    labels       (n,) class names, or None where nothing is labelled
    classes      all class names, sorted; a slice keeps those of the whole
    groups       (n,) names of what belongs together (a patient, a burst of photos), or None
    split        (n,) "train" or "test", or None where no split was given
    pixels       n images for sets that are not files: uint8 (h, w, 3) arrays or PIL images, maybe lazy
    name         what the set is called in reports
    passed_over  how many entries were not taken, by reason; empty in a slice
    problems     (path, reason) of entries that were meant as images and can't be; empty in a slice

    Raises DataError when the fields don't fit together.
    """

    paths: tuple[str, ...]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    split: np.ndarray | None = None
    pixels: Sequence | None = None
    name: str = "images"
    passed_over: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 (the class is frozen)
        put("paths", tuple(str(path) for path in self.paths))
        for name in ("labels", "groups", "split"):
            put(name, _column(name, getattr(self, name), len(self)))
        if self.pixels is not None and len(self.pixels) != len(self):
            raise DataError(
                f"pixels has {len(self.pixels)} images for {len(self)} paths; give one for each path"
            )
        if self.labels is not None and not len(self.classes):
            put("classes", np.unique(self.labels))
        put("classes", tuple(sorted({str(name) for name in self.classes})))
        _check_values("labels", self.labels, self.classes)
        _check_values("split", self.split, SPLITS)

    def __len__(self):
        return len(self.paths)

    def __repr__(self):
        return f"Samples({self.name!r}: {len(self)} images, {len(self.classes)} classes)"

    def __getitem__(self, rows):
        at = np.arange(len(self))[rows]
        if at.ndim != 1:
            raise TypeError(
                f"Samples got the index {rows!r}; give a slice, an array of indices or a boolean mask"
            )
        columns = {name: getattr(self, name) for name in ("labels", "groups", "split")}
        return replace(
            self,
            paths=tuple(self.paths[i] for i in at),
            pixels=None if self.pixels is None else PixelRows(self.pixels, at),
            passed_over={},
            problems=(),
            **{name: None if column is None else column[at] for name, column in columns.items()},
        )

    @property
    def inputs(self):
        """What to decode: the pixels where there are any, else the list of paths."""
        return list(self.paths) if self.pixels is None else self.pixels


def _column(name, values, n):
    """`values` as an (n,) array of strings, or None."""
    if values is None:
        return None
    column = np.asarray(values, dtype=str)
    if column.shape != (n,):
        raise DataError(
            f"{name} has shape {column.shape} for {n} paths; give one value for each path"
        )
    return column


def _check_values(name, column, allowed):
    unknown = [] if column is None else sorted(set(column.tolist()) - set(allowed))
    if unknown:
        raise DataError(f"{name} holds {unknown[0]!r}; expected one of {', '.join(allowed)}")
