"""`report.html`: what a run found as one page that asks nothing of the network."""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from data.corrections import DROP as WORD_FOR_NONE
from data.names import counted, shown
from extract.backbones import BASELINES
from extract.preprocessing import name_of
from pipelines.evaluation.metrics import METRICS
from pipelines.evaluation.scoring import SCORINGS, SHARES
from pipelines.report import charts
from pipelines.report.caveats import find_warnings
from pipelines.report.files import UNLABELLED
from pipelines.report.following import advice_to_follow, followed_in_words
from pipelines.report.galleries import DROP, describe_images, find_galleries
from pipelines.report.images import ImageTable
from pipelines.report.inside import ChannelLook, LayerLook
from pipelines.report.layer_table import make_layer_tables
from pipelines.report.overlay import as_uri
from pipelines.report.pictures import ALL_UP_TO
from pipelines.report.shift import FAR, UNVOUCHED
from pipelines.report.since import changes_in_words, verdict_in_words
from pipelines.report.text import WHY_LEFT_OUT, n_taps, params_in_words
from pipelines.report.timing import EVERY_STAGE
from pipelines.report.tuning import (
    WAYS,
    kept_in_words,
    outcome_in_words,
    places_of_kept,
    training_in_words,
    verdict_of,
)
from pipelines.report.unlabelled import METHODS, unfamiliar_in_words

ANSWER_AT = 0.9  # threshold that the page begins with
MOST_CELLS = 24  # classes of which a matrix can be read; of more, the pairs confused are listed
LISTED_PAIRS = 60
DROPPED = -1  # in place of a class number


def make_page(
    results: dict,
    images: ImageTable,
    pictures: Mapping[str, bytes],
    kept: Path | None = None,
    seen: Sequence[ChannelLook] = (),
) -> str:
    """The page of a run, whole in itself.

    Parameters
    ----------
    results : dict
        What results.json holds.
    images : ImageTable
    pictures : mapping of str to bytes
        JPEG files by the id of their image, as of `extract.kept_pictures`; an image may have none.
    kept : Path, optional
        A folder in which the script that draws figures is remembered.
    seen : sequence of ChannelLook
        As of `find_seen`.

    Returns
    -------
    str
        HTML; names are escaped, and a policy in it forbids every request.
    """
    classes = results["data"]["classes"]
    galleries = find_galleries(results, images, pictures)
    page_data = {
        "images": describe_images(images, pictures, classes),
        "galleries": {own.key: _by_number(own.items, classes) for own in galleries},
        "mends": WORD_FOR_NONE not in classes,
        "specs": _specifications(results),
        "curve": results["answers"]["test"]["by_confidence"],
    }
    return render(
        "page.html",
        results,
        kept,
        page_data,
        **_drawn_from(results),
        galleries=galleries,
        n_drawn=int((images.x == images.x).sum()),
        n_images=len(images),
        many=ALL_UP_TO,
        mends=WORD_FOR_NONE not in classes,
        n_pictures=sum(own in pictures for own in images.id),
        looks=seen,
    )


def render(
    template: str, results: dict, kept: Path | None, page_data: dict[str, Any], **drawn: Any
) -> str:
    """A page with its style, its scripts and the policy that allows these alone.

    drawn : what the template reads beside the results. kept : as of `make_page`.
    """
    scripts = [charts.figure_script(kept), _read("page.js")]
    filled = _environment(results).get_template(template)
    return filled.render(
        results=results,
        stages=_stages(results["seconds"]),
        command=shlex.join(map(str, results["command"])),
        **drawn,
        style=Markup(_read("page.css")),
        scripts=list(map(Markup, scripts)),
        policy=_policy(scripts),
        page_data=_embedded(page_data),
    )


def make_look_page(look: LayerLook) -> str:
    """The page of what a layer sees, whole in itself like a run's."""
    return render_still("inside_page.html", {}, look=look)


def render_still(template: str, results: dict, **drawn: Any) -> str:
    """A page with its style and without a script, whole in itself; drawn : as of `render`."""
    return (
        _environment(results)
        .get_template(template)
        .render(results=results, **drawn, style=Markup(_read("page.css")), policy=_policy([]))
    )


def _by_number(items: list[dict], classes: list[str]) -> list[dict]:
    """With the labels that are proposed as numbers of classes: names are shown in other letters."""
    number = {name: i for i, name in enumerate(classes)} | {DROP: DROPPED}
    return [item | {"propose": number[item["propose"]]} for item in items]


def _specifications(results: dict) -> dict[str, dict]:
    """The figures by the name of their frame."""
    answers = results["answers"]["test"]
    tuning = results.get("tuning")
    epochs = {"epochs": charts.epochs(tuning["history"], tuning["best"])} if tuning else {}
    return {
        **epochs,
        "learning": charts.learning_curve(results["learning_curve"]["points"]),
        "calibration": charts.calibration(answers["reliability"]),
        "confidence": charts.confidence(answers["by_confidence"]),
        "map": charts.image_map(results["data"]["classes"]),
    }


def _drawn_from(results: dict) -> dict[str, Any]:
    """What the templates read, of the results alone."""
    classes, answers = results["data"]["classes"], results["answers"]["test"]
    cells = answers["confusion"]
    return {
        "classes": classes,
        "answers": answers,
        "cells": {(own["label"], own["predicted"]): i for i, own in enumerate(cells)},
        "confused": _confused(cells),
        "number": {name: i for i, name in enumerate(classes)},
        "as_matrix": len(classes) <= MOST_CELLS,
        "curve": answers["by_confidence"],
        "answer_at": _nearest(answers["by_confidence"], ANSWER_AT),
        "layer_tables": make_layer_tables(results),
        "warnings": find_warnings(results, Figures(results)),
        "baselines": _baselines(results),
        "scoring": SCORINGS[results["scoring"]],
    }


