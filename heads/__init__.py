"""Classical classifiers on plain (n, d) feature arrays."""

from importlib import import_module

_EXPORTS = {
    "HEADS": "catalog",
    "make_head": "catalog",
    "HeadSearchCV": "search",
    "head_scores": "search",
    "Calibration": "calibration",
    "fit_calibration": "calibration",
    "oof_probabilities": "calibration",
    "Blend": "blend",
    "blend_candidates": "blend",
    "screen_features": "screen",
}
__all__ = [*_EXPORTS]


def __getattr__(name):
    """Import an exported name on its first use (PEP 562), so that `import heads` takes no scikit-learn."""
    if name not in _EXPORTS:
        raise AttributeError(
            f"module 'heads' has no attribute {name!r}; it exports {', '.join(_EXPORTS)}"
        )
    return getattr(import_module(f"heads.{_EXPORTS[name]}"), name)


def __dir__():
    return sorted([*globals(), *_EXPORTS])
