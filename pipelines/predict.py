"""Labels and probabilities for new images by a bundle; writes nothing but its answer."""

import argparse
import atexit
import contextlib
import csv
import gc
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.names import counted, shown
from pipelines.asked import Asked, Asking
from pipelines.console import DONE, FAILED, place, progress, run_command, say
from pipelines.errors import WrongCall
from pipelines.report.files import as_cells
from pipelines.report.reading import unused_in_words

if TYPE_CHECKING:
    from pipelines.classifier import ImageClassifier
    from pipelines.report.explained import ExplanationFolder
    from pipelines.said import Rules

EXAMPLE = "example: python -m pipelines.predict runs/photos/model new.jpg more/ --json"
CHUNKS = (4, 16, 64)  # images until the first answers come, then the next, and so on
# features in memory at once, of the chunks that follow: each is a pass, which takes 2 s to start
MOST_NUMBERS = 1 << 22
ASKED = 40  # images that a review asks for


def share(text: str) -> float:
    """A number above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number between 0 and 1")
    return value


def number_of_classes(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or not 0 < int(text) < 10_000:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of 1 or more")
    return int(text)


def number_to_ask(text: str) -> int:
    """A whole number of 1 or more, as `--review` takes it."""
    if not text.isdecimal() or not 0 < int(text) < 100_000:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected how many images to ask for, such as {ASKED}, or --review as the "
            "last word"
        )
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.predict`."""
    parser = argparse.ArgumentParser(prog="pipelines.predict", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("bundle", help="the folder of a run, or the model folder in it")
    parser.add_argument(
        "images",
        nargs="+",
        help="image files, folders of them, tables (.csv or .jsonl with a column path), or - for "
        "names on standard input, one a line",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)"
    )
    parser.add_argument(
        "--cache",
        type=place,
        metavar="DIR",
        help="where features may be kept already; it is only read (default: the user cache folder)",
    )
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="DIR",
        help="a new folder for pictures of where the evidence for each label lies, their table and "
        "a page that shows them; heads that are not linear take the network 33 times over the "
        "images",
    )
    parser.add_argument(
        "--reject",
        type=share,
        metavar="FRACTION",
        help="give no label to images unlike the training ones, and wrongly to this fraction of "
        "those that are like them, such as 0.05 (default: they are flagged alone)",
    )
    parser.add_argument(
        "--min-probability",
        type=share,
        metavar="P",
        help="give no label that is less probable than this, such as 0.9",
    )
    parser.add_argument(
        "--top",
        type=number_of_classes,
        default=1,
        metavar="K",
        help="the K most probable classes in text and CSV; JSON has them all (default: 1)",
    )
    parser.add_argument(
        "--review",
        type=number_to_ask,
        nargs="?",
        const=ASKED,
        metavar="N",
        help="instead of answers, the N images whose labels would teach the classifier most, as a "
        f"CSV whose labels can be filled in and given to `run --labels` (default of N: {ASKED})",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one JSON object a line")
    how.add_argument("--csv", action="store_true", help="a row an image, with a header")
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
    from extract import ReadOnlyStore
    from pipelines.bundle import load_classifier
    from pipelines.said import Rules

    _refuse_with_review(options)
    store = ReadOnlyStore(options.cache)
    classifier = load_classifier(options.bundle, cache=store, device=options.device, on_warning=say)
    if options.reject is not None and classifier.reference_ is None:
        raise WrongCall(
            f"{options.bundle} holds no training images to compare with, expected for --reject: "
            "make it again with this version"
        )
    _refuse_no_reject(options.reject, classifier)
    options.top = min(options.top, len(classifier.classes_))
    asking = Asking(options.images, sys.stdin)
    if options.review is not None:
        return _review(options, classifier, asking)
    rules = Rules(options.reject, options.min_probability)
    explained = None if options.explain is None else _open_folder(options.explain)
    chunks = _chunks(asking, classifier.head_.n_features_in_)
    if explained is not None:
        chunks = _explained_first(chunks, classifier, explained)
    write = None
    done = failed = 0
    # what is drawn by then has its page, also where it ends by Ctrl-C or an error
    with contextlib.nullcontext() if explained is None else contextlib.closing(explained):
        for answers in _shown_as_they_come(chunks, classifier, rules):
            write = write or _writer(options, asking)
            for answer in answers:
                write(answer)
            sys.stdout.flush()  # a pipe would hold the lines back
            done += len(answers)
            failed += sum(answer["error"] is not None for answer in answers)
    return _close(options, asking, done, failed)


def _refuse_no_reject(reject: float | None, classifier: "ImageClassifier") -> None:
    """A share so small that no image can be rejected for it."""
    reference = classifier.reference_
    if reject is not None and reference is not None and reject <= reference.least:
        raise WrongCall(
            f"--reject {reject:g} would reject nothing: of {len(reference.judged)} training images "
            f"that are compared with no familiarity is below {reference.least:.6g}; expected more "
            "than that"
        )


def _refuse_with_review(options: argparse.Namespace) -> None:
    """A review is a table of its own, without answers."""
    names = ("json", "csv", "explain", "reject", "min_probability")
    given = [name for name in names if getattr(options, name) not in (None, False)]
    given += ["top"] if options.top != 1 else []
    if options.review is not None and given:
        raise WrongCall(
            f"--review and --{given[0].replace('_', '-')} were given: leave one of them out"
        )


def _review(options: argparse.Namespace, classifier: "ImageClassifier", asking: Asking) -> int:
    """Print the images that a label would be worth most for -> exit code."""
    from pipelines.review import HEADER, Reviewing

    reviewing = Reviewing(classifier)
    done = 0
    for chunk in _counted(_chunks(asking, classifier.head_.n_features_in_)):
        done += len(chunk)
        for path, reason in reviewing.add(chunk):
            say(f"error: {path}: {reason}")
        gc.enable()
    code = _close(options, asking, done, reviewing.n_failed)
    rows = csv.writer(sys.stdout)
    rows.writerow(HEADER)
    rows.writerows(as_cells(row) for row in reviewing.rank(options.review))
    if reviewing.unlike_in_words:
        say(reviewing.unlike_in_words)
    return code


def _open_folder(folder: Path) -> "ExplanationFolder":
    from pipelines.report.explained import ExplanationFolder

    try:
        return ExplanationFolder(folder)
    except FileExistsError as error:
        raise WrongCall(f"--explain {error}") from error


def _explained_first(
    chunks: Iterable[list[Asked]], classifier: "ImageClassifier", folder: "ExplanationFolder"
) -> Iterator[list[Asked]]:
    """The chunks, once it is written why their images have their most probable classes.

    First, since the network's pass for the maps leaves the features too, in memory.
    """
    from data import ImageError
    from pipelines.explanation import explain

    for chunk in itertools.chain.from_iterable(map(_in_short, chunks)):
        paths = [asked.path for asked in chunk if asked.problem is None]
        for found in explain(classifier, paths) if paths else ():
            if not isinstance(found, ImageError):  # which its answer says
                folder.add(found)
        yield chunk


def _in_short(chunk: list[Asked]) -> Iterator[list[Asked]]:
    for at in range(0, len(chunk), CHUNKS[-1]):
        yield chunk[at : at + CHUNKS[-1]]


def _close(options: argparse.Namespace, asking: Asking, done: int, failed: int) -> int:
    """Say what was not used and what failed -> exit code."""
    unused = unused_in_words(asking.passed_over)
    if not done:
        raise WrongCall(
            f"no images in {', '.join(options.images)}: expected image files or folders of them"
            + (f" ({unused})" if unused else "")
        )
    if unused:
        say(unused)
    if failed:
        say(f"{failed} of {counted(done, 'image')} can't be read")
    return FAILED if failed else DONE


def _chunks(asking: Iterable[Asked | None], width: int) -> Iterator[list[Asked]]:
    """What is asked about in growing chunks; one of them is in memory at a time.

    width : of the features of an image. None in `asking` ends a chunk early.
    """
    sizes = iter(CHUNKS)
    most = max(CHUNKS[-1], MOST_NUMBERS // width)
    size, chunk = next(sizes), list[Asked]()
    for asked in asking:
        if asked is not None:
            chunk.append(asked)
        if len(chunk) == size or (asked is None and chunk):
            yield chunk
            size, chunk = next(sizes, most), []
    if chunk:
        yield chunk


def _shown_as_they_come(
    chunks: Iterable[list[Asked]], classifier: "ImageClassifier", rules: "Rules"
) -> Iterator[list[dict]]:
    """The answers of each chunk, and on a terminal how many there are."""
    # where both are one terminal the answers show how far it is
    hidden = sys.stdout.isatty()
    for chunk in _counted(chunks, hidden):
        yield _answers(classifier, chunk, rules)
        gc.enable()


def _counted(chunks: Iterable[list[Asked]], hidden: bool = False) -> Iterator[list[Asked]]:
    """The chunks, and on a terminal how many images are done."""
    bar: Any = None
    if sys.stderr.isatty() and not hidden:  # tqdm takes long to import
        bar = progress(None, "images")
    for chunk in chunks:
        yield chunk
        if bar is not None:
            bar.update(len(chunk))
    if bar is not None:
        bar.close()


def _answers(classifier: "ImageClassifier", chunk: Sequence[Asked], rules: "Rules") -> list[dict]:
    """An answer for each image of a chunk, in their order."""
    from pipelines.said import failure

    readable = [asked for asked in chunk if asked.problem is None]
    found = iter(_predictions(classifier, readable, rules) if readable else ())
    return [
        next(found) if asked.problem is None else failure(asked, asked.problem) for asked in chunk
    ]


def _predictions(
    classifier: "ImageClassifier", asked: Sequence[Asked], rules: "Rules"
) -> list[dict]:
    from extract.extractor import extractors_of
    from pipelines.said import answers_of

    judged = classifier.judge([own.path for own in asked])
    for row, notes in sorted(extractors_of(classifier.extractor_)[0].extraction_.notes.items()):
        say(f"note: {asked[row].path}: {'; '.join(notes)}")
    return answers_of(asked, judged, classifier.classes_, rules)


def _writer(options: argparse.Namespace, asking: Asking) -> Callable[[dict], None]:
    """What prints an answer in the form that is asked for; of CSV the header is printed now."""
    from pipelines.said import cells_of, header_of, line_of

    if options.json:
        return lambda answer: print(json.dumps(answer, ensure_ascii=True))
    if not options.csv:
        return lambda answer: print(shown(line_of(answer, options.top)))
    given, rows = asking.columns(), csv.writer(sys.stdout)
    rows.writerow(as_cells(header_of(options.top, given)))
    return lambda answer: rows.writerow(as_cells(cells_of(answer, options.top, given)))


if __name__ == "__main__":
    atexit.register(gc.freeze)  # as pipelines/__main__.py does
    sys.exit(main())
