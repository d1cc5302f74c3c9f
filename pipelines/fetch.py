"""A network's weights, brought once into a folder that can be carried to where there is none."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.names import counted, shown
from data.offline import NOT_ALLOWED, is_offline
from pipelines.console import DONE, add_quiet, progress, run_command, say
from pipelines.errors import WrongCall

EXAMPLE = "example: permafrost fetch resnet50 --to /media/stick/weights"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.fetch`."""
    parser = argparse.ArgumentParser(prog="pipelines.fetch", description=__doc__, epilog=EXAMPLE)
    parser.add_argument(
        "name", help="a network as --backbone takes it: resnet50, timm:NAME or hf:ORG/NAME"
    )
    parser.add_argument(
        "--weights",
        metavar="W",
        help="of torchvision's, such as IMAGENET1K_V2 (default: DEFAULT)",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="the folder (default: PERMAFROST_WEIGHTS, else the user data folder)",
    )
    add_quiet(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    return run_command(
        fetch, build_parser(), arguments, "nothing half brought is taken for whole; run again"
    )


def fetch(options: argparse.Namespace) -> int:
    """Bring the files, or look at those that are there, and say where -> exit code."""
    if is_offline():
        raise WrongCall(f"fetch opens connections, and {NOT_ALLOWED}: leave that out")
    from extract import fetch_backbone
    from extract.backbones.fetched import weights_folder

    bar = None if options.quiet else progress(None, "bytes")

    def on_bytes(came: int, all_of_it: int | None) -> None:
        if bar is not None:
            bar.total = all_of_it
            bar.update(came)

    try:
        found, is_new = fetch_backbone(options.name, options.weights, options.to, on_bytes)
    finally:
        if bar is not None:
            bar.close()
    size = sum(file.bytes for file in found.files.values())
    print(
        shown(
            f"{found.typed} ({found.weights}): {'fetched' if is_new else 'there already'}, "
            f"{counted(len(found.files), 'file')}, {size / 1e6:.1f} MB, sha256 as recorded; "
            f"in {found.folder}"
        )
    )
    folder = found.folder.parent.parent
    if not options.quiet and folder.resolve() != weights_folder().resolve():
        say(f"set PERMAFROST_WEIGHTS={folder} where it is to be used")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
