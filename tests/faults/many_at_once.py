"""Many processes on one store: `python many_at_once.py FOLDER SECONDS [ruthless]` prints counts.

Four writers of overlapping rows, one of which is killed now and then, two readers, a compaction, a
prune and a verification, all the time. Ruthless: the prune spares nothing that is in use, and the
cache is removed now and then.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

from extract import FeatureStore, Recipe, Tap, prune_cache, verify_cache
from extract.store import DamagedPart, pruning, upkeep

N, WRITTEN, READ = 400, 40, 30
WIDTHS = {Tap("early", "avg"): 24, Tap("late", "grid3"): 90}
TAPS = list(WIDTHS)
RECIPE, OLD = (Recipe("net", weights, "box", "float32") for weights in ("used", "old"))
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 256, (N, 16), np.uint8)
ROWS = {tap: RNG.normal(size=(N, width)).astype(np.float32) for tap, width in WIDTHS.items()}
WHOLE = np.concatenate([ROWS[tap] for tap in TAPS], axis=1)
SEEN = np.zeros(N, bool)  # by this process, which reads
WAIT_SECONDS = 60.0  # for processes to end after their time: longer is a deadlock


def keep(store, rows, recipe=RECIPE):
    with store.writer(recipe) as writer:
        writer.add(IDS[rows], {tap: values[rows] for tap, values in ROWS.items()})


def write(store, rng, counts, ruthless):
    first = rng.randrange(N - WRITTEN)
    rows = np.arange(first, first + WRITTEN)
    lacking = store.missing(RECIPE, TAPS, IDS[rows]).any(axis=1)
    # now and then what is there already: two that extract one set at once do so too
    if rng.random() < 0.7:
        rows = rows[lacking]
    if len(rows):
        keep(store, rows)
        counts["rows written"] += len(rows)
        if not ruthless:
            lost = store.missing(RECIPE, TAPS, IDS[rows]).any(axis=1)
            counts["written rows lost"] += int(lost.sum())
    time.sleep(rng.random() / 50)


def read(store, rng, counts, ruthless):
    rows = np.array(rng.sample(range(N), READ))
    there = ~store.missing(RECIPE, TAPS, IDS[rows]).any(axis=1)
    if not ruthless:
        counts["seen rows lost"] += int((SEEN[rows] & ~there).sum())
    SEEN[rows] |= there
    rows = rows[there]
    try:
        found = store.read(RECIPE, TAPS, IDS[rows]) if len(rows) else WHOLE[:0]
    except DamagedPart as error:
        counts["reads of removed rows" if "are" in str(error) else "damage"] += 1
        return
    counts["reads"] += 1
    counts["rows read"] += len(rows)
    counts["wrong rows"] += int((found != WHOLE[rows]).any(axis=1).sum())


def compact(store, rng, counts, ruthless):
    upkeep.SMALL_PARTS = 2
    counts["parts joined"] += store.compact(RECIPE)
    time.sleep(rng.random() / 20)


def prune(store, rng, counts, ruthless):
    if ruthless:
        pruning.GRACE_SECONDS = 0.0
    done = prune_cache(store.cache, older_than=0.0)
    counts["prunes"] += 1
    counts["things pruned"] += len(done.removed)
    counts["things spared"] += done.n_in_use
    time.sleep(rng.random() / 2)


def verify(store, rng, counts, ruthless):
    found = verify_cache(store.cache)
    counts["verifications"] += 1
    counts["damage"] += len(found.damaged)
    time.sleep(rng.random() / 2)


def start(role, folder, end, ruthless):
    """Fork a process that plays the role until then; its counts go into a file of its own."""
    pid = os.fork()
    if pid:
        return pid
    counts, rng, store = Counter(), random.Random(os.getpid()), FeatureStore(folder / "cache")
    try:
        while time.time() < end:
            role(store, rng, counts, ruthless)
    except BaseException as error:
        traceback.print_exc()
        counts[f"errors: {role.__name__}: {error}"] += 1
    finally:
        (folder / f"{role.__name__}-{os.getpid()}.json").write_text(json.dumps(counts))
        os._exit(0)


def play(folder, seconds, ruthless):
    store, counts, rng = FeatureStore(folder / "cache"), Counter(), random.Random(1)
    keep(store, np.arange(N), OLD)
    for path in (store.cache / OLD.id).rglob("*"):
        os.utime(path, (1, 1))
    end = time.time() + seconds
    roles = [write] * 4 + [read] * 2 + [compact, prune, verify]
    running = [start(role, folder, end, ruthless) for role in roles]
    while time.time() < end - 0.5:
        time.sleep(rng.uniform(0.2, 0.8))
        killed = rng.randrange(4)
        os.kill(running[killed], signal.SIGKILL)
        os.waitpid(running[killed], 0)
        counts["kills"] += 1
        running[killed] = start(write, folder, end, ruthless)
        if ruthless and rng.random() < 0.5:
            shutil.rmtree(store.cache, ignore_errors=True)
            counts["rm -rf"] += 1
    counts["deadlocks"] = sum(not has_ended(pid, end + WAIT_SECONDS) for pid in running)
    for file in folder.glob("*.json"):
        counts.update(json.loads(file.read_text()))
    counts.update(last_look(store))
    return counts


def has_ended(pid, deadline):
    while time.time() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def last_look(store):
    """What a rerun finds: all rows once they are computed again, and no damage."""
    lacking = np.flatnonzero(store.missing(RECIPE, TAPS, IDS).any(axis=1))
    if len(lacking):
        keep(store, lacking)
    found = verify_cache(store.cache)
    return Counter(
        {
            "rows kept at the end": N - len(lacking),
            "wrong rows at the end": int(
                (store.read(RECIPE, TAPS, IDS) != WHOLE).any(axis=1).sum()
            ),
            "damage at the end": len(found.damaged) + len(found.strangers),
            "old recipe left": int((store.cache / OLD.id).exists()),
        }
    )


if __name__ == "__main__":
    base = Path(sys.argv[1])
    base.mkdir(parents=True, exist_ok=True)
    print(json.dumps(play(base, float(sys.argv[2]), "ruthless" in sys.argv[3:]), indent=1))
