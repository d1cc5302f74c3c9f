"""Features as one plain HDF5 file that any other program reads."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from extract.files import written_aside


def export_features(
    file: str | PathLike,
    features: Mapping[str, np.ndarray],
    paths: Sequence,
    labels: Sequence | np.ndarray | None = None,
    classes: Sequence = (),
    split: Sequence | np.ndarray | None = None,
) -> Path:
    """Write one plain HDF5 file: `features/<tap>`, `paths`, and `labels`, `classes`, `split` where known.

    Text is stored as UTF-8.

    Parameters
    ----------
    file : path
        Replaced as a whole where it is there.
    features : {name: (n, d) array}
    paths : n paths or names of the images
    labels, split : n each, or None
    classes : the labels' names, in their order

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> import h5py, numpy as np, os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> X = np.eye(2, dtype=np.float32)
    >>> path = export_features(f"{folder}/f.h5", {"last:avg": X}, ["a.jpg", "b.jpg"], ["cat", "dog"])
    >>> with h5py.File(path) as f:
    ...     print(f["features/last:avg"][:].shape, f["labels"].asstr()[:].tolist())
    (2, 2) ['cat', 'dog']
    """
    text = h5py.string_dtype()
    texts = {"paths": paths, "labels": labels, "classes": classes, "split": split}
    with written_aside(Path(file)) as aside, h5py.File(aside, "w") as out:
        for name, values in features.items():
            out.create_dataset(f"features/{name}", data=values)
        for name, words in texts.items():
            if words is not None and len(words):
                out.create_dataset(name, data=[_encoded(word) for word in words], dtype=text)
    return Path(file)


def _encoded(value: Any) -> bytes:
    """Bytes of a file name that are no UTF-8 come through as they are."""
    return str(value).encode("utf-8", "surrogateescape")
