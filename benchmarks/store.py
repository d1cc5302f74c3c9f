"""Keeping and reading back features against numpy.memmap, plain h5py and joblib.Memory, as ratios
in one run.

python -m benchmarks.store [--rows 50000] [--width 2048] [--parts 40] [--repeats 3] [--folder DIR]

Every side is given the same float32 rows, keeps them as float16 and gives float32 back;
`numpy.memmap, float16` is the bare gathering without that last step. A fold is 80 % of the rows in
random order. Each side reads in a process of its own, from a warm page cache: `first fold` opens
the files and, on our side, reads the indexes and checks every checksum; `fold` and `in order` are
what follows. Writing ends when the bytes are on the disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import h5py
import joblib
import numpy as np

from extract import FeatureStore, Recipe, Tap

RECIPE, TAP = Recipe("benchmark", "none", "none", "none"), Tap("layer", "avg")
BATCH, CHUNK = 256, 1 << 19
LONG = 2.0


def made_rows(n: int, width: int) -> np.ndarray:
    """(n, width) float32 such as a rectified layer gives, exact in float16."""
    rows = np.random.default_rng(0).standard_normal((n, width), np.float32)
    return np.maximum(rows, 0, out=rows).astype(np.float16).astype(np.float32)


def made_ids(n: int) -> np.ndarray:
    """(n, 16) uint8."""
    return np.random.default_rng(1).integers(0, 256, (n, 16), np.uint8)


def fold_of(n: int) -> np.ndarray:
    """80 % of the rows in random order."""
    return np.random.default_rng(2).permutation(n)[: n * 4 // 5]


def write_memmap(folder, rows, options):
    kept = np.memmap(folder / "rows", np.float16, "w+", shape=rows.shape)
    kept[:] = rows
    kept.flush()


def open_memmap(folder, options):
    kept = np.memmap(folder / "rows", np.float16, "r", shape=(options.rows, options.width))
    return lambda order: (kept if order is None else kept[order]).astype(np.float32)


def open_bare_memmap(folder, options):
    kept = np.memmap(folder / "rows", np.float16, "r", shape=(options.rows, options.width))
    return lambda order: np.array(kept) if order is None else kept[order]


def write_h5py(folder, rows, options):
    chunk = (min(len(rows), max(1, CHUNK // (2 * rows.shape[1]))), rows.shape[1])
    with h5py.File(folder / "rows.h5", "w") as file:
        file.create_dataset("rows", data=rows.astype(np.float16), chunks=chunk)


def open_h5py_sorted(folder, options):
    """The rows in the order of the file, as h5py wants them, then in the order asked."""
    dataset = h5py.File(folder / "rows.h5")["rows"]

    def read(order):
        if order is None:
            return dataset[:].astype(np.float32)
        ascending = np.argsort(order)
        out = np.empty((len(order), options.width), np.float32)
        out[ascending] = dataset[order[ascending]]
        return out

    return read


def open_h5py_whole(folder, options):
    dataset = h5py.File(folder / "rows.h5")["rows"]
    return lambda order: (dataset[:] if order is None else dataset[:][order]).astype(np.float32)


def cached_by_joblib(folder, rows=None):
    @joblib.Memory(folder, verbose=0).cache(ignore=["rows"])
    def features(name, rows):
        return rows.astype(np.float16)

    return features("rows", rows)


def write_joblib(folder, rows, options):
    cached_by_joblib(folder, rows)


def open_joblib(folder, options):
    def read(order):
        rows = cached_by_joblib(folder)
        return (rows if order is None else rows[order]).astype(np.float32)

    return read


def write_parts(folder, rows, options):
    store, ids = FeatureStore(folder), made_ids(len(rows))
    for some in np.array_split(np.arange(len(rows)), options.parts):
        with store.writer(RECIPE, np.float16) as writer:
            for at in range(0, len(some), BATCH):
                batch = some[at : at + BATCH]
                writer.add(ids[batch], {TAP: rows[batch]})


def write_joined(folder, rows, options):
    write_parts(folder, rows, options)
    FeatureStore(folder).compact(RECIPE)


def open_store(folder, options):
    ids, store = made_ids(options.rows), FeatureStore(folder)
    return lambda order: store.read(RECIPE, [TAP], ids if order is None else ids[order])


# name -> (folder of what it keeps, how it is written, what gives read(order); order None is all in
# order)
SIDES: dict[str, tuple[str, Callable, Callable]] = {
    "numpy.memmap": ("memmap", write_memmap, open_memmap),
    "numpy.memmap, float16": ("memmap", write_memmap, open_bare_memmap),
    "h5py, sorted rows": ("h5py", write_h5py, open_h5py_sorted),
    "h5py, whole": ("h5py", write_h5py, open_h5py_whole),
    "joblib.Memory": ("joblib", write_joblib, open_joblib),
    "permafrost, many parts": ("parts", write_parts, open_store),
    "permafrost, joined": ("joined", write_joined, open_store),
}


def seconds(call, *args) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    call(*args)
    return time.perf_counter() - started


def repeated(call, *args) -> float:
    """The median of three, or of fewer where they are long."""
    times = []
    while len(times) < 3 and sum(times) < LONG:
        times.append(seconds(call, *args))
    return median(times)


def read_side(options) -> dict:
    """One side's reading times in this process, and a sum to compare what was read."""
    name, _, opened = SIDES[options.side]
    fold, read = fold_of(options.rows), []
    first = seconds(
        lambda: read.append(opened(Path(options.folder) / name, options)) or read[0](fold)
    )
    times = {
        "first fold": first,
        "fold": repeated(read[0], fold),
        "in order": repeated(read[0], None),
    }
    return {**times, "sum": float(read[0](fold)[::100].sum(dtype=np.float64))}


