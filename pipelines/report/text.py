"""A run's results as the text that a person reads at its end."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.names import counted, shown
from extract.backbones import BASELINES
from extract.preprocessing import name_of
from pipelines.evaluation.metrics import METRICS
from pipelines.evaluation.scoring import SCORINGS, Scoring
from pipelines.exploration.table import EXPLORATIONS
from pipelines.report.files import REPORT
from pipelines.report.following import advice_to_follow
from pipelines.report.since import since_in_words
from pipelines.report.timing import time_in_words
from pipelines.report.unlabelled import worth_in_words

MAJORITY_WORDS = "majority class"
UNTRAINED_WORDS = "the same network untrained"
SHOWN_ROWS = 10
WIDTH = 80  # of a terminal, for the leaderboard
LEAST_PARAMS = 8


def summary(results: dict, out: Path) -> str:
    """The leaderboard's top, the choice, what to mistrust, what to type next."""
    scoring = SCORINGS[results["scoring"]]
    several = len(results["backbones"]) > 1
    lines = [
        *_leaderboard_in_words(results, scoring, several),
        "",
        *_choice_in_words(results, scoring, several),
        *_familiar_in_words(results["familiarity"]),
        *worth_in_words(results.get("unlabelled")),
        *since_in_words(results["compared"]),
        *_advice_in_words(results),
        *[f"- {line}" for line in audit_in_words(results["audit"])],
        "",
        *_work_in_words(results),
        _final_in_words(results),
        *([f"page: {out / REPORT}"] if "report" in results["seconds"] else []),
        f"results: {out / 'results.json'}",
        f"predict: {_predict_call(results['backbone'], out / 'model')}",
        "",
    ]
    return "\n".join(map(shown, lines))


def _advice_in_words(results: dict) -> list[str]:
    """Each sentence, and below it the command that follows, to be copied."""
    lines = []
    for row in advice_to_follow(results):
        command = row["command"]
        lines.append(f"- {row['sentence']}{':' if command else ''}")
        lines += [f"    {shlex.join(command)}"] if command else []
    return lines


def _leaderboard_in_words(results: dict, scoring: Scoring, several: bool) -> list[str]:
    rows = results["leaderboard"]
    header = ("features", "head", "params", f"cv {scoring.words} (95 %)", "")
    place = place_of_chosen(results)
    shown = [place] if place >= SHOWN_ROWS else []
    shown = [*range(min(SHOWN_ROWS, len(rows))), *shown]
    cells = [_shown(rows[i], several, "chosen" if i == place else "") for i in shown]
    lines = table(header, _clipped(header, cells)).split("\n")
    if len(rows) > len(shown):
        lines.append(f"… and {len(rows) - len(shown)} more in results.json")
    n_tied = sum(row["tied"] for row in rows)
    lines.append(f"= tied: not beaten by the best beyond chance ({counted(n_tied, 'row')})")
    lines += stopped_in_words(rows)
    n_left_out = len(results["screened_out"])
    if n_left_out:
        were = counted(n_left_out, "more tap was", "more taps were")
        lines.append(f"{were} screened out by leave-one-out ridge regression")
    lines += _networks_in_words(results["networks"])
    lines += _views_in_words(results["views"])
    if results["baselines"]:
        lines.append(f"baselines: {baselines_in_words(results['baselines'])}")
    return lines


WHY_LEFT_OUT = {
    "no gain": "adds too little",
    "time": "no time for its pass",
    "enough": "there are enough",
    "unusable": "can't be used",
}


def _networks_in_words(networks: dict | None) -> list[str]:
    """Which networks are in the table, and why others that are here are not."""
    if networks is None:
        return []
    tried = networks["tried"]
    taken = ", ".join(f"{own['name']} ({_look_in_words(own)})" for own in tried if own["taken"])
    looked_at = max(own["images"] for own in tried)
    lines = [f"networks: {taken}: by the log loss of a first look at {looked_at} training images"]
    left_out = [f"{own['name']} ({_look_in_words(own)})" for own in tried if not own["taken"]]
    return lines + ([f"  left out {', '.join(left_out)}"] if left_out else [])


