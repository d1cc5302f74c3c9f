"""A head's file: written by skops, read by a short list of kinds, without importing what it names.

skops itself would import what its own long list of trusted types names, all of scikit-learn, and
takes whatever memory the file's zip declares.
"""

import importlib
import io
import json
import math
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from heads.catalog import find_trusted
from pipelines.bundle.files import read_array

SMALL = 1 << 26  # bytes that any file may unpack to
MOST_RATIO = 20  # what fitted numbers are packed to at best; above SMALL no more is unpacked
MOST_NODES = 20_000
DEEPEST = 24
SCHEMA_FILE = "schema.json"
MOST_TEXT = 200  # of a parameter
MOST_LABEL = 8192
# what scikit-learn reads of an estimator beside its numbers: wrappers of output, routing
HIDDEN = ("__", "_sklearn", "_metadata")
VERSION = "_sklearn_version"
KEY_TYPES: dict[str, Callable] = {"int": int, "float": float}


def write_head(head: Any, file: Path) -> None:
    """Write a fitted head. Raises ValueError where its file would not be read again."""
    skops = _import_skops()
    skops.dump(head, file, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    read_head(file.read_bytes())


def _import_skops() -> Any:
    """Import skops without torch.

    It imports every module of scikit-learn, and one of those takes seconds to import torch where it
    is there; a None in `sys.modules` makes that import fail at once, as where it is not.
    """
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]  # what import reads as "not there"
    try:
        return importlib.import_module("skops.io")
    finally:
        if hide:
            del sys.modules["torch"]


def read_head(data: bytes) -> Any:
    """The estimator that a file's bytes hold; ValueError for whatever no head holds."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _refuse_bomb(archive, len(data))
            return _Reader(archive).read()
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except KeyError as error:
        raise ValueError(f"it lacks {str(error)[:80]}") from error
    # of zips: encrypted, of another method, cut short
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, TypeError) as error:
        raise ValueError(str(error)[:200] or type(error).__name__) from error


def _refuse_bomb(archive: zipfile.ZipFile, n_bytes: int) -> None:
    entries = archive.infolist()
    declared = sum(entry.file_size for entry in entries)
    most = SMALL + MOST_RATIO * n_bytes
    if len(entries) > MOST_NODES or declared > most:
        raise ValueError(
            f"it would unpack to {declared} bytes in {len(entries)} files, expected at most {most}"
        )
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
           for entry in entries):  # fmt: skip
        raise ValueError("it is packed in another way than skops does")


class _Reader:
    """Builds an estimator from the nodes of one file; arrays that two nodes name are shared."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.arrays: dict[str, np.ndarray] = {}
        self.left = MOST_NODES
        self.kinds: dict[str, Callable[[dict, int], Any]] = {
            "ObjectNode": self._object,
            "DictNode": self._dict,
            "ListNode": self._list,
            "TupleNode": lambda node, depth: tuple(self._list(node, depth)),
            "NdArrayNode": self._array,
            "JsonNode": lambda node, depth: _scalar(node["content"]),
        }

    def read(self) -> Any:
        return self._build(json.loads(self.archive.read(SCHEMA_FILE)), 0)

    def _build(self, node: Any, depth: int) -> Any:
        self.left -= 1
        if not isinstance(node, dict) or depth > DEEPEST or self.left < 0:
            raise ValueError("it holds more than a head does")
        loader = node["__loader__"]
        if not isinstance(loader, str) or loader not in self.kinds:
            raise ValueError(f"it holds {_type_name(node)}, which no head has")
        return self.kinds[loader](node, depth + 1)

    def _object(self, node: dict, depth: int) -> Any:
        kind = find_trusted(node["__module__"], node["__class__"])
        if kind is None:
            raise ValueError(f"it holds {_type_name(node)}, which no head has")
        state = self._build(node["content"], depth)
        if type(state) is not dict:
            raise ValueError(f"{kind.__name__} has a state of {type(state).__name__}")
        for name in state:
            plain = isinstance(name, str) and name.isidentifier() and not hasattr(kind, name)
            if name != VERSION and (not plain or name.startswith(HIDDEN)):
                raise ValueError(f"{kind.__name__} has no attribute {ascii(name)[:40]}")
        made: Any = object.__new__(kind)
        made.__setstate__(state)
        return made

    def _dict(self, node: dict, depth: int) -> dict:
        if not isinstance(node["content"], dict) or node["__class__"] != "dict":
            raise ValueError(f"it holds {_type_name(node)}, which no head has")
        kinds = _items(node["key_types"])
        if len(kinds) != len(node["content"]):
            raise ValueError("a dict has not a type for each of its keys")
        return {
            KEY_TYPES.get(kind["__class__"], str)(key): self._build(value, depth)
            for kind, (key, value) in zip(kinds, node["content"].items(), strict=True)
        }

    def _list(self, node: dict, depth: int) -> list:
        return [self._build(item, depth) for item in _items(node)]

    def _array(self, node: dict, depth: int) -> Any:
        if node["type"] == "json":  # labels of no fixed length
            self.left -= len(_items(node))
            labels = [_parse(item["content"], MOST_LABEL) for item in _items(node)]
            if not all(isinstance(label, str) for label in labels) or self.left < 0:
                raise ValueError("it holds an array of objects, which no head has")
            return np.array(labels, dtype=object)
        name = node["file"]
        if not isinstance(name, str):
            raise ValueError("it names no file of an array")
        if name not in self.arrays:
            self.arrays[name] = read_array(self.archive.read(name), "an array of it")
        array = self.arrays[name]
        # a number of numpy's own is kept as an array of no dimension
        return array if node["__class__"] == "ndarray" else array[()]


def _items(node: Any) -> list:
    content = node["content"] if isinstance(node, dict) else None
    if not isinstance(content, list):
        raise ValueError("a list of it is none")
    return content


def _scalar(text: Any) -> Any:
    value = _parse(text, MOST_TEXT)
    if isinstance(value, str) and value.isprintable():
        return value
    if value is None or (isinstance(value, (bool, int)) and abs(value) < 1 << 53):
        return value
    if isinstance(value, float) and not math.isnan(value):
        return value
    raise ValueError(f"a parameter is {ascii(text)[:40]}")


def _parse(text: Any, longest: int) -> Any:
    return json.loads(text) if isinstance(text, str) and len(text) <= longest else ()


def _type_name(node: dict) -> str:
    return ascii(f"{node.get('__module__')}.{node.get('__class__')}")[1:-1][:120]
