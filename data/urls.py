"""Places named by a URL, such as s3://bucket/photos, and how names are joined to them."""

import os
import posixpath
import re
from collections.abc import Sequence
from typing import TypeAlias

from data.samples import DataError

Place: TypeAlias = str | os.PathLike

_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]*)://")
LOCAL = ("file", "local")  # protocols of this machine's own folders


def protocol_of(place: Place) -> str | None:
    """The protocol of a URL; None for a path, and for whatever is neither.

    Examples
    --------
    >>> protocol_of("s3://bucket/photos"), protocol_of("torchvision:MNIST")
    ('s3', None)
    """
    match = _URL.match(place) if isinstance(place, str) else None
    return match["protocol"].lower() if match else None


def is_url(place: Place) -> bool:
    """Whether something is a URL of another file system than this machine's."""
    return protocol_of(place) is not None


def has_urls(inputs: Sequence) -> bool:
    """Whether a list of inputs has URLs; a sequence that opens its images lazily is not asked."""
    return isinstance(inputs, list | tuple) and any(map(is_url, inputs))


def as_place(source: Place) -> str:
    """A path or URL as the rest of the code takes it.

    A folder of this machine that is named by a URL becomes its path, so that links, times and
    whatever else only a path has count as ever; of another URL a last slash is dropped. Raises
    DataError for a path behind `file://` that is none from the root on.

    Examples
    --------
    >>> as_place("file:///photos/cat"), as_place("s3://bucket/photos/"), as_place("photos/")
    ('/photos/cat', 's3://bucket/photos', 'photos/')
    """
    place = os.fspath(source)
    protocol = protocol_of(place)
    inside = place.partition("://")[2]
    if protocol in LOCAL:
        if not inside.startswith(("/", "localhost/")):
            raise DataError(f"{place}: no folder of this machine; expected {protocol}:///{inside}")
        return inside.removeprefix("localhost")
    return f"{protocol}://{inside.rstrip('/')}" if protocol else place


def join(folder: str, name: str) -> str:
    """A name below a folder, or itself where it is a whole path or URL.

    An object store knows no `..`, so it is worked out here where the folder is a URL.

    Examples
    --------
    >>> join("s3://bucket/tables", "../photos/1.jpg"), join("tables", "gs://bucket/1.jpg")
    ('s3://bucket/photos/1.jpg', 'gs://bucket/1.jpg')
    """
    if is_url(name):
        return as_place(name)
    if not is_url(folder) or os.path.isabs(name):
        return os.path.join(folder, name)
    protocol, _, inside = folder.partition("://")
    return f"{protocol}://{posixpath.normpath(posixpath.join(inside, name))}"


def parent_of(url: str) -> str:
    """The folder that a URL's file lies in."""
    return url.rpartition("/")[0]


def real_path(place: str) -> str:
    """As `os.path.realpath`; a URL is its own, since an object store knows no links."""
    return place if is_url(place) else os.path.realpath(place)
