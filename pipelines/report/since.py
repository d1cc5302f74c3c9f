"""What changed since an earlier run: both judged on the same test images, by the labels of now."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.evaluation.comparison import paired_interval
from pipelines.evaluation.differences import judge
from pipelines.evaluation.intervals import LEVEL
from pipelines.report.files import RESULTS
from pipelines.report.following import KEPT, ROW, followed_in_words
from pipelines.report.images import IMAGES, ImageTable, read_images
from pipelines.report.split import TEST, TRAIN, parts_of


@dataclass(frozen=True)
class Earlier:
    """An earlier run, as far as it can be compared with.

    file : its results.json. images : what became of each of its images, by their ids; none where it
    can't be compared with, and `problem` says why. told : as of `told_of`. advised : what it led
    to. n_train : its training images.
    """

    file: str
    images: ImageTable | None
    told: dict
    problem: str | None = None
    advised: Sequence[Mapping] = ()
    n_train: int = 0


def find_earlier(split: str | Path | None, out: str | Path | None) -> Earlier | None:
    """The run whose split is taken, else the one that lies where this one goes, else None."""
    if split is not None:
        return read_earlier(Path(split))
    if out is not None and (Path(out) / RESULTS).exists():
        return read_earlier(Path(out))
    return None


def read_earlier(run: Path) -> Earlier:
    """An earlier run, of its folder or results.json; one that is damaged has a `problem`."""
    file = run / RESULTS if run.is_dir() else run
    name = file
    try:
        results = json.loads(file.read_bytes())
        told, parts = told_of(results), parts_of(results["split"])
        name = file.parent / IMAGES
        images = read_images(name)
        own = sorted(zip(images.part, images.id, strict=True))
        if own != sorted((part, key.hex()) for part, ids in parts.items() for key in ids):
            raise ValueError("its images are not those of the results")
        name = file
        advised = _advised_in(results)
    except OSError as error:
        return Earlier(str(file), None, {}, f"can't read {name} ({error.strerror})")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error):
        return Earlier(str(file), None, {}, f"{name} is not as this version writes it")
    return Earlier(str(file), images, told, None, advised, len(parts[TRAIN]))


def _advised_in(results: Mapping) -> list[dict]:
    """What the run advised, each row as this version reads it; ValueError for any that is not."""
    advised = [row for row in results.get("advised", ()) if row.keys() >= ROW]
    for row in advised:
        command, promise = row["command"], row["promise"]
        words = [row["about"], row["sentence"], row["follows"], *(command or ())]
        is_list = command is None or isinstance(command, list)
        is_right = is_list and all(isinstance(word, str) for word in words)
        if not (is_right and isinstance(row["settings"], dict) and promise in (None, *KEPT)):
            raise ValueError("a row of its advice is none")
    return advised


def told_of(results: Mapping) -> dict[str, Any]:
    """What a run was made with, one by one: what of it differs may be why the answers do."""
    chosen = results["chosen"]
    return {
        **results.get("settings", {}),
        "weight tensors": [own["sha256"] for own in results["backbones"]],
        **results["versions"],
        "chosen": f"{chosen['head']} on {chosen['tap'] or 'several taps'}",
    }


def compare_since(earlier: Earlier, images: ImageTable, results: Mapping) -> dict:
    """The `compared` of results.json: this run less an earlier one, paired by image.

    Only images that both tested count, all by this run's labels, so that a mended label is no gain
    of either. The interval is Agresti & Min's (2005) of a difference of paired proportions.

    images : of this run. results : what its results.json will hold, for `told_of`.
    """
    if earlier.images is None:
        return {"file": earlier.file, "problem": earlier.problem}
    then, now = earlier.images, images
    place = {own: row for row, own in enumerate(then.id)}
    shared = np.array([(row, place[own]) for row, own in enumerate(now.id) if own in place], int)
    of_now, of_then = shared.reshape(-1, 2).T
    tested = (now.part[of_now] == TEST) & (then.part[of_then] == TEST)
    if not tested.any():
        return {"file": earlier.file, "problem": "none of its test images is one of this run"}
    labels = now.label[of_now]
    changed = labels != then.label[of_then]
    right = (now.predicted[of_now] == labels)[tested]
    right_then = (then.predicted[of_then] == labels)[tested]
    as_was = (then.predicted[of_then] == then.label[of_then])[tested]
    difference = right.astype(float) - right_then
    low, high = paired_interval(difference)
    return {
        "file": earlier.file,
        "problem": None,
        "n_compared": int(tested.sum()),
        "accuracy_then": float(right_then.mean()),
        "accuracy_now": float(right.mean()),
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "level": LEVEL,
        "verdict": judge(low, high),
        "n_righted": int((right & ~right_then).sum()),
        "n_wronged": int((~right & right_then).sum()),
        "accuracy_then_by_its_labels": float(as_was.mean()),
        "difference_by_labels": float(right_then.mean() - as_was.mean()),
        "n_labels_changed": int(changed.sum()),
        "n_labels_changed_tested": int((changed & tested).sum()),
        "labels_changed": [
            {"path": now.path[row], "part": now.part[row], "then": then.label[old], "now": label}
            for row, old, label in zip(
                of_now[changed], of_then[changed], labels[changed], strict=True
            )
        ],
        "n_added": len(now) - len(shared),
        "n_gone": len(then) - len(shared),
        "n_moved": int((now.part[of_now] != then.part[of_then]).sum()),
        "settings_changed": _changed(earlier.told, told_of(results)),
    }


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict]:
    """What is told of both, and not alike."""
    return [
        {"name": name, "then": then[name], "now": value}
        for name, value in now.items()
        if name in then and then[name] != value
    ]


SHOWN_SETTINGS = 6
VERDICTS = {
    "better": "better beyond chance",
    "worse": "worse beyond chance",
    "same": "the same, within two points",
}


def since_in_words(compared: Mapping | None) -> list[str]:
    """One line on how the answers changed, one on what else did; none where nothing was there."""
    if compared is None:
        return []
    if compared["problem"]:
        return [f"not compared with {compared['file']}: {compared['problem']}"]
    ends = f"95 % {compared['low']:+.4f} to {compared['high']:+.4f}"
    lines = [
        f"since {compared['file']}: on the {compared['n_compared']} test images of both, by the "
        f"labels of now, accuracy {compared['accuracy_then']:.4f} then, "
        f"{compared['accuracy_now']:.4f} now: {compared['difference']:+z.4f} ({ends}), "
        f"{verdict_in_words(compared)}; {compared['n_righted']} from wrong to right, "
        f"{compared['n_wronged']} back"
    ]
    changes = changes_in_words(compared)
    lines += [f"  {'; '.join(changes)}"] if changes else []
    return lines + [f"  {line}" for line in followed_in_words(compared)]


def verdict_in_words(compared: Mapping) -> str:
    """What the interval says."""
    return VERDICTS.get(compared["verdict"], compared["verdict"])


def changes_in_words(compared: Mapping) -> list[str]:
    """What changed beside the answers: labels, images, settings."""
    parts = []
    n_labels, n_tested = compared["n_labels_changed"], compared["n_labels_changed_tested"]
    if n_labels:
        words = f"{n_labels} label{'s' if n_labels > 1 else ''} changed, {n_tested} of test images"
        if n_tested:
            words += (
                f", which alone moves the earlier run by {compared['difference_by_labels']:+z.4f}"
            )
        parts.append(words)
    counts = {"added": "n_added", "gone": "n_gone", "on the other side of the split": "n_moved"}
    images = [f"{compared[key]} {words}" for words, key in counts.items() if compared[key]]
    if images:
        parts.append(f"images: {', '.join(images)}")
    settings = [
        f"{own['name']} {_short(own['then'])} → {_short(own['now'])}"
        for own in compared["settings_changed"]
    ]
    if len(settings) > SHOWN_SETTINGS:
        left = len(settings) - SHOWN_SETTINGS
        settings = [*settings[:SHOWN_SETTINGS], f"and {left} more in {RESULTS}"]
    if settings:
        parts.append(f"other: {', '.join(settings)}")
    return parts


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_short, value)) or "none"
    text = {None: "none", True: "on", False: "off"}.get(value) if _is_plain(value) else None
    text = text or str(value)
    return text if len(text) <= 40 else f"{text[:12]}…{text[-12:]}"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)
