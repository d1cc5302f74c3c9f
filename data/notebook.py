"""What a notebook shows of our objects: small pieces of HTML without scripts, all names escaped."""

import base64
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from data.names import counted, listed_briefly, shown
from data.samples import Samples
from data.thumbnails import make_picture

MOST_CLASSES = 12  # that are counted in a table
MOST_PICTURES = 8
MOST_NOTES = 5
SECONDS = 2.0  # after which no further picture is made
MOST_LETTERS = 60  # of a name
MOST_TOLD = 400  # of a sentence

# Notebooks have themes of their own, which a page's media query knows nothing of: every shade here
# is made of the colour of the text around it. The class stands twice to outweigh a notebook's rules
# for tables.
STYLE = """
.permafrost-view.permafrost-view {
  font-size: 13px; line-height: 1.5; max-width: 860px; margin: 6px 0 10px; padding: 10px 14px 12px;
  border: 1px solid color-mix(in srgb, currentColor 22%, transparent); border-radius: 8px;
  overflow-wrap: anywhere; box-sizing: border-box;
  --blue: #3d8fae; --quiet: color-mix(in srgb, currentColor 72%, transparent);
  --line: 1px solid color-mix(in srgb, currentColor 12%, transparent);
  & p { margin: 0 0 8px; }
  & .title { font-size: 14px; }
  & .title strong { margin-right: 8px; }
  & .quiet, & thead th, & .facts th { color: var(--quiet); }
  & .large { font-size: 20px; line-height: 1.3; font-weight: 600; }
  & .warning { border-left: 3px solid #c98a1b; padding-left: 9px; }
  & .scroll { overflow-x: auto; }
  & table { border-collapse: collapse; table-layout: auto; margin: 0 0 10px; border: 0;
    font-size: 13px; font-variant-numeric: tabular-nums; color: inherit; }
  & thead { border: 0; }
  & tbody tr:nth-child(n), & thead tr { background: none; }
  & th, & td { text-align: left; vertical-align: middle; white-space: nowrap; font-weight: 400;
    line-height: 1.5; padding: 3px 14px 3px 0; max-width: none; background: none; border: 0;
    border-bottom: var(--line); }
  & .facts td { white-space: normal; }
  & .figure { text-align: right; }
  & .marked th, & .marked td { font-weight: 600; }
  & .drawn { display: inline-block; position: relative; width: 90px; height: 10px;
    vertical-align: middle; }
  & .drawn span { position: absolute; top: 1px; height: 8px; min-width: 2px; border-radius: 4px;
    background: color-mix(in srgb, var(--blue) 55%, transparent); }
  & .drawn .dot { width: 8px; margin-left: -4px; background: var(--blue); }
  & .drawn .bar { background: var(--blue); border-radius: 2px; }
  & .pictures { display: flex; flex-wrap: wrap; gap: 8px; }
  & figure { margin: 0; width: 88px; font-size: 12px; }
  & figure img, & figure .none { width: 88px; height: 72px; max-width: none; object-fit: contain;
    display: flex; align-items: center; justify-content: center; margin: 0; border-radius: 4px;
    background: color-mix(in srgb, currentColor 8%, transparent); }
  & figcaption { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
}
"""


def view(kind: str, note: Any, *parts: Markup | str) -> str:
    """A frame with a title and what is in it.

    Parameters
    ----------
    kind : str
        What the object is.
    note : str
        What is said of it beside its title.
    *parts : Markup
        As the other functions here give them; an empty one is left out.

    Returns
    -------
    str

    Examples
    --------
    >>> "&lt;b&gt;" in view("Samples", "<b>", paragraph("2 images"))
    True
    """
    title = Markup('<p class="title"><strong>{}</strong><span class="quiet">{}</span></p>')
    inside = Markup("\n").join(
        [title.format(text(kind), text(note, MOST_TOLD)), *filter(None, parts)]
    )
    frame = Markup('<div class="permafrost-view">\n<style>{}</style>\n{}\n</div>')
    return str(frame.format(Markup(STYLE), inside))


