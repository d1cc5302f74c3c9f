"""What a file says of itself: one JSON text among its metadata, and read back from there."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from extract.backbones.licences import licence_of
from extract.extractor import extractors_of
from extract.introspection.layer_run import needs_pixels
from extract.onnx import tall_rule
from extract.recipe import reading_of
from heads.blended import BlendedHead
from heads.catalog import find_name, steps_of
from pipelines.classifier import ImageClassifier
from pipelines.errors import WrongCall
from pipelines.exporting.assemble import widths_of
from pipelines.report.results import describe_reading, versions

KEY = "permafrost"  # among the file's metadata
SCHEMA = 1
CLASSIFIER, FEATURES = "classifier", "features"
INPUT = (
    "images: (n, height, width, 3) uint8, RGB, turned upright, of any size; all of one call alike"
)


def describe(classifier: ImageClassifier, kind: str) -> dict[str, Any]:
    """All that is known of it before it is checked."""
    extractors = extractors_of(classifier.extractor_)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": kind,
        "input": INPUT,
        "extractors": [_describe_extractor(own) for own in extractors],
        "reading": describe_reading(reading_of(extractors[0].recipe().decode)),
        "pillow_rows_first": tall_rule(),
        "versions": versions(),
    }
    if kind == FEATURES:
        return found | {"widths": widths_of(classifier)}
    measured = classifier.accuracy_
    low, high = (None, None) if measured is None else measured.interval
    return found | {
        "classes": classifier.classes_.tolist(),
        "heads": _describe_heads(classifier),
        "fitted_on": classifier.fitted_on_,
        "accuracy": measured
        and asdict(measured) | {"value": measured.value, "low": low, "high": high},
    }


def _describe_extractor(extractor: Any) -> dict[str, Any]:
    backbone = extractor.load_backbone()
    preprocessing = needs_pixels(backbone)
    return {
        "backbone": backbone.name,
        "weights": backbone.card.weights,
        "licence": licence_of(backbone.name, backbone.card.weights),
        "recipe": asdict(extractor.recipe()),
        "size": list(preprocessing.shape),
        "preprocessing": preprocessing.in_words(),
        "taps": [str(tap) for tap in extractor.taps()],
    }


def _describe_heads(classifier: ImageClassifier) -> list[dict[str, Any]]:
    head = classifier.head_
    if not isinstance(head, BlendedHead):
        return [_describe_head(head, 1.0, None)]
    return [_describe_head(own.estimator, own.weight, list(own.columns)) for own in head.members]


def _describe_head(estimator: Any, weight: float, columns: list[int] | None) -> dict[str, Any]:
    name = find_name(estimator)
    params = steps_of(estimator)[-1].get_params(deep=False)
    plain = {key: own for key, own in params.items() if isinstance(own, (str, int, float, bool))}
    return {"head": name, "params": plain, "weight": weight, "columns": columns}


def as_text(described: Mapping[str, Any]) -> dict[str, str]:
    """Metadata of a file."""
    return {KEY: json.dumps(described, ensure_ascii=True, sort_keys=True)}


def read_described(file: str | Path) -> dict[str, Any]:
    """What a file says of itself; WrongCall where it is none of ours."""
    import onnx

    try:
        model = onnx.load(str(file), load_external_data=False)
    except OSError as error:
        raise WrongCall(f"{file}: {error.strerror}: expected a file of pipelines.export") from error
    except Exception as error:  # protobuf's own, which it keeps to itself
        raise WrongCall(f"{file} is no ONNX file: expected one of pipelines.export") from error
    texts = {own.key: own.value for own in model.metadata_props}
    if KEY not in texts:
        raise WrongCall(f"{file} says nothing of itself: expected a file of pipelines.export")
    try:
        found = json.loads(texts[KEY])
    except ValueError as error:
        raise WrongCall(f"{file}: its {KEY} is no JSON: export it again") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise WrongCall(f"{file} is of another schema, expected {SCHEMA}: use a matching version")
    return found
