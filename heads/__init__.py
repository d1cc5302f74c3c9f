"""Classical classifiers on plain (n, d) feature arrays."""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "HEADS": "catalog",
    "Head": "catalog",
    "make_head": "catalog",
    "HeadSearchCV": "search",
    "as_logits": "calibration",
    "head_logits": "scores",
    "head_scores": "scores",
    "Calibration": "calibration",
    "fit_calibration": "calibration",
    "oof_probabilities": "calibration",
    "Blend": "blend",
    "blend_candidates": "blend",
    "screen_features": "screen",
    "screen_probabilities": "screen",
}
__all__ = [*_EXPORTS]


def __getattr__(name: str) -> Any:
    """Import an exported name on its first use (PEP 562): `import heads` takes no scikit-learn."""
    if name not in _EXPORTS:
        raise AttributeError(
            f"module 'heads' has no attribute {name!r}; it exports {', '.join(_EXPORTS)}"
        )
    return getattr(import_module(f"heads.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
