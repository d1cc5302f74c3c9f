"""One's own network: a module, or a function that returns one."""

import copy
import hashlib
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from extract.backbones.backbone import Backbone
from extract.backbones.card import Built
from extract.backbones.names import Asked, file_signature, share
from extract.errors import ExtractError
from extract.preprocessing import Preprocessing
from extract.weights import is_file_source, load_file, tensors_digest, weights_file


def load(asked: Asked) -> Backbone:
    """What `package.module:function` returns: a module, (module, preprocessing), or a Backbone."""
    if asked.preprocessing:
        # one's own preprocessing may not be hashable, and is never given by name
        return _call(asked)
    key = (asked.name, asked.weights, file_signature(asked.weights), asked.version, asked.size)
    return share(key, lambda: _call(asked))


def _call(asked: Asked) -> Backbone:
    module_name, _, function = asked.name.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ExtractError(
            f"backbone {asked.name!r}: {error}; expected package.module:function"
        ) from error
    if isinstance(made, Backbone):
        return made
    preprocessing = asked.preprocessing
    if isinstance(made, tuple):
        made, preprocessing = made
    return load_module(made, asked, preprocessing, asked.name)


def load_module(network: Any, asked: Asked, preprocessing: Any, name: str | None) -> Backbone:
    """One's own `torch.nn.Module`, named by its class unless a name is given."""
    import torch

    if not isinstance(network, torch.nn.Module):
        raise ExtractError(
            f"backbone: got {type(network).__name__}, "
            "expected a torch.nn.Module, a name or module:function"
        )
    weights = asked.weights
    if weights is not None and not is_file_source(weights):
        raise ExtractError(
            f"weights={weights!r}: your own module keeps its weights, "
            "or takes a .pth or .safetensors file"
        )
    preprocessing = preprocessing or Preprocessing()
    if not isinstance(preprocessing, Preprocessing) and not hasattr(preprocessing, "transform_id"):
        raise ExtractError(
            "preprocessing: expected a Preprocessing or a callable with a transform_id (text)"
        )
    name = name or f"{type(network).__module__}.{type(network).__qualname__}"
    architecture = f"own:{name}:{_source_hash(network)}:{asked.version}"

    def build() -> Built:
        own = copy.deepcopy(network)  # the caller's stays as it is
        path = weights_file(weights) if weights else None
        filled, fit = load_file(own, path) if path else (set(own.state_dict()), None)
        return Built(own, weights or "own", architecture, filled, preprocessing, file=path, fit=fit)

    return Backbone(name, weights or "own", build, size=asked.size)


def fingerprint(network: Any) -> str:
    """What changes with the code, the constants or the weights of one's own module."""
    return f"{_source_hash(network)}:{tensors_digest(network, set(network.state_dict()))}"


def _source_hash(network: Any) -> str:
    """Hash of the layout, and of source and constants of every module that is not torch's own."""
    own = {
        name: m
        for name, m in network.named_modules()
        if not type(m).__module__.startswith("torch.")
    }
    digest = hashlib.sha256(repr(network).encode())
    for name, module in own.items():
        for constant, value in sorted(_constants(module)):
            digest.update(f"{name}.{constant}={value}|".encode())
    for class_ in sorted(
        {type(module) for module in own.values()}, key=lambda c: (c.__module__, c.__qualname__)
    ):
        try:
            digest.update(inspect.getsource(class_).encode())
        except (OSError, TypeError):  # typed at a prompt: its `version` has to tell
            digest.update(class_.__qualname__.encode())
    return digest.hexdigest()[:16]


def _constants(module: Any) -> Iterator[tuple[str, str]]:
    """Numbers, text and tensors a module may compute with that are not among its weights."""
    import torch

    hidden = {name: getattr(module, name) for name in module._non_persistent_buffers_set}
    for name, value in {**vars(module), **hidden}.items():
        if isinstance(value, torch.Tensor):
            values = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield name, hashlib.sha256(values.numpy()).hexdigest()
        elif name not in vars(torch.nn.Module()) and _is_plain(value):
            yield name, repr(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
