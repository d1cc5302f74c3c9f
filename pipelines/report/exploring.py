"""What an exploration found, in words and as its page."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from data.names import as_cell, counted, shown
from pipelines.exploration.table import EXPLORATIONS
from pipelines.report import charts
from pipelines.report.files import CLUSTERS, REPORT, RESULTS, TO_LABEL
from pipelines.report.galleries import (
    DROP,
    Gallery,
    copies_gallery,
    describe_named,
    outliers_gallery,
)
from pipelines.report.page import render
from pipelines.report.text import explored_in_words, table
from pipelines.report.timing import time_in_words

SHOWN_CLUSTERS = 12
ON_PAGE = 10  # typical images of a cluster that have a card
PAIR_WORDS = "Pairs that show one picture. The figure is how alike their edges are, 1 at most."
FLAT_WORDS = (
    "Images of one gray value all over, where nothing can be seen. Where this is wrong, "
    "--intensity LOW:HIGH may be."
)


def explored_summary(results: Mapping, out: Path) -> str:
    """The clusters, what else was found, what to label first, what to type next."""
    whole, *more = time_in_words(results)
    lines = [
        *_clusters_in_words(results),
        "",
        number_in_words(results["clusters"]),
        *labels_in_words(results),
        *dense_in_words(results["dense"]),
        *audit_in_words(results["audit"]),
        rule_in_words(results["to_label"]),
        f"time: {whole}",
        *[f"  {line}" for line in more],
        "",
        *([f"page: {out / REPORT}"] if "report" in results["seconds"] else []),
        f"results: {out / RESULTS}",
        f"to label: {out / TO_LABEL}",
        f"clusters: {out / CLUSTERS}; once they are named in its column label: "
        f"python -m pipelines.run IMAGES --labels {shlex.quote(str(out / CLUSTERS))}",
        "",
    ]
    return "\n".join(map(shown, lines))


def _clusters_in_words(results: Mapping) -> list[str]:
    rows = results["clusters"]["rows"]
    cells = [(own["name"], str(own["images"]), own["typical"][0]) for own in rows]
    lines = table(("cluster", "images", "most typical"), cells[:SHOWN_CLUSTERS]).split("\n")
    if len(rows) > SHOWN_CLUSTERS:
        lines.append(f"… and {len(rows) - SHOWN_CLUSTERS} more in {CLUSTERS}")
    return lines


def number_in_words(clusters: Mapping) -> str:
    """How many clusters there are, and why so many."""
    many = counted(clusters["k"], "cluster")
    if clusters["chosen_by"] == "given":
        return f"{many}, {given_in_words(clusters)}"
    row = chosen_row(clusters)
    if row is None:
        return f"{many}: too few images that differ to compare numbers of clusters"
    place = clusters["stability"][row]
    words = (
        f"{many}: clusterings of other draws agree by {place['agreement']:.2f} (adjusted Rand "
        f"index), and by {place['reference']:.2f} on points without groups"
    )
    if not clusters["has_groups"]:
        words += "; no number comes again clearly more than there: these images may have no groups"
    return words


def given_in_words(clusters: Mapping) -> str:
    """Whether there are as many clusters as were asked for."""
    if clusters["k"] == clusters["asked"]:
        return "as many as were asked for"
    return f"where {clusters['asked']} were asked for: no more images differ"


def chosen_row(clusters: Mapping) -> int | None:
    """Place of the chosen number among those whose stability was measured."""
    numbers = [own["k"] for own in clusters["stability"]]
    return numbers.index(clusters["k"]) if clusters["k"] in numbers else None


def labels_in_words(results: Mapping) -> list[str]:
    """How far the clusters are the classes that the layout says, where it says any."""
    found = results["clusters"]["labels"]
    if found is None:
        return []
    return [
        f"beside the {counted(found['classes'], 'class')} of the folders or the table, which took "
        f"no part: adjusted Rand index {found['adjusted_rand']:.2f}"
    ]


def dense_in_words(dense: Mapping) -> list[str]:
    """What density finds; nothing where it finds no cluster."""
    if not dense["k"]:
        return ["by density (HDBSCAN) no clusters"]
    return [
        f"by density (HDBSCAN) {counted(dense['k'], 'cluster')} with {dense['n_inside']} of "
        f"{counted(dense['looked_at'], 'image')}; the others are in none"
    ]


def audit_in_words(audit: Mapping) -> list[str]:
    """A line for what was found of each kind; none where nothing was."""
    lines = []
    if audit["n_copies"]:
        lines.append(f"near copies of other images: {audit['n_copies']}")
    if audit["n_flat"]:
        lines.append(
            f"images that came out flat, of one gray all over: {audit['n_flat']}, such as "
            f"{audit['flat'][0]}; where this is wrong, --intensity LOW:HIGH may be"
        )
    return lines + explored_in_words(audit)


def rule_in_words(to_label: Mapping) -> str:
    """By which rule the images to label were chosen."""
    images = counted(len(to_label["rows"]), "image")
    labels = counted(to_label["n_labelled"], "label")
    classes = counted(to_label["n_classes"], "class")
    if to_label["rule"] == "unsure":
        return (
            f"to label next: {images} that a classifier of the {labels} is unsure of, no two alike"
        )
    if not to_label["n_labelled"]:
        return f"to label first: {images}, the most typical of each of as many groups"
    return (
        f"to label next: {images}, the most typical of groups without a label; with "
        f"{to_label['enough']} labels for each of two classes or more those that a classifier is "
        f"unsure of would be asked for, and there are {labels} of {classes}"
    )


def order_of_rows(results: Mapping, paths: Sequence[str]) -> np.ndarray:
    """All rows, those first whose picture is looked for most: to label, typical, odd, others."""
    audit = results["audit"]
    listed = [
        *(own["path"] for own in results["to_label"]["rows"]),
        *(path for own in results["clusters"]["rows"] for path in own["typical"]),
        *(pair[side] for pair in audit["copies"] for side in ("first", "second")),
        *audit["flat"],
        *(own["path"] for name in EXPLORATIONS for own in audit[name]),
    ]
    row_of = {path: row for row, path in enumerate(paths)}
    return np.array(list(dict.fromkeys([*(row_of[path] for path in listed), *range(len(paths))])))


def explored_page(
    results: dict,
    paths: Sequence[str],
    ids: np.ndarray,
    clusters: np.ndarray,
    places: np.ndarray,
    pictures: Mapping[str, bytes],
    kept: Path | None = None,
) -> str:
    """The page of an exploration, whole in itself.

    Parameters
    ----------
    results : dict
        What results.json holds.
    paths : sequence of n str
    ids : (n, 16) uint8
    clusters : (n,) int
    places : (n, 2) float
        On the map; NaN for what is not drawn.
    pictures : mapping of str to bytes
        JPEG files by the id of their image, in hexadecimal digits.
    kept : Path, optional
        A folder in which the script that draws figures is remembered.

    Returns
    -------
    str
        HTML; names are escaped, and a policy in it forbids every request.
    """
    names = [own["name"] for own in results["clusters"]["rows"]]
    row_of = {path: row for row, path in enumerate(paths)}
    groups = [_typical(i, own, row_of) for i, own in enumerate(results["clusters"]["rows"])]
    others = _galleries(results, row_of)
    stability = results["clusters"]["stability"]
    chosen = chosen_row(results["clusters"])
    keys = [own.tobytes().hex() for own in ids]
    labelled = results["to_label"]["labelled"]
    page_data = {
        "images": {
            **describe_named(paths, keys, (places[:, 0], places[:, 1]), pictures),
            "classes": names,
            "label": clusters.tolist(),
            "known": {
                row_of[path]: as_cell(label) for path, label in labelled.items() if path in row_of
            },
            # dropped ones, and exact copies that were left out: a saved table has them again
            "absent": [
                [as_cell(path), as_cell(label)]
                for path, label in labelled.items()
                if path not in row_of
            ],
        },
        "galleries": {own.key: own.items for own in (*groups, *others)},
        "mends": False,
        "specs": {
            "map": charts.image_map(names),
            "stability": charts.stability(stability, results["clusters"]["k"]),
        },
    }
    return render(
        "explore.html",
        results,
        kept,
        page_data,
        classes=names,
        groups=groups,
        galleries=others,
        stability=stability,
        chosen=chosen,
        n_drawn=int((~np.isnan(places[:, 0])).sum()),
        n_images=len(paths),
        n_pictures=sum(own in pictures for own in keys),
        given=given_in_words(results["clusters"]),
        rule=Markup.escape(rule_in_words(results["to_label"])),
    )


def _typical(number: int, own: Mapping, row_of: Mapping[str, int]) -> Gallery:
    """The typical images of a cluster."""
    items = [_item(row_of[path]) for path in own["typical"][:ON_PAGE]]
    return Gallery(f"cluster-{number}", own["name"], "", items, own["images"])


def _item(row: int, reason: str = "", figure: str = "") -> dict[str, Any]:
    return {"rows": [row], "reason": reason, "figure": figure, "propose": DROP}


def _galleries(results: Mapping, row_of: Mapping[str, int]) -> list[Gallery]:
    """What to label, copies, outliers, flat images."""
    audit, asked = results["audit"], results["to_label"]["rows"]
    items = [
        _item(row_of[own["path"]], f"{own['rank']}. {own['why']}") | {"asks": True} for own in asked
    ]
    flat = [_item(row_of[path]) for path in audit["flat"]]
    return [
        Gallery("label", "What to label first", "", items, len(items)),
        replace(copies_gallery(audit, dict(row_of)), words=PAIR_WORDS),
        outliers_gallery(audit, dict(row_of)),
        Gallery("flat", "Flat images", FLAT_WORDS, flat, audit["n_flat"]),
    ]
