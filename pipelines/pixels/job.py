"""Images and masks in; a classifier of pixels, its overlap on images it never saw, their masks."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import DataError, hold_out, read_mask, read_mask_folder, settle_reading, write_mask
from data.names import counted
from extract import FeatureStore, Preprocessing
from extract.cores import cores
from extract.store.ids import image_ids
from pipelines.errors import WrongCall
from pipelines.evaluation.overlap import count_overlap, mean_overlap, measure_overlap
from pipelines.features import watching
from pipelines.pixels.classifier import PixelClassifier, check_size, size_of
from pipelines.pixels.kept import KEPT_HEADS, refuse_overwriting, refuse_unkept, write_pixels
from pipelines.pixels.maps import map_taps
from pipelines.pixels.settings import SegmentSettings
from pipelines.report.files import REPORT, RESULTS, disk_errors_named, write_page, write_results
from pipelines.report.pixels import MOST_SHOWN, Shown, make_pixels_page, show
from pipelines.results_folder import BUNDLE, MASKS, SEGMENTATION, results_folder
from pipelines.results_folder import refuse_others as refuse_strangers

SCHEMA = 1
HELD_OUT = 0.25


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images with the mask of each. names : their paths below their folder, without a suffix."""

    images: list[str]
    masks: list[str]
    names: list[str]

    def of(self, rows: np.ndarray) -> "Pairs":
        """Some of them."""
        return Pairs(*([own[row] for row in rows] for own in (self.images, self.masks, self.names)))


@dataclass(frozen=True, eq=False)
class SegmentResult:
    """What a segmentation found.

    Attributes
    ----------
    classifier : PixelClassifier
        Fitted on the training images.
    results : dict
        What results.json holds.
    """

    classifier: PixelClassifier
    results: dict


def segment_job(
    images: str | Path,
    masks: str | Path,
    settings: SegmentSettings | None = None,
    *,
    on_event: Callable[[Any], Any] = lambda event: None,
    command: Sequence[str] = (),
) -> SegmentResult:
    """Fit a classifier of pixels, and measure it on images that it never saw.

    Parameters
    ----------
    images, masks : folder
        As `read_mask_folder` pairs them.
    settings : SegmentSettings or None
    on_event : callable
        Called with PassPlanned and PassAdvanced.
    command : sequence of str
        What results.json names as the call.

    Returns
    -------
    SegmentResult

    Raises
    ------
    DataError, ImageError, ExtractError, WrongCall
        Images, masks or settings that can't be used.
    WorkFailed
        Results that can't be written.
    """
    settings = settings or SegmentSettings()
    if settings.out is not None:
        refuse_others(Path(settings.out), settings, (images, masks))
    train, test = split_pairs(images, masks, settings)
    refuse_other_sizes(test, settings)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(results_folder(settings.out, SEGMENTATION))
        if folder is not None:
            stack.enter_context(disk_errors_named(folder.out))
        aside = None if folder is None else folder.aside
        return _work(train, test, settings, aside, on_event, command)


def _work(
    train: Pairs,
    test: Pairs,
    settings: SegmentSettings,
    aside: Path | None,
    on_event: Callable[[Any], Any],
    command: Sequence[str],
) -> SegmentResult:
    classifier = settings.make_classifier()
    began = time.perf_counter()
    asked = map_taps(classifier.load_backbone().card, settings.layers)
    classifier.fit(train.images, train.masks, watching(settings.backbone, asked, on_event))
    watch = watching(settings.backbone, classifier.taps_, on_event)
    classes = _classes(classifier, test.masks)
    fitted = time.perf_counter()
    counts = np.array([
        _tested(own, mask, classes, settings.ignore, aside and aside / MASKS / f"{name}.png")
        for own, mask, name in zip(
            classifier.predict_each(test.images, watch), test.masks, test.names, strict=True
        )
    ])  # fmt: skip
    done = time.perf_counter()
    results = {
        "schema": SCHEMA,
        "kind": SEGMENTATION.what,
        "command": list(command),
        "data": {
            "classes": classes.tolist(),
            "shares": _shares(classifier, classes).tolist(),
            "n_train": len(train.images),
            "n_test": len(test.images),
            "split": "held_out" if settings.test is None else "given",
            "ignore": settings.ignore,
            "ignore_found": _is_found(settings.ignore, [*train.masks, *test.masks]),
        },
        **_described(classifier),
        "overlap": _measured(classes, counts, settings.seed),
        "images": [
            {"path": image, "overlap": _number(mean_overlap(own[None]))}
            for image, own in zip(test.images, counts, strict=True)
        ],
        "seconds": {"fit": fitted - began, "test": done - fitted},
    }
    if aside is not None:
        _write(classifier, test, results, aside)
    return SegmentResult(classifier, results)


def _described(classifier: PixelClassifier) -> dict:
    """What a fitted classifier is made of."""
    backbone = classifier.load_backbone()
    return {
        "backbone": backbone.name,
        "weights": backbone.weights,
        "head": classifier.head,
        "layers": [tap.layer for tap in classifier.taps_],
        "size": _seen(backbone.preprocessing),
        "numerics": classifier.numerics_,
        "seed": classifier.seed,
        "kept": classifier.head in KEPT_HEADS,
    }


def _seen(preprocessing: Any) -> list[int]:
    """(height, width) in pixels of what the network sees: no other kind can squash an image."""
    assert isinstance(preprocessing, Preprocessing)
    return list(preprocessing.shape)


