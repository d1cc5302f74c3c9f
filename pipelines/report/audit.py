"""The `audit` block of results.json: near copies, suspect training labels, foreign images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data import Samples
from pipelines.evaluation.labels import SuspectLabels
from pipelines.exploration.copies import Copies
from pipelines.exploration.table import Exploration

LISTED = 100


def describe_copies(samples: Samples, pairs: Sequence[Copies], test: np.ndarray) -> dict:
    """Pairs of rows of the samples that show one picture; `test`: the rows on that side."""
    paths, labels = samples.paths, samples.labels
    is_test = np.zeros(len(paths), bool)
    is_test[test] = True
    copies = [
        {
            "first": paths[pair.first],
            "second": paths[pair.second],
            "kind": pair.kind,
            "similarity": round(pair.similarity, 4),
            **(
                {}
                if labels is None
                else {"labels": [str(labels[pair.first]), str(labels[pair.second])]}
            ),
            "across_split": bool(is_test[pair.first] != is_test[pair.second]),
        }
        for pair in pairs
    ]
    same = [pair for pair in copies if pair["kind"] != "mirrored"]
    return {
        "n_copies": len(same),
        "n_copies_across_split": sum(pair["across_split"] for pair in same),
        "n_mirrored": len(copies) - len(same),
        "copies": copies,
    }


def describe_flat(samples: Samples, rows: np.ndarray) -> dict:
    """Samples in which nothing is to be seen."""
    return {"n_flat": len(rows), "flat": [samples.paths[row] for row in rows[:LISTED]]}


def describe_suspects(samples: Samples, ranked: SuspectLabels) -> dict:
    """Training samples whose labels look wrong, the most suspect first; none of heads too weak."""
    suspects = [row for row in ranked.order if ranked.suspected[row]]
    return {
        "labels_audited": not ranked.too_weak,
        "label_agreement": round(ranked.agreement, 4),
        "label_agreement_by_chance": round(ranked.by_chance, 4),
        "n_suspect_labels": len(suspects),
        "suspect_labels": [
            {
                "path": samples.paths[row],
                "label": str(samples.labels[row]),
                "proposed": str(ranked.proposed[row]),
                "margin": round(float(ranked.quality[row]), 4),
            }
            for row in suspects[:LISTED]
        ],
    }


def describe_explored(name: str, row: Exploration, samples: Samples, ranked: Any) -> dict:
    """Samples that an exploration lists under its name, the most striking first."""
    values = getattr(ranked, row.value)
    flagged = getattr(ranked, row.flagged)
    listed = [number for number in ranked.order if flagged[number]]
    return {
        f"n_{name}": len(listed),
        name: [
            {
                "path": samples.paths[number],
                **({} if samples.labels is None else {"label": str(samples.labels[number])}),
                row.value: round(float(values[number]), 4),
            }
            for number in listed[:LISTED]
        ],
    }
