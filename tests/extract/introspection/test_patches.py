"""The patch that excites a channel is where it was put, to the pixel."""

import numpy as np
import pytest
from PIL import Image

from extract import ExtractError
from extract.introspection.patches import (
    PATCH_SIDE,
    Patch,
    crop,
    cut_patches,
    find_patches,
    locate_patches,
    strongest_places,
)
from extract.store.ids import pixels_id

PUT = {
    0: (1, (2, 5), (20, 8, 24, 12)),
    1: (2, (4, 1), (4, 16, 8, 20)),
    2: (3, (7, 0), (0, 28, 4, 32)),
}


@pytest.mark.parametrize("channel", PUT)
def test_a_patch_is_found_where_it_was_put(detector, spotted, channel):
    row, place, box = PUT[channel]
    first, *_ = find_patches(detector, "relu", spotted, [channel])[channel]
    assert (first.row, first.place) == (row, place)
    assert [32 * edge for edge in first.box] == pytest.approx(box)
    assert first.value > 0.9


def test_a_patch_of_a_wider_image_lies_where_the_network_looked(detector, spotted):
    """The network sees the middle of an image that is wider than high."""
    wide = np.full((32, 64, 3), 128, np.uint8)
    wide[:, 16:48] = spotted[1]
    (patch,) = find_patches(detector, "relu", [wide], [0])[0]
    assert patch.box == pytest.approx((36 / 64, 8 / 32, 40 / 64, 12 / 32))


@pytest.mark.parametrize("channel", PUT)
def test_a_patch_is_located_within_its_window(detector, spotted, channel):
    row, place, box = PUT[channel]
    whole = slice(0, 8), slice(0, 8)
    beside = slice(0, 8), slice(place[1] + 1, 8) if place[1] < 7 else slice(0, 7)
    own, other = locate_patches(
        detector, "relu", spotted, [(row, channel, whole), (row, channel, beside)]
    )
    assert (own.row, own.place) == (row, place)
    assert [32 * edge for edge in own.box] == pytest.approx(box)
    assert own.value > 0.9
    assert other.place[1] in range(8)[beside[1]]
    assert other.value < own.value


def test_what_cant_be_read_is_located_nowhere(detector, spotted, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    whole = slice(0, 8), slice(0, 8)
    wanted = [(0, 0, whole), (2, 0, whole)]
    bad, own = locate_patches(detector, "relu", [str(tmp_path / "bad.png"), *spotted], wanted)
    assert bad is None
    assert (own.row, own.place) == (2, (2, 5))
    with pytest.raises(ExtractError, match="channel 3 is not in layer 'relu'"):
        locate_patches(detector, "relu", spotted, [(0, 3, whole)])


def test_of_another_image_by_now_nothing_is_cut(spotted):
    patch = Patch(1, (0, 0), 1.0, (0.0, 0.0, 1.0, 1.0))
    ids = np.stack([np.frombuffer(pixels_id(image), np.uint8) for image in spotted])
    (own,) = cut_patches(spotted, [patch], ids=ids)
    assert own.size == (32, 32)
    assert cut_patches(spotted, [patch], ids=ids[::-1]) == [None]


def test_a_large_jpeg_is_decoded_no_larger_than_its_patches_are_shown(tmp_path):
    Image.new("RGB", (3200, 2400), (200, 30, 30)).save(tmp_path / "large.jpg")
    patch = Patch(0, (0, 0), 1.0, (0.25, 0.25, 0.75, 0.75))
    (own,) = cut_patches([str(tmp_path / "large.jpg")], [patch])
    assert PATCH_SIDE <= min(own.size) <= 2 * PATCH_SIDE


def test_a_cut_patch_is_what_the_channel_answers_to(detector, spotted):
    found = find_patches(detector, "relu", spotted, [0, 2])
    red, green = (np.asarray(cut_patches(spotted, own[:1])[0]) for own in found.values())
    assert (red == (255, 0, 0)).all()
    assert (green == (0, 255, 0)).all()


def test_the_strongest_patches_come_first_each_of_another_image(detector, spotted):
    for own in find_patches(detector, "relu", spotted, 3).values():
        assert sorted(patch.row for patch in own) == [0, 1, 2, 3, 4]
        values = [patch.value for patch in own]
        assert values == sorted(values, reverse=True)


def test_channels_may_be_chosen_by_what_was_found(detector, spotted):
    found = find_patches(detector, "relu", spotted, lambda own: [int(own.averages[3].argmax())])
    assert [*found] == [2]


def test_an_image_that_cant_be_read_is_passed_over(detector, spotted, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    inputs = [str(tmp_path / "bad.png"), *spotted]
    found = find_patches(detector, "relu", inputs, [0])[0]
    assert found[0].row == 2
    assert len(found) == 5
    with pytest.raises(ExtractError, match="none of the 1 images can be read"):
        find_patches(detector, "relu", inputs[:1], [0])


def test_places_of_kept_maps_do_not_hang_on_the_batches():
    maps = np.random.default_rng(0).integers(0, 9, (40, 6, 5, 4)).astype(np.float32)
    whole = strongest_places([(np.arange(40), maps)])
    cut = strongest_places(
        [(np.arange(at, at + 7)[: 40 - at], maps[at : at + 7]) for at in range(0, 40, 7)]
    )
    for own, other in zip(whole.ranked, cut.ranked, strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_allclose(cut.mean, maps.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(cut.std, maps.std(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(whole.images, np.arange(40))
    np.testing.assert_allclose(cut.averages, maps.mean(axis=(2, 3)), rtol=1e-6)
    best = np.sort(maps.max(axis=(2, 3)), axis=0)[::-1][:9].T
    np.testing.assert_array_equal(whole.values, best)


def test_channels_that_show_the_same_images_come_last():
    maps = np.random.default_rng(0).normal(size=(60, 3, 3, 3))
    maps[:9, :2, 0, 0] += 50  # the two that stand out most answer to the same images
    maps[20:29, 2] += 20
    first, second, last = strongest_places([(np.arange(60), maps)]).standing_out()
    assert second == 2
    assert {first, last} == {0, 1}


def test_no_maps_are_refused():
    with pytest.raises(ValueError, match="got no maps"):
        strongest_places([])


@pytest.mark.parametrize(
    ("layer", "channels", "said"),
    [
        ("relu", [3], "channel 3 is not in layer 'relu', which has 3: expected 0 to 2"),
        ("rely", [0], "unknown layer 'rely'"),
    ],
)
def test_what_is_not_there_is_refused(detector, spotted, layer, channels, said):
    with pytest.raises(ExtractError, match=said):
        find_patches(detector, layer, spotted, channels)


def test_a_layer_without_places_is_refused(backbone, spotted):
    with pytest.raises(ExtractError, match="has no places to look at: expected one with a spatial"):
        find_patches(backbone, "fc", spotted, [0])


def test_a_box_has_one_pixel_at_least():
    assert crop(Image.new("RGB", (10, 10)), (0.5, 0.5, 0.5, 0.5)).size == (1, 1)
