"""Backbones from every source, remembered, shared and pickled without their networks."""

import copy
import json
import pickle
import random
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from extract import Backbone, ExtractError, Preprocessing, Tap, load_backbone, recipe_of
from extract.backbones import LOADERS, bare_names
from extract.backbones import names as backbones_file
from extract.backbones.card import read_card
from extract.backbones.names import parse_name
from extract.files import HEAD, _checksum, read_remembered, write_remembered


@pytest.fixture(autouse=True)
def _forget_shared(monkeypatch):
    monkeypatch.setattr(backbones_file, "_shared", type(backbones_file._shared)())


def card(cache, **arguments):
    return load_backbone("mobilenet_v3_small", "random", size=32, cache=cache, **arguments).card


def test_an_own_module_is_a_backbone(backbone, tiny_net):
    card = backbone.card
    assert (card.name.rpartition(".")[2], card.weights) == ("TinyNet", "own")
    assert card.choose_layers("all") == ["layer1.0", "layer2.0", "layer3.0"]
    assert (
        card.architecture
        == load_backbone(tiny_net(3), preprocessing=Preprocessing(32, 1.0)).card.architecture
    )
    assert card.width(Tap("layer3.0", "grid2")) == 64
    assert card.fits(Tap("layer3.0", "grid4"))
    assert not card.fits(Tap("layer3.0", "grid5"))
    with pytest.raises(ExtractError, match=r"layer3.0:grid5: grid5 does not fit a map of 4x4"):
        card.check(Tap("layer3.0", "grid5"))


def test_an_own_module_is_left_as_it_was(tiny_net, small):
    """Loading it turned the caller's module to eval mode, float32 and no gradients."""
    network = tiny_net().double().train()
    backbone = load_backbone(network, preprocessing=small)
    digest = backbone.card.digest
    assert network.training
    assert all(p.requires_grad and p.dtype == torch.float64 for p in network.parameters())
    with torch.no_grad():
        network.conv1.weight.zero_()
    assert backbone.network.conv1.weight.abs().max() > 0
    assert load_backbone(network, preprocessing=small).card.digest != digest
    assert not backbone.network.training


