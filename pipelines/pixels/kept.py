"""A fitted PixelClassifier as a folder: one JSON file, and its head by skops."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from data import Reading
from extract import parse_taps
from pipelines.bundle.exchange import find_folder, folder_aside
from pipelines.bundle.files import HEAD, digest_of, read_bytes
from pipelines.bundle.head_file import read_head, write_head
from pipelines.errors import BundleError
from pipelines.pixels.classifier import PixelClassifier

FILE = "pixels.json"
SCHEMA = 1
MOST_BYTES = 1 << 20  # of the JSON file
MOST_HEAD = 1 << 26
# what decides a pixel's answer; where maps are kept, and on what they are computed, does not
PARAMETERS = ("layers", "head", "pixels_per_image", "backbone", "weights", "size", "ignore", "seed")
KEPT_HEADS = ("logistic",)


def save_pixels(classifier: PixelClassifier, path: str | Path) -> Path:
    """Write a fitted classifier as a folder.

    The network's weights are not in it: they are found by their name where it is loaded, and
    compared to those that it was fitted on. A forest is not kept.

    Parameters
    ----------
    classifier : fitted PixelClassifier
    path : str or Path
        A folder that is not there, is empty, or holds a classifier, which is then replaced.

    Returns
    -------
    Path

    Raises
    ------
    BundleError
        The folder holds something else, the head is a forest, or the network has no name.
    """
    refuse_unkept(classifier)
    folder = Path(path)
    refuse_overwriting(folder)
    with folder_aside(folder) as aside:
        write_pixels(classifier, aside)
    return folder


def refuse_overwriting(folder: Path) -> None:
    """Raise BundleError where a classifier would take the place of something else."""
    if folder.exists() and not ((folder / FILE).exists() or _is_empty(folder)):
        raise BundleError(f"{folder} exists and holds no {FILE}: choose another path")


def refuse_unkept(classifier: PixelClassifier) -> None:
    """Raise BundleError for a classifier that can't be kept."""
    if classifier.head not in KEPT_HEADS:
        raise BundleError(
            f"a {classifier.head} of pixels is not kept: expected head='logistic', or its masks"
        )
    if not isinstance(classifier.backbone, str):
        raise BundleError(
            f"a network of one's own is not kept ({classifier.backbone!r}): name it, as "
            "module:function"
        )


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def write_pixels(classifier: PixelClassifier, folder: Path) -> None:
    """Write a fitted classifier's files into an empty folder."""
    write_head(classifier.estimator_, folder / HEAD)
    content = {
        "schema": SCHEMA,
        "parameters": {name: _plain(getattr(classifier, name)) for name in PARAMETERS},
        "weights_digest": classifier.load_backbone().card.digest,
        "taps": [str(tap) for tap in classifier.taps_],
        "classes": classifier.classes_.tolist(),
        "shares": classifier.shares_.tolist(),
        "log_weights": classifier.log_weights_.tolist(),
        "numerics": classifier.numerics_,
        "reading": classifier.reading_.text,
        "head": digest_of((folder / HEAD).read_bytes()),
    }
    (folder / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def load_pixels(path: str | Path, **parameters: Any) -> PixelClassifier:
    """The classifier that `save_pixels` wrote.

    Parameters
    ----------
    path : str or Path
    **parameters
        `cache` and `device` of this machine.

    Returns
    -------
    PixelClassifier

    Raises
    ------
    BundleError
        A file is not as it was written, or the weights here are others.
    """
    folder = find_folder(Path(path))
    try:
        content = json.loads(read_bytes(folder / FILE, MOST_BYTES))
        data = read_bytes(folder / HEAD, MOST_HEAD)
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']!r}, expected {SCHEMA}")
        if content["head"] != digest_of(data):
            raise ValueError(f"{HEAD} is not what was written")
        classifier = _fitted(content, read_head(data), parameters)
    except BundleError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{folder} holds no classifier of pixels ({error}): copy the whole folder again"
        ) from error
    found = classifier.load_backbone().card.digest
    if found != content["weights_digest"]:
        raise BundleError(
            f"{folder} was fitted on other weights of {classifier.backbone} than are here: bring "
            "those"
        )
    return classifier


def _fitted(content: dict, estimator: Any, parameters: dict) -> PixelClassifier:
    classifier = PixelClassifier(**content["parameters"], **parameters)
    classifier.estimator_ = estimator
    classifier.taps_ = [tap for text in content["taps"] for tap in parse_taps(text)]
    classifier.classes_ = np.array(content["classes"], int)
    classifier.shares_ = np.array(content["shares"], float)
    classifier.log_weights_ = np.array(content["log_weights"], float)
    classifier.numerics_ = str(content["numerics"])
    classifier.reading_ = Reading.parse(content["reading"])
    return classifier
