"""The rooms put together: image classifier, evaluation, bundle and command lines."""

import importlib.util
from importlib import import_module
from pathlib import Path

_HOMES = {
    "BundleError": "bundle",
    "load_classifier": "bundle",
    "save_classifier": "bundle",
    "ImageClassifier": "classifier",
    "make_leaderboard": "evaluate",
}
__all__ = sorted(_HOMES)


def _refuse_strangers():
    """`data` is a common name: say so at once where another package of that name hides ours."""
    found = importlib.util.find_spec("data")
    ours = Path(__file__).parent.parent / "data" / "__init__.py"
    if found is None or found.origin is None or Path(found.origin).resolve() != ours.resolve():
        raise ImportError(
            f"the package 'data' of permafrost ({ours}) is hidden by {found.origin if found else 'nothing'}: "
            "rename that one, or start from another folder"
        )


_refuse_strangers()


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_HOMES})
