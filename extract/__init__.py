"""The frozen networks, the one pass over the images, and the store of what it gives."""

from importlib import import_module
from typing import Any

# each public name and the file it lives in, loaded on first use: `import extract` takes no torch
_HOMES = {
    "Backbone": "backbones",
    "load_backbone": "backbones",
    "fetch_backbone": "backbones.fetching",
    "ExtractError": "errors",
    "Extraction": "extraction",
    "Interrupted": "forward_pass",
    "Plan": "forward_pass",
    "cache_contents": "store",
    "extract": "extraction",
    "read_features": "extraction",
    "recipe_of": "extraction",
    "FeatureExtractor": "extractor",
    "Tap": "pooling",
    "parse_taps": "pooling",
    "Preprocessing": "preprocessing",
    "Recipe": "recipe",
    "FeatureStore": "store",
    "MemoryStore": "store",
    "ReadOnlyStore": "store",
    "export_features": "store",
    "found_pictures": "thumbnails",
    "kept_pictures": "thumbnails",
    "kept_thumbnails": "thumbnails",
    "NewLayer": "tuning.new_layer",
    "Tuned": "tuning.tuning",
    "Tuning": "tuning.settings",
    "tune_network": "tuning.tuning",
    "prune_cache": "store",
    "verify_cache": "store",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
