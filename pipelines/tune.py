"""Fine-tuning on equal terms: the network trained further, measured against it frozen."""

import argparse
import sys
from collections.abc import Sequence

from pipelines.console import (
    FEATURE_OPTIONS,
    TUNING_KEPT,
    TUNING_OPTIONS,
    add_options,
    add_quiet,
    run_command,
    settings_of,
)
from pipelines.run import carry_out
from pipelines.tuning.settings import TuneSettings

EXAMPLE = "example: python -m pipelines.tune photos --split runs/photos --out runs/tuned"
# of the frozen run
RUN_OPTIONS = (
    "test", "class_level", *FEATURE_OPTIONS, "on", "heads", "cv", "groups", "choose", "duplicates",
    "baselines", "thorough", "scoring", "class_weight", "views", "out", "max_bad", "labels",
    "split", "report",
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.tune`."""
    parser = argparse.ArgumentParser(prog="pipelines.tune", description=__doc__, epilog=EXAMPLE)
    parser.add_argument(
        "images",
        help="as of `run`: a class-per-folder directory, a manifest, or a named set",
    )
    add_options(parser, TUNING_OPTIONS, TuneSettings)
    add_options(parser.add_argument_group("the frozen run"), RUN_OPTIONS, TuneSettings)
    parser.add_argument("--json", action="store_true", help="print results.json instead of tables")
    add_quiet(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    return run_command(
        lambda options: tune(options, arguments), build_parser(), arguments, TUNING_KEPT
    )


def tune(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Do the whole job and print what it found -> exit code."""
    settings = settings_of(TuneSettings, options)
    settings.check_tuning()
    from pipelines.report.tuning import tuning_summary
    from pipelines.tuning.job import tune_job

    return carry_out(tune_job, settings, tuning_summary, options, build_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
