"""A GPU against what it could do: the same rows as a processor's, and how near its own limits.

python -m benchmarks.gpu [--device cuda] [--only equal,accuracy,forward,pass,memory,processes]
[--networks resnet50,vit_b_16,mobilenet_v2] [--seconds 10] [--images 8192]

It needs no network and no image files: it makes its own JPEGs, weights are random but for the
digits' accuracy (the default network's, of the extra [demo]). Without a GPU it says so and ends
with 2, unless --device cpu is asked for, which takes the same steps small: what is told of speed
says nothing then, and is held to no bar, but the code has run.

equal: float32 rows of the device against the processor's, the largest relative difference of a tap.
accuracy: 5-fold accuracy on scikit-learn's digits in reduced precision against float32, in points.
forward: images/s of the engine, from uint8 batches in host memory to rows in host memory, over a
bare compiled loop (of the whole network, in the same precision) on tensors that lie on the device
already. pass: images/s of `extract` from JPEG files into a store, over the lower of decoding alone
and forward alone (on a processor, over what both in turn allow). memory: whether rows are the same
where half a batch is all that there is memory for. processes: two at once into one store, on two
GPUs where there are two: whether all rows are there, and none wrong.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.limits import averages, many
from extract import FeatureStore, Tap, extract, load_backbone, verify_cache
from extract.compiled import list_engines, start_engine
from extract.engines import NUMERICS, TorchEngine, lacks_numerics, stack_for
from extract.forward_pass import Watch
from extract.loader import Decoding, load_batches
from extract.speed import made_up_photos

EQUAL = 1e-4  # relative, of float32 rows
POINTS = 0.5  # of accuracy, which reduced precision may cost
SHARE = 0.9  # of what the device could do
REDUCED = {
    "cuda": ("bfloat16-cuda-compiled", "bfloat16-cuda"),
    "cpu": ("bfloat16-openvino", "bfloat16-torch"),
}
FEWEST_DIGITS = 200  # some of each class in every fold
DIGITS = (Tap("features.14", "grid3"), Tap("features.18", "avg"))


@dataclass(frozen=True)
class Row:
    """One line of the table; met: None where nothing is to be met."""

    step: str
    what: str
    figure: str
    met: bool | None = None


@dataclass(frozen=True)
class Sizes:
    """How much is done: of a GPU's worth, or small."""

    device: str
    networks: list[str]
    seconds: float
    images: int
    batch: int
    side: int | None  # of what the network sees; None is its own

    @property
    def kind(self) -> str:
        """`cuda` or `cpu`."""
        return self.device.partition(":")[0]

    @property
    def reduced(self) -> list[str]:
        """The reduced precisions there are, the one that is the fastest first."""
        return [name for name in REDUCED[self.kind] if lacks_numerics(name, self.device) is None]

    def backbone(self, name: str) -> Any:
        """A network of random weights."""
        return load_backbone(name, "random", size=self.side)


def apart(found: dict, expected: dict) -> float:
    """The largest relative difference of a tap's rows."""
    return max(
        float(np.linalg.norm(found[tap] - expected[tap]) / (np.linalg.norm(expected[tap]) or 1))
        for tap in expected
    )


