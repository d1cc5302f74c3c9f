"""What images without labels were worth to a run, in words, and the file of answers to them."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.names import counted
from pipelines.evaluation.differences import BETTER, OPEN, SAME, WORSE
from pipelines.evaluation.transduction import ALONE, PRODUCT, PROPAGATION
from pipelines.report.files import UNLABELLED, as_familiarity, as_probability, write_csv
from pipelines.report.shift import CORRECTIONS, shift_in_words

# by name of a way of answering, as it is told of
METHODS = {
    ALONE: "the chosen heads, from labels alone",
    PRODUCT: "the chosen heads times what the neighbours in the graph say",
    PROPAGATION: "the neighbours in the graph alone",
    **CORRECTIONS,
}
VERDICTS = {
    BETTER: "better beyond chance",
    WORSE: "worse beyond chance",
    SAME: "the same, within two points",
    OPEN: "no difference beyond chance",
}
HEADER = ("rank", "path", "label", "predicted", "probability", "familiarity", "method")


@dataclass(frozen=True)
class UnlabelledTable:
    """The answers to images without labels, a row each, those first whose labels are worth most.

    Attributes
    ----------
    rank : (n,) int
        From 1 on; 0 for those that need not be labelled next.
    path, predicted : (n,) str
    label : (n,) str
        Of those that were given one by `--target-labels`, else nothing.
    probability : (n,) float
        Of the predicted class.
    familiarity : (n,) float
        As of a `Reference`.
    method : str
        What answered: a name of `METHODS`.
    beside : mapping of str to str
        By path, labels that were given to images that are not answered, as the table loses none.
    """

    rank: np.ndarray
    path: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    familiarity: np.ndarray
    method: str
    beside: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.path)


def write_unlabelled(file: Path, table: UnlabelledTable | None) -> None:
    """`unlabelled.csv`, only where there are such images; an earlier one goes.

    The label is left as it was given, or empty, for whoever looks: `--labels` and `--target-labels`
    take the file, and an answer in its place would be learnt as if it were one.
    """
    file.unlink(missing_ok=True)
    if table is None:
        return
    rows = zip(
        (rank or "" for rank in table.rank.tolist()),
        table.path,
        table.label,
        table.predicted,
        map(as_probability, table.probability),
        map(as_familiarity, table.familiarity),
        (table.method for _ in table.path),
        strict=True,
    )
    beside = (("", path, label, "", "", "", "") for path, label in table.beside.items())
    write_csv(file, HEADER, itertools.chain(rows, beside))


def worth_in_words(found: Mapping | None) -> list[str]:
    """What the images without labels were worth, for the text at a run's end; none without any."""
    if found is None:
        return []
    alone, *others = found["rows"]
    return [
        f"images without labels: {found['n_images']}, answered in {UNLABELLED} by "
        f"{METHODS[found['method']]}",
        *(f"  {line}" for own in others for line in _gains_in_words(own, alone)),
        f"  {unfamiliar_in_words(found)}",
        *(f"  {line}" for line in shift_in_words(found["shift"])),
        "  the saved classifier looks at one image at a time, and answers by labels alone",
    ]


def unfamiliar_in_words(found: Mapping) -> str:
    """How many of them show what no training image does, beside how many would by chance."""
    usual = f"{100 * found['threshold']:.0f} % of images like the training ones are"
    images = f"{found['n_unfamiliar']} of {counted(found['n_images'], 'image')}"
    return f"unlike the training images: {images} ({usual})"


def _gains_in_words(own: Mapping, alone: Mapping) -> list[str]:
    """How a way of answering does beside labels alone, where labels are hidden and in the test."""
    hidden, tested = own["out_of_fold"], own["test"]
    before, after = (row["test_metrics"]["accuracy"]["value"] for row in (alone, own))
    return [
        f"{own['name']}, for training images whose label is hidden: accuracy "
        f"{own['validation_accuracy']:.4f}, by labels alone {alone['validation_accuracy']:.4f} "
        f"({signed_interval(hidden)}); log loss {own['validation_log_loss']:.3f}, "
        f"{alone['validation_log_loss']:.3f}: {'' if own['taken'] else 'not '}taken",
        f"for test images, which decide nothing: {after:.4f}, {before:.4f} "
        f"({signed_interval(tested)}: {VERDICTS[tested['verdict']]})",
    ]


def signed_interval(gain: Mapping) -> str:
    """`+0.0210, +0.0050 to +0.0370`."""
    return f"{gain['difference']:+z.4f}, {gain['low']:+z.4f} to {gain['high']:+z.4f}"
