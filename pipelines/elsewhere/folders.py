"""Folders that other programs fill with embeddings, known by what lies in them."""

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from data import DataError
from data.names import listed_briefly
from pipelines.elsewhere.columns import column_of, joined
from pipelines.elsewhere.files import NAMES, READERS, Columns, opened, suffix_of, telling

METADATA = "metadata"
# clip-retrieval's folders of shards, `img_emb/img_emb_0.npy`
CLIP_FOLDERS = ("img_emb", "text_emb")
# thingsvision's `features.npy`, `features_01.npy`, `features_train_0-640.npy`
THINGSVISION = re.compile(
    r"(?P<base>features(?:_[^.]*?)??)(?:_(?P<number>\d+(?:-\d+)?))?(?P<suffix>\.\w+)"
)
FILE_NAMES = "file_names.txt"
_DIGITS = re.compile(r"(\d+)\D*$")


@contextlib.contextmanager
def opened_folder(folder: str | PathLike) -> Iterator[Columns]:
    """The arrays of a folder by name, which can be read while the context lasts.

    Of clip-retrieval these are `img_emb` and `text_emb`, of thingsvision one for each module, the
    shards of each under one another; names are what the folder says of its rows.

    Raises DataError for a folder of neither layout.
    """
    with contextlib.ExitStack() as files:
        with telling(folder, "a folder"):
            found = _clip_retrieval(Path(folder), files) or _thingsvision(Path(folder), files)
        if not found:
            there = sorted(name for name in os.listdir(folder) if suffix_of(name) in READERS)
            raise DataError(
                f"{folder} is no folder of embeddings: expected img_emb or text_emb "
                f"(clip-retrieval), or features.npy beside {FILE_NAMES} (thingsvision), has "
                + (f"{listed_briefly(there)}; name one of these files" if there else "neither")
            )
        yield found


def _clip_retrieval(folder: Path, files: contextlib.ExitStack) -> Columns:
    shards = {
        name: _numbered(folder / name, ".npy") for name in CLIP_FOLDERS if (folder / name).is_dir()
    }
    shards = {name: own for name, own in shards.items() if own}
    found = {
        name: _open_shards(list(own.values()), files)["features"] for name, own in shards.items()
    }
    metadata = _numbered(folder / METADATA, ".parquet")
    for name, own in shards.items():
        # rows of a shard that is gone would be taken for those of the next
        if metadata and (odd := sorted(set(own) ^ set(metadata))):
            raise DataError(
                f"{folder}: shard {odd[0]} is not in both {name} and {METADATA}; copy the whole "
                "folder again"
            )
    if found and metadata:
        said = _open_shards(list(metadata.values()), files)
        # numbers that describe an image, such as its width, are no features of it
        found |= {key: column for key, column in said.items() if not column.is_matrix}
    return found


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """The files of a folder by the last number in their names, in its order."""
    paths = folder.glob(f"*{suffix}") if folder.is_dir() else ()
    numbered = {int(at[1]): path for path in paths if (at := _DIGITS.search(path.stem))}
    return dict(sorted(numbered.items()))


def _open_shards(paths: list[Path], files: contextlib.ExitStack) -> Columns:
    """The columns that all of the files have, joined."""
    columns = [files.enter_context(opened(path)) for path in paths]
    names = [path.name for path in paths]
    return {
        key: joined([own[key] for own in columns], names)
        for key in columns[0]
        if all(key in own for own in columns)
    }


def _thingsvision(folder: Path, files: contextlib.ExitStack) -> Columns:
    found: Columns = {}
    for home in (folder, *sorted(entry for entry in folder.iterdir() if entry.is_dir())):
        for base, paths in _tables(home).items():
            name = base
            if home != folder:  # a module of the network
                name = home.name if base == "features" else f"{home.name}/{base}"
            columns = _open_shards(paths, files)
            found |= {
                name if key == "features" else f"{name}/{key}": own for key, own in columns.items()
            }
    # written once for all modules
    listed = [home / FILE_NAMES for home in (folder, folder.parent)]
    there = next((path for path in listed if path.is_file()), None)
    if found and there is not None:
        lines = there.read_text("utf-8", "surrogateescape").splitlines()
        # it goes before names that a file has for its rows
        found = {
            key: own
            for key, own in found.items()
            if own.is_matrix or key.rpartition("/")[2].lower() not in NAMES
        }
        found["file_names"] = column_of(np.array(lines, object))
    return found


def _tables(home: Path) -> dict[str, list[Path]]:
    """The files of each table in a folder, shards in their order, by the table's name."""
    found: dict[str, dict[int | None, Path]] = defaultdict(dict)
    for path in sorted(home.iterdir()):
        match = THINGSVISION.fullmatch(path.name)
        if not match or match["suffix"] not in READERS:
            continue
        number = int(match["number"].partition("-")[0]) if match["number"] else None
        own = found[match["base"]]
        if number in own or (own and (number is None) != (None in own)):
            raise DataError(
                f"{home} holds {next(iter(own.values())).name} and {path.name}, which would be the "
                "same rows twice: leave one of them, or name a file"
            )
        own[number] = path
    return {
        base: [own[number] for number in sorted(own, key=lambda number: number or 0)]
        for base, own in found.items()
    }
