"""Advice in words, each sentence with the figure of this run that it rests on."""

import numpy as np

from pipelines.evaluation.baselines import UNTRAINED
from pipelines.evaluation.scoring import SCORINGS

IMBALANCED = 3  # largest class over smallest
CLOSE = 0.05


def give_advice(results: dict) -> list[str]:
    """The sentences for a run's results: where the next gain is likely, and what to mistrust."""
    sentences = [advise(results) for advise in ADVISERS]
    return [sentence for sentence in sentences if sentence]


def find_imbalance(labels: np.ndarray) -> dict:
    """Sizes of the largest and the smallest class of the training labels."""
    names, counts = np.unique(labels, return_counts=True)
    largest = int(counts.argmax())
    smallest = int(counts.argmin())
    return {
        "largest": str(names[largest]),
        "n_largest": int(counts[largest]),
        "smallest": str(names[smallest]),
        "n_smallest": int(counts[smallest]),
        "imbalanced": bool(counts[largest] >= IMBALANCED * counts[smallest]),
    }


def _on_imbalance(results: dict) -> str | None:
    found = results["data"]["imbalance"]
    if not found["imbalanced"]:
        return None
    return (
        f"the classes are of unequal size ({found['largest']} {found['n_largest']}, "
        f"{found['smallest']} {found['n_smallest']}): read balanced accuracy, "
        f"{results['chosen']['test_balanced_accuracy']:.3f}, "
        f"and the recall of each class{_against_imbalance(results)}"
    )


def _against_imbalance(results: dict) -> str:
    unused = []
    if results["scoring"] == "accuracy":
        unused.append("--scoring balanced_accuracy")
    if not results["class_weight"]:
        unused.append("--class-weight balanced")
    return f"; {' and '.join(unused)} would weigh the classes alike" if unused else ""


def _on_depth(results: dict) -> str | None:
    rows = [row for row in results["leaderboard"] if row["head"] != "blend"]
    layers = results["layers"].get(rows[0]["backbone"], [])
    if len(layers) < 2:
        return None
    best = rows[0]
    last = next(
        (row for row in rows if row["backbone"] == best["backbone"] and row["layer"] == layers[-1]),
        None,
    )
    if last is None or last is best:
        return "the last layer is the best: these images are like those the backbone was trained on"
    gain = best["cv_score"] - last["cv_score"]
    figures = (
        f"({best['layer'] or best['tap']} {best['cv_score']:.3f}, the last {last['cv_score']:.3f})"
    )
    if last["tied"]:
        return f"early and late layers do equally well {figures}"
    return (
        f"an earlier layer beats the last one by {gain:.3f} {figures}: "
        "the images are far from those the backbone was trained on"
    )


def _on_pretraining(results: dict) -> str | None:
    untrained = next(
        (row for row in results["baselines"] if row["backbone"].endswith(UNTRAINED)), None
    )
    if untrained is None:
        return None
    best = results["leaderboard"][0]
    gain = best["cv_score"] - untrained["cv_score"]
    figures = (
        f"({best['cv_score']:.3f} against {untrained['cv_score']:.3f} "
        "for the same network untrained)"
    )
    if gain <= CLOSE and best["cv_score"] < SCORINGS[results["scoring"]].perfect - CLOSE:
        return (
            f"pretraining is worth only {gain:+.3f} {figures}: "
            "fine-tuning, or a backbone nearer to these images"
        )
    return f"pretraining is worth {gain:+.3f} {figures}"


def _on_more_images(results: dict) -> str | None:
    curve = results["learning_curve"]
    if curve is None or curve["gain"] is None:
        return None
    interval = f"{curve['gain_low']:+.3f} to {curve['gain_high']:+.3f}"
    likely = (
        "more images are a likely gain"
        if curve["gain_low"] > 0
        else "more of this kind will hardly help"
    )
    unit = "" if results["scoring"] == "accuracy" else " of accuracy"
    return f"the last doubling of images brought {curve['gain']:+.3f}{unit} ({interval}): {likely}"


def _on_shortcuts(results: dict) -> str | None:
    simple = [
        row
        for row in results["baselines"]
        if row["layer"] and not row["backbone"].endswith(UNTRAINED)
    ]
    if not simple:
        return None
    best = results["leaderboard"][0]
    near = max(simple, key=lambda row: row["cv_score"])
    if near["cv_score_high"] < best["cv_score"]:
        return None
    return (
        f"{near['backbone']} alone gives {near['cv_score']:.3f}, "
        f"close to the best {best['cv_score']:.3f}: "
        "an easy set, or one that gives the class away by its background or light"
    )


def _on_other_test_images(results: dict) -> str | None:
    chosen = results["chosen"]
    if chosen["test_score_high"] >= chosen["cv_corrected_low"]:
        return None
    words = SCORINGS[results["scoring"]].words
    return (
        f"the test {words} {chosen['test_score']:.3f} is below what cross-validation promised, "
        f"{chosen['cv_corrected']:.3f}: the test images differ from the training images"
    )


ADVISERS = (
    _on_depth,
    _on_pretraining,
    _on_more_images,
    _on_shortcuts,
    _on_imbalance,
    _on_other_test_images,
)