def noise(count: int, backbone: Any) -> np.ndarray:
    """So many images of noise as an engine takes them, in memory that a GPU copies from itself."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *backbone.preprocessing.shape, 3), np.uint8)


def pinned(images: np.ndarray, device: str) -> np.ndarray:
    """The same batch where a GPU copies from by itself, as the loader hands it over."""
    return stack_for(device)(list(images))


def equal(sizes: Sizes) -> Iterator[Row]:
    """float32 on the device against float32 on the processor."""
    for name in sizes.networks:
        backbone = sizes.backbone(name)
        taps = averages(backbone.card, 4)
        batch = noise(min(sizes.batch, 32), backbone)
        plain = TorchEngine(backbone, "cpu", "float32", taps)
        with plain.running():
            expected = plain(batch)
        for engine in list_engines(backbone, sizes.device, "float32", taps):
            with engine.running():
                found = apart(engine(batch), expected)
            yield Row("equal", f"{name}, {engine.name}", f"{found:.1e} apart", found <= EQUAL)


def accuracy(sizes: Sizes) -> Iterator[Row]:
    """Digits by reduced precision, against float32."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import cross_val_score

    from heads import make_head

    digits = load_digits()
    step = max(1, len(digits.target) // max(sizes.images, FEWEST_DIGITS))
    images = (digits.images[::step] * 15.9375).astype(np.uint8)
    images = np.repeat(images[..., None], 3, axis=-1)
    backbone = load_backbone("mobilenet_v2", size=96)
    scores = {}
    for numerics in ("float32", *sizes.reduced):
        with tempfile.TemporaryDirectory() as cache:
            done = extract(
                images,
                DIGITS,
                backbone,
                FeatureStore(cache),
                numerics=numerics,
                device=sizes.device,
            )
            rows = done.read(DIGITS, np.arange(len(images)))
        scores[numerics] = 100 * float(
            cross_val_score(make_head("logistic"), rows, digits.target[::step], cv=5).mean()
        )
    yield Row("accuracy", "digits, float32", f"{scores['float32']:.2f} %")
    for numerics in sizes.reduced:
        lost = scores["float32"] - scores[numerics]
        yield Row("accuracy", f"digits, {numerics}", f"{-lost:+.2f} points", abs(lost) <= POINTS)
    if not sizes.reduced:
        yield Row("accuracy", "reduced precision", "this device has none")


def rate(work: Callable[[], Any], images: int, seconds: float, settle: Callable[[], None]) -> float:
    """Images a second of `work()`, of so many images, called again and again; warm already."""
    settle()
    done, began = 0, time.perf_counter()
    while not done or time.perf_counter() - began < seconds:
        work()
        done += images
    settle()
    return done / (time.perf_counter() - began)


def settle_of(device: str) -> Callable[[], None]:
    """What waits until the device has done all that it was given."""
    import torch

    if not device.startswith("cuda"):
        return lambda: None
    return lambda: torch.cuda.synchronize(device)


def bare_rate(backbone: Any, sizes: Sizes, numerics: str) -> float:
    """The whole network, compiled on a GPU, over and over the same tensor that lies there."""
    import copy

    import torch

    kind = getattr(torch, NUMERICS[numerics].type)
    network = copy.deepcopy(backbone.network).to(sizes.device, kind)
    network = network.to(memory_format=torch.channels_last)
    # noise, as the engine gets: a GPU may run faster on zeros
    images = torch.rand((sizes.batch, 3, *backbone.preprocessing.shape)).to(kind)
    images = images.to(sizes.device, memory_format=torch.channels_last)
    with torch.no_grad():
        call = torch.compile(network) if sizes.kind == "cuda" else network
        for _ in range(2):
            call(images)
        return rate(lambda: call(images), sizes.batch, sizes.seconds, settle_of(sizes.device))


def engine_rate(engine: Any, batch: np.ndarray, sizes: Sizes) -> float:
    """Host to host as a pass runs it: a batch's rows are fetched when the next is under way."""
    under_way: list[Callable] = []

    def work() -> None:
        under_way.append(engine.start(batch))
        if len(under_way) > 1:
            under_way.pop(0)()

    with engine.running():
        for _ in range(2):
            engine(batch)
        return rate(work, len(batch), sizes.seconds, settle_of(sizes.device))


def forward_rate(name: str, sizes: Sizes, numerics: str) -> tuple[float, str]:
    """Of the engine that is the fastest in these numerics, and its name."""
    backbone = sizes.backbone(name)
    taps = averages(backbone.card, 1)
    batch = pinned(noise(sizes.batch, backbone), sizes.device)
    rates = {
        engine.name: engine_rate(engine, batch, sizes)
        for engine in list_engines(backbone, sizes.device, numerics, taps)
    }
    fastest = max(rates, key=rates.__getitem__)
    return rates[fastest], fastest


def forward(sizes: Sizes) -> Iterator[Row]:
    """The engine in each precision against a bare loop in it."""
    loop = "compiled loop" if sizes.kind == "cuda" else "eager loop"
    for name in sizes.networks:
        for at, numerics in enumerate((*sizes.reduced, "float32")):
            bare = bare_rate(sizes.backbone(name), sizes, numerics)
            own, engine = forward_rate(name, sizes, numerics)
            # the fastest is held to the bar; the others say what choosing them costs
            yield Row(
                "forward",
                f"{name}, {numerics}, {engine}",
                f"{own:.0f} images/s, {own / bare:.0%} of a bare {loop}'s {bare:.0f}",
                own / bare >= SHARE if at == 0 and sizes.kind == "cuda" else None,
            )


def whole_pass(sizes: Sizes) -> Iterator[Row]:
    """JPEG files to a store against decoding and forward, each alone."""
    numerics = next(iter(sizes.reduced), "float32")
    for name in sizes.networks:
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder) / "files"
            files.mkdir()
            paths = many(made_up_photos(files), sizes.images, files)
            backbone = sizes.backbone(name)
            taps = averages(backbone.card, 1)
            own = steady(paths, taps, backbone, sizes, numerics)
            decode = decode_rate(paths[: 4 * sizes.batch], backbone, sizes)
        alone, engine = forward_rate(name, sizes, numerics)
        on_gpu = sizes.kind == "cuda"
        bound = min(decode, alone) if on_gpu else 1 / (1 / decode + 1 / alone)
        yield Row(
            "pass",
            f"{name}, {numerics}, {engine}",
            f"{own:.0f} images/s, {own / bound:.0%} of {bound:.0f} "
            f"(decoding {decode:.0f}, forward {alone:.0f})",
            own / bound >= SHARE if on_gpu else None,
        )


