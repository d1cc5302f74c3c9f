"""A bundle as one ONNX file: put together, checked against the bundle, and only then left."""

import contextlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data import ImageError, open_image, read_images
from data.names import counted
from extract import ExtractError
from extract.errors import unwritable
from extract.files import sync_folder, written_aside
from heads.onnx import NotExported
from pipelines.bundle import load_classifier
from pipelines.classifier import ImageClassifier
from pipelines.errors import WorkFailed, WrongCall
from pipelines.exporting import runner
from pipelines.exporting.assemble import assemble, assemble_features
from pipelines.exporting.checking import check_answers, check_features, made_images
from pipelines.exporting.texts import CLASSIFIER, FEATURES, as_text, describe

NEEDED = ("onnx", "onnxscript", "onnxruntime")
SUFFIX = ".onnx"
RUNNER = "permafrost_onnx.py"
MOST_IMAGES = 200  # of one's own that are checked


@dataclass(frozen=True)
class ExportResult:
    """A file that was left.

    Attributes
    ----------
    file, runner : Path
        The file, and beside it the program that answers by it.
    n_bytes : int
        Of the file.
    described : dict
        What the file says of itself, with `checked`.
    """

    file: Path
    runner: Path
    n_bytes: int
    described: dict[str, Any]


def export_job(
    bundle: str | Path | ImageClassifier,
    to: str | Path,
    *,
    images: str | Path | None = None,
    features: bool = False,
    on_step: Callable[[str], Any] = lambda words: None,
) -> ExportResult:
    """Write a classifier as one ONNX file, from pixels to answer.

    Parameters
    ----------
    bundle : path or ImageClassifier
        A run's folder, a bundle, or a fitted classifier.
    to : path
        The file, ending in .onnx; an earlier one is replaced once the new one is checked.
    images : path, optional
        Images to check it on, 200 at most: a folder or a manifest. By default images are made.
    features : bool
        The networks and their taps alone.
    on_step : callable
        Called with what is done next, in words.

    Returns
    -------
    ExportResult

    Raises
    ------
    WrongCall
        A path or images that can't be used, or a package of the extra `[onnx]` that is missing.
    WorkFailed
        What can't be written as ONNX, with its name, or answers that are not the bundle's. An
        earlier file stays.
    BundleError
        A bundle that can't be read.
    """
    to = Path(to)
    refuse_place(to)
    from onnx import helper

    classifier = bundle
    if not isinstance(classifier, ImageClassifier):
        on_step("reading the bundle")
        classifier = load_classifier(classifier)
    given = None if images is None else read_given(images)
    on_step("writing the network as ONNX")
    with naming_what_is_not_exported():
        described = describe(classifier, FEATURES if features else CLASSIFIER)
        model = assemble_features(classifier) if features else assemble(classifier)
    data = as_bytes(model)
    on_step("comparing its answers with the bundle's")
    looked_at = made_images() if given is None else given
    checked: dict[str, Any] = {"on": "made images" if images is None else Path(images).name}
    if features:
        n, away = check_features(data, classifier, looked_at)
        checked |= {"images": n, "feature": away}
    else:
        found = check_answers(data, classifier, looked_at, of_files=given is not None)
        checked |= asdict(found)
    described["checked"] = checked
    helper.set_model_props(model, as_text(described))
    data = as_bytes(model)
    leave(data, to)
    return ExportResult(to, to.with_name(RUNNER), len(data), described)


def refuse_place(to: Path) -> None:
    """Raise WrongCall for a place or packages that can't be used, before anything is computed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise WrongCall(
            f"{', '.join(missing)} is not installed: expected the extra (pip install "
            '"permafrost[onnx]")'
        )
    if to.suffix != SUFFIX or to.is_dir():
        raise WrongCall(f"--to {to}: expected a file that ends in {SUFFIX}")
    if not to.absolute().parent.is_dir():
        raise WrongCall(f"--to {to}: there is no folder {to.parent}; make it first")


def read_given(images: str | Path) -> list[Any]:
    """Images of one's own that can be read, evenly spread over them all.

    Raises DataError where there are none, WrongCall where none can be read.
    """
    inputs = read_images(images, labelled=False).inputs
    chosen = inputs[:: -(-len(inputs) // MOST_IMAGES)]
    readable = [own for own in chosen if _can_be_read(own)]
    if not readable:
        raise WrongCall(
            f"--images {images}: none of {counted(len(chosen), 'image')} can be read: expected "
            "some to compare answers on"
        )
    return readable


def _can_be_read(image: Any) -> bool:
    try:
        open_image(image)
    except ImageError:
        return False
    return True


@contextlib.contextmanager
def naming_what_is_not_exported() -> Iterator[None]:
    """What has no operators, as WorkFailed."""
    try:
        yield
    except (NotExported, ExtractError) as error:
        raise WorkFailed(f"it can't be written as ONNX: {error}") from error


def as_bytes(model: Any) -> bytes:
    """A model as a file holds it; WorkFailed where it is too large for one."""
    try:
        return model.SerializeToString()
    except Exception as error:  # protobuf's own, which it keeps to itself
        raise WorkFailed(
            f"the network is too large: a file of ONNX holds 2 GB at most ({error})"
        ) from error


def leave(data: bytes, to: Path) -> None:
    """The file, whole or not at all, and beside it the program that answers by it."""
    try:
        with written_aside(to) as aside:
            aside.write_bytes(data)
        with written_aside(to.with_name(RUNNER)) as aside:
            shutil.copyfile(runner.__file__, aside)
        sync_folder(to.absolute().parent)
    except OSError as error:
        raise unwritable(to.parent, error) from error
