"""Vision encoders of Hugging Face's transformers, from a folder or the hub, no code of theirs."""

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from extract.backbones.backbone import Backbone
from extract.backbones.bounds import MOST_WIDTH, bytes_of, refuse_huge, refuse_large
from extract.backbones.card import Built
from extract.backbones.image_processors import LARGEST_SIDE, preprocessing_of, processor_values
from extract.backbones.model_folders import CONFIG, PREPROCESSOR, find_checkpoint
from extract.backbones.names import (
    Asked,
    file_signature,
    path_signature,
    refuse_preprocessing,
)
from extract.checkpoint import Fit
from extract.errors import ExtractError
from extract.weights import is_file_source, load_file, read_state_dict, weights_file

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"
# keys of a configuration that say how many modules are made
DEPTHS = ("num_hidden_layers", "depths", "depth", "num_block_repeats", "num_stages")


@dataclass(frozen=True)
class Encoder:
    """Which classes of transformers a model type is built of.

    network, config : names of classes; no others of transformers are ever made.
    processor : the library's default image processor of that type.
    prefix : class tokens before those of the patches; None where a layer gives maps or has tokens
        of several sizes.
    within : the key of a whole model's configuration that holds the image tower's.
    tower : the part of the network that gives the pooled output.
    """

    network: str
    config: str
    processor: str
    prefix: int | None = None
    within: str | None = None
    tower: str = ""


CLIP = Encoder(
    "CLIPVisionModelWithProjection", "CLIPVisionConfig", "CLIPImageProcessor", 1,
    within="vision_config", tower="vision_model",
)  # fmt: skip
SIGLIP = Encoder(
    "SiglipVisionModel", "SiglipVisionConfig", "SiglipImageProcessor", 0, within="vision_config"
)
# by `model_type` of config.json
ENCODERS = {
    "beit": Encoder("BeitModel", "BeitConfig", "BeitImageProcessor", 1),
    "bit": Encoder("BitModel", "BitConfig", "BitImageProcessor"),
    "clip": CLIP,
    "clip_vision_model": CLIP,
    "convnext": Encoder("ConvNextModel", "ConvNextConfig", "ConvNextImageProcessor"),
    "convnextv2": Encoder("ConvNextV2Model", "ConvNextV2Config", "ConvNextImageProcessor"),
    "data2vec-vision": Encoder(
        "Data2VecVisionModel", "Data2VecVisionConfig", "BeitImageProcessor", 1
    ),
    "deit": Encoder("DeiTModel", "DeiTConfig", "DeiTImageProcessor", 2),
    "dinov2": Encoder("Dinov2Model", "Dinov2Config", "BitImageProcessor", 1),
    "dinov2_with_registers": Encoder(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", "BitImageProcessor", 1
    ),
    "dinov3_convnext": Encoder(
        "DINOv3ConvNextModel", "DINOv3ConvNextConfig", "DINOv3ViTImageProcessor"
    ),
    "dinov3_vit": Encoder("DINOv3ViTModel", "DINOv3ViTConfig", "DINOv3ViTImageProcessor", 1),
    "efficientnet": Encoder(
        "EfficientNetModel", "EfficientNetConfig", "EfficientNetImageProcessor"
    ),
    "focalnet": Encoder("FocalNetModel", "FocalNetConfig", "BitImageProcessor"),
    "ijepa": Encoder("IJepaModel", "IJepaConfig", "ViTImageProcessor", 0),
    "levit": Encoder("LevitModel", "LevitConfig", "LevitImageProcessor"),
    "mobilenet_v1": Encoder("MobileNetV1Model", "MobileNetV1Config", "MobileNetV1ImageProcessor"),
    "mobilenet_v2": Encoder("MobileNetV2Model", "MobileNetV2Config", "MobileNetV2ImageProcessor"),
    "mobilevit": Encoder("MobileViTModel", "MobileViTConfig", "MobileViTImageProcessor"),
    "poolformer": Encoder("PoolFormerModel", "PoolFormerConfig", "PoolFormerImageProcessor"),
    "pvt_v2": Encoder("PvtV2Model", "PvtV2Config", "PvtImageProcessor"),
    "regnet": Encoder("RegNetModel", "RegNetConfig", "ConvNextImageProcessor"),
    "resnet": Encoder("ResNetModel", "ResNetConfig", "ConvNextImageProcessor"),
    "siglip": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "swin": Encoder("SwinModel", "SwinConfig", "ViTImageProcessor"),
    "swinv2": Encoder("Swinv2Model", "Swinv2Config", "ViTImageProcessor"),
    "vit": Encoder("ViTModel", "ViTConfig", "ViTImageProcessor", 1),
    "vit_msn": Encoder("ViTMSNModel", "ViTMSNConfig", "ViTImageProcessor", 1),
}


