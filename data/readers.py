"""Reads what the user names (a folder, a manifest, a named set) into Samples."""

import difflib
import os
from collections.abc import Callable

import numpy as np

from data.folders import read_image_folder
from data.images import FilePath
from data.manifests import MANIFESTS, is_manifest, read_manifest
from data.samples import DataError, Samples
from data.urls import as_place, is_url


def read_images(source: FilePath, labelled: bool = True, class_level: int | None = None) -> Samples:
    """The images of a folder, a manifest or a named set.

    Parameters
    ----------
    source : path or str
        A class-per-folder directory (`read_image_folder`), a .csv or .jsonl manifest
        (`read_manifest`), either by a path or by a URL of a file system that fsspec knows, or a
        named set such as "digits" (`read_named_set`). A named set wins over a folder of the same
        name; write "./digits" for the folder.
    labelled : bool, default=True
        Whether labels are read, and needed.
    class_level : int, optional
        As for `read_image_folder`; for folders alone.

    Returns
    -------
    Samples

    Raises
    ------
    DataError
        For a source of another kind, and as the reader of its kind does.

    Examples
    --------
    >>> read_images("digits")
    Samples('digits': 1797 images, 10 classes)
    """
    source = as_place(source)
    for is_such, read in READERS:
        if is_such(source):
            if class_level is None:
                return read(source, labelled)
            if read is read_image_folder:
                return read_image_folder(source, labelled, class_level)
            raise DataError(
                f"class_level={class_level}: {source} is no folder, and says itself which image is "
                "of which class; leave class_level out"
            )
    raise DataError(_unknown_source(source))


def read_named_set(name: str, labelled: bool = True) -> Samples:
    """The images of a set that is known by name, as pixels.

    Parameters
    ----------
    name : str
        "digits" (scikit-learn's 1,797 scans of 8 x 8), or "torchvision:NAME" with the name of a
        class in `torchvision.datasets`, which is downloaded where it is not there yet.
    labelled : bool, default=True
        Whether labels are read.

    Returns
    -------
    Samples
        With names such as "digits/0001" as paths.

    Raises
    ------
    DataError
        For a name that is not known, and for a set that can't be downloaded or read.

    Examples
    --------
    >>> read_named_set("digits").inputs.shape
    (1797, 8, 8, 3)
    """
    if not _is_named_set(name):
        raise DataError(_unknown_source(name))
    if name == "digits":
        return _digits(labelled)
    from data.torchvision_sets import read_torchvision_set

    return read_torchvision_set(name.removeprefix("torchvision:"), labelled=labelled)


def _digits(labelled: bool) -> Samples:
    # imported here: scikit-learn takes longer to import than a folder takes to read
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # scanned in 17 steps, 0 to 16
    gray = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return Samples(
        paths=tuple(f"digits/{number:04d}" for number in range(1, len(gray) + 1)),
        labels=bunch.target.astype(str) if labelled else None,
        pixels=np.repeat(gray[..., None], 3, axis=3),
        name="digits",
    )


def _is_folder(source: str) -> bool:
    # the reader of folders looks itself what is at a URL, and says why there is none
    return is_url(source) or os.path.isdir(source)


def _is_named_set(source: str) -> bool:
    return source == "digits" or source.startswith("torchvision:")


def _unknown_source(source: str) -> str:
    near = difflib.get_close_matches(source, ["digits"], 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    what = "is a file of another kind" if os.path.exists(source) else "no such file or folder"
    return (
        f"{source}: {what}{hint}; expected a folder of images, "
        f"a manifest ({', '.join(MANIFESTS)}), digits, or torchvision:NAME"
    )


# whether a source is of this kind, and what reads it; the first that fits is taken
READERS: tuple[tuple[Callable[[str], bool], Callable[..., Samples]], ...] = (
    (_is_named_set, read_named_set),
    (is_manifest, read_manifest),
    (_is_folder, read_image_folder),
)
