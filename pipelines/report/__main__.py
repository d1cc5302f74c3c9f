"""The page of a finished run, made again from what the run left."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.names import counted, shown
from pipelines.console import DONE, add_options, run_command, say
from pipelines.errors import WorkFailed, WrongCall

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
    from jinja2 import TemplateError

    from extract import ReadOnlyStore
    from pipelines.report.charts import KEPT
    from pipelines.report.files import REPORT, RESULTS, write_page
    from pipelines.report.finished import read_finished
    from pipelines.report.page import make_page
    from pipelines.report.pictures import gather_pictures
    from pipelines.report.seen import cut_seen, find_seen

    results, images = read_finished(options.run)
    store = ReadOnlyStore(options.cache)
    file = options.run / REPORT
    try:
        inputs = images.path.tolist()
        pictures = gather_pictures(results, images, inputs, store)
        cut = cut_seen(results, images, inputs)
        seen = find_seen(results, images, cut, pictures)
        kept = store.cache / KEPT if store.cache.exists() else None  # no cache is made for it
        page = make_page(results, images, pictures, kept, seen)
    except (LookupError, TypeError, ValueError, AttributeError, TemplateError) as error:
        raise WrongCall(
            f"{options.run / RESULTS} is not as this version writes it "
            f"({type(error).__name__}: {error}): run again"
        ) from error
    try:
        write_page(file, page)
    except OSError as error:
        raise WorkFailed(f"can't write {file} ({error.strerror or error}): make room") from error
    print(shown(f"page: {file}"))
    if len(pictures) < len(images):
        shown_of = f"{len(pictures)} of {counted(len(images), 'image')} have a picture in it"
        say(f"{shown_of}; those whose files are gone have one where --cache is the run's own")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
