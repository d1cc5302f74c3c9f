"""Which layers a network has, what they give and which are worth keeping."""

import pytest
import torch
from torch import nn

from extract import ExtractError, Preprocessing, load_backbone
from extract.layers import block_layers, probe_layers, spread, unknown_layer

RESNET = [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]
LAST_BLOCKS = [f"encoder.layers.encoder_layer_{i}" for i in (2, 4, 6, 8, 10)]
DENSE = [
    f"features.{name}"
    for name in ("transition1", "denseblock2", "transition2", "transition3", "denseblock4")
]

# name -> (size, how many blocks, first and last block, auto, kind and shape of the last)
ARCHITECTURES = {
    "resnet18": (32, 8, "layer1.0", [*RESNET[1:4], *RESNET[5:]], "map", (512, 1, 1)),
    "vgg11": (
        32,
        8,
        "features.1",
        [f"features.{i}" for i in (4, 7, 9, 14, 17, 19)],
        "map",
        (512, 2, 2),
    ),
    "mobilenet_v2": (
        32,
        19,
        "features.0",
        [f"features.{i}" for i in (3, 6, 9, 12, 15, 18)],
        "map",
        (1280, 1, 1),
    ),
    "mobilenet_v3_small": (
        32,
        13,
        "features.0",
        [f"features.{i}" for i in (2, 4, 6, 8, 10, 12)],
        "map",
        (576, 1, 1),
    ),
    "efficientnet_b0": (
        32,
        18,
        "features.0",
        [
            "features.2.0",
            "features.3.1",
            "features.4.2",
            "features.5.2",
            "features.6.2",
            "features.8",
        ],
        "map",
        (1280, 1, 1),
    ),
    "convnext_tiny": (
        32,
        22,
        "features.0",
        [
            "features.1.2",
            "features.3.2",
            "features.5.1",
            "features.5.5",
            "features.6",
            "features.7.2",
        ],
        "map",
        (768, 1, 1),
    ),
    "vit_b_32": (
        None,
        13,
        "encoder.layers.encoder_layer_0",
        [*LAST_BLOCKS, "encoder.ln"],
        "tokens",
        (50, 768),
    ),
    "swin_t": (
        64,
        17,
        "features.0",
        ["features.1.1", "features.3.1", "features.5.1", "features.5.4", "features.7.0", "norm"],
        "grid",
        (2, 2, 768),
    ),
    "densenet121": (64, 8, "features.denseblock1", [*DENSE, "features.norm5"], "map", (1024, 2, 2)),
}


# these are large, and others are of their kind
LARGE = {"vgg11", "vit_b_32", "convnext_tiny"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in ARCHITECTURES],
)
def test_the_blocks_of_an_architecture(name):
    size, count, first, auto, kind, shape = ARCHITECTURES[name]
    card = load_backbone(name, "random", size=size).card
    blocks = card.choose_layers("all")
    assert len(blocks) == count
    assert (blocks[0], blocks[-1]) == (first, auto[-1])
    assert card.choose_layers("auto") == auto
    last = card.activations[blocks[-1]]
    assert (last.kind, last.shape) == (kind, shape)
    assert [card.activations[block].order for block in blocks] == sorted(
        card.activations[b].order for b in blocks
    )
    assert bool(card.folds) == (
        name in ("resnet18", "densenet121") or name.startswith(("mobilenet", "efficient"))
    )
    if name == "vit_b_32":
        assert (last.tokens_grid, last.prefix_tokens) == ((7, 7), 1)


def probe(network, shape=(3, 32, 32)):
    with torch.inference_mode():
        return probe_layers(network.eval(), torch.randn(2, *shape))


def test_every_module_is_told_in_the_order_of_the_last_calls(tiny_net):
    found = probe(tiny_net())
    assert found["conv1"].shape == (8, 16, 16)
    assert found["layer2.0.relu"].calls == 2
    assert found["fc.0"].kind == "vector"
    assert found["fc.0"].shape == (10,)
    assert list(found) == sorted(found, key=lambda name: found[name].order)
    assert found["layer1.0.conv2"].order < found["layer1.0.relu"].order < found["layer1.0"].order


def test_a_network_inside_another_has_the_same_blocks(tiny_net):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Sequential()
            self.model.add_module("trunk", tiny_net())

        def forward(self, x):
            return self.model(x)

    plain, wrapped = tiny_net(), Wrapper()
    blocks = block_layers(plain, probe(plain))
    assert blocks == ["layer1.0", "layer2.0", "layer3.0"]
    assert block_layers(wrapped, probe(wrapped)) == [f"model.trunk.{name}" for name in blocks]


class Stage(nn.Module):
    """Blocks in a sequence, within a module of their own."""

    def __init__(self, wide):
        super().__init__()
        block = [nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU()) for _ in range(3)]
        self.layers = nn.ModuleList(block)

    def forward(self, maps):
        for layer in self.layers:
            maps = maps + layer(maps)
        return maps


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU())
        self.encoder = Stage(8)

    def forward(self, images):
        return self.encoder(self.embeddings(images))


