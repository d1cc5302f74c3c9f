"""Faults on purpose: extractions and whole runs killed, stopped and hindered at every step.

python -m benchmarks.faults [--only NAME,...] [--kills 250] [--steps 1000] [--folder DIR]

Each line is a kind of fault: how often it was tried, how often all held, the longest that the end
took and the most work that was lost. All held means: the exit code and the one line that belong to
it; every row that is kept equals an undisturbed pass's; the same command, given again, completes,
with equal features; and no process, shared memory, temporary file or damaged part is left. What did
not hold is listed below the table, and the exit code is 1.

Every trial is a process of its own, forked before torch has started a thread. Passes are slowed and
their parts made small, so that a fault falls into every stage; `long` has parts as they are. `full`
needs to mount a small disk; elsewhere it is left out.
"""

import argparse
import contextlib
import errno
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from benchmarks.fault_injection import (
    Act,
    call_at,
    count_steps,
    error_at,
    fail_from,
    kill_at,
    only_so_large,
    signal_at,
    slow_passes,
)
from extract import FeatureStore, Recipe, Tap
from extract.store.ids import bytes_id

IMAGES = 96
NETWORK = ["--backbone", "squeezenet1_1", "--weights", "random", "--size", "32"]
NETWORK += ["--numerics", "float32", "--layers", "features.4,features.12", "--pooling", "avg"]
TAPS = [Tap("features.4", "avg"), Tap("features.12", "avg")]
HEADS = ["--heads", "knn", "--cv", "3", "--baselines", "off"]
PAUSE, PART_SECONDS = 0.05, 0.2
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
ENDS = (*SIGNALS.values(), "error")
NOISE = ("Traceback", "Warning", "Exception ignored", '  File "')
LONGEST = 120.0  # seconds, after which a process hangs
END_SECONDS = 3.0  # of a process that is told to end, on a machine that is busy

# prepares faults in the process, given how it tells of itself and the folder that it writes below
Setup = Callable[[Callable[[str], None], Path], None]


@dataclass(frozen=True)
class World:
    """The images, and what an undisturbed pass makes of them.

    expected : (n, d) rows in the order of the ids. seconds : of a pass. steps : of a pass's and of
    a whole run's writing.
    """

    folder: Path
    images: Path
    ids: np.ndarray
    recipe: Recipe
    expected: np.ndarray


@dataclass
class Ended:
    """How a process ended: its code, or minus the signal; its lines; what it told on its way."""

    code: int
    lines: list[str]
    told: list[str]
    began: float
    ended: float
    left: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return sum(line.startswith("step") for line in self.told)

    @property
    def progress(self) -> list[tuple[float, int]]:
        """When how many images were done."""
        words = [line.split() for line in self.told if line.startswith("done")]
        return [(float(when), int(count)) for _, when, count in words]


@dataclass
class Outcome:
    """What came of a trial: what did not hold, seconds to end in, seconds of work lost."""

    problems: list[str]
    end_seconds: float = 0.0
    lost_seconds: float = 0.0


