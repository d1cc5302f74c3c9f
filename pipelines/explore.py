"""Images without labels: clusters, a map, copies and outliers, and which to label first."""

import argparse
import sys
from collections.abc import Sequence

from pipelines.console import (
    EXPLORING_OPTIONS,
    FEATURE_OPTIONS,
    add_options,
    add_quiet,
    run_command,
    settings_of,
)
from pipelines.exploring.settings import ExploreSettings
from pipelines.run import carry_out

EXAMPLE = "example: python -m pipelines.explore photos --out runs/explored"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.explore`."""
    parser = argparse.ArgumentParser(prog="pipelines.explore", description=__doc__, epilog=EXAMPLE)
    parser.add_argument(
        "images",
        help="a folder of images at any depth, a manifest, or a named set such as digits; labels "
        "that it has are compared with the clusters and used for nothing else",
    )
    options = (*EXPLORING_OPTIONS, *FEATURE_OPTIONS, "on", "out", "max_bad", "report")
    add_options(parser, options, ExploreSettings)
    parser.add_argument("--json", action="store_true", help="print results.json instead of tables")
    add_quiet(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    return run_command(lambda options: explore(options, arguments), build_parser(), arguments)


def explore(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Do the whole job and print what it found -> exit code."""
    settings = settings_of(ExploreSettings, options)
    from pipelines.exploring.job import explore_job
    from pipelines.report.exploring import explored_summary

    return carry_out(explore_job, settings, explored_summary, options, build_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
