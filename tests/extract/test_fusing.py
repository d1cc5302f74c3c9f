"""Fused networks give what unfused ones do, and what can't be fused isn't."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from extract import Tap, fusing, load_backbone
from extract.engines import TorchEngine
from extract.fusing import find_fusable, fuse
from extract.layers import hooked, probe_layers

BATCH = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def ready(network):
    """The network in eval mode with batch norms that do something."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(std=0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval().requires_grad_(False)


def fusable_pairs(network):
    return find_fusable(network, BATCH, probe_layers(ready(network), BATCH))


def test_a_fused_network_gives_the_same(tiny_net):
    network = ready(tiny_net())
    pairs = fusable_pairs(network)
    names = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm for _, norm in pairs] == names
    fused = fuse(copy.deepcopy(network), pairs)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert torch.allclose(fused(BATCH), network(BATCH), rtol=1e-4, atol=1e-5)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


class ConvUsedElsewhere(nn.Module):
    """The convolution's output also goes where no norm follows."""

    def __init__(self, into_the_trunk):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.side, self.last = nn.Conv2d(4, 4, 1), nn.ReLU()
        self.into_the_trunk = into_the_trunk

    def forward(self, x):
        x = self.conv(x)
        side = self.side(x)
        x = self.last(self.bn(x))
        return x + side if self.into_the_trunk else x


class Shared(nn.Module):
    """One convolution under two names, the other of which is called."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.alias = self.conv

    def forward(self, x):
        return self.relu(self.bn(self.alias(x)))


class CalledTwice(nn.Module):
    def __init__(self, norm_too):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU()
        self.norm_too = norm_too

    def forward(self, x):
        x = self.relu(self.bn(self.conv(x)))
        x = self.conv(x)
        return self.bn(x) if self.norm_too else x


class WeightUsedDirectly(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv(x))) + nn.functional.conv2d(x, self.conv.weight)


class WrappedConv(nn.Module):
    """The convolution is the whole of a module whose own output can be tapped too."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn, self.relu = (
            nn.Sequential(nn.Conv2d(3, 4, 3)),
            nn.BatchNorm2d(4),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.relu(self.bn(self.stem(x)))


ODD = {
    "output goes into the trunk": lambda: ConvUsedElsewhere(True),
    "output goes into a side branch": lambda: ConvUsedElsewhere(False),
    "shared under two names": Shared,
    "convolution called twice": lambda: CalledTwice(False),
    "both called twice": lambda: CalledTwice(True),
    "weight used directly": WeightUsedDirectly,
    "convolution alone in a module": WrappedConv,
    "norm of the batch itself": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()
    ),
    "parametrised weight": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), nn.ReLU()
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_what_can_not_be_fused_gives_the_same_at_every_layer(case, small):
    """A side branch and a wrapped convolution gave the norm's output instead of their own."""
    torch.manual_seed(0)
    network = ready(ODD[case]())
    backbone = load_backbone(network, preprocessing=small)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = {}
    mean, std = (torch.tensor(v)[:, None, None] for v in (small.mean, small.std))

    def note(name, _module, _inputs, output):
        expected[name] = output.mean((2, 3))

    with torch.inference_mode(), hooked(dict(network.named_modules()), note):
        network((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std)
    for layer in backbone.card.activations:
        tap = Tap(layer, "avg")
        with TorchEngine(backbone, "cpu", "float32", [tap]).running() as engine:
            np.testing.assert_allclose(
                engine(images)[tap], expected[layer], rtol=1e-4, atol=1e-5, err_msg=layer
            )


def test_a_norm_without_affine_parameters_is_fused():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False), nn.ReLU()
    )
    assert fusable_pairs(network) == [("0", "1")]
    assert torch.allclose(
        fuse(copy.deepcopy(network), [("0", "1")])(BATCH), network(BATCH), rtol=1e-4, atol=1e-5
    )


def test_a_normalised_output_does_not_hinder_fusing():
    """Means of a layer norm's output are near 0, and no fusing was within 1e-3 of them."""

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
            self.norm = nn.LayerNorm([4, 30, 30])

        def forward(self, x):
            return self.norm(self.trunk(x))

    assert fusable_pairs(Normed()) == [("trunk.0", "trunk.1")]


def test_a_tapped_convolution_is_not_fused(backbone, pixels, small):
    batch = np.stack([small(image) for image in map(_pil, pixels[:3])])
    taps = [Tap("layer1.0.conv1", "avg"), Tap("layer1.0.bn1", "avg"), Tap("layer3.0", "avg")]
    with TorchEngine(backbone, "cpu", "float32", taps).running() as engine:
        assert isinstance(engine.network.layer1[0].bn1, nn.BatchNorm2d)
        assert isinstance(engine.network.layer1[0].bn2, nn.Identity)
        together = engine(batch)
    assert np.abs(together[taps[0]] - together[taps[1]]).max() > 0.01


def _pil(array):
    from PIL import Image

    return Image.fromarray(array)


def sequence():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))


class SteppedThrough(nn.Module):
    """Who takes what each layer of a sequence gives, and so a convolution's output, too."""

    def __init__(self):
        super().__init__()
        self.layers, self.last = sequence(), nn.Identity()

    def forward(self, x):
        seen = []
        for layer in self.layers:
            x = layer(x)
            seen.append(x.mean((2, 3)))
        return self.last(torch.cat(seen, 1))


def test_sequences_called_whole_are_fused_without_running_them(monkeypatch):
    """To run the default network for it took as long as two predictions."""
    network = ready(load_backbone("mobilenet_v2", "random", size=32).network)
    found, ran = fusable_pairs(network), fusing._adjacent
    assert found == ran(network, BATCH[:1], probe_layers(network, BATCH))[0]
    assert len(found) == 52
    monkeypatch.delattr(fusing, "_adjacent")
    assert fusable_pairs(network) == found
    assert fusable_pairs(sequence()) == [("0", "1")]


def test_a_sequence_that_is_stepped_through_is_not_fused():
    assert fusable_pairs(SteppedThrough()) == []


def test_a_sequence_with_a_hook_on_its_convolution_is_run_to_find_out(monkeypatch):
    ran, own, network = [], fusing._adjacent, sequence()
    monkeypatch.setattr(fusing, "_adjacent", lambda *given: ran.append(1) or own(*given))
    network[0].register_forward_hook(lambda *_: None)
    assert fusable_pairs(network) == [("0", "1")]
    assert ran == [1, 1]
