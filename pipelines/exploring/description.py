"""The blocks of results.json that an exploration writes."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from data import Samples
from pipelines.exploration.clusters import Stability, has_groups
from pipelines.exploration.selection import ENOUGH
from pipelines.exploration.table import EXPLORATIONS
from pipelines.exploring.stages import Chosen, Exploring, Grouped, of_table
from pipelines.features import FeatureTable
from pipelines.report.audit import describe_explored
from pipelines.report.extraction import describe_extraction
from pipelines.report.results import (
    RESULTS_SCHEMA,
    describe_backbone,
    describe_reading,
    versions,
)

SHOWN = 24  # typical images of a cluster that are named


def describe(job: Exploring, table: FeatureTable, command: Sequence[str]) -> dict:
    """What was asked for, of which images, by which features: the first blocks of results.json."""
    last = table.features[table.last()]
    return {
        "schema": RESULTS_SCHEMA,
        "versions": versions(),
        "command": list(command),
        "settings": job.settings.told(),
        "seed": job.settings.seed,
        "data": describe_images(job, table),
        "backbone": describe_backbone(job.backbone, last.recipe),
        "tap": last.source.tap,
        "extraction": describe_extraction(table.passes),
    }


def describe_images(job: Exploring, table: FeatureTable) -> dict:
    """The `data` of results.json."""
    samples = job.samples
    return {
        "name": samples.name,
        "n_images": len(table.samples),
        "passed_over": dict(samples.passed_over),
        "n_bad": len(table.bad),
        "n_noted": len(table.notes),
        "n_duplicates": table.n_duplicates,
        **describe_reading(job.settings.reading()),
    }


def describe_grouped(job: Exploring, table: FeatureTable, grouped: Grouped) -> dict:
    """The `clusters` of results.json."""
    return {
        "k": len(np.unique(grouped.clusters)),
        "asked": job.settings.clusters,
        "chosen_by": "stability" if job.settings.clusters is None else "given",
        "stability": [describe_stability(own) for own in grouped.stability],
        "has_groups": has_groups(grouped.stability) if grouped.stability else None,
        "rows": describe_clusters(table.samples, grouped),
        "labels": compare_labels(job, table, grouped.clusters),
    }


def describe_stability(own: Stability) -> dict:
    """How stable a number of clusters is, with its place between chance and the most."""
    corrected = {"corrected": own.corrected, "corrected_error": own.corrected_error}
    return asdict(own) | corrected


def describe_dense(job: Exploring, table: FeatureTable, grouped: Grouped) -> dict:
    """The `dense` of results.json."""
    return {
        "looked_at": len(grouped.drawn),
        "k": int(grouped.dense.max()) + 1,
        "n_inside": int((grouped.dense >= 0).sum()),
        "labels": compare_labels(job, table, grouped.dense),
    }


def describe_clusters(samples: Samples, grouped: Grouped) -> list[dict]:
    """Of each cluster its name, its size and its typical images, the most typical first."""
    found = []
    for number in range(int(grouped.clusters.max()) + 1):
        own = np.flatnonzero(grouped.clusters == number)
        own = own[np.argsort(-grouped.typicality[own], kind="stable")]
        typical = [samples.paths[row] for row in own[:SHOWN]]
        found.append({"name": str(grouped.names[own[0]]), "images": len(own), "typical": typical})
    return found


def compare_labels(job: Exploring, table: FeatureTable, clusters: np.ndarray) -> dict | None:
    """How far clusters are the classes of the layout, over the images that have both."""
    from sklearn.metrics import adjusted_rand_score

    if job.labels is None:
        return None
    labels = of_table(job, table, job.labels)
    rows = np.flatnonzero((labels != "") & (clusters >= 0))
    if not len(rows):
        return None
    index = adjusted_rand_score(labels[rows].astype(str), clusters[rows])
    return {
        "classes": len(np.unique(labels[rows].astype(str))),
        "images": len(rows),
        "adjusted_rand": round(float(index), 4),
    }


def describe_chosen(job: Exploring, chosen: Chosen, samples: Samples, names: np.ndarray) -> dict:
    """The `to_label` of results.json."""
    rows = [
        {"rank": rank, "path": samples.paths[row], "cluster": str(names[row]), "why": why}
        for rank, (row, why) in enumerate(zip(chosen.rows, chosen.why, strict=True), 1)
    ]
    return {
        "rule": chosen.rule,
        "enough": ENOUGH,
        "n_labelled": chosen.n_labelled,
        "n_classes": chosen.n_classes,
        "labelled": dict(job.labelled),
        "rows": rows,
    }


def describe_strange(table: FeatureTable) -> dict:
    """What the table of explorations lists."""
    found: dict = {}
    for name, row in EXPLORATIONS.items():
        source = table.last() if row.tap == "last" else table.middle()
        found |= describe_explored(name, row, table.samples, row.rank(table.read(source)))
    return found