def _look_in_words(own: dict) -> str:
    """`0.412`, or `+0.050 above the best, +0.010 to +0.090`, and why it is not taken."""
    parts = []
    if own["difference"] is not None:
        ends = f"{own['low']:+.3f} to {own['high']:+.3f}"
        parts.append(f"{own['difference']:+.3f} above the best, {ends}")
    elif own["log_loss"] is not None:
        parts.append(f"{own['log_loss']:.3f}")
    if own["taken"] and own["gain"] is not None:
        parts.append(f"beside those before it {-own['gain']:+.0%}")
    if not own["taken"]:
        parts.append(own["problem"] or WHY_LEFT_OUT[own["why"]])
    if own["why"] == "time":
        parts.append(f"about {own['seconds']:.0f} s")
    return "; ".join(parts)


def _views_in_words(views: dict) -> list[str]:
    """Which views are in the table, and why others are not."""
    if views.get("augmented"):
        beside = counted(views["augmented"], "random view")
        judged = "judged on the images as they are"
        if views.get("averaged"):
            judged = "chosen on the images as they are, tested by the mean over all views"
        return [f"trained on {beside} of each image beside it; {judged}"]
    if not views["looked_at"]:
        return []
    by_use: dict[bool, list[str]] = {True: [], False: []}
    for view, gain in views["gains"].items():
        change = round(-100 * gain, 1) or 0.0  # no negative zero
        by_use[view in views["used"]].append(f"{name_of(view)} ({change:+.1f} %)")
    parts = [", ".join(["views: plain", *by_use[True]])]
    if by_use[False]:
        parts.append(f"left out {', '.join(by_use[False])}")
    return [
        f"{'; '.join(parts)}: by the log loss of a first look at {views['looked_at']} training "
        f"images, which a view has to lower by {100 * views['worth']:.0f} %"
    ]


def _choice_in_words(results: dict, scoring: Scoring, several: bool) -> list[str]:
    chosen, data = results["chosen"], results["data"]
    metrics = {name: figure["value"] for name, figure in chosen["test_metrics"].items()}
    # accuracy has a line of its own
    others = [name for name in METRICS if metrics.get(name) is not None and name != "accuracy"]
    lines = [
        f"chosen: {chosen['head']} on {_source(chosen, several)}{_why(results, scoring)}",
        f"test accuracy {chosen['test_accuracy']:.4f} (95 % interval {_interval(chosen, 'test')}) "
        f"on {counted(data['n_test'], 'image')}, trained on {data['n_train']}",
        "  " + ", ".join(f"{METRICS[name].words} {metrics[name]:z.3f}" for name in others),
    ]
    unit = ""
    if scoring.name != "accuracy":
        unit = f" {scoring.words}"
        lines.append(
            f"test {scoring.words} {chosen['test_score']:z.4f} ({_interval(chosen, 'test_score')})"
        )
    lines.append(
        f"cross-validated{unit}, corrected for the choice among {chosen['cv_corrected_among']} "
        f"settings tried: {chosen['cv_corrected']:z.4f} ({_interval(chosen, 'cv_corrected')})"
    )
    if data["imbalance"]["imbalanced"]:
        lines.append(f"recall of each class: {_recalls(chosen)}")
    return lines


def _familiar_in_words(found: dict) -> list[str]:
    """How many test images are unlike the training ones; none where it can't be told of any."""
    if found["n_judged"] < 1 / found["threshold"]:
        return []
    n, share = found["n_flagged"], found["share_flagged"]
    usual = f"{100 * found['threshold']:.0f} % of images like the training ones are"
    if not n:
        return [f"unlike the training images: no test image ({usual})"]
    line = f"unlike the training images: {counted(n, 'test image')} ({100 * share:.1f} %; {usual})"
    right = [found["accuracy_flagged"], found["accuracy_others"]]
    if right[1] is not None:
        line += f", {right[0]:.2f} of them right, of the others {right[1]:.2f}"
    return [line]


