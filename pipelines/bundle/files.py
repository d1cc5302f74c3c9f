"""The files of a bundle: their sizes and digests, and how they are read by them."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import BundleError

MODEL = "model"  # a bundle's name in the folder of its run
FILE = "bundle.json"
HEAD = "head.skops"
ROWS = "rows.npy"
PLACES = "places.npy"
WEIGHTS = "weights.safetensors"
DIGEST_BYTES = 32
BLOCK = 1 << 20
# what file browsers and NAS boxes put into every folder; never opened
PASSED_OVER = {".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir"}
OPEN = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
)
# what numpy.save writes of a plain array, and nothing else
NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|][a-zA-Z]\d{1,5})', 'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,15},|\d{1,15}(?:, \d{1,15})+)\), \} *\n"
)
NPY_KINDS = "biufU"


def numbered(name: str, number: int) -> str:
    """`head.skops` -> `head-1.skops`."""
    stem, ending = name.split(".")
    return f"{stem}-{number}.{ending}"


def digest_of(data: bytes) -> str:
    """Hex BLAKE2b of bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def describe_files(folder: Path) -> dict[str, dict]:
    """Size and digest of every file of a folder, by name."""
    return {
        file.name: {"bytes": file.stat().st_size, "blake2b": _digest_file(file)}
        for file in sorted(folder.iterdir())
    }


def _digest_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)
        ).hexdigest()


def refuse_others(folder: Path, names: Iterable[str]) -> None:
    """BundleError for what lies in the folder and no run wrote there, or is no plain file."""
    listed = {FILE, *names}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in PASSED_OVER:
                continue
            if entry.name not in listed:
                raise BundleError(
                    f"{folder} holds {entry.name[:80]!r}, which no run wrote there: "
                    "remove it, or copy the whole bundle again"
                )
            if not entry.is_file(follow_symlinks=False):
                raise BundleError(
                    f"{folder / entry.name} is no plain file: copy the whole bundle again"
                )


def read_file(folder: Path, name: str, row: Mapping[str, Any]) -> bytes:
    """A file's bytes; BundleError where they are not those that were written."""
    data = read_bytes(folder / name, row["bytes"])
    if len(data) != row["bytes"]:
        raise BundleError(
            f"{folder / name} has {len(data)} bytes, expected {row['bytes']}: "
            "copy the whole bundle again"
        )
    _compare(folder / name, digest_of(data), row)
    return data


def check_file(folder: Path, name: str, row: Mapping[str, Any]) -> None:
    """As `read_file`, for a file that another library reads: in blocks, and nothing is kept."""
    read_bytes(folder / name, 0)
    _compare(folder / name, _digest_file(folder / name), row)


def _compare(path: Path, found: str, row: Mapping[str, Any]) -> None:
    if found != row["blake2b"]:
        raise BundleError(
            f"{path} is not what was written (its checksum differs): copy the whole bundle again"
        )


def read_bytes(path: Path, most: int) -> bytes:
    """A plain file's bytes, at most one more than `most`; links, pipes and devices are refused."""
    try:
        handle = os.open(path, OPEN)
        with open(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise BundleError(f"{path} is no plain file: copy the whole bundle again")
            return file.read(min(most, found.st_size) + 1)
    except OSError as error:
        if not path.parent.exists():
            raise BundleError(
                f"{path.parent}: there is no such folder; expected one that a model was saved in"
            ) from error
        reason = error.strerror or str(error)
        raise BundleError(f"can't read {path}: {reason}; copy the whole bundle again") from error


def read_array(data: bytes, where: str) -> np.ndarray:
    """An array of a `.npy` file's bytes; ValueError for all but plain numbers and text.

    numpy's own reader takes memory for the shape that a header names before it looks whether the
    bytes are there.
    """
    if data[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError(f"{where} is no .npy file")
    start = 10 + int.from_bytes(data[8:10], "little")
    match = NPY_HEADER.fullmatch(data[10:start])
    if match is None:
        raise ValueError(f"{where} has a header that numpy.save does not write")
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(side) for side in match[3].decode().split(",") if side)
    count = 1
    for side in shape:
        count *= side
    if dtype.kind not in NPY_KINDS or count * dtype.itemsize != len(data) - start:
        raise ValueError(
            f"{where} names {dtype.str} numbers of shape {shape} and holds {len(data) - start} "
            "bytes"
        )
    flat = np.frombuffer(data, dtype, count, start) if count else np.empty(0, dtype)
    flat = flat.astype(dtype.newbyteorder("="))
    return flat.reshape(shape[::-1]).T if match[2] == b"True" else flat.reshape(shape)
