"""Why a classifier says what it says of an image: where the evidence for the label lies."""

import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from data import ImageError, Samples
from data.names import listed_briefly
from extract import FeatureExtractor, Tap, kept_pictures
from extract.attribution import (
    Box,
    Located,
    Seen,
    evidence_maps,
    has_places,
    images_at_once,
    occlusion_maps,
    place_of,
    see,
    tap_spans,
)
from extract.augmentation import is_random
from extract.extractor import JoinedExtractor, check_inputs, extractors_of
from extract.pooling import find_pooling
from extract.preprocessing import parse_view
from heads import Calibration, as_logits, head_logits
from heads.blended import BlendedHead, Member, answers
from heads.catalog import steps_of
from heads.linear_scores import LinearScores, linear_scores
from pipelines.exploration.reference import NEAR, Reference
from pipelines.report.explained import Explanation, Neighbour

if TYPE_CHECKING:
    from pipelines.classifier import ImageClassifier
    from pipelines.features import FeatureTable
    from pipelines.outcome import RunResult


@dataclass(frozen=True, eq=False)
class _Part:
    """One head as it counts in the whole: its factor and the columns of the features it takes.

    Contrasts (n, classes) are 1 for an image's label and -1 for its runner-up.
    """

    estimator: Any
    calibration: Calibration | None
    factor: float
    columns: slice
    linear: LinearScores | None

    def log_odds(self, features: np.ndarray, contrasts: np.ndarray) -> np.ndarray:
        """(n,) of features (n, D), times the factor."""
        own = features[:, self.columns]
        if self.linear is not None:
            logits = self.linear.of(own)
        elif self.calibration is None and hasattr(self.estimator, "predict_proba"):
            logits = as_logits(self.estimator.predict_proba(own), "probabilities")
        else:
            logits = head_logits(self.estimator, own)
        return self._slope * (contrasts * logits).sum(axis=1) + self._bias(contrasts)

    def weights(self, contrasts: np.ndarray) -> np.ndarray:
        """(n, d) of a linear head's own features."""
        assert self.linear is not None
        return self._slope * contrasts @ self.linear.weights

    def rest(self, contrasts: np.ndarray) -> np.ndarray:
        """(n,) log-odds of a linear head at its centre."""
        assert self.linear is not None
        return self._slope * contrasts @ self.linear.bias + self._bias(contrasts)

    @property
    def _slope(self) -> float:
        return self.factor * (1.0 if self.calibration is None else self.calibration.scale)

    def _bias(self, contrasts: np.ndarray) -> np.ndarray:
        if self.calibration is None:
            return np.zeros(len(contrasts))
        return self.factor * contrasts @ np.asarray(self.calibration.bias)


@dataclass(frozen=True, eq=False)
class _Read:
    """Features (m, d) and ids (m, 16) of images that could be read, at these places."""

    rows: np.ndarray
    features: np.ndarray
    ids: np.ndarray
    bad: dict[int, ImageError]


@dataclass(frozen=True, eq=False)
class _Asked:
    """Images that could be read, their features, and which classes are weighed in each.

    seen: by extractor, where any head is exact.
    """

    inputs: list
    features: np.ndarray
    contrasts: np.ndarray
    seen: Sequence[Seen] = ()


