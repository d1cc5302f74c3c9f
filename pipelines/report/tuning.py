"""What fine-tuning brought, in words: the ways side by side, what is kept, how it was trained."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from data.names import counted, shown
from pipelines.evaluation.scoring import SCORINGS
from pipelines.report.files import REPORT, RESULTS
from pipelines.report.since import since_in_words
from pipelines.report.text import table
from pipelines.report.timing import time_in_words

# by name of a way, as printed; the frozen run's says what was chosen
WAYS = {
    "last layer": "the last layer, frozen, with logistic regression",
    "frozen": "what the frozen run chose",
    "tuned": "the tuned network",
    "joined": "the tuned network averaged with what the frozen run chose",
}
VERDICTS = {
    "better": "better beyond chance",
    "worse": "worse beyond chance",
    "same": "the same, within two points",
}
START = -1  # the epoch before any step


def tuning_summary(results: Mapping, out: Path) -> str:
    """The ways, what is kept and why, what the test images say, what to type next."""
    whole, *more = time_in_words(results)
    lines = [
        *_ways_in_words(results),
        "",
        kept_in_words(results),
        *differences_in_words(results),
        outcome_in_words(results),
        *advised_in_words(results),
        *since_in_words(results["compared"]),
        training_in_words(results["tuning"]),
        f"time: {whole}",
        *[f"  {line}" for line in more],
        "",
        *([f"page: {out / REPORT}"] if "report" in results["seconds"] else []),
        f"results: {out / RESULTS}",
        f"predict: python -m pipelines.predict {shlex.quote(str(out / 'model'))} IMAGES",
        *_network_in_words(results["tuning"], out),
        "",
    ]
    return "\n".join(map(shown, lines))


def _network_in_words(tuning: Mapping, out: Path) -> list[str]:
    """How to take the network elsewhere; one that learnt nothing is its base."""
    if tuning["best"] == START:
        return []
    return [f"the network for other images: --backbone {shlex.quote(str(out))}"]


def _ways_in_words(results: Mapping) -> list[str]:
    header = ("way", "validation log loss", "test accuracy (95 %)", "log loss", "balanced", "")
    rows = []
    for own in results["ways"]["rows"]:
        figures = own["test_metrics"]
        accuracy = figures["accuracy"]
        rows.append(
            (
                own["name"],
                f"{own['validation_log_loss']:.3f}",
                f"{accuracy['value']:.4f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})",
                f"{figures['log_loss']['value']:.3f}",
                f"{figures['balanced_accuracy']['value']:.3f}",
                "kept" if own["kept"] else "",
            )
        )
    lines = table(header, rows).split("\n")
    chosen = results["chosen"]
    return [*lines, f"frozen: {chosen['head']} on {chosen['tap'] or 'several taps'}"]


def places_of_kept(results: Mapping) -> list[tuple[str | int, ...]]:
    """Where in the results the test accuracy of what is kept stands, and the ends of its interval;
    of a run that tuned nothing, those of what was chosen."""
    if "tuning" not in results:
        return [("chosen", f"test_{name}") for name in ("accuracy", "low", "high")]
    names = [own["name"] for own in results["ways"]["rows"]]
    row = names.index(results["tuning"]["kept"])
    return [
        ("ways", "rows", row, "test_metrics", "accuracy", name) for name in ("value", "low", "high")
    ]


def kept_in_words(results: Mapping) -> str:
    """Which way is kept, and by what."""
    found, tuning = results["ways"], results["tuning"]
    by = SCORINGS[found["chosen_by"]]
    what = "least log loss" if by.name == "neg_log_loss" else f"best {by.words}"
    images = counted(tuning["n_validation"], "validation image")
    if results["settings"].get("choose") == "simplest":
        why = f"the simplest that the {what} on the {images} does not beat beyond chance"
    elif tuning["kept"] == "joined":
        why = f"the {what} on the {images} does not beat it beyond chance"
    else:
        why = f"the {what} on the {images}"
    return f"kept: {WAYS[tuning['kept']]}: {why}; no test image took part in it"


def differences_in_words(results: Mapping) -> list[str]:
    """Of the tuned network and what it is joined to, against both frozen ways."""
    return [
        f"test accuracy, {own['first']} less {own['second']}: {own['difference']:+z.4f} "
        f"({own['low']:+.4f} to {own['high']:+.4f}), {verdict_of(own)}; "
        f"{counted(own['n_gained'], 'image')} righted, {own['n_lost']} lost, "
        f"McNemar's p {own['p_mcnemar']:.2g}"
        for own in results["ways"]["differences"]
        if own["first"] in ("tuned", "joined") and own["second"] in ("frozen", "last layer")
    ]


def verdict_of(difference: Mapping) -> str:
    """What the interval says."""
    return VERDICTS.get(difference["verdict"], difference["verdict"])


def outcome_in_words(results: Mapping) -> str:
    """Whether tuning was worth it on these images, by the test images."""
    against = {
        own["first"]: own for own in results["ways"]["differences"] if own["second"] == "frozen"
    }
    alone, joined = against["tuned"], against.get("joined")
    if results["tuning"]["best"] == START:
        return "tuning taught the network nothing here: neither it nor what it is joined to is kept"
    if joined and joined["verdict"] == "better":
        better = "joined to the frozen heads" if alone["verdict"] != "better" else "alone or joined"
        return f"tuning is worth it here: {better} it beats them beyond chance"
    if alone["verdict"] == "better":
        return "tuning is worth it here: it beats the frozen heads beyond chance"
    if alone["verdict"] == "worse":
        return (
            "tuning loses here: the frozen heads, which take earlier layers too, know more than "
            "the tuned last one"
        )
    if alone["verdict"] == "same":
        return "tuning makes no difference here beyond two points"
    unknown = "these test images can't tell whether tuning is worth it"
    if alone["difference"] == 0:
        return f"{unknown}: as many are right as by the frozen heads"
    lead = "ahead of" if alone["difference"] > 0 else "behind"
    return f"{unknown}: it is {lead} the frozen heads by less than chance makes"


def advised_in_words(results: Mapping) -> list[str]:
    """What the frozen run had said of tuning, where it said anything."""
    advised = [own for own in results.get("advised", ()) if own["about"] == "tuning"]
    return [f"the frozen run's own figures had said: {own['sentence']}" for own in advised]


def training_in_words(tuning: Mapping) -> str:
    """What was trained, from what, for how long, and which epoch was taken."""
    layers = sum(len(own["layers"]) for own in tuning["groups"])
    settings, history = tuning["settings"], tuning["history"]
    start = history[0]["val_loss"]
    source = "the images"
    if tuning["source"] == "activations":
        views = min(settings["views"] or settings["epochs"], settings["epochs"])
        n_views = 1 if settings["augment"] == "off" else views
        source = f"kept activations of {counted(n_views, 'view')}"
    parts = [
        f"trained: {counted(layers, 'block')} of {tuning['backbone']} from {source}, "
        f"{counted(len(history) - 1, 'epoch')} over {tuning['n_trained']} images"
    ]
    if tuning["best"] == START:
        parts.append("none better than the start on the validation images: nothing was learnt")
    else:
        taken = next(own for own in history if own["epoch"] == tuning["best"])
        parts.append(
            f"epoch {tuning['best'] + 1} taken, validation loss {start:.3f} before and "
            f"{taken['val_loss']:.3f} then"
        )
        if tuning["share"] < 1:
            parts.append(f"its weights averaged with the start's, {tuning['share']:.0%} of them")
    took = tuning["training_seconds"] + tuning["views_seconds"]
    return "; ".join([*parts, f"{took:.0f} s"])
