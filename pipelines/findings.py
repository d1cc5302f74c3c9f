"""What runs found, remembered under all that decides it, so that nothing is searched twice."""

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from extract.files import (
    LONGEST_REMEMBERED,
    note_use,
    read_remembered,
    remove_abandoned,
    write_remembered,
)

log = logging.getLogger(__name__)

FOLDER = "found"
# where the code lies that makes results or what they are made of; which of it does is not guessed
ROOMS = ("data", "extract", "heads", "pipelines")
LIBRARIES = ("numpy", "scipy", "scikit-learn")
ARRAY = "array"


class Findings:
    """Remembered results, a file each below a cache.

    A file's name is the digest of what decides its result: what it is given as such, the source
    code that computes results, and the libraries' versions. A file that is not as it was written is
    not believed, and one that can't be written is done without.

    Parameters
    ----------
    folder : Path
        Of a cache.

    Examples
    --------
    >>> import tempfile
    >>> findings = Findings(Path(tempfile.mkdtemp()))
    >>> findings.of("sum", [np.arange(3)], lambda: {"all": np.array([3.0])})
    {'all': array([3.])}
    >>> findings.of("sum", [np.arange(3)], lambda: 1 / 0)
    {'all': array([3.])}
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._is_cleared = False  # of what dead processes left half written

    def exist(self) -> bool:
        """Whether anything was ever found."""
        return self._folder.exists()

    def of(self, kind: str, decided: Sequence[Any], make: Callable[[], Any]) -> Any:
        """What is remembered, or what `make` returns, which is remembered then.

        kind : of result, in a word. decided : all that it depends on; arrays, and what JSON holds.
        make : returns arrays, and what JSON holds, in dicts by name and lists.
        """
        found = self.recall(kind, decided)
        if found is None:
            # made or remembered, it is the same: tuples are lists in either
            written = _arrays_out(make())
            if _n_bytes(written) <= LONGEST_REMEMBERED // 2:
                self._write(kind, decided, written)
            found = _arrays_back(written)
        return found

    def recall(self, kind: str, decided: Sequence[Any]) -> Any:
        """What is remembered; None where nothing is."""
        file = self._file(kind, decided)
        found = read_remembered(file)
        if found is None:
            return None
        note_use(file)  # what was not used for long is pruned first
        return _arrays_back(found)

    def remember(self, kind: str, decided: Sequence[Any], found: Any) -> None:
        """Keep it, where it is not too long and the disk takes it."""
        if _n_bytes(found) <= LONGEST_REMEMBERED // 2:  # known before it is written out
            self._write(kind, decided, _arrays_out(found))

    def _write(self, kind: str, decided: Sequence[Any], written: Any) -> None:
        file = self._file(kind, decided)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not self._is_cleared:  # once: a folder of many runs is long
                remove_abandoned(file.parent)
                self._is_cleared = True
            write_remembered(file, written)
        except OSError as error:
            log.debug("%s is not remembered: %s", kind, error)

    def _file(self, kind: str, decided: Sequence[Any]) -> Path:
        digest = hashlib.blake2b(_code().encode(), digest_size=16)
        for part in (kind, *decided):
            _add(digest, part)
        return self._folder / f"{kind}-{digest.hexdigest()}.json"


@cache
def _code() -> str:
    """Digest of the code that makes results, and the versions of what it computes with."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(__file__).resolve().parents[1]
    for room in ROOMS:
        for file in sorted((root / room).rglob("*.py")):
            name = file.relative_to(root).as_posix()
            digest.update(name.encode() + b"\0" + file.read_bytes())
    digest.update(" ".join(f"{name} {version(name)}" for name in LIBRARIES).encode())
    return digest.hexdigest()


def _add(digest: Any, part: Any) -> None:
    """Each part with its kind and length, so that no two sequences of parts read the same."""
    if isinstance(part, np.ndarray) and part.dtype != object:
        head, body = f"{part.dtype.str} {part.shape}", np.ascontiguousarray(part).tobytes()
    else:
        head, body = "", json.dumps(part, sort_keys=True, default=_as_json).encode()
    digest.update(f"\0{head} {len(body)}\0".encode() + body)


def _as_json(value: Any) -> Any:
    """What JSON has no word for: arrays and numbers of numpy."""
    return value.tolist()


def _arrays_out(value: Any) -> Any:
    """The same with arrays as JSON holds them, to the last bit."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {ARRAY: data, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {name: _arrays_out(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_arrays_out(own) for own in value]
    return value


def _arrays_back(value: Any) -> Any:
    if isinstance(value, dict):
        if ARRAY in value:
            data = base64.b64decode(value[ARRAY])
            return np.frombuffer(data, value["dtype"]).reshape(value["shape"]).copy()
        return {name: _arrays_back(own) for name, own in value.items()}
    return [_arrays_back(own) for own in value] if isinstance(value, list) else value


def _n_bytes(value: Any) -> int:
    """About how long it is as JSON: its arrays."""
    if isinstance(value, np.ndarray):
        return value.nbytes * 4 // 3
    if isinstance(value, dict):
        return sum(map(_n_bytes, value.values()))
    if isinstance(value, list):
        return sum(map(_n_bytes, value))
    return len(value) if isinstance(value, str) else 8