def _why(results: dict, scoring: Scoring) -> str:
    """Why a row was taken that is not the table's first."""
    chosen = results["chosen"]
    if chosen["why"] == "simplest":
        n_tied = sum(row["tied"] for row in results["leaderboard"])
        return f", the simplest of the {n_tied} tied rows"
    if chosen["why"] == "tied":
        return ", which no single row beats beyond chance"
    if chosen["why"] == "nested":
        return (
            f", whose score is nested: the best single row, chosen in the same way without the "
            f"fold that scores it, gives {scoring.words} {chosen['cv_nested']:z.4f}"
        )
    return ""


def _recalls(chosen: dict) -> str:
    """The recalls on the test images, the poorest first, each with its interval."""
    recalls, ends = chosen["test_recall"], chosen["test_recall_intervals"]
    poorest = sorted(recalls, key=lambda name: recalls[name])
    parts = [
        f"{name} {recalls[name]:.3f} ({ends[name]['low']:.3f} to {ends[name]['high']:.3f}, "
        f"{counted(ends[name]['images'], 'image')})"
        for name in poorest[:SHOWN_ROWS]
    ]
    left = len(poorest) - len(parts)
    return ", ".join(parts) + (f", … and {left} more in results.json" if left else "")


def _work_in_words(results: dict) -> list[str]:
    done = results["extraction"]
    whole, *more = time_in_words(results)
    return [
        f"features: {counted(done['computed'], 'image')} computed, {done['from_store']} from the "
        "store",
        f"time: {whole}",
        *[f"  {line}" for line in (*more, done["unused_gpu"]) if line],
    ]


def _final_in_words(results: dict) -> str:
    """Which images the saved classifier was fitted on, where the figures are of the split."""
    data, final = results["data"], results["final"]
    n_train = data["n_train"]
    if final["fitted_on"] == "all":
        return (
            f"saved: the chosen setting refitted on all {final['n_images']} images; the figures "
            f"above are of heads fitted on {n_train} and tested on the other {data['n_test']}"
        )
    return (
        f"saved: as tested, fitted on the {n_train} training images; --final all refits it on all "
        f"{n_train + data['n_test']}, the figures stay"
    )


def stopped_in_words(rows: list[dict]) -> list[str]:
    """A line about settings that a race stopped, where there are any."""
    # runs of before there was a race have none
    n_settings = sum(row.get("n_stopped", 0) for row in rows)
    if not n_settings:
        return []
    n_rows = sum(row["stopped"] for row in rows)
    were = counted(n_settings, "setting was", "settings were")
    whole = f", {counted(n_rows, 'row')} with all of theirs" if n_rows else ""
    return [
        f"{were} stopped after the first fold, beaten beyond chance{whole}; --thorough stops none"
    ]


def place_of_chosen(results: dict) -> int:
    """Where the chosen row stands in the table."""
    chosen = results["chosen"]
    rows = results["leaderboard"]
    return next(i for i, row in enumerate(rows) if row.items() <= chosen.items())


def _shown(row: dict, several: bool, note: str) -> tuple[str, ...]:
    # runs of before there was a race have no such mark
    note = note or ("stopped" if row.get("stopped") else "")
    return (
        _source(row, several),
        row["head"],
        params_in_words(row),
        f"{row['cv_score']:z.4f} ({_interval(row, 'cv_score', 3)})",
        f"{'=' if row['tied'] else ' '} {note}".rstrip(),
    )


SEEN = {"plain+flipped": " flips", "whole": " whole"}


