"""Copies: what is planted is found, and nothing else."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from data import read_thumbnails
from pipelines.exploration.copies import Copies, find_copies, group_copies

N = 40


def picture(seed, side=96):
    """A smooth picture with structure at several scales, (side, side, 3) uint8."""
    noise = np.random.default_rng(seed).normal(size=(side, side, 3))
    layers = [gaussian_filter(noise, (s, s, 0)) * s for s in (2, 5, 12)]
    mixed = sum(layers) - sum(layers).min()
    return (mixed * (255 / mixed.max())).astype(np.uint8)


def encoded(pixels, size, quality):
    """The picture resized and through JPEG, as a PIL image."""
    file = io.BytesIO()
    Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(
        file, "JPEG", quality=quality
    )
    return Image.open(file).convert("RGB")


@pytest.fixture(scope="module")
def pictures():
    return [picture(seed) for seed in range(N)]


@pytest.fixture(scope="module")
def looks():
    return np.random.default_rng(0).normal(size=(N, 50)).astype(np.float32)


def found(images, looks, **options):
    return {
        (pair.first, pair.second): pair.kind
        for pair in find_copies(looks, read_thumbnails(images, 2), **options)
    }


def with_copy(pictures, looks, copy, alike=True):
    """Everything found among the pictures and a changed copy of picture 3."""
    own = looks[3] + 0.05 if alike else -looks[3]
    return found([*pictures, copy], np.vstack([looks, own]))


def test_different_pictures_are_no_copies(pictures, looks):
    assert found(pictures, looks) == {}


@pytest.mark.parametrize("size", [40, 64, 200])
@pytest.mark.parametrize("quality", [30, 90])
def test_a_copy_of_another_size_and_quality_is_found_whatever_the_features_say(
    pictures, looks, size, quality
):
    copy = encoded(pictures[3], size, quality)
    assert with_copy(pictures, looks, copy, alike=False) == {(3, N): "copy"}


def test_a_gray_and_a_brighter_copy_are_found(pictures, looks):
    for copy in (Image.fromarray(pictures[3]).convert("L"), Image.fromarray(pictures[3] // 2 + 80)):
        assert with_copy(pictures, looks, copy) == {(3, N): "copy"}


def test_a_cropped_copy_is_found_where_the_features_agree(pictures, looks):
    copy = pictures[3][7:-7, 7:-7]
    assert with_copy(pictures, looks, copy) == {(3, N): "edited"}
    assert with_copy(pictures, looks, copy, alike=False) == {}


def test_a_mirrored_copy_is_told_apart(pictures, looks):
    assert with_copy(pictures, looks, pictures[3][:, ::-1]) == {(3, N): "mirrored"}


def test_rows_of_one_id_are_exact_copies(pictures, looks):
    ids = np.arange(N)[:, None].repeat(16, axis=1).astype(np.uint8)
    ids[[7, 9]] = ids[5]
    assert found(pictures, looks, ids=ids) == {(5, 7): "exact", (5, 9): "exact"}


def test_pictures_without_any_edges_are_not_taken_for_copies(looks):
    blank = [np.full((20, 20, 3), 10 * i, np.uint8) for i in range(8)]
    assert found(blank, looks[:8]) == {}


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_pictures_are_no_trouble(pictures, looks, n):
    assert found(pictures[:n], looks[:n]) == {}


def test_a_frame_in_common_makes_no_copies(pictures, looks):
    framed = [image.copy() for image in pictures]
    for image in framed:
        image[:6] = image[-6:] = image[:, :6] = image[:, -6:] = 0
    assert found(framed, looks) == {}


def test_features_and_thumbnails_must_match(pictures, looks):
    with pytest.raises(ValueError, match="40 rows of features and 3 thumbnails"):
        find_copies(looks, read_thumbnails(pictures[:3]))


def test_copies_of_copies_share_a_group():
    pairs = [Copies(0, 1, "copy", 1.0), Copies(1, 4, "edited", 0.8), Copies(2, 3, "mirrored", 1.0)]
    names = group_copies(5, pairs)
    assert names[0] == names[1] == names[4]
    assert len(set(names)) == 3


def test_groups_that_were_given_are_kept_and_joined():
    names = group_copies(6, [Copies(1, 2, "copy", 1.0)], groups=["a", "a", "b", "b", "c", "d"])
    assert len(set(names[:4])) == 1
    assert len(set(names)) == 3
    assert len(set(group_copies(4, []))) == 4


def digits(count=400):
    """Handwritten digits, uint8 (n, 8, 8, 3): no two are one scan, many look alike."""
    from sklearn.datasets import load_digits

    gray = np.minimum(load_digits().images[:count] * 16, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=3)


def test_small_scans_that_look_alike_are_no_copies():
    """1,797 digits had five false pairs; a file's pixels, whatever their number, count."""
    small = digits(1797)
    features = small.reshape(len(small), -1).astype(np.float32)
    assert found(small, features) == {}
    large = [Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC) for pixels in small]
    assert found(large, features) == {}


@pytest.mark.parametrize("sides", [(8, 8), (96, 64), (96, 128)])
def test_a_copy_of_a_small_scan_is_found(sides):
    """Re-encoded at 8 x 8, or at another size where the scan was blown up before."""
    before, after = sides
    pixels = [
        np.asarray(Image.fromarray(one).resize((before, before), Image.Resampling.BICUBIC))
        for one in digits()
    ]
    copies = [encoded(pixels[i], after, 90) for i in (3, 50, 77)]
    scans = [*digits(), *digits()[[3, 50, 77]]]
    features = np.reshape(scans, (403, -1)).astype(np.float32)
    assert found([*pixels, *copies], features) == {
        (3, 400): "copy",
        (50, 401): "copy",
        (77, 402): "copy",
    }


@pytest.mark.parametrize("n", [2, 3, 11])
def test_equal_pictures_are_all_copies_of_one_another(pictures, n):
    same = [pictures[0]] * n
    every = {(first, second): "copy" for first in range(n) for second in range(first + 1, n)}
    assert found(same, np.ones((n, 5))) == every


def test_more_equal_pictures_than_are_compared_with_each_are_one_group(pictures, looks):
    thumbnails = read_thumbnails([*pictures[1:], *[pictures[0]] * 30])
    features = np.vstack([looks[1:], np.repeat(looks[:1], 30, axis=0)])
    groups = group_copies(len(features), find_copies(features, thumbnails))
    assert len(set(groups)) == N
    assert len(set(groups[N - 1 :])) == 1


def test_one_kind_is_found_of_a_pair(pictures, looks):
    """A symmetric picture is its own mirror image; the same bytes are a copy as well."""
    symmetric = np.concatenate([pictures[3], pictures[3][:, ::-1]], axis=1)
    images = [*pictures, symmetric, symmetric.copy()]
    features = np.vstack([looks, looks[:1], looks[:1]])
    ids = np.arange(N + 2)[:, None].repeat(16, axis=1).astype(np.uint8)
    assert found(images, features, ids=ids) == {(N, N + 1): "copy"}
    ids[N + 1] = ids[N]
    assert found(images, features, ids=ids) == {(N, N + 1): "exact"}


def test_features_that_do_not_vary_tell_nothing(pictures):
    assert found(pictures, np.ones((N, 5))) == {}


def test_groups_of_nothing_and_of_one():
    assert group_copies(0, []).tolist() == []
    assert group_copies(0, [], groups=[]).tolist() == []
    assert group_copies(1, []).tolist() == ["g0"]
    assert group_copies(1, [], groups=["a"]).tolist() == ["g0"]
