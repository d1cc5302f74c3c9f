"""How a backbone is asked for: a name with a scheme; those asked for alike are shared."""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.backbones.backbone import Backbone
from extract.errors import ExtractError
from extract.weights import weights_file

DEFAULT_BACKBONE = "mobilenet_v2"
NETWORK = "network.safetensors"  # of a folder that holds a network that was trained further
SHARED_NETWORKS = 4
RULE = 2  # by which tensors of a file are taken: another would take others


@dataclass(frozen=True)
class Asked:
    """What `load_backbone` was called with; `name` is without its scheme.

    definition: what a bundle holds of a network that a folder defines.
    """

    name: str
    weights: str | None = None
    seed: int = 0
    size: Any = None
    preprocessing: Any = None
    version: str = ""
    cache: Any = None
    definition: dict | None = None


def parse_name(text: str, schemes: Container[str], bare: Mapping[str, str]) -> tuple[str, str]:
    """`resnet18`, `pixels`, `package.module:function` or `scheme:rest` -> (scheme, the rest).

    A scheme wins over a module of that name. A path is of a network that was trained further.

    bare: the schemes of names that are written without one and are not torchvision's.
    """
    head, colon, rest = text.partition(":")
    if colon and head in schemes:
        return head, rest
    if is_path(text):
        return "tuned", text
    if colon:
        return "module", text
    scheme = bare.get(text, "torchvision")
    if scheme == "torchvision" and (Path(text) / NETWORK).is_file() and not is_model(text):
        return "tuned", text
    return scheme, text


def is_path(text: str) -> bool:
    """Whether a text without a scheme can only be the path of a file or a folder.

    >>> is_path("./resnet18"), is_path("network.safetensors"), is_path("resnet18")
    (True, True, False)
    """
    separated = "/" in text or "\\" in text or text in (".", "..") or text.startswith("~")
    return separated or text.lower().endswith(".safetensors")


def is_model(name: str) -> bool:
    """Whether torchvision has a model of that name; it is imported for it, which takes long."""
    models = importlib.import_module("torchvision").models
    return name in models.list_models(module=models)


def refuse_preprocessing(asked: Asked) -> None:
    """ExtractError where a backbone that has a preprocessing is given another."""
    if asked.preprocessing is not None:
        raise ExtractError(
            f"backbone {asked.name!r} brings its own preprocessing: "
            "set size, or pass your own module"
        )


_shared: "OrderedDict[tuple, Backbone]" = OrderedDict()


def share(key: tuple, make: Callable[[], Backbone]) -> Backbone:
    """The Backbone of that key in this process; the last few are held."""
    found = _shared.pop(key) if key in _shared else make()
    _shared[key] = found  # the last one asked for is the last to go
    while len(_shared) > SHARED_NETWORKS:
        _shared.popitem(last=False)
    return found


def file_signature(weights: str | None) -> tuple | None:
    """What tells that the file of these weights was replaced; None where there is none."""
    path = weights_file(weights) if weights else None
    return None if path is None else (*path_signature(path), RULE)


def path_signature(path: Path) -> tuple:
    """What tells that a file was replaced."""
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
