"""Per-pixel heads on made textures, and the memory they take: `python -m benchmarks.pixels
[--images 200] [--test 50] [--side 512] [--size 224,448] [--heads logistic,forest]
[--textures FOLDER]`.

Images look like a section through the ground in which salt lies among layers: bent stripes where
there are layers, speckles without a direction where there is salt, both of one mean, contrast and
noise, divided by smooth random boundaries. So no pixel tells its class by itself. With a FOLDER of
`train` and `val`, class by class, two pictures of different classes are joined along such a
boundary instead; those of the test images are of `val`.

Of each combination the intersection over union of the test images, with its interval over images,
and the peak memory of the process that fits, predicts and counts, the network and all libraries
included.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from data import open_image, read_mask_folder, write_mask
from pipelines import PixelClassifier
from pipelines.evaluation.overlap import measure_overlap

BOUNDARY, BEND = 0.08, 0.12  # widths of the smoothing, in shares of the side
PERIOD, GRAIN, NOISE = 14, 2.5, 0.5  # pixels, pixels, and standard deviations of the textures
PEAK_UNIT = 1024 if sys.platform != "darwin" else 1  # bytes of ru_maxrss


def standard(values):
    """With mean 0 and deviation 1."""
    return (values - values.mean()) / values.std()


def smooth(side, width, rng):
    """(side, side) noise without what is finer than a width in pixels."""
    return standard(gaussian_filter(rng.normal(size=(side, side)), width, mode="reflect"))


def draw_section(side, rng):
    """(image (side, side, 3) uint8, mask (side, side) uint8: 1 where salt is)."""
    salt = smooth(side, BOUNDARY * side, rng) > rng.normal(0, 0.3)
    depth = np.arange(side)[:, None] + PERIOD * smooth(side, BEND * side, rng)
    layers = standard(np.sin(2 * np.pi * depth / PERIOD))
    plane = np.where(salt, smooth(side, GRAIN, rng), layers) + NOISE * rng.normal(size=salt.shape)
    gray = np.clip(128 + 40 * plane, 0, 255).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2), salt.astype(np.uint8)


def join_textures(side, rng, folder):
    """(image, mask) of pictures of two classes, whose places in the folder are the numbers."""
    classes = sorted(folder.iterdir())
    numbers = rng.choice(len(classes), 2, replace=False)
    files = [rng.choice(sorted(classes[number].iterdir())) for number in numbers]
    first, second = (np.asarray(open_image(file).resize((side, side))) for file in files)
    is_first = smooth(side, BOUNDARY * side, rng) > 0
    mask = np.where(is_first, *numbers).astype(np.uint8)
    return np.where(is_first[:, :, None], first, second), mask


def write_sections(folder, n, n_test, side, textures=None):
    """`images/N.png` and `masks/N.png` below a folder, the test images last."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(n + n_test):
        rng = np.random.default_rng(number)
        if textures is None:
            image, mask = draw_section(side, rng)
        else:
            image, mask = join_textures(side, rng, textures / ("train" if number < n else "val"))
        Image.fromarray(image).save(folder / "images" / f"{number:04}.png")
        write_mask(folder / "masks" / f"{number:04}.png", mask)


def measure(folder, n_test, size, head):
    """Fit on all but the last images, count on those -> figures of this process."""
    images, masks = read_mask_folder(folder / "images", folder / "masks")
    classifier = PixelClassifier(size=size, head=head, cache=folder / "cache")
    began = time.perf_counter()
    classifier.fit(images[:-n_test], masks[:-n_test])
    fitted = time.perf_counter()
    counts = classifier.count_overlaps(images[-n_test:], masks[-n_test:])
    done = time.perf_counter()
    by_class, mean = measure_overlap(counts)
    return {
        "mean": [mean.value, mean.low, mean.high],
        "class 1": [by_class[1].value, by_class[1].low, by_class[1].high],
        "seconds": [fitted - began, done - fitted],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT,
    }


def main():
    """Print a line for each size and head, each measured in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--test", type=int, default=50)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--size", default="224,448")
    parser.add_argument("--heads", default="logistic,forest")
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "SIZE", "HEAD"), help="one line")
    options = parser.parse_args()
    if options.one:
        folder, size, head = options.one
        print(json.dumps(measure(Path(folder), options.test, int(size), head)))
        return
    print("size head      mean IoU             class 1               fit    test  peak memory")
    with tempfile.TemporaryDirectory() as folder:
        counts = options.images, options.test
        write_sections(Path(folder), *counts, options.side, options.textures)
        for size in options.size.split(","):
            for head in options.heads.split(","):
                command = ["--test", str(options.test), "--one", folder, size, head]
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.pixels", *command],
                    stdout=subprocess.PIPE,
                    check=True,
                )
                print(in_words(size, head, json.loads(done.stdout)), flush=True)


def in_words(size, head, found):
    """One line of the table."""
    shares = "  ".join(
        "{:.3f} ({:.3f} to {:.3f})".format(*found[name]) for name in ("mean", "class 1")
    )
    fit, test = found["seconds"]
    return f"{size:4} {head:8} {shares} {fit:5.0f} s {test:5.0f} s {found['peak'] / 1e9:6.2f} GB"


if __name__ == "__main__":
    main()
