"""Which parameters belong together, and at what rate each group is trained."""

import pytest

from extract import ExtractError, Tap, Tuning
from extract.tuning.parts import STEM, divide, parameters_of, trained_blocks

LAST = Tap("layer3.0", "avg")


def test_blocks_are_named_from_the_last_down(backbone):
    card = backbone.card
    assert trained_blocks(card, LAST, 1) == (["layer3.0"], "layer2.0")
    assert trained_blocks(card, LAST, 2) == (["layer3.0", "layer2.0"], "layer1.0")
    for everything in ("all", "gradual"):
        assert trained_blocks(card, LAST, everything) == (
            ["layer3.0", "layer2.0", "layer1.0", STEM],
            None,
        )


def test_blocks_behind_the_tap_are_not_trained(backbone):
    assert trained_blocks(backbone.card, Tap("layer2.0", "avg"), 1) == (["layer2.0"], "layer1.0")


def test_more_blocks_than_there_are(backbone):
    with pytest.raises(ExtractError, match=r"unfreeze=3: .* has 3 blocks up to layer3.0"):
        trained_blocks(backbone.card, LAST, 3)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((2, 3), [((), 1e-2), (("d", "c", "b", "a"), 1e-3)]),
        ((2, 4, 6), [((), 1e-2), (("d", "c"), 1e-4), (("b", "a"), 1e-6)]),
        ((2, 3, 4), [((), 1e-2), (("d", "c"), 1e-3), (("b", "a"), 1e-4)]),
        ((3, 3.5, 4, 5), [((), 1e-3), (("d", "c"), 10**-3.5), (("b",), 1e-4), (("a",), 1e-5)]),
    ],
)
def test_groups_have_the_rates_in_order(rates, expected):
    found = divide(["d", "c", "b", "a"], Tuning(rates=rates))
    assert [(own.layers, own.rate) for own in found] == expected


def test_more_rates_than_blocks():
    with pytest.raises(
        ExtractError, match="4 rates, of the new layer and 3 groups of blocks, and 2 are"
    ):
        divide(["b", "a"], Tuning(rates=(2, 3, 4, 5)))


def test_each_parameter_belongs_to_one_part(backbone):
    """What halves the map goes with the block behind it; the classifier is reached by no tap."""
    network, card = backbone.network, backbone.card
    parts, _ = trained_blocks(card, LAST, "all")
    reached = [name for name, _ in network.named_parameters() if not name.startswith("fc")]
    found = parameters_of(network, card, parts, reached)
    names = {part: {name for name, _ in own} for part, own in found.items()}
    assert {"conv1.weight", "bn1.weight", "bn1.bias"} == names[STEM]
    assert {"down2.weight", "down2.bias"} <= names["layer2.0"]
    assert {"down3.weight", "layer3.0.conv1.weight"} <= names["layer3.0"]
    assert all(name.startswith("layer1.0.") for name in names["layer1.0"])
    assert sorted(name for own in names.values() for name in own) == sorted(reached)
