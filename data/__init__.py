"""Which images there are, their labels, groups and splits, and how a file becomes RGB pixels."""

from importlib import import_module
from typing import Any

# each public name and the file it lives in, loaded on first use so that `import data` stays light
_HOMES = {
    "DataError": "samples",
    "Samples": "samples",
    "correct_labels": "corrections",
    "label_samples": "corrections",
    "read_corrections": "corrections",
    "find_images": "folders",
    "read_image_folder": "folders",
    "read_images": "readers",
    "read_manifest": "manifests",
    "read_named_set": "readers",
    "ImageError": "images",
    "dct_scale": "images",
    "read_mask": "masks",
    "read_mask_folder": "masks",
    "write_mask": "masks",
    "Reading": "reading",
    "decode": "images",
    "decode_noted": "images",
    "find_intensity": "intensity",
    "settle_reading": "intensity",
    "is_flat": "values",
    "open_image": "images",
    "read_bytes": "images",
    "folds": "splits",
    "hold_out": "splits",
    "make_folds": "splits",
    "split_rows": "splits",
    "make_thumbnail": "thumbnails",
    "make_picture": "thumbnails",
    "read_thumbnails": "thumbnails",
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
