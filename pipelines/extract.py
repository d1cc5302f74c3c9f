"""Features alone: one pass over images without labels, kept in the store and exported if asked."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.console import (
    DONE,
    FEATURE_OPTIONS,
    Narrator,
    add_options,
    run_command,
    say,
    settings_of,
)
from pipelines.errors import WrongCall
from pipelines.settings import FeatureSettings

if TYPE_CHECKING:
    from data import Samples
    from pipelines.features import FeatureTable

EXAMPLE = (
    "example: python -m pipelines.extract photos --layers features.14 --pooling grid3 "
    "--to photos.h5"
)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.extract`."""
    parser = argparse.ArgumentParser(prog="pipelines.extract", description=__doc__, epilog=EXAMPLE)
    parser.add_argument(
        "images", help="a folder of images, a manifest, or a named set such as digits"
    )
    add_options(parser, FEATURE_OPTIONS)
    parser.add_argument("--to", type=Path, metavar="FILE.h5", help="also write one plain HDF5 file")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    return run_command(extract_features, build_parser(), arguments)


def extract_features(options: argparse.Namespace) -> int:
    """Have the features kept, and exported where asked -> exit code."""
    from extract import FeatureStore
    from pipelines.features import keep_features, load_backbones
    from pipelines.report.extraction import describe_extraction

    settings = settings_of(FeatureSettings, options)
    refuse_unwritable(options.to)
    settings.check_features()
    samples = read_any(options.images)
    store = FeatureStore(settings.cache)
    backbones = load_backbones(samples, settings, store)
    table = keep_features(samples, backbones, store, settings, settle=False, on_event=Narrator())
    for path, reason in table.bad:
        say(f"left out: {path}: {reason}")
    done = describe_extraction(table.passes)
    print(
        f"{len(table.samples)} images, {len(table.sources)} taps: {done['computed']} computed, "
        f"{done['from_store']} from the store, {done['seconds']:.1f} s; kept in {store.cache}"
    )
    for line in filter(None, (done["in_words"], done["unused_gpu"])):
        print(line)
    if options.to:
        export_table(table, options.to)
        print(f"exported: {options.to}")
    return DONE


def export_table(table: "FeatureTable", file: Path) -> None:
    """One plain HDF5 file of all features, in the samples' order."""
    from extract import export_features

    features = {name: table.read(number) for number, name in enumerate(feature_names(table))}
    samples = table.samples
    export_features(file, features, samples.paths, samples.labels, samples.classes, samples.split)


def feature_names(table: "FeatureTable") -> list[str]:
    """The taps as they are written, with the backbone before each where there are several."""
    several = len({source.backbone for source in table.sources}) > 1
    return [
        f"{source.backbone}/{source.tap}" if several else str(source.tap)
        for source in table.sources
    ]


def refuse_unwritable(file: Path | None) -> None:
    """Say before the pass that the export can't be written."""
    from extract.files import written_aside

    if file is None:
        return
    try:
        if file.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with written_aside(file.with_name(f".test-{file.name}")) as aside:
            aside.touch()
        file.with_name(f".test-{file.name}").unlink()
    except OSError as error:
        raise WrongCall(
            f"can't write {file} ({error.strerror}): choose another file with --to"
        ) from error


def read_any(images: str) -> "Samples":
    """Samples with labels where the layout has them, else without."""
    from data import DataError, read_images

    try:
        return read_images(images)
    except DataError:
        return read_images(images, labelled=False)


if __name__ == "__main__":
    sys.exit(main())
