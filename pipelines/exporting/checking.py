"""Whether a file answers as its bundle does: the same images through both, number by number."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from data import open_image
from extract import FeatureExtractor
from extract.extractor import JoinedExtractor, extractors_of
from extract.recipe import reading_of
from heads.blended import answers
from pipelines.classifier import ImageClassifier
from pipelines.errors import WorkFailed
from pipelines.exporting.assemble import FAMILIARITY, IMAGES, LABEL, PROBABILITIES, constant_classes

MOST_PROBABILITY = 1e-3  # by which a probability may differ
# by which the share of more distant training images may: of few of these one is a large share
MOST_FAMILIARITY = 0.02
# of the largest value of a tap in an image, or of 1 where that is less: what float32 rounds off in
# fifty layers is a tenth of it, and another network's features differ by thousands of times as much
MOST_FEATURE = 1e-4
# height and width of the images that are made for a check: even, odd, long, of one pixel
SHAPES = (
    (224, 224), (480, 640), (640, 480), (37, 53), (300, 200), (64, 1000), (1000, 64), (1, 1),
    (3, 400), (401, 2), (513, 377), (1080, 1920),
)  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """How far a file's answers are those of the bundle, over some images.

    Attributes
    ----------
    images : int
    labels : int
        How many labels differ.
    probability, familiarity : float
        Largest differences; 0 where there is none to compare.
    of_files : (int, float) or None
        The same of `predict`, which may compute in a reduced precision and decode large JPEGs at a
        smaller scale: labels that differ, and the largest difference of a probability.
    """

    images: int
    labels: int
    probability: float
    familiarity: float
    of_files: tuple[int, float] | None = None


def made_images(seed: int = 0) -> list[np.ndarray]:
    """Images of soft colours with some noise, of even and odd shapes, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    made = []
    for height, width in SHAPES:
        soft = rng.integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(soft).resize((width, height), Image.Resampling.BICUBIC)
        noise = rng.normal(0, 12, (height, width, 3))
        made.append(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    return made


def session_of(data: bytes) -> Any:
    """An onnxruntime session on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def in_float32(classifier: ImageClassifier) -> Callable[[Any], np.ndarray]:
    """The classifier's features (n, d) of images, in float32 on the processor, as ONNX has them."""
    exact = []
    for own in extractors_of(classifier.extractor_):
        reading = reading_of(own.recipe().decode)
        settled = {
            "intensity": reading.intensity,
            "page": reading.page + 1,
            "channels": reading.channels,
        }
        here = {"numerics": "float32", "device": "cpu", "cache": False}
        exact.append(FeatureExtractor(**own.get_params(deep=False) | settled | here))
    return JoinedExtractor(exact).transform


def check_answers(
    data: bytes, classifier: ImageClassifier, images: Sequence[Any], of_files: bool
) -> Agreement:
    """Compare a file's answers with the bundle's over images; WorkFailed where they differ.

    images : paths or arrays that can be read. of_files : whether what `predict` says is compared,
    too.
    """
    given = _answers_of(data, classifier, images)
    transform, reference = in_float32(classifier), classifier.reference_
    familiar = 0.0
    expected = []
    for pixels, own in zip(_opened(images, classifier), given, strict=True):
        features = transform(pixels[None])
        expected.append(answers(classifier.head_, classifier.calibration_, features)[1][0])
        if reference is not None:
            away = abs(float(own[FAMILIARITY]) - float(reference.familiarity(features)[0]))
            familiar = float(np.maximum(familiar, away))
    labels, probability = _differences(given, np.array(expected), classifier)
    agreement = Agreement(len(images), labels, probability, familiar)
    _refuse_other(agreement)
    if not of_files:
        return agreement
    judged = classifier.judge(images)
    as_predicted = [given[row] for row in judged.rows]
    differences = _differences(as_predicted, judged.probabilities, classifier)
    return replace(agreement, of_files=differences)


def _answers_of(
    data: bytes, classifier: ImageClassifier, images: Sequence[Any]
) -> list[dict[str, Any]]:
    """What a file says of each image, by name of the output."""
    session = session_of(data)
    names = [own.name for own in session.get_outputs()]
    found = []
    for pixels in _opened(images, classifier):
        rows = session.run(None, {IMAGES: pixels[None]})
        found.append({name: own[0] for name, own in zip(names, rows, strict=True)})
    return found


def _differences(
    given: Sequence[Mapping[str, Any]], shares: np.ndarray, classifier: ImageClassifier
) -> tuple[int, float]:
    """How many labels differ, and probabilities by how much at most: NaN where one is none.

    shares : (n, classes), as they are expected.
    """
    expected = constant_classes(classifier.classes_)[shares.argmax(axis=1)]
    labels = sum(own[LABEL] != label for own, label in zip(given, expected, strict=True))
    away = np.abs(np.array([own[PROBABILITIES] for own in given]) - shares)
    return int(labels), float(away.max())


def check_features(
    data: bytes, classifier: ImageClassifier, images: Sequence[Any]
) -> tuple[int, float]:
    """(images, largest difference of a feature by its size), of a file of features; WorkFailed
    where they are not the bundle's."""
    session, transform = session_of(data), in_float32(classifier)
    worst = 0.0
    for pixels in _opened(images, classifier):
        at, features = 0, transform(pixels[None])[0]
        for rows in session.run(None, {IMAGES: pixels[None]}):
            own = features[at : at + rows.shape[1]]
            at += rows.shape[1]
            away = np.abs(rows[0] - own).max() / max(np.abs(own).max(), 1)
            worst = float(np.maximum(worst, away))  # NaN stays
    if not worst <= MOST_FEATURE:
        raise WorkFailed(
            f"no file was left: over {len(images)} images features differ by {worst:.2g} of their "
            f"largest, expected {MOST_FEATURE:g} at most"
        )
    return len(images), worst


def _opened(images: Sequence[Any], classifier: ImageClassifier) -> Iterator[np.ndarray]:
    reading = reading_of(extractors_of(classifier.extractor_)[0].recipe().decode)
    for own in images:
        yield own if isinstance(own, np.ndarray) else np.asarray(open_image(own, reading=reading))


def _refuse_other(found: Agreement) -> None:
    """Raise WorkFailed for answers that are not the bundle's; NaN is none of them."""
    if (
        found.labels
        or not found.probability <= MOST_PROBABILITY
        or not found.familiarity <= MOST_FAMILIARITY
    ):
        raise WorkFailed(
            f"no file was left: over {found.images} images {found.labels} labels differ, "
            f"probabilities by {found.probability:.2g} and familiarity by {found.familiarity:.2g}; "
            f"expected none, {MOST_PROBABILITY:g} and {MOST_FAMILIARITY:g} at most"
        )
