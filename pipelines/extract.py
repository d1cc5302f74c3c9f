"""Features alone: one pass over images whose labels are not needed, kept in the store and, if asked, exported."""

import argparse
import sys
from pathlib import Path

import numpy as np

from extract.files import written_aside
from pipelines.console import DONE, WrongCall, add_feature_arguments, run_command, say
from pipelines.run import watch_pass

EXAMPLE = "example: python -m pipelines.extract photos --layers features.14 --pooling grid3 --to photos.h5"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.extract`."""
    parser = argparse.ArgumentParser(prog="pipelines.extract", description=__doc__, epilog=EXAMPLE)
    parser.add_argument(
        "images", help="a folder of images, a manifest, or a named set such as digits"
    )
    add_feature_arguments(parser)
    parser.add_argument("--to", type=Path, metavar="FILE.h5", help="also write one plain HDF5 file")
    return parser


def main(arguments=None) -> int:
    """Run the command line -> exit code."""
    return run_command(extract_features, build_parser(), arguments)


def extract_features(options: argparse.Namespace) -> int:
    """Have the features kept, and exported where asked -> exit code."""
    from extract import FeatureStore, export_features
    from pipelines.features import keep_features, load_backbones
    from pipelines.report.extraction import describe_extraction

    refuse_unwritable(options.to)
    samples = read_any(options.images)
    store = FeatureStore(options.cache)
    kept = keep_features(
        samples,
        load_backbones(samples, options, store),
        options.layers,
        options.pooling,
        store,
        numerics=options.numerics,
        device=options.device,
        settle=False,
        watch=watch_pass,
    )
    for path, reason in kept.bad:
        say(f"left out: {path}: {reason}")
    done = describe_extraction(kept.passes)
    print(
        f"{len(kept.samples)} images, {len(kept.sources)} taps: {done['computed']} computed, "
        f"{done['from_store']} from the store, {done['seconds']:.1f} s; kept in {store.cache}"
    )
    for line in filter(None, (done["in_words"], done["unused_gpu"])):
        print(line)
    if options.to:
        everything = np.arange(len(kept.samples))
        features = {
            feature_name(kept.sources, i): kept.read(i, everything)
            for i in range(len(kept.sources))
        }
        rows = kept.samples
        export_features(options.to, features, rows.paths, rows.labels, rows.classes, rows.split)
        print(f"exported: {options.to}")
    return DONE


def refuse_unwritable(file: Path | None) -> None:
    """Say before the pass that the export can't be written."""
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


def read_any(images: str):
    """Samples with labels where the layout has them, else without."""
    from data import DataError, read_images

    try:
        return read_images(images)
    except DataError:
        return read_images(images, labelled=False)


def feature_name(sources, i: int) -> str:
    """The tap as it is written, with the backbone before it where there are several."""
    several = len({source.backbone for source in sources}) > 1
    return (f"{sources[i].backbone}/" if several else "") + f"{sources[i].tap}"


if __name__ == "__main__":
    sys.exit(main())
