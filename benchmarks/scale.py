"""A simulation of passes over 10⁶ to 10⁸ images: time, bytes, cost, and what breaks first.

python -m benchmarks.scale [--rates FILE] [--images FOLDER] [--check 1000]

Rates are those of a file that `python -m benchmarks.rates --out` wrote; without one they are
measured now. A pass is a line of stages, each so fast as its workers together; the slowest decides,
and what the driver does alone before and after them is added. The rules by which parts are joined
and their ids are merged are followed step by step. --check N runs a plain pass over N images on
this machine, of FOLDER or made up, and prints what the model says of it beside what it took.

What could not be measured are assumptions: the tables GPUS, SITE and PRICES, and the machines of
Cluster. Not simulated: how a cluster is got, what Ray itself takes, other users of network and
disks, and what a run computes beside features and heads.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.rates import BLOCK, NETWORKS, Rates
from data import read_images
from data.names import counted
from extract import FeatureStore, Tap, extract, load_backbone
from extract.files import LONGEST_REMEMBERED
from extract.sharding.sharded_pass import CPU_BLOCK, GPU_BLOCK, JOINED_BLOCKS
from extract.speed import made_up_photos
from extract.store.id_index import GROWTH, LOOSE_ROWS
from extract.store.sorted_ids import LEN_CRC, LEN_FENCE, ROWS_OF_BLOCK
from extract.store.upkeep import PART_BYTES, PART_ROWS, SMALL_PARTS

# images a second of a network alone, batch 512 at 224 px, mixed precision, channels last:
# timm's results/benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv (mobilenetv2_100, resnet50).
# An assumption here, where there is no GPU.
GPUS = {"mobilenet_v2": 11_768.0, "resnet50": 5_088.0}

IMAGES = (10**6, 10**7, 10**8)
DEFAULT_VALUES = 16_560  # of mobilenet_v2's six layers, averages and grids of 3 x 3
PIXELS = 3 * 224 * 224  # bytes of an image on its way from a task that decodes to a GPU
FENCE_BYTES = (LEN_FENCE + LEN_CRC) / ROWS_OF_BLOCK  # that a process holds of each indexed id


@dataclass(frozen=True)
class Site:
    """What the machines stand in: assumptions, all of them.

    network, network_of_8 : bytes a second of a machine of 16 cores or one GPU, and of 8 GPUs.
    gets : requests a second that object storage answers below one prefix, as Amazon promises of S3.
    prefixes : over which it has spread the images. list_seconds : of one request that lists 1,000.
    memory : bytes of the driver's machine.
    losses : of a machine in an hour, as of those that are lent cheaply and taken back.
    replaced : seconds until another is there.
    """

    network: float = 1.25e9
    network_of_8: float = 12.5e9
    gets: float = 5500.0
    prefixes: int = 16
    list_seconds: float = 0.1
    memory: float = 64e9
    losses: float = 0.05
    replaced: float = 120.0


SITE = Site()
# dollars: round prices of 2025, for proportions alone; of storage Amazon's list for S3
PRICES = {
    "core, an hour": 0.04,
    "GPU, an hour": 1.00,
    "GB, a month": 0.023,
    "1,000 reads": 0.0004,
    "1,000 writes": 0.005,
}


@dataclass(frozen=True)
class Cluster:
    """Machines of 16 cores, or of up to 8 GPUs with 16 cores each."""

    name: str
    cores: int
    gpus: int = 0

    @property
    def machines(self) -> int:
        """How many there are; one of few is a machine with its own disk."""
        return -(-self.gpus // 8) if self.gpus else -(-self.cores // 16)

    @property
    def network(self) -> float:
        """Bytes a second of all of them."""
        return self.machines * (SITE.network_of_8 if self.gpus >= 8 else SITE.network)

    def dollars(self, seconds: float) -> float:
        """Of the machines."""
        hour = self.cores * PRICES["core, an hour"] + self.gpus * PRICES["GPU, an hour"]
        return hour * seconds / 3600


CLUSTERS = (
    *(Cluster(counted(n, "core"), n) for n in (1, 16, 128, 1000)),
    *(Cluster(counted(n, "GPU"), 16 * n, n) for n in (1, 8, 64)),
)


@dataclass(frozen=True)
class Work:
    """What is asked for.

    photo : a size that was measured. values : of a row, in all taps together.
    """

    images: int
    network: str = "mobilenet_v2"
    photo: str = "500 x 375"
    values: int = 1280


@dataclass(frozen=True)
class Predicted:
    """What the model says of a pass.

    stages : images a second of what goes on side by side; the least is the pass's.
    before, after : seconds that the driver works alone. lost : that lost machines cost.
    row_bytes : kept of an image. blocks, parts : files before and after joining.
    """

    work: Work
    cluster: Cluster
    stages: dict[str, float]
    before: float
    after: float
    lost: float
    row_bytes: int
    blocks: int
    parts: int

    @property
    def binding(self) -> str:
        """The slowest stage."""
        return min(self.stages, key=self.stages.__getitem__)

    @property
    def seconds(self) -> float:
        """All in all."""
        running = self.work.images / self.stages[self.binding]
        return self.before + running + self.lost + self.after

    @property
    def dollars(self) -> float:
        """Machines for that long, and requests to object storage; features for a month."""
        reads = self.work.images / 1000 * PRICES["1,000 reads"]
        writes = self.blocks / 1000 * PRICES["1,000 writes"]
        stored = self.work.images * self.row_bytes / 1e9 * PRICES["GB, a month"]
        return self.cluster.dollars(self.seconds) + reads + writes + stored


def predict(work: Work, cluster: Cluster, rates: Rates) -> Predicted:
    """The model.

    On processors a worker reads, decodes and computes an image in turn, and writes its block as a
    part before it takes the next; beside GPUs other cores decode, and pixels travel. They are
    packed and put into Ray's object store on one side, fetched and unpacked on the other: each side
    counts both copies that were measured.
    """
    row_bytes = work.values * (2 if cluster.gpus else 4)  # bfloat16 is kept as float16
    block = GPU_BLOCK if cluster.gpus else CPU_BLOCK
    joins = joined(work.images, block, row_bytes)
    stages = stages_of(work, cluster, rates, row_bytes, joins)
    start = rates.start_seconds[work.network]
    lost = cluster.machines * SITE.losses * work.images / min(stages.values()) / 3600
    return Predicted(
        work,
        cluster,
        stages,
        before=start + work.images * alone_seconds(cluster, rates),
        after=work.images * rates.row_seconds["copies"],
        # the others go on meanwhile, so a loss costs its machine's share of the time
        lost=lost * (start + SITE.replaced) / cluster.machines,
        row_bytes=row_bytes,
        blocks=-(-work.images // block),
        parts=joins.parts,
    )


def stages_of(
    work: Work, cluster: Cluster, rates: Rates, row_bytes: int, joins: "Joined"
) -> dict[str, float]:
    """Images a second of what goes on side by side."""
    file_bytes, decode = rates.file_bytes[work.photo], decode_seconds(work.photo, rates)
    block = GPU_BLOCK if cluster.gpus else CPU_BLOCK
    write = rates.part_seconds / block + row_bytes / rates.write_bytes
    join = joins.sources * rates.join_part_seconds + joins.moved / rates.join_bytes
    index = merged(work.images) * rates.index_seconds
    told = rates.row_seconds["what workers told"]
    stages = {"driver beside": 1 / ((join + index) / work.images + told)}
    if cluster.machines > 1:  # else images and store lie on its own disk
        stages["storage's requests"] = SITE.prefixes * SITE.gets
        stages["network"] = cluster.network / (file_bytes + row_bytes)
    if cluster.gpus:
        forward, travel = 1 / GPUS[work.network], PIXELS / rates.pickle_bytes
        stages["cores that decode"] = cluster.cores / (decode + travel)
        stages["GPUs' workers"] = cluster.gpus / (forward + travel + write)
    else:
        stages["cores"] = cluster.cores / (decode + 1 / rates.forward[work.network] + write)
    return stages


def decode_seconds(photo: str, rates: Rates) -> float:
    """Of a core, from the file's name to its id and the network's pixels."""
    hashing = rates.file_bytes[photo] / rates.hash_bytes
    return rates.open_seconds + hashing + 1 / rates.decode[photo]


def alone_seconds(cluster: Cluster, rates: Rates) -> float:
    """What the driver does for each image before workers begin."""
    listing = rates.row_seconds["listing"] + rates.row_seconds["remembered ids"]
    if cluster.machines > 1:
        listing += SITE.list_seconds / 1000
    asking = rates.row_seconds["what is lacking"] + rates.row_seconds["blocks to workers"]
    return listing + asking


class Joined(NamedTuple):
    """What joining comes to: parts left, parts that were joined, and bytes written once more."""

    parts: int
    sources: int
    moved: int


@cache
def joined(images: int, block: int, row_bytes: int) -> Joined:
    """Blocks of a row's bytes joined by the driver as the store does it.

    After JOINED_BLOCKS blocks small parts are joined, oldest first, into ones of PART_BYTES, unless
    they are few.

    Examples
    --------
    >>> joined(64, 64, 5120)  # one part, too few to join
    Joined(parts=1, sources=0, moved=0)
    >>> joined(16_384, 64, 5120)  # 256 parts become one
    Joined(parts=1, sources=256, moved=83886080)
    """
    small: list[int] = []  # rows of each
    large = sources = moved = 0
    most = min(PART_BYTES / row_bytes, PART_ROWS)
    for start in range(0, images, block * JOINED_BLOCKS):
        new = min(images - start, block * JOINED_BLOCKS)
        parts = [rows for rows in (*small, *blocks_of(new, block)) if rows < most / 2]
        large += len(small) + -(-new // block) - len(parts)
        new_parts = []
        while len(parts) > SMALL_PARTS:
            taken = batch_of(parts, most)
            new_parts.append(sum(parts[:taken]))
            moved += new_parts[-1] * row_bytes
            sources += taken
            parts = parts[taken:]
        small = parts + new_parts
    return Joined(large + len(small), sources, moved)


def blocks_of(rows: int, block: int) -> list[int]:
    """Rows of each block.

    Examples
    --------
    >>> blocks_of(150, 64)
    [64, 64, 22]
    """
    return [min(block, rows - at) for at in range(0, rows, block)]


def batch_of(parts: Sequence[int], most: float) -> int:
    """How many of the first parts are joined: as many as it takes to reach that many rows.

    Examples
    --------
    >>> batch_of([64, 64, 64, 64], 100)
    2
    """
    rows = itertools.accumulate(parts)
    return next((n for n, there in enumerate(rows, 1) if there >= most), len(parts))


@cache
def merged(images: int) -> int:
    """Ids that are written into files of ids, those that are merged each time.

    Examples
    --------
    >>> merged(100_000)  # in memory
    0
    >>> merged(2 << 17)  # the second file takes the first in
    393216
    """
    files: list[int] = []
    written = 0
    for _ in range(images // LOOSE_ROWS):
        rows = LOOSE_ROWS
        while files and files[-1] < GROWTH * rows:
            rows += files.pop()
        files.append(rows)
        written += rows
    return written


@dataclass(frozen=True)
class Limit:
    """Something that ends before images do.

    per_image : bytes of it that an image takes, with all rates. most : bytes that there are.
    answer : what the design does about it.
    """

    name: str
    per_image: Callable[[Rates], float]
    most: float
    answer: str

    def images(self, rates: Rates) -> float:
        """How many it is enough for."""
        return self.most / self.per_image(rates)


def driver_bytes(rates: Rates) -> float:
    """What the driver holds of an image at most: what stays, and the largest step beside it."""
    stay = ("listing", "blocks to workers", "what workers told")
    passing = ("remembered ids", "what is lacking", "copies")
    held = sum(rates.row_bytes[step] for step in stay)
    return held + max(rates.row_bytes[step] for step in passing)


SIDE_BY_SIDE = "passes side by side into one store, each over a part of the listing"
LIMITS = (
    Limit(
        "heads on 1,280 values in memory, 64 GB",
        lambda rates: 4 * 1280 * rates.head_copies,
        SITE.memory,
        "logistic and linear SVM by streamed blocks; else a part of the images",
    ),
    Limit(
        "remembered ids of one folder, 256 MiB",
        lambda rates: rates.remembered_bytes,
        LONGEST_REMEMBERED,
        "a file for each folder: no more than two million images in one",
    ),
    Limit(
        "the driver's objects, 64 GB",
        driver_bytes,
        SITE.memory,
        f"arrays where there were objects; {SIDE_BY_SIDE}",
    ),
    Limit(
        "features of six layers, averages and grids, 1 TB",
        lambda rates: 2 * DEFAULT_VALUES,
        1e12,
        "one layer: a thirteenth; half the bytes in bfloat16; a store that is shared",
    ),
    Limit(
        "features of one layer, 1 TB",
        lambda rates: 2 * 1280,
        1e12,
        "a store that is shared",
    ),
)
# what binds, and what there is to do about it
ANSWERS = {
    "cores": "more of them: they share nothing but the store",
    "cores that decode": "more of them beside each GPU, or smaller photos",
    "GPUs' workers": "one layer: pixels are unpacked, computed and their part written in turn",
    "driver beside": f"one layer, since it joins all parts; {SIDE_BY_SIDE}",
    "driver alone": SIDE_BY_SIDE,
    "storage's requests": "images below more prefixes",
    "network": "smaller photos, or machines nearer to them",
}


def print_rates(rates: Rates) -> None:
    """What was measured."""
    print(f"measured on {rates.machine}, one core")
    for size, rate in rates.decode.items():
        kib = rates.file_bytes[size] / 1024
        print(f"  decoding {size} ({kib:,.0f} KiB): {rate:,.0f} images/s")
    for network in NETWORKS:
        rate, start = rates.forward[network], rates.start_seconds[network]
        print(f"  {network}: {rate:,.1f} images/s, started in {start:.1f} s")
    print(
        f"  opening a file {rates.open_seconds * 1e6:.0f} us, "
        f"hashing it {rates.hash_bytes / 1e6:,.0f} MB/s, "
        f"pixels to another process {rates.pickle_bytes / 1e6:,.0f} MB/s"
    )
    print(
        f"  writing: a part of {BLOCK} rows {rates.part_seconds * 1e3:.0f} ms, a large one "
        f"{rates.write_bytes / 1e6:,.0f} MB/s; joining {rates.join_part_seconds * 1e3:.1f} ms "
        f"a part and {rates.join_bytes / 1e6:,.0f} MB/s"
    )
    for step, seconds in rates.row_seconds.items():
        print(f"  {step}: {seconds * 1e6:.2f} us and {rates.row_bytes[step]:.0f} bytes an image")
    print(
        f"  index of {rates.rows:,} ids: {rates.index_seconds * 1e6:.2f} us, "
        f"{rates.index_bytes:.1f} bytes an id on the disk\n"
        f"  {rates.index_memory / 1e6:.0f} MB in memory, "
        f"opened in {rates.open_index_seconds:.2f} s, "
        f"1,000 ids found in {rates.find_seconds * 1e3:.0f} ms"
    )
    print(
        f"  logistic regression: {rates.head_seconds * 1280 * 1e3:.2f} ms a row of 1,280 values, "
        f"{rates.head_copies:.1f} times the rows in memory"
    )


def print_table(rates: Rates, network: str, values: int) -> None:
    """A line for each number of images and cluster."""
    print(f"\n{network}, {values:,} values of each image, photos of 500 x 375")
    print(
        f"{'images':>11} {'on':>11} {'images/s':>9} {'time':>8} {'GB':>7} {'blocks':>9} "
        f"{'parts':>6} {'driver GB':>9} {'$':>7}  bound by"
    )
    for images in IMAGES:
        for cluster in CLUSTERS:
            own = predict(Work(images, network, values=values), cluster, rates)
            gb, memory = images * own.row_bytes / 1e9, images * driver_bytes(rates) / 1e9
            print(
                f"{images:11,} {cluster.name:>11} {own.stages[own.binding]:9,.0f} "
                f"{in_words(own.seconds):>8} {gb:7,.0f} {own.blocks:9,} {own.parts:6,} "
                f"{memory:9.1f} {own.dollars:7,.0f}  {what_binds(own)}"
            )


def print_photos(rates: Rates) -> None:
    """What the size of photos comes to: decoding beside a GPU, and on cores alone."""
    print("\nphotos of other sizes: cores that decode as fast as a GPU computes, and images/s")
    print(
        f"{'':>12} {'mobilenet_v2':>12} {'resnet50':>9} {'128 cores':>10} {'8 GPUs':>8}  bound by"
    )
    for photo in rates.decode:
        each = decode_seconds(photo, rates) + PIXELS / rates.pickle_bytes
        on = [predict(Work(10**7, photo=photo), CLUSTERS[place], rates) for place in (2, 5)]
        print(
            f"{photo:>12} {each * GPUS['mobilenet_v2']:12.0f} {each * GPUS['resnet50']:9.0f} "
            f"{on[0].stages[on[0].binding]:10,.0f} {on[1].stages[on[1].binding]:8,.0f}  "
            f"{on[0].binding}; {on[1].binding}"
        )


def what_binds(own: Predicted) -> str:
    """The slowest stage, or that the driver works alone for longer than all of them."""
    running = own.work.images / own.stages[own.binding]
    if own.before + own.after > running:
        return f"driver alone ({own.before + own.after:,.0f} s), then {own.binding}"
    return own.binding


def in_words(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def print_limits(rates: Rates) -> None:
    """What ends first, and what the design does about it."""
    print("\nwhat ends first")
    for limit in sorted(LIMITS, key=lambda limit: limit.images(rates)):
        print(f"{limit.images(rates):16,.0f} images: {limit.name}\n{'':18}{limit.answer}")
    print("\nwhat binds, and the answer")
    for stage, answer in ANSWERS.items():
        print(f"{stage:>22}: {answer}")
    print("\na search of logistic regression on 1,280 values, on one core, were memory enough")
    for images in IMAGES:
        seconds, held = images * 1280 * rates.head_seconds, images * 5120 * rates.head_copies
        print(f"{images:16,} rows: {in_words(seconds)}, {held / 1e9:,.0f} GB")
    print("\nindex of ids, where it has grown to")
    for images in IMAGES:
        held = rates.index_memory + (images - rates.rows) * FENCE_BYTES
        print(
            f"{images:16,} images: {images * rates.index_bytes / 1e9:.2f} GB on the disk, "
            f"{held / 1e6:.0f} MB in memory, each id written {merged(images) / images:.1f} times"
        )


def check(rates: Rates, folder: str | None, images: int) -> None:
    """A plain pass here beside what the model says of it, on one core, as rates were measured."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as cache:
        photo, paths = photos(Path(cache), folder, images)
        tap = Tap(*NETWORKS["mobilenet_v2"].split(":"))
        began, busy = time.perf_counter(), time.process_time()
        backbone = load_backbone("mobilenet_v2", "random", cache=cache)
        extract(paths, [tap], backbone, FeatureStore(cache), numerics="float32", device="cpu")
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
    said = plain_seconds(rates, photo, len(paths))
    print(
        f"\na plain pass over {len(paths):,} images ({photo}) on one core: {said:.1f} s predicted; "
        f"{busy:.1f} s of the processor, {said / busy:.2f} of it; {seconds:.1f} s of the clock"
    )