def steady(paths: list[str], taps: list[Tap], backbone: Any, sizes: Sizes, numerics: str) -> float:
    """Images a second of a pass once a quarter of it is done: what it compiles is over by then."""
    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as cache:
        extract(
            paths,
            taps,
            backbone,
            FeatureStore(cache),
            numerics=numerics,
            device=sizes.device,
            watch=Watch(None, lambda done: seen.append((time.perf_counter(), done))),
        )
    first = next(point for point in seen if point[1] >= len(paths) / 4)
    last = seen[-1]
    if last[1] == first[1]:
        raise SystemExit(f"--images {len(paths)}: expected several batches of {sizes.batch}")
    return (last[1] - first[1]) / (last[0] - first[0])


def decode_rate(paths: list[str], backbone: Any, sizes: Sizes) -> float:
    """Images a second that all cores decode, with nothing else to do."""

    def work() -> None:
        decoding = Decoding([backbone.preprocessing], stack_for(sizes.device))
        for _ in load_batches(paths, np.arange(len(paths)), decoding, lambda: sizes.batch, 2):
            pass

    return rate(work, len(paths), sizes.seconds, lambda: None)


def memory(sizes: Sizes) -> Iterator[Row]:
    """Rows where half a batch is all that fits, against those where all of it does."""
    name = sizes.networks[0]
    backbone = sizes.backbone(name)
    taps = averages(backbone.card, 3)
    batch = noise(sizes.batch, backbone)
    numerics = "float32"
    plain = TorchEngine(backbone, sizes.device, numerics, taps)
    plain.batch_size = sizes.batch
    with plain.running(), peak(sizes.device) as used:
        expected = plain(batch)
    engine = start_engine(backbone, sizes.device, numerics, taps, len(batch))
    eager = engine._eager
    eager.batch_size = sizes.batch
    with engine.running(), no_more_than(used, eager, sizes):
        found = engine(batch)
    difference = apart(found, expected)
    halved = eager.batch_size < sizes.batch
    yield Row(
        "memory",
        f"{name}, {sizes.batch} images at once",
        f"went on with {eager.batch_size}, rows {difference:.1e} apart",
        halved and difference <= EQUAL,
    )


@contextlib.contextmanager
def peak(device: str) -> Iterator[dict[str, int]]:
    """Fills in what a GPU's memory held before, and at most."""
    import torch

    used: dict[str, int] = {}
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        used["before"] = torch.cuda.memory_allocated(device)
    yield used
    if device.startswith("cuda"):
        used["most"] = torch.cuda.max_memory_allocated(device)


@contextlib.contextmanager
def no_more_than(used: dict[str, int], eager: Any, sizes: Sizes) -> Iterator[None]:
    """Memory for two thirds of the batch: by a limit on a GPU, by a fault in the forward else."""
    import torch

    if sizes.kind == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(sizes.device)
        allowed = before + (used["most"] - used["before"]) * 2 // 3
        whole = torch.cuda.get_device_properties(sizes.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / whole), sizes.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, sizes.device)
        return
    forward = eager.forward

    def limited(images: Any) -> tuple:
        if len(images) > sizes.batch * 2 // 3:
            raise RuntimeError("out of memory (as the benchmark makes it)")
        return forward(images)

    eager.forward = limited
    try:
        yield
    finally:
        del eager.forward


