"""What this machine has, how fast it decodes images and runs a network, what a layer sees."""

import argparse
import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from data.names import counted
from pipelines.console import DONE, FEATURE_OPTIONS, add_options, run_command, settings_of
from pipelines.errors import WorkFailed, WrongCall
from pipelines.progress import ProgressLine
from pipelines.settings import FeatureSettings

SECONDS = 20.0
SAMPLE = 256
CHANNELS = 10  # that are looked at
COUNTS = (100, 1_000, 10_000)
EXAMPLE = "example: python -m pipelines.doctor photos --backbone resnet50"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.doctor`."""
    parser = argparse.ArgumentParser(prog="pipelines.doctor", description=__doc__, epilog=EXAMPLE)
    add = parser.add_argument
    add(
        "images",
        nargs="?",
        help="a folder of images to measure with (default: made-up photos of 500 x 375 pixels)",
    )
    add_options(parser, FEATURE_OPTIONS)
    add(
        "--seconds",
        type=float,
        default=SECONDS,
        metavar="S",
        help="how long to measure (default: 20)",
    )
    add("--json", action="store_true", help="print one JSON object instead")
    add(
        "--look",
        metavar="LAYER",
        help="measure nothing, and write a page of what channels of this layer see, such as "
        "features.14: the patches of the images that excite each most, what in them does, and an "
        "image made to excite it; without images the last alone",
    )
    add(
        "--units",
        type=units,
        metavar="N|A,B",
        help="of --look: how many channels of the layer, those that tell the images' classes "
        "apart, or stand out most where there are none; or their numbers, such as 3,17 (one with "
        f"a comma behind it: 3,) (default: {CHANNELS})",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where --look writes look-LAYER.html (default: the current folder)",
    )
    return parser


def units(text: str) -> int | list[int]:
    """`10` -> 10, how many; `3,17` -> [3, 17] and `3,` -> [3], which."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    numbers = list(dict.fromkeys(int(part) for part in parts if part.isdecimal()))
    is_count = "," not in text
    if not numbers or not all(map(str.isdecimal, parts)) or (is_count and numbers == [0]):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected how many, such as 10, or numbers of channels, such as 3,17"
        )
    return numbers[0] if is_count else numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    return run_command(examine, build_parser(), arguments, "nothing was to be kept")


def examine(options: argparse.Namespace) -> int:
    """Look, measure and print -> exit code."""
    from extract import FeatureStore
    from extract.speed import machine, made_up_photos

    if not 0 < options.seconds < math.inf:
        raise WrongCall(f"--seconds {options.seconds:g}: expected a time above 0, such as 20")
    _check_look(options)
    settings = settings_of(FeatureSettings, options)
    settings.check_features()
    if options.look is not None:
        return look(options, settings)
    there = machine(FeatureStore(settings.cache).cache)
    if not options.json:
        print("\n".join(f"{name:<10} {text}" for name, text in there.items()), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = find(options.images) if options.images else None
        sample = paths[:: -(-len(paths) // SAMPLE)] if paths else made_up_photos(Path(folder))
        counts = [len(paths)] if paths else COUNTS
        measured = [
            measure_backbone(name, sample, settings, options.seconds, counts)
            for name in settings.backbones
        ]
    if options.json:
        print(json.dumps({"machine": there, "backbones": measured}, indent=1))
    else:
        print("\n".join(described(row, paths is not None) for row in measured))
    return DONE


def _check_look(options: argparse.Namespace) -> None:
    """Raise WrongCall for options that would not count, and for an --out that is no folder."""
    given = {"--units": options.units, "--out": options.out}
    alone = [name for name, value in given.items() if value is not None]
    if options.look is None and alone:
        raise WrongCall(f"{alone[0]} is of --look: expected --look LAYER beside it")
    if options.look is not None and options.json:
        raise WrongCall("--json beside --look: a look is a page; leave one of them out")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise WrongCall(f"--out {options.out}: expected a folder, and this is a file")


def look(options: argparse.Namespace, settings: FeatureSettings) -> int:
    """Write the page of what a layer sees, and say where it is -> exit code."""
    from extract import FeatureStore, load_backbone
    from pipelines.looking import look_at
    from pipelines.report.files import write_page
    from pipelines.report.inside import look_page
    from pipelines.report.page import make_look_page

    if len(settings.backbones) > 1:
        raise WrongCall(
            f"--look {options.look} beside --backbone {','.join(map(str, settings.backbones))}: "
            "expected one backbone"
        )
    paths, labels = find_labelled(options.images) if options.images else ([], None)
    backbone = load_backbone(
        settings.backbones[0],
        settings.weights,
        seed=settings.seed,
        size=settings.size,
        cache=FeatureStore(settings.cache).cache,
    )
    with _steps_shown() as on_progress:
        seen = look_at(
            backbone,
            options.look,
            paths,
            CHANNELS if options.units is None else options.units,
            labels=labels,
            device=settings.device,
            reading=settings.reading(paths),
            seed=settings.seed,
            on_progress=on_progress,
        )
    out = options.out or Path()
    file = out / look_page(options.look)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_page(file, make_look_page(seen))
    except OSError as error:
        raise WorkFailed(
            f"can't write {file} ({error.strerror or error}): make room or choose another folder "
            "with --out"
        ) from error
    print("\n".join([*seen.notes, f"{options.look} of {backbone.name}: {file}"]))
    return DONE


@contextlib.contextmanager
def _steps_shown() -> Iterator[Callable[[int, int], None]]:
    """Inside, what shows how many steps of the images that are made are done, in a terminal."""
    line = ProgressLine()

    def advance(done: int, total: int) -> None:
        line.draw(f"making images that excite channels, {done} of {total} steps")

    try:
        yield advance
    finally:
        line.clear()


def find(images: str) -> list:
    """The images of a folder, manifest or named set; DataError where there are none."""
    from data import read_images

    return list(read_images(images, labelled=False).inputs)


def find_labelled(images: str) -> tuple[list, Any]:
    """The same with their labels; None where they have none, or one alone."""
    from data import DataError, read_images

    with contextlib.suppress(DataError):
        samples = read_images(images)
        if len(samples.classes) > 1:
            return list(samples.inputs), samples.labels
    return find(images), None


def measure_backbone(
    name: str,
    sample: Sequence,
    settings: FeatureSettings,
    seconds: float,
    counts: Sequence[int],
) -> dict:
    """Rates of one backbone with all taps that a run would keep, and seconds for image counts.

    sample : the images to measure with. seconds : how long to measure.
    """
    from extract import FeatureStore, load_backbone
    from extract.backbones import brings_weights, scheme_of
    from extract.speed import measure_speed
    from pipelines.features import choose_taps

    # the values of the weights change no time, so none are fetched
    named = scheme_of(name) in ("torchvision", "timm", "hf", "wheel")
    weights = None
    if not brings_weights(name):
        weights = settings.weights or ("random" if named else None)
    cache = FeatureStore(settings.cache).cache
    backbone = load_backbone(name, weights, size=settings.size, cache=cache)
    chosen = choose_taps(backbone.card, settings.layers, settings.poolings)
    taps = list(dict.fromkeys(tap for joined in chosen for tap in joined))
    speed = measure_speed(backbone, taps, sample, settings.device, settings.numerics, seconds)
    return {
        "backbone": name,
        "fit": backbone.card.fit and backbone.card.fit.in_words(),
        **_seen_by(backbone.preprocessing),
        "taps": len(taps),
        **asdict(speed),
        "seconds": {str(count): round(speed.seconds(count), 1) for count in counts},
    }


def _seen_by(preprocessing: Any) -> dict:
    """What the network sees of an image: how large, and what was done to it, in words."""
    if hasattr(preprocessing, "in_words"):
        return {"size": preprocessing.shape, "input": preprocessing.in_words()}
    seen = preprocessing(Image.new("RGB", (64, 64)))
    return {"size": tuple(seen.shape[-2:]), "input": preprocessing.transform_id}


def described(row: dict, own_images: bool) -> str:
    """One backbone's figures as a person reads them."""
    images = "your images" if own_images else "photos of 500 x 375 pixels"
    height, width = row["size"]
    times = ", ".join(
        f"{int(count):,} {'image takes' if int(count) == 1 else 'images take'} about {_time(s)}"
        for count, s in row["seconds"].items()
    )
    engines = ", ".join(f"{name} {rate:.0f}" for name, rate in row["forward"].items())
    fit = f"{'weights':<10} {row['fit']}\n" if row["fit"] else ""
    return (
        f"\n{row['backbone']} at {height} x {width} pixels, {counted(row['taps'], 'tap')}, "
        f"{row['numerics']} on {row['device']}\n"
        f"{'input':<10} {row['input']}\n"
        f"{fit}{'decoding':<10} {row['decode']:.0f} images/s, {images}\n"
        f"{'forward':<10} images/s: {engines}\n"
        f"{'a pass':<10} {times}"
    )


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    sys.exit(main())
