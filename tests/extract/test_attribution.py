"""Evidence by place: what adds up exactly, and what covering a place tells."""

import numpy as np
import pytest
import torch
from PIL import Image

from extract import FeatureExtractor, Preprocessing, Tap, load_backbone
from extract.attribution import evidence_maps, has_places, occlusion_maps, place_of, see
from extract.pooling import POOLINGS, Activation, find_pooling

SUMS = ["avg", "grid2", "grid3", "flatten"]
LAYER = "features.4"
SIZE = 80  # whose maps of 5 by 5 no grid divides


def make_extractor(tap=LAYER, **more):
    settings = {"backbone": "mobilenet_v3_small", "weights": "random", "size": SIZE}
    return FeatureExtractor(tap, cache=False, numerics="float32", **(settings | more))


def random_weights(extractor, pixels):
    features = extractor.fit_transform(pixels)
    rng = np.random.default_rng(1)
    return features, rng.normal(size=features.shape), rng.normal(size=features.shape)


@pytest.mark.parametrize("view", ["plain", "flipped", "whole"])
@pytest.mark.parametrize(
    "tap", [*(f"{LAYER}:{pooling}" for pooling in SUMS), "features.2:grid2+features.4:avg"]
)
def test_maps_add_up_to_the_weighted_sum(pixels, tap, view):
    extractor = make_extractor(tap, view=view)
    features, weights, taken = random_weights(extractor, pixels)
    seen = see(extractor, list(pixels))
    np.testing.assert_allclose(seen.features, features, rtol=1e-4, atol=1e-5)
    located = evidence_maps(seen, weights, taken)
    total = sum(own.sum(axis=(1, 2)) for own in located.maps)
    assert located.rows.tolist() == list(range(len(pixels)))
    expected = (weights * features - taken).sum(axis=1)
    np.testing.assert_allclose(total, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("n", "side"), [(n, side) for side in (1, 4, 7, 14) for n in range(1, min(side, 7) + 1)]
)
def test_shares_of_a_grid_are_torchs_windows(n, side):
    maps = torch.randn(1, 1, side, side, dtype=torch.float64)
    shares = find_pooling(f"grid{n}").shares(side)
    expected = torch.nn.functional.adaptive_avg_pool2d(maps, n)[0, 0].numpy()
    np.testing.assert_allclose(shares @ maps[0, 0].numpy() @ shares.T, expected, atol=1e-12)


def test_evidence_lies_where_the_image_differs():
    """A gray image with a bright corner: the corner's places alone differ from an all gray one's,
    and in the mirrored pass as well."""
    gray = np.full((SIZE, SIZE, 3), 120, np.uint8)
    corner = gray.copy()
    corner[:32, :32] = 250
    for view in ("plain", "flipped"):
        extractor = make_extractor("features.0:avg", view=view)
        weights = np.tile(np.random.default_rng(0).normal(size=16), (2, 1))
        extractor.fit_transform([gray, corner])
        located = evidence_maps(see(extractor, [gray, corner]), weights, 0 * weights)
        differs = np.abs(np.diff(located.maps[0], axis=0)[0]) > 1e-6
        half = len(differs) // 2
        assert differs[:half, :half].any()
        assert not differs[half:].any()
        assert not differs[:, half:].any()


def test_which_taps_have_places():
    card = load_backbone("mobilenet_v2", "random", size=64).card
    found = [name for name in POOLINGS if name != "cls" and has_places(card, Tap(LAYER, name))]
    assert found == ["avg", "flatten"]
    assert has_places(card, Tap(LAYER, "grid2"))
    one_place = load_backbone("mobilenet_v2", "random", size=32).card
    assert not has_places(one_place, Tap("features.18", "avg"))
    pixels = load_backbone("pixels").card
    assert not has_places(pixels, Tap("pixels", "avg"))


def test_tokens_have_places_and_the_class_token_has_none():
    tokens = Activation("tokens", (5, 8), order=0, calls=1, tokens_grid=(2, 2))
    assert tokens.has_places("avg")
    assert not tokens.has_places("cls")
    assert not Activation("tokens", (5, 8), order=0, calls=1).has_places("avg")  # of no grid
    assert not Activation("vector", (8,), order=0, calls=1).has_places("avg")


@pytest.mark.parametrize("view", ["plain", "flipped"])
def test_covering_finds_the_bright_corner(view):
    """The score is the brightness: what covering takes away is where the image is bright."""
    dark = np.full((SIZE, SIZE, 3), 40, np.uint8)
    bright = dark.copy()
    bright[: SIZE // 4, : SIZE // 8] = 255
    extractor = make_extractor("features.0:avg", view=view)
    base = extractor.fit_transform([dark])

    def score(rows, features):
        return np.abs(features - base).sum(axis=1)

    (located,) = list(occlusion_maps(extractor, [dark, bright], score))
    nothing, found = located.maps[0]
    assert found.shape == (8, 8)
    assert np.abs(nothing).max() < 1e-3
    assert np.argmax(found) in (0, 8)
    assert found[4:].max() < 0.2 * found.max()
    assert found[:, 4:].max() < 0.2 * found.max()


def test_an_image_that_cannot_be_read_any_more_is_named(photos):
    extractor = make_extractor()
    _, weights, taken = random_weights(extractor, photos[:3])
    with open(photos[1], "wb") as file:
        file.write(b"no image")
    seen = see(extractor, photos[:3])
    located = evidence_maps(seen, weights[seen.rows], taken[seen.rows])
    assert located.rows.tolist() == [0, 2]
    assert list(located.bad) == [1]
    assert len(located.maps[0]) == len(located.boxes) == len(located.pictures) == 2


@pytest.mark.parametrize("size", [(300, 200), (90, 240), (64, 64)])
def test_the_place_is_that_of_the_crop(size):
    """A picture whose crop alone is white is white to the network."""
    preprocessing = Preprocessing(size=(32, 48), crop=0.6, interpolation="nearest")
    left, top, right, bottom = place_of(preprocessing, "plain", *size)
    picture = Image.new("RGB", size, (0, 0, 0))
    width, height = size
    inside = (
        round(left * width),
        round(top * height),
        round(right * width),
        round(bottom * height),
    )
    picture.paste((255, 255, 255), inside)
    assert preprocessing(picture).mean() > 240
    assert 0.5 < (right - left) * width / ((bottom - top) * height) / (48 / 32) < 2
    assert max(right - left, bottom - top) == pytest.approx(0.6)