def processes(sizes: Sizes) -> Iterator[Row]:
    """Two processes at once into one store: every row is there, and as one process computes it."""
    import torch

    name = sizes.networks[-1]
    devices = [sizes.device] * 2
    if sizes.kind == "cuda" and torch.cuda.device_count() > 1:
        devices = ["cuda:0", "cuda:1"]
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        files.mkdir()
        paths = many(made_up_photos(files), min(sizes.images, 2048), files)
        listed = Path(folder) / "files.json"
        listed.write_text(json.dumps(paths))
        cache = Path(folder) / "cache"
        call = [sys.executable, "-m", "benchmarks.gpu", "--worker", str(listed), str(cache)]
        call += ["--networks", name, *(["--side", str(sizes.side)] if sizes.side else [])]
        started = [subprocess.Popen([*call, "--device", device]) for device in devices]
        codes = [one.wait() for one in started]
        taps = averages(sizes.backbone(name).card, 2)
        there = extract(
            paths, taps, sizes.backbone(name), FeatureStore(cache), numerics="float32",
            device=sizes.device,
        )  # fmt: skip
        fresh = extract(
            paths, taps, sizes.backbone(name), FeatureStore(Path(folder) / "fresh"),
            numerics="float32", device=sizes.device,
        )  # fmt: skip
        rows = np.arange(len(paths))
        difference = apart({0: there.read(taps, rows)}, {0: fresh.read(taps, rows)})
        damaged = len(verify_cache(cache).damaged)
    yield Row(
        "processes",
        f"{name} on {' and '.join(devices)}",
        f"ended with {codes}, {there.computed} of {len(paths)} rows missing, {damaged} parts "
        f"damaged, rows {difference:.1e} apart",
        codes == [0, 0] and not there.computed and not damaged and difference <= EQUAL,
    )


def work_beside(listed: str, cache: str, sizes: Sizes) -> None:
    """One of the two processes."""
    backbone = sizes.backbone(sizes.networks[0])
    extract(
        json.loads(Path(listed).read_text()),
        averages(backbone.card, 2),
        backbone,
        FeatureStore(cache),
        numerics="float32",
        device=sizes.device,
    )


STEPS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "equal": equal,
    "accuracy": accuracy,
    "forward": forward,
    "pass": whole_pass,
    "memory": memory,
    "processes": processes,
}
VERDICTS = {True: "met", False: "MISSED", None: ""}


def steps(text: str) -> str:
    """The text, where each of its names is a step's."""
    if unknown := [name for name in text.split(",") if name not in STEPS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: expected some of {','.join(STEPS)}")
    return text


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m benchmarks.gpu`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default=",".join(STEPS), type=steps, metavar="STEP,…")
    parser.add_argument("--networks", default="resnet50,vit_b_16,mobilenet_v2")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--images", type=int, help="files of a pass")
    parser.add_argument("--side", type=int, help="in pixels of what the networks see")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser


def sizes_of(options: argparse.Namespace) -> Sizes:
    """A GPU's worth, or a small one on a processor."""
    on_gpu = options.device.startswith("cuda")
    return Sizes(
        device=options.device,
        networks=options.networks.split(","),
        seconds=options.seconds or (10.0 if on_gpu else 0.2),
        images=options.images or (8192 if on_gpu else 64),
        batch=256 if on_gpu else 8,
        side=options.side,
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table -> 0, 1 where a bar is missed, 2 without a GPU."""
    options = build_parser().parse_args(arguments)
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU that torch can use is here: run it where one is, or small with --device cpu",
              file=sys.stderr)  # fmt: skip
        return 2
    sizes = sizes_of(options)
    if options.worker:
        work_beside(*options.worker, sizes)
        return 0
    what = torch.cuda.get_device_name(sizes.device) if sizes.kind == "cuda" else "the processor"
    print(f"{what}, torch {torch.__version__}, random weights but for digits")
    missed = 0
    for step in options.only.split(","):
        for row in STEPS[step](sizes):
            missed += row.met is False
            print(f"{row.step:<10} {row.what:<48} {row.figure}  {VERDICTS[row.met]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
