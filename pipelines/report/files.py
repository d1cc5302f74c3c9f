"""The files that a run leaves in its folder."""

import contextlib
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data import Samples
from pipelines.errors import WrongCall


@contextlib.contextmanager
def results_folder(out: str | Path | None) -> Iterator[Path | None]:
    """The results' folder, made and writable, without an earlier run's results; None where none is.

    Gone again after an error that left nothing in it. Raises WrongCall where it can't be written.
    """
    if out is None:
        yield None
        return
    out = Path(out)
    _make_writable(out)
    try:
        yield out
    finally:
        if not any(out.iterdir()):
            out.rmdir()


def _make_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".write-test").touch()
        (out / ".write-test").unlink()
        (out / "results.json").unlink(missing_ok=True)  # it says that a run was finished
    except OSError as error:
        raise WrongCall(
            f"can't write to {out} ({error.strerror}): choose another folder with --out"
        ) from error


def write_bad_images(out: Path, bad: Sequence[tuple[str, str]]) -> Path:
    """`bad_images.csv` (path, reason), only where there are any; an earlier run's goes."""
    file = out / "bad_images.csv"
    file.unlink(missing_ok=True)
    if bad:
        write_csv(file, ("path", "reason"), bad)
    return file


def write_predictions(
    out: Path, samples: Samples, predicted: np.ndarray, confidence: np.ndarray
) -> None:
    """`test_predictions.csv`: path, label, predicted, probability of the predicted class."""
    written = (f"{probability:.6f}" for probability in confidence)
    rows = zip(samples.paths, samples.labels, predicted, written, strict=True)
    write_csv(out / "test_predictions.csv", ("path", "label", "predicted", "probability"), rows)


def write_results(out: Path, results: dict) -> None:
    """`results.json`, the last of a run's files."""
    (out / "results.json").write_text(results_text(results), encoding="utf-8")


def results_text(results: dict) -> str:
    """The results as JSON."""
    return json.dumps(results, indent=1, ensure_ascii=False) + "\n"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable]) -> None:
    """A CSV file in UTF-8; bytes of a file name that are no UTF-8 come through as they are."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([header, *rows])
