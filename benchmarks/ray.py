"""A pass on workers of Ray on this machine against the plain pass, side by side, one worker killed.

python -m benchmarks.ray FOLDER... [--images 2000] [--repeats 3] [--numerics float32] [--kill]
                         [--backbone resnet50]

FOLDER: photos at any depth, such as class-per-folder sets; copies with another byte at the end fill
up the number, so that each is an image of its own. Each side is `python -m pipelines.extract` in a
process of its own, with a cache of its own that is empty at first, and in turn. The ratio is of
whole processes, Ray's start and end among them; what these take alone is a line of its own. With
--kill the first worker that computes is killed in the middle, and the features still have to be
equal.
"""

import argparse
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SUFFIXES = {".jpg", ".jpeg", ".png"}
START = "from extract.sharding.cluster import connect; connect('ray').shutdown()"
WORKER = "ray::MapWorker"  # how Ray names the process of a network


def fill(folders: list[Path], out: Path, n: int) -> None:
    """Write n distinct images below `out`."""
    files = [f for own in folders for f in sorted(own.rglob("*")) if f.suffix.lower() in SUFFIXES]
    for i, file in zip(range(n), itertools.cycle(files), strict=False):
        # an image ends where its format says: a byte behind it changes the id alone
        more = bytes([i // len(files)]) if i >= len(files) else b""
        (out / f"{i:06}{file.suffix.lower()}").write_bytes(file.read_bytes() + more)


def seconds_of(command: list[str], kill_at: float | None = None) -> float:
    """Of a whole process; where asked, one of its workers is killed after so many seconds."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if kill_at is not None:
        time.sleep(kill_at)
        print(f"killed at {kill_at:.0f} s: {kill_worker()}", file=sys.stderr)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {said}")
    return time.perf_counter() - began


def kill_worker() -> str:
    """Kill a process of a network -> its name."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        name = file.read_bytes().rstrip(b"\0").decode(errors="replace")
        if name.startswith(WORKER) and os.stat(file).st_uid == os.getuid():
            os.kill(int(file.parent.name), signal.SIGKILL)
            return name
    return "none was there"


def pass_of(photos: Path, cache: Path, *more: str) -> list[str]:
    """The command of a pass."""
    own = ["--cache", str(cache), "--quiet", *more]
    return [sys.executable, "-m", "pipelines.extract", str(photos), *own]


def differences(photos: Path, caches: list[Path], network: list[str]) -> tuple[float, float]:
    """Share of the features that are the same bits in both caches, and the largest difference by
    the largest value."""
    import h5py
    import numpy as np

    found = []
    for cache in caches:
        file = cache / "features.h5"
        seconds_of(pass_of(photos, cache, *network, "--to", str(file)))
        with h5py.File(file) as opened:
            found.append(np.hstack([rows[:] for rows in opened["features"].values()]))
    here, there = found
    return float((here == there).mean()), float(np.abs(here - there).max() / np.abs(here).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--numerics", default="auto")
    parser.add_argument("--backbone", help="with random weights (mobilenet_v2 with its own)")
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    network = ["--numerics", options.numerics]
    if options.backbone:
        network += ["--backbone", options.backbone, "--weights", "random"]
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place) / "photos"
        photos.mkdir()
        fill(options.folders, photos, options.images)
        start = [seconds_of([sys.executable, "-c", START]) for _ in range(options.repeats)]
        print(f"Ray's start and end alone: {median(start):.1f} s")
        taken: dict[str, list[float]] = {"here": [], "ray": []}
        for i in range(options.repeats):
            caches = [Path(place) / f"{side}-{i}" for side in taken]
            taken["here"].append(seconds_of(pass_of(photos, caches[0], *network)))
            middle = taken["here"][-1] / 2 if options.kill else None
            on_ray = pass_of(photos, caches[1], *network, "--on", "ray")
            taken["ray"].append(seconds_of(on_ray, middle))
            same, apart = differences(photos, caches, network)
            print(
                f"here {taken['here'][-1]:.1f} s, ray {taken['ray'][-1]:.1f} s; "
                f"{same:.1%} of the features equal to the bit, the others within {apart:.1e}"
            )
        ratio = median(taken["ray"]) / median(taken["here"])
        print(f"{options.images} images: ray takes {ratio:.2f} of the plain pass's time")


if __name__ == "__main__":
    main()
