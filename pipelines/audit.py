"""The audit of a run: near copies settled before the split, suspect labels and foreign images listed after it."""

from dataclasses import replace

import numpy as np

from data import DataError, Samples
from data.audit import (
    Copies,
    find_copies,
    group_copies,
    rank_labels,
    rank_outliers,
)
from extract import read_thumbnails
from pipelines.evaluate import Leaderboard
from pipelines.features import FeatureTable

SAME = ("exact", "copy", "edited")  # mirrored pictures are listed, and stay apart
BELIEVED = 5  # leaderboard rows whose probabilities are averaged: what one head alone misjudges ranks lower
LISTED = 100


def find_near_copies(kept: FeatureTable) -> list[Copies]:
    """Pairs of samples that show the same picture, by the features of a middle layer and by thumbnails."""
    features = kept.read(_middle(kept), np.arange(len(kept.samples)))
    thumbnails = read_thumbnails(kept.store, kept.samples.inputs, kept.ids)
    return find_copies(features, thumbnails)


def _middle(kept):
    """The middle one of the first backbone's taps, a grid where there is one."""
    own = _plain(kept)
    grids = [i for i in own if kept.taps[i][0].pooling.startswith("grid")]
    return (grids or own)[len(grids or own) // 2]


def drop_copies(kept: FeatureTable, pairs: list[Copies]) -> tuple[FeatureTable, list[Copies]]:
    """Keep one of each group of copies, a test image before a training one -> (what is left, pairs left in it)."""
    groups = group_copies(len(kept.samples), pairs, kinds=SAME)
    split = kept.samples.split
    is_train = np.zeros(len(groups), bool) if split is None else split == "train"
    order = np.lexsort((np.arange(len(groups)), is_train))
    rows = np.sort(order[np.unique(groups[order], return_index=True)[1]])
    place = {row: i for i, row in enumerate(rows.tolist())}
    left = [
        replace(pair, first=place[pair.first], second=place[pair.second])
        for pair in pairs
        if pair.first in place and pair.second in place
    ]
    dropped = len(groups) - len(rows)
    left_over = replace(
        kept,
        samples=kept.samples[rows],
        ids=kept.ids[rows],
        places=kept.places[rows],
        n_duplicates=kept.n_duplicates + dropped,
    )
    return left_over, left


def with_groups(samples: Samples, pairs: list[Copies]) -> Samples:
    """Samples whose near copies share a group; unchanged where there are none."""
    if not any(pair.kind in SAME for pair in pairs):
        return samples
    return replace(samples, groups=group_copies(len(samples), pairs, samples.groups, SAME))


def hint_at_copies(error: DataError) -> DataError:
    """The same error, saying that groups of near copies are in play."""
    return DataError(f"{error}; near copies are kept together: --duplicates drop or keep may help")


def describe_audit(
    kept: FeatureTable,
    pairs: list[Copies],
    how: str,
    train: np.ndarray,
    test: np.ndarray,
    board: Leaderboard,
) -> dict:
    """The `audit` block of results.json: copies, suspect training labels, images unlike all others, worst first."""
    paths, labels = kept.samples.paths, kept.samples.labels
    side = np.full(len(paths), "train", dtype=object)
    side[test] = "test"
    copies = [
        {"first": paths[pair.first], "second": paths[pair.second], "kind": pair.kind,
         "similarity": round(pair.similarity, 4), "labels": [str(labels[pair.first]), str(labels[pair.second])],
         "across_split": bool(side[pair.first] != side[pair.second])}
        for pair in pairs
    ]  # fmt: skip
    same = [pair for pair in copies if pair["kind"] in SAME]
    own = labels[train]
    rows = range(min(BELIEVED, len(board.rows)))
    ranked = rank_labels(
        np.mean([board.probabilities(i, own) for i in rows], axis=0), own, board.classes
    )
    suspects = [row for row in ranked.order if ranked.suspected[row]]
    foreign = rank_outliers(kept.read(_last(kept), np.arange(len(paths))))
    outlying = [row for row in foreign.order if foreign.outlying[row]]
    return {
        "duplicates": how,
        "n_copies": len(same),
        "n_copies_across_split": sum(pair["across_split"] for pair in same),
        "n_mirrored": len(copies) - len(same),
        "copies": copies,
        "n_suspect_labels": len(suspects),
        "suspect_labels": [
            {"path": paths[train[row]], "label": str(own[row]), "proposed": str(ranked.proposed[row]),
             "margin": round(float(ranked.quality[row]), 4)}
            for row in suspects[:LISTED]
        ],
        "n_outliers": len(outlying),
        "outliers": [
            {"path": paths[row], "label": str(labels[row]), "distance": round(float(foreign.distance[row]), 4)}
            for row in outlying[:LISTED]
        ],
    }  # fmt: skip


def _last(kept):
    """The deepest tap of the first backbone, averaged where there is one."""
    own = _plain(kept)
    deepest = [i for i in own if kept.taps[i][0].layer == kept.taps[own[-1]][0].layer]
    return next((i for i in deepest if kept.taps[i][0].pooling == "avg"), deepest[0])


def _plain(kept):
    """The first backbone's sources, unflipped, of single taps where there are any."""
    first = kept.sources[0]
    own = [
        i
        for i, s in enumerate(kept.sources)
        if (s.backbone, s.view) == (first.backbone, first.view)
    ]
    return [i for i in own if len(kept.taps[i]) == 1] or own
