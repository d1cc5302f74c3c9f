"""What lies above a block gives what the whole network gives, or says that it can't."""

import pytest
import torch
from torch import nn

from extract.tuning.cut import CannotCut, above, check_above, up_to


@pytest.mark.parametrize("below", ["layer1.0", "layer2.0", "down3"])
def test_the_upper_part_gives_the_same_bits(backbone, below):
    network, images = backbone.network, torch.randn(3, 3, 32, 32)
    part = above(network, below, "layer3.0", backbone.card.blocks)
    with torch.no_grad():
        expected = up_to(network, "layer3.0")(images)
        assert torch.equal(part(up_to(network, below)(images)), expected)


def test_the_upper_part_shares_the_weights(tiny_net):
    network = tiny_net()
    part = above(network, "layer2.0", "layer3.0", ["layer1.0", "layer2.0", "layer3.0"])
    given = torch.randn(1, 12, 8, 8)
    before = part(given)
    with torch.no_grad():
        network.layer3[0].bn2.bias += 1
    assert not torch.equal(part(given), before)


class Skipping(nn.Module):
    """Its last block takes what the first one gave as well."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Sequential(nn.Conv2d(3, 3, 1)) for _ in range(3))

    def forward(self, x):
        a = self.a(x)
        return self.c(self.b(a) + a)


class Branching(nn.Module):
    """What it does hangs on the values it sees."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Conv2d(3, 3, 1)) for _ in range(2))

    def forward(self, x):
        return self.b(self.a(x)) if x.sum() > 0 else self.a(x)


@pytest.mark.parametrize(
    ("network", "below", "layer", "said"),
    [
        (Skipping(), "b", "c", "what lies above b needs more than its output"),
        (Branching(), "a", "b", "the code around the blocks can't be traced"),
        (nn.Sequential(nn.Sequential(nn.ReLU())), "1", "0", "1 is not called as a module"),
    ],
)
def test_where_it_can_not_be_cut(network, below, layer, said):
    with pytest.raises(CannotCut, match=said):
        above(network, below, layer, [below, layer])


def test_other_values_than_the_whole_networks_are_refused():
    given, wanted = torch.ones(2, 3), torch.ones(2, 3)
    check_above(nn.Identity(), given, wanted, "a")
    with pytest.raises(CannotCut, match="other values"):
        check_above(nn.Identity(), given, 1.001 * wanted, "a")
    with pytest.raises(CannotCut, match="another shape"):
        check_above(nn.Identity(), given, torch.ones(2, 4), "a")
