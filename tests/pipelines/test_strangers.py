"""A package of another's that has the name of one of ours is named, in one line."""

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

import pipelines


@pytest.fixture
def instead_of_heads(monkeypatch):
    """A function that has `heads` found by a spec."""
    find = importlib.util.find_spec

    def found(spec):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: spec if name == "heads" else find(name)
        )

    return found


def spec_of(origin, folders=None):
    spec = ModuleSpec("heads", None, origin=origin, is_package=folders is not None)
    if folders is not None:
        spec.submodule_search_locations = folders
    return spec


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (spec_of("/there/heads/__init__.py", ["/there/heads"]), "/there/heads/__init__.py"),
        (spec_of("/there/heads.py"), "/there/heads.py"),
        (spec_of(None, ["/here/heads"]), "/here/heads"),
        (None, "nothing"),
    ],
    ids=["package", "module", "folder without code", "none"],
)
def test_what_hides_a_package_of_ours_is_named(spec, named, instead_of_heads):
    instead_of_heads(spec)
    with pytest.raises(ImportError, match=f"'heads' of permafrost .* is hidden by {named}: rename"):
        pipelines._refuse_strangers()


def test_with_our_own_packages_nothing_is_said():
    pipelines._refuse_strangers()
