"""The files that a run leaves in its folder."""

import contextlib
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data import Samples
from data.names import as_cell
from extract.files import written_aside
from pipelines.errors import WorkFailed

RESULTS = "results.json"
PREDICTIONS = "test_predictions.csv"
UNLABELLED = "unlabelled.csv"
REPORT = "report.html"
CLUSTERS = "clusters.csv"
TO_LABEL = "to_label.csv"
BAD_IMAGES = "bad_images.csv"
BAD_COLUMNS = ("path", "reason", "note")


def write_bad_images(
    file: Path, bad: Sequence[tuple[str, str]], notes: Sequence[tuple[str, str]] = ()
) -> None:
    """`bad_images.csv` (path, reason, note), only where there are any; an earlier one goes.

    bad : (path, why it can't be used). notes : (path, what affected its pixels), of images used.
    """
    file.unlink(missing_ok=True)
    if bad or notes:
        rows = [(path, reason, "") for path, reason in bad]
        rows += [(path, "", note) for path, note in notes]
        write_csv(file, BAD_COLUMNS, rows)


def write_predictions(
    file: Path,
    samples: Samples,
    predicted: np.ndarray,
    confidence: np.ndarray,
    familiarity: np.ndarray,
) -> None:
    """`test_predictions.csv`: what was predicted, how probable it is, and how familiar the image.

    confidence : (n,) probability of the predicted class. familiarity : (n,) as of a `Reference`.
    """
    shares, familiar = map(as_probability, confidence), map(as_familiarity, familiarity)
    rows = zip(samples.paths, samples.labels, predicted, shares, familiar, strict=True)
    write_csv(file, ("path", "label", "predicted", "probability", "familiarity"), rows)


def as_probability(value: float) -> str:
    """A probability as it is written everywhere: a log loss of many of them is exact to 1e-6."""
    return f"{value:.9g}"


def as_familiarity(value: float) -> str:
    """A familiarity as it is written everywhere: a share of the training images."""
    return f"{value:.6g}"


def write_results(file: Path, results: dict) -> None:
    """`results.json`, the last of a run's files."""
    # bytes of a name that are no UTF-8 are halves of surrogates, which JSON escapes alike
    file.write_bytes(results_text(results).encode("utf-8", "backslashreplace"))


def write_page(file: Path, page: str) -> None:
    """`report.html`; an earlier one stays until it is whole."""
    with written_aside(file) as aside:
        aside.write_bytes(page.encode("utf-8", "backslashreplace"))


def results_text(results: dict, ascii_only: bool = False) -> str:
    """The results as JSON; for a terminal of any encoding with all other letters escaped."""
    return json.dumps(results, indent=1, ensure_ascii=ascii_only) + "\n"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable]) -> None:
    """A CSV file in UTF-8 whose text `data.names.from_cell` reads back; a manifest does so."""
    with (
        written_aside(path) as aside,
        open(aside, "w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([header, *map(as_cells, rows)])


def as_cells(row: Iterable) -> list:
    """A row for a CSV file: text made fit, numbers as they are."""
    return [as_cell(cell) if isinstance(cell, str) else cell for cell in row]


@contextlib.contextmanager
def disk_errors_named(file: Path) -> Iterator[None]:
    """Have a full or failing disk end the run in a line that names the file.

    Raises WorkFailed.
    """
    try:
        yield
    except OSError as error:
        raise WorkFailed(
            f"can't write {file} ({error.strerror or error}): make room or choose another folder "
            "with --out; the features are kept, run again to go on from there"
        ) from error
