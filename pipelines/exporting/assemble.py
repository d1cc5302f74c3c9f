"""A fitted classifier as one graph: pixels, networks, heads, calibration, familiarity."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data.names import as_utf8
from extract import FeatureExtractor, Recipe, Tap
from extract.extractor import extractors_of
from extract.onnx import add_input, export_trunk
from extract.preprocessing import parse_view
from heads.onnx import add_probabilities, add_squares, add_unit_rows, columns_of
from pipelines.classifier import ImageClassifier
from pipelines.exploration.reference import NEAR, Reference
from pipelines.exporting.graph import Graph

IMAGES = "images"
LABEL, PROBABILITIES, FAMILIARITY = "label", "probabilities", "familiarity"


@dataclass(frozen=True)
class Seen:
    """Extractors of one network: they share its pass over all views that any of them takes."""

    extractors: Sequence[FeatureExtractor]

    @property
    def parts(self) -> list[str]:
        """The views, each once."""
        return list(dict.fromkeys(p for own in self.extractors for p in parts_of(own)))

    @property
    def taps(self) -> list[Tap]:
        """The taps, each once."""
        return list(dict.fromkeys(tap for own in self.extractors for tap in own.taps()))


def parts_of(extractor: FeatureExtractor) -> tuple[str, ...]:
    """The views whose mean an extractor's features are."""
    return parse_view(extractor.recipe().view).parts


def network_of(extractor: FeatureExtractor) -> Recipe:
    """What tells one network from another, whatever view it is used in."""
    return replace(extractor.recipe(), view="plain")


def assemble(classifier: ImageClassifier) -> Any:
    """The onnx.ModelProto of a classifier.

    Raises NotExported, of heads or of networks, for what has no operators.
    """
    from onnx import TensorProto, helper

    graph = Graph()
    columns = [own for _, own in _add_features(graph, classifier)]
    features = graph.add("Concat", *columns, axis=1)
    shares = add_probabilities(graph, classifier.head_, classifier.calibration_, features)
    classes = classifier.classes_
    label = graph.add(
        "Gather", constant_classes(classes), graph.add("ArgMax", shares, keepdims=0, axis=1)
    )
    outputs = {
        label: helper.make_tensor_value_info(LABEL, type_of_classes(classes), ["n"]),
        graph.as_float32(shares): helper.make_tensor_value_info(
            PROBABILITIES, TensorProto.FLOAT, ["n", len(classes)]
        ),
    }
    if classifier.reference_ is not None:
        familiarity = _add_familiarity(graph, classifier.reference_, features)
        outputs[familiarity] = helper.make_tensor_value_info(FAMILIARITY, TensorProto.FLOAT, ["n"])
    return _model(graph, outputs)


def assemble_features(classifier: ImageClassifier) -> Any:
    """Of a classifier's networks alone: an output for each tap of each view."""
    from onnx import TensorProto, helper

    graph, outputs = Graph(), {}
    widths = widths_of(classifier)
    for name, rows in _add_features(graph, classifier):
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", widths[name]])
        outputs[graph.add("Identity", rows)] = info
    return _model(graph, outputs)


def widths_of(classifier: ImageClassifier) -> dict[str, int]:
    """The outputs of `assemble_features` by name, in the order of the features, and their columns.

    A name is that of the tap; where there are several networks or views, theirs come before it.
    """
    extractors = extractors_of(classifier.extractor_)
    networks = {own.load_backbone().name for own in extractors}
    views = {own.recipe().view for own in extractors}
    found: dict[str, int] = {}
    for own in extractors:
        backbone = own.load_backbone()
        before = [backbone.name] * (len(networks) > 1) + [own.recipe().view] * (len(views) > 1)
        for tap in own.taps():
            found["/".join([*before, str(tap)])] = backbone.card.width(tap)
    return found


def constant_classes(classes: np.ndarray) -> np.ndarray:
    """Class names as ONNX holds them: halves of surrogates, of odd file names, are escaped."""
    if classes.dtype.kind in "biuf":
        return classes.astype(np.float64 if classes.dtype.kind == "f" else np.int64)
    return np.array([as_utf8(str(own)) for own in classes], object)


