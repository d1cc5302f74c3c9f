"""The baselines go through the pass as any backbone does, and measure what they say."""

import numpy as np
import pytest
import torch

from extract import ExtractError, FeatureExtractor, load_backbone
from extract.backbones.baseline_networks import ColourBins, GaborBank, gabor_filters

# name -> (shape of the one layer, taps of a default run that fit)
BASELINES = {
    "pixels": ((3072, 1, 1), {"avg": 3072}),
    "histogram": ((64, 3, 3), {"avg": 64, "grid3": 576}),
    "gabor": ((48, 3, 3), {"avg": 48, "grid3": 432}),
}


def load(name):
    return load_backbone(name)


def rows(name, images, pooling="avg"):
    extractor = FeatureExtractor(
        backbone=load(name), layer=name, pooling=pooling, numerics="float32", cache=False
    )
    return extractor.transform(images)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_a_backbone_of_one_layer(name):
    shape, widths = BASELINES[name]
    card = load(name).card
    assert card.choose_layers("auto") == card.choose_layers("all") == [name]
    assert card.activations[name].shape == shape
    assert card.first_untrained is None
    for pooling, width in widths.items():
        assert card.activations[name].width(pooling) == width


@pytest.mark.parametrize("name", BASELINES)
def test_rows_are_the_same_whenever_they_are_made(name, pixels):
    for pooling, width in BASELINES[name][1].items():
        found = rows(name, pixels, pooling)
        assert found.shape == (12, width)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(rows(name, pixels[:1], pooling), found[:1], rtol=1e-5, atol=1e-6)
    assert load(name).card.digest == load(name).card.digest


def test_pixels_are_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(
        rows("pixels", images), images.transpose(0, 3, 1, 2).reshape(2, -1) / 255, atol=1e-6
    )


@pytest.mark.parametrize("cells", [1, 2])
def test_the_histogram_counts_colours_by_cell(cells):
    levels = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 6))
    maps = ColourBins(4, cells)(torch.tensor(levels / 255, dtype=torch.float32)).numpy()
    side = 6 // cells
    for image, row, column in np.ndindex(2, cells, cells):
        part = (
            levels[image, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
            // 64
        )
        counts = np.histogramdd(part.reshape(3, -1).T, bins=4, range=[(0, 4)] * 3)[0]
        np.testing.assert_allclose(
            maps[image, :, row, column] ** 2, counts.ravel() / side**2, atol=1e-6
        )


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("direction", range(6))
def test_a_wave_excites_its_own_gabor_filter_most(level, direction):
    angle, frequency = np.pi * direction / 6, 0.4 / 2**level
    y, x = np.mgrid[:128, :128]
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)))
    images = torch.tensor(wave, dtype=torch.float32).expand(1, 3, 128, 128)
    means = GaborBank()(images)[0, :24].mean((1, 2)).reshape(4, 6)
    assert divmod(int(means.argmax()), 6) == (level, direction)


def test_gabor_filters_see_no_plain_light():
    filters = gabor_filters(6, 13)
    assert filters.shape == (12, 1, 13, 13)
    assert filters.sum((1, 2, 3)).abs().max() < 1e-5
    assert GaborBank()(torch.full((1, 3, 128, 128), 0.7)).abs().max() < 1e-4


def test_a_size_too_small_for_the_filters_is_refused():
    with pytest.raises(ExtractError, match="does not run on 32x32 px"):
        _ = load_backbone("extract.backbones.baseline_networks:gabor", size=32).card


@pytest.mark.parametrize("given", [{"weights": "random"}, {"size": 64}])
def test_a_baseline_takes_no_weights_and_no_size(given):
    with pytest.raises(ExtractError, match="leave both out"):
        load_backbone("pixels", **given)


def test_what_is_known_of_a_baseline_is_remembered(tmp_path):
    first = load_backbone("gabor", cache=tmp_path).card
    assert first.architecture == "permafrost.gabor/1"
    (remembered,) = tmp_path.rglob("*.json")
    assert first.digest in remembered.read_text()
