"""A trial of `benchmarks.faults`: a process that is hindered, what it leaves, and the next one."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from extract import FeatureStore, Recipe, Tap
from extract.store.ids import bytes_id

IMAGES = 96
NETWORK = ["--backbone", "squeezenet1_1", "--weights", "random", "--size", "32"]
NETWORK += ["--numerics", "float32", "--layers", "features.4,features.12", "--pooling", "avg"]
TAPS = [Tap("features.4", "avg"), Tap("features.12", "avg")]
HEADS = ["--heads", "knn", "--cv", "3", "--baselines", "off"]
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
ENDS = (*SIGNALS.values(), "error")
NOISE = ("Traceback", "Warning", "Exception ignored", '  File "')
LONGEST = 120.0  # seconds, after which a process hangs

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
    disk_bytes: int = 0  # of a disk of its own

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
        if self.disk_bytes:
            mount(folder, "remount,size=1g")
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


@contextlib.contextmanager
def place(world: World, disk_bytes: int = 0) -> Iterator[Path]:
    """A folder of a trial's own, on a disk of its own where so many bytes are given."""
    with tempfile.TemporaryDirectory(dir=world.folder) as folder:
        if disk_bytes:
            mount(Path(folder), f"size={disk_bytes}")
        try:
            yield Path(folder)
        finally:
            if disk_bytes:
                subprocess.run(["umount", folder], check=True)


def mount(folder: Path, options: str) -> None:
    """A disk in memory."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    subprocess.run(command, check=True, capture_output=True)
