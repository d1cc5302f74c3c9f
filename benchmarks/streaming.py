"""Heads on rows read in blocks against the search in memory: `python -m benchmarks.streaming`.

Each line is two fresh processes: `HeadSearchCV(n_jobs=2)`, five folds, the catalogue's grid, on a
file of float32 that is read whole, and on the same file read in blocks. The peak is the process's
own (`ru_maxrss`, interpreter, arrays and the pages of a mapped file), the seconds are of the clock
and of both cores' work. Scores differ by at most so much, relative to the largest, rows centred;
the certificate bounds a linear head's coefficients in either. Where memory does not hold the search
in memory, or nobody waits for it, the second half stays empty: `--in-memory` asks for it.

Features are rectified random projections of overlapping clouds whose spectrum falls off, with three
labels in a hundred drawn anew.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heads import HEADS, HeadSearchCV

# of the latent cloud, and values made at a time
LATENT, MADE = 256, 1 << 22


class Shape(NamedTuple):
    """in_memory: whether the search in memory is timed too. heads: what is searched."""

    rows: int
    features: int
    classes: int
    heads: tuple[str, ...]
    in_memory: bool


SHAPES = {
    "small": Shape(10_000, 512, 10, tuple(head for head in HEADS if head != "rbf_svm"), True),
    "large": Shape(100_000, 2048, 10, ("logistic", "linear_svm", "knn", "ridge", "lda"), False),
    "long": Shape(1_000_000, 256, 2, ("logistic", "linear_svm", "ridge", "lda"), False),
}


def make_file(path: Path, shape: Shape, seed: int = 0) -> None:
    """Write X (rows, features) float32 as `path`, and y beside it; never more than a block."""
    rng = np.random.default_rng(seed)
    projection = rng.normal(size=(LATENT, shape.features)).astype(np.float32)
    offset = (rng.normal(size=shape.features) - 0.5).astype(np.float32)
    means = 0.12 * rng.normal(size=(shape.classes, LATENT)).astype(np.float32)
    spectrum = (np.arange(1, LATENT + 1) ** -0.5).astype(np.float32)
    y = rng.permutation(np.arange(shape.rows) % shape.classes)
    X = np.lib.format.open_memmap(path, "w+", np.float32, (shape.rows, shape.features))
    step = MADE // shape.features
    for start in range(0, shape.rows, step):
        own = y[start : start + step]
        latent = means[own] + rng.standard_normal((len(own), LATENT), dtype=np.float32)
        rows = 0.5 * (latent * spectrum) @ projection + offset
        rows += 0.3 * rng.standard_normal(rows.shape, dtype=np.float32)
        X[start : start + step] = np.maximum(rows, 0)
    anew = rng.random(shape.rows) < 0.03
    y[anew] = rng.integers(0, shape.classes, anew.sum())
    np.save(path.with_suffix(".y.npy"), y)


class FromFile:
    """Rows of a `.npy` file by plain reads: pages of a mapped one would count as memory."""

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r")
        self.path, self.shape, self.dtype, self.offset = (
            path,
            mapped.shape,
            mapped.dtype,
            mapped.offset,
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        width = self.shape[1]
        place = self.offset + start * width * self.dtype.itemsize
        with open(self.path, "rb") as file:
            file.seek(place)
            return np.fromfile(file, self.dtype, (stop - start) * width).reshape(-1, width)


def search_one(way: str, head: str, path: Path, kept: Path) -> None:
    """One search, in a process of its own: prints what it took, keeps its scores."""
    X: Any = np.load(path) if way == "memory" else FromFile(path)
    y = np.load(path.with_suffix(".y.npy"))
    started, worked = time.perf_counter(), time.process_time()
    found = HeadSearchCV([head], cv=5, n_jobs=2).fit(X, y)
    np.save(kept, found.oof_scores_.astype(np.float32))
    certificate = found.cv_results_["certificate"].max()
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - started,
                "worked": time.process_time() - worked,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
                "accuracy": found.best_score_,
                "certificate": None if np.isnan(certificate) else certificate,
            }
        )
    )


def in_a_process(way: str, head: str, path: Path, kept: Path) -> dict:
    command = [sys.executable, "-m", "benchmarks.streaming", "--one", way, head, path, kept]
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def farthest(one: Path, two: Path) -> float:
    """The largest difference of two searches' scores, relative to the largest score."""
    largest = apart = 0.0
    for a, b in zip(np.load(one, mmap_mode="r"), np.load(two, mmap_mode="r"), strict=True):
        a = a - a.mean(axis=1, keepdims=True)
        b = b - b.mean(axis=1, keepdims=True)
        largest = np.abs(a).max()
        apart = max(apart, np.abs(a - b).max() / max(largest, 1e-12))
    return apart


def compare(name: str, head: str, path: Path, in_memory: bool) -> None:
    """One line of the table."""
    streamed, whole = path.with_suffix(".streamed.npy"), path.with_suffix(".memory.npy")
    ours = in_a_process("streamed", head, path, streamed)
    known = in_a_process("memory", head, path, whole) if in_memory else None
    certificate = ours["certificate"]
    bound = "" if certificate is None else f"{certificate:.1e}"
    apart = f"{farthest(whole, streamed):.1e}" if known else ""
    line = f"{name:6} {head:11} {_measured(known)} {_measured(ours)} {bound:>8} {apart:>8}"
    print(line, flush=True)


def _measured(found: dict | None) -> str:
    if found is None:
        return " " * 31
    times = f"{found['seconds']:8.1f} {found['worked']:8.1f}"
    return f"{times} {found['peak']:6.2f} {found['accuracy']:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SHAPES, help="one shape (all)")
    parser.add_argument("--heads", help="such as logistic,knn (the shape's)")
    parser.add_argument("--in-memory", action="store_true", help="time the search in memory always")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        way, head, path, kept = chosen.one
        search_one(way, head, Path(path), Path(kept))
        return
    columns = f"{'s':>8} {'work s':>8} {'GB':>6} {'acc':>6}"
    print(f"{'':18} {'in memory':>31} {'in blocks':>31}")
    print(f"{'shape':6} {'head':11} {columns} {columns} {'certif':>8} {'apart':>8}")
    for name, shape in SHAPES.items():
        if chosen.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "X.npy")
            make_file(path, shape)
            for head in chosen.heads.split(",") if chosen.heads else shape.heads:
                compare(name, head, path, shape.in_memory or chosen.in_memory)


if __name__ == "__main__":
    main()