def load(asked: Asked) -> Backbone:
    """A vision encoder of transformers: `hf:FOLDER`, or `hf:ORG/NAME` of the hub.

    Its weights are the checkpoint's unless random ones or a file are asked for. Raises ExtractError
    where a file is missing or the model is of another kind, in one line that says what to do.
    """
    refuse_preprocessing(asked)
    version = _version(asked.name)
    weights = CHECKPOINT if asked.weights in (None, "DEFAULT") else asked.weights
    if weights not in (CHECKPOINT, "random") and not is_file_source(weights):
        raise ExtractError(
            f"weights={weights!r} of hf:{asked.name}: expected random, a file of weights, "
            "or nothing for those of the checkpoint"
        )
    definition, files = _defined(asked, weights)
    text = json.dumps(definition, sort_keys=True)
    build = HuggingFaceBuild(asked.name, weights, asked.seed, text, files, asked.size)
    seed = asked.seed if weights == "random" else None
    signatures = (file_signature(weights), *map(path_signature, files))
    key = ("hf", asked.name, weights, signatures, seed, version, text)
    return Backbone(
        f"hf:{asked.name}", weights, build, size=asked.size, memory=asked.cache, key=key
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError as error:
        raise ExtractError(
            f'backbone hf:{name} needs transformers: pip install "permafrost[hf]"'
        ) from error


def _defined(asked: Asked, weights: str) -> tuple[dict, tuple[Path, ...]]:
    """What a network is built by, and the files of its checkpoint's weights where these are used.

    What a bundle says is read as what a folder says: its keys may name anything.
    """
    if asked.definition is not None:
        config, processor = (asked.definition.get(key) for key in ("config", "processor"))
        if not isinstance(config, dict) or not isinstance(processor, dict | None):
            raise ExtractError(f"hf:{asked.name}: what defines it is no configuration")
        files: tuple[Path, ...] = ()
    else:
        found = find_checkpoint(asked.name, with_weights=weights == CHECKPOINT)
        config, processor, files = found.config, found.processor, found.weights
    encoder = _encoder_of(asked.name, config)
    settings = config.get(encoder.within) if encoder.within else None
    told = _told(settings if isinstance(settings, dict) else config)
    if "projection_dim" in config:  # the whole model's is the one that its weights have
        told["projection_dim"] = config["projection_dim"]
    told["model_type"] = config["model_type"]
    processor = None if processor is None else processor_values(processor)
    return {"config": told, "processor": processor}, files


# of a configuration: what names code, files or a way to run, and what only classifiers read
LEFT_OUT = {
    *("architectures", "attn_implementation", "auto_map", "dtype", "experts_implementation"),
    *("fusion_config", "id2label", "label2id", "name_or_path", "quantization_config"),
    *("torch_dtype", "transformers_version", "transformers_weights", "vision_config"),
}


def _told(config: dict) -> dict:
    """The plain values of a configuration: numbers, texts and lists of such."""
    return {
        key: value
        for key, value in config.items()
        if not key.startswith("_") and key not in LEFT_OUT and not isinstance(value, dict)
    }


def _encoder_of(name: str, config: dict) -> Encoder:
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in ENCODERS:
        return ENCODERS[kind]
    said = f"is a {kind[:40]!r} model" if isinstance(kind, str) else f"says no type in its {CONFIG}"
    hint = " (timm:FOLDER takes those of timm)" if "architecture" in config else ""
    raise ExtractError(
        f"hf:{name} {said}{hint}: expected one of the vision encoders {', '.join(ENCODERS)}"
    )


@dataclass(frozen=True)
class HuggingFaceBuild:
    """Builds a vision encoder with its weights; picklable, unlike the network.

    definition : JSON of the configuration's and the image processor's values.
    files : of the checkpoint's weights.
    """

    name: str
    weights: str
    seed: int
    definition: str
    files: tuple[Path, ...]
    size: Any = None

    def __call__(self) -> Built:
        definition = json.loads(self.definition)
        asked = definition["config"]
        encoder = _encoder_of(self.name, asked)
        with _silence():
            config, used = _configure(self.name, encoder, asked)
            network, filled, fit = self._network(encoder, config)
            preprocessing = self._preprocessing(encoder, definition["processor"], config)
        _finish(network, encoder, config, filled)
        text = json.dumps([encoder.network, used], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Built(
            network,
            self.weights,
            f"hf.{asked['model_type']}/{digest}",
            filled & set(network.state_dict()),
            preprocessing,
            definition=definition,
            patch=_patch_of(encoder, config),
            file=self.files[0] if len(self.files) == 1 else weights_file(self.weights),
            fit=fit,
        )

    def _network(self, encoder: Encoder, config: Any) -> tuple[Any, set[str], Fit | None]:
        import torch
        import transformers

        made = getattr(transformers, encoder.network)
        config._attn_implementation = "sdpa" if made._supports_sdpa else "eager"
        _refuse_huge(self.name, made, config)
        # the caller's random numbers stay as they were; no device is asked for
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            if self.weights == CHECKPOINT:
                return *self._checkpoint(made, config), None
            path = weights_file(self.weights)
            if path is not None:
                return _fill_from(made, config, path)
            network = made(config)
        return network, set(network.state_dict()), None

    def _checkpoint(self, made: Any, config: Any) -> tuple[Any, set[str]]:
        tensors: dict = {}
        for file in self.files:
            tensors |= read_state_dict(file)
        network, fit = _fill(made, config, tensors)
        if fit.misshapen:
            raise ExtractError(
                f"hf:{self.name}: its weights are not those of its {CONFIG}: {fit.misshapen[0]}"
            )
        if not fit.n_filled:
            raise ExtractError(
                f"hf:{self.name}: none of the {len(tensors)} tensors fits a {made.__name__}: "
                "is it another architecture?"
            )
        return network, set(network.state_dict()) - set(fit.without)

    def _preprocessing(self, encoder: Encoder, values: dict | None, config: Any) -> Any:
        if values is not None:
            return preprocessing_of(self.name, values, self.size)
        log.warning(
            "hf:%s has no %s: its images are made ready as %s does by default",
            *(self.name, PREPROCESSOR, encoder.processor),
        )
        sides = self.size or _sides(getattr(config, "image_size", None))
        return preprocessing_of(self.name, {"image_processor_type": encoder.processor}, sides)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Inside, transformers writes no bars and no reports: what matters here is raised."""
    from transformers.utils import logging as said

    verbosity, shown = said.get_verbosity(), said.is_progress_bar_enabled()
    said.set_verbosity(logging.CRITICAL)
    said.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        said.set_verbosity(verbosity)
        if shown:
            said.enable_progress_bar()


def _configure(name: str, encoder: Encoder, asked: dict) -> tuple[Any, dict]:
    """The configuration of the network, and the values of those asked that it knows."""
    import transformers

    made = getattr(transformers, encoder.config)
    common = {own.name for own in fields(transformers.PreTrainedConfig)}
    known = {own.name for own in fields(made)} - common | set(made.attribute_map)
    used = {key: value for key, value in asked.items() if key in known and key[0] != "_"}
    _refuse_deep(name, used)
    try:
        return made(**used), used
    # any: a library's own checks of foreign values
    except Exception as error:
        raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> ExtractError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ExtractError(f"hf:{name}: no network can be made of its {CONFIG}: {reason}")


def _refuse_deep(name: str, used: dict) -> None:
    """ExtractError for more modules or wider ones than any encoder has, before they are made."""
    for key, value in used.items():
        most = LARGEST_SIDE if key == "image_size" else MOST_WIDTH
        refuse_large(f"hf:{name}", key, value, is_depth=key in DEPTHS, most=most)


def _refuse_huge(name: str, made: Any, config: Any) -> None:
    """ExtractError for a network that this machine can't hold, before it is made."""
    import torch

    try:
        with torch.device("meta"):
            needed = bytes_of(made(config))
    # any: a network's own code on foreign values
    except Exception as error:
        raise _unusable(name, error) from error
    refuse_huge(f"hf:{name}", needed)


def _fill(made: Any, config: Any, tensors: dict) -> tuple[Any, Fit]:
    """The network with these tensors, renamed as transformers does; `without` names tensors."""
    import torch

    network, told = made.from_pretrained(
        None,
        config=config,
        state_dict=tensors,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    wrong = sorted(told["mismatched_keys"])
    missing = {*told["missing_keys"], *(key for key, _, _ in wrong)}
    return network, Fit(
        "",
        len(set(network.state_dict()) - missing),
        tuple(sorted(told["unexpected_keys"])),
        tuple(f"{key} {tuple(found)}, expected {tuple(own)}" for key, found, own in wrong),
        tuple(sorted(missing)),
    )


def _fill_from(made: Any, config: Any, path: Path) -> tuple[Any, set[str], Fit]:
    """The network with what of a file fits it: as transformers names it, or as for any network."""
    network, fit = _fill(made, config, read_state_dict(path))
    filled = set(network.state_dict()) - set(fit.without)
    layers = dict.fromkeys(key.rpartition(".")[0] or key for key in fit.without)
    found = network, filled, replace(fit, without=tuple(layers))
    if not fit.without:
        return found
    other = made(config)
    try:
        own_filled, own_fit = load_file(other, path)
    except ExtractError:
        if not filled:
            raise
        return found
    return (other, own_filled, own_fit) if len(own_filled) > len(filled) else found


def _finish(network: Any, encoder: Encoder, config: Any, filled: set[str]) -> None:
    """Make the network one of images alone, whose pooled output is a layer."""
    from torch import nn

    if any(key.startswith("pooler.") and key not in filled for key in network.state_dict()):
        network.pooler = None  # a classifier's checkpoint has none: it takes the class token itself
    for module in network.modules():
        if isinstance(getattr(module, "mask_token", None), nn.Parameter):
            module.mask_token = None  # of pretraining; no image passes it
    network.pooled = nn.Identity()
    tower = network.get_submodule(encoder.tower)
    tower.register_forward_hook(PoolingHook(network.pooled, encoder.prefix))
    if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
        sides = _sides(getattr(config, "image_size", None))
        network.register_forward_pre_hook(PositionsHook(sides), with_kwargs=True)


class PoolingHook:
    """After a forward, pass the pooled output through a layer of its own.

    Without a pooled output it is the class token's, or the mean of the tokens or the map. An
    object, as a copied network's must hold the copy's layer.
    """

    def __init__(self, pooled: Any, prefix: int | None) -> None:
        self.pooled = pooled
        self.prefix = prefix

    def __call__(self, _module: Any, _inputs: tuple, output: Any) -> None:
        found = getattr(output, "pooler_output", None)
        if found is None:
            last = output.last_hidden_state
            if self.prefix:
                found = last[:, 0]
            else:
                found = last.mean(1) if last.dim() == 3 else last.mean((2, 3))
        self.pooled(found.flatten(1))


class PositionsHook:
    """Before a forward on images of another size than the configuration's, ask for positions."""

    def __init__(self, sides: Any) -> None:
        self.sides = sides

    def __call__(self, _module: Any, inputs: tuple, named: dict) -> tuple[tuple, dict]:
        if tuple(map(int, inputs[0].shape[-2:])) != self.sides:
            named = {**named, "interpolate_pos_encoding": True}
        return inputs, named


def _sides(size: Any) -> tuple[int, int] | None:
    """(height, width) of a configuration's `image_size` or `patch_size`."""
    if isinstance(size, int):
        return size, size
    return tuple(size) if isinstance(size, (list, tuple)) and len(size) == 2 else None


def _patch_of(encoder: Encoder, config: Any) -> tuple[int, int] | None:
    return None if encoder.prefix is None else _sides(getattr(config, "patch_size", None))
