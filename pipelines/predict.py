"""Labels and probabilities for new images by a bundle; writes nothing but its answer."""

import argparse
import atexit
import csv
import gc
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.names import counted, shown
from pipelines.console import DONE, FAILED, run_command, say
from pipelines.errors import WrongCall
from pipelines.report.files import as_cells, as_probability
from pipelines.report.reading import unused_in_words

if TYPE_CHECKING:
    from pipelines.classifier import ImageClassifier
    from pipelines.report.explained import ExplanationFolder

EXAMPLE = "example: python -m pipelines.predict runs/photos/model new.jpg more/ --json"
CHUNKS = (4, 16, 64, 256)  # images until the first answers come, then the next, and so on
COLUMNS = ("path", "label", "probability", "error")


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.predict`."""
    parser = argparse.ArgumentParser(prog="pipelines.predict", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("bundle", help="the folder of a run, or the model folder in it")
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where features may be kept already; it is only read (default: the user cache folder)",
    )
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="DIR",
        help="a new folder for pictures of where the evidence for each label lies, their table and "
        "a page that shows them (it takes two further passes over the images at most)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one JSON object a line")
    how.add_argument("--csv", action="store_true", help="path,label,probability,error")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    return run_command(predict, build_parser(), arguments, "the images left have no answer")


def predict(options: argparse.Namespace) -> int:
    """Print one answer for each image -> 0, or 1 where any could not be read."""
    gc.disable()  # until the first answers: what is imported is no garbage, and looking takes long
    try:
        return _predict(options)
    finally:
        gc.enable()


def _predict(options: argparse.Namespace) -> int:
    from data.folders import images_among
    from extract import ReadOnlyStore
    from pipelines.bundle import load_classifier

    store = ReadOnlyStore(options.cache)
    classifier = load_classifier(options.bundle, cache=store, device=options.device, on_warning=say)
    entries: list = []  # (path, why it can't be read or None), in the order of the call
    passed_over: Counter[str] = Counter()
    for image in options.images:
        found = images_among([image])
        entries += [(path, None) for path in found.paths] + found.problems
        passed_over += found.passed_over
    unused = unused_in_words(passed_over)
    if not entries:
        raise WrongCall(
            f"no images in {', '.join(options.images)}: expected image files or folders of them"
            + (f" ({unused})" if unused else "")
        )
    form = "json" if options.json else "csv" if options.csv else "text"
    write = WRITERS[form]
    if form == "csv":
        csv.writer(sys.stdout).writerow(COLUMNS)
    failed = 0
    explained = None if options.explain is None else _open_folder(options.explain)
    for answer in _answers(classifier, entries, explained):
        write(answer)
        failed += answer["error"] is not None
    if explained is not None:
        explained.close()
    if unused:
        say(unused)
    if failed:
        say(f"{failed} of {counted(len(entries), 'image')} can't be read")
    return FAILED if failed else DONE


def _open_folder(folder: Path) -> "ExplanationFolder":
    from pipelines.report.explained import ExplanationFolder

    try:
        return ExplanationFolder(folder)
    except FileExistsError as error:
        raise WrongCall(f"--explain {error}") from error


def _explain(
    classifier: "ImageClassifier", paths: Sequence[str], folder: "ExplanationFolder"
) -> None:
    """Write why images that could be read have their labels."""
    from data import ImageError
    from pipelines.explanation import explain

    for found in explain(classifier, paths):
        if isinstance(found, ImageError):
            say(f"not explained: {found}")
        else:
            folder.add(found)


def _answers(
    classifier: "ImageClassifier",
    entries: Sequence[tuple[str, str | None]],
    explained: "ExplanationFolder | None" = None,
) -> Iterator[dict]:
    """An answer for each entry, in their order; a chunk of images is in memory at a time."""
    at, sizes = 0, iter(CHUNKS)
    while at < len(entries):
        chunk = entries[at : at + next(sizes, CHUNKS[-1])]
        at += len(chunk)
        readable = [path for path, problem in chunk if problem is None]
        made = _predictions(classifier, readable) if readable else []
        found = iter(made)
        for path, problem in chunk:
            yield next(found) if problem is None else _failure(path, problem)
        sys.stdout.flush()  # a pipe would hold the lines back
        answered = [answer["path"] for answer in made if answer["error"] is None]
        if explained is not None and answered:
            _explain(classifier, answered, explained)
        gc.enable()


def _predictions(classifier: "ImageClassifier", paths: Sequence[str]) -> list[dict]:
    from extract.extractor import extractors_of

    rows, labels, probabilities, bad = classifier.predict_readable(paths)
    for row, notes in sorted(extractors_of(classifier.extractor_)[0].extraction_.notes.items()):
        say(f"note: {paths[row]}: {'; '.join(notes)}")
    answers = {row: _failure(paths[row], error.reason) for row, error in bad.items()}
    for row, label, own in zip(rows, labels, probabilities, strict=True):
        answers[row] = _answer(paths[row], classifier.classes_, label, own)
    return [answers[row] for row in range(len(paths))]


def _answer(path: str, classes: np.ndarray, label: str, probabilities: np.ndarray) -> dict:
    by_class = {
        str(name): float(as_probability(probability))
        for name, probability in zip(classes, probabilities, strict=True)
    }
    return {
        "path": str(path),
        "label": str(label),
        "probability": by_class[str(label)],
        "probabilities": by_class,
        "error": None,
    }


def _failure(path: str, reason: str) -> dict:
    return {
        "path": str(path),
        "label": None,
        "probability": None,
        "probabilities": None,
        "error": reason,
    }


def _write_json(answer: dict) -> None:
    print(json.dumps(answer, ensure_ascii=True))


def _write_csv(answer: dict) -> None:
    csv.writer(sys.stdout).writerow(as_cells(answer[key] for key in COLUMNS))


def _write_text(answer: dict) -> None:
    if answer["error"]:
        outcome = f"error: {answer['error']}"
    else:
        outcome = f"{answer['label']}  {answer['probability']:.3f}"
    print(shown(f"{answer['path']}  {outcome}"))


WRITERS: dict[str, Callable[[dict], None]] = {
    "json": _write_json,
    "csv": _write_csv,
    "text": _write_text,
}


if __name__ == "__main__":
    atexit.register(gc.freeze)  # as pipelines/__main__.py does
    sys.exit(main())
