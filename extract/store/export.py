"""Features as one plain HDF5 file that any other program reads."""

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import StoreError
from extract.files import written_aside
from extract.store.outline import Sketch, room_alone

BLOCK = 1 << 26  # bytes of rows in memory at a time


def export_features(
    file: str | PathLike,
    features: Mapping[str, Any],
    paths: Sequence,
    labels: Sequence | np.ndarray | None = None,
    classes: Sequence = (),
    split: Sequence | np.ndarray | None = None,
) -> Path:
    """Write one plain HDF5 file.

    It holds `features/<tap>`, `paths`, and `labels`, `classes`, `split` where known; text is UTF-8.

    Parameters
    ----------
    file : path
        Replaced as a whole where it is there.
    features : {name: (n, d) array}
        Or (n, channels, height, width) maps; what is no array is asked for a slice of rows at a
        time.
    paths : n paths or names of the images
    labels, split : n each, or None
    classes : the labels' names, in their order

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        The file can't be written; what was there before still is.

    Examples
    --------
    >>> import h5py, numpy as np, os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> X = {"last:avg": np.eye(2, dtype=np.float32)}
    >>> path = export_features(f"{folder}/f.h5", X, ["a.jpg", "b.jpg"], ["cat", "dog"])
    >>> with h5py.File(path) as f:
    ...     print(f["features/last:avg"][:].shape, f["labels"].asstr()[:].tolist())
    (2, 2) ['cat', 'dog']
    """
    import h5py

    texts = {"paths": paths, "labels": labels, "classes": classes, "split": split}
    sketch = Sketch()
    places = []
    with h5py.File(sketch, "w") as out:
        for name, values in features.items():
            place = out.create_dataset(
                f"features/{name}", values.shape, values.dtype, dcpl=room_alone()
            )
            places.append((place.id.get_offset(), values))
        for name, words in texts.items():
            if words is not None and len(words):
                encoded = [_encoded(word) for word in words]
                out.create_dataset(name, data=encoded, dtype=h5py.string_dtype())
    try:
        _write(Path(file), sketch, places)
    except OSError as error:
        raise StoreError(
            f"can't write {file}: {error.strerror or error}; make room there or name another file"
        ) from error
    return Path(file)


def _write(file: Path, sketch: Sketch, places: Sequence[tuple[int | None, Any]]) -> None:
    with written_aside(file) as aside, open(aside, "wb") as written:
        for place, piece in sketch.pieces:
            written.seek(place)
            written.write(piece)
        for offset, values in places:
            if offset is None:  # no values, no room
                continue
            step = max(1, BLOCK // (math.prod(values.shape[1:]) * values.dtype.itemsize))
            written.seek(offset)
            for at in range(0, len(values), step):
                written.write(np.ascontiguousarray(values[at : at + step]).data)
        written.truncate(sketch.size)


def _encoded(value: Any) -> bytes:
    """Bytes of a file name that are no UTF-8 come through as they are."""
    return str(value).encode("utf-8", "surrogateescape")