def refuse_others(out: Path, settings: SegmentSettings, read: Sequence[str | Path]) -> None:
    """Raise WrongCall where the results would take the place of something else.

    read : the folders of images and masks, which may be those that an earlier job predicted.
    """
    refuse_strangers(out, settings.cache, SEGMENTATION)
    refuse_overwriting(out / BUNDLE)
    replaced = Path(os.path.realpath(out / MASKS))
    for folder in (*read, *(settings.test or ())):
        if Path(os.path.realpath(folder)).is_relative_to(replaced):
            raise WrongCall(
                f"{folder} would be replaced by the predicted masks: choose another folder with "
                "--out, or move it away"
            )


def split_pairs(
    images: str | Path, masks: str | Path, settings: SegmentSettings
) -> tuple[Pairs, Pairs]:
    """The training and the test images; copies of one image are on one side.

    Raises DataError for a given test image that is a training image too.
    """
    every = _pairs(images, masks)
    remembered = FeatureStore(settings.cache).cache / "ids"
    ids = _ids(every.images, remembered)
    if settings.test is None:
        if len(np.unique(ids)) < 2:
            raise DataError(
                f"{images} holds one image, or copies of one: expected two or more, to learn from "
                "and to test on, or others to test on (--test)"
            )
        one_class = np.full(len(ids), "images")
        train, test = hold_out(one_class, ids, HELD_OUT, settings.seed)
        return every.of(train), every.of(test)
    test = _pairs(*settings.test)
    shared = np.flatnonzero(np.isin(_ids(test.images, remembered), ids))
    if len(shared):
        raise DataError(
            f"{counted(len(shared), 'test image')}, {test.images[shared[0]]} among them, "
            f"{'is a' if len(shared) == 1 else 'are'} training image"
            f"{'' if len(shared) == 1 else 's'} too: leave them out of one part"
        )
    return every, test


def refuse_other_sizes(pairs: Pairs, settings: SegmentSettings) -> None:
    """Raise DataError for the first mask of another size than its image.

    Test images are answered last: so it is said before any pass.
    """
    # how large an image is does not hang on what is black and white in it
    reading = settle_reading(None, settings.page, settings.channels)

    def check(image: str, mask: str) -> None:
        check_size(read_mask(mask), size_of(image, reading), image)

    with ThreadPoolExecutor(cores()) as threads:
        list(threads.map(check, pairs.images, pairs.masks))


def _pairs(images: str | Path, masks: str | Path) -> Pairs:
    found, own = read_mask_folder(images, masks)
    names = [os.path.relpath(mask, masks).removesuffix(".png") for mask in own]
    return Pairs(found, own, names)


def _ids(images: Sequence[str], remembered: Path) -> np.ndarray:
    """(n,) ids of the images; ImageError for the first that can't be read."""
    ids, bad = image_ids(images, remembered, cores())
    for row in sorted(bad):
        raise bad[row]
    return np.array([own.tobytes().hex() for own in ids])


def _classes(classifier: PixelClassifier, masks: Sequence[str]) -> np.ndarray:
    """The classes of the training masks and of these: what was never learnt is found nowhere."""
    numbers = [np.unique(read_mask(mask)) for mask in masks]
    found = np.unique(np.concatenate([classifier.classes_, *numbers])).astype(int)
    return found[found != classifier.ignore] if classifier.ignore is not None else found


def _is_found(ignore: int | None, masks: Sequence[str]) -> bool | None:
    """Whether some mask has the number that is ignored; looked for up to the first that has it."""
    return None if ignore is None else any(ignore in read_mask(mask) for mask in masks)


def _shares(classifier: PixelClassifier, classes: np.ndarray) -> np.ndarray:
    """(classes,) of the pixels of the training masks."""
    shares = np.zeros(len(classes))
    shares[np.searchsorted(classes, classifier.classes_)] = classifier.shares_
    return shares


def _tested(
    predicted: np.ndarray, mask: str, classes: np.ndarray, ignore: int | None, file: Path | None
) -> np.ndarray:
    """(classes, 2) overlap of one image, whose predicted mask is written."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_mask(file, predicted)
    return count_overlap(read_mask(mask), predicted, classes, ignore)


def _measured(classes: np.ndarray, counts: np.ndarray, seed: int) -> dict:
    by_class, mean = measure_overlap(counts, seed=seed)
    return {
        "mean": _numbers(asdict(mean)),
        "classes": [
            {"class": int(number), **_numbers(asdict(own))}
            for number, own in zip(classes, by_class, strict=True)
        ],
    }


def _numbers(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def _write(classifier: PixelClassifier, test: Pairs, results: dict, aside: Path) -> None:
    if results["kept"]:
        refuse_unkept(classifier)
        (aside / BUNDLE).mkdir()
        write_pixels(classifier, aside / BUNDLE)
    page = make_pixels_page(results, list(_shown(test, results, classifier, aside / MASKS)))
    write_page(aside / REPORT, page)
    write_results(aside / RESULTS, results)


def _shown(
    test: Pairs, results: dict, classifier: PixelClassifier, folder: Path
) -> Iterator[Shown]:
    """The test images of the least overlap first, as many as a page has room for."""
    overlaps = [own["overlap"] for own in results["images"]]
    order = sorted(range(len(overlaps)), key=lambda i: (overlaps[i] is None, overlaps[i]))
    for place in order[:MOST_SHOWN]:
        yield show(
            place,
            test.images[place],
            read_mask(test.masks[place]),
            read_mask(folder / f"{test.names[place]}.png"),
            classifier.reading_,
        )
