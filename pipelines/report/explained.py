"""Explanations as people look at them: a picture each, a table of them, and a page to open."""

import html
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.names import shown
from pipelines.report.overlay import as_jpeg, draw_overlay

TABLE, PAGE = "explanations.jsonl", "index.html"
SIDE = 512  # of the longer side of a picture in pixels


@dataclass(frozen=True)
class Neighbour:
    """A training image near to another in a classifier's features.

    id: 32 hexadecimal digits, by which its picture is kept. distance: from 0 to about 2.
    """

    path: str
    label: str
    id: str
    distance: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why an image has its label and not the next best one.

    Attributes
    ----------
    row : int
        Its place among the images that were given.
    path : str
        Empty for an image that is no file.
    id : str
        32 hexadecimal digits, by which its features and pictures are kept.
    label, runner_up : str
        The most probable class and the one that it is weighed against, by default the second.
    evidence : float
        Log-odds of the label over the runner-up, in nats: the head's scores less each other, scaled
        as its calibration says. Of a blend the members' log-odds, by their weights.
    map : (h, w) float32
        What each place adds to the evidence, beside the average training image where it is exact.
    rest : float
        What no place adds; with the map's sum it is the evidence.
    is_exact : bool
        Whether the evidence is a sum over places; else some of it was found by covering parts of
        the image, and the map says what the evidence loses with them.
    box : (left, top, right, bottom)
        Where the map lies, in shares of the picture's sides.
    picture : PIL image
        The whole image, 512 pixels at most.
    nearest : tuple of Neighbour
        The training images most like it in the classifier's features, the nearest first; empty
        where the classifier knows none.
    """

    row: int
    path: str
    id: str
    label: Any
    runner_up: Any
    evidence: float
    map: np.ndarray
    rest: float
    is_exact: bool
    box: tuple[float, float, float, float]
    picture: Image.Image
    nearest: tuple[Neighbour, ...] = ()

    def overlay(self, side: int = 512) -> bytes:
        """The picture with the map over it, a JPEG file of at most so many pixels a side."""
        picture = self.picture.copy()
        picture.thumbnail((side, side))
        return as_jpeg(draw_overlay(picture, self.map, self.box))


class ExplanationFolder:
    """A new folder that explanations are written to, one after the other.

    Parameters
    ----------
    folder : path
        It must not be there, or be empty.

    Raises
    ------
    FileExistsError
        It holds something.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} is there already: expected a new or an empty folder")
        self._written: list[dict] = []

    def add(self, found: Explanation) -> None:
        """Draw its picture and note what it says."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = len(self._written) + 1
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(found.path).stem).strip("-")[:40]
        picture = f"{number:05}-{stem}.jpg" if stem else f"{number:05}.jpg"
        (self.folder / picture).write_bytes(found.overlay(SIDE))
        row = describe_explanation(found) | {"picture": picture}
        self._written.append(row)
        with open(self.folder / TABLE, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Write the page that shows all of them."""
        if self._written:
            page = render_page(self._written)
            (self.folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")


def describe_explanation(found: Explanation) -> dict[str, Any]:
    """An explanation without its map and picture, for JSON."""
    return {
        "path": found.path,
        "id": found.id,
        "label": str(found.label),
        "runner_up": str(found.runner_up),
        "evidence": found.evidence,
        "rest": found.rest,
        "exact": found.is_exact,
        "box": list(found.box),
        "nearest": [asdict(own) for own in found.nearest],
    }


def render_page(rows: Sequence[dict]) -> str:
    """A page of the pictures beside it; names are escaped."""
    return HEAD + "".join(map(_figure, rows)) + "</main>\n"


def _figure(row: dict) -> str:
    label, other = _text(row["label"]), _text(row["runner_up"])
    odds = math.exp(min(abs(row["evidence"]), 20.0))
    sure = "for" if row["evidence"] >= 0 else "against"
    near = "".join(
        f"<li>{_text(own['label'])}, {own['distance']:.3f}: {_text(own['path'])}</li>"
        for own in row["nearest"]
    )
    near = (
        f"<details><summary>nearest training images</summary><ol>{near}</ol></details>"
        if near
        else ""
    )
    how = "" if row["exact"] else " (found by covering places)"
    said = f"<b>{label}</b> rather than {other}: odds of {odds:,.3g} to 1 {sure} it{how}"
    image = f'<img loading="lazy" src="{row["picture"]}" alt="{label}: where the evidence lies">'
    return (
        f"<figure>{image}<figcaption>{_text(row['path'])}<br>{said}{near}</figcaption></figure>\n"
    )


def _text(name: str) -> str:
    return html.escape(shown(name))


HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Where the evidence lies</title>
<style>
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }
body { margin: 1rem } main { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; width: 320px; max-width: 100%; overflow-wrap: anywhere }
img { width: 100%; height: auto } ol { margin: 0; padding-left: 1.5em }
.for { color: #fff; background: #a84300 } .against { color: #fff; background: #542788 }
.for, .against { padding: 0 .3em }
</style>
<h1>Where the evidence lies</h1>
<p>Places in <span class="for">orange</span> speak for the label that an image was given, places in
<span class="against">purple</span> for the next best one; what is dark was not seen. Each picture
has a scale of its own. It says what the classifier goes by, not what is true.</p>
<main>
"""