def text(value: Any, most: int = MOST_LETTERS) -> Markup:
    """Anything as text: markup as it is, all else escaped, on one line, cut where it is long."""
    return value if isinstance(value, Markup) else Markup.escape(brief(shown(str(value)), most))


def brief(words: str, most: int = MOST_LETTERS) -> str:
    """Text of at most so many letters, its middle left out: both ends of a path say something.

    Examples
    --------
    >>> brief("photos/summer/cats/1.jpg", 15)
    'photos/…s/1.jpg'
    """
    half = most // 2
    return words if len(words) <= most else f"{words[: most - half - 1]}…{words[-half:]}"


def paragraph(words: Any, kind: str = "") -> Markup:
    """A paragraph; kind : "large", "quiet" or "warning"."""
    if not words:
        return Markup("")
    return Markup('<p class="{}">{}</p>').format(kind, text(words, MOST_TOLD))


def facts(rows: Iterable[tuple[str, Any]]) -> Markup:
    """A table of names and values; rows whose value is None are left out."""
    line = Markup('<tr><th scope="row">{}</th><td>{}</td></tr>')
    lines = [line.format(text(name), text(value)) for name, value in rows if value is not None]
    return Markup('<table class="facts"><tbody>{}</tbody></table>').format(Markup("").join(lines))


def table(
    header: Sequence[str], rows: Sequence[Sequence], figures: Sequence[int] = (), marked: int = -1
) -> Markup:
    """A table whose first column names the rows.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences
        Of text or markup.
    figures : sequence of int
        Columns that are set to the right.
    marked : int
        The row that stands out.

    Returns
    -------
    Markup
    """
    kinds = [Markup(' class="figure"') if i in figures else "" for i in range(len(header))]
    head = [
        Markup('<th scope="col"{}>{}</th>').format(kind, text(name))
        for kind, name in zip(kinds, header, strict=True)
    ]
    lines = []
    for number, row in enumerate(rows):
        cells = [Markup('<th scope="row"{}>{}</th>').format(kinds[0], text(row[0]))]
        for kind, cell in zip(kinds[1:], row[1:], strict=True):
            cells.append(Markup("<td{}>{}</td>").format(kind, text(cell)))
        own = Markup(' class="marked"') if number == marked else ""
        lines.append(Markup("<tr{}>{}</tr>").format(own, Markup("").join(cells)))
    frame = Markup('<div class="scroll" role="region" aria-label="table" tabindex="0">{}</div>')
    whole = Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>")
    return frame.format(whole.format(Markup("").join(head), Markup("\n").join(lines)))


def drawn_share(share: float) -> Markup:
    """A bar of so much of the width."""
    return Markup(
        '<span class="drawn" aria-hidden="true">'
        '<span class="bar" style="left:0;width:{:.1f}%"></span></span>'
    ).format(100 * share)


def drawn_interval(low: float, value: float, high: float, start: float, end: float) -> Markup:
    """An interval and its value between the ends of a scale."""
    span = (end - start) or 1.0
    left, middle, right = (100 * (at - start) / span for at in (low, value, high))
    return Markup(
        '<span class="drawn" aria-hidden="true">'
        '<span style="left:{:.1f}%;width:{:.1f}%"></span>'
        '<span class="dot" style="left:{:.1f}%"></span></span>'
    ).format(left, right - left, middle)