def test_a_file_fills_an_own_module(tmp_path, tiny_net, small, backbone):
    network = tiny_net(3)
    torch.save(tiny_net().state_dict(), tmp_path / "w.pth")
    filled = load_backbone(network, str(tmp_path / "w.pth"), preprocessing=small)
    assert filled.card.digest == backbone.card.digest
    assert recipe_of(filled, "float32").id == recipe_of(backbone, "float32").id
    assert (
        load_backbone(network, tmp_path / "w.pth", preprocessing=small).card.digest
        == backbone.card.digest
    )


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "random", "wheel", "weights.npz"])
def test_weights_that_an_own_module_can_not_have_are_refused(tiny_net, weights):
    with pytest.raises(ExtractError, match="your own module"):
        load_backbone(tiny_net(), weights)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of functions that return networks; `made` counts them."""
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom extract import Preprocessing\nmade = []\n"
        "def net():\n    made.append(1)\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), "
        "torch.nn.Conv2d(4, 4, 3))\n"
        "def both():\n    return net(), Preprocessing(size=20)\n"
        "def other():\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    import nets

    return nets


def test_a_function_by_name_makes_the_network(module):
    backbone = load_backbone("nets:both")
    assert backbone.card.name == "nets:both"
    assert backbone.card.activations["0"].shape == (4, 18, 18)
    assert load_backbone("nets:net", size=24).card.activations["0"].shape == (4, 22, 22)


def test_a_function_by_name_is_called_once(module):
    for _ in range(3):
        assert load_backbone("nets:net", size=24).card.digest
    assert module.made == [1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nets:gone", "has no attribute 'gone'"),
        ("nonets:net", "No module named 'nonets'"),
        ("nets:other", "got int, expected a torch.nn.Module"),
        ("nets:", "expected package.module:function"),
        (":net", "expected package.module:function"),
        ("resnet19", "unknown backbone 'resnet19': did you mean resnet18"),
        ("", "unknown backbone ''"),
        ("baseline:gone", "unknown baseline 'gone': expected pixels, histogram, gabor"),
        ("torchvision:resnet19", "unknown backbone 'resnet19': did you mean resnet18"),
    ],
)
def test_a_name_that_is_none_is_refused(module, name, said):
    with pytest.raises(ExtractError, match=said):
        _ = load_backbone(name, None if ":" in name else "random").card


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("resnet18", ("torchvision", "resnet18")),
        ("torchvision:resnet18", ("torchvision", "resnet18")),
        ("gabor", ("baseline", "gabor")),
        ("tf_efficientnet_lite0", ("wheel", "tf_efficientnet_lite0")),
        ("baseline:gabor", ("baseline", "gabor")),
        ("nets:net", ("module", "nets:net")),
        ("module:nets:net", ("module", "nets:net")),
        ("package.baseline:net", ("module", "package.baseline:net")),
    ],
)
def test_a_name_is_a_scheme_and_the_rest(name, parsed):
    assert parse_name(name, LOADERS, bare_names()) == parsed


def test_a_scheme_wins_over_a_module_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "baseline.py").write_text("def pixels():\n    raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_backbone("baseline:pixels").card.architecture == "permafrost.pixels/1"


@pytest.mark.parametrize("thing", [3, None, nn.Module, "array"])
def test_what_is_no_network_is_refused(thing):
    with pytest.raises(
        ExtractError, match=r"expected a torch.nn.Module, a name or module:function"
    ):
        load_backbone(np.zeros(3) if thing == "array" else thing)


def test_weights_by_enum_name_bring_their_preset(served):
    for weights in ("DEFAULT", "IMAGENET1K_V1", None):
        backbone = load_backbone(served.name, weights, size=None if weights == "DEFAULT" else 32)
        assert backbone.card.weights == "IMAGENET1K_V1"
    assert load_backbone(served.name, "DEFAULT").preprocessing == Preprocessing()


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        (
            "resnet18",
            "IMAGENET1K_V9",
            "unknown weights 'IMAGENET1K_V9' for resnet18: expected DEFAULT, IMAGENET1K_V1",
        ),
        (
            "resnet18",
            "wheel",
            "no package is known to hold those of resnet18, only of mobilenet_v2",
        ),
        ("resnet18", "gone.pth", "no weights file gone.pth"),
    ],
)
def test_weights_that_are_none_are_refused(name, weights, said):
    with pytest.raises(ExtractError, match=said):
        _ = load_backbone(name, weights, size=32).card


def test_random_weights_are_seeded_and_leave_the_generators_alone(tmp_path):
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    digests = [card(None, seed=seed).digest for seed in (0, 1)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002
    backbones_file._shared.clear()
    assert [card(None, seed=seed).digest for seed in (0, 1)] == digests
    assert len(set(digests)) == 2


def test_a_size_that_the_network_can_not_run_is_one_clear_line():
    with pytest.raises(
        ExtractError, match=r"densenet121 does not run on 16x16 px: .*; try another size"
    ) as caught:
        _ = load_backbone("densenet121", "random", size=16).card
    assert "\n" not in str(caught.value)
    with pytest.raises(ExtractError, match="size=0"):
        _ = load_backbone("resnet18", "random", size=0).card


class Own:
    transform_id = "own/1"

    def __init__(self, make=None):
        self.make = make or (
            lambda image: np.asarray(image.resize((24, 24)), np.float32).transpose(2, 0, 1) / 255
        )

    def __call__(self, image):
        return self.make(image)


def test_a_preprocessing_of_ones_own(tiny_net):
    backbone = load_backbone(tiny_net(), preprocessing=Own())
    assert backbone.card.transform_id == "own/1"
    assert backbone.card.activations["layer1.0"].shape == (8, 12, 12)
    with pytest.raises(ExtractError, match="size=32 can't be set on a preprocessing of one's own"):
        _ = load_backbone(tiny_net(), preprocessing=Own(), size=32).card
    with pytest.raises(ExtractError, match="a callable with a transform_id"):
        load_backbone(tiny_net(), preprocessing=np.asarray)
    with pytest.raises(ExtractError, match="brings its own preprocessing"):
        load_backbone("resnet18", "random", preprocessing=Own())


@pytest.mark.parametrize(
    "make",
    [
        np.asarray,
        lambda image: np.zeros((3, 8, 8), np.uint8),
        lambda image: np.zeros((1, 3, 8, 8), np.float32),
    ],
)
def test_a_preprocessing_that_gives_something_else_is_refused(tiny_net, make):
    with pytest.raises(ExtractError, match=r"expected a float array \(3, height, width\)"):
        _ = load_backbone(tiny_net(), preprocessing=Own(make)).card


SCALED = """
import torch
class Scaled(torch.nn.Module):
    def __init__(self, scale, hidden=0.0):
        super().__init__()
        self.conv, self.scale = torch.nn.Conv2d(3, 4, 3), scale
        self.register_buffer("hidden", torch.full((4, 1, 1), hidden), persistent=False)
        torch.nn.init.ones_(self.conv.weight), torch.nn.init.zeros_(self.conv.bias)
    def forward(self, x):
        return self.conv(x) * self.scale + self.hidden
