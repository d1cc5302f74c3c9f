"""What a run leaves behind: the blocks of results.json, its CSV files, and the summary a person reads."""

import csv
import importlib.metadata
import shlex
import sys
from pathlib import Path

from data import Samples
from pipelines.advice import find_imbalance, give_advice
from pipelines.console import table
from pipelines.report.extraction import describe_extraction
from pipelines.scoring import SCORINGS

RESULTS_SCHEMA = 1
BASELINE_WORDS = {
    "pixels": "raw pixels",
    "histogram": "colours",
    "gabor": "Gabor filters",
    "majority": "majority class",
}
SHOWN_ROWS = 10
METRIC_WORDS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "brier_score": "Brier score",
    "calibration_error": "calibration error",
    "roc_auc": "AUC",
}


def write_bad_images(out: Path, bad) -> None:
    """`bad_images.csv` (path, reason), only where there are any; an earlier run's goes."""
    (out / "bad_images.csv").unlink(missing_ok=True)
    if bad:
        write_csv(out / "bad_images.csv", ("path", "reason"), bad)


def write_predictions(out: Path, samples: Samples, predicted, shares) -> None:
    """`test_predictions.csv`: path, label, predicted, probability of the predicted class."""
    rows = zip(
        samples.paths, samples.labels, predicted, (f"{share:.6f}" for share in shares), strict=True
    )
    write_csv(out / "test_predictions.csv", ("path", "label", "predicted", "probability"), rows)


def write_csv(path: Path, header, rows) -> None:
    """A CSV file in UTF-8; bytes of a file name that are no UTF-8 come through as they are."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([header, *rows])


def describe_run(
    arguments,
    options,
    samples,
    kept,
    backbones,
    train,
    test,
    board,
    chosen,
    screened_out,
    found,
    seconds,
) -> dict:
    """The whole of results.json; `chosen` is the place of the chosen source, `found` the blocks that came of it."""
    layers = {}
    for source in kept.sources:
        layers.setdefault(source.backbone, {}).update({source.layer: None} if source.layer else {})
    results = {
        "schema": RESULTS_SCHEMA,
        "command": ["python", "-m", "pipelines.run", *arguments],
        "versions": versions(),
        "seed": options.seed,
        "scoring": board.scoring.name,
        "class_weight": options.class_weight,
        "flips": options.flips,
        "data": describe_data(samples, kept, train, test),
        "backbone": describe_backbone(backbones, kept, chosen),
        "backbones": [describe_backbone([backbone], kept, None) for backbone in backbones],
        "layers": {name: list(own) for name, own in layers.items()},
        "extraction": describe_extraction(kept.passes),
        "leaderboard": [vars(row) for row in board.rows],
        "screened_out": describe_screened(kept.sources, screened_out),
        **found,
        "seconds": seconds,
    }
    return results | {"advice": give_advice(results)}


def describe_screened(sources, screened_out: dict[int, float]) -> list[dict]:
    """Taps that were not searched in full, with the leave-one-out accuracy that screened them, best first."""
    return [{**vars(sources[i]), "screening_accuracy": score} for i, score in screened_out.items()]


def versions() -> dict:
    """Versions of what the figures depend on."""
    packages = ("permafrost", "torch", "torchvision", "scikit-learn", "numpy", "pillow", "h5py")
    found = {"python": sys.version.split()[0]}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def describe_data(samples: Samples, kept, train, test) -> dict:
    """The `data` block of results.json."""
    return {
        "name": samples.name,
        "classes": list(samples.classes),
        "n_train": len(train),
        "n_test": len(test),
        "split": "held_out" if samples.split is None else "given",
        "n_bad": len(kept.bad),
        "n_duplicates": kept.n_duplicates,
        "passed_over": dict(samples.passed_over),
        "imbalance": find_imbalance(kept.samples.labels[train]),
    }


def describe_backbone(backbones, kept, source: int | None) -> dict:
    """One backbone of results.json: the chosen one, or the only one given."""
    backbone = backbones[0]
    if source is not None:
        backbone = next(b for b in backbones if b.name == kept.sources[source].backbone)
    recipe = next(
        r for r, s in zip(kept.recipes, kept.sources, strict=True) if s.backbone == backbone.name
    )
    card = backbone.card
    return {
        "name": backbone.name,
        "weights": card.weights,
        "architecture": card.architecture,
        "sha256": card.digest,
        "file_sha256": card.file_sha256,
        "numerics": recipe.numerics,
        "size": (card.preprocessing or {}).get("size"),
        "recipe": recipe.id,
    }


def summary(results: dict, out: Path) -> str:
    """What a person reads at the end: the leaderboard's top, the choice, what to mistrust, what to type next."""
    rows, chosen = results["leaderboard"], results["chosen"]
    data, done, seconds = results["data"], results["extraction"], results["seconds"]
    scoring = SCORINGS[results["scoring"]]
    header = ("features", "dim", "head", "parameters", f"cv {scoring.words}", "95 % interval", "")
    several = len(results["backbones"]) > 1
    lines = [table(header, [_shown(row, several) for row in rows[:SHOWN_ROWS]])]
    if len(rows) > SHOWN_ROWS:
        lines.append(f"… and {len(rows) - SHOWN_ROWS} more in results.json")
    lines.append(
        f"= tied: not beaten by the best beyond chance ({sum(row['tied'] for row in rows)} rows)"
    )
    if results["screened_out"]:
        lines.append(
            f"{len(results['screened_out'])} more taps were screened out by leave-one-out ridge regression"
        )
    unit = "" if scoring.name == "accuracy" else f" {scoring.words}"
    if results["baselines"]:
        lines.append(f"baselines: {baselines_in_words(results['baselines'])}")
    metrics = {name: figure["value"] for name, figure in chosen["test_metrics"].items()}
    lines += [
        "",
        f"chosen: {chosen['head']} on {_source(chosen, several)}",
        f"test accuracy {chosen['test_accuracy']:.4f} (95 % interval {_interval(chosen, 'test')}) "
        f"on {data['n_test']} images, trained on {data['n_train']}",
        "  "
        + ", ".join(
            f"{METRIC_WORDS[name]} {metrics[name]:.3f}" for name in METRIC_WORDS if name in metrics
        ),
        *(
            [f"test {scoring.words} {chosen['test_score']:.4f} ({_interval(chosen, 'test_score')})"]
            if unit
            else []
        ),
        f"cross-validated{unit}, corrected for the choice among {chosen['cv_corrected_among']} settings tried: "
        f"{chosen['cv_corrected']:.4f} ({_interval(chosen, 'cv_corrected')})",
        *[f"- {line}" for line in results["advice"]],
        *[f"- {line}" for line in audit_in_words(results["audit"])],
        "",
        f"features: {done['computed']} images computed, {done['from_store']} from the store; "
        f"{seconds['total']:.1f} s in all, {seconds['heads']:.1f} s for the heads",
        *[f"  {line}" for line in (done["in_words"], done["unused_gpu"]) if line],
        f"results: {out / 'results.json'}",
        f"predict: {_predict_call(results['backbone'], out / 'model')}",
        "",
    ]
    return "\n".join(lines)


