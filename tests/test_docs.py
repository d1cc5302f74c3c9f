"""Docstrings: their examples run, they name every parameter, and what is exported is on a page."""

import dataclasses
import doctest
import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

numpydoc = pytest.importorskip("numpydoc.docscrape")

ROOT = Path(__file__).parent.parent
ROOMS = ("data", "extract", "heads", "pipelines")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```(?:python|sh)\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
EXPORTS = [(room, name) for room in ROOMS for name in sorted(import_module(room).__all__)]


def modules():
    for room in ROOMS:
        package = import_module(room)
        for found in pkgutil.walk_packages(package.__path__, f"{room}."):
            # importing it would start the command line
            if not found.name.endswith("__main__"):
                yield import_module(found.name)


def test_the_examples_of_all_docstrings_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    found = {module.__name__: doctest.testmod(module, optionflags=flags) for module in modules()}
    assert {name: tally.failed for name, tally in found.items() if tally.failed} == {}
    assert sum(tally.attempted for tally in found.values()) > 0


def listed(doc, *sections):
    """Names in these sections of a docstring; `x, y : type` is two."""
    rows = [row.name for section in sections for row in doc[section]]
    return [name.strip().lstrip("*") for text in rows for name in text.split(",")]


def parameters_of(value):
    """Names of a signature, without `self` and what is private."""
    names = list(inspect.signature(value).parameters)
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def complaints(value):
    """What the docstring of a class or function leaves out."""
    doc = numpydoc.NumpyDocString(inspect.getdoc(value) or "")
    if not doc["Summary"]:
        return ["no summary"]
    if inspect.isclass(value) and issubclass(value, BaseException):
        # raised by us alone, and read by its message
        return []
    found = []
    given = listed(doc, "Parameters", "Other Parameters")
    if dataclasses.is_dataclass(value):
        # a result is made by us alone: its fields are attributes to who reads it
        given += listed(doc, "Attributes")
    wanted = parameters_of(value)
    if missing := [name for name in wanted if name not in given]:
        found.append(f"parameters not described: {', '.join(missing)}")
    if not dataclasses.is_dataclass(value) and (strange := set(given) - set(wanted)):
        found.append(f"parameters that do not exist: {', '.join(sorted(strange))}")
    if inspect.isfunction(value) and gives(value) and not (doc["Returns"] or doc["Yields"]):
        found.append("no Returns")
    return found


def gives(function):
    return inspect.signature(function).return_annotation not in (None, "None")


def undescribed_methods(value):
    """The public methods of a class's own that have no docstring."""
    own = vars(value) if inspect.isclass(value) else {}
    public = {name: member for name, member in own.items() if not name.startswith("_")}
    return [
        name
        for name, member in public.items()
        if inspect.isfunction(member) and not inspect.getdoc(getattr(value, name))
    ]


@pytest.mark.parametrize(("room", "name"), EXPORTS)
def test_every_exported_name_has_a_whole_docstring(room, name):
    value = getattr(import_module(room), name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    assert complaints(value) == []
    assert undescribed_methods(value) == []


@pytest.mark.parametrize(("room", "name"), EXPORTS)
def test_every_exported_name_is_shown_in_a_page(room, name):
    """A public name is used in the README or a guide, or it is private."""
    word = re.compile(rf"\b{name}\b")
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    code = [match[1] or match[2] for text in texts for match in CODE.finditer(text)]
    assert any(word.search(each) for each in code)
