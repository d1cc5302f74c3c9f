"""The images that a run's page shows in galleries, each with its reason, and the data of all."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from data.names import as_cell, shown
from pipelines.report.images import ImageTable
from pipelines.report.overlay import as_jpeg, draw_overlay

DROP = None  # in place of a label: the image is none of any class
OVERLAY_SIDE = 160
SIDES_WITH_LABEL = (
    "No map: having trained on this image, the classifier sides with its label. The wrong answer "
    "is that of heads which had not seen it."
)
NO_PLACES = "No map: its features are averages over the whole image. predict --explain draws one."
COPY_WORDS = {
    "exact": "the same file",
    "copy": "the same picture",
    "edited": "nearly the same picture",
    "mirrored": "the same picture, mirrored",
}


@dataclass(frozen=True)
class Gallery:
    """Images to look at.

    items : each with `rows` of the image table, one or a pair's two; the `reason` in words; its
        `figure`; `propose`, the label that a tick begins with, or DROP; and `why`, if known.
    found : how many there are, of which the items may be a part.
    """

    key: str
    title: str
    words: str
    items: list[dict[str, Any]]
    found: int


def find_galleries(
    results: dict, images: ImageTable, pictures: Mapping[str, bytes]
) -> list[Gallery]:
    """Mistakes, suspect labels, near copies and outliers, in this order, empty ones too."""
    rows = {path: row for row, path in enumerate(images.path)}
    audit = results["audit"]
    return [
        _mistakes(images, _reasons(results["explained"], images, pictures)),
        _suspects(audit, rows),
        copies_gallery(audit, rows),
        outliers_gallery(audit, rows),
    ]


def describe_images(
    images: ImageTable, pictures: Mapping[str, bytes], classes: list[str]
) -> dict[str, Any]:
    """What the page's script knows of the images, a list for each column, paths without the folder
    that they share; `cells` are the names that a CSV file holds in another spelling."""
    number = {name: i for i, name in enumerate(classes)}
    return {
        **describe_named(images.path, images.id, (images.x, images.y), pictures),
        "classes": list(map(shown, classes)),
        "class_cells": list(map(as_cell, classes)),
        "test": (images.part == "test").astype(int).tolist(),
        "label": [number[name] for name in images.label],
        "predicted": [number[name] for name in images.predicted],
        "probability": np.round(images.probability, 4).tolist(),
        "of_label": np.round(images.probability_of_label, 4).tolist(),
    }


def describe_named(
    paths: Sequence[str] | np.ndarray,
    ids: Sequence[str] | np.ndarray,
    places: tuple[np.ndarray, np.ndarray],
    pictures: Mapping[str, bytes],
) -> dict[str, Any]:
    """Of these the names, the pictures, and where each lies: x (n,) and y (n,), NaN for nowhere."""
    folder = _shared_folder(list(paths))
    drawn = ~np.isnan(places[0])
    encoded = [pictures.get(own) for own in ids]
    x, y = (
        [round(float(v), 2) if d else None for v, d in zip(values, drawn, strict=True)]
        for values in places
    )
    return {
        "folder": folder,
        "path": [shown(path[len(folder) :]) for path in paths],
        "cells": {row: as_cell(p) for row, p in enumerate(paths) if as_cell(p) != p},
        "x": x,
        "y": y,
        "picture": [own and base64.b64encode(own).decode() for own in encoded],
    }


def _shared_folder(paths: list[str]) -> str:
    """What all paths begin with, up to a slash; empty where that is no plain name."""
    if not paths:
        return ""
    first, last = min(paths), max(paths)
    pairs = zip(first, last, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))
    start = first[:same]
    folder = start[: max(start.rfind("/"), start.rfind("\\")) + 1]
    return folder if shown(folder) == folder else ""


def _mistakes(images: ImageTable, reasons: dict[str, dict]) -> Gallery:
    items = [
        {
            "rows": [int(row)],
            "reason": "for its own label",
            "figure": f"{100 * images.probability_of_label[row]:.1f}\u202f%",
            "propose": images.predicted[row],
            "why": reasons.get(images.id[row]),
        }
        for row in images.surest_mistakes()
    ]
    words = (
        "The surest wrong answers come first. Test images were never trained on; training images "
        "are answered by heads that had not seen them."
    )
    return Gallery("mistakes", "The worst mistakes", words, items, len(items))


def _reasons(
    explained: list[dict], images: ImageTable, pictures: Mapping[str, bytes]
) -> dict[str, dict]:
    """By image id the evidence for a wrong answer, drawn, and the training images like it."""
    rows = {own: row for row, own in enumerate(images.id)}
    return {
        own["id"]: {
            "for": shown(own["predicted"]),
            "over": shown(own["label"]),
            "drawn": _drawn(own, pictures.get(own["id"])),
            "no_map": SIDES_WITH_LABEL if own["evidence"] <= 0 else NO_PLACES,
            "nearest": [
                {
                    "row": rows[near["id"]],
                    "figure": f"{near['distance']:.2f}",
                    "pointer": f"/explained/{i}/nearest/{j}/distance",
                }
                for j, near in enumerate(own["nearest"])
                if near["id"] in rows
            ],
        }
        for i, own in enumerate(explained)
    }


def _drawn(own: dict, picture: bytes | None) -> str | None:
    """A JPEG file in base64: the picture that is kept, with the map over it."""
    if own["map"] is None or picture is None:
        return None
    kept = Image.open(io.BytesIO(picture))
    scale, (width, height) = OVERLAY_SIDE / max(kept.size), kept.size
    size = max(1, round(scale * width)), max(1, round(scale * height))
    large = kept.resize(size, Image.Resampling.BICUBIC)
    drawn = draw_overlay(large, np.array(own["map"]), tuple(own["box"]))
    return base64.b64encode(as_jpeg(drawn, 80)).decode()


def _suspects(audit: dict, rows: dict[str, int]) -> Gallery:
    items = [
        {
            "rows": [rows[own["path"]]],
            "reason": f"rather {shown(own['proposed'])} than {shown(own['label'])}, by",
            "figure": f"{-own['margin']:.2f}",
            "pointer": f"/audit/suspect_labels/{i}/margin",
            "propose": own["proposed"],
        }
        for i, own in enumerate(audit["suspect_labels"])
        if own["path"] in rows
    ]
    words = (
        "Training labels that heads which had not seen the image contradict. The figure says by "
        "how much the other class is more probable."
    )
    if not audit["labels_audited"]:
        words = "The heads are too weak here to judge labels by."
    found = audit["n_suspect_labels"]
    return Gallery("suspects", "Labels that look wrong", words, items, found)


def copies_gallery(audit: dict, rows: dict[str, int]) -> Gallery:
    """Pairs that show one picture, those across training and test first; `rows` by path."""
    items = [
        {
            "rows": [rows[own["first"]], rows[own["second"]]],
            "reason": _why_copies(own),
            "figure": f"{own['similarity']:.2f}",
            "pointer": f"/audit/copies/{i}/similarity",
            "alarm": own["across_split"] and own["kind"] != "mirrored",
            "propose": DROP,
        }
        for i, own in enumerate(audit["copies"])
        if own["first"] in rows and own["second"] in rows
    ]
    items.sort(key=lambda item: (not item["alarm"], -float(item["figure"])))
    words = (
        "Pairs that show one picture. The figure is how alike their edges are, 1 at most. Pairs "
        "across training and test come first: they flatter the accuracy."
    )
    found = audit["n_copies"] + audit["n_mirrored"]
    return Gallery("copies", "Near copies", words, items, found)


def _why_copies(pair: dict) -> str:
    reasons = [COPY_WORDS.get(pair["kind"], pair["kind"])]
    if len(set(pair.get("labels", ()))) > 1:
        reasons.append("two labels")
    if pair["across_split"]:
        reasons.append("across train and test")
    return ", ".join(reasons) + "; alike"


def outliers_gallery(audit: dict, rows: dict[str, int]) -> Gallery:
    """Images unlike all others; `rows` by path."""
    items = [
        {
            "rows": [rows[own["path"]]],
            "reason": "distance from the nearest five",
            "figure": f"{own['distance']:.2f}",
            "pointer": f"/audit/outliers/{i}/distance",
            "propose": DROP,
        }
        for i, own in enumerate(audit["outliers"])
        if own["path"] in rows
    ]
    words = (
        "Images unlike all others, the farthest first: another kind of picture, or the only one "
        "of its kind."
    )
    return Gallery("outliers", "Outliers", words, items, audit["n_outliers"])
