"""Faults on purpose: extractions and whole runs killed, stopped and hindered at every step.

python -m benchmarks.faults [--only NAME,...] [--kills 250] [--steps 1000] [--folder DIR]

Each line is a kind of fault: how often it was tried, how often all held, the longest that the end
took and the most work that was lost. All held means: the exit code and the one line that belong to
it; every row that is kept equals an undisturbed pass's; the same command, given again, completes,
with equal features; and no process, shared memory, temporary file or damaged part is left. What did
not hold is listed below the table, and the exit code is 1.

Every trial is a process of its own, forked before torch has started a thread. Passes are slowed and
their parts made small, so that a fault falls into every stage; `long` has parts as they are.
`full-disk` mounts small disks; where that is not allowed, nothing is tried.
"""

import argparse
import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.fault_injection import (
    Act,
    call_at,
    count_steps,
    error_at,
    fail_from,
    kill_at,
    only_so_large,
    roomy_disk,
    signal_at,
    slow_passes,
)
from benchmarks.fault_trials import (
    IMAGES,
    SIGNALS,
    Child,
    Ended,
    Outcome,
    Setup,
    Trial,
    Work,
    World,
    answering,
    extraction,
    make_world,
    place,
    whole_run,
)

PAUSE, PART_SECONDS = 0.05, 0.2


def slow(tell: Callable[[str], None], folder: Path) -> None:
    slow_passes(PAUSE, PART_SECONDS, tell)


def stepping(act: Act) -> Setup:
    """Count the steps of writing and act before them."""
    return lambda tell, folder: count_steps(act, [folder], tell)


def count(number: int, name: str) -> None:
    """Do nothing at a step."""


def after(seconds: float, *numbers: int) -> Callable[[Child], None]:
    """Signals so long after a process began, with a pause between them."""

    def disturb(child: Child) -> None:
        time.sleep(max(0.0, child.began + seconds - time.monotonic()))
        child.send(numbers[0])
        for number in numbers[1:]:
            time.sleep(0.3)
            child.send(number)

    return disturb


@dataclass(frozen=True)
class Tries:
    """How often: kills at random moments, and steps at most of those counted."""

    kills: int
    steps: int
    world: World
    rng: random.Random

    def undisturbed(self, work: Work, *setups: Setup) -> Ended:
        """A process that nothing happens to, its steps counted."""
        with place(self.world) as folder:
            ended = Child(work, self.world, folder, *setups, stepping(count)).wait()
        if ended.code:
            sys.exit("\n".join(ended.lines))
        return ended

    def moments(self, ended: Ended, tries: int) -> list[float]:
        """Seconds after the beginning, random between it and the end."""
        return [self.rng.uniform(0, ended.ended - ended.began) for _ in range(tries)]

    def spread(self, steps: int) -> list[int]:
        """All steps, or as many as are wanted, spread over them."""
        return sorted({int(k) for k in np.linspace(1, steps, min(self.steps, steps)).round()})


def can_mount(world: World) -> bool:
    """Whether this user may."""
    try:
        with place(world, 1 << 20):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def kills(tries: Tries) -> Iterator[Trial]:
    """SIGKILL of an extraction at random moments."""
    for at in tries.moments(tries.undisturbed(extraction, slow), tries.kills):
        disturb = after(at, signal.SIGKILL)
        yield Trial(extraction, (-9, 0), [slow], disturb, clean=False, at=f"{at:.3f} s")