def _clipped(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """The leaderboard's cells, of which the longest parameters and then the longest names of
    features are cut so that a line has no more than WIDTH letters."""
    widths = [
        max(len(line[i]) for line in (header, *map(_as_shown, rows))) for i in range(len(header))
    ]
    excess = sum(widths) + 2 * (len(widths) - 1) - WIDTH
    params = max(widths[2] - max(excess, 0), min(LEAST_PARAMS, widths[2]))
    source = max(widths[0] - max(excess - (widths[2] - params), 0), len(header[0]))
    return [
        (_cut_front(features, source), head, _cut_end(own, params), *rest)
        for features, head, own, *rest in map(_as_shown, rows)
    ]


def _as_shown(row: Sequence[str]) -> list[str]:
    return list(map(shown, row))


def _cut_front(text: str, width: int) -> str:
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def _cut_end(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _source(row: dict, several: bool) -> str:
    if row["head"] == "blend":
        return counted(n_taps(row), "tap")
    return (f"{row['backbone']} " if several else "") + row["tap"] + SEEN.get(row["view"], "")


def n_taps(row: dict) -> int:
    """How many features a blend takes: a tap in two views is two."""
    return len({(own["backbone"], own["tap"], own["view"]) for own in row["members"]})


def _predict_call(backbone: dict, model: Path) -> str:
    if not backbone["architecture"].startswith("own:"):
        return f"python -m pipelines.predict {shlex.quote(str(model))} IMAGES"
    return (
        f"load_classifier({str(model)!r}, backbone=…).predict(paths) in a script: "
        "a bundle holds no code"
    )


def _interval(row: dict, name: str, digits: int = 4) -> str:
    return f"{row[name + '_low']:z.{digits}f} to {row[name + '_high']:z.{digits}f}"


def params_in_words(row: dict) -> str:
    """`C=10 gamma=0.01` of a row or a blend's member; of a blend how many heads it has."""
    if row["head"] == "blend":
        return counted(len(row["members"]), "head")
    return " ".join(f"{k.rpartition('__')[2]}={_short(v)}" for k, v in row["params"].items())


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def baselines_in_words(rows: Sequence[dict]) -> str:
    """One line: `raw pixels 0.51, colours 0.66, …, majority class 0.20`."""
    majority_last = [*rows[1:], rows[0]]
    names = {name: row.words for name, row in BASELINES.items()} | {"majority": MAJORITY_WORDS}
    words = [names.get(row["backbone"], UNTRAINED_WORDS) for row in majority_last]
    return ", ".join(
        f"{name} {row['cv_score']:z.2f}" for name, row in zip(words, majority_last, strict=True)
    )


def audit_in_words(audit: dict) -> list[str]:
    """A line for what was found of each kind; none where nothing was."""
    lines = []
    if audit["n_copies"]:
        what = {
            "group": "kept on one side of every fold",
            "drop": "one of each kept",
            "keep": "left as they are",
        }
        across = audit["n_copies_across_split"]
        warning = (
            f"; {across} across train and test, which flatters the test accuracy" if across else ""
        )
        lines.append(
            f"near copies of other images: {audit['n_copies']}, "
            f"{what[audit['duplicates']]}{warning}"
        )
    if audit["n_flat"]:
        lines.append(
            f"images that came out flat, of one gray all over: {audit['n_flat']}, "
            f"such as {audit['flat'][0]}; where this is wrong, --intensity LOW:HIGH may be"
        )
    if audit["n_suspect_labels"]:
        first = audit["suspect_labels"][0]
        lines.append(
            f"training labels that look wrong: {audit['n_suspect_labels']}, "
            f"most of all {first['path']}: {first['label']}, or rather {first['proposed']}?"
        )
    if not audit["labels_audited"]:
        lines.append(
            "training labels are not audited: the heads are too weak for it, right for "
            f"{audit['label_agreement']:.2f} of the images they did not see, by chance for "
            f"{audit['label_agreement_by_chance']:.2f}"
        )
    return lines + explored_in_words(audit)


def explored_in_words(audit: Mapping) -> list[str]:
    """A line for each row of the table of explorations that found something."""
    return [
        f"{row.words}: {audit[f'n_{name}']}, most of all {audit[name][0]['path']}"
        for name, row in EXPLORATIONS.items()
        if audit[f"n_{name}"]
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces: text to the left, figures to the right."""
    lines = [list(header), *[list(map(shown, row)) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    figures = [all(row[i].lstrip("-")[:1].isdigit() for row in rows) for i in range(len(header))]
    padded = [
        "  ".join(
            cell.rjust(w) if right else cell.ljust(w)
            for cell, w, right in zip(line, widths, figures, strict=True)
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in padded)
