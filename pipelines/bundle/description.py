"""bundle.json: written to the byte, and read as if an enemy had written it."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from extract import Recipe
from extract.augmentation import is_random
from extract.backbones import is_copied
from extract.engines import NUMERICS
from extract.preprocessing import NAMED_VIEWS
from pipelines.bundle.files import (
    DIGEST_BYTES,
    FILE,
    HEAD,
    PLACES,
    ROWS,
    WEIGHTS,
    digest_of,
    numbered,
    read_bytes,
)
from pipelines.bundle.reference_files import REFERENCE_FILES
from pipelines.errors import BundleError

SCHEMA = 2
MOST_BYTES = 1 << 25  # of bundle.json; a million classes fit
MOST_PARTS = 256  # members of a blend, taps or backbones
MOST_TEXT = 4096
MOST_CLASSES = 1 << 20
LARGEST = 1 << 64
LARGEST_SIDE = 8192  # of the image that a network sees, in pixels
LARGEST_WIDTH = 1 << 24  # of one tap's rows
KEYS = {
    "schema", "extractors", "classes", "fitted_on", "calibration", "members", "versions", "files",
    "digest",
}  # fmt: skip
REFERENCE = "reference"  # a bundle of an estimator of one's own may have none
REFERENCE_KEYS = {"columns", "unit"}
ACCURACY = "accuracy"  # that is to be expected, where it was measured
ACCURACY_KEYS = {"right", "images", "on"}
MEASURED_ON = ("test", "folds")
FITTED_ON = (None, "train", "all")  # which images of a run
EXTRACTOR_KEYS = {"recipe", "backbone", "size", "taps", "widths"}
BACKBONE_KEYS = {"name", "weights", "seed"}
DEFINITION = "definition"  # of a network that a folder defines
MOST_DEFINITION = 1 << 16  # characters
MEMBER_KEYS = {"columns", "weight", "calibration", "rows"}
CALIBRATION_KEYS = {"scale", "bias", "classes"}
FILE_KEYS = {"bytes", "blake2b"}
VIEWS = tuple(map(str, NAMED_VIEWS.values()))
RECIPE_KEYS = {field.name for field in fields(Recipe)}


class Malformed(ValueError):
    """What a description says that no run writes."""


def render(content: dict) -> bytes:
    """The bytes of bundle.json: readable, and the same for the same content.

    Its digest is of what it says without one.
    """
    bare = {name: value for name, value in content.items() if name != "digest"}
    return _dump({**bare, "digest": digest_of(_dump(bare))})


def _dump(content: dict) -> bytes:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # a label that came from a file name of no encoding has halves of surrogates; JSON escapes them
    return text.encode("utf-8", "backslashreplace")


def read_description(folder: Path) -> dict:
    """What bundle.json says; BundleError where it isn't what a run wrote."""
    file = folder / FILE
    if not file.exists():
        lacking = f"it has no {FILE}" if folder.exists() else "there is no such folder"
        raise BundleError(
            f"{folder} is no bundle ({lacking}): expected the model folder that a run wrote"
        )
    data = read_bytes(file, MOST_BYTES)
    if len(data) > MOST_BYTES:
        raise BundleError(f"{file} is larger than {MOST_BYTES} bytes: copy the whole bundle again")
    try:
        content = json.loads(data)
        _check_schema(content, folder)
        if data != render(content):
            raise Malformed("it is not what was written (its checksum differs)")
        check_description(content)
    except BundleError:
        raise
    except Malformed as error:
        raise BundleError(f"can't read {file}: {error}; copy the whole bundle again") from error
    except RecursionError as error:
        raise BundleError(f"{folder} is no bundle ({FILE} is nested too deep)") from error
    # no JSON, no UTF-8, a number of thousands of digits
    except (ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{folder} is no bundle ({reason}): expected the model folder that a run wrote"
        ) from error
    return content


def _check_schema(content: Any, folder: Path) -> None:
    schema = content.get("schema") if isinstance(content, dict) else None
    if type(schema) is int and schema == 1:
        raise BundleError(
            f"{folder} has schema 1, which has no checksums: make it again with this version"
        )
    if type(schema) is not int or schema != SCHEMA:
        raise BundleError(
            f"{folder} has schema {ascii(schema)[:20]}, expected {SCHEMA}: use a matching version"
        )


