"""What an exploration found, without its files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import Samples
from data.names import counted
from pipelines.evaluation.frames import make_frame
from pipelines.features import FeatureTable
from pipelines.report.files import write_page


@dataclass(frozen=True, repr=False)
class ExploreResult:
    """What was found in images without their labels.

    Attributes
    ----------
    table : FeatureTable
        The images that could be used, with their ids and the features of all taps.
    clusters : ndarray of shape (n,), int
        Of each image, 0 for the largest.
    dense : ndarray of shape (n,), int
        Clusters by density; -1 for images in none.
    typicality : ndarray of shape (n,), float
        How densely the others of its cluster lie around an image.
    to_label : ndarray of shape (m,), int
        Rows of the images to label, the first first.
    places : ndarray of shape (n, 2), float
        On the map; NaN for an image that was not drawn for it.
    results : dict
        What results.json holds.
    """

    table: FeatureTable
    clusters: np.ndarray
    dense: np.ndarray
    typicality: np.ndarray
    to_label: np.ndarray
    places: np.ndarray
    results: dict

    def __repr__(self) -> str:
        images = counted(len(self.samples), "image")
        clusters = counted(self.results["clusters"]["k"], "cluster")
        return (
            f"ExploreResult({self.results['data']['name']!r}: {images} in {clusters}, "
            f"{len(self.to_label)} to label first)"
        )

    @property
    def samples(self) -> Samples:
        """The images that could be used: without bad and duplicate ones, and without labels."""
        return self.table.samples

    @property
    def names(self) -> np.ndarray:
        """(n,) the name of each image's cluster."""
        return cluster_names(self.results["clusters"]["k"])[self.clusters]

    def to_pandas(self) -> Any:
        """A pandas DataFrame: path, cluster, dense, typicality, x and y.

        Raises ImportError where pandas is not installed.
        """
        return make_frame(
            {
                "path": self.samples.paths,
                "cluster": self.names,
                "dense": self.dense,
                "typicality": self.typicality,
                "x": self.places[:, 0],
                "y": self.places[:, 1],
            }
        )

    def report(self, file: str | Path | None = None) -> str:
        """The page as HTML: what `report.html` holds.

        file : where to write it as well.
        """
        from pipelines.report.charts import KEPT
        from pipelines.report.exploring import explored_page, order_of_rows
        from pipelines.report.pictures import pictures_of, reading_of

        request = self.table.features[0].extraction.request
        assert request is not None  # the job's pass keeps what it was asked for
        rows = order_of_rows(self.results, self.samples.paths)
        reading = reading_of(self.results["data"])
        inputs = self.samples.inputs
        pictures = pictures_of(rows, self.table.ids, inputs, request.store, reading)
        page = explored_page(
            self.results,
            self.samples.paths,
            self.table.ids,
            self.clusters,
            self.places,
            pictures,
            request.store.cache / KEPT,
        )
        if file is not None:
            write_page(Path(file), page)
        return page


def cluster_names(k: int) -> np.ndarray:
    """`cluster-1` and so on, all of one length, so that they sort as they are numbered.

    >>> cluster_names(12)[[0, 11]].tolist()
    ['cluster-01', 'cluster-12']
    """
    digits = len(str(k))
    return np.array([f"cluster-{number:0{digits}}" for number in range(1, k + 1)])
