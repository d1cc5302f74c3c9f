"""What shows in a folder: its folders and images, known by their names alone."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import BinaryIO, TypeAlias

from data import remote
from data.urls import Place, as_place, is_url, real_path

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".jp2", ".j2k", ".j2c", ".jpx", ".jpf"),
    *(".apng", ".mpo"),
)
# taken where the module that reads them is installed
NEWER_SUFFIXES = {
    ".heic": "pillow_heif",
    ".heif": "pillow_heif",
    ".hif": "pillow_heif",
    ".avif": "PIL._avif",
    ".jxl": "imagecodecs",
}
Entry: TypeAlias = "os.DirEntry | remote.RemoteEntry"
# images of kinds that are not read
UNREAD_SUFFIXES = (
    *(".svg", ".psd", ".dcm", ".exr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2"),
    *(".orf", ".mp4", ".mov"),
)
# what programs leave beside images; hidden names are passed over besides
LEFT_BY_PROGRAMS = ("@eadir", "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "#recycle")
HIDDEN, BY_PROGRAMS = "hidden", "left by other programs"


class Kind(Enum):
    """What an entry of a folder is, by its name and without a look into it."""

    FOLDER = 0
    IMAGE = 1
    OTHER = 2
    LINK_ABOVE = 3  # to a folder in which it lies: what is there is met on another way


def why_hidden(name: str) -> str | None:
    """Why a name is not looked at, or None."""
    if name.startswith("."):
        return HIDDEN
    return BY_PROGRAMS if name.lower() in LEFT_BY_PROGRAMS else None


def kind_of(entry: Entry) -> Kind:
    """What an entry is; links are followed."""
    if entry.is_dir(follow_symlinks=False):
        return Kind.FOLDER
    # a link costs a stat, so only links pay for it
    if entry.is_symlink() and os.path.isdir(entry.path):
        target = os.path.join(os.path.realpath(entry.path), "")
        here = os.path.join(os.path.realpath(os.path.dirname(entry.path)), "")
        return Kind.LINK_ABOVE if here.startswith(target) else Kind.FOLDER
    return Kind.IMAGE if has_image_suffix(entry.name) else Kind.OTHER


def scan(folder: str) -> AbstractContextManager[Iterator[Entry]]:
    """What is in a folder, by a path or a URL; OSError where it can't be read."""
    return nullcontext(remote.scan(folder)) if is_url(folder) else os.scandir(folder)


def is_folder(place: str) -> bool:
    """Whether a path or a URL is that of a folder; what is below a URL is listed anew for it.

    Raises OSError for a URL that can't be asked for.
    """
    if not is_url(place):
        return os.path.isdir(place)
    if has_image_suffix(place):  # as a rule a file, and other files beside it are asked for next
        try:
            return remote.entry_of(place) is None
        except FileNotFoundError:
            return False
    return remote.list_below(place)


def is_local_folder(place: str) -> bool:
    """Whether a path is that of a folder; a URL is not asked for."""
    return not is_url(place) and os.path.isdir(place)


def is_there(place: str) -> bool:
    """Whether there is anything at a path or a URL; a link to nothing is there too."""
    if not is_url(place):
        return os.path.lexists(place)
    try:
        remote.entry_of(place)
    except OSError:  # why not is said where it is read
        return False
    return True


def open_file(place: Place) -> BinaryIO:
    """A file to read from its beginning; that of a URL is in memory. OSError where it can't be."""
    place = as_place(place)
    return BytesIO(remote.read_range(place, 0, None)) if is_url(place) else open(place, "rb")


def listed(folder: str, kind: Kind) -> Iterator[str]:
    """Names of one kind that show in a folder; none where it can't be read."""
    try:
        with scan(folder) as entries:
            for entry in entries:
                if why_hidden(entry.name) is None and kind_of(entry) is kind:
                    yield entry.name
    except OSError:  # told when it is read for its images
        return


def holds_image(folder: str) -> bool:
    """Whether an image lies in a folder itself."""
    return next(listed(folder, Kind.IMAGE), None) is not None


def has_images(folder: str) -> bool:
    """Whether any image lies below; the first that is met ends the search."""
    entered: set[str] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        real = real_path(here)
        if real in entered:
            continue
        entered.add(real)
        if holds_image(here):
            return True
        waiting += [os.path.join(here, sub) for sub in listed(here, Kind.FOLDER)]
    return False


def has_image_suffix(path: str) -> bool:
    """Whether a name ends as that of an image does that can be read here."""
    return os.path.splitext(path)[1].lower() in readable_suffixes()


@cache
def readable_suffixes() -> frozenset[str]:
    """SUFFIXES, and the newer ones for which a reader is installed."""
    newer = (suffix for suffix, module in NEWER_SUFFIXES.items() if find_spec(module))
    return frozenset({*SUFFIXES, *newer})
