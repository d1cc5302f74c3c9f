"""What this machine reaches at each stage of a pass, as figures that a simulation goes by.

python -m benchmarks.rates [FOLDER] [--out rates.json] [--rows 1000000]

FOLDER: images that decoding is measured with too, beside made-up photos of three sizes. It takes a
minute or two, on one core. What computes is measured in seconds of the processor, which other
programs lengthen little, what writes in seconds of the clock. Figures of images are the median of
some tries, all others the best. Networks have random weights; what a driver does for each row is
measured with files of a few bytes and with made-up ids, whose number is `--rows`.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.heads import features, head_search
from benchmarks.rows import RECIPE, TAP, add, made_ids
from data import Samples, read_images
from extract import Extraction, FeatureStore, Tap, load_backbone
from extract.compiled import list_engines
from extract.extraction import Request, _jobs
from extract.forward_pass import NOT_WATCHED
from extract.loader import Decoding, load_batches
from extract.sharding.blocks import Done
from extract.sharding.cluster import Pool
from extract.sharding.sharded_pass import ShardedPass
from extract.speed import PHOTO, made_up_photos
from extract.store.id_index import LOOSE_ROWS
from extract.store.ids import IdMemory, bytes_id, image_ids
from pipelines.features import settle_duplicates

NETWORKS = {"mobilenet_v2": "features.18:avg", "resnet50": "layer4.2:avg"}
SIDES = (PHOTO, (1600, 1200), (4000, 3000))
WIDTH, INDEXED = 1280, 8  # of the features that are written, and beside ids alone
BLOCK, LOOSE, BULK = 64, 256, 16_384  # rows of a worker's part, such parts, rows of a large one
FILES, FOLDERS = 20_000, 20
HEAD_ROWS, HEAD_CLASSES = 4000, 10
SETTLED = 2.5  # seconds until ids of new files are remembered
TRIES = 3


@dataclass(frozen=True)
class Rates:
    """What was measured, in seconds, bytes and images.

    machine : its processor.
    hash_bytes : a second and core, of what lies in memory.
    open_seconds : of a small file, found, opened, read and hashed.
    decode : images a second and core, from the file's bytes to the network's pixels, by size.
    file_bytes : of an image of each size. forward : images a second and core, by network.
    start_seconds : of building a network and of the first batch on each engine, by network.
    pickle_bytes : a second, of pixels given to another process, there and back.
    part_seconds : of a part of BLOCK rows, synced. write_bytes : a second, of a large part.
    join_part_seconds, join_bytes : of each part that is joined, and a second of their rows.
    row_seconds, row_bytes : of the driver, for each row, by what it does; of memory at most.
    remembered_bytes : of a file of remembered ids, for each image.
    index_seconds, index_bytes : for each row, of the first index.
    index_memory : bytes that a process holds after look-ups of a hundredth of `rows` rows.
    open_index_seconds, find_seconds : of the index of `rows` rows, and of 1,000 ids in it.
    head_seconds : for each row and column, a search of logistic regression over seven settings.
    head_copies : of the rows that it holds at most, they themselves among them.
    """

    machine: str
    hash_bytes: float
    open_seconds: float
    decode: dict[str, float]
    file_bytes: dict[str, float]
    forward: dict[str, float]
    start_seconds: dict[str, float]
    pickle_bytes: float
    part_seconds: float
    write_bytes: float
    join_part_seconds: float
    join_bytes: float
    row_seconds: dict[str, float]
    row_bytes: dict[str, float]
    remembered_bytes: float
    rows: int
    index_seconds: float
    index_bytes: float
    index_memory: float
    open_index_seconds: float
    find_seconds: float
    head_seconds: float
    head_copies: float


def measure(images: str | None, rows: int) -> Rates:
    """Measure all on one core, telling on stderr what is next."""
    found: dict[str, Any] = {"machine": processor(), "rows": rows}
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        for what in (reading, decoding, networks, parts, index, driver, heads):
            print(f"{what.__name__} ...", file=sys.stderr, flush=True)
            own = Path(folder) / what.__name__
            own.mkdir()
            found |= what(own, rows) if what is not decoding else decoding(own, images)
    return Rates(**found)


def reading(folder: Path, rows: int) -> dict[str, Any]:
    """Hashing, and what a file costs whatever its size."""
    block = np.random.default_rng(0).bytes(32 << 20)
    paths = [str(folder / f"{i}.jpg") for i in range(2000)]
    for i, path in enumerate(paths):
        write_small(path, i)
    return {
        "hash_bytes": len(block) / best(lambda: bytes_id(block)),
        "pickle_bytes": len(block) / best(lambda: pickle.loads(pickle.dumps(block, 5))),
        "open_seconds": best(lambda: image_ids(paths, None, 1)) / len(paths),
    }


def decoding(folder: Path, images: str | None) -> dict[str, Any]:
    """Files to pixels."""
    photos = made_up_photos(folder)
    sets = {}
    for side in SIDES:
        n = max(4, len(photos) * PHOTO[0] * PHOTO[1] // (side[0] * side[1]))
        sets[f"{side[0]} x {side[1]}"] = [resized(path, side) for path in photos[:n]]
    if images is not None:
        given = read_images(images)
        some = np.random.default_rng(0).permutation(len(given))[:100]
        sets[Path(images).name] = [given.paths[row] for row in some]
    size_of = {name: float(np.mean([*map(os.path.getsize, sets[name])])) for name in sets}
    preprocessing = load_backbone("mobilenet_v2", "random").preprocessing
    return {
        "decode": {
            name: len(paths) / usual(partial(decoded, paths, preprocessing))
            for name, paths in sets.items()
        },
        "file_bytes": size_of,
    }


def decoded(paths: list[str], preprocessing: Any) -> np.ndarray:
    """(n, height, width, 3) uint8, one batch."""
    batches = load_batches(
        paths, np.arange(len(paths)), Decoding([preprocessing]), lambda: len(paths), 0
    )
    return next(iter([batch.pixels[0] for batch in batches]))


def networks(folder: Path, rows: int) -> dict[str, Any]:
    """The fastest engine of each network in float32."""
    photos = made_up_photos(folder)
    forward, start = {}, {}
    for name, tap in NETWORKS.items():
        began = time.process_time()
        backbone = load_backbone(name, "random", cache=folder)
        backbone.card.check(own := Tap(*tap.split(":")))
        start[name] = time.process_time() - began
        pixels = decoded(photos, backbone.preprocessing)
        seconds = []
        for engine in list_engines(backbone, "cpu", "float32", [own]):
            began = time.process_time()
            with engine.running():
                engine(pixels)
                start[name] += time.process_time() - began
                seconds.append(usual(partial(engine, pixels)))
        forward[name] = len(pixels) / min(seconds)
    return {"forward": forward, "start_seconds": start}


def parts(folder: Path, rows: int) -> dict[str, Any]:
    """Parts of a worker's block and a large one; small and middling ones joined."""
    large = best(lambda: add(str(folder / "large"), 0, BULK, WIDTH), clock=time.perf_counter)
    small = best(lambda: add(str(folder / "large"), 0, BLOCK, WIDTH), clock=time.perf_counter)
    row_bytes = WIDTH * 2
    middling = joining(folder / "middling", BULK // 16, 16)
    many = joining(folder / "small", BLOCK, LOOSE)
    return {
        "part_seconds": small,
        "write_bytes": BULK * row_bytes / large,
        "join_part_seconds": (many.busy - middling.busy) / (LOOSE - 16),  # of as many rows
        "join_bytes": BULK * row_bytes / middling.clock,
    }


class Seconds(NamedTuple):
    """Of the clock, and of the processor."""

    clock: float
    busy: float


def joining(folder: Path, rows: int, parts: int) -> Seconds:
    """So many parts of so many rows; of each clock the best of some tries."""
    found = []
    for number in range(TRIES):
        store = FeatureStore(folder / str(number))
        for i in range(parts):
            add(str(store.cache), i * rows, rows, WIDTH)
        began, busy = time.perf_counter(), time.process_time()
        assert store.compact(RECIPE) == parts
        found.append(Seconds(time.perf_counter() - began, time.process_time() - busy))
    return Seconds(min(own.clock for own in found), min(own.busy for own in found))


def index(folder: Path, rows: int) -> dict[str, Any]:
    """Narrow rows and the index of their ids, opened by a process of its own."""
    step = 1 << 18
    for start in range(0, rows, step):
        add(str(folder), start, min(step, rows - start), INDEXED)
    began = time.process_time()
    FeatureStore(folder).missing(RECIPE, [TAP], made_ids(0, 1))
    seconds = time.process_time() - began
    files = list((folder / RECIPE.id / "index").iterdir())
    own = (f"--rows={rows}", f"--width={INDEXED}", f"--folder={folder}")
    command = [sys.executable, "-m", "benchmarks.rows", "--look", *own]
    looked = json.loads(subprocess.check_output(command))
    return {
        "index_seconds": seconds / rows,
        "index_bytes": sum(file.stat().st_size for file in files) / rows,
        "index_memory": looked["memory, bytes a row"] * rows,
        "open_index_seconds": looked["opening, s"],
        "find_seconds": looked["looking up 1,000 others, ms"] / 1e3,
    }


def driver(folder: Path, rows: int) -> dict[str, Any]:
    """What is done for each row where a pass is asked for, by files of a few bytes and made ids."""
    images, memory = folder / "images", folder / "ids"
    for i in range(FILES):
        path = images / f"class{i % FOLDERS:02}" / f"{i:012}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_small(path, i)
    time.sleep(SETTLED)
    samples = read_images(images)
    image_ids(samples.inputs, memory, 1)
    steps = {
        "listing": (lambda: read_images(images), FILES),
        "remembered ids": (lambda: image_ids(samples.inputs, memory, 1), FILES),
        **of_ids(folder, rows),
    }
    measured = {name: (best(work) / n, peak(work) / n) for name, (work, n) in steps.items()}
    return {
        "row_seconds": {name: seconds for name, (seconds, _) in measured.items()},
        "row_bytes": {name: n_bytes for name, (_, n_bytes) in measured.items()},
        "remembered_bytes": sum(file.stat().st_size for file in memory.iterdir()) / FILES,
    }


def of_ids(folder: Path, rows: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Steps that know ids alone, with the number of rows of each."""
    ids = made_ids(0, rows)
    names = [f"/images/class{i % FOLDERS:02}/{i:012}.jpg" for i in range(rows)]
    samples = Samples(names, labels=np.resize([f"class{i}" for i in range(FOLDERS)], rows))
    numbers = np.arange(rows)
    blocks = [range(at, min(at + BLOCK, rows)) for at in range(0, rows, BLOCK)]

    store = FeatureStore(folder / "store")
    add(str(store.cache), 0, min(rows, 1 << 16), INDEXED)
    backbone = load_backbone("pixels")
    done = Extraction(ids, {}, RECIPE)
    done.request = Request(names, [TAP], backbone, store, "cpu", False, None, NOT_WATCHED)
    return {
        "what is lacking": (lambda: _jobs(done, ["plain"]), rows),
        "blocks to workers": (
            lambda: [pickle.dumps([(row, names[row]) for row in block]) for block in blocks],
            rows,
        ),
        "what workers told": (lambda: told(done, names[: rows // 4], folder / "told"), rows // 4),
        "copies": (lambda: settle_duplicates(samples, ids, numbers), rows),
    }


class Told(ShardedPass):
    """A pass that only takes what workers tell."""

    def _join(self) -> None:
        pass


def told(result: Extraction, names: list[str], folder: Path) -> Told:
    """What the driver has taken of blocks in which every image was computed."""
    own = Told(result, ["plain"], IdMemory(folder))
    for at in range(0, len(names), BLOCK):
        rows = range(at, min(at + BLOCK, len(names)))
        block = Done(
            ids={row: result.ids[row].tobytes() for row in rows},
            keys={row: [66_000, 10**18 + row, 10**18 + row, 10**7 + row] for row in rows},
            computed=list(rows),
        )
        own._take(pickle.loads(pickle.dumps(block)), Pool(1, 1, False))
    return own


def heads(folder: Path, rows: int) -> dict[str, Any]:
    """Logistic regression over seven settings and five folds, in memory."""
    X, y = features(HEAD_ROWS, WIDTH, HEAD_CLASSES)
    seconds = seconds_of(lambda: head_search(["logistic"], X, y, n_jobs=1), time.process_time)
    most = peak(lambda: head_search(["logistic"], X, y, n_jobs=1))
    return {"head_seconds": seconds / X.size, "head_copies": 1 + most / X.nbytes}


def write_small(path: str | Path, number: int) -> None:
    """A file that begins as a JPEG does, no other like it."""
    Path(path).write_bytes(b"\xff\xd8\xff" + number.to_bytes(8, "little"))


def resized(path: str, side: tuple[int, int]) -> str:
    """The photo enlarged, beside it, with the size in its name."""
    with Image.open(path) as image:
        if image.size == side:
            return path
        out = f"{path[:-4]}-{side[0]}.jpg"
        image.resize(side, Image.Resampling.BICUBIC).save(out, quality=90)
    return out


def best(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of the fastest of some tries."""
    return min(seconds_of(work, clock) for _ in range(TRIES))


def usual(work: Callable[[], Any]) -> float:
    """Seconds of the processor of the middle one of some tries."""
    return median(seconds_of(work, time.process_time) for _ in range(2 * TRIES + 1))


def seconds_of(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    """By that clock."""
    began = clock()
    work()
    return clock() - began


def peak(work: Callable[[], Any]) -> float:
    """Bytes that Python and numpy hold at most within, beyond those before."""
    tracemalloc.start()
    try:
        kept = work()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        del kept
        tracemalloc.stop()


def processor() -> str:
    """Its name."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next(line for line in file if line.startswith("model name")).split(":")[1].strip()


def main() -> None:
    """Measure, and write or print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="?", metavar="FOLDER")
    parser.add_argument("--out", help="a JSON file for benchmarks.scale --rates")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    if options.rows < LOOSE_ROWS:
        parser.error(f"--rows {options.rows}: expected {LOOSE_ROWS} or more, which have an index")
    text = json.dumps(asdict(measure(options.images, options.rows)), indent=1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
