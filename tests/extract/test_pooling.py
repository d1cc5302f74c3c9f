"""Every row of the pooling table against plain numpy, on every kind of activation."""

import numpy as np
import pytest
import torch

from extract import ExtractError, Tap, parse_taps
from extract.pooling import POOLINGS, Activation, find_pooling


def grid(maps, n):
    rows, _, height, width = maps.shape
    cells = [
        maps[
            :,
            :,
            y * height // n : -(-(y + 1) * height // n),
            x * width // n : -(-(x + 1) * width // n),
        ].mean((2, 3))
        for y in range(n)
        for x in range(n)
    ]
    return np.stack(cells, 2).reshape(rows, -1)


REFERENCES = {
    "avg": lambda m: m.mean((2, 3)),
    "max": lambda m: m.max((2, 3)),
    "avgmax": lambda m: np.hstack([m.mean((2, 3)), m.max((2, 3))]),
    "gem": lambda m: (np.clip(m, 1e-6, None) ** 3).mean((2, 3)) ** (1 / 3),
    "std": lambda m: m.std((2, 3)),
    "flatten": lambda m: m.reshape(len(m), -1),
    "grid1": lambda m: grid(m, 1),
    "grid2": lambda m: grid(m, 2),
    "grid3": lambda m: grid(m, 3),
}
MAPS = np.random.default_rng(0).normal(size=(3, 5, 4, 6)).astype(np.float32)

# name -> (what the layer gives for MAPS, how it is described)
KINDS = {
    "map": (MAPS, Activation("map", (5, 4, 6), 0, 1)),
    "grid": (MAPS.transpose(0, 2, 3, 1), Activation("grid", (4, 6, 5), 0, 1)),
    "tokens": (
        MAPS.reshape(3, 5, 24).transpose(0, 2, 1),
        Activation("tokens", (24, 5), 0, 1, (4, 6)),
    ),
    "class token": (
        np.concatenate(
            [np.full((3, 2, 5), 9.0, np.float32), MAPS.reshape(3, 5, 24).transpose(0, 2, 1)], 1
        ),
        Activation("tokens", (26, 5), 0, 1, (4, 6)),
    ),
}


def test_every_pooling_has_a_reference():
    assert set(POOLINGS) - {"cls", "map", "raw16"} <= set(REFERENCES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", REFERENCES)
def test_a_pooling_gives_what_numpy_gives(pooling, kind):
    output, activation = KINDS[kind]
    pooled = activation.pool(torch.from_numpy(np.ascontiguousarray(output)), pooling).numpy()
    assert pooled.shape == (3, activation.width(pooling))
    assert activation.problem(pooling) is None
    np.testing.assert_allclose(pooled, REFERENCES[pooling](MAPS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten", "grid1"])
def test_a_vector_stays_itself(pooling):
    vector, activation = torch.from_numpy(MAPS[:, :, 0, 0].copy()), Activation("vector", (5,), 0, 1)
    assert torch.equal(activation.pool(vector, pooling), vector)
    assert activation.width(pooling) == 5


def test_tokens_without_a_grid_are_pooled_as_a_line():
    tokens, activation = torch.randn(2, 23, 5), Activation("tokens", (23, 5), 0, 1)
    assert torch.allclose(activation.pool(tokens, "avg"), tokens.mean(1), atol=1e-6)
    assert activation.problem("grid1") == "grid1 needs a grid, and its 23 tokens form none"


def test_cls_is_the_first_token():
    output, activation = KINDS["class token"]
    assert np.array_equal(activation.pool(torch.from_numpy(output), "cls").numpy(), output[:, 0])
    assert activation.width("cls") == 5
    assert activation.problem("cls") is None


@pytest.mark.parametrize("kind", KINDS)
def test_raw16_is_the_output_as_it_is_rounded_to_float16(kind):
    output, activation = KINDS[kind]
    output = 1e3 * np.ascontiguousarray(output)
    output.flat[:2] = 1e6, -1e6  # more than a float16 holds
    found = activation.pool(torch.from_numpy(output), "raw16").numpy()
    expected = np.clip(output.reshape(3, -1), -65504, 65504).astype(np.float16)
    assert activation.width("raw16") == found.shape[1]
    assert activation.problem("raw16") is None
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_map_is_the_map_of_every_kind_rounded_to_float16(kind):
    output, activation = KINDS[kind]
    found = activation.pool(torch.from_numpy(np.ascontiguousarray(output)), "map").numpy()
    assert activation.problem("map") is None
    assert found.shape == (3, activation.width("map"))
    np.testing.assert_array_equal(found.reshape(MAPS.shape), MAPS.astype(np.float16))


@pytest.mark.parametrize(
    "activation",
    [
        Activation("vector", (5,), 0, 1),
        Activation("tokens", (23, 5), 0, 1),
        Activation("map", (5, 1, 1), 0, 1),
    ],
)
def test_map_is_refused_where_no_positions_lie_on_the_image(activation):
    assert "map needs more than one position" in activation.problem("map")


@pytest.mark.parametrize("kind", ["map", "grid", "tokens"])
def test_cls_is_refused_where_there_is_no_class_token(kind):
    assert KINDS[kind][1].problem("cls") == "cls needs a class token, and it has none"


@pytest.mark.parametrize(
    ("pooling", "fits"), [("grid4", True), ("grid5", False), ("grid6", False), ("grid99", False)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_has_to_fit_the_shorter_side(kind, pooling, fits):
    problem = KINDS[kind][1].problem(pooling)
    assert problem == (None if fits else f"{pooling} does not fit a map of 4x6")


def test_gem_takes_negative_values_as_none():
    assert torch.allclose(
        find_pooling("gem").apply(torch.full((1, 2, 3, 3), -5.0)), torch.full((1, 2), 1e-6)
    )


@pytest.mark.parametrize(
    "name", ["mean", "grid", "grid0", "grid03", "grid-1", "grid100", "GRID3", "", 3, None]
)
def test_an_unknown_pooling_is_refused_with_the_known_ones(name):
    with pytest.raises(ExtractError, match=r"unknown pooling .*expected one of avg, max, .*gridN"):
        find_pooling(name)


@pytest.mark.parametrize(
    ("text", "taps"),
    [
        ("a", [("a", "max")]),
        ("a.b:grid3+c", [("a.b", "grid3"), ("c", "max")]),
        (" a : avg + b ", [("a", "avg"), ("b", "max")]),
    ],
)
def test_taps_are_read_from_text(text, taps):
    assert parse_taps(text, "max") == tuple(Tap(*tap) for tap in taps)


def test_a_tap_is_written_as_it_is_read():
    assert str(Tap("features.14", "grid3")) == "features.14:grid3"
    assert parse_taps("features.14:grid3") == (Tap("features.14", "grid3"),)


def test_a_tap_of_an_unknown_pooling_is_refused():
    with pytest.raises(ExtractError, match="unknown pooling 'mean'"):
        parse_taps("a:avg+b:mean")