class Child:
    """A process that does some work after `setups` have prepared its faults."""

    def __init__(self, work: "Work", world: World, folder: Path, *setups: Setup) -> None:
        self._told, telling = os.pipe()
        os.set_blocking(self._told, False)
        os.set_blocking(telling, False)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the child
        self.began = time.monotonic()
        self.pid = os.fork()
        if not self.pid:
            prepared = [partial(setup, folder=folder) for setup in setups]
            _be_child(partial(work, world, folder), prepared, telling, self._errors.fileno())
        os.close(telling)

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        text = b""
        while not (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            text += self._read()
            if time.monotonic() - self.began > LONGEST:
                self.send(signal.SIGKILL)
            time.sleep(0.002)
        ended = time.monotonic()
        text += self._read()
        os.close(self._told)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        self._errors.close()
        code = os.waitstatus_to_exitcode(found[1])
        return Ended(code, lines, text.decode().splitlines(), self.began, ended, self._left())

    def _read(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return os.read(self._told, 1 << 20)
        return b""

    def _left(self) -> list[str]:
        """Processes of its session, and shared memory that bears its number."""
        found = [path.name for path in Path("/dev/shm").glob(f"*{self.pid}*")]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                words = stat.read_text().rpartition(")")[2].split()
                if words[3] == str(self.pid) and words[0] != "Z":
                    found.append(f"process {stat.parent.name}")
        return found


def _be_child(
    work: Callable[[], int], setups: Sequence[Callable], telling: int, errors: int
) -> None:
    """What the forked process does; it never returns."""
    code = 70

    def tell(text: str) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(telling, f"{text}\n".encode())

    try:
        os.setsid()
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        for setup in setups:
            setup(tell)
        code = work()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def extraction(world: World, folder: Path) -> int:
    """The command `extract` into `folder/cache`."""
    command = import_module("pipelines.extract")
    return command.main([str(world.images), *NETWORK, "--cache", str(folder / "cache")])


def whole_run(world: World, folder: Path) -> int:
    """The command `run` into `folder/cache` and `folder/out`."""
    places = ["--cache", str(folder / "cache"), "--out", str(folder / "out")]
    return import_module("pipelines.run").main([str(world.images), *NETWORK, *HEADS, *places])


Work = Callable[[World, Path], int]


def answering(tell: Callable[[str], None], folder: Path) -> None:
    """Have signals answered as a command's own process answers them."""
    import_module("pipelines.stopping").watch_signals()


def make_images(folder: Path) -> Path:
    """Two classes of small photos, stripes upright and level."""
    for number in range(IMAGES):
        rng = np.random.default_rng(number)
        wave = 100 + 80 * np.sin(np.arange(48) / (2 + number % 12 * 0.3) + rng.uniform(0, 6))
        plane = np.tile(wave, (48, 1)) if number % 2 else np.tile(wave[:, None], (1, 48))
        plane = plane + np.kron(rng.normal(0, 18, (6, 6)), np.ones((8, 8)))
        pixels = np.clip(plane[..., None] + rng.normal(0, 10, (48, 48, 3)), 0, 255)
        path = folder / ("upright" if number % 2 else "level") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def make_world(folder: Path) -> World:
    """The images and an undisturbed pass over them."""
    images = make_images(folder / "images")
    paths = sorted(images.rglob("*.png"))
    ids = np.stack([np.frombuffer(bytes_id(path.read_bytes()), np.uint8) for path in paths])
    bare = World(folder, images, ids, Recipe("", "", "", ""), np.empty(0))
    done = Child(extraction, bare, folder / "expected").wait()
    if done.code:
        sys.exit("\n".join(done.lines))
    store = FeatureStore(folder / "expected" / "cache")
    recipe = find_recipe(store.cache)
    return World(folder, images, ids, recipe, store.read(recipe, TAPS, ids))


def find_recipe(cache: Path) -> Recipe:
    """The recipe of the network in a cache."""
    import json

    for path in cache.glob("*/recipe.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        names = set(Recipe.__dataclass_fields__)
        if "squeezenet1_1" in found.get("architecture", ""):
            return Recipe(**{name: value for name, value in found.items() if name in names})
    raise FileNotFoundError(f"no recipe of the network in {cache}")


def kept_rows(world: World, cache: Path) -> tuple[int, list[str]]:
    """How many images are kept with all taps, and whether any row is another than expected."""
    store = FeatureStore(cache)
    kept = ~store.missing(world.recipe, TAPS, world.ids).any(axis=1)
    if not kept.any():
        return 0, []
    found = store.read(world.recipe, TAPS, world.ids[kept])
    scale = np.abs(world.expected).max()
    apart = float(np.abs(found - world.expected[kept]).max() / scale)
    return int(kept.sum()), [f"kept rows differ by {apart:.1e}"] if not apart < 1e-5 else []


def leftovers(folder: Path) -> list[str]:
    """Temporary files, trial files and parts set aside."""
    return [
        f"{path.relative_to(folder)} is left"
        for path in folder.rglob("*")
        if path.name.startswith((".tmp-", ".test-", ".write-test")) or path.suffix == ".damaged"
    ]


def lost_work(ended: Ended, kept: int) -> float:
    """Seconds from the oldest work that is not kept to the end."""
    before = ended.began
    for when, count in ended.progress:
        if count > kept:
            return ended.ended - before
        before = when
    return 0.0


@dataclass
class Trial:
    """A fault that is tried, and what is to come of it.

    work : given a folder, a command. setups : of its faults. disturb : what is done to the process
    from outside. codes : that it may end with. clean : whether it can leave nothing half written.
    restore : done before the command is given again.
    """

    work: Work
    codes: tuple[int, ...]
    setups: Sequence[Setup] = ()
    disturb: Callable[[Child], None] = lambda child: None
    clean: bool = True
    restore: Callable[[], None] = lambda: None
    at: str = ""

    def run(self, world: World, folder: Path) -> Outcome:
        child = Child(self.work, world, folder, *self.setups)
        self.disturb(child)
        told = time.monotonic()
        ended = child.wait()
        problems = [f"{name} is left" for name in ended.left]
        if ended.code not in self.codes:
            problems.append(f"exit code {ended.code}, not {self.codes}: {ended.lines[-1:]}")
        problems += wrong_lines(ended)
        if self.clean:
            problems += leftovers(folder)
        kept, wrong = kept_rows(world, folder / "cache")
        problems += wrong
        self.restore()
        again = Child(self.work, world, folder).wait()
        if again.code:
            problems.append(f"again: exit code {again.code}: {again.lines[-1:]}")
        complete, wrong = kept_rows(world, folder / "cache")
        if complete < len(world.ids):
            problems.append(f"again: {complete} of {len(world.ids)} images are kept")
        problems += [f"again: {problem}" for problem in (*wrong, *again.left, *leftovers(folder))]
        return Outcome(
            [f"{self.at}: {problem}" for problem in problems],
            max(0.0, ended.ended - told),
            lost_work(ended, kept),
        )


def wrong_lines(ended: Ended) -> list[str]:
    """What should not be on stderr: more than the one line of its end, or noise."""
    ends = [line for line in ended.lines if line.startswith(tuple(f"{word}: " for word in ENDS))]
    noise = [line for line in ended.lines if any(word in line for word in NOISE)]
    wanted = 1 if ended.code > 0 else 0
    problems = [f"on stderr: {line}" for line in noise]
    if len(ends) != wanted or (wanted and ended.lines[-1:] != ends):
        problems.append(f"{len(ends)} last lines, not {wanted}: {ended.lines[-3:]}")
    if ended.code - 128 in SIGNALS and not ended.lines[-1].startswith(SIGNALS[ended.code - 128]):
        problems.append(f"the wrong word: {ended.lines[-1]}")
    return problems


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


@contextlib.contextmanager
def place(world: World) -> Iterator[Path]:
    """A folder of a trial's own."""
    with tempfile.TemporaryDirectory(dir=world.folder) as folder:
        yield Path(folder)


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
    for size in sorted({int(size) for size in np.geomspace(1, 2e6, min(tries.steps, 40))}):

        def hold(tell: Callable[[str], None], folder: Path, size: int = size) -> None:
            only_so_large(size)

        yield Trial(whole_run, (0, 1), [hold], at=f"{size} bytes")


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

                yield Trial(extraction, (1,), [slow, setup], at=f"{spot} {call} {error!r}")


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
    "images": images_harmed,
    "errors": errors,
}


def try_all(trials: Iterator[Trial], world: World) -> list[Outcome]:
    """Each trial in a folder of its own."""
    outcomes = []
    for trial in trials:
        with place(world) as folder:
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
    # more would wait for one another, actively
    import_module("torch").set_num_threads(1)
    threadpool_limits(1)
    problems = []
    print(f"{'fault':<18}{'tried':>7}{'held':>7}{'end, s':>10}{'lost, s':>10}")
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
