"""torchvision's classification models by name, with weights from any source."""

import difflib
import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.backbones.backbone import Backbone
from extract.backbones.card import Built
from extract.backbones.download import file_name, kept_by_torch
from extract.backbones.fetched import WEIGHTS_FOLDER, find_fetched
from extract.backbones.names import (
    DEFAULT_BACKBONE,
    Asked,
    refuse_preprocessing,
)
from extract.backbones.wheels import WHEELS, fill_from_wheel, source_signature, wheel_file
from extract.checkpoint import Fit
from extract.cores import one_thread
from extract.errors import ExtractError
from extract.preprocessing import Preprocessing
from extract.weights import is_file_source, load_file, read_state_dict, weights_file


def load(asked: Asked) -> Backbone:
    """A torchvision model by its name; weights are ImageNet's unless others are asked for.

    Raises ExtractError for a preprocessing of one's own: a named model brings its own.
    """
    refuse_preprocessing(asked)
    weights = asked.weights or ("wheel" if asked.name == DEFAULT_BACKBONE else "DEFAULT")
    seed = asked.seed if weights == "random" else None
    key = (asked.name, weights, source_signature(asked.name, weights), seed)
    build = TorchvisionBuild(asked.name, weights, asked.seed)
    return Backbone(asked.name, weights, build, size=asked.size, memory=asked.cache, key=key)


@dataclass(frozen=True)
class TorchvisionBuild:
    """Builds a torchvision model with weights from any source; picklable, unlike the network."""

    name: str
    weights: str
    seed: int

    def __call__(self) -> Built:
        fill = WEIGHT_SOURCES.get(
            self.weights, _fill_file if is_file_source(self.weights) else _fill_enum
        )
        is_ours = self.name == DEFAULT_BACKBONE and fill is not _fill_enum
        members = [] if is_ours else _members(self.name)
        done = fill(self, members)
        preset = done.preset or (Preprocessing() if is_ours else _preset(members[0]))
        architecture = f"torchvision.{self.name}"
        return Built(
            done.network,
            done.label,
            architecture,
            done.filled,
            preset,
            file=done.file,
            fit=done.fit,
        )


def _members(name: str) -> list:
    """torchvision's weights of a model; ExtractError for a model it doesn't know."""
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or [DEFAULT_BACKBONE]
        raise ExtractError(f"unknown backbone {name!r}: did you mean {', '.join(near)}?")
    return list(models.get_model_weights(name))


def import_torchvision() -> Any:
    """The package torchvision, imported where one of its networks is asked for: it takes long."""
    return importlib.import_module("torchvision")


def _preset(member: Any) -> Preprocessing:
    values = member.transforms()
    size = values.crop_size[0]
    resize = values.resize_size[0]
    return Preprocessing(
        size, size / resize, values.interpolation.value, tuple(values.mean), tuple(values.std)
    )


@dataclass(frozen=True)
class Filled:
    """What a weight source gives: the network, its weights' name, the tensors that were filled.

    preset: the weights' own preprocessing; None leaves the network's.
    file, fit: where they came from a file.
    """

    network: Any
    label: str
    filled: set[str]
    preset: Preprocessing | None = None
    file: Path | None = None
    fit: Fit | None = None


def _empty_network(build: TorchvisionBuild) -> Any:
    import torch

    # the caller's random numbers stay as they were; no device is asked for
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(build.seed)
        if build.name == DEFAULT_BACKBONE:
            from extract.backbones.mobilenet_v2 import MobileNetV2

            return MobileNetV2()
        arguments = {"init_weights": True} if build.name in ("googlenet", "inception_v3") else {}
        return import_torchvision().models.get_model(build.name, weights=None, **arguments)


def _fill_random(build: TorchvisionBuild, members: Sequence) -> Filled:
    network = _empty_network(build)
    return Filled(network, "random", set(network.state_dict()))


def _fill_wheel(build: TorchvisionBuild, members: Sequence) -> Filled:
    file = wheel_file(build.name)
    with one_thread():
        network = _empty_network(build)
        filled = fill_from_wheel(network, build.name)
    return Filled(network, "wheel", filled, WHEELS[build.name].preprocessing, file)


def _fill_file(build: TorchvisionBuild, members: Sequence) -> Filled:
    network = _empty_network(build)
    path = weights_file(build.weights)
    assert path is not None, build.weights  # a file's name, or another source would fill
    filled, fit = load_file(network, path)
    return Filled(network, build.weights, filled, file=path, fit=fit)


def _fill_enum(build: TorchvisionBuild, members: Sequence) -> Filled:
    member = find_member(build.name, build.weights)
    network = _filled_from(build.name, member, _member_file(build.name, member))
    return Filled(network, member.name, set(network.state_dict()), _preset(member))


def find_member(name: str, weights: str) -> Any:
    """torchvision's weights of that name for a model; ExtractError for one that it has not."""
    members = _members(name)
    wanted = "DEFAULT" if weights.upper() == "DEFAULT" else weights
    names = [member.name for member in members]
    if wanted != "DEFAULT" and wanted not in names:
        raise ExtractError(
            f"unknown weights {weights!r} for {name}: expected DEFAULT, "
            f"{', '.join(names)}, {', '.join(sorted(WEIGHT_SOURCES, reverse=True))}, "
            "or a .pth or .safetensors file"
        )
    return import_torchvision().models.get_model_weights(name)[wanted]


def _member_file(name: str, member: Any) -> Path:
    """The file of these weights: fetched, or kept by torch, or downloaded to where torch keeps."""
    fetched = find_fetched("torchvision", name, member.name)
    if fetched is not None:
        return fetched / file_name(member.url)
    carried = (
        f"or run `permafrost fetch {name} --weights {member.name} --to DIR` where there is a "
        f'network, and set {WEIGHTS_FOLDER}=DIR here; weights="random" needs none'
    )
    return kept_by_torch(member.url, f"{member.name} of {name}", carried)


_filling = threading.Lock()


def _filled_from(name: str, member: Any, path: Path) -> Any:
    """The network as torchvision builds it for these weights, their file read by us.

    torchvision would take the code in a file for granted, and a file that was cut short.
    """
    import torch

    state = read_state_dict(path)
    with _filling, torch.random.fork_rng(devices=[]):
        member.get_state_dict = lambda *_, **__: state
        try:
            return import_torchvision().models.get_model(name, weights=member)
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ExtractError(f"{path} is not of {name}: {reason}") from error
        finally:
            del member.get_state_dict


# by the name of the source; a file's name and torchvision's own members are told by how they look
WEIGHT_SOURCES: dict[str, Callable[[TorchvisionBuild, Sequence], Filled]] = {
    "random": _fill_random,
    "wheel": _fill_wheel,
}