def check_description(content: dict) -> None:
    """Malformed where a value is not of the kind, size or set that a run writes."""
    _keys(content, KEYS | ({REFERENCE, ACCURACY} & set(content)), "it")
    for number, extractor in enumerate(_list(content["extractors"], "extractors", least=1)):
        _check_extractor(extractor, f"extractor {number}")
    _check_classes(content["classes"])
    if content["fitted_on"] not in FITTED_ON:
        raise Malformed(f"fitted_on is none of {', '.join(map(str, FITTED_ON))}")
    _check_calibration(content["calibration"], content["classes"])
    if content["members"] is not None:
        _check_members(content)
    if REFERENCE in content:
        _check_reference(content)
    if ACCURACY in content:
        _check_accuracy(content[ACCURACY])
    _check_versions(content["versions"])
    _check_files(content)


def _check_extractor(extractor: Any, where: str) -> None:
    _keys(extractor, EXTRACTOR_KEYS, where)
    recipe = _keys(extractor["recipe"], RECIPE_KEYS, f"the recipe of {where}")
    for name, value in recipe.items():
        if not isinstance(value, (int, float, type(None))) or abs(value or 0) > LARGEST:
            _text(value, f"{name} of {where}")
    if recipe["numerics"] not in NUMERICS:
        raise Malformed(
            f"numerics {str(recipe['numerics'])[:40]!r}, expected one of {', '.join(NUMERICS)}"
        )
    view = _text(recipe["view"], f"the view of {where}")
    if view not in VIEWS and not is_random(view):
        raise Malformed(
            f"view {view[:40]!r}, expected one of {', '.join(VIEWS)}, or such as light-0-3"
        )
    for name in ("architecture", "weights"):
        _text(recipe[name], f"{name} of {where}")
    backbone = extractor["backbone"]
    optional = {DEFINITION} & set(backbone) if isinstance(backbone, dict) else set()
    _keys(backbone, BACKBONE_KEYS | optional, f"the backbone of {where}")
    _check_definition(backbone.get(DEFINITION, {}), where)
    _text(backbone["name"], f"the backbone of {where}")
    _text(backbone["weights"], f"the weights of {where}")
    _whole(backbone["seed"], f"the seed of {where}", -LARGEST, LARGEST)
    if extractor["size"] is not None:
        sides = extractor["size"]
        for side in sides if isinstance(sides, list) and len(sides) == 2 else [sides]:
            _whole(side, f"the size of {where}", 1, LARGEST_SIDE)
    taps = _list(extractor["taps"], f"the taps of {where}", least=1)
    widths = _list(extractor["widths"], f"the widths of {where}", least=1)
    if len(taps) != len(widths):
        raise Malformed(f"{where} has {len(taps)} taps and {len(widths)} widths")
    for tap, width in zip(taps, widths, strict=True):
        _text(tap, f"a tap of {where}")
        _whole(width, f"a width of {where}", 1, LARGEST_WIDTH)


def _check_definition(definition: Any, where: str) -> None:
    """An object of moderate size; its loader takes of it what it knows."""
    if not isinstance(definition, dict) or len(json.dumps(definition)) > MOST_DEFINITION:
        raise Malformed(f"the definition of {where} is no object of moderate size")


def _check_classes(classes: Any) -> None:
    if not isinstance(classes, list) or not 1 <= len(classes) <= MOST_CLASSES:
        raise Malformed("classes are no list of them")
    for label in classes:
        if not isinstance(label, (str, int, float)) or label != label:
            raise Malformed(f"class {str(label)[:40]!r} is neither text nor a number")
        if not isinstance(label, str) and abs(label) > LARGEST:
            raise Malformed("a class is a number too large")
    if len(set(classes)) != len(classes) or len(set(map(type, classes))) > 1:
        raise Malformed("classes are not distinct values of one kind")


def _check_calibration(numbers: Any, classes: Sequence) -> None:
    if numbers is None:
        return
    _keys(numbers, CALIBRATION_KEYS, "a calibration")
    if numbers["classes"] != classes:
        raise Malformed("a calibration is of other classes")
    if _number(numbers["scale"], "the scale of a calibration") <= 0:
        raise Malformed("the scale of a calibration is not above 0")
    bias = numbers["bias"]
    if not isinstance(bias, list) or len(bias) != len(classes):
        raise Malformed(f"a calibration has no bias for each of {len(classes)} classes")
    for value in bias:
        _number(value, "a bias")