def plain_seconds(rates: Rates, photo: str, images: int) -> float:
    """Of a pass on one core, which reads each image twice and writes parts beside."""
    ids = rates.open_seconds + rates.file_bytes[photo] / rates.hash_bytes
    each = 2 * ids + 1 / rates.decode[photo] + 1 / rates.forward["mobilenet_v2"]
    return rates.start_seconds["mobilenet_v2"] + images * each


def measured_apart(images: str | None) -> Rates:
    """The rates, by a process of its own, which takes one core alone."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rates.json"
        command = [sys.executable, "-m", "benchmarks.rates", "--out", str(out)]
        subprocess.run([*command, *([images] if images else [])], check=True)
        return read_rates(out)


def read_rates(file: Path) -> Rates:
    """As `benchmarks.rates --out` wrote them."""
    return Rates(**json.loads(file.read_text(encoding="utf-8")))


def photos(cache: Path, folder: str | None, images: int) -> tuple[str, list[str]]:
    """What the rates call their size, and so many files, no two alike."""
    if folder is not None:
        return Path(folder).name, list(read_images(folder).paths[:images])
    made = made_up_photos(cache)
    for i in range(len(made), images):
        path = cache / f"{i:06}.jpg"
        path.write_bytes(Path(made[i % len(made)]).read_bytes() + i.to_bytes(4, "little"))
        made.append(str(path))
    return "500 x 375", made[:images]


def main() -> None:
    """Print rates, tables, limits, and the check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", type=Path, metavar="FILE")
    parser.add_argument("--images", metavar="FOLDER")
    parser.add_argument("--check", type=int, default=0, metavar="N")
    options = parser.parse_args()
    rates = read_rates(options.rates) if options.rates else measured_apart(options.images)
    print_rates(rates)
    for network, values in (
        ("mobilenet_v2", 1280),
        ("mobilenet_v2", DEFAULT_VALUES),
        ("resnet50", 2048),
    ):
        print_table(rates, network, values)
    print_photos(rates)
    print_limits(rates)
    if options.check:
        check(rates, options.images, options.check)


if __name__ == "__main__":
    main()