def long_kills(tries: Tries) -> Iterator[Trial]:
    """SIGKILL of an extraction of twenty seconds, its parts as they are."""

    def long(tell: Callable[[str], None], folder: Path) -> None:
        slow_passes(20 * 16 / IMAGES, None, tell)

    for _ in range(-(-tries.kills // 50)):
        at = tries.rng.uniform(8, 20)
        disturb = after(at, signal.SIGKILL)
        yield Trial(extraction, (-9, 0), [long], disturb, clean=False, at=f"{at:.1f} s")


def kill_steps(tries: Tries) -> Iterator[Trial]:
    """SIGKILL of an extraction at every step of its writing."""
    for step in tries.spread(tries.undisturbed(extraction, slow).steps):
        setups = [slow, stepping(kill_at(step))]
        yield Trial(extraction, (-9, 0), setups, clean=False, at=f"step {step}")


def run_kill_steps(tries: Tries) -> Iterator[Trial]:
    """SIGKILL of a whole run at every step of its writing."""
    for step in tries.spread(tries.undisturbed(whole_run).steps):
        setups = [stepping(kill_at(step))]
        yield Trial(whole_run, (-9, 0), setups, clean=False, at=f"step {step}")


def stops(tries: Tries) -> Iterator[Trial]:
    """SIGINT, SIGTERM or SIGHUP, once or twice, at random moments of a whole run."""
    for at in tries.moments(tries.undisturbed(whole_run, slow), tries.kills // 2):
        number, times = tries.rng.choice(list(SIGNALS)), tries.rng.choice((1, 2))
        disturb = after(at, *[number] * times)
        at_what = f"{signal.Signals(number).name} x {times} at {at:.3f} s"
        yield Trial(whole_run, (128 + number, 0), [answering, slow], disturb, at=at_what)


def stop_steps(tries: Tries) -> Iterator[Trial]:
    """SIGTERM to a whole run at every step of its writing."""
    for step in tries.spread(tries.undisturbed(whole_run, slow).steps):
        setups = [answering, slow, stepping(signal_at(step, signal.SIGTERM))]
        yield Trial(whole_run, (143, 0), setups, at=f"step {step}")


def hindered(tries: Tries, number: int) -> Iterator[Trial]:
    """An error of the system at every step of a run's writing, and at all that follow."""
    for step in tries.spread(tries.undisturbed(whole_run, slow).steps):
        setups = [slow, stepping(fail_from(step, number))]
        yield Trial(whole_run, (1, 0), setups, at=f"step {step}")


def full_steps(tries: Tries) -> Iterator[Trial]:
    """Disk full from every step of a run's writing on."""
    return hindered(tries, errno.ENOSPC)


def read_only_steps(tries: Tries) -> Iterator[Trial]:
    """Read-only from every step of a run's writing on, but for those before the pass."""
    return (trial for trial in hindered(tries, errno.EROFS) if _allow_wrong_call(trial))


def _allow_wrong_call(trial: Trial) -> bool:
    # what can't be written from the start is a wrong call
    trial.codes = (0, 1, 2)
    return True


def large_files(tries: Tries) -> Iterator[Trial]:
    """Every file of a run held to so many bytes by the system."""
    for size in sorted({int(size) for size in np.geomspace(3000, 2e6, min(tries.steps, 40))}):

        def hold(tell: Callable[[str], None], folder: Path, size: int = size) -> None:
            only_so_large(size)

        yield Trial(whole_run, (0, 1), [hold], at=f"{size} bytes")


def full_disk(tries: Tries) -> Iterator[Trial]:
    """A run on a disk that gets full, of every size from nothing to enough."""

    def roomy(tell: Callable[[str], None], folder: Path) -> None:
        roomy_disk()

    if can_mount(tries.world):
        for pages in sorted({int(n) for n in np.linspace(2, 250, min(tries.steps, 60))}):
            disk = pages * os.sysconf("SC_PAGESIZE")
            yield Trial(whole_run, (0, 1), [slow, roomy], at=f"{disk} bytes", disk_bytes=disk)


def images_harmed(tries: Tries) -> Iterator[Trial]:
    """An image removed, replaced or broken before it is read by the pass."""
    paths = sorted(tries.world.images.rglob("*.png"))
    kept = {path: path.read_bytes() for path in paths}
    harms: dict[str, Callable[[Path], Any]] = {
        "removed": Path.unlink,
        "replaced": lambda path: path.write_bytes(kept[paths[0]]),
        "broken": lambda path: path.write_bytes(kept[path][:200]),
        "emptied": lambda path: path.write_bytes(b""),
    }
    for name, harm in harms.items():
        for number in (1, IMAGES // 2, IMAGES - 1):
            path = paths[number]

            def setup(
                tell: Callable[[str], None],
                folder: Path,
                harm: Callable[[Path], Any] = harm,
                path: Path = path,
            ) -> None:
                call_at("extract.forward_pass:ForwardPass.run", 1, lambda args: harm(path))

            def restore(path: Path = path) -> None:
                path.write_bytes(kept[path])

            yield Trial(extraction, (0,), [slow, setup], restore=restore, at=f"{number} {name}")


def errors(tries: Tries) -> Iterator[Trial]:
    """Errors inside of the decoding, the forward pass and the writer."""
    places = (
        "extract.loader:_decode_some",
        "extract.engines:TorchEngine.start",
        "extract.store.part_writer:write_part",
        "extract.store.part_writer:PartWriter.add",
    )
    kinds = (RuntimeError("boom"), MemoryError(), OSError(errno.EIO, os.strerror(errno.EIO)))
    for spot in places:
        for call in (1, 2):
            for error in kinds:

                def setup(
                    tell: Callable[[str], None],
                    folder: Path,
                    spot: str = spot,
                    call: int = call,
                    error: Exception = error,
                ) -> None:
                    error_at(spot, call, error)

                # a quick pass is done with one part, and the second is never begun
                codes = (0, 1) if call > 1 and spot.endswith("write_part") else (1,)
                yield Trial(extraction, codes, [slow, setup], at=f"{spot} {call} {error!r}")


FAULTS: dict[str, Callable[[Tries], Iterator[Trial]]] = {
    "kills": kills,
    "long": long_kills,
    "kill-steps": kill_steps,
    "run-kill-steps": run_kill_steps,
    "stops": stops,
    "stop-steps": stop_steps,
    "full-steps": full_steps,
    "read-only-steps": read_only_steps,
    "large-files": large_files,
    "full-disk": full_disk,
    "images": images_harmed,
    "errors": errors,
}


def try_all(trials: Iterator[Trial], world: World) -> list[Outcome]:
    """Each trial in a folder of its own."""
    outcomes = []
    for trial in trials:
        with place(world, trial.disk_bytes) as folder:
            outcomes.append(trial.run(world, folder))
    return outcomes


def table_row(name: str, outcomes: Sequence[Outcome]) -> str:
    """A line of the table."""
    held = sum(not outcome.problems for outcome in outcomes)
    end = max((outcome.end_seconds for outcome in outcomes), default=0.0)
    lost = max((outcome.lost_seconds for outcome in outcomes), default=0.0)
    return f"{name:<18}{len(outcomes):>7}{held:>7}{end:>10.2f}{lost:>10.2f}"


def main() -> int:
    """Print the table -> exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(FAULTS), help="some of them (all)")
    parser.add_argument("--kills", type=int, default=250, help="at random moments (250)")
    parser.add_argument("--steps", type=int, default=1000, help="at most, spread over all (1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where to write (the system's temporary folder)")
    options = parser.parse_args()
    for name in ("pipelines.job", "pipelines.extract", "pipelines.run", "torchvision", "skops.io"):
        import_module(name)  # once for all trials
    import_module("pipelines.report.charts").joined_script()
    # more would wait for one another, actively
    import_module("torch").set_num_threads(1)
    threadpool_limits(1)
    problems = []
    print(f"{'fault':<18}{'tried':>7}{'held':>7}{'end, s':>10}{'lost, s':>10}")
    if options.folder:
        Path(options.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="faults-") as folder:
        world = make_world(Path(folder))
        for name in options.only.split(","):
            tries = Tries(options.kills, options.steps, world, random.Random(options.seed))
            outcomes = try_all(FAULTS[name](tries), world)
            print(table_row(name, outcomes), flush=True)
            problems += [f"{name}: {line}" for done in outcomes for line in done.problems]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
