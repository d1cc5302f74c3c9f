"""timm's models: every family by one small model, held against timm's own numbers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from extract import ExtractError, MemoryStore, Preprocessing, Tap, extract, load_backbone
from extract.backbones import named_backbone
from extract.backbones import timm as timm_backbones
from tests.extract.timm_families import FAMILIES, NOT_ITS_OWN, OTHER_NAMES

ODD = [(61, 47), (137, 211)]


def odd_images():
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)) for width, height in ODD
    ]


def unsettle(network):
    """Batch norms that do something, as trained ones do."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.25, generator=generator)


def timm_inputs(network, size):
    """The images as timm's own transform makes them."""
    from timm.data import create_transform, resolve_data_config

    settings = resolve_data_config({} if size is None else {"img_size": size}, model=network)
    transform = create_transform(**settings)
    return torch.stack([transform(image) for image in odd_images()])


def test_the_table_has_every_family_of_timm():
    import timm

    assert set(FAMILIES) >= set(timm.list_modules())


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_timms_own_numbers(family):
    name, size, arguments, auto = FAMILIES[family]
    backbone = load_backbone(
        f"timm:{name}", "random", size=size, definition=_defined(name, arguments)
    )
    network = backbone.network
    unsettle(network)
    card = backbone.card
    assert card.choose_layers("auto") == auto.split()
    assert card.first_untrained is None
    if family in NOT_ITS_OWN:
        return
    own = own_maps(network, timm_inputs(network, size), OTHER_NAMES.get(family, ("", "")))
    taps = {Tap(layer, "avg"): maps for layer, maps in own.items() if layer in card.activations}
    assert len(taps) >= min(3, len(own)), own.keys()
    done = extract(odd_images(), list(taps), backbone, MemoryStore(), numerics="float32")
    assert not done.bad
    for tap, maps in taps.items():
        found = done.read([tap], np.arange(len(ODD)))
        expected = maps.mean((2, 3)).numpy()
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected), tap
        assert card.activations[tap.layer].map_shape == tuple(maps.shape[1:]), tap


def own_maps(network, images, renamed):
    """{layer: maps (n, channels, height, width)} as timm itself gives intermediate features."""
    info = network.feature_info
    rows = info if isinstance(info, list) else info.info
    names = [row["module"].replace(*renamed, 1) for row in rows]
    with torch.inference_mode():
        maps = network.forward_intermediates(images, intermediates_only=True, norm=False)
    return dict(zip(names, maps, strict=True))


def _defined(name, arguments):
    """A model of fewer blocks than the smallest that has a name."""
    return arguments and {"architecture": name, "model_args": arguments}


@pytest.mark.slow
def test_the_preprocessing_is_timms_to_the_pixel():
    from timm.data import create_transform

    for mode, fit in (("center", "shorter"), ("squash", "squash"), ("border", "border")):
        for size in (224, (96, 128), 37):
            for crop in (0.875, 0.95, 1.0):
                height, width = size if isinstance(size, tuple) else (size, size)
                transform = create_transform(
                    (3, height, width),
                    crop_pct=crop,
                    crop_mode=mode,
                    interpolation="bicubic",
                    mean=(0.5, 0.25, 0.5),
                    normalize=False,
                )
                ours = Preprocessing(size, crop, "bicubic", mean=(0.5, 0.25, 0.5), fit=fit)
                for image in odd_images():
                    expected = transform(image).permute(1, 2, 0).numpy()
                    assert np.array_equal(ours(image), expected), (mode, size, crop, image.size)


@pytest.mark.slow
def test_a_name_brings_its_weights_from_the_hubs_cache(monkeypatch, tmp_path):
    """As timm itself loads them, tag and preprocessing included."""
    import timm
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        trained = timm.create_model("test_vit").eval()
    file = tmp_path / "model.safetensors"
    save_file(trained.state_dict(), file)
    asked = []
    monkeypatch.setattr(
        timm_backbones, "hub_file", lambda *asked_for: asked.append(asked_for) or file
    )
    backbone = load_backbone("timm:test_vit")
    network = backbone.network
    files = ["model.safetensors", "pytorch_model.bin"]
    assert asked == [("timm/test_vit.r160_in1k", "timm:test_vit.r160_in1k", files)]
    assert (backbone.card.weights, backbone.card.architecture) == (
        "r160_in1k",
        "timm.test_vit.r160_in1k",
    )
    for name, tensor in trained.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    # at another size the position embeddings are resampled, by timm's own rule
    smaller = load_backbone("timm:test_vit", size=96).network
    as_timm = timm.create_model(
        "test_vit",
        pretrained=True,
        img_size=96,
        pretrained_cfg_overlay={"file": str(file), "custom_load": False},
    )
    assert smaller.pos_embed.shape == (1, 37, 64)
    assert torch.equal(smaller.pos_embed, as_timm.pos_embed)


