"""The frozen networks: one table from the scheme of a name to what loads it."""

import os
from collections.abc import Callable
from typing import Any

from data.offline import tell_libraries
from extract.backbones import baselines, huggingface, module, timm, torchvision, tuned, wheels
from extract.backbones.backbone import Backbone
from extract.backbones.baselines import BASELINES
from extract.backbones.card import Card
from extract.backbones.names import DEFAULT_BACKBONE, Asked, parse_name, share
from extract.backbones.tables import COPIED, NAMED, bare_names, named_backbone
from extract.errors import ExtractError
from extract.weights import is_file_source

__all__ = [
    "BASELINES",
    "COPIED",
    "DEFAULT_BACKBONE",
    "LOADERS",
    "NAMED",
    "Backbone",
    "Card",
    "bare_names",
    "brings_weights",
    "is_copied",
    "load_backbone",
    "named_backbone",
    "scheme_of",
]

# by scheme; a name without one is of `bare_names`, or torchvision's
LOADERS: dict[str, Callable[[Asked], Backbone]] = {
    "torchvision": torchvision.load,
    "timm": timm.load,
    "hf": huggingface.load,
    "module": module.load,
    "wheel": wheels.load,
    "baseline": baselines.load,
    "tuned": tuned.load,
}


def load_backbone(
    name: Any = DEFAULT_BACKBONE,
    weights: Any = None,
    *,
    seed: int = 0,
    size: Any = None,
    preprocessing: Any = None,
    version: str = "",
    cache: Any = None,
    definition: dict | None = None,
) -> Backbone:
    """A frozen network by name, from a folder, as `module:function`, or your own `torch.nn.Module`.

    Parameters
    ----------
    name : str, torch.nn.Module or Backbone
        torchvision's name of a model, `"tf_efficientnet_lite0"`, `"timm:NAME"` or
        `"timm:FOLDER"`, `"hf:ORG/NAME"` or `"hf:FOLDER"`, `"pixels"`, `"histogram"` or `"gabor"`
        (baselines without weights, of one size), the file of a network that was trained further or
        the folder that holds it, `"package.module:function"` returning a module, a module, or a
        Backbone.
    weights : str, path or None
        None (`wheel` for mobilenet_v2 and tf_efficientnet_lite0, else the `DEFAULT` of the library
        that has it), an enum name such as `"IMAGENET1K_V2"`, a path to a state dict or training
        checkpoint (see `extract.checkpoint.fitting_tensors`), `"random"`, or `"wheel"`.
        Your own module keeps the weights it comes with unless a file is named.
    seed : int
        Of `"random"` weights.
    size : int, (height, width) or None
        Side in pixels of what the network sees; None leaves the weights' own.
    preprocessing : Preprocessing or callable
        For your own module (default: ImageNet's at 224): a `Preprocessing`, or any callable from an
        RGB PIL image to a float array (3, height, width) with a `transform_id`.
    version : str
        For your own module: changes whenever its code outside its classes does.
    cache : path or None
        Folder in which what is known of named backbones is remembered; None remembers nothing.
    definition : dict or None
        What a bundle holds of a network that a folder defines, in place of the folder.

    Returns
    -------
    Backbone

    Raises
    ------
    ExtractError
        A name, weights source or size that can't be used.

    Examples
    --------
    >>> load_backbone("resnet18", weights="random", size=64)
    Backbone('resnet18', weights='random')
    """
    weights = os.fspath(weights) if isinstance(weights, os.PathLike) else weights
    if isinstance(name, Backbone):
        _refuse_settings({"weights": weights, "size": size, "preprocessing": preprocessing})
        return name
    size = tuple(size) if isinstance(size, list) else size
    if isinstance(name, str) and name == "auto":
        raise ExtractError(
            "backbone 'auto' compares networks by labels, which runs alone do "
            "(python -m pipelines.run --backbone auto): expected the name of one"
        )
    if not isinstance(name, str):
        asked = Asked("", weights, seed, size, preprocessing, version, cache)
        return module.load_module(name, asked, preprocessing, None)
    scheme, rest = parse_name(name, LOADERS, bare_names())
    tell_libraries()
    asked = Asked(rest, weights, seed, size, preprocessing, version, cache, definition)
    made = LOADERS[scheme](asked)
    # one's own are shared, if at all, by what makes them
    return (
        made if made.key is None else share((made.key, made.size, str(made.memory)), lambda: made)
    )


def is_copied(name: str, weights: str) -> bool:
    """Whether a bundle holds the weights of a backbone, whose names alone don't bring them.

    >>> is_copied("resnet18", "IMAGENET1K_V1"), is_copied("timm:resnet18", "a1_in1k")
    (False, True)
    """
    return is_file_source(weights) or (scheme_of(name) in COPIED and weights != "random")


def brings_weights(name: Any) -> bool:
    """Whether a name says which weights are meant, so that those asked for are others' alone.

    >>> brings_weights("pixels"), brings_weights("tuned/network.safetensors")
    (True, True)
    >>> brings_weights("resnet18"), brings_weights("tuned:resnet18")
    (False, False)
    """
    scheme = scheme_of(name)
    return scheme == "baseline" or (scheme == "tuned" and tuned.file_of(name) is not None)


def scheme_of(name: Any) -> str:
    """The scheme by which a backbone is loaded; "module" for what is no text.

    >>> scheme_of("pixels"), scheme_of("resnet18"), scheme_of("package.module:function")
    ('baseline', 'torchvision', 'module')
    """
    return parse_name(name, LOADERS, bare_names())[0] if isinstance(name, str) else "module"


def _refuse_settings(settings: dict[str, Any]) -> None:
    for setting, value in settings.items():
        if value is not None:
            raise ExtractError(
                f"{setting} can't be set on a Backbone that is already made: "
                f"load it with that {setting}"
            )
