"""Tests of extract/deferred.py."""

import sys

import pytest

from extract.deferred import deferred


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `slow` that says when it is imported, and its part `slow.part`."""
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "def twice(n):\n    return 2 * n\nclass Kept:\n    at = 7\n"
    )
    (folder / "part.py").write_text("thrice = lambda n: 3 * n\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "slow"
    for name in ("slow", "slow.part"):
        sys.modules.pop(name, None)


def test_what_is_not_used_is_not_imported(package):
    with deferred([package]):
        import slow
        from slow import Kept, twice
    assert package not in sys.modules
    assert twice(4) == 8
    assert Kept.at == 7
    assert slow.Kept is sys.modules[package].Kept


def test_used_inside_it_is_the_module_from_then_on(package):
    with deferred([package]):
        from slow import twice

        assert twice(1) == 2
        from slow import Kept
    assert Kept is sys.modules[package].Kept


def test_a_part_of_it_can_be_imported_by_itself(package):
    with deferred([package]):
        from slow.part import thrice
    assert package not in sys.modules
    assert thrice(2) == 6


def test_what_is_imported_already_or_is_not_there_stays(package):
    import slow

    with deferred([package, "nowhere", "nowhere.part"]):
        assert sys.modules[package] is slow
        with pytest.raises(ModuleNotFoundError):
            import nowhere  # noqa: F401
    assert sys.modules[package] is slow


def test_a_name_that_is_not_there_says_so(package):
    with deferred([package]):
        from slow import no_such_name
    with pytest.raises(AttributeError, match="no_such_name"):
        no_such_name()