@pytest.mark.slow
def test_a_folder_that_timm_wrote(tmp_path):
    import timm
    from timm.models import save_for_hf

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        own = timm.create_model("test_resnet", num_classes=7).eval()
    unsettle(own)
    own.pretrained_cfg = dict(own.pretrained_cfg, crop_pct=0.9, mean=(0.25,) * 3, std=(0.5,) * 3)
    save_for_hf(own, tmp_path / "own", model_config={"num_classes": 7})
    backbone = load_backbone(f"timm:{tmp_path / 'own'}")
    assert backbone.card.choose_layers("auto")
    assert backbone.preprocessing.crop == 0.9
    assert backbone.preprocessing.mean == (0.25,) * 3
    assert named_backbone(backbone.card.architecture) == "timm:test_resnet"
    images = timm_inputs(backbone.network, None)
    with torch.inference_mode():
        expected = own.forward_features(images).mean((2, 3)).numpy()
    tap = Tap("layer4", "avg")
    done = extract(odd_images(), [tap], backbone, MemoryStore(), numerics="float32")
    found = done.read([tap], np.arange(len(ODD)))
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)
    # what the folder says is enough to build it again beside its weights
    file = timm_backbones.folder_weights(tmp_path / "own")
    again = load_backbone(
        "timm:test_resnet", str(file), definition=json.loads(json.dumps(backbone.card.definition))
    )
    assert again.card.digest == backbone.card.digest
    assert again.card.transform_id == backbone.card.transform_id
    assert again.card.architecture == backbone.card.architecture


def folder_of(tmp_path, **said):
    (tmp_path / "config.json").write_text(json.dumps(said))
    return f"timm:{tmp_path}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("timm:resnt18", "random", "timm has no model 'resnt18': did you mean resnet18"),
        ("timm:resnet18.a9", "random", "no weights 'a9' of resnet18: expected a1_in1k, a2_in1k"),
        ("timm:resnet18", "a9", "no weights 'a9' of resnet18"),
        ("timm:resnet18.a1_in1k", "a2_in1k", "leave one out"),
        ("timm:test_vit", "gone.pth", "no weights file gone.pth"),
        ("timm:./gone", None, "gone has no config.json: expected a name that timm"),
        ("timm:convnext_atto_rms", None, "timm has no weights for convnext_atto_rms"),
    ],
)
def test_what_cant_be_used_is_said_in_a_line(name, weights, said):
    with pytest.raises(ExtractError, match=said) as caught:
        _ = load_backbone(name, weights).card
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "vit"}, "hf:FOLDER takes those of transformers"),
        ({"architecture": "own_net"}, "timm has no model 'own_net'"),
        ({"architecture": "test_vit"}, "has no weights: expected model.safetensors"),
        ({"architecture": "test_vit", "model_args": [1]}, "is no object of settings"),
    ],
)
def test_a_folder_that_cant_be_used_is_said_in_a_line(config, said, tmp_path):
    name = folder_of(tmp_path, **config)
    weights = None if "weights" in said else "random"
    with pytest.raises(ExtractError, match=said):
        _ = load_backbone(name, weights).card


@pytest.mark.slow
def test_a_folder_makes_timm_fetch_and_open_nothing(tmp_path, monkeypatch):
    """Not even where its settings ask for it, as those of a bundle from elsewhere may."""
    import timm

    given = []
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: given.append(k) or create(*a, **k))
    config = {
        "architecture": "test_resnet",
        "model_args": {
            "pretrained": True,
            "pretrained_cfg": "evil",
            "checkpoint_path": "/etc/passwd",
            "cache_dir": "/tmp",
            "in_chans": 3,
        },
        "pretrained_cfg": {"url": "http://127.0.0.1/", "file": "/etc/passwd", "crop_pct": 0.5},
    }
    backbone = load_backbone(folder_of(tmp_path, **config), "random")
    assert backbone.preprocessing.crop == 0.5
    own = {"in_chans": 3, "pretrained_cfg_overlay": {"crop_pct": 0.5}}
    assert given == [own, own]  # without memory first


@pytest.mark.slow
def test_norms_with_an_activation_inside_are_not_fused():
    """timm's BatchNormAct2d is a subclass of torch's: fused, its activation would be lost."""
    backbone = load_backbone("timm:tf_efficientnet_lite0", "random", size=64)
    unsettle(backbone.network)
    assert backbone.card.folds == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_small_patch14_reg4_dinov2"])
def test_patches_that_do_not_divide_the_image_are_found(name):
    """timm leaves out the rest of a side; by the aspect alone another grid would fit as well."""
    backbone = load_backbone(f"timm:{name}", "random", size=(96, 160))
    activation = backbone.card.activations["blocks.3"]
    assert activation.tokens_grid == (6, 11)
    with torch.inference_mode():
        images = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
        expected = backbone.network.forward_intermediates(
            images, indices=[3], intermediates_only=True, norm=False
        )[0]
        found = []
        handle = backbone.network.blocks[3].register_forward_hook(
            lambda module, inputs, output: found.append(output)
        )
        backbone.network(images)
        handle.remove()
    assert torch.allclose(activation.as_map(found[0]), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pretrained_cfg": {"mean": "abc"}}, "expected three numbers"),
        ({"pretrained_cfg": {"mean": [1]}}, "expected three numbers"),
        ({"pretrained_cfg": {"std": [0, 0, 0]}}, "expected three numbers above 0"),
        ({"pretrained_cfg": {"crop_pct": "x"}}, "can't be used"),
        ({"pretrained_cfg": {"interpolation": ["x"]}}, "can't be used"),
        ({"model_args": {"depth": 3000}, "architecture": "test_vit"}, "depth=3000 .* too large"),
        ({"model_args": {"embed_dim": 1 << 22}, "architecture": "test_vit"}, "too large"),
    ],
)
def test_values_of_a_folder_that_no_network_has(changed, said, tmp_path):
    name = folder_of(tmp_path, **({"architecture": "test_resnet"} | changed))
    with pytest.raises(ExtractError, match=said) as caught:
        _ = load_backbone(name, "random").card
    assert "\n" not in str(caught.value)