def read_in_a_process(side, folder, options) -> dict:
    """One side's times in a process of its own."""
    sizes = [f"--rows={options.rows}", f"--width={options.width}", f"--parts={options.parts}"]
    call = [
        sys.executable,
        "-m",
        "benchmarks.store",
        *sizes,
        f"--folder={folder}",
        f"--side={side}",
    ]
    return json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


def written(write, folder, rows, options) -> float:
    """Seconds until all of it is on the disk."""

    def write_and_sync():
        write(folder, rows, options)
        for path in folder.rglob("*"):
            if path.is_file():
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())

    return seconds(write_and_sync)


def compare_writing(root, options):
    """Print the table of writing; what was written first stays for reading."""
    rows = made_rows(options.rows, options.width)
    kinds = {name: (side, write) for side, (name, write, _) in reversed(SIDES.items())}
    times = {name: [] for name in reversed(kinds)}
    for _ in range(options.repeats):
        for name, (_, write) in kinds.items():
            with tempfile.TemporaryDirectory(dir=root, prefix=name) as spare:
                folder = Path(spare) / name
                folder.mkdir()
                times[name].append(written(write, folder, rows, options))
                if not (root / name).exists():
                    folder.rename(root / name)
    print(f"{'writing':<24}{'seconds':>10}{'MB/s':>10}{'ratio':>10}")
    for name, found in times.items():
        speed = options.rows * options.width * 2e-6 / median(found)
        ratio = median(times["memmap"]) / median(found)
        print(f"{kinds[name][0]:<24}{median(found):>10.3f}{speed:>10.0f}{ratio:>10.2f}", flush=True)


def compare_reading(root, options):
    """Print the table of reading."""
    runs = [
        {side: read_in_a_process(side, root, options) for side in SIDES}
        for _ in range(options.repeats)
    ]
    if len({run[side]["sum"] for run in runs for side in SIDES}) > 1:
        sys.exit("the sides did not read the same rows")
    columns = ("first fold", "fold", "in order")
    print(f"{'reading':<24}" + "".join(f"{name:>12}{'ratio':>8}" for name in columns))
    times = {
        side: {name: median(run[side][name] for run in runs) for name in columns} for side in SIDES
    }
    for side, found in times.items():
        ratios = [times["numpy.memmap"][name] / found[name] for name in columns]
        print(
            f"{side:<24}"
            + "".join(f"{found[n]:>12.3f}{r:>8.2f}" for n, r in zip(columns, ratios, strict=True))
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--parts", type=int, default=40)
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each side, the median counts (3)"
    )
    parser.add_argument("--folder", help="where to write (the system's temporary folder)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(read_side(options)))
        return
    print(
        f"{options.rows} x {options.width} float16 rows, {options.parts} parts; seconds, median "
        f"of {options.repeats};"
    )
    print("ratio: how many times as fast as numpy.memmap to float32")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="benchmark-store-") as root:
        compare_writing(Path(root), options)
        compare_reading(Path(root), options)


if __name__ == "__main__":
    main()
