"""Modules that are imported when something of them is first used: some take longer than the work.

Of a second that importing scikit-learn takes, half goes on parts of SciPy that no head reads.
"""

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any


class Deferred:
    """Something of a module that is not imported yet; to call it or to read of it imports it."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _found(self) -> Any:
        return getattr(_real(self._module), self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As what it stands for."""
        return self._found()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._found(), name)


@contextlib.contextmanager
def deferred(names: Sequence[str]) -> Iterator[None]:
    """Inside, importing one of these modules gives a stand-in, whose contents are Deferred.

    On leaving, whoever imports them gets the modules themselves; who holds a stand-in has them by
    reading of it. What is imported already, or is not installed, stays as it is.

    Parameters
    ----------
    names : sequence of str
        Of modules, those around them first; finding one imports what it is a part of.

    Examples
    --------
    >>> import sys
    >>> with deferred(["sched"]):
    ...     from sched import scheduler
    >>> "sched" in sys.modules
    False
    >>> scheduler().empty()
    True
    >>> "sched" in sys.modules
    True
    """
    stand_ins = {}
    for name in names:
        stand_in = _find_stand_in(name)
        if stand_in is not None:
            stand_ins[name] = sys.modules[name] = stand_in
            _name_in_package(name, stand_in)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            _drop(name, stand_in)


class _StandIn(types.ModuleType):
    """What is found in a module's place."""


def _find_stand_in(name: str) -> _StandIn | None:
    if name in sys.modules:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # what it is a part of is not there
        return None
    if spec is None:
        return None
    stand_in = _StandIn(name)
    if spec.submodule_search_locations is not None:
        stand_in.__path__ = list(spec.submodule_search_locations)  # its parts can be imported
    stand_in.__getattr__ = partial(_read, stand_in)  # type: ignore[method-assign]  # PEP 562
    return stand_in


def _read(stand_in: _StandIn, name: str) -> Any:
    module = stand_in.__name__
    if name.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    if sys.modules.get(module) is stand_in:
        return Deferred(module, name)
    return getattr(_real(module), name)


def _name_in_package(name: str, stand_in: _StandIn) -> None:
    """As importing a part does: NumPy's would import itself again and again to find it."""
    package, _, part = name.rpartition(".")
    if package:
        setattr(sys.modules[package], part, stand_in)


def _drop(name: str, stand_in: types.ModuleType | None) -> None:
    if sys.modules.get(name) is stand_in:
        del sys.modules[name]
    package, _, part = name.rpartition(".")
    if package in sys.modules and vars(sys.modules[package]).get(part) is stand_in:
        delattr(sys.modules[package], part)


def _real(name: str) -> types.ModuleType:
    if isinstance(sys.modules.get(name), _StandIn):
        _drop(name, sys.modules[name])
    return importlib.import_module(name)