class _Whole:
    """A classifier taken apart: its heads, and which of them are sums over places."""

    def __init__(self, classifier: Any) -> None:
        self.extractors = extractors_of(classifier.extractor_)
        head, calibration = classifier.head_, classifier.calibration_
        self._bias = np.zeros(len(head.classes_))
        if isinstance(head, BlendedHead):
            factor = 1.0
            if calibration is not None:
                factor, self._bias = calibration.scale, np.asarray(calibration.bias)
            parts = [_part_of(member, factor) for member in head.members]
        else:
            every = slice(0, None)
            parts = [_Part(head, calibration, 1.0, every, linear_scores(head))]
        self.exact = [part for part in parts if self._has_places(part)]
        self.others = [part for part in parts if part not in self.exact]

    @property
    def parts(self) -> list[_Part]:
        """All of its heads."""
        return [*self.exact, *self.others]

    def taps(self) -> Iterator[tuple[FeatureExtractor, Tap, slice]]:
        """The extractors' taps with the columns of their features."""
        start = 0
        for extractor in self.extractors:
            for tap, span in tap_spans(extractor, start):
                yield extractor, tap, span
                start = span.stop

    def spans(self) -> Iterator[tuple[FeatureExtractor, slice]]:
        """The extractors with the columns of their features."""
        for extractor, own in itertools.groupby(self.taps(), key=lambda found: found[0]):
            columns = [span for _, _, span in own]
            yield extractor, slice(columns[0].start, columns[-1].stop)

    def _has_places(self, part: _Part) -> bool:
        """Whether it is linear in nothing but taps that are sums over places."""
        return part.linear is not None and all(
            has_places(extractor.load_backbone().card, tap)
            for extractor, tap, span in self.taps()
            if _meet(part.columns, span)
        )

    def is_exact_in(self, span: slice) -> bool:
        """Whether any of the evidence from these features is a sum over places."""
        return any(_meet(part.columns, span) for part in self.exact)

    def at_a_time(self) -> int:
        """Images whose weights, maps and pictures are in memory together."""
        return min(map(images_at_once, self.extractors))

    def read(
        self, extractor: FeatureExtractor | JoinedExtractor, inputs: list, with_maps: bool
    ) -> tuple["_Read", list[Seen]]:
        """The features, and the maps in the same pass where any are wanted."""
        if not (self.exact and with_maps):
            rows, features, bad = extractor.transform_readable(inputs)
            return _Read(rows, features, self.extractors[0].extraction_.ids[rows], bad), []
        seen = [see(own, inputs, self.is_exact_in(span)) for own, span in self.spans()]
        bad = {row: error for own in seen for row, error in own.bad.items()}
        rows = np.setdiff1d(np.arange(len(inputs)), list(bad))
        seen = [own.of(rows) for own in seen]
        features = np.hstack([own.features for own in seen])
        return _Read(rows, features, seen[0].ids, bad), seen

    def evidence(self, asked: _Asked) -> np.ndarray:
        """(n,) log-odds of the label over the runner-up."""
        bias = asked.contrasts @ self._bias
        return bias + sum(part.log_odds(asked.features, asked.contrasts) for part in self.parts)

    def rest(self, asked: _Asked) -> np.ndarray:
        """(n,) what of it the linear heads say whatever the image is."""
        bias = asked.contrasts @ self._bias
        return bias + sum(part.rest(asked.contrasts) for part in self.exact)

    def located(self, asked: _Asked) -> Iterator[Located]:
        """Maps from every extractor that any evidence comes from."""
        weights, taken = np.zeros((2, *asked.features.shape))
        for part in self.exact:
            own = part.weights(asked.contrasts)
            weights[:, part.columns] += own
            taken[:, part.columns] += own * part.linear.centre  # type: ignore[union-attr]
        for place, (extractor, span) in enumerate(self.spans()):
            if self.is_exact_in(span):
                yield evidence_maps(asked.seen[place], weights[:, span], taken[:, span])
            others = [part for part in self.others if _meet(part.columns, span)]
            if others:
                score = _scoring(others, asked, span)
                yield from occlusion_maps(extractor, asked.inputs, score)

    def located_in_cells(self, asked: _Asked, pictures: list[Image.Image]) -> Iterator[Located]:
        """Maps of the features alone: what the evidence loses without the cell of a grid.

        The cell's features become those of the average training image.
        """
        rows = np.arange(len(asked.inputs))
        for extractor, tap, span in self.taps():
            n = find_pooling(tap.pooling).grid or 1
            cells = np.zeros((len(rows), n * n))
            for part in self.parts:
                if n > 1 and _meet(part.columns, span):
                    cells += _without_cells(part, asked, span, n * n)
            maps = cells.reshape(-1, n, n)
            preprocessing = extractor.load_backbone().preprocessing
            seen = parse_view(extractor.recipe().view)
            if seen.is_averaged:  # a cell's features are of its mirror image too
                maps = (maps + maps[:, :, ::-1]) / 2
            boxes = [place_of(preprocessing, seen.parts[0], *own.size) for own in pictures]
            yield Located(rows, [maps], boxes, pictures, {})


