"""Weights from every source fill what they fit, and nothing else passes for them."""

import argparse
import os
import random
import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from extract import ExtractError, Preprocessing, Tap, load_backbone
from extract.checkpoint import Fit
from extract.weights import is_file_source, load_file, save_weights, tensors_digest, weights_file

FUZZED = 300


def save(state, path):
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.fixture
def state(tiny_net):
    """The weights of another TinyNet."""
    return tiny_net(7).state_dict()


def digest_of(network):
    return tensors_digest(network, set(network.state_dict()))


@pytest.mark.parametrize(
    "suffix", [".pth", ".pt", ".ckpt", ".bin", ".pth.tar", ".safetensors", ".PTH"]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_fills_the_network(tmp_path, tiny_net, state, suffix, prefix):
    path = save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / f"w{suffix}")
    assert is_file_source(str(path))
    network = tiny_net()
    filled, fit = load_file(network, path)
    assert filled == set(state)
    assert fit == Fit(prefix, len(state))
    assert digest_of(network) == digest_of(tiny_net(7)) != digest_of(tiny_net())


def test_every_tensor_counts_in_the_digest(tiny_net):
    network = tiny_net()
    before = digest_of(network)
    for tensor in network.state_dict().values():
        old = tensor.clone()
        tensor.view(-1)[-1] += 1
        assert digest_of(network) != before
        tensor.copy_(old)
    assert digest_of(network) == before


def test_a_head_for_other_classes_is_left_out_and_its_layers_are_refused(
    tmp_path, tiny_net, state, small
):
    state["fc.2.weight"], state["fc.2.bias"] = torch.zeros(9, 10), torch.zeros(9)
    path = save(state, tmp_path / "w.pth")
    card = load_backbone(tiny_net(), str(path), preprocessing=small).card
    assert card.width(Tap("fc.0", "avg")) == 10
    for layer in ("fc.2", "fc"):
        with pytest.raises(
            ExtractError, match=f"layer '{layer}' needs weights that .*w.pth' does not hold"
        ):
            card.check(Tap(layer, "avg"))
    assert card.digest == tensors_digest(tiny_net(7), set(state) - {"fc.2.weight", "fc.2.bias"})


def test_layers_without_weights_are_not_among_the_blocks(tmp_path, tiny_net, state, small):
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(("layer3", "fc"))}
    card = load_backbone(tiny_net(), str(save(kept, tmp_path / "w.pth")), preprocessing=small).card
    assert card.choose_layers("all") == ["layer1.0", "layer2.0"]
    with pytest.raises(ExtractError, match="needs weights"):
        card.choose_layers("layer3.0")


def test_weights_of_another_network_are_refused(tmp_path, tiny_net):
    path = save({"a": torch.zeros(2), "conv1.weight": torch.zeros(3)}, tmp_path / "w.pth")
    said = r"none of the 2 tensors in .* fits .*\(conv1.weight \(3,\), expected \(8, 3, 3, 3\)\)"
    with pytest.raises(ExtractError, match=said):
        load_file(tiny_net(), path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"no weights", b"PK\x03\x04 cut short", b"\x80\x02]q\x00."]
)
def test_a_broken_file_is_one_clear_line(tmp_path, tiny_net, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(ExtractError) as caught:
        load_file(tiny_net(), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_cut_short_is_one_clear_line(tmp_path, tiny_net, state, suffix):
    path = save(state, tmp_path / f"w{suffix}")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ExtractError, match="can't read weights from"):
        load_file(tiny_net(), path)


@pytest.mark.parametrize("within", [False, True])
def test_a_whole_pickled_network_is_refused_by_the_name_of_its_code(tmp_path, tiny_net, within):
    """It said no more than that weights_only had failed, in torch's words."""
    torch.save({"model": tiny_net()} if within else tiny_net(), tmp_path / "w.pth")
    with pytest.raises(ExtractError) as caught:
        load_file(tiny_net(), tmp_path / "w.pth")
    said = str(caught.value)
    assert re.search(
        r"no tensors by name, as a network pickled whole does, of .* and \d+ more", said
    )
    assert said.endswith(
        "expected a plain state dict, torch.save(model.state_dict(), 'weights.pth')"
    )
    assert "\n" not in said


def test_a_torchscript_program_is_refused_by_what_it_is(tmp_path, tiny_net):
    """As `torch.jit.save` writes one."""
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"w/{name}", b"")
    with pytest.raises(ExtractError, match="it is a TorchScript program; expected a plain state"):
        load_file(tiny_net(), tmp_path / "w.pt")


class Remembered:
    """Of code that this machine may not have."""

    made = 0

    def __init__(self, value):
        self.value = value
        Remembered.made += 1

    def __reduce__(self):
        return Remembered, (self.value,), {"more": 3}


def test_what_a_trainer_wrote_beside_the_weights_is_passed_over(tmp_path, tiny_net, state):
    """Its command line, an accuracy of numpy's, an object of its own: they made a file unreadable.

    timm's, MAE's and DINO's own checkpoints hold a command line.
    """
    beside = {
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.5),
        "where": Path("here"),
        "own": Remembered(1),
    }
    torch.save({**beside, "model": state}, tmp_path / "w.pth")
    assert load_file(tiny_net(), tmp_path / "w.pth")[0] == set(state)
    assert Remembered.made == 1


