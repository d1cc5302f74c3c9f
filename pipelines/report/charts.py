"""The figures of a run's page as Vega-Lite specifications, and the script that draws them."""

import contextlib
import math
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from extract.files import read_remembered, remove_abandoned, write_remembered

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
# colours of the page's style sheet, so that a figure follows light and dark without being redrawn
INK, QUIET, LINE, ACCENT = "var(--ink)", "var(--quiet)", "var(--line)", "var(--accent)"
SECOND = "var(--second)"
N_COLOURS = 10
SNIPPET = "window.vegaEmbed = vegaEmbed;"  # all that the page calls
KEPT = "page"  # folder of the cache in which the script is remembered
CONFIG = {
    "background": None,
    "view": {"stroke": None},
    "font": "inherit",
    "axis": {
        "labelColor": QUIET,
        "titleColor": QUIET,
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    # the page's font is not known where labels are measured: the title would lie over them
    "axisY": {"minExtent": 42},
}


def figure_script(kept: Path | None = None) -> str:
    """Vega, Vega-Lite and Vega-Embed as one script.

    kept : a folder in which it is remembered, since to join it takes seconds; None is nowhere.
    """
    file = kept and kept / f"vega-{version('vl-convert-python')}.json"
    is_joined = joined_script.cache_info().currsize > 0
    script = read_remembered(file) if file and not is_joined else None
    if isinstance(script, str):
        return script
    script = joined_script()
    if file and not (is_joined and file.exists()):
        with contextlib.suppress(OSError):  # it saves time alone
            remove_abandoned(file.parent)
            write_remembered(file, script)
    return script


@cache
def joined_script() -> str:
    """Joined once in a process: it takes seconds."""
    import vl_convert

    return vl_convert.javascript_bundle(SNIPPET)


def learning_curve(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy by training images, with its interval as a band."""
    x = {
        "field": "images",
        "type": "quantitative",
        "title": "training images",
        "scale": {"type": "log", "nice": False, "padding": 8},
        "axis": {"values": [point["images"] for point in points], "format": ",.0f", "grid": False},
    }
    return _layered(points, x, "accuracy", _percent("accuracy", domain=None))


def calibration(bins: list[dict[str, Any]]) -> dict[str, Any]:
    """The share right by the probability given; on the diagonal they are one."""
    both = {"values": [{"a": 0, "b": 0}, {"a": 1, "b": 1}]}
    x = _percent("probability given")
    diagonal = {
        "data": both,
        "mark": {"type": "line", "stroke": QUIET, "strokeDash": [4, 4], "strokeWidth": 1},
        "encoding": {"x": x | {"field": "a"}, "y": _percent("share right") | {"field": "b"}},
    }
    rule = {
        "mark": {"type": "rule", "stroke": ACCENT, "strokeWidth": 1.5, "opacity": 0.6},
        "encoding": {
            "x": x | {"field": "confidence"},
            "y": _percent("share right") | {"field": "low"},
            "y2": {"field": "high"},
        },
    }
    point = {
        "mark": {"type": "point", "filled": True, "fill": ACCENT, "opacity": 1},
        "encoding": {
            "x": x | {"field": "confidence"},
            "y": _percent("share right") | {"field": "accuracy"},
            "size": {
                "field": "images",
                "type": "quantitative",
                "legend": None,
                "scale": {"range": [30, 260], "zero": True},
            },
            "tooltip": [
                _told("confidence", "probability given"),
                _told("accuracy", "share right"),
                {"field": "images", "title": "images"},
            ],
        },
    }
    return _figure({"values": bins}, [diagonal, rule, point])


def confidence(curve: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept, and what of it is right, by the probability from which answers count."""
    # up to the least probability that occurs, all is kept
    first = max(i for i, point in enumerate(curve) if point["kept"] == 1)
    curve = curve[first:]
    x = _percent("accept answers from this probability on", [curve[0]["threshold"], 1])
    x |= {"field": "threshold"}
    lowest = min(min(point["kept"], point["low"]) for point in curve)
    share = _percent("share", [math.floor(10 * lowest) / 10, 1])
    tooltip = [
        _told("threshold", "from"),
        _told("kept", "kept"),
        _told("accuracy", "right of those"),
        {"field": "images", "title": "images kept"},
    ]

    def line(field: str, colour: str) -> dict[str, Any]:
        return {
            "mark": {"type": "line", "stroke": colour, "strokeWidth": 2.5},
            "encoding": {"x": x, "y": share | {"field": field}, "tooltip": tooltip},
        }

    band = {
        "mark": {"type": "area", "fill": ACCENT, "opacity": 0.15},
        "encoding": {"x": x, "y": share | {"field": "low"}, "y2": {"field": "high"}},
    }
    rule = {
        "data": {"name": "chosen", "values": [{"threshold": 0.9}]},
        "mark": {"type": "rule", "stroke": INK, "strokeDash": [3, 3]},
        "encoding": {"x": x},
    }
    layers = [band, line("accuracy", ACCENT), line("kept", SECOND), rule]
    return _figure({"values": curve}, layers)


def epochs(history: list[dict[str, Any]], best: int) -> dict[str, Any]:
    """The loss of the validation images and of those trained on, epoch by epoch from the start.

    best : the epoch whose weights were taken; -1 is the start.
    """
    values = [{**own, "after": own["epoch"] + 1} for own in history]
    ticks = {"values": [own["after"] for own in values], "format": ",.0f", "grid": False}
    x = {"field": "after", "type": "quantitative", "title": "epochs", "axis": ticks}
    loss = {"type": "quantitative", "title": "loss", "scale": {"zero": False}}
    tooltip = [
        {"field": "after", "title": "epochs"},
        {"field": "val_loss", "title": "validation loss", "format": ".3f"},
        {"field": "train_loss", "title": "training loss", "format": ".3f"},
        _told("val_accuracy", "validation accuracy"),
    ]

    def line(field: str, colour: str) -> dict[str, Any]:
        mark = {"type": "line", "point": {"fill": colour}, "stroke": colour, "strokeWidth": 2.5}
        return {
            "mark": mark,
            "encoding": {"x": x, "y": loss | {"field": field}, "tooltip": tooltip},
        }

    taken = {
        "data": {"values": [{"after": best + 1}]},
        "mark": {"type": "rule", "stroke": INK, "strokeDash": [3, 3]},
        "encoding": {"x": x},
    }
    lines = [taken, line("train_loss", SECOND), line("val_loss", ACCENT)]
    return _figure({"values": values}, lines)


def stability(rows: list[dict[str, Any]], k: int) -> dict[str, Any]:
    """How far clusterings agree by their number of clusters, beside points without groups.

    k : the number that was taken.
    """
    ticks = {"values": [own["k"] for own in rows], "format": ",.0f", "grid": False}
    x = {"field": "k", "type": "quantitative", "title": "clusters", "axis": ticks}
    x |= {"scale": {"type": "log", "nice": False, "padding": 8}}
    y = {"type": "quantitative", "title": "agreement", "scale": {"zero": False}}
    tooltip = [
        {"field": "k", "title": "clusters"},
        {"field": "agreement", "title": "agreement", "format": ".3f"},
        {"field": "reference", "title": "without groups", "format": ".3f"},
    ]

    def line(field: str, colour: str) -> dict[str, Any]:
        mark = {"type": "line", "point": {"fill": colour}, "stroke": colour, "strokeWidth": 2.5}
        return {"mark": mark, "encoding": {"x": x, "y": y | {"field": field}, "tooltip": tooltip}}

    taken = {
        "data": {"values": [{"k": k}]},
        "mark": {"type": "rule", "stroke": INK, "strokeDash": [3, 3]},
        "encoding": {"x": x},
    }
    return _figure({"values": rows}, [taken, line("reference", SECOND), line("agreement", ACCENT)])


def image_map(classes: list[str]) -> dict[str, Any]:
    """Images in two dimensions; the page's script gives it the points and reads the box."""
    colours = [f"var(--class-{i % N_COLOURS})" for i in range(len(classes))]
    plain = {"axis": None, "type": "quantitative", "scale": {"zero": False, "padding": 14}}
    dimmed = {"test": "picked != null && picked != datum.label", "value": 0.07}
    shown = {"test": "datum.part == 'test' || datum.wrong", "value": 0.95}
    spec = {
        "data": {"name": "points", "values": []},
        "params": [
            {"name": "picked", "value": None},
            {
                "name": "box",
                "select": {
                    "type": "interval",
                    "encodings": ["x", "y"],
                    "mark": {"fill": ACCENT, "fillOpacity": 0.12, "stroke": ACCENT},
                },
            },
        ],
        "mark": {"type": "point", "filled": True, "aria": False, "cursor": "crosshair"},
        "encoding": {
            "x": plain | {"field": "x"},
            "y": plain | {"field": "y"},
            "fill": {
                "field": "label",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": list(range(len(classes))), "range": colours},
            },
            "shape": {
                "field": "part",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": ["train", "test"], "range": ["circle", "diamond"]},
            },
            "size": {"condition": {"test": "datum.part == 'test'", "value": 64}, "value": 34},
            "opacity": {"condition": [dimmed, shown], "value": 0.5},
            "stroke": {"condition": {"test": "datum.wrong", "value": INK}, "value": "none"},
            "strokeWidth": {"condition": {"test": "datum.wrong", "value": 2}, "value": 0},
            "order": {"field": "order", "type": "quantitative"},
        },
    }
    frame = {"width": "container", "height": "container", "config": CONFIG}
    return {"$schema": SCHEMA, **frame, "autosize": {"type": "fit", "contains": "padding"}, **spec}


def _layered(values: list, x: dict, field: str, y: dict) -> dict[str, Any]:
    """A line with points and the band of its interval."""
    tooltip = [
        {"field": x["field"], "title": x["title"], "format": ",.0f"},
        _told(field, field),
        _told("low", "95 % interval from"),
        _told("high", "to"),
    ]
    band = {
        "mark": {"type": "area", "fill": ACCENT, "opacity": 0.15},
        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}},
    }
    line = {
        "mark": {"type": "line", "stroke": ACCENT, "strokeWidth": 2.5},
        "encoding": {"x": x, "y": y | {"field": field}},
    }
    point = {
        "mark": {"type": "point", "filled": True, "fill": ACCENT, "size": 60, "opacity": 1},
        "encoding": {"x": x, "y": y | {"field": field}, "tooltip": tooltip},
    }
    return _figure({"values": values}, [band, line, point])


def _figure(data: dict, layers: list[dict]) -> dict[str, Any]:
    frame = {"width": "container", "height": 260, "config": CONFIG}
    return {"$schema": SCHEMA, **frame, "data": data, "layer": layers}


def _percent(title: str, domain: Sequence[float] | None = (0, 1)) -> dict[str, Any]:
    scale = {"zero": False, "nice": True} if domain is None else {"domain": list(domain)}
    axis = {"format": ".0%", "tickCount": 5}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _told(field: str, title: str) -> dict[str, str]:
    return {"field": field, "title": title, "format": ".1%"}
