"""Where the files of a Hugging Face model are: a folder, the hub's cache, or the hub itself."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from extract.backbones.fetched import find_fetched
from extract.backbones.hub import hub_file
from extract.errors import ExtractError

CONFIG = "config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
INDEX = ".index.json"
# in the order in which they are looked for; an index names the parts of a large one
WEIGHTS = (
    "model.safetensors",
    "model.safetensors" + INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX,
)
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
MOST_JSON = 1 << 24  # bytes; the index of ten thousand tensors takes one million
LARGE_FILE_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Checkpoint:
    """What a model's folder holds.

    config: of `config.json`. processor: of the image processor, None where there is none. weights:
    the file or its parts, empty where none were asked for.
    """

    config: dict
    processor: dict | None
    weights: tuple[Path, ...]


def find_checkpoint(name: str, with_weights: bool) -> Checkpoint:
    """The files of the folder or of the model of the hub; ExtractError where there are none."""
    folder = _folder_of(name, with_weights)
    config_path = folder / CONFIG
    if not config_path.is_file():
        raise ExtractError(
            f"hf:{name}: no {CONFIG} in {folder}: expected the folder of a transformers model "
            f"({CONFIG}, {PREPROCESSOR}, {WEIGHTS[0]})"
        )
    weights = _weights_in(folder) if with_weights else ()
    return Checkpoint(read_json(config_path), _read_processor(folder), weights)


def _folder_of(name: str, with_weights: bool) -> Path:
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if path.is_file():
        raise ExtractError(
            f"hf:{name} is a file: expected the folder around it, with {CONFIG} and {WEIGHTS[0]}"
        )
    if not HUB_NAME.fullmatch(name) or name.startswith(("./", "../")):
        raise ExtractError(
            f"hf:{name}: no such folder: expected one with {CONFIG} and {WEIGHTS[0]}, "
            "or a model of the hub such as facebook/dinov2-small"
        )
    return find_fetched("hf", name) or _cached(name, with_weights) or _download(name, with_weights)


def _cached(name: str, with_weights: bool) -> Path | None:
    """The model's folder in the hub's cache, where all that is needed is in it."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, CONFIG)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        if with_weights:
            _weights_in(folder)
    except ExtractError:
        return None
    return folder


def _download(name: str, with_weights: bool) -> Path:
    """Fetch what is needed into the hub's cache -> the folder there."""
    typed = f"hf:{name}"
    config = hub_file(name, typed, (CONFIG,))
    hub_file(name, typed, (PREPROCESSOR, PROCESSOR, CONFIG))  # not every model has one of these
    if with_weights:
        found = hub_file(name, typed, WEIGHTS)
        for part in _parts_of(found) if found.name.endswith(INDEX) else ():
            hub_file(name, typed, (part,))
    return config.parent


def _weights_in(folder: Path) -> tuple[Path, ...]:
    """The weights' files, all there."""
    for name in WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        if not name.endswith(INDEX):
            return (_checked(path),)
        return tuple(_checked(folder / part) for part in _parts_of(path))
    if cut := [*folder.rglob("*.incomplete")]:
        raise ExtractError(
            f"no weights in {folder}: the download of {cut[0].name[:40]} was cut off: "
            "download the model again"
        )
    raise ExtractError(
        f"no weights in {folder}: expected {WEIGHTS[0]} or {WEIGHTS[2]}; download the model again, "
        'or use weights="random"'
    )


def _checked(path: Path) -> Path:
    """The path of a weights file that is there and is no pointer to one."""
    if not path.is_file():
        raise ExtractError(
            f"{path.name} is missing in {path.parent}, half of the model is there: "
            "download it again"
        )
    with open(path, "rb") as file:
        if file.read(len(LARGE_FILE_POINTER)) == LARGE_FILE_POINTER:
            raise ExtractError(
                f"{path} is a pointer to a large file and not the file: run `git lfs pull` there"
            )
    return path


def _parts_of(index: Path) -> list[str]:
    """The names of the files beside an index that hold the tensors."""
    table = read_json(index).get("weight_map")
    parts = sorted(set(map(str, table.values()))) if isinstance(table, dict) else []
    if not parts or any(Path(part).name != part for part in parts):
        raise ExtractError(f"{index} names no files beside it: download the model again")
    return parts


def _read_processor(folder: Path) -> dict | None:
    """What the folder says of its image processor; None where it says nothing."""
    path = folder / PREPROCESSOR
    if path.is_file():
        return read_json(path)
    path = folder / PROCESSOR
    if path.is_file():
        own = read_json(path).get("image_processor")
        if isinstance(own, dict):
            return own
    return None


def read_json(path: Path) -> dict:
    """The object in a JSON file; ExtractError for what is none."""
    try:
        if path.stat().st_size > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON} bytes")
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:150]
        raise ExtractError(f"can't read {path}: {reason}; expected a JSON object") from error
    return found