class Figures:
    """Figures of results.json as the page writes them, each with the place where it stands."""

    def __init__(self, results: dict) -> None:
        self.results = results

    def percent(self, *place: str | int, digits: int = 1) -> Markup:
        """A share as per cent."""
        return self._written(place, 100, digits, "\u202f%")

    def number(self, *place: str | int, digits: int = 3) -> Markup:
        """A figure as it is."""
        return self._written(place, 1, digits, "")

    def at(self, place: Sequence[str | int]) -> Any:
        """What stands at a place of the results, to compute with."""
        value: Any = self.results
        for step in place:
            value = value[step]
        return value

    def score(self, *place: str | int) -> Markup:
        """A figure of the run's scoring: per cent where that is a share."""
        is_share = self.results["scoring"] in SHARES
        return self.percent(*place) if is_share else self.number(*place)

    def points(self, *place: str | int) -> Markup:
        """A difference of shares in points of a hundred."""
        return self._written(place, 100, 1, "")

    def of(self, n: int, *place: str | int) -> Markup:
        """A share of so many images, in whole ones."""
        return self._written(place, n, 0, "")

    def _written(self, place: tuple, scale: int, digits: int, unit: str) -> Markup:
        value = self.at(place)
        if value is None:
            return Markup("–")
        text = f"{scale * value:z.{digits}f}".replace("-", "\u2212")
        pointer = "".join("/" + str(s).replace("~", "~0").replace("/", "~1") for s in place)
        return Markup('<data value="{}" data-key="{}" data-scale="{}">{}</data>{}').format(
            json.dumps(value), shown(pointer), scale, text, unit
        )


def _environment(results: dict) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        # a name of bytes that are no UTF-8 could not be written
        finalize=lambda value: shown(value) if type(value) is str else value,
    )
    environment.globals |= {
        "f": Figures(results),
        "as_uri": as_uri,
        "counted": counted,
        "METRICS": METRICS,
        "WHY_LEFT_OUT": WHY_LEFT_OUT,
        "name_of": name_of,
        "of_hundreds": of_hundreds,
        "interval": interval,
        "n_taps": n_taps,
        "verdict_in_words": verdict_in_words,
        "changes_in_words": changes_in_words,
        "followed_in_words": followed_in_words,
        "shell_join": shlex.join,
        "WAYS": WAYS,
        "advice_to_follow": advice_to_follow,
        "kept_in_words": kept_in_words,
        "places_of_kept": places_of_kept,
        "outcome_in_words": outcome_in_words,
        "training_in_words": training_in_words,
        "verdict_of": verdict_of,
        "METHODS": METHODS,
        "unfamiliar_in_words": unfamiliar_in_words,
        "UNLABELLED": UNLABELLED,
        "UNVOUCHED": UNVOUCHED,
        "FAR": FAR,
    }
    environment.filters |= {"sentence": _sentence, "params": params_in_words}
    return environment


def of_hundreds(low: float, high: float) -> int:
    """Of how many images an interval is told: of a hundred, or as many as tell its ends apart."""
    for n in (100, 1000, 10_000):
        if round(n * low) < round(n * high) or low == high:
            return n
    return 10_000


def interval(low: float, value: float, high: float, start: float, end: float) -> Markup:
    """An interval with its value, drawn from the start to the end of a scale; cut off before it."""
    span = (end - start) or 1.0
    left, middle, right = (100 * max(at - start, 0) / span for at in (low, value, high))
    dot = Markup('<span class="dot" style="left:{:.2f}%"></span>').format(middle)
    return Markup(
        '<span class="interval" aria-hidden="true">'
        '<span class="range" style="left:{:.2f}%;width:{:.2f}%"></span>{}</span>'
    ).format(left, right - left, dot if value >= start else "")


def _nearest(curve: list[dict], threshold: float) -> int:
    """Place of the point whose threshold is nearest."""
    return min(range(len(curve)), key=lambda i: abs(curve[i]["threshold"] - threshold))


def _baselines(results: dict) -> list[tuple[str, int]]:
    """Names and places of the baselines, the best first."""
    names = {name: row.words for name, row in BASELINES.items()}
    names["majority"] = "always the largest class"
    rows = results["baselines"]
    order = sorted(range(len(rows)), key=lambda i: -rows[i]["cv_accuracy"])
    return [(names.get(rows[i]["backbone"], "the same network untrained"), i) for i in order]


def _stages(seconds: dict) -> list[tuple[str, str, float]]:
    """Key, words and share of the longest, of the stages that took any time, in their order."""
    timed = {name: value for name, value in seconds.items() if name != "total" and value}
    longest = max(timed.values(), default=1)
    return [(name, EVERY_STAGE[name].words, value / longest) for name, value in timed.items()]


def _confused(cells: list[dict]) -> list[int]:
    """Places of the cells of the confusion matrix that hold wrong answers, the largest first."""
    wrong = [i for i, own in enumerate(cells) if own["label"] != own["predicted"]]
    return sorted(wrong, key=lambda i: -cells[i]["images"])[:LISTED_PAIRS]


def _sentence(text: str) -> str:
    """Advice begins like a sentence and ends like one."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def _embedded(value: Any) -> Markup:
    """JSON that ends no script element and that no reader of HTML takes for markup."""
    text = json.dumps(value, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _policy(scripts: list[str]) -> str:
    """Nothing is loaded, and no script runs but those that the page was made with."""
    digests = [base64.b64encode(hashlib.sha256(own.encode()).digest()).decode() for own in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (resources.files("pipelines.report") / "template" / name).read_text("utf-8")
