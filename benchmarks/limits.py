"""The pass against the limit of this machine, the cost of more taps, and what cutting the network
saves.

python -m benchmarks.limits FOLDER... [--network NAME] [--images 5000] [--repeats 3] [--only
limit,taps,cut] FOLDER: class-per-folder photos. Where --images asks for more than there are, copies
of other content are made.

limit: images/s of `extract` after its first ten seconds, over what decoding and the engine used
allow when each is measured alone with all cores busy: 1 / (t_decode + t_forward) on a CPU, the
lower rate on a GPU. taps: seconds of a pass that keeps eight layers over those of one that keeps
the deepest of them alone. cut: the same of the layer in the middle of all, beside its share of the
multiply-adds up to the deepest.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from data import find_images
from extract import FeatureStore, Tap, extract, load_backbone
from extract.compiled import list_engines
from extract.engines import TorchEngine, choose_device, fastest_numerics, stack_for
from extract.forward_pass import Watch
from extract.layers import spread
from extract.loader import Decoding, load_batches

WARM_SECONDS = 10.0
SAMPLE = 1024


def many(paths: list[str], images: int, folder: Path) -> list[str]:
    """So many files, all different: after the last of `paths` come copies with a number behind the
    image's end."""
    made = list(paths[:images])
    for i in range(images - len(made)):
        path = folder / f"{i:06}.jpg"
        path.write_bytes(Path(paths[i % len(paths)]).read_bytes() + str(i).encode())
        made.append(str(path))
    return made


def averages(card, count: int) -> list[Tap]:
    """The averages of so many layers spread over the depth, the deepest last."""
    names = [name for name in card.choose_layers("all") if card.fits(Tap(name, "avg"))]
    return [Tap(name, "avg") for name in spread(names, count)]


def spent(work) -> float:
    """Seconds that `work()` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def fresh_pass(paths, taps, name, on_progress=None):
    """One `extract` into a store of its own -> Extraction."""
    with tempfile.TemporaryDirectory() as cache:
        backbone = load_backbone(name, "random", cache=cache)
        return extract(paths, taps, backbone, FeatureStore(cache), watch=Watch(None, on_progress))


def steady_rate(paths, taps, name) -> tuple[float, str]:
    """Images a second of a pass after its first ten seconds, and the engine it ended with."""
    began, seen = time.perf_counter(), []
    done = fresh_pass(
        paths, taps, name, lambda images: seen.append((time.perf_counter() - began, images))
    )
    first = next((point for point in seen if point[0] >= WARM_SECONDS), seen[-1])
    last = seen[-1]
    if last[0] < 2 * WARM_SECONDS:
        raise SystemExit(
            f"the pass took {last[0]:.0f} s, expected {2 * WARM_SECONDS:.0f} or more: ask for "
            f"more --images"
        )
    return (last[1] - first[1]) / (last[0] - first[0]), done.engine


def rates_alone(paths, taps, name, engine_name) -> tuple[float, float]:
    """Images a second of decoding alone and of the engine alone, all cores busy with each."""
    device, backbone = choose_device("auto"), load_backbone(name, "random")
    numerics = fastest_numerics(device)

    def batches():
        rows = np.arange(len(paths))
        decoding = Decoding([backbone.preprocessing], stack_for(device))
        return load_batches(paths, rows, decoding, lambda: 256, 0)

    decode = len(paths) / spent(lambda: [None for _ in batches()])
    with contextlib.closing(batches()) as first:
        pixels = next(first).pixels[0]
    (engine,) = [
        one for one in list_engines(backbone, device, numerics, taps) if one.name == engine_name
    ]
    with engine.running():
        engine(pixels)
        forward = SAMPLE / spent(lambda: [engine(pixels) for _ in range(0, SAMPLE, len(pixels))])
    return decode, forward


def limit(paths, name, repeats):
    """Print what the pass reaches of the limit, measured right after it each time."""
    taps = averages(load_backbone(name, "random").card, 1)
    shares = []
    for _ in range(repeats):
        rate, engine = steady_rate(paths, taps, name)
        decode, forward = rates_alone(paths[:SAMPLE], taps, name, engine)
        bound = (
            1 / (1 / decode + 1 / forward)
            if choose_device("auto") == "cpu"
            else min(decode, forward)
        )
        shares.append(rate / bound)
        print(
            f"  {rate:.0f} images/s after {WARM_SECONDS:.0f} s; alone: decode {decode:.0f}, "
            f"{engine} {forward:.0f}, "
            f"together at most {bound:.0f}: {shares[-1]:.0%}",
            flush=True,
        )
    print(f"limit: {median(shares):.0%} of it over {len(paths)} images")


def taps_and_cut(paths, name, repeats, only):
    """Print the ratios of passes with eight layers, with the middle one and with the deepest
    alone."""
    backbone = load_backbone(name, "random")
    eight = averages(backbone.card, 8)
    sides = {"deepest": eight[-1:], "taps": eight, "cut": eight[3:4]}
    sides = {side: taps for side, taps in sides.items() if side == "deepest" or side in only}
    rounds = [
        {side: fresh_pass(paths, taps, name) for side, taps in sides.items()}
        for _ in range(repeats)
    ]
    for side in list(sides)[1:]:
        whole = median(row[side].seconds / row["deepest"].seconds for row in rounds)
        network = median(
            row[side].times["forward"] / row["deepest"].times["forward"] for row in rounds
        )
        share = multiply_adds(backbone, sides[side]) / multiply_adds(backbone, sides["deepest"])
        print(
            f"{side}: {whole:.2f} times the seconds of {sides['deepest'][0].layer} alone, the "
            f"network "
            f"{network:.2f} times with {share:.2f} times its multiply-adds"
        )


def multiply_adds(backbone, taps) -> int:
    """Of one image through the network up to the deepest of these."""
    from torch.utils.flop_counter import FlopCounterMode

    engine = TorchEngine(backbone, "cpu", "float32", taps)
    with engine.running(), FlopCounterMode(display=False) as counter:
        engine(np.zeros((1, *backbone.preprocessing.shape, 3), np.uint8))
    return counter.get_total_flops() // 2


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--network", default="mobilenet_v3_large")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="limit,taps,cut")
    options = parser.parse_args()
    found = [str(path) for path in find_images(options.folders)[0]]
    print(f"{options.network}, {options.images} images, median of {options.repeats}")
    with tempfile.TemporaryDirectory() as folder:
        paths = many(found, options.images, Path(folder))
        only = set(options.only.split(","))
        if "limit" in only:
            limit(paths, options.network, options.repeats)
        if only & {"taps", "cut"}:
            taps_and_cut(paths, options.network, options.repeats, only)


if __name__ == "__main__":
    main()