def _without_cells(part: _Part, asked: _Asked, span: slice, cells: int) -> np.ndarray:
    """(n, cells): what the log-odds lose with each; nothing of a head that knows no average."""
    scaler = steps_of(part.estimator)[0]
    centre = getattr(scaler, "mean_", None) if part.linear is None else part.linear.centre
    if centre is None:
        return np.zeros((len(asked.features), cells))
    whole = part.log_odds(asked.features, asked.contrasts)
    lost = []
    for cell in range(cells):
        columns = np.arange(span.start + cell, span.stop, cells)
        changed = asked.features.copy()
        changed[:, columns] = centre[columns - part.columns.start]
        lost.append(whole - part.log_odds(changed, asked.contrasts))
    return np.stack(lost, axis=1)


def _meet(columns: slice, span: slice) -> bool:
    return columns.start < span.stop and span.start < (columns.stop or np.inf)


def _part_of(member: Member, factor: float) -> _Part:
    estimator = member.estimator
    columns = slice(*member.columns)
    share = factor * member.weight
    return _Part(estimator, member.calibration, share, columns, linear_scores(estimator))


def _scoring(parts: Sequence[_Part], asked: _Asked, span: slice) -> Callable:
    """(rows, features of one extractor) -> the parts' log-odds, the other features as they are."""

    def score(rows: np.ndarray, features: np.ndarray) -> np.ndarray:
        whole = asked.features[rows]
        whole[:, span] = features
        return np.sum([part.log_odds(whole, asked.contrasts[rows]) for part in parts], axis=0)

    return score


def plain_part(classifier: Any) -> Any:
    """The classifier itself, or of one that averages over random views its heads on the others.

    A random view has no map: a patch that is covered would make it another image, seen otherwise.

    Raises
    ------
    ValueError
        It sees random views alone.
    """
    extractors = extractors_of(classifier.extractor_)
    plain = list(itertools.takewhile(lambda own: not is_random(own.view), extractors))
    if len(plain) == len(extractors):
        return classifier
    width = sum(span.stop - span.start for own in plain for _, span in tap_spans(own))
    members = [own for own in getattr(classifier.head_, "members", ()) if own.columns[1] <= width]
    if not members:
        raise ValueError("the classifier sees random views alone: expected one of the plain view")
    total = sum(own.weight for own in members)
    head = BlendedHead([replace(own, weight=own.weight / total) for own in members])
    return type(classifier)().assemble(
        JoinedExtractor(plain),
        head,
        classifier.calibration_,
        reference=classifier.reference_,
    )


def explain(
    classifier: Any,
    inputs: Any,
    labels: Sequence | None = None,
    against: Sequence | None = None,
) -> Iterator[Explanation | ImageError]:
    """Why images have their labels, one after the other.

    Of a classifier that averages over random views it is the evidence in the plain view.

    Parameters
    ----------
    classifier : fitted ImageClassifier
    inputs : n paths, PIL images or uint8 arrays
    labels, against : sequence of n class names or None, optional
        Which class is weighed against which other: of None the most probable, and the most probable
        of the others, against which a class is weighed in place of itself too.

    Yields
    ------
    Explanation, or ImageError of one that can't be read
        In the order of the images.

    Raises
    ------
    ValueError
        A name that is none of the classes.
    """
    inputs, plain = check_inputs(inputs), plain_part(classifier)
    if labels is None and plain is not classifier:  # what is explained is what it answers
        judged = classifier.judge(inputs)
        said = dict(zip(judged.rows.tolist(), judged.labels.tolist(), strict=True))
        labels = [said.get(row) for row in range(len(inputs))]
    classifier, whole = plain, _Whole(plain)
    step = whole.at_a_time()
    for start in range(0, len(inputs), step):
        places = range(start, min(start + step, len(inputs)))
        named = [None if own is None else [own[i] for i in places] for own in (labels, against)]
        chunk = [inputs[place] for place in places]
        for row, found in enumerate(_explain_some(classifier, whole, chunk, named)):
            is_bad = isinstance(found, ImageError)
            yield found if is_bad else replace(found, row=start + row)