class Projected(nn.Module):
    """A tower of images in a whole model, as CLIP's is."""

    def __init__(self):
        super().__init__()
        self.tower = Tower()
        self.projection = nn.Linear(8, 4)

    def forward(self, images):
        return self.projection(self.tower(images).mean((2, 3)))


def test_a_tower_within_a_model_is_opened_for_its_blocks():
    """It stood for a block itself, and the first convolutions were all that was offered."""
    network = Projected().eval()
    activations = probe_layers(network, torch.randn(2, 3, 32, 32))
    blocks = [f"tower.encoder.layers.{number}" for number in range(3)]
    assert block_layers(network, activations) == ["tower.embeddings", *blocks]


@pytest.mark.parametrize(
    ("leaf", "expected"), [(nn.ReLU, ["1", "3"]), (nn.SiLU, ["1", "3"]), (nn.Identity, ["0", "2"])]
)
def test_a_network_of_leaves_gives_its_activations_or_convolutions(leaf, expected):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        leaf(),
        nn.Conv2d(4, 4, 3),
        leaf(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
        leaf(),
    )
    assert block_layers(network, probe(network)) == expected


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(self.conv(x)[:, :, ::2, ::2])


def test_a_module_called_twice_gives_its_last_output():
    found = probe(Twice())
    assert found["conv"].calls == 2
    assert found["conv"].shape == (3, 16, 16)


class Windows(nn.Module):
    """Four windows per image through an inner module."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 5, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        windows = (
            x.unflatten(2, (2, h // 2))
            .unflatten(4, (2, w // 2))
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(4 * n, c, h // 2, -1)
        )
        return self.inner(windows).unflatten(0, (n, 4)).mean(1)


def test_a_module_that_sees_windows_is_left_out():
    assert list(probe(nn.Sequential(Windows()))) == ["0"]


class Several(nn.Module):
    def forward(self, x):
        return {"features": (x, x.mean()), "other": None}


def test_the_first_of_several_outputs_counts():
    found = probe(nn.Sequential(Several()))
    assert found["0"].shape == (3, 32, 32)


class ChannelsLast(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 16, 48), (3, 40, 24)])
def test_channels_first_and_last_are_told_apart_at_any_aspect(shape):
    found = probe(nn.Sequential(nn.Conv2d(3, 7, 2, 2), ChannelsLast()), shape)
    height, width = shape[1] // 2, shape[2] // 2
    assert (found["0"].kind, found["0"].map_shape) == ("map", (7, height, width))
    assert (found["1"].kind, found["1"].map_shape) == ("grid", (7, height, width))


class Tokens(nn.Module):
    def __init__(self, prefix):
        super().__init__()
        self.prefix = prefix

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, :1].expand(-1, self.prefix, -1), tokens], 1)


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 16, 48), (3, 48, 32)])
def test_patch_tokens_are_found_behind_class_tokens(prefix, shape):
    found = probe(nn.Sequential(nn.AvgPool2d(4), Tokens(prefix)), shape)["1"]
    assert (found.kind, found.tokens_grid, found.prefix_tokens) == (
        "tokens",
        (shape[1] // 4, shape[2] // 4),
        prefix,
    )


def test_swin_is_channels_last_even_where_its_map_is_as_wide_as_it_has_channels():
    """At 384 px the first stage of swin_t is 96 x 96 with 96 channels, and was read as channels
    first."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), ChannelsLast(), nn.LayerNorm(8), nn.Linear(8, 20)
    )
    found = probe(network)
    assert [found[name].kind for name in "0123"] == ["map", "grid", "grid", "grid"]
    network = nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 20, 1)
    )
    assert [found.kind for found in probe(network).values()] == ["map"] * 4


def test_spread_ends_with_the_last():
    assert spread(list("abcdefghijkl")) == list("bdfhjl")
    assert spread(list("abc")) == list("abc")
    assert spread(list("abcdefg"), 2) == list("dg")


def test_an_unknown_layer_offers_the_nearest(backbone):
    with pytest.raises(ExtractError, match=r"unknown layer 'layer2.1': did you mean layer2\.0"):
        backbone.card.choose_layers("layer2.1")
    assert "did you mean y, z" in str(unknown_layer("qqqq", ["y", "z"]))


def test_layers_are_named_by_commas(backbone):
    assert backbone.card.choose_layers("conv1, layer3.0,") == ["conv1", "layer3.0"]


def test_an_input_that_is_not_square(tiny_net):
    card = load_backbone(tiny_net(), preprocessing=Preprocessing(size=(32, 64))).card
    assert card.activations["layer3.0"].map_shape == (16, 4, 8)
