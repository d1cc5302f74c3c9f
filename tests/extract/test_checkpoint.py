"""Training checkpoints as people have them fill a network by one rule, and say what was left."""

import pytest
import torch

from extract import ExtractError, load_backbone
from extract.checkpoint import Fit, fitting_tensors, nested_tensors
from extract.weights import load_file, read_state_dict, tensors_digest


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def digest_of(network):
    return tensors_digest(network, set(network.state_dict()))


@pytest.fixture
def state(tiny_net):
    """The weights that are wanted, of another TinyNet."""
    return tiny_net(7).state_dict()


@pytest.fixture
def other(tiny_net):
    """Those of one that is not."""
    return tiny_net(3).state_dict()


def optimizer(tiny_net):
    """The state of Adam after a step."""
    network = tiny_net()
    adam = torch.optim.Adam(network.parameters())
    network(torch.zeros(2, 3, 32, 32)).sum().backward()
    adam.step()
    return adam.state_dict()


def half(state):
    return {name: t.half() if t.is_floating_point() else t for name, t in state.items()}


def features_alone(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc")}


# what wrote it: what the file holds, given the wanted weights and others, and where they lie
CHECKPOINTS = {
    "torch": (lambda own, other: own, ""),
    "torch, in parallel": (lambda own, other: prefixed(own, "module."), "module."),
    "torch.compile": (lambda own, other: prefixed(own, "_orig_mod."), "_orig_mod."),
    "torch.compile of parallel": (
        lambda own, other: prefixed(own, "_orig_mod.module."),
        "_orig_mod.module.",
    ),
    "torch's imagenet example": (
        lambda own, other: {"epoch": 3, "arch": "x", "state_dict": prefixed(own, "module.")},
        "state_dict.module.",
    ),
    "torch's tutorial": (
        lambda own, other: {"epoch": 3, "model_state_dict": own, "loss": 0.5},
        "model_state_dict.",
    ),
    "torch's AveragedModel": (
        lambda own, other: {"n_averaged": torch.tensor(5), **prefixed(own, "module.")},
        "module.",
    ),
    "timm": (lambda own, other: {"epoch": 3, "state_dict": own}, "state_dict."),
    "timm, averaged": (
        lambda own, other: {"state_dict": other, "state_dict_ema": own},
        "state_dict_ema.",
    ),
    "torchvision's references": (lambda own, other: {"model": own, "scaler": {}}, "model."),
    "torchvision's, averaged": (
        lambda own, other: {
            "model": prefixed(other, "module."),
            "model_ema": prefixed(own, "module."),
        },
        "model_ema.module.",
    ),
    "lightning": (
        lambda own, other: {"state_dict": prefixed(own, "model."), "callbacks": {"a": {"b": 1}}},
        "state_dict.model.",
    ),
    "lightning, compiled": (
        lambda own, other: {"state_dict": prefixed(own, "model._orig_mod.")},
        "state_dict.model._orig_mod.",
    ),
    "lightning, averaged": (
        lambda own, other: {
            "state_dict": {**prefixed(other, "net."), **prefixed(own, "ema_net.module.")}
        },
        "state_dict.ema_net.module.",
    ),
    "MoCo": (
        lambda own, other: {
            "state_dict": {
                **prefixed(own, "module.encoder_q."),
                **prefixed(other, "module.encoder_k."),
                "module.queue": torch.zeros(4, 9),
            }
        },
        "state_dict.module.encoder_q.",
    ),
    "DINO": (
        lambda own, other: {
            "student": prefixed(other, "module.backbone."),
            "teacher": {**prefixed(own, "backbone."), "head.mlp.0.weight": torch.zeros(3, 3)},
        },
        "teacher.backbone.",
    ),
    "Barlow Twins": (
        lambda own, other: {"model": prefixed(own, "module.backbone.")},
        "model.module.backbone.",
    ),
    "DeepSpeed": (lambda own, other: {"module": own, "ds_version": "1"}, "module."),
    "half precision": (lambda own, other: half(own), ""),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_fills_the_network_by_the_wanted_weights(
    tmp_path, tiny_net, state, other, kind
):
    make, under = CHECKPOINTS[kind]
    # weights that half precision holds, so that all kinds must give the same
    state, other = half(state), half(other)
    content = make(state, other)
    torch.save({**content, "optimizer": optimizer(tiny_net)}, tmp_path / "w.pth")
    network, wanted = tiny_net(), tiny_net()
    filled, fit = load_file(network, tmp_path / "w.pth")
    wanted.load_state_dict(state)
    assert filled == set(state)
    assert digest_of(network) == digest_of(wanted)
    assert (fit.under, fit.unused, fit.misshapen, fit.without) == (
        under,
        ("n_averaged",) if under == "" and "n_averaged" in content else (),
        (),
        (),
    )


def test_an_average_of_fewer_layers_does_not_come_before_the_whole(tiny_net, state, other):
    content = {"model": state, "ema": features_alone(other)}
    assert fitting_tensors(content, tiny_net().state_dict())[1].under == "model."


def test_what_is_not_used_is_said_by_name_and_shape(tiny_net, state):
    """Tensors of the wrong size were left out and nothing was said."""
    head = {"fc.2.weight": torch.zeros(9, 10), "fc.2.bias": torch.zeros(9)}
    kept = {name: own for name, own in state.items() if not name.startswith(("layer3", "bn1"))}
    content = {"state_dict": prefixed(kept | head, "module."), "queue": torch.zeros(3)}
    content["state_dict"]["module.projector.0.weight"] = torch.zeros(2, 2)
    _, fit = fitting_tensors(content, tiny_net().state_dict())
    wrong = (
        "fc.2.weight (9, 10), expected (5, 10)",
        "fc.2.bias (9,), expected (5,)",
    )
    assert fit.unused == ("projector.0.weight",)
    assert fit.misshapen == wrong
    assert fit.without == (
        "bn1", "layer3.0.conv1", "layer3.0.bn1", "layer3.0.conv2", "layer3.0.bn2", "fc.2",
    )  # fmt: skip
    assert fit.n_filled == len(kept) - 2
    assert fit.in_words() == (
        f"{len(kept) - 2} tensors taken, those under state_dict.module.; "
        f"no place for projector.0.weight; of the wrong shape: {wrong[0]}, {wrong[1]}; left "
        "without weights: bn1, layer3.0.conv1, layer3.0.bn1 and 3 more; 1 tensor elsewhere in "
        "the file not looked at"
    )


def test_the_count_of_batches_is_missed_by_nobody(tiny_net, state):
    """Files of before torch 1.0 and averages of parameters have none."""
    old = {name: own for name, own in state.items() if not name.endswith("num_batches_tracked")}
    assert fitting_tensors(old, tiny_net().state_dict())[1].without == ()


def test_whole_numbers_are_no_weights(tiny_net, state):
    """Of an 8-bit network they would be taken as they are, without their scale."""
    state["conv1.weight"] = state["conv1.weight"].to(torch.int8)
    _, fit = fitting_tensors(state, tiny_net().state_dict())
    assert fit.misshapen == ("conv1.weight (8, 3, 3, 3) of int8, expected (8, 3, 3, 3)",)


def test_a_file_that_holds_itself_is_read(tmp_path, tiny_net, state):
    content = {"model": state}
    content["again"] = content
    torch.save(content, tmp_path / "w.pth")
    assert load_file(tiny_net(), tmp_path / "w.pth")[0] == set(state)


def test_the_largest_dict_is_the_state_dict_where_no_network_says(tmp_path, state, other):
    torch.save(
        {"model": other, "model_ema": state, "few": {"a": torch.zeros(1)}}, tmp_path / "w.pt"
    )
    found = read_state_dict(tmp_path / "w.pt")
    assert list(found) == list(state)
    assert all(torch.equal(found[name], own) for name, own in state.items())


def test_nothing_but_dicts_by_name_is_looked_into():
    content = {"a": [{"b": torch.zeros(1)}], "state": {0: {"c": torch.zeros(1)}}, "d": {}}
    assert dict(nested_tensors(content)) == {"": {}, "state.": {}, "d.": {}}


@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
def test_the_card_says_how_a_file_fits_and_remembers_it(tmp_path, tiny_net, state, small, suffix):
    path = tmp_path / f"w{suffix}"
    torch.save({"state_dict": features_alone(state)}, path)
    card = load_backbone(tiny_net(), str(path), preprocessing=small).card
    assert card.fit == Fit("state_dict.", len(features_alone(state)), without=("fc.0", "fc.2"))
    assert load_backbone(tiny_net(), preprocessing=small).card.fit is None


def test_a_remembered_card_says_it_too(tmp_path):
    file = tmp_path / "w.pth"
    torch.save(load_backbone("mobilenet_v2", "random").filled_tensors(), file)
    cards = []
    for _ in range(2):
        from extract.backbones import names

        names._shared.clear()
        backbone = load_backbone("mobilenet_v2", str(file), size=32, cache=tmp_path)
        cards.append(backbone.known_card or backbone.card)
    assert cards[1].fit == cards[0].fit == Fit("", 314)


def test_weights_that_leave_no_layer_usable_are_refused_in_one_line(
    tmp_path, tiny_net, state, small
):
    """Of another width: the first layer has no weights, and so none after it."""
    state["conv1.weight"] = torch.zeros(4, 3, 3, 3)
    torch.save(state, tmp_path / "w.pth")
    card = load_backbone(tiny_net(), str(tmp_path / "w.pth"), preprocessing=small).card
    with pytest.raises(ExtractError) as caught:
        card.choose_layers("auto")
    said = str(caught.value)
    assert "no layer has all its weights in" in said
    assert "conv1.weight (4, 3, 3, 3), expected (8, 3, 3, 3)" in said
    assert "\n" not in said