def _explain_some(
    classifier: Any,
    whole: _Whole,
    inputs: list,
    named: Sequence[Sequence | None],
    pictures: list[Image.Image] | None = None,
) -> list[Explanation | ImageError]:
    """In order; where pictures of them are given, by the features alone."""
    read, seen = whole.read(classifier.extractor_, inputs, with_maps=pictures is None)
    rows, features = read.rows, read.features
    made: dict[int, Any] = dict(read.bad)
    if len(rows):
        own_names = [None if own is None else [own[row] for row in rows] for own in named]
        pairs = _pairs(classifier, features, *own_names)
        every = np.arange(len(rows))
        contrasts = np.zeros((len(rows), len(classifier.classes_)))
        contrasts[every, pairs[:, 0]] += 1
        contrasts[every, pairs[:, 1]] -= 1
        asked = _Asked([inputs[row] for row in rows], features, contrasts, seen)
        shown = None if pictures is None else [pictures[row] for row in rows]
        ids = [own.tobytes().hex() for own in read.ids]
        near = _nearest(classifier.reference_, features, ids)
        for own, found in _explained(whole, asked, shown).items():
            if isinstance(found, Explanation):
                label, runner_up = classifier.classes_[pairs[own]]
                known = {"id": ids[own], "label": label, "runner_up": runner_up}
                found = replace(found, **known, nearest=near[own])
            made[int(rows[own])] = found
    return [made[row] for row in range(len(inputs))]


def _pairs(
    classifier: Any, features: np.ndarray, labels: Sequence | None, against: Sequence | None
) -> np.ndarray:
    """(n, 2) codes of each image's label and of the class that it is weighed against."""
    _, found = answers(classifier.head_, classifier.calibration_, features)
    every = np.arange(len(found))
    first = _codes(classifier.classes_, labels, found.argmax(axis=1))
    left = found.copy()
    left[every, first] = -1
    next_best = left.argmax(axis=1)
    second = _codes(classifier.classes_, against, next_best)
    return np.column_stack([first, np.where(second == first, next_best, second)])


def _codes(classes: np.ndarray, names: Sequence | None, usual: np.ndarray) -> np.ndarray:
    """Codes of these names, of None the usual ones."""
    if names is None:
        return usual
    codes = {name: code for code, name in enumerate(classes.tolist())}
    unknown = [name for name in names if name is not None and name not in codes]
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is no class of the classifier: expected one of "
            f"{listed_briefly([str(name) for name in classes])}"
        )
    return np.array(
        [own if name is None else codes[name] for name, own in zip(names, usual, strict=True)]
    )


def _nearest(
    reference: Reference | None, features: np.ndarray, ids: Sequence[str]
) -> list[tuple[Neighbour, ...]]:
    """The training images most like each image, itself not counted."""
    if reference is None:
        return [()] * len(features)
    names = reference.names
    made = []
    for id_, rows, distances in zip(ids, *reference.nearest(features, NEAR + 1), strict=True):
        near = [
            Neighbour(
                str(names.paths[i]), str(names.labels[i]), names.ids[i].tobytes().hex(), float(far)
            )
            for i, far in zip(rows, distances, strict=True)
        ]
        made.append(tuple(own for own in near if own.id != id_)[:NEAR])
    return made


def _explained(whole: _Whole, asked: _Asked, shown: list[Image.Image] | None) -> dict[int, Any]:
    """By row its Explanation, still without names, or the ImageError."""
    evidence, rest = whole.evidence(asked), whole.rest(asked)
    is_exact = not whole.others and shown is None
    parts = whole.located(asked) if shown is None else whole.located_in_cells(asked, shown)
    pictures: dict[int, Image.Image] = {}
    maps: dict[int, list[tuple[np.ndarray, Box]]] = {}
    made: dict[int, Any] = {}
    for located in parts:
        made |= located.bad
        for place, row in enumerate(located.rows.tolist()):
            pictures[row] = located.pictures[place]
            box = located.boxes[place]
            maps.setdefault(row, []).extend((own[place], box) for own in located.maps)
    for row, own in maps.items():
        if row in made:
            continue
        places, box = join_maps(own)
        item = asked.inputs[row]
        left = rest[row] if is_exact else evidence[row] - places.sum()
        made[row] = Explanation(
            row=row,
            path=os.fspath(item) if isinstance(item, (str, os.PathLike)) else "",
            id="",
            label=None,
            runner_up=None,
            evidence=float(evidence[row]),
            map=places.astype(np.float32),
            rest=float(left),
            is_exact=is_exact,
            box=box,
            picture=pictures[row],
        )
    return made