def pictures(rows: Iterable[tuple[bytes | None, str, str]]) -> Markup:
    """Small pictures.

    rows : (JPEG file or None, caption, name of the file), each. None is one that can't be shown.
    """
    shown_one = Markup('<img src="data:image/jpeg;base64,{}" alt="{}">')
    missing = Markup('<span class="none quiet">not readable</span>')
    figure = Markup('<figure title="{}">{}<figcaption>{}</figcaption></figure>')
    found = []
    for picture, caption, name in rows:
        code = base64.b64encode(picture or b"").decode()
        inside = missing if picture is None else shown_one.format(code, text(name))
        found.append(figure.format(text(name), inside, text(caption)))
    return Markup('<div class="pictures">{}</div>').format(Markup("").join(found))


def samples_view(samples: Samples) -> str:
    """The classes of samples with their counts, and a few pictures, made as they are shown."""
    said = [counted(len(samples), "image")]
    if samples.labels is not None:
        said.append(counted(len(samples.classes), "class"))
    if samples.groups is not None:
        said.append(counted(len(np.unique(samples.groups)), "group"))
    passed = [f"{n} {reason}" for reason, n in samples.passed_over.items()]
    problems = counted(len(samples.problems), "entry", "entries")
    return view(
        f"Samples {brief(samples.name)}",
        " · ".join(said),
        _class_table(samples) if samples.labels is not None else paragraph("No labels.", "quiet"),
        paragraph(samples.problems and f"{problems} can't be used: see .problems", "warning"),
        paragraph(passed and f"passed over: {listed_briefly(passed)}", "quiet"),
        *(paragraph(note, "quiet") for note in samples.notes[:MOST_NOTES]),
        pictures(_pictures_of(samples)) if len(samples) else Markup(""),
    )


def _class_table(samples: Samples) -> Markup:
    """Images of each class, the largest first; in the parts of a split where there is one."""
    assert samples.labels is not None
    of_all = Counter(samples.labels.tolist())
    names = sorted(samples.classes, key=lambda name: (-of_all[name], name))
    parts = [] if samples.split is None else ["train", "test"]
    counts = [Counter(samples.labels[samples.split == part].tolist()) for part in parts]
    most = max(of_all.values(), default=1)
    rows = [
        (name, of_all[name], *(own[name] for own in counts), drawn_share(of_all[name] / most))
        for name in names[:MOST_CLASSES]
    ]
    header = ["class", "images", *parts, ""]
    found = table(header, rows, figures=range(1, 2 + len(parts)))
    left = names[MOST_CLASSES:]
    if left:
        n_left = sum(of_all[name] for name in left)
        said = f"… and {counted(len(left), 'class')} more with {counted(n_left, 'image')}"
        found += paragraph(said, "quiet")
    return found


def _pictures_of(samples: Samples) -> list[tuple[bytes | None, str, str]]:
    """Pictures of a few images, of every class one before a second of any."""
    found: list[tuple[bytes | None, str, str]] = []
    inputs, started = samples.inputs, time.monotonic()
    for row in _drawn(samples.labels, len(samples)):
        path = samples.paths[row]
        caption = os.path.basename(path) if samples.labels is None else samples.labels[row]
        found.append((_picture_of(inputs, row), str(caption), path))
        if time.monotonic() - started > SECONDS:
            break
    return found


def _drawn(labels: np.ndarray | None, n: int) -> list[int]:
    """Rows spread over the set: of the first classes, each in turn."""
    if labels is None:
        return np.unique(np.linspace(0, n - 1, min(n, MOST_PICTURES)).astype(int)).tolist()
    by_class = [np.flatnonzero(labels == name) for name in np.unique(labels)[:MOST_PICTURES]]
    each = -(-MOST_PICTURES // len(by_class))
    spread = [
        rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), each)).astype(int))].tolist()
        for rows in by_class
    ]
    turns = [rows[turn] for turn in range(each) for rows in spread if turn < len(rows)]
    return turns[:MOST_PICTURES]


def _picture_of(inputs: Sequence | np.ndarray, row: int) -> bytes | None:
    # a lazy sequence may raise what it likes, and what can't be shown is no reason to show nothing
    try:
        return make_picture(inputs[row])
    except Exception:
        return None
