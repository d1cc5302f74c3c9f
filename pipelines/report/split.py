"""The split of a run as its results.json keeps it, by image ids: another run can take it."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.errors import WrongCall
from pipelines.report.files import RESULTS

ID_BYTES = 16
NEW, TRAIN, TEST = "", "train", "test"


@dataclass(frozen=True)
class KnownSplit:
    """On which side the images of an earlier run were.

    file : its results.json. sides : "train" or "test" by the bytes of the image id.
    """

    file: str
    sides: dict[bytes, str]

    def of(self, ids: np.ndarray) -> np.ndarray:
        """(n,) "train", "test", or "" for images that it has not, of (n, 16) uint8 ids."""
        return np.array([self.sides.get(own.tobytes(), NEW) for own in ids], dtype="<U5")


@dataclass(frozen=True)
class SplitTaken:
    """The split of an earlier run is taken.

    n_known : images that are where they were. n_new : images that it has not, placed by the usual
    rule. n_gone : images of it that are not among those of this run.
    """

    file: str
    n_known: int
    n_new: int
    n_gone: int


def take_split(known: KnownSplit, ids: np.ndarray) -> SplitTaken:
    """What an earlier run's split means for these images.

    Raises WrongCall where it has none of them.
    """
    n_known = int(np.count_nonzero(known.of(ids) != NEW))
    if not n_known:
        raise WrongCall(
            f"--split {known.file} has {len(known.sides)} images, none of them among these "
            f"{len(ids)}: expected the {RESULTS} of a run of these images"
        )
    return SplitTaken(known.file, n_known, len(ids) - n_known, len(known.sides) - n_known)


def describe_split(train_ids: np.ndarray, test_ids: np.ndarray, taken: SplitTaken | None) -> dict:
    """The `split` block of results.json, of (n, 16) uint8 ids."""
    return {
        "taken": None if taken is None else vars(taken),
        TRAIN: base64.b64encode(train_ids.tobytes()).decode(),
        TEST: base64.b64encode(test_ids.tobytes()).decode(),
    }


def read_split(file: str | Path) -> KnownSplit:
    """The split that a results.json holds, or that of a run's folder.

    Raises WrongCall where there is none.
    """
    path = Path(file)
    if path.is_dir():
        path = path / RESULTS
    expected = f"expected the {RESULTS} of a run that held images out, or its folder"
    try:
        parts = parts_of(json.loads(path.read_bytes())["split"])
    except OSError as error:
        raise WrongCall(f"--split {file}: can't be read ({error.strerror}); {expected}") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise WrongCall(f"--split {file}: holds no split; {expected}") from error
    sides = {own: side for side, ids in parts.items() for own in ids}
    if not all(parts.values()) or len(sides) != sum(map(len, parts.values())):
        raise WrongCall(f"--split {file}: its split is not as a run wrote it; {expected}")
    return KnownSplit(str(path), sides)


def parts_of(block: dict) -> dict[str, list[bytes]]:
    """The image ids of each part, of the `split` block of a results.json.

    Raises ValueError, LookupError or TypeError for what no run wrote.
    """
    return {side: _ids(block[side]) for side in (TRAIN, TEST)}


def _ids(text: str) -> list[bytes]:
    data = base64.b64decode(text, validate=True)
    if len(data) % ID_BYTES:
        raise ValueError("no whole ids")
    return [data[i : i + ID_BYTES] for i in range(0, len(data), ID_BYTES)]
