"""`images.csv`: what a run says of each image, a line each; the page of a run is made from it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from data.names import from_cell
from pipelines.evaluation.frames import make_frame
from pipelines.report.files import as_probability, write_csv

IMAGES = "images.csv"
TEXT = ("path", "id", "part", "label", "predicted")


@dataclass(frozen=True)
class ImageTable:
    """The images of a run, a row each.

    Training images are judged out of fold by the chosen row, test images by the chosen heads.

    Attributes
    ----------
    path : (n,) str
    id : (n,) str
        32 hexadecimal digits, by which features and pictures are kept.
    part : (n,) str
        "train" or "test".
    label, predicted : (n,) str
    probability, probability_of_label : (n,) float
        Of the predicted class, and of the label's.
    familiarity : (n,) float
        Of test images, as of a `Reference`; NaN for training images.
    x, y : (n,) float
        Place on the map; NaN for an image that was not drawn for it.
    """

    path: np.ndarray
    id: np.ndarray
    part: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    probability_of_label: np.ndarray
    familiarity: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.path)

    @property
    def ids(self) -> np.ndarray:
        """(n, 16) uint8 ids, as the store takes them."""
        return np.frombuffer(bytes.fromhex("".join(self.id)), np.uint8).reshape(-1, 16)

    @property
    def is_wrong(self) -> np.ndarray:
        """(n,) bool: where the predicted class is not the label."""
        return self.label != self.predicted

    def surest_mistakes(self) -> np.ndarray:
        """Rows of the wrong answers, the most probable first."""
        wrong = np.flatnonzero(self.is_wrong)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")]

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame.

        Raises ImportError where pandas is not installed.
        """
        return make_frame({field.name: getattr(self, field.name) for field in fields(self)})


def write_images(file: Path, table: ImageTable) -> None:
    """`images.csv`, figures with nine significant digits, empty where there is none."""
    names = [field.name for field in fields(ImageTable)]
    columns = [
        getattr(table, name) if name in TEXT else [_figure(value) for value in getattr(table, name)]
        for name in names
    ]
    write_csv(file, names, zip(*columns, strict=True))


def read_images(file: Path) -> ImageTable:
    """The table that `write_images` wrote.

    Raises ValueError for a file without its columns.
    """
    with open(file, newline="", encoding="utf-8") as opened:
        reader = csv.DictReader(opened)
        rows = list(reader)
    columns: dict[str, np.ndarray] = {}
    for name in (field.name for field in fields(ImageTable)):
        if name not in (reader.fieldnames or ()):
            raise ValueError(f"{file} has no column {name!r}: expected a run's {IMAGES}")
        cells: Sequence[str] = [row[name] or "" for row in rows]  # a row may end early
        columns[name] = (
            np.array([from_cell(cell) for cell in cells], object)
            if name in TEXT
            else np.array([float(cell or "nan") for cell in cells])
        )
    return ImageTable(**columns)


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(as_probability(value))
