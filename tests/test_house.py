"""The rooms import in one direction, and what needs no torch takes none."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "data": set(),
    "heads": set(),
    "extract": {"data"},
    "pipelines": {"data", "extract", "heads"},
}
FILES = [file for room in ALLOWED for file in sorted((ROOT / room).glob("*.py"))]
# one library, one room: where each may be imported
HOMES = {
    "torch": lambda file: file.parent.name == "extract",
    "torchvision": lambda file: file.parent.name == "extract" or file.name == "torchvision_sets.py",
    "h5py": lambda file: file.parent.name == "store",
    "argparse": lambda file: file.parent.name == "pipelines",
}


def imported(file):
    """Top-level names that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_imports_point_one_way(file):
    names, room = set(imported(file)), file.parent.name
    assert names & set(ALLOWED) - {room} <= ALLOWED[room]
    assert [name for name in names & set(HOMES) if not HOMES[name](file)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import data",
        "import heads",
        "import extract",
        "import pipelines",
        "from heads import HEADS",
        "from data import Samples, read_images, open_image",
        *(
            f"import contextlib, pipelines.{name} as command\n"
            "with contextlib.suppress(SystemExit): command.main(['--help'])"
            for name in ("run", "extract", "predict", "__main__")
        ),
    ],
)
def test_needs_no_torch(code):
    check = "import sys; assert not {'torch', 'torchvision', 'h5py', 'sklearn'} & set(sys.modules), 'heavy'"
    subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], check=True, cwd=ROOT, capture_output=True
    )


def test_a_strangers_data_package_is_named(tmp_path):
    (tmp_path / "data.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import pipelines"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode != 0
    assert str(tmp_path / "data.py") in done.stderr.splitlines()[-1]
