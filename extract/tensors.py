"""Tensors that torch saved, as arrays; nothing but tensors, numbers and text is unpickled."""

import pickle
import zipfile
from os import PathLike
from typing import Any

import numpy as np

from extract.errors import ExtractError


def read_tensors(path: str | PathLike) -> dict[str, np.ndarray]:
    """What `torch.save` wrote: a tensor, or a dictionary of tensors and lists.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to ndarray
        By name; a tensor alone is `features`. bfloat16 comes as float32, without loss.

    Raises
    ------
    ExtractError
        The file is none of torch's, or holds objects of other kinds.

    Examples
    --------
    >>> import tempfile, torch
    >>> path = f"{tempfile.mkdtemp()}/one.pt"
    >>> torch.save(torch.eye(2), path)
    >>> read_tensors(path)["features"].shape
    (2, 2)
    """
    import torch

    # what an unpickler meets in bytes that are damaged, or none of torch's
    not_tensors = (
        *(pickle.UnpicklingError, RuntimeError, ValueError, EOFError),
        *(LookupError, TypeError, AttributeError, AssertionError),
    )
    try:
        # files of before torch 1.6 are no archives, and can't be mapped
        found = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except not_tensors as error:
        raise ExtractError(
            f"{path} is no file of tensors alone, and pickled objects are not loaded: expected "
            "what torch.save makes of a tensor; else save the array with numpy.save"
        ) from error
    named = found if isinstance(found, dict) else {"features": found}
    return {str(name): _as_array(value) for name, value in named.items()}


def _as_array(value: Any) -> np.ndarray:
    import torch

    if not isinstance(value, torch.Tensor):
        return np.array(value)
    value = value.detach()
    # numpy has no bfloat16
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
