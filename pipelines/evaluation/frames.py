"""Tables as pandas frames, where pandas is installed; nothing here needs it before it is asked."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any


def make_frame(columns: Mapping[str, Any], index: Any = None) -> Any:
    """A pandas DataFrame of columns in their order.

    Parameters
    ----------
    columns : mapping of str to sequence of length n
    index : index of length n, optional
        By default 0 to n - 1.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ImportError
        Where pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise ImportError(
            "a frame was asked for and pandas is not installed: pip install pandas"
        ) from error
    return pandas.DataFrame(dict(columns), index=index)


def probability_columns(classes: Iterable, probabilities: Any) -> dict[str, Any]:
    """`probability_CLASS` of each class: (n, classes) probabilities by column."""
    return {f"probability_{name}": own for name, own in zip(classes, probabilities.T, strict=True)}
