"""Small images of a dark and a bright region, and a small random network for them."""

import numpy as np
import pytest
from PIL import Image

from data import write_mask
from pipelines import PixelClassifier

SMALL = {"backbone": "mobilenet_v3_small", "weights": "random", "size": 64}
N = 8


def draw(seed):
    """(image (48, 60, 3) uint8, mask (48, 60) uint8 of 0 where it is dark and 3 where bright)."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((48, 60), np.uint8)
    mask[:, rng.integers(20, 40) :] = 3
    plane = rng.normal(80 + 90 * (mask[..., None] == 3), 15, (48, 60, 3))
    return np.clip(plane, 0, 255).astype(np.uint8), mask


@pytest.fixture(scope="session")
def drawn():
    """(images, masks) in memory."""
    images, masks = zip(*map(draw, range(N)), strict=True)
    return list(images), list(masks)


@pytest.fixture
def folders(tmp_path, drawn):
    """(folder of images, folder of masks), some below `b`."""
    for number, (image, mask) in enumerate(zip(*drawn, strict=True)):
        name = f"b/{number}" if number % 2 else str(number)
        for kind in ("images", "masks"):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
        write_mask(tmp_path / "masks" / f"{name}.png", mask)
    return tmp_path / "images", tmp_path / "masks"


@pytest.fixture
def classifier():
    """An unfitted one that keeps nothing on disk."""
    return PixelClassifier(cache=False, pixels_per_image=80, numerics="float32", **SMALL)


@pytest.fixture(scope="session")
def small():
    """Arguments of a small random network."""
    return dict(SMALL)
