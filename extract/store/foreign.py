"""HDF5 files that other programs wrote, as arrays that are read where they are asked for."""

import contextlib
from collections.abc import Iterator
from os import PathLike
from typing import Any


@contextlib.contextmanager
def opened_hdf5(path: str | PathLike) -> Iterator[dict[str, Any]]:
    """The datasets of a file by their names, such as `features/last`, while the context lasts.

    What lies in other files (links out of this one, virtual and external datasets) is left out.

    Raises OSError where the file is no HDF5.

    Examples
    --------
    >>> import h5py, tempfile
    >>> path = f"{tempfile.mkdtemp()}/one.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["features/last"] = [[1.0, 2.0]]
    >>> with opened_hdf5(path) as found:
    ...     {name: values.shape for name, values in found.items()}
    {'features/last': (1, 2)}
    """
    import h5py

    found = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not (item.is_virtual or item.external):
            found[name] = item

    with h5py.File(path, "r") as file:
        file.visititems(note)  # goes along hard links alone
        yield found
