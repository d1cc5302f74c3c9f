"""The rooms put together: a run as one call, the image classifier, its bundle, command lines."""

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from pipelines.stopping import watch_signals

# `python -m pipelines.COMMAND`
_IS_COMMAND = sys.argv[:1] == ["-m"] and any(word.startswith("pipelines") for word in sys.orig_argv)
if _IS_COMMAND:
    watch_signals()  # a Ctrl-C is answered before what takes a second to import

_HOMES = {
    "BundleError": "errors",
    "Embeddings": "elsewhere.embeddings",
    "ExploreResult": "exploring.outcome",
    "ExploreSettings": "exploring.settings",
    "ExportResult": "exporting.job",
    "FineTuneClassifier": "tuning.classifier",
    "ImageClassifier": "classifier",
    "PixelClassifier": "pixels.classifier",
    "RunResult": "outcome",
    "RunSettings": "settings",
    "SegmentResult": "pixels.job",
    "SegmentSettings": "pixels.settings",
    "TuneResult": "tuning.outcome",
    "TuneSettings": "tuning.settings",
    "compare_embeddings": "elsewhere.comparison",
    "explore_job": "exploring.job",
    "export_job": "exporting.job",
    "keep_embeddings": "elsewhere.kept",
    "list_embeddings": "elsewhere.reading",
    "load_classifier": "bundle",
    "load_pixels": "pixels.kept",
    "read_embeddings": "elsewhere.reading",
    "run_job": "job",
    "save_classifier": "bundle",
    "save_pixels": "pixels.kept",
    "segment_job": "pixels.job",
    "tune_job": "tuning.job",
}
__all__ = sorted(_HOMES)
ROOMS = ("data", "extract", "heads", "pipelines")


def _refuse_strangers() -> None:
    """The rooms have common names: say so at once where another package of that name hides ours."""
    root = Path(__file__).parent.parent
    for room in ROOMS:
        found = importlib.util.find_spec(room)
        origin = found.origin if found else None
        # a folder without code has none, and comes before a package that is installed editable
        folders = (found and found.submodule_search_locations) or ["nothing"]
        ours = root / room / "__init__.py"
        if origin is None or Path(origin).resolve() != ours.resolve():
            said = (
                f"the package {room!r} of permafrost ({ours}) is hidden by {origin or folders[0]}: "
                "rename that one, or start from another folder"
            )
            if _IS_COMMAND:  # no command module is there yet to make one line of an error
                print(f"error: {said}", file=sys.stderr)
                sys.exit(2)
            raise ImportError(said)


_refuse_strangers()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
