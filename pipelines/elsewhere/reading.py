"""A table from elsewhere as Embeddings, whichever program made it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path

import numpy as np

from data import DataError
from data.names import listed_briefly
from pipelines.elsewhere.columns import read_features, read_text
from pipelines.elsewhere.embeddings import Embeddings
from pipelines.elsewhere.files import FEATURES, LABELS, NAMES, Columns, is_number, opened
from pipelines.elsewhere.folders import opened_folder
from pipelines.elsewhere.rows import read_labels


def list_embeddings(path: str | PathLike) -> dict[str, tuple[int, ...]]:
    """The arrays of a file or folder that may be features.

    Parameters
    ----------
    path : path
        As for `read_embeddings`.

    Returns
    -------
    dict of str to tuple of int
        (n, d) by name, as `read_embeddings(array=...)` takes it.

    Raises
    ------
    DataError
        As `read_embeddings` does.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/two.npz"
    >>> np.savez(path, early=np.zeros((5, 2)), late=np.zeros((5, 3)), y=np.arange(5))
    >>> list_embeddings(path)
    {'early': (5, 2), 'late': (5, 3)}
    """
    with _opened(path) as columns:
        return {name: column.shape for name, column in _matrices(columns).items()}


def read_embeddings(
    path: str | PathLike,
    array: str | None = None,
    labels: str | PathLike | Sequence | np.ndarray | None = None,
) -> Embeddings:
    """Features that another program made, with the names and labels of their rows.

    Parameters
    ----------
    path : path
        A .npy, .npz, .h5, .hdf5, .mat, .pt, .pth, .parquet, .csv or .txt file; or a folder as
        clip-retrieval (`img_emb/`, `metadata/`) or thingsvision (`features.npy` of each module
        beside `file_names.txt`) fills it. Names and labels are taken from arrays or columns that
        are called so, such as `filenames`, `image_path`, `id`, `label` or `y`; where there
        are groups, from the features' own or one that holds it. No pickled object is ever loaded.
    array : str, optional
        Which array or column is the features, where it isn't clear: one called `features`,
        `embeddings`, `embedding` or `X`, or else the only one with rows of numbers. In a Parquet or
        CSV file without vectors, all columns of numbers but the names and labels.
    labels : path or sequence of n str, optional
        A table of `path,label`, as `run --labels` reads it, whose paths are names of rows; or one
        label for each row. They take the place of the file's own. A label of `drop`, or none,
        leaves a row without one.

    Returns
    -------
    Embeddings
        In the file's order, as float32; float16 loses nothing.

    Raises
    ------
    DataError
        For a file that can't be read, several arrays to choose from, none of numbers, lengths that
        differ, a name that comes twice, a value that is not finite, and a table of labels that does
        not fit.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/one.npz"
    >>> np.savez(path, X=np.eye(3), ids=["a", "b", "c"], y=["cat", "dog", "cat"])
    >>> found = read_embeddings(path)
    >>> found
    Embeddings('one.npz', 'X': 3 rows of 3, 2 classes)
    >>> found.names, found.features.dtype
    (('a', 'b', 'c'), dtype('float32'))
    """
    with _opened(path) as columns:
        name = _choose(path, columns, array)
        column = columns[name]
        if not column.is_numeric:
            raise DataError(
                f"{path}: {name} is {column.in_words()}, expected real numbers; save it as "
                "float32, without objects"
            )
        names = _own(path, columns, NAMES, name)
        if labels is None:
            labels = _own(path, columns, LABELS, name)
            _check_classes(path, labels)
        features = read_features(column)
    if names is None:
        names = np.arange(len(features)).astype(str)
    row_names = names.tolist()
    return Embeddings(
        features,
        row_names,
        read_labels(path, labels, row_names),
        Path(path).name,
        name,
        column.dtype.name,
    )


def _opened(path: str | PathLike) -> AbstractContextManager[Columns]:
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder; expected one that holds embeddings")
    return opened_folder(path) if os.path.isdir(path) else opened(path)


def _matrices(columns: Columns) -> Columns:
    return {name: column for name, column in columns.items() if column.is_matrix}


def _choose(path: str | PathLike, columns: Columns, array: str | None) -> str:
    """The name of the array that is the features."""
    if array is not None:
        if array not in columns:
            raise DataError(f"{path} has no array {array!r}: expected one of {_in_words(columns)}")
        return array
    matrices = _matrices(columns)
    named = [
        name
        for own in FEATURES
        for name, column in columns.items()
        if _last(name) == own and (column.is_numeric or len(column.shape) > 1)
    ]
    if len(named) == 1:
        return named[0]
    candidates = [name for name in matrices if name in named] or list(matrices)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DataError(
            f"{path} has {len(candidates)} arrays that may be the features: "
            f"{_in_words({name: columns[name] for name in candidates})}; name one with "
            f"array={candidates[0]!r}"
        )
    raise DataError(
        f"{path} has no rows of numbers but {_in_words(columns) or 'nothing'}: expected an array "
        "(n, d), a row for each name"
    )


def _in_words(columns: Columns) -> str:
    return listed_briefly([f"{name} {column.in_words()}" for name, column in columns.items()])


def _last(name: str) -> str:
    """The name of an array within its group, as names are compared."""
    return name.rpartition("/")[2].lower()


def _beside(columns: Columns, known: Sequence[str], features: str) -> Iterator[str]:
    """Arrays of one axis by these names, of the features' own group first, then of its parents.

    Those of a group beside it are of other rows: `test/labels` says nothing of `train/features`.
    """
    group = features  # a module's columns in a folder lie under its own name
    while True:
        for own in known:
            for name, column in columns.items():
                if len(column.shape) == 1 and (_group(name), _last(name)) == (group, own):
                    yield name
        if not group:
            return
        group = _group(group)


def _group(name: str) -> str:
    """What a name has before its last slash; nothing of one at the root."""
    return name.rpartition("/")[0]


def _own(
    path: str | PathLike, columns: Columns, known: Sequence[str], features: str
) -> np.ndarray | None:
    """(n,) object: the names or labels that come with the features, as text, or None."""
    n = columns[features].shape[0]
    name = next(_beside(columns, known, features), None)
    if name is None:
        return None
    if columns[name].shape[0] != n:
        raise DataError(
            f"{path}: {name} has {columns[name].shape[0]} entries, and {features} {n} rows: "
            "expected one for each; make them anew together"
        )
    return read_text(columns[name])


def _check_classes(path: str | PathLike, labels: np.ndarray | None) -> None:
    """Raise DataError for a quantity: `y` may be a coordinate, and each row a class of its own."""
    said = [] if labels is None else [label for label in labels if label]
    if not all(map(is_number, said)):
        return
    odd = next((label for label in said if float(label) % 1 > 0), None)
    if odd is not None:
        raise DataError(
            f"{path}: what is called as labels are holds numbers with fractions, first {odd}: "
            "expected class names; call it otherwise, or give the classes with labels="
        )