def join_maps(maps: Sequence[tuple[np.ndarray, Box]]) -> tuple[np.ndarray, Box]:
    """Maps of one picture summed over the smallest box that holds all, on their finest grid.

    What lies in a cell of a map is spread evenly over it, so that the sum of all stays.

    Parameters
    ----------
    maps : sequence of ((h, w), box)

    Returns
    -------
    (h, w) float64, and its box

    Examples
    --------
    >>> whole, left = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0)
    >>> places, box = join_maps([(np.array([[1.0, 2.0]]), whole), (np.array([[4.0]]), left)])
    >>> places.tolist(), box == whole
    ([[5.0, 2.0]], True)
    """
    boxes = np.array([box for _, box in maps])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    sides = boxes[:, 2:] - boxes[:, :2]
    cells = np.array([own.shape[::-1] for own, _ in maps]) * (high - low) / sides
    width, height = np.ceil(cells.max(axis=0) - 1e-6).astype(int)
    total = np.zeros((height, width))
    for own, (left, top, right, bottom) in maps:
        down = _shares(own.shape[0], (top, bottom), height, (low[1], high[1]))
        across = _shares(own.shape[1], (left, right), width, (low[0], high[0]))
        total += down.T @ own @ across
    return total, (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _shares(n: int, span: Sequence[float], into: int, whole: Sequence[float]) -> np.ndarray:
    """(n, into): which share of each of n cells over `span` lies in each cell over `whole`."""
    own, other = np.linspace(span[0], span[1], n + 1), np.linspace(whole[0], whole[1], into + 1)
    overlap = np.minimum(own[1:, None], other[1:]) - np.maximum(own[:-1, None], other[:-1])
    overlap = np.maximum(overlap, 0)
    return overlap / overlap.sum(axis=1, keepdims=True)


def explain_rows(
    result: "RunResult",
    rows: Sequence[int] | np.ndarray,
    predicted: Sequence | None = None,
    decode: bool = True,
) -> dict[str, Explanation]:
    """Why images of a run have their labels, of wrong ones why not their own.

    Parameters
    ----------
    result : RunResult
    rows : sequence of int
        Of its samples, such as those of the worst mistakes.
    predicted : sequence of as many class names, optional
        What the run said of them, where the classifier that is kept may say another: out of fold,
        or before it was fitted on all images.
    decode : bool
        Else as of `explain_kept`.

    Returns
    -------
    {id: Explanation}
        By 32 hexadecimal digits; without images that can't be read any more.
    """
    if not decode:
        return explain_kept(result.classifier, result.table, rows, predicted)
    inputs = [result.samples.inputs[row] for row in rows]
    own = _labels(result.classifier, result.samples, rows)
    found = explain(result.classifier, inputs, predicted, own)
    return {own.id: own for own in found if isinstance(own, Explanation)}


def explain_kept(
    classifier: "ImageClassifier",
    table: "FeatureTable",
    rows: Sequence[int] | np.ndarray,
    predicted: Sequence | None = None,
) -> dict[str, Explanation]:
    """`explain_rows` of a run's table, where no image is opened and no network runs.

    Maps are of the features that are kept, as fine as their grids, one cell where they have none;
    pictures are thumbnails.
    """
    request = table.passes[0].request
    assert request is not None  # a run's pass keeps what it was asked for
    inputs = [table.samples.inputs[row] for row in rows]
    kept = kept_pictures(request.store, inputs, table.ids[rows], request.reading)
    pictures: list[Image.Image] = [Image.open(io.BytesIO(picture)) for picture in kept]
    named = [predicted, _labels(classifier, table.samples, rows)]
    plain = plain_part(classifier)
    found = _explain_some(plain, _Whole(plain), inputs, named, pictures)
    return {own.id: own for own in found if isinstance(own, Explanation)}


def _labels(
    classifier: "ImageClassifier", samples: Samples, rows: Sequence[int] | np.ndarray
) -> list:
    """The rows' labels, None where it is no class of the classifier."""
    classes = set(classifier.classes_.tolist())
    return [label if label in classes else None for label in samples.labels[rows].tolist()]
