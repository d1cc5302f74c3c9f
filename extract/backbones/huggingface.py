"""Vision encoders of Hugging Face's transformers, from a folder or the hub, no code of theirs."""

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from data.memory import available
from extract.backbones.backbone import Backbone
from extract.backbones.card import Built
from extract.backbones.checkpoints import CONFIG, PREPROCESSOR, find_checkpoint
from extract.backbones.image_processors import preprocessing_of, processor_values
from extract.backbones.names import Asked, file_signature, path_signature, refuse_preprocessing, share
from extract.errors import ExtractError
from extract.weights import is_file_source, read_state_dict, weights_file

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"
MOST_LAYERS, MOST_WIDTH = 1000, 1 << 20
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
    weights = asked.weights or CHECKPOINT
    if weights not in (CHECKPOINT, "random") and not is_file_source(weights):
        raise ExtractError(
            f"weights={weights!r} of hf:{asked.name}: expected random, a .pth or .safetensors "
            "file, or nothing for those of the checkpoint"
        )
    if asked.definition is None:
        found = find_checkpoint(asked.name, with_weights=weights == CHECKPOINT)
        definition = {"config": _told(found.config), "processor": None}
        if found.processor is not None:
            definition["processor"] = processor_values(found.processor)
        files = found.weights
    else:
        definition, files = asked.definition, ()
    _encoder_of(asked.name, definition)
    text = json.dumps(definition, sort_keys=True)
    build = HuggingFaceBuild(asked.name, weights, asked.seed, asked.size, text, files)
    key = (
        *("hf", asked.name, weights, asked.seed if weights == "random" else None),
        *(file_signature(weights), [path_signature(file) for file in files]),
        *(hashlib.sha256(text.encode()).hexdigest(), _version(asked.name)),
    )
    return share(
        (json.dumps(key), asked.size, str(asked.cache)),
        lambda: Backbone(
            f"hf:{asked.name}",
            weights,
            build,
            size=asked.size,
            memory=asked.cache,
            key=key,
            definition=definition,
        ),
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError as error:
        raise ExtractError(
            f"hf:{name} needs the package transformers: pip install 'permafrost[hf]'"
        ) from error


# of a configuration: what names code, files or a way to run, and what only a classifier reads
LEFT_OUT = {
    *("architectures", "auto_map", "attn_implementation", "custom_pipelines", "dtype"),
    *("experts_implementation", "fusion_config", "id2label", "label2id", "name_or_path"),
    *("per_layer_config", "quantization_config", "torch_dtype", "transformers_version"),
    *("transformers_weights", "text_config", "text_config_dict"),
}


def _told(config: dict) -> dict:
    """What of a configuration a network is built by."""
    return {
        key: _told(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if not key.startswith("_") and key not in LEFT_OUT
    }


def _encoder_of(name: str, definition: dict) -> tuple[str, Encoder]:
    kind = definition["config"].get("model_type")
    if not isinstance(kind, str) or kind not in ENCODERS:
        said = f"is a {kind[:40]!r} model" if isinstance(kind, str) else "does not say its type"
        raise ExtractError(
            f"hf:{name} {said}, not one of the vision encoders that are read here: "
            f"{', '.join(ENCODERS)}"
        )
    return kind, ENCODERS[kind]


@dataclass(frozen=True)
class HuggingFaceBuild:
    """Builds a vision encoder with its weights; picklable, unlike the network.

    definition : JSON of the configuration's and the image processor's values.
    files : of the checkpoint's weights.
    """

    name: str
    weights: str
    seed: int
    size: Any
    definition: str
    files: tuple[Path, ...]

    def __call__(self) -> Built:
        definition = json.loads(self.definition)
        kind, encoder = _encoder_of(self.name, definition)
        with _silence(self.name):
            config, used = _configure(self.name, encoder, definition["config"])
            if self.weights == "random":
                network = _random(encoder, config, self.seed)
            else:
                network = _filled(self.name, encoder, config, self._tensors())
            filled = network.__dict__.pop("_permafrost_filled", None)
            preprocessing = self._preprocessing(encoder, definition["processor"], used)
        _drop_mask_tokens(network)
        _add_pooled(network, encoder)
        _interpolate_positions(network, used)
        used_text = json.dumps([encoder.network, used], sort_keys=True)
        digest = hashlib.sha256(used_text.encode()).hexdigest()[:12]
        return Built(network, self.weights, f"hf.{kind}/{digest}", filled, preprocessing)