def _check_reference(content: dict) -> None:
    described = _keys(content[REFERENCE], REFERENCE_KEYS, REFERENCE)
    _check_columns(described["columns"], REFERENCE, _width_of(content))
    if type(described["unit"]) is not bool:
        raise Malformed(f"unit of {REFERENCE} is neither true nor false")


def _check_accuracy(value: Any) -> None:
    found = _keys(value, ACCURACY_KEYS, "the accuracy")
    images = _whole(found["images"], "the images of the accuracy", 1, LARGEST)
    _whole(found["right"], "the right answers of the accuracy", 0, images)
    if found["on"] not in MEASURED_ON:
        raise Malformed(f"the accuracy is on none of {', '.join(MEASURED_ON)}")


def _check_columns(columns: Any, where: str, width: int) -> None:
    for column in _list(columns, f"the columns of {where}", least=2):
        _whole(column, f"the columns of {where}", 0, width)
    if len(columns) != 2 or columns[0] >= columns[1]:
        raise Malformed(f"{where} has columns {columns[:3]}")


def _width_of(content: dict) -> int:
    return sum(sum(own["widths"]) for own in content["extractors"])


def _check_members(content: dict) -> None:
    width = _width_of(content)
    members = _list(content["members"], "members", least=1)
    for number, member in enumerate(members):
        where = f"member {number}"
        _keys(member, MEMBER_KEYS, where)
        _check_columns(member["columns"], where, width)
        if not 0 <= _number(member["weight"], f"the weight of {where}") <= 1:
            raise Malformed(f"the weight of {where} is not between 0 and 1")
        _check_calibration(member["calibration"], content["classes"])
        if member["rows"] is not None:
            _whole(member["rows"], f"the rows of {where}", 0, len(members) - 1)


def _check_versions(versions: Any) -> None:
    if not isinstance(versions, dict) or len(versions) > MOST_PARTS:
        raise Malformed("versions are no object of packages")
    for name, version in versions.items():
        _text(name, "a package")
        if version is not None:
            _text(version, "a version")


def _check_files(content: dict) -> None:
    files, needed = content["files"], needed_files(content)
    allowed = needed | {numbered(WEIGHTS, i) for i in range(len(content["extractors"]))}
    if content["members"] is None:
        allowed |= {ROWS}
    if not isinstance(files, dict) or not needed <= set(files) <= allowed:
        named = sorted(set(files) ^ needed) if isinstance(files, dict) else []
        raise Malformed(f"the list of files has too few or too many: {', '.join(named)[:80]!r}")
    for name, row in files.items():
        _keys(row, FILE_KEYS, f"the row of {name}")
        _whole(row["bytes"], f"the size of {name}", 0, LARGEST)
        digest = _text(row["blake2b"], f"the checksum of {name}")
        if not re.fullmatch(f"[0-9a-f]{{{2 * DIGEST_BYTES}}}", digest):
            raise Malformed(f"the checksum of {name} is none")


def needed_files(content: dict) -> set[str]:
    """Names of the files that a bundle of this description can't be without, but bundle.json."""
    needed = set(REFERENCE_FILES) if REFERENCE in content else set()
    for number, extractor in enumerate(content["extractors"]):
        source = extractor["backbone"]
        if is_copied(source["name"], source["weights"]):
            needed.add(numbered(WEIGHTS, number))
    if content["members"] is None:
        return needed | {HEAD}
    for number, member in enumerate(content["members"]):
        needed.add(numbered(HEAD, number))
        if member["rows"] is not None:
            needed |= {numbered(ROWS, member["rows"]), numbered(PLACES, number)}
    return needed


def _keys(value: Any, expected: set[str], where: str) -> dict:
    if not isinstance(value, dict) or set(value) != expected:
        odd = sorted(set(value) ^ expected) if isinstance(value, dict) else sorted(expected)
        raise Malformed(f"{where} has keys too few or too many: {', '.join(odd)[:80]!r}")
    return value


def _list(value: Any, where: str, least: int) -> list:
    if not isinstance(value, list) or not least <= len(value) <= MOST_PARTS:
        raise Malformed(f"{where}: expected a list of {least} to {MOST_PARTS}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT or not value.isprintable():
        raise Malformed(f"{where}: got {ascii(value)[:40]}, expected a line of text")
    return value


def _whole(value: Any, where: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Malformed(f"{where}: got {ascii(value)[:40]}, expected {least} to {most}")
    return value


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or abs(value) > LARGEST or not math.isfinite(value):
        raise Malformed(f"{where}: got {ascii(value)[:40]}, expected a finite number")
    return float(value)
