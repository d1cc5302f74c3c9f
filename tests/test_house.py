"""The rooms import in one direction, at every depth, and what needs no torch takes none."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("data", "extract", "heads", "pipelines")
ALLOWED = {
    "data": set(),
    "heads": set(),
    "extract": {"data"},
    "pipelines": {"data", "extract", "heads"},
}
# inside pipelines: which of its own modules and folders each folder may import, beside itself
ARROWS = {
    "bundle": {"classifier", "errors", "exploration"},
    "evaluation": set(),
    "exploration": set(),
    "elsewhere": {"evaluation", "features"},
    "exploring": {
        *("errors", "evaluation", "exploration", "features", "findings", "job", "report"),
        *("results_folder", "samples", "settings", "stages", "threads"),
    },
    "exporting": {"bundle", "classifier", "errors", "exploration", "report"},
    "pixels": {"bundle", "errors", "evaluation", "features", "report", "results_folder"},
    "report": {"evaluation", "exploration", "errors"},
    # it makes a run, and more of it
    "tuning": {
        *("bundle", "classifier", "errors", "evaluation", "exploration", "features", "job"),
        *("outcome", "report", "results_folder", "samples", "settings", "stages", "threads"),
    },
    "stages": {
        *("bundle", "classifier", "errors", "evaluation", "explanation", "exploration"),
        *("features", "findings", "outcome", "parts", "report", "results_folder"),
        *("samples", "settings"),
    },
}
# other rooms that a folder of pipelines may import: these two work on arrays alone
ROOMS_BELOW = {
    "bundle": {"data", "extract", "heads"},
    "elsewhere": {"data", "extract"},
    "evaluation": {"heads"},
    "exploration": {"data"},
    "exploring": {"data", "extract", "heads"},
    "exporting": {"data", "extract", "heads"},
    "pixels": {"data", "extract", "heads"},
    "report": {"data", "extract"},
    "stages": {"data", "extract", "heads"},
    "tuning": {"data", "extract", "heads"},
}
COMMANDS = {
    *(
        "run",
        "tune",
        "explore",
        "segment",
        "extract",
        "predict",
        "export",
        "doctor",
        "fetch",
        "cache",
    ),
    "__main__",
}
# a package of the page's makers that is a command as well: its `__main__` alone is one
COMMAND_OF_A_FOLDER = Path("pipelines/report/__main__.py")
# weights that Keras wrote are HDF5 as well, and no features: the store has nothing to do with them
FILE_OF_KERAS = Path("extract/backbones/keras_file.py")
# one library, one room: where each may be imported
HOMES = {
    "torch": lambda place: place.parts[0] == "extract",
    "torchvision": lambda place: (
        place.parts[0] == "extract" or place == Path("data/torchvision_sets.py")
    ),
    "h5py": lambda place: place.parts[:2] == ("extract", "store") or place == FILE_OF_KERAS,
    "ray": lambda place: place.parts[:2] == ("extract", "sharding"),
    "argparse": lambda place: (
        (place.parts[0] == "pipelines" and len(place.parts) == 2) or place == COMMAND_OF_A_FOLDER
    ),
}
TEMPLATE = [
    file.relative_to(ROOT) for file in sorted((ROOT / "pipelines/report/template").iterdir())
]
PLACES = [file.relative_to(ROOT) for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def imported(place):
    """Dotted names of the modules that a file imports anywhere in it, but for types alone."""
    tree = ast.parse((ROOT / place).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_depth_is_looked_at():
    assert Path("pipelines/evaluation/leaderboard.py") in PLACES
    assert Path("extract/store/parts.py") in PLACES or len(PLACES) > 60


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_imports_point_one_way(place):
    room = place.parts[0]
    names = {name.split(".")[0] for name in imported(place)}
    assert names & set(ROOMS) - {room} <= ALLOWED[room]
    assert [name for name in names & set(HOMES) if not HOMES[name](place)] == []


@pytest.mark.parametrize(
    "place", [place for place in PLACES if place.parts[0] == "pipelines"], ids=str
)
def test_arrows_inside_pipelines(place):
    """Commands call the job, the job calls the folders; nothing calls back."""
    dotted = [name.split(".") for name in imported(place)]
    own = {name[1] for name in dotted if name[0] == "pipelines" and len(name) > 1}
    if len(place.parts) == 2:
        if place.stem not in COMMANDS:
            assert own & COMMANDS == set()
            assert "console" not in own or place.stem == "console"
        return
    folder = place.parts[1]
    if place == COMMAND_OF_A_FOLDER:
        own.discard("console")
    assert own - {folder} <= ARROWS[folder]
    assert {name[0] for name in dotted} & (set(ROOMS) - {"pipelines"}) <= ROOMS_BELOW[folder]


def test_the_wheel_holds_the_four_rooms_and_nothing_else(tmp_path):
    """Every file of every folder, no tests; the version that `--version` prints."""
    source = tmp_path / "source"
    source.mkdir()
    held_files = [*map(str, [*PLACES, *TEMPLATE])]
    names = [*held_files, "setup.cfg", "pyproject.toml", "README.md", "LICENSE"]
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    code = (
        "from setuptools import build_meta\n"
        f"print(build_meta.build_wheel({str(tmp_path)!r}), "
        f"file=open({str(tmp_path / 'name')!r}, 'w'))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, check=True)
    with zipfile.ZipFile(tmp_path / (tmp_path / "name").read_text().strip()) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == set(held_files)


@pytest.mark.parametrize(
    "code",
    [
        "import data",
        "import heads",
        "import extract",
        "import pipelines",
        "from heads import HEADS",
        "from data import Samples, read_images, open_image",
        "from pipelines import RunSettings",
        "from pipelines import TuneSettings",
        "from pipelines import ExploreSettings",
        *(
            f"import contextlib, pipelines.{name} as command\n"
            "with contextlib.suppress(SystemExit): command.main(['--help'])"
            for name in (
                "run",
                "explore",
                "tune",
                "segment",
                "extract",
                "predict",
                "report.__main__",
                "fetch",
                "cache",
                "__main__",
            )
        ),
    ],
)
def test_needs_no_torch(code):
    heavy = {"torch", "torchvision", "h5py", "sklearn", "fsspec"}
    check = f"import sys; assert not {heavy} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], check=True, cwd=ROOT, capture_output=True
    )


@pytest.mark.parametrize("room", ["data", "extract", "heads"])
def test_a_strangers_package_of_a_rooms_name_is_named(tmp_path, room):
    (tmp_path / f"{room}.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import pipelines"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode != 0
    assert str(tmp_path / f"{room}.py") in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", [["pipelines.run"], ["pipelines", "run"], ["pipelines.predict"]])
def test_a_strangers_module_beside_a_command_is_named_in_one_line(tmp_path, words):
    (tmp_path / "data.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", *words, "photos"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("error: the package 'data' of permafrost")
    assert str(tmp_path / "data.py") in done.stderr


@pytest.mark.parametrize("command", [*sorted(COMMANDS - {"__main__"}), "report", None])
def test_every_command_says_its_version(command):
    words = ["pipelines" if command is None else f"pipelines.{command}", "--version"]
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.startswith("permafrost 0.")
