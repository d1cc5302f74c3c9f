"""What to mistrust about a run's figures: said on its page before the answer."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from markupsafe import Markup

from data.names import shown
from pipelines.evaluation.differences import BETTER, OPEN, WORSE

if TYPE_CHECKING:
    from pipelines.report.page import Figures

WIDE = 0.15  # an interval of the test accuracy that says little
FEW = 50  # test images
STRANGE = 3  # times as many unfamiliar test images as the threshold lets through
LEAST_STRANGERS = 5

Warn = Callable[[dict, "Figures"], Markup | str | None]


def find_warnings(results: dict, figures: "Figures") -> list[Markup | str]:
    """Sentences, what weighs most first."""
    found = [warn(results, figures) for warn in WARNINGS]
    return [sentence for sentence in found if sentence]


def _on_leaks(results: dict, figures: "Figures") -> Markup | None:
    n_across = results["audit"]["n_copies_across_split"]
    if not n_across:
        return None
    return Markup(
        "<strong>Leak:</strong> {} of near copies {} one image in training and one in the test: "
        'the accuracy is flattered. <a href="#copies">Look at them</a>.'
    ).format(
        figures.number("audit", "n_copies_across_split", digits=0)
        + (" pair" if n_across == 1 else " pairs"),
        "has" if n_across == 1 else "have",
    )


def _on_few(results: dict, figures: "Figures") -> Markup | None:
    chosen, n_test = results["chosen"], results["data"]["n_test"]
    if n_test >= FEW and chosen["test_high"] - chosen["test_low"] <= WIDE:
        return None
    return Markup(
        "<strong>Few test images:</strong> with {} the accuracy may be anything from {} to {}."
    ).format(
        figures.number("data", "n_test", digits=0),
        figures.percent("chosen", "test_low", digits=0),
        figures.percent("chosen", "test_high", digits=0),
    )


def _on_nothing_learnt(results: dict, figures: "Figures") -> Markup | None:
    found = results["comparisons"].get("learnt")
    if found is None or found["verdict"] == BETTER:
        return None
    if found["verdict"] == OPEN:
        return Markup(
            "<strong>Not shown yet:</strong> the images are too few to tell whether any head does "
            "better than always naming the largest class."
        )
    return Markup(
        "<strong>Nothing learnt:</strong> no head does better than always naming the largest class."
    )


def _on_worse_test(results: dict, figures: "Figures") -> Markup | None:
    found = results["comparisons"].get("test")
    if found is None or found["verdict"] != WORSE:
        return None
    return Markup(
        "<strong>Another kind of test images:</strong> the test gives {} where cross-validation "
        "promised {}."
    ).format(
        figures.score("comparisons", "test", "first_score"),
        figures.score("comparisons", "test", "second_score"),
    )


def _on_strangers(results: dict, figures: "Figures") -> Markup | None:
    found = results.get("familiarity")
    if not found or found["n_flagged"] < LEAST_STRANGERS:
        return None
    if found["share_flagged"] < STRANGE * found["threshold"]:
        return None
    return Markup(
        "<strong>Images of another kind in the test:</strong> {} of the test images are unlike the "
        "training images, where {} would be by chance."
    ).format(
        figures.percent("familiarity", "share_flagged"),
        figures.percent("familiarity", "threshold", digits=0),
    )


def _on_imbalance(results: dict, figures: "Figures") -> Markup | None:
    found = results["data"]["imbalance"]
    if not found["imbalanced"]:
        return None
    return Markup(
        "<strong>Unequal classes:</strong> {} has {} training images, {} has {}. Read the recall "
        'of <a href="#classes">each class</a>; their mean is {}.'
    ).format(
        shown(found["largest"]),
        figures.number("data", "imbalance", "n_largest", digits=0),
        shown(found["smallest"]),
        figures.number("data", "imbalance", "n_smallest", digits=0),
        figures.percent("chosen", "test_balanced_accuracy"),
    )


def _on_flat(results: dict, figures: "Figures") -> Markup | None:
    n_flat = results["audit"]["n_flat"]
    if not n_flat:
        return None
    return Markup(
        "<strong>Flat images:</strong> {} came out of one gray all over, such as {}. Where that is "
        "wrong, <code>--intensity LOW:HIGH</code> may be."
    ).format(figures.number("audit", "n_flat", digits=0), shown(results["audit"]["flat"][0]))


def _on_unread(results: dict, figures: "Figures") -> Markup | None:
    n_bad = results["data"]["n_bad"]
    if not n_bad:
        return None
    return Markup(
        "<strong>Unreadable:</strong> {} could not be used; <code>bad_images.csv</code> says why."
    ).format(figures.number("data", "n_bad", digits=0) + (" image" if n_bad == 1 else " images"))


WARNINGS: tuple[Warn, ...] = (
    _on_nothing_learnt,
    _on_leaks,
    _on_worse_test,
    _on_strangers,
    _on_few,
    _on_imbalance,
    _on_unread,
    _on_flat,
)