class Code:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_pickle_with_code_is_refused_unrun(tmp_path, tiny_net, state, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(state | {"code": Code()}, tmp_path / "w.pth")
    with pytest.raises(ExtractError, match="expected a plain state dict"):
        load_file(tiny_net(), tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def repack(path, change, method=zipfile.ZIP_STORED):
    """Write a torch file anew, each of its records changed."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in records.items():
            archive.writestr(name, change(name, data))


def test_a_torch_file_that_unpacks_to_more_is_refused_before_memory_is_taken(tmp_path, tiny_net):
    path = save({"big": torch.zeros(1 << 24)}, tmp_path / "w.pth")
    repack(path, lambda name, data: data, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(ExtractError, match="would unpack to 671"):
        load_file(tiny_net(), path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("header", [2**63, 1 << 30, 1, 0])
def test_a_safetensors_header_longer_than_its_file_is_refused(tmp_path, tiny_net, state, header):
    path = save(state, tmp_path / "w.safetensors")
    path.write_bytes(header.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(ExtractError, match=f"header is said to have {header} bytes"):
        load_file(tiny_net(), path)


def test_a_tensor_that_names_bytes_beyond_the_file_is_refused(tmp_path, tiny_net, state):
    path = save(state, tmp_path / "w.safetensors")
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(ExtractError, match="can't read weights"):
        load_file(tiny_net(), path)


def test_tensors_that_are_not_plain_numbers_are_left_out(tmp_path, tiny_net, state):
    odd = {
        "bn1.weight": state["bn1.weight"] * 1j,
        3: torch.zeros(3),
    }
    torch.save(state | odd, tmp_path / "w.pth")
    filled, fit = load_file(tiny_net(), tmp_path / "w.pth")
    assert filled == set(state) - set(odd)
    assert fit.without == ("bn1",)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_fuzzed_weights_are_read_or_refused_in_one_line(tmp_path, tiny_net, state, suffix):
    """Changed bytes may give other numbers, which the weights' digest tells."""
    rng = random.Random(0)
    data = save(state, tmp_path / f"w{suffix}").read_bytes()
    path, network = tmp_path / f"fuzzed{suffix}", tiny_net()
    refused = []
    for _ in range(FUZZED):
        path.write_bytes(fuzz(data, rng))
        try:
            load_file(network, path)
        except ExtractError as error:
            refused.append(str(error))
    assert len(refused) > FUZZED // 10
    assert not any("\n" in message for message in refused)


def fuzz(data, rng):
    """Bits flipped, a cut, a block doubled or overwritten; mostly near the beginning or the end."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        near = rng.choice([len(data), 300])
        at = rng.randrange(near) * rng.choice([1, -1]) % len(data)
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 8] = rng.choice([b"\xff" * 8, bytes(8), rng.randbytes(8)])
        elif kind == 2:
            data = data[: max(at, 1)]
        else:
            data[at:at] = data[at : at + rng.randint(1, 64)]
    return bytes(data)


@pytest.mark.parametrize("found", [torch.zeros(3), [torch.zeros(3)], {"a": 1}, {}])
def test_what_is_no_state_dict_is_refused(tmp_path, tiny_net, found):
    torch.save(found, tmp_path / "w.pth")
    with pytest.raises(ExtractError, match="holds no tensors by name"):
        load_file(tiny_net(), tmp_path / "w.pth")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ExtractError, match="no weights file"):
        weights_file(str(tmp_path / "w.pth"))
    assert weights_file("IMAGENET1K_V2") is None


def test_saved_weights_give_the_same_backbone(tmp_path, tiny_net, backbone, small):
    save_weights(backbone, tmp_path / "w.safetensors")
    again = load_backbone(tiny_net(5), str(tmp_path / "w.safetensors"), preprocessing=small)
    assert again.card.digest == backbone.card.digest


def test_saved_weights_are_as_open_to_others_as_other_files(tmp_path, backbone):
    save_weights(backbone, tmp_path / "a.safetensors")
    (tmp_path / "other").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("a.safetensors", "other")]
    assert modes[0] == modes[1]


def test_weights_shared_by_two_modules_are_saved(tmp_path, small):
    """safetensors refuses tensors that share memory."""
    conv = torch.nn.Conv2d(3, 3, 3, padding=1)
    tied = torch.nn.Sequential(conv, torch.nn.ReLU(), conv)
    backbone = load_backbone(tied, preprocessing=small)
    save_weights(backbone, tmp_path / "w.safetensors")
    again = load_backbone(tied, str(tmp_path / "w.safetensors"), preprocessing=small)
    assert again.card.digest == backbone.card.digest


class Positioned(nn.Module):
    """A network with a tensor of its own, which all of its blocks see."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 4, 8, 8))
        self.start = nn.Conv2d(3, 4, 1)
        self.blocks = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1)), nn.Sequential(nn.ReLU()))
        self.fc = nn.Linear(4, 5)

    def forward(self, images):
        return self.fc(self.blocks(self.start(images) + self.position).mean((2, 3)))


def test_what_a_network_itself_lacks_no_layer_can_do_without(tmp_path):
    """Positions of another size and a head of other classes, as a fine-tuned file has them."""
    network = Positioned()
    state = network.state_dict()
    state["position"], state["fc.weight"] = torch.zeros(1, 4, 2, 2), torch.zeros(9, 4)
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(ExtractError, match="position"):
        _ = load_backbone(
            network, str(tmp_path / "own.pth"), preprocessing=Preprocessing(8)
        ).card.choose_layers("auto")


class OwnDict(dict):
    """As configurations of some trainers are."""


def test_a_dict_of_a_class_of_its_own_is_refused_in_our_words(tmp_path):
    torch.save({"config": OwnDict(a=1), "w": torch.zeros(3)}, tmp_path / "own.pth")
    (tmp_path / "page.pth").write_text("<html>\x1b[31mnot found</html>")
    for name in ("own.pth", "page.pth"):
        with pytest.raises(ExtractError, match="can't read weights from") as caught:
            load_backbone("resnet18", str(tmp_path / name)).card  # noqa: B018
        said = str(caught.value)
        assert "weights_only" not in said
        assert said.isprintable()
