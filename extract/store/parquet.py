"""Features as one Parquet table: a row for each image, a column of vectors for each tap."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from data.names import as_utf8
from extract.errors import ExtractError, StoreError
from extract.files import written_aside

ROW_GROUP_BYTES = 1 << 26  # of rows in memory at a time: each becomes a row group
SUFFIX = ".parquet"
KEY = "permafrost"  # among the table's metadata
COLUMNS = ("path", "label", "split")


def export_parquet(
    file: str | PathLike,
    features: Mapping[str, Any],
    paths: Sequence,
    labels: Sequence | np.ndarray | None = None,
    split: Sequence | np.ndarray | None = None,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write one Parquet table.

    Its columns are `path`, `label` and `split` where known, and one of vectors, of fixed length,
    for each tap. What a map's shape was, and the recipes, are JSON in the table's metadata, under
    `permafrost`.

    Parameters
    ----------
    file : path
        Replaced as a whole where it is there.
    features : {name: (n, d) array}
        Or (n, channels, height, width) maps, which are flattened; what is no array is asked for a
        slice of rows at a time.
    paths : n paths or names of the images
        Bytes of a file name that are no UTF-8 are escaped.
    labels, split : n each, or None
    recipes : {name: recipe as a mapping}, optional

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExtractError
        pyarrow is not installed.
    StoreError
        The file can't be written; what was there before still is.

    Examples
    --------
    >>> import pyarrow.parquet, tempfile
    >>> X = {"last:avg": np.eye(2, dtype=np.float32)}
    >>> file = f"{tempfile.mkdtemp()}/f.parquet"
    >>> path = export_parquet(file, X, ["a.jpg", "b.jpg"], ["cat", "dog"])
    >>> pyarrow.parquet.read_table(path).to_pylist()[0]
    {'path': 'a.jpg', 'label': 'cat', 'last:avg': [1.0, 0.0]}
    """
    check_pyarrow()
    import pyarrow
    import pyarrow.parquet

    words = {
        name: [as_utf8(str(word)) for word in own]
        for name, own in zip(COLUMNS, (paths, labels, split), strict=True)
        if own is not None and len(own)
    }
    widths = {name: math.prod(own.shape[1:]) for name, own in features.items()}
    shapes = {name: list(own.shape[1:]) for name, own in features.items()}
    said = json.dumps(
        {"shapes": shapes, "recipes": {k: dict(v) for k, v in (recipes or {}).items()}}
    )
    schema = pyarrow.schema(
        [(name, pyarrow.string()) for name in words]
        + [
            (name, pyarrow.list_(pyarrow.from_numpy_dtype(own.dtype), widths[name]))
            for name, own in features.items()
        ],
        metadata={KEY: said},
    )
    try:
        with (
            written_aside(Path(file)) as aside,
            pyarrow.parquet.ParquetWriter(aside, schema) as writer,
        ):
            for rows in _groups(len(paths), features):
                columns = [own[rows] for own in words.values()]
                for name, own in features.items():
                    values = pyarrow.array(np.ascontiguousarray(own[rows]).ravel())
                    columns.append(pyarrow.FixedSizeListArray.from_arrays(values, widths[name]))
                writer.write_table(pyarrow.table(columns, schema=schema))
    except OSError as error:
        raise StoreError(
            f"can't write {file}: {error.strerror or error}; make room there or name another file"
        ) from error
    return Path(file)


def check_pyarrow() -> None:
    """Raise ExtractError where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ExtractError(
            "Parquet is written by pyarrow, which is not installed: pip install "
            "'permafrost[parquet]', or name a file that ends in .h5"
        ) from error


def _groups(n: int, features: Mapping[str, Any]) -> Iterator[slice]:
    """Rows that are in memory together."""
    width = sum(math.prod(own.shape[1:]) * own.dtype.itemsize for own in features.values())
    step = max(1, ROW_GROUP_BYTES // max(1, width))
    for at in range(0, n, step):
        yield slice(at, min(at + step, n))
