"""Features alone: one pass over images without labels, kept in the store and exported if asked."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.names import counted, shown
from pipelines.console import (
    DONE,
    FEATURE_OPTIONS,
    Narrator,
    add_options,
    add_quiet,
    run_command,
    say,
    settings_of,
)
from pipelines.errors import WorkFailed, WrongCall
from pipelines.settings import FeatureSettings

if TYPE_CHECKING:
    from pipelines.features import FeatureTable

HDF5_SUFFIXES = (".h5", ".hdf5")
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
    add_options(parser, ("class_level", *FEATURE_OPTIONS, "on"))
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE.h5",
        help="also write one plain HDF5 file, or a Parquet table where the name ends in .parquet",
    )
    add_quiet(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    return run_command(extract_features, build_parser(), arguments)


def extract_features(options: argparse.Namespace) -> int:
    """Have the features kept, and exported where asked -> exit code."""
    from extract import FeatureStore
    from pipelines.features import (
        choose_taps,
        export_table,
        find_range,
        keep_features,
        load_backbones,
    )
    from pipelines.report.extraction import describe_extraction
    from pipelines.samples import SamplesRead, read_any

    settings = settings_of(FeatureSettings, options)
    refuse_unwritable(options.to)
    settings.check_features()
    samples = read_any(options.images, settings.class_level)
    narrator = Narrator(options.quiet)
    store = FeatureStore(settings.cache)
    backbones = load_backbones(samples, settings, store, narrator)
    for backbone in backbones:
        choose_taps(backbone.card, settings.layers, settings.poolings)
    narrator(SamplesRead(samples))
    settings = find_range(samples, settings, narrator)
    table = keep_features(samples, backbones, store, settings, settle=False, on_event=narrator)
    if not options.quiet:
        say_left_out(table)
    done = describe_extraction(table.passes)
    images = counted(len(table.samples), "image")
    n_copies = len(table.ids) - len(np.unique(table.ids, axis=0))
    if n_copies:
        images += f" ({counted(n_copies, 'exact duplicate')} among them)"
    print(
        f"{images}, {counted(len(table.sources), 'tap')}: {done['computed']} computed, "
        f"{done['from_store']} from the store, {done['seconds']:.1f} s; "
        f"kept in {shown(store.url or str(store.cache))}"
    )
    for line in filter(None, (done["in_words"], done["unused_gpu"])):
        print(line)
    if options.to:
        export_table(table, options.to)
        print(shown(f"exported: {options.to}"))
    return DONE


def say_left_out(table: "FeatureTable") -> None:
    """The images without features, and those used with a note."""
    for path, reason in table.bad:
        say(f"left out: {path}: {reason}")
    for path, note in table.notes:
        say(f"note: {path}: {note}")


def refuse_unwritable(file: Path | None) -> None:
    """Say before the pass that the export can't be written."""
    from extract.errors import DISK_ERRORS
    from extract.files import written_aside
    from extract.store.parquet import SUFFIX as PARQUET_SUFFIX
    from extract.store.parquet import check_pyarrow

    if file is None:
        return
    if file.suffix.lower() == PARQUET_SUFFIX:
        check_pyarrow()
    elif file.suffix.lower() not in HDF5_SUFFIXES:
        raise WrongCall(
            f"--to {file}: what is written is HDF5 or Parquet; expected a name that ends in "
            f"{', '.join(HDF5_SUFFIXES)} or {PARQUET_SUFFIX}"
        )
    try:
        if file.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with written_aside(file.with_name(f".test-{file.name}")) as aside:
            aside.touch()
        file.with_name(f".test-{file.name}").unlink()
    except OSError as error:
        kind = WorkFailed if error.errno in DISK_ERRORS else WrongCall
        raise kind(
            f"can't write {file} ({error.strerror}): choose another file with --to"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
