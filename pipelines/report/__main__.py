"""The page of a finished run, made again from what the run left."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.names import counted, shown
from pipelines.console import DONE, add_options, run_command, say

EXAMPLE = "example: python -m pipelines.report runs/photos"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.report`."""
    parser = argparse.ArgumentParser(prog="pipelines.report", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("run", type=Path, metavar="OUT", help="the folder of a run")
    add_options(parser, ["cache"])
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    return run_command(report, build_parser(), arguments, "an earlier page stays as it was")


def report(options: argparse.Namespace) -> int:
    """Write the page and say where it is -> exit code."""
    from extract import ReadOnlyStore
    from pipelines.report.charts import KEPT
    from pipelines.report.files import REPORT, disk_errors_named, write_page
    from pipelines.report.finished import read_finished
    from pipelines.report.page import make_page
    from pipelines.report.pictures import gather_pictures

    results, images = read_finished(options.run)
    store = ReadOnlyStore(options.cache)
    pictures = gather_pictures(results, images, images.path.tolist(), store)
    file = options.run / REPORT
    with disk_errors_named(file):
        write_page(file, make_page(results, images, pictures, store.cache / KEPT))
    print(shown(f"page: {file}"))
    if len(pictures) < len(images):
        shown_of = f"{len(pictures)} of {counted(len(images), 'image')} have a picture in it"
        say(f"{shown_of}; those whose files are gone have one where --cache is the run's own")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
