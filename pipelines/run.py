"""The main job: images in, the leaderboard, the chosen classifier, its accuracy and its bundle."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.console import (
    DONE,
    FEATURE_OPTIONS,
    Narrator,
    add_options,
    add_quiet,
    in_full,
    run_command,
    settings_of,
)
from pipelines.exploring.settings import ExploreSettings
from pipelines.settings import RunSettings

if TYPE_CHECKING:
    from pipelines.exploring.outcome import ExploreResult
    from pipelines.outcome import RunResult

EXAMPLE = "example: python -m pipelines.run photos --out runs/photos"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.run`."""
    parser = argparse.ArgumentParser(prog="pipelines.run", description=__doc__, epilog=EXAMPLE)
    parser.add_argument(
        "images",
        nargs="?",
        default="digits",
        help="a class-per-folder directory, a CSV or JSON-lines manifest, or a named set "
        "such as torchvision:Flowers102 (default: digits)",
    )
    add_options(parser, ("test", "class_level", *FEATURE_OPTIONS, "on"))
    add_options(parser, ("heads", "cv", "groups", "choose", "duplicates"))
    add_options(
        parser, ("baselines", "thorough", "scoring", "class_weight", "views", "out", "max_bad")
    )
    add_options(
        parser, ("labels", "unlabelled", "target_labels", "split", "final", "report", "within")
    )
    add_options(parser, ("augmented", "average_views"))
    parser.add_argument("--json", action="store_true", help="print results.json instead of tables")
    add_quiet(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    return run_command(lambda options: run(options, arguments), build_parser(), arguments)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Do the whole job and print what it found -> exit code."""
    from pipelines.job import run_job
    from pipelines.report.text import summary

    settings = settings_of(RunSettings, options)
    return carry_out(run_job, settings, summary, options, build_parser(), arguments)


def carry_out(
    job: "Callable[..., RunResult | ExploreResult]",
    settings: RunSettings | ExploreSettings,
    in_words: Callable[[dict, Path], str],
    options: argparse.Namespace,
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
) -> int:
    """Do a job of images, telling how far it is, and print its results -> exit code.

    job : `run_job` or what is called like it. in_words : the results and their folder -> text.
    """
    from pipelines.report.files import results_text

    out = settings.out or default_folder(options.images)
    narrator = Narrator(options.quiet)
    try:
        result = job(
            options.images,
            replace(settings, out=out),
            on_event=narrator,
            command=["python", "-m", parser.prog, *in_full(parser, arguments)],
        )
    finally:
        narrator.close()
    results = result.results
    text = results_text(results, ascii_only=True) if options.json else in_words(results, Path(out))
    print(text, end="")
    return DONE


def default_folder(images: str) -> Path:
    """`runs/TIME-NAME`, the name of a folder, manifest or named set made fit for a file name."""
    path = Path(images).absolute()
    name = path.stem if path.is_file() else path.name
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}"


if __name__ == "__main__":
    sys.exit(main())