"""


def test_what_a_module_computes_with_beside_its_weights_tells_its_recipe(
    tmp_path, monkeypatch, small
):
    """Two networks of one class with other constants had one recipe, and took each other's
    features."""
    (tmp_path / "scaled.py").write_text(SCALED)
    monkeypatch.syspath_prepend(tmp_path)
    from scaled import Scaled

    networks = [Scaled(1.0), Scaled(2.0), Scaled(1.0, hidden=3.0), Scaled(1.0)]
    ids = [
        recipe_of(load_backbone(network, preprocessing=small), "float32").id for network in networks
    ]
    assert len(set(ids)) == 3
    assert ids[0] == ids[3]


def test_the_source_of_a_class_and_the_version_tell_the_recipe(tmp_path, monkeypatch, small):
    architectures = []
    for version, text in [("", SCALED), ("", SCALED.replace("+ self", "- self")), ("2", SCALED)]:
        name = f"scaled{len(architectures)}"
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        scaled = __import__(name).Scaled
        scaled.__module__ = "scaled"
        monkeypatch.setitem(sys.modules, "scaled", sys.modules[name])
        architectures.append(
            load_backbone(scaled(1.0), preprocessing=small, version=version).card.architecture
        )
    assert len(set(architectures)) == 3


def test_named_backbones_are_shared_and_copies_share_the_network(tmp_path, backbone):
    one = load_backbone("mobilenet_v3_small", "random", size=32, cache=tmp_path)
    assert load_backbone("mobilenet_v3_small", "random", size=32, cache=tmp_path) is one
    assert load_backbone("mobilenet_v3_small", "random", size=[32, 32], cache=tmp_path) is not one
    assert copy.deepcopy(backbone) is backbone
    assert load_backbone(backbone) is backbone


def test_few_networks_stay_in_memory():
    for seed in range(backbones_file.SHARED_NETWORKS + 3):
        load_backbone("mobilenet_v3_small", "random", seed=seed)
    assert len(backbones_file._shared) == backbones_file.SHARED_NETWORKS


def test_a_pickle_leaves_the_network_out(tmp_path, backbone):
    named = load_backbone("mobilenet_v3_small", "random", size=32)
    digest, size = named.card.digest, sum(p.nbytes for p in named.network.parameters())
    data = pickle.dumps(named)
    assert len(data) < size / 50
    again = pickle.loads(data)
    assert again.card.digest == digest
    assert torch.equal(again.network.features[0][0].weight, named.network.features[0][0].weight)
    _ = backbone.network
    own = pickle.loads(pickle.dumps(load_backbone_of_known_class(backbone)))
    assert own.card.digest == backbone.card.digest
    with pytest.raises(
        ExtractError, match="was unpickled without its network: pass the module again"
    ):
        _ = own.network


def load_backbone_of_known_class(backbone):
    assert backbone.card
    return backbone


SECOND = """
import sys
from extract import load_backbone
card = load_backbone("mobilenet_v3_small", "random", size=32, cache=sys.argv[1]).card
print(card.digest, "torch" in sys.modules, "torchvision" in sys.modules)
"""


def test_a_remembered_card_takes_no_torch(tmp_path):
    first = card(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SECOND, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [first.digest, "False", "False"]


def test_a_remembered_card_is_the_card(tmp_path):
    first = card(tmp_path)
    backbones_file._shared.clear()
    second = load_backbone("mobilenet_v3_small", "random", size=32, cache=tmp_path)
    assert json.dumps(asdict(second._remembered())) == json.dumps(asdict(first))
    assert second.preprocessing == Preprocessing(size=32)
    assert second._built is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "{}", '{"activations": 3}', "\x00\x01", "[" * 300_000]
)
@pytest.mark.parametrize("signed", [False, True])
def test_a_memory_that_can_not_be_read_is_made_anew(tmp_path, text, signed):
    first = card(tmp_path)
    (memory,) = (tmp_path / "backbones").iterdir()
    memory.write_bytes(as_remembered(memory, text.encode()) if signed else text.encode())
    backbones_file._shared.clear()
    assert json.dumps(asdict(card(tmp_path))) == json.dumps(asdict(first))
    assert read_remembered(memory)["digest"] == first.digest


def as_remembered(path, text):
    """A text of any kind with a checksum that is right."""
    return HEAD % _checksum(path, (text + b"}\n",)) + text + b"}\n"


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": {**Preprocessing(size=32).to_dict(), "crop": 0.835}},
        {"preprocessing": {**Preprocessing(size=32).to_dict(), "interpolation": "no filter"}},
        {"preprocessing": {"crpp": 0.875}},
        {"preprocessing": [1]},
        {"transform_id": "box-bicubic:32x32:crop0.875"},
        {"activations": {"0": {"shape": 3}}},
        {"of another version": 1},
    ],
)
def test_a_card_that_contradicts_itself_is_made_anew(tmp_path, change):
    """A bit of the remembered crop gave other rows, kept under the right recipe."""
    first = card(tmp_path)
    (memory,) = (tmp_path / "backbones").iterdir()
    write_remembered(memory, read_remembered(memory) | change)
    backbones_file._shared.clear()
    assert asdict(card(tmp_path)) == asdict(first)
    assert read_card(memory).transform_id == first.transform_id


def test_one_bit_of_a_card_makes_it_forgotten(tmp_path):
    card(tmp_path)
    (memory,) = (tmp_path / "backbones").iterdir()
    whole = memory.read_bytes()
    for at in range(0, len(whole), 97):
        memory.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert read_card(memory) is None


def test_a_card_in_the_place_of_another_is_forgotten(tmp_path):
    card(tmp_path)
    (memory,) = (tmp_path / "backbones").iterdir()
    other = memory.with_name("0" * 32 + ".json")
    memory.rename(other)
    assert read_card(other) is None


def test_a_memory_that_can_not_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert card(tmp_path / "file").digest == card(tmp_path / "folder").digest


def test_a_card_is_made_anew_when_the_file_changes(tmp_path):
    models = __import__("torchvision").models
    path, digests = tmp_path / "w.pth", []
    for fill in (0.5, 0.25):
        network = models.mobilenet_v3_small(weights=None)
        nn.init.constant_(network.features[0][0].weight, fill)
        torch.save(network.state_dict(), path)
        digests.append(
            load_backbone(
                "mobilenet_v3_small", str(path), size=32, cache=tmp_path / "cache"
            ).card.digest
        )
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "0" * 64},
        {"architecture": "torchvision.resnet18"},
        {"preprocessing": None, "transform_id": "own/1"},
    ],
)
def test_weights_that_are_not_those_remembered_are_refused(tmp_path, change):
    """A file replaced between the card and the network gave rows of other weights under the old
    recipe."""
    first = card(tmp_path)
    (memory,) = (tmp_path / "backbones").iterdir()
    write_remembered(memory, read_remembered(memory) | change)
    backbones_file._shared.clear()
    backbone = load_backbone("mobilenet_v3_small", "random", size=32, cache=tmp_path)
    assert backbone.card != first
    with pytest.raises(ExtractError, match=r"are not those remembered .*: run again"):
        _ = backbone.network
    backbones_file._shared.clear()
    assert card(tmp_path).digest == first.digest


def test_settings_beside_a_backbone_are_refused(backbone):
    assert isinstance(backbone, Backbone)
    for arguments in ({"weights": "random"}, {"size": 64}, {"preprocessing": Preprocessing()}):
        with pytest.raises(
            ExtractError, match=f"{next(iter(arguments))} can't be set on a Backbone"
        ):
            load_backbone(backbone, **arguments)


def test_the_default_network_is_torchvisions_without_its_import():
    """The import took a tenth of what predicting one image took."""
    import torch
    import torchvision

    ours = load_backbone("mobilenet_v2", "random", seed=3)
    torch.manual_seed(3)
    theirs = torchvision.models.mobilenet_v2().eval()
    assert [name for name, _ in ours.network.named_modules()] == [
        name for name, _ in theirs.named_modules()
    ]
    found, expected = ours.network.state_dict(), theirs.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours.network(images), theirs(images))
    preset = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    asked = ours.preprocessing
    assert (asked.size, asked.size / asked.crop) == (preset.crop_size[0], preset.resize_size[0])
    assert asked.interpolation == preset.interpolation.value
    assert [asked.mean, asked.std] == [tuple(preset.mean), tuple(preset.std)]


def test_the_default_network_imports_no_torchvision():
    script = (
        "import sys; from extract import load_backbone\n"
        "load_backbone('mobilenet_v2', 'random').network\n"
        "print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
