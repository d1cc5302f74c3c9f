"""The stages of an exploration: what is alike, in which clusters, on a map, what to label first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data import Samples
from extract import Backbone, FeatureStore
from heads import make_head
from pipelines.exploration.clusters import (
    Stability,
    choose_number,
    find_clusters,
    find_dense,
    find_places,
    measure_stability,
    numbers_to_try,
)
from pipelines.exploration.copies import Copies
from pipelines.exploration.maps import MOST, even_order, map_images
from pipelines.exploration.review import choose_for_review, margins
from pipelines.exploration.selection import ENOUGH, choose_typical, find_askable, find_typicality
from pipelines.exploring.outcome import cluster_names
from pipelines.exploring.settings import ExploreSettings
from pipelines.features import FeatureTable, Listener
from pipelines.findings import Findings
from pipelines.stages.remembered import sources_of

STRENGTH = 0.01  # of the logistic head that says which images it is unsure of: labels are few


@dataclass(frozen=True)
class Exploring:
    """What an exploration is about.

    labels : (n,) of the layout, which are compared with and nothing else; None where it has none.
    given : (n,) labels that are there already, empty where there is none.
    labelled : these by path, with the images that were dropped.
    """

    samples: Samples
    labels: np.ndarray | None
    given: np.ndarray
    settings: ExploreSettings
    store: FeatureStore
    backbone: Backbone
    on_event: Listener
    labelled: Mapping[str, str]

    @property
    def findings(self) -> Findings:
        """What earlier jobs over this cache found."""
        return Findings(self.store.cache)


@dataclass(frozen=True)
class Seen:
    """How images are compared: features (n, d), places (n, k) and all that decides both."""

    features: np.ndarray
    places: np.ndarray
    decided: Sequence[Any]


@dataclass(frozen=True)
class Grouped:
    """Images in groups.

    clusters : (n,) int. typicality : (n,) within these.
    dense : (n,) int, by density, -1 for images in none. drawn : the rows looked at for it.
    stability : of the numbers of clusters; none where the number was given.
    """

    clusters: np.ndarray
    typicality: np.ndarray
    dense: np.ndarray
    drawn: np.ndarray
    stability: Sequence[Stability]

    @property
    def names(self) -> np.ndarray:
        """(n,) of each image's cluster."""
        return cluster_names(int(self.clusters.max()) + 1)[self.clusters]


@dataclass(frozen=True)
class Chosen:
    """Which images to label first: rows, why each in words, and by which rule.

    rule : "typical" or "unsure". n_labelled, n_classes : what was labelled already.
    """

    rows: np.ndarray
    why: Sequence[str]
    rule: str
    n_labelled: int
    n_classes: int


def see(table: FeatureTable, seed: int) -> Seen:
    """The images as their last layer has them."""
    last = table.last()
    features = table.read(last)
    decided = [table.ids, sources_of(table)[last], seed]
    return Seen(features, find_places(features, seed), decided)


def group_images(job: Exploring, seen: Seen) -> Grouped:
    """Clusters by k-means, and by density over as many images as the map has."""
    seed = job.settings.seed
    stability = find_number(job, seen)
    k = job.settings.clusters or choose_number(stability)
    clusters = find_clusters(seen.places, k, seed)
    typicality = find_typicality_within(seen.places, clusters)
    drawn = np.sort(even_order(clusters, seed)[:MOST])
    dense = np.full(len(clusters), -1)
    dense[drawn] = find_dense(seen.places[drawn])
    return Grouped(clusters, typicality, dense, drawn, stability)


def find_number(job: Exploring, seen: Seen) -> list[Stability]:
    """How stable each number of clusters is; nothing is measured where one is given."""
    if job.settings.clusters is not None:
        return []
    numbers, seed = numbers_to_try(len(seen.places)), job.settings.seed

    def measured() -> list[dict]:
        return [asdict(own) for own in measure_stability(seen.places, numbers, seed)]

    found = job.findings.of("stability", [*seen.decided, numbers], measured)
    return [Stability(**own) for own in found]


def find_typicality_within(places: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """(n,) how densely the others of its cluster lie around each image."""
    found = np.zeros(len(places))
    for number in np.unique(clusters):
        own = clusters == number
        found[own] = find_typicality(places[own])
    return found


def choose_to_label(
    job: Exploring, table: FeatureTable, seen: Seen, copies: Sequence[Copies], flat: np.ndarray
) -> Chosen:
    """Typical images of every kind while labels are few; then unsure ones, no two alike."""
    given = of_table(job, table, job.given).astype(str)
    known = np.flatnonzero(given != "")
    n_classes = len(np.unique(given[known]))
    askable = find_askable(len(given), copies, flat, known)
    if n_classes < 2 or len(known) < ENOUGH * n_classes:
        rows, why = choose_typical_ones(job, seen, askable, known)
        return Chosen(rows, why, "typical", len(known), n_classes)
    rows, why = choose_unsure_ones(job, seen, askable, known, given[known])
    return Chosen(rows, why, "unsure", len(known), n_classes)


def choose_typical_ones(
    job: Exploring, seen: Seen, askable: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Rows of typical images, and what each stands for."""
    among = np.sort(np.concatenate([askable, known]))
    labelled = np.searchsorted(among, known)
    found = choose_typical(seen.places[among], job.settings.n, labelled, job.settings.seed)
    why = [f"typical of {alike} alike" if alike > 1 else "alone" for alike in found.alike]
    return among[found.rows], why


def choose_unsure_ones(
    job: Exploring, seen: Seen, askable: np.ndarray, known: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Rows of images that a head on the labelled ones is unsure of, and between which classes."""
    if not len(askable):
        return askable, []
    head = make_head("logistic", C=STRENGTH).fit(seen.features[known], labels)
    shares = head.predict_proba(seen.features[askable])
    settings = job.settings
    found = choose_for_review(margins(shares), seen.places[askable], settings.n, settings.seed)
    two = np.argsort(-shares[found.rows], axis=1, kind="stable")[:, :2]
    why = [f"{first} or {second}?" for first, second in head.classes_[two].tolist()]
    return askable[found.rows], why


def of_table(job: Exploring, table: FeatureTable, values: np.ndarray) -> np.ndarray:
    """(n,) what is said of a table's images, or of an exact copy that was left out beside them."""
    ids = table.features[0].extraction.ids
    said: dict[bytes, str] = {}
    for own, value in zip(ids, values, strict=True):
        if value:
            said.setdefault(own.tobytes(), value)
    return np.array([said.get(own.tobytes(), "") for own in table.ids], object)


def draw_map(job: Exploring, seen: Seen, drawn: np.ndarray) -> tuple[np.ndarray, str]:
    """((n, 2) places in a plane, NaN for images that are not drawn; how they came about)."""
    places = np.full((len(seen.features), 2), math.nan)
    if not job.settings.report:
        return places, ""

    def made() -> dict:
        return asdict(map_images(seen.features[drawn], job.settings.seed))

    found = job.findings.of("map", [*seen.decided, drawn], made)
    places[drawn] = found["places"]
    return places, found["method"]