def _shown(row, several):
    params = " ".join(f"{k.rpartition('__')[2]}={_short(v)}" for k, v in row["params"].items())
    if row["head"] == "blend":
        params = f"{len(row['members'])} heads averaged"
    return (
        _source(row, several),
        str(row["dim"]),
        row["head"],
        params,
        f"{row['cv_score']:.4f}",
        _interval(row, "cv_score"),
        "=" if row["tied"] else "",
    )


def _source(row, several):
    flips = " with flips" if "+" in row["view"] else ""
    if row["head"] == "blend":
        return (
            f"{len({(member['backbone'], member['tap']) for member in row['members']})} taps{flips}"
        )
    return (f"{row['backbone']} " if several else "") + row["tap"] + flips


def _predict_call(backbone, model):
    if not backbone["architecture"].startswith("own:"):
        return f"python -m pipelines.predict {shlex.quote(str(model))} IMAGES"
    return f"load_classifier({str(model)!r}, backbone=…).predict(paths) in a script: a bundle holds no code"


def _interval(row, name):
    return f"{row[name + '_low']:.4f} to {row[name + '_high']:.4f}"


def _short(value):
    return f"{value:g}" if isinstance(value, float) else str(value)


def baselines_in_words(rows) -> str:
    """One line: `raw pixels 0.51, colours 0.66, Gabor filters 0.53, the same network untrained 0.60, …`."""
    rows = [*rows[1:], rows[0]]
    words = [BASELINE_WORDS.get(row["backbone"], "the same network untrained") for row in rows]
    return ", ".join(f"{name} {row['cv_score']:.2f}" for name, row in zip(words, rows, strict=True))


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
            f"near copies of other images: {audit['n_copies']}, {what[audit['duplicates']]}{warning}"
        )
    if audit["n_suspect_labels"]:
        first = audit["suspect_labels"][0]
        lines.append(
            f"training labels that look wrong: {audit['n_suspect_labels']}, most of all {first['path']}: "
            f"{first['label']}, or rather {first['proposed']}?"
        )
    if audit["n_outliers"]:
        lines.append(
            f"images unlike all others: {audit['n_outliers']}, most of all {audit['outliers'][0]['path']}"
        )
    return lines
