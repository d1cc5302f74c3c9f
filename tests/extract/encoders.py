"""Small vision encoders of transformers, of random weights, in folders as on the hub."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from extract.backbones.huggingface import ENCODERS

TOKENS = {
    **{"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2},
    **{"intermediate_size": 64, "image_size": 48, "patch_size": 8},
}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
WIDER = {"embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 2, 1, 1]}
WINDOWS = {
    **{"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [2, 2]},
    **{"num_heads": [2, 4], "window_size": 4},
}


@dataclass(frozen=True)
class Tiny:
    """A small configuration, and which layer gives which of the library's hidden states.

    states: a layer's name with a place for its number; `hidden_states[number + first]` is its
    output.
    """

    settings: dict[str, Any]
    states: str | None
    first: int = 1


TINY = {
    "beit": Tiny(TOKENS, "layers.{}"),
    "bit": Tiny({**WIDER, "hidden_sizes": [16, 32, 64, 64], "num_groups": 4}, "encoder.stages.{}"),
    "clip": Tiny({**TOKENS, "projection_dim": 24}, "vision_model.encoder.layers.{}"),
    "convnext": Tiny(STAGES, "encoder.stages.{}"),
    "convnextv2": Tiny(STAGES, "encoder.stages.{}"),
    "data2vec-vision": Tiny(TOKENS, "encoder.layer.{}"),
    "deit": Tiny(TOKENS, "layers.{}"),
    "dinov2": Tiny(TOKENS, "encoder.layer.{}"),
    "dinov2_with_registers": Tiny({**TOKENS, "num_register_tokens": 4}, "encoder.layer.{}"),
    "dinov3_convnext": Tiny(STAGES, "model.stages.{}"),
    "dinov3_vit": Tiny({**TOKENS, "num_register_tokens": 4}, "model.layer.{}"),
    "efficientnet": Tiny(
        {"width_coefficient": 0.3, "depth_coefficient": 0.3, "image_size": 64, "hidden_dim": 384},
        "encoder.blocks.{}",
    ),
    "focalnet": Tiny(
        {
            **{"image_size": 64, "embed_dim": 16, "depths": [1, 2], "hidden_sizes": [16, 32]},
            **{"focal_levels": [2, 2], "focal_windows": [3, 3]},
        },
        "encoder.stages.{}",
    ),
    "ijepa": Tiny(TOKENS, "layers.{}"),
    "levit": Tiny(
        {
            **{"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 2, 2]},
            **{"depths": [1, 1, 1], "key_dim": [8, 8, 8]},
        },
        "encoder.stages.{}",
    ),
    "mobilenet_v1": Tiny({"depth_multiplier": 0.25, "image_size": 64}, "layer.{}", 0),
    "mobilenet_v2": Tiny({"depth_multiplier": 0.35, "image_size": 64}, "layer.{}", 0),
    "mobilevit": Tiny(
        {
            **{"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 64]},
            **{"image_size": 64, "num_attention_heads": 2},
        },
        "encoder.layer.{}",
        0,
    ),
    "poolformer": Tiny(STAGES, None),
    "pvt_v2": Tiny(
        {
            **{"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "image_size": 64},
            **{"num_attention_heads": [1, 2, 2, 2], "mlp_ratios": [2, 2, 2, 2]},
        },
        None,
    ),
    "regnet": Tiny({**WIDER, "groups_width": 8}, "encoder.stages.{}"),
    "resnet": Tiny({**WIDER, "layer_type": "basic"}, "encoder.stages.{}"),
    "siglip": Tiny(TOKENS, "encoder.layers.{}"),
    "swin": Tiny(WINDOWS, "encoder.layers.{}"),
    "swinv2": Tiny(WINDOWS, "encoder.layers.{}"),
    "vit": Tiny(TOKENS, "layers.{}"),
    "vit_msn": Tiny(TOKENS, "layers.{}"),
}
# those in which people have most models, one a kind of network
MAIN = (
    *("vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "clip", "siglip"),
    *("convnext", "swin", "resnet"),
)


def make_encoder(kind: str, seed: int = 0) -> Any:
    """The library's own network of a small configuration."""
    import transformers

    encoder = ENCODERS[kind]
    config = getattr(transformers, encoder.config)(**TINY[kind].settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(transformers, encoder.network)(config).eval()
        for name, parameter in network.named_parameters():
            if "token" in name or "position" in name or "embedding" in name:
                torch.nn.init.normal_(parameter, std=0.5)  # some start as zeros
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
    return network


def processor_of(kind: str) -> Any:
    """The library's image processor for the side of a small configuration, of usual settings."""
    import transformers

    made = getattr(transformers, ENCODERS[kind].processor)
    side = TINY[kind].settings.get("image_size", 64)
    whole = made.size
    if "shortest_edge" in whole:
        return made(size={"shortest_edge": side + 8}, crop_size={"height": side, "width": side})
    size = {"height": side, "width": side}
    return (
        made(size={"height": side + 8, "width": side + 8}, crop_size=size)
        if (getattr(made, "do_center_crop", False))
        else made(size=size)
    )


def write_encoder(folder: Any, kind: str, seed: int = 0) -> str:
    """A folder as on the hub -> the backbone's name."""
    make_encoder(kind, seed).save_pretrained(folder)
    processor_of(kind).save_pretrained(folder)
    return f"hf:{folder}"


def write_pictures(folder: Any, count: int = 5, seed: int = 0) -> list[str]:
    """PNG files of odd shapes -> their paths."""
    random = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        height, width = random.integers(40, 150, 2) * 2 + 1
        coarse = random.integers(0, 256, (7, 9, 3), np.uint8)
        fine = random.integers(0, 40, (height, width, 3))
        smooth = np.asarray(Image.fromarray(coarse).resize((int(width), int(height))))
        pixels = np.clip(smooth.astype(int) + fine - 20, 0, 255).astype(np.uint8)
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths
