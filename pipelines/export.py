"""A trained classifier as one ONNX file, from pixels to answer, checked before it is left."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.names import counted, shown
from pipelines.console import DONE, add_quiet, run_command, say
from pipelines.errors import WrongCall

if TYPE_CHECKING:
    from pipelines.exporting.job import ExportResult

EXAMPLE = "example: python -m pipelines.export runs/photos --to photos.onnx"
MB = 1e6


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.export`."""
    parser = argparse.ArgumentParser(prog="pipelines.export", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("bundle", nargs="?", help="the folder of a run, or the model folder in it")
    parser.add_argument("--to", type=Path, metavar="FILE.onnx", help="the file to write")
    parser.add_argument(
        "--images",
        metavar="IMAGES",
        help="images on which the answers of both are compared, a folder or manifest of "
        "them, 200 at most (default: images made for it)",
    )
    parser.add_argument(
        "--features",
        action="store_true",
        help="the network and its taps without the heads: an output for each tap",
    )
    parser.add_argument(
        "--describe", type=Path, metavar="FILE.onnx", help="print what a file says of itself"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_quiet(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    return run_command(export, build_parser(), arguments, "no file was left")


def export(options: argparse.Namespace) -> int:
    """Write a file, or describe one -> exit code."""
    if options.describe is not None:
        return _describe(options)
    if options.bundle is None or options.to is None:
        raise WrongCall("expected a BUNDLE and --to FILE.onnx, or --describe FILE.onnx")
    from pipelines.exporting.job import export_job

    done = export_job(
        options.bundle,
        options.to,
        images=options.images,
        features=options.features,
        on_step=(lambda words: None) if options.quiet else say,
    )
    if options.json:
        print(json.dumps(done.described))
    else:
        print("\n".join(_in_words(done)))
    return DONE


def _describe(options: argparse.Namespace) -> int:
    if options.bundle is not None or options.to is not None:
        raise WrongCall("--describe FILE.onnx stands alone: leave BUNDLE and --to out")
    from pipelines.exporting.texts import read_described

    described = read_described(options.describe)
    print(json.dumps(described) if options.json else "\n".join(description_in_words(described)))
    return DONE


def _in_words(done: "ExportResult") -> list[str]:
    return [
        f"{shown(str(done.file))}: {done.n_bytes / MB:.1f} MB",
        *description_in_words(done.described),
        f"answers: python {shown(str(done.runner))} {shown(str(done.file))} IMAGE",
    ]


def description_in_words(described: Mapping[str, Any]) -> list[str]:
    """What a file says of itself, line by line."""
    lines = [f"input: {described['input']}"]
    if described["kind"] == "classifier":
        lines.append(f"classes: {', '.join(shown(str(own)) for own in described['classes'])}")
    for own in described["extractors"]:
        licence = own["licence"] or "not known"
        lines.append(
            f"network: {own['backbone']}, weights {own['weights']} (licence {licence}), view "
            f"{own['recipe']['view']}, taps {', '.join(own['taps'])}; {own['preprocessing']}"
        )
    for own in described.get("heads", ()):
        share = "" if own["weight"] == 1 else f", weight {own['weight']:.2f}"
        lines.append(f"head: {own['head']}{share}")
    measured = described.get("accuracy")
    if measured:
        lines.append(
            f"accuracy: {measured['value']:.4f} ({measured['low']:.4f} to {measured['high']:.4f}), "
            f"{measured['right']} of {measured['images']} on {measured['on']}"
        )
    packages = (f"{name} {own}" for name, own in described["versions"].items() if own)
    lines.append(f"made with: {', '.join(packages)}")
    return lines + _check_in_words(described["checked"]) + _numerics_in_words(described)


def _numerics_in_words(described: Mapping[str, Any]) -> list[str]:
    """That the bundle was measured in another precision than a file computes in, if it was."""
    numerics = {own["recipe"]["numerics"] for own in described["extractors"]} - {"float32"}
    if not numerics:
        return []
    return [
        f"the bundle's features are {', '.join(sorted(numerics))}, the file's float32, and so are "
        "those it was compared with: a run with --numerics float32 has figures of the very file"
    ]


def _check_in_words(checked: Mapping[str, Any]) -> list[str]:
    if "feature" in checked:
        return [
            f"checked on {checked['images']} images ({shown(checked['on'])}): features differ by "
            f"{checked['feature']:.1g} of the largest at most"
        ]
    lines = [
        f"checked on {checked['images']} images ({shown(checked['on'])}): all labels equal, "
        f"probabilities differ by {checked['probability']:.1g} at most"
    ]
    if checked["of_files"]:
        labels, away = checked["of_files"]
        lines.append(
            f"beside predict, as it reads and computes: {counted(labels, 'label')} "
            f"{'differs' if labels == 1 else 'differ'}, probabilities by {away:.1g} at most"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
