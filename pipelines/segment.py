"""A class for each pixel: images and masks in, predicted masks of test images and their overlap."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data.names import counted, shown
from pipelines.console import (
    DONE,
    PIXEL_OPTIONS,
    Narrator,
    add_options,
    add_quiet,
    in_full,
    run_command,
    settings_of,
)
from pipelines.errors import WrongSetting
from pipelines.pixels.settings import SegmentSettings
from pipelines.run import default_folder

EXAMPLE = "example: python -m pipelines.segment photos masks --size 448 --out runs/regions"
FEATURES = ("backbone", "weights", "layers", "size", "numerics", "device", "cache", "seed",
            "intensity", "page", "channels")  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.segment`."""
    parser = argparse.ArgumentParser(prog="pipelines.segment", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("images", help="a folder of images")
    parser.add_argument(
        "masks",
        help="a folder of their masks, laid out alike: PNG files with a palette or of gray, whose "
        "numbers are classes",
    )
    parser.add_argument(
        "--test",
        nargs=2,
        metavar=("IMAGES", "MASKS"),
        help="test images and their masks (default: 25 %% held out)",
    )
    add_options(parser, (*PIXEL_OPTIONS, *FEATURES, "out"), SegmentSettings)
    add_quiet(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    return run_command(lambda options: segment(options, arguments), build_parser(), arguments)


def segment(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Fit, measure, write and print -> exit code."""
    from pipelines.pixels.job import segment_job

    settings = settings_of(SegmentSettings, options)
    out = Path(settings.out or default_folder(options.images))
    settings = replace(settings, out=out, backbone=one_name(settings.backbone))
    narrator = Narrator(options.quiet)
    try:
        result = segment_job(
            options.images,
            options.masks,
            settings,
            on_event=narrator,
            command=["python", "-m", "pipelines.segment", *in_full(build_parser(), arguments)],
        )
    finally:
        narrator.close()
    print(in_words(result.results, out), end="")
    return DONE


def one_name(backbone: str | Sequence[str]) -> str:
    """The name of the one network; WrongSetting for several."""
    names = [backbone] if isinstance(backbone, str) else list(backbone)
    if len(names) != 1:
        raise WrongSetting("backbone", ",".join(names), "expected the name of one network")
    return names[0]


def in_words(results: dict, out: Path) -> str:
    """What was found, for a terminal."""
    data, overlap = results["data"], results["overlap"]
    rows = [(f"class {own['class']}", own) for own in overlap["classes"]]
    lines = [
        f"intersection over union of {counted(data['n_test'], 'test image')}, "
        f"{data['n_train']} to learn from",
        *(f"{name:<10} {_share(own)}" for name, own in [*rows, ("mean", overlap["mean"])]),
        *ignored_in_words(data),
        shown(f"page: {out / 'report.html'}; masks: {out / 'masks'}"),
        "the classifier is not kept: a forest is none that can be"
        if not results["kept"]
        else shown(f"classifier: load_pixels({str(out / 'model')!r})"),
    ]
    return "\n".join(lines) + "\n"


def ignored_in_words(data: dict) -> list[str]:
    """A line where no mask has the number that was to be ignored."""
    if data["ignore_found"] is not False:
        return []
    return [f"no mask has the number {data['ignore']} that --ignore names: every pixel counts"]


def _share(own: dict) -> str:
    if own["value"] is None:
        return "no pixel of it"
    if own["low"] is None:
        return f"{own['value']:.3f} (too few images for an interval)"
    return f"{own['value']:.3f} ({own['low']:.3f} to {own['high']:.3f})"


if __name__ == "__main__":
    sys.exit(main())
