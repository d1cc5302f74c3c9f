"""Labels and probabilities for new images by a bundle; writes nothing but its answer."""

import argparse
import csv
import json
import sys

from pipelines.console import DONE, FAILED, WrongCall, run_command, say

EXAMPLE = "example: python -m pipelines.predict runs/photos/model new.jpg more/ --json"
CHUNK = 256


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.predict`."""
    parser = argparse.ArgumentParser(prog="pipelines.predict", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("bundle", help="the model folder that a run wrote")
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one JSON object a line")
    how.add_argument("--csv", action="store_true", help="path,label,probability,error")
    return parser


def main(arguments=None) -> int:
    """Run the command line -> exit code."""
    return run_command(predict, build_parser(), arguments)


def predict(options: argparse.Namespace) -> int:
    """Print one answer for each image -> 0, or 1 where any could not be read."""
    from data import find_images
    from pipelines.bundle import load_classifier

    classifier = load_classifier(options.bundle, device=options.device, on_warning=say)
    entries = []  # (path, why it can't be read or None), in the order of the call
    for image in options.images:
        paths, problems = find_images([image])
        entries += [(path, None) for path in paths] + list(problems)
    if not entries:
        raise WrongCall(
            f"no images in {', '.join(options.images)}: expected image files or folders of them"
        )
    write = next(
        WRITERS[name]
        for name in ("json", "csv", "text")
        if name == "text" or getattr(options, name)
    )
    if write is _write_csv:
        csv.writer(sys.stdout).writerow(("path", "label", "probability", "error"))
    failed = 0
    for answer in _answers(classifier, entries):
        write(answer)
        failed += answer["error"] is not None
    if failed:
        say(f"{failed} of {len(entries)} images can't be read")
    return FAILED if failed else DONE


def _answers(classifier, entries):
    for at in range(0, len(entries), CHUNK):
        chunk = entries[at : at + CHUNK]
        readable = [path for path, problem in chunk if problem is None]
        found = iter(_predictions(classifier, readable) if readable else ())
        yield from (
            next(found) if problem is None else _failure(path, problem) for path, problem in chunk
        )


def _predictions(classifier, paths):
    rows, labels, shares, bad = classifier.predict_readable(paths)
    answers = {
        row: _answer(paths[row], classifier.classes_, labels[i], shares[i])
        for i, row in enumerate(rows)
    }
    answers |= {row: _failure(paths[row], error.reason) for row, error in bad.items()}
    return [answers[row] for row in range(len(paths))]


def _answer(path, classes, label, shares):
    by_class = {
        str(name): round(float(share), 6) for name, share in zip(classes, shares, strict=True)
    }
    return {
        "path": str(path),
        "label": str(label),
        "probability": by_class[str(label)],
        "probabilities": by_class,
        "error": None,
    }


def _failure(path, reason):
    return {
        "path": str(path),
        "label": None,
        "probability": None,
        "probabilities": None,
        "error": reason,
    }


def _write_json(answer):
    print(json.dumps(answer, ensure_ascii=True))


def _write_csv(answer):
    csv.writer(sys.stdout).writerow(
        answer[key] for key in ("path", "label", "probability", "error")
    )


def _write_text(answer):
    outcome = (
        f"error: {answer['error']}"
        if answer["error"]
        else f"{answer['label']}  {answer['probability']:.3f}"
    )
    print(f"{answer['path']}  {outcome}")


WRITERS = {"json": _write_json, "csv": _write_csv, "text": _write_text}


if __name__ == "__main__":
    sys.exit(main())