def type_of_classes(classes: np.ndarray) -> int:
    """ONNX's number of the type of `constant_classes`."""
    from onnx import TensorProto

    kinds = {"f": TensorProto.DOUBLE, "O": TensorProto.STRING}
    return kinds.get(constant_classes(classes).dtype.kind, TensorProto.INT64)


def _add_features(graph: Graph, classifier: ImageClassifier) -> list[tuple[str, str]]:
    """(name as of `widths_of`, rows (n, d) float32) of each tap of each extractor, in order."""
    extractors = extractors_of(classifier.extractor_)
    networks = [network_of(own).id for own in extractors]
    groups: dict[str, list[FeatureExtractor]] = {}
    for own, network in zip(extractors, networks, strict=True):
        groups.setdefault(network, []).append(own)
    rows = {network: _add_network(graph, Seen(group)) for network, group in groups.items()}
    found = [
        _mean(graph, [rows[network][part, tap] for part in parts_of(own)])
        for own, network in zip(extractors, networks, strict=True)
        for tap in own.taps()
    ]
    return list(zip(widths_of(classifier), found, strict=True))


def _add_network(graph: Graph, seen: Seen) -> dict[tuple[str, Tap], str]:
    """A network over all views at once -> rows by view and tap."""
    backbone, parts, taps = seen.extractors[0].load_backbone(), seen.parts, seen.taps
    inputs = [add_input(graph, IMAGES, backbone.preprocessing, part) for part in parts]
    joined = graph.add("Concat", *inputs, axis=0)
    pooled = graph.absorb(export_trunk(backbone, taps), [joined])
    found = {}
    for tap, rows in zip(taps, pooled, strict=True):
        # (views * n, d) -> (views, n, d)
        shape = np.array([len(parts), -1, backbone.card.width(tap)])
        by_view = graph.add("Reshape", rows, shape)
        for number, part in enumerate(parts):
            found[part, tap] = graph.add("Gather", by_view, np.int64(number), axis=0)
    return found


def _mean(graph: Graph, rows: Sequence[str]) -> str:
    return rows[0] if len(rows) == 1 else graph.add("Mean", *rows)


def _add_familiarity(graph: Graph, reference: Reference, features: str) -> str:
    """The operators of `Reference.familiarity`."""
    rows = graph.as_float64(columns_of(graph, features, reference.columns))
    if reference.unit:
        rows = add_unit_rows(graph, rows)
    axes = reference.axes.astype(np.float64)
    centred = graph.add("Sub", rows, axes[:, 0])
    on_axes = graph.add("MatMul", centred, axes[:, 1:])
    all_of_it, along = (
        graph.add("ReduceSumSquare", own, np.array([1]), keepdims=1) for own in (centred, on_axes)
    )
    off = graph.add("Sqrt", graph.add("Max", graph.add("Sub", all_of_it, along), np.float64(0)))
    others = reference.rows.astype(np.float64)
    # lengths off the axes have nothing in common: their squares add up
    squares = graph.add("Add", add_squares(graph, on_axes, others[:, :-1]), others[:, -1] ** 2)
    squares = graph.add("Add", squares, graph.add("Mul", off, off))
    k = np.array([min(NEAR, len(others))])
    near, _ = graph.add_many("TopK", 2, squares, k, axis=1, largest=0, sorted=1)
    distance = graph.add("ReduceMean", graph.add("Sqrt", near), np.array([1]), keepdims=1)
    judged = reference.judged.astype(np.float64)[None]
    farther = graph.as_float64(graph.add("GreaterOrEqual", judged, distance))
    counts = graph.add("ReduceSum", farther, np.array([1]), keepdims=0)
    share = graph.add("Div", graph.add("Add", counts, np.float64(1)), np.float64(1 + judged.size))
    return graph.as_float32(share)


def _model(graph: Graph, outputs: dict[str, Any]) -> Any:
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, ["n", "height", "width", 3])
    return graph.model([image], outputs)
