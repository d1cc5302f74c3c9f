"""The frozen networks, the one pass over the images, and the store of what it gives."""

from importlib import import_module

# each public name and the file it lives in, loaded on first use so that `import extract` takes no torch
_HOMES = {
    "Backbone": "backbones",
    "load_backbone": "backbones",
    "ExtractError": "errors",
    "Extraction": "extraction",
    "Interrupted": "extraction",
    "Plan": "extraction",
    "extract": "extraction",
    "read_features": "extraction",
    "recipe_of": "extraction",
    "FeatureExtractor": "extractor",
    "Speed": "speed",
    "machine": "speed",
    "made_up_photos": "speed",
    "measure_speed": "speed",
    "MemoryStore": "memory",
    "Tap": "pooling",
    "parse_taps": "pooling",
    "Preprocessing": "preprocessing",
    "Recipe": "recipe",
    "FeatureStore": "store",
    "export_features": "store",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_HOMES})
