"""torchvision's classification models by name, with weights from any source."""

import difflib
import importlib
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from extract.backbones.backbone import Backbone
from extract.backbones.card import Built
from extract.backbones.names import (
    DEFAULT_BACKBONE,
    Asked,
    file_signature,
    refuse_preprocessing,
    share,
)
from extract.errors import ExtractError
from extract.preprocessing import Preprocessing
from extract.weights import is_file_source, load_file, load_wheel, weights_file


def load(asked: Asked) -> Backbone:
    """A torchvision model by its name; weights are ImageNet's unless others are asked for.

    Raises ExtractError for a preprocessing of one's own: a named model brings its own.
    """
    refuse_preprocessing(asked)
    weights = asked.weights or ("wheel" if asked.name == DEFAULT_BACKBONE else "DEFAULT")
    seed = asked.seed if weights == "random" else None
    key = (asked.name, weights, file_signature(weights), seed)
    build = TorchvisionBuild(asked.name, weights, asked.seed)
    return share(
        (*key, asked.size, str(asked.cache)),
        lambda: Backbone(asked.name, weights, build, size=asked.size, memory=asked.cache, key=key),
    )


@dataclass(frozen=True)
class TorchvisionBuild:
    """Builds a torchvision model with weights from any source; picklable, unlike the network."""

    name: str
    weights: str
    seed: int

    def __call__(self) -> Built:
        models = import_torchvision().models
        known = models.list_models(module=models)
        if self.name not in known:
            near = difflib.get_close_matches(self.name, known, n=3) or [DEFAULT_BACKBONE]
            raise ExtractError(f"unknown backbone {self.name!r}: did you mean {', '.join(near)}?")
        members = list(models.get_model_weights(self.name))
        fill = WEIGHT_SOURCES.get(
            self.weights, _fill_file if is_file_source(self.weights) else _fill_enum
        )
        network, label, member, filled = fill(models, self, members)
        preset = _preset(member or members[0])
        return Built(network, label, f"torchvision.{self.name}", filled, preset)


def import_torchvision() -> Any:
    """The package torchvision, without torch's compiler, which its detection operators import.

    They do so for one function, which takes half of the import's time, and no classification model
    calls it; who does gets the compiler then.
    """
    import torch  # noqa: F401 (torchvision needs it whole)

    names = ("torch._dynamo", "torch._dynamo.utils")
    if "torchvision" in sys.modules or any(name in sys.modules for name in names):
        return importlib.import_module("torchvision")
    stand_ins = {name: types.ModuleType(name) for name in names}

    def leave() -> None:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]

    def real(module: str, name: str) -> Any:
        """For what another version of torchvision may ask of them."""
        if name.startswith("__"):
            raise AttributeError(name)
        leave()
        return getattr(importlib.import_module(module), name)

    for name, stand_in in stand_ins.items():
        stand_in.__path__ = []  # what makes it a package to the import system
        stand_in.__getattr__ = partial(real, name)  # type: ignore[method-assign]  # PEP 562
    vars(stand_ins[names[1]])["is_compile_supported"] = _is_compile_supported
    sys.modules |= stand_ins
    try:
        return importlib.import_module("torchvision")
    finally:
        leave()


def _is_compile_supported(device: Any) -> bool:
    return importlib.import_module("torch._dynamo.utils").is_compile_supported(device)


def _preset(member: Any) -> Preprocessing:
    values = member.transforms()
    size = values.crop_size[0]
    resize = values.resize_size[0]
    return Preprocessing(
        size, size / resize, values.interpolation.value, tuple(values.mean), tuple(values.std)
    )


# what a weight source gives: the network, its weights' label, torchvision's member, tensors filled
Filled = tuple[Any, str, Any, set[str]]


def _empty_network(models: Any, build: TorchvisionBuild) -> Any:
    import torch

    # the caller's random numbers stay as they were; no device is asked for
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(build.seed)
        arguments = {"init_weights": True} if build.name in ("googlenet", "inception_v3") else {}
        return models.get_model(build.name, weights=None, **arguments)


def _fill_random(models: Any, build: TorchvisionBuild, members: Sequence) -> Filled:
    network = _empty_network(models, build)
    return network, "random", None, set(network.state_dict())


def _fill_wheel(models: Any, build: TorchvisionBuild, members: Sequence) -> Filled:
    if build.name != DEFAULT_BACKBONE:
        raise ExtractError(
            f"weights='wheel' holds {DEFAULT_BACKBONE} alone, not {build.name}: "
            "use DEFAULT or a file"
        )
    network = _empty_network(models, build)
    return network, "wheel", members[0], load_wheel(network)


def _fill_file(models: Any, build: TorchvisionBuild, members: Sequence) -> Filled:
    network = _empty_network(models, build)
    path = weights_file(build.weights)
    assert path is not None, build.weights  # a file's name, or another source would fill
    return network, build.weights, None, load_file(network, path)


def _fill_enum(models: Any, build: TorchvisionBuild, members: Sequence) -> Filled:
    wanted = "DEFAULT" if build.weights.upper() == "DEFAULT" else build.weights
    names = [member.name for member in members]
    if wanted != "DEFAULT" and wanted not in names:
        raise ExtractError(
            f"unknown weights {build.weights!r} for {build.name}: expected DEFAULT, "
            f"{', '.join(names)}, {', '.join(sorted(WEIGHT_SOURCES, reverse=True))}, "
            "or a .pth or .safetensors file"
        )
    member = models.get_model_weights(build.name)[wanted]
    try:
        network = models.get_model(build.name, weights=member)
    except (OSError, RuntimeError) as error:
        raise ExtractError(
            f"could not fetch {member.url} ({error}): "
            'download it by hand and pass weights="FILE.pth", or use weights="random"'
        ) from error
    return network, member.name, member, set(network.state_dict())


# by the name of the source; a file's name and torchvision's own members are told by how they look
WEIGHT_SOURCES: dict[str, Callable[[Any, TorchvisionBuild, Sequence], Filled]] = {
    "random": _fill_random,
    "wheel": _fill_wheel,
}
