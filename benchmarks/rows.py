"""A store of many rows: what adding, opening and looking up cost, and the memory an id takes.

python -m benchmarks.rows [--rows 10000000] [--width 8] [--part 262144] [--folder DIR]

The rows are float16 and narrow, so that ten million lie in half a gigabyte: what is measured are
ids. They are written as a pass writes them, through a writer, and joined by `compact`, which also
writes the index. Each line below that is a process of its own with a warm page cache: `opening`
is its first look-up, of one id; `memory` is what the process holds more after it and a look-up of
1,000 ids than before, in bytes for each row of the store (a hundredth of the ids is looked up,
too, so that what is remembered of blocks is counted).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from extract import FeatureStore, Recipe, Tap

RECIPE, TAP = Recipe("benchmark", "none", "none", "none"), Tap("layer", "avg")
ADDED, LOOKED_UP = 10_000, 1000


def made_ids(start: int, n: int) -> np.ndarray:
    """(n, 16) uint8, others for each start; every id is made alone, so any can be asked for."""
    numbers = np.arange(start, start + n, dtype=np.uint64)
    halves = np.stack([_mixed(numbers), _mixed(numbers ^ np.uint64(0x9E3779B97F4A7C15))], axis=1)
    return halves.view(np.uint8).reshape(n, 16)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """As good as drawn by chance (Steele and others, 2014: the mix of SplitMix64)."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def made_rows(ids: np.ndarray, width: int) -> np.ndarray:
    """(n, width) float32 that tell which id they are of."""
    return np.tile(ids[:, :8].astype(np.float32), (1, -(-width // 8)))[:, :width]


def add(folder: str, start: int, n: int, width: int) -> None:
    """Rows as a pass adds them."""
    ids = made_ids(start, n)
    with FeatureStore(folder).writer(RECIPE, np.float16) as writer:
        writer.add(ids, {TAP: made_rows(ids, width)})


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def look_up(folder: str, rows: int, width: int) -> dict[str, float]:
    """What a process that has seen nothing yet takes."""
    store = FeatureStore(folder)
    before = resident()
    began = time.perf_counter()
    assert not store.missing(RECIPE, [TAP], made_ids(0, 1)).any()
    opening = time.perf_counter() - began
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(5):
        ids = np.concatenate([made_ids(int(at), 1) for at in rng.integers(0, rows, LOOKED_UP)])
        began = time.perf_counter()
        missing = store.missing(RECIPE, [TAP], ids)
        seconds.append(time.perf_counter() - began)
        assert not missing.any()
    began = time.perf_counter()
    found = store.read(RECIPE, [TAP], ids)
    reading = time.perf_counter() - began
    assert np.array_equal(found, made_rows(ids, width))
    assert store.missing(RECIPE, [TAP], made_ids(rows + ADDED, LOOKED_UP)).all()
    hundredth = np.concatenate(
        [made_ids(int(at), 1000) for at in rng.integers(0, rows - 1000, max(1, rows // 100_000))]
    )
    store.missing(RECIPE, [TAP], hundredth)
    held = resident() - before
    return {
        "opening, s": opening,
        "looking up 1,000 ids, the first time, ms": 1e3 * seconds[0],
        "looking up 1,000 others, ms": 1e3 * float(np.median(seconds[1:])),
        "reading 1,000 rows the first time, s": reading,
        "memory, bytes a row": held / rows,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--part", type=int, default=1 << 18, help="rows that are added at a time")
    parser.add_argument("--folder")
    parser.add_argument("--look", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look:
        print(json.dumps(look_up(options.folder, options.rows, options.width)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print_table(folder, options)


def print_table(folder: str, options: argparse.Namespace) -> None:
    """Write, look up, add, look up again."""
    store = FeatureStore(folder)
    began = time.perf_counter()
    for start in range(0, options.rows, options.part):
        add(folder, start, min(options.part, options.rows - start), options.width)
    written = time.perf_counter()
    print(f"{options.rows:,} rows of {options.width} values")
    print(f"{'writing them, s':45}{written - began:10.1f}")
    store.compact(RECIPE)
    print(
        f"{'joining their parts and writing the index, s':45}{time.perf_counter() - written:10.1f}"
    )
    parts = list((Path(folder) / RECIPE.id / "parts").glob("*.h5"))
    index = list((Path(folder) / RECIPE.id / "index").iterdir())
    size = sum(file.stat().st_size for file in index)
    print(f"{'parts':45}{len(parts):10}")
    print(f"{'files of ids':45}{len(index):10}")
    print(f"{'their size, bytes a row':45}{size / options.rows:10.1f}")
    for line in ("", "after 10,000 rows more"):
        if line:
            began = time.perf_counter()
            add(folder, options.rows, ADDED, options.width)
            store.compact(RECIPE)
            print(f"{'adding 10,000 rows, s':45}{time.perf_counter() - began:10.2f}")
            print(line)
        own = (f"--rows={options.rows}", f"--width={options.width}", f"--folder={folder}")
        command = [sys.executable, "-m", "benchmarks.rows", "--look", *own]
        for name, value in json.loads(subprocess.check_output(command)).items():
            print(f"{name:45}{value:10.3f}")


if __name__ == "__main__":
    main()
