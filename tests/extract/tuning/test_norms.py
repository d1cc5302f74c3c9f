"""A convolution and its norm in training: as one they are what they are one after the other."""

import copy

import pytest
import torch
from torch import nn

from extract.tuning.norms import fold_norms

CONVS = {
    "plain": {"kernel_size": 3, "padding": 1},
    "bias": {"kernel_size": 1, "bias": True},
    "depthwise": {"kernel_size": 3, "groups": 8, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 3, "dilation": 2},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "same": {"kernel_size": 3, "padding": "same"},
}


def pair(affine=True, **options):
    """Two convolutions with norms that have seen something, in evaluation mode."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(8, 16, **{"bias": False} | options),
        nn.BatchNorm2d(16, affine=affine, eps=1e-3),
        nn.ReLU(),
        nn.Conv2d(16, 4, 1, bias=False),
        nn.BatchNorm2d(4),
    )
    for norm in (network[1], network[4]):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.2, 3)
        if norm.affine:
            nn.init.uniform_(norm.weight, -2, 2)
            nn.init.uniform_(norm.bias, -1, 1)
    return network.eval()


def folded(network):
    made = copy.deepcopy(network)
    fold_norms(made, [("0", "1"), ("3", "4")])
    return made


def gradients(network, images):
    network(images).square().sum().backward()
    return {name: own.grad for name, own in network.named_parameters()}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("options", CONVS.values(), ids=CONVS)
def test_outputs_and_gradients_are_those_of_the_two(options, affine):
    plain = pair(affine, **options)
    images = torch.randn(4, 8, 9, 9)
    torch.testing.assert_close(folded(plain)(images), plain(images), rtol=1e-4, atol=1e-4)
    expected, found = gradients(plain, images), gradients(folded(plain), images)
    assert found.keys() == expected.keys() == dict(plain.named_parameters()).keys()
    for name, own in expected.items():
        torch.testing.assert_close(found[name], own, rtol=1e-3, atol=1e-3)


def test_steps_lead_to_the_same_weights():
    """The trained ones are the two modules' own, and the averages stand still."""
    plain, images = pair(kernel_size=3), torch.randn(4, 8, 9, 9)
    ours = folded(plain)
    for network in (plain, ours):
        optimizer = torch.optim.SGD(network.parameters(), 1e-3)
        for _ in range(5):
            optimizer.zero_grad()
            (network(images) - 1).square().mean().backward()
            optimizer.step()
    expected, found = plain.state_dict(), ours.state_dict()
    assert found.keys() == expected.keys()
    for name, own in expected.items():
        torch.testing.assert_close(found[name], own, rtol=1e-4, atol=1e-4)


def test_in_bfloat16_a_strided_depthwise_one_stays_in_float32():
    plain = pair(**CONVS["depthwise"])[:2]
    ours = copy.deepcopy(plain)
    fold_norms(ours, [("0", "1")])
    images = torch.randn(4, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(images).dtype == torch.bfloat16
        found = ours(images.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(images), rtol=0.05, atol=0.05)
