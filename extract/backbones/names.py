"""How a backbone is asked for: a name with a scheme; those asked for alike are shared."""

from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.backbones.backbone import Backbone
from extract.errors import ExtractError
from extract.weights import weights_file

DEFAULT_BACKBONE = "mobilenet_v2"
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

    A scheme wins over a module of that name.

    bare: the schemes of names that are written without one and are not torchvision's.
    """
    head, colon, rest = text.partition(":")
    if colon:
        return (head, rest) if head in schemes else ("module", text)
    return bare.get(text, "torchvision"), text


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
