"""Tests of pipelines/features.py."""

import shutil

import numpy as np
import pytest

from data import Samples, read_image_folder
from extract import ExtractError, FeatureStore, Tap, load_backbone
from pipelines.features import choose_taps, keep_features, settle_duplicates
from pipelines.report.extraction import describe_extraction
from pipelines.settings import FeatureSettings


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("mobilenet_v3_small", "random", size=32)


def kept(samples, backbone, cache, layers="features.4", **options):
    settings = FeatureSettings(layers=layers, pooling="avg")
    return keep_features(samples, [backbone], FeatureStore(cache), settings, **options)


def n_computed(table):
    return describe_extraction(table.passes)["computed"]


def test_auto_leaves_out_what_does_not_fit(backbone):
    taps = choose_taps(backbone.card, "auto", ["avg", "grid3"])
    assert (Tap("features.12", "avg"),) in taps
    assert (Tap("features.12", "grid3"),) not in taps


def test_a_named_layer_that_does_not_fit_is_refused(backbone):
    with pytest.raises(ExtractError, match="grid3 does not fit a map of 1x1"):
        choose_taps(backbone.card, "features.12", ["avg", "grid3"])


def test_taps_are_joined_by_a_plus_and_may_name_their_pooling(backbone):
    first, second = Tap("features.4", "grid2"), Tap("features.6", "avg")
    assert choose_taps(
        backbone.card, "features.4:grid2+features.6:avg, features.6", ["avg", "max"]
    ) == [
        (first, second),
        (second,),
        (Tap("features.6", "max"),),
    ]
    with pytest.raises(ExtractError, match=r"unknown layer 'features\.44'"):
        choose_taps(backbone.card, "features.6+features.44", ["avg"])


def test_joined_taps_are_one_source_and_their_columns_follow_one_another(
    photos, backbone, tmp_path
):
    table = kept(
        read_image_folder(photos),
        backbone,
        tmp_path / "cache",
        "features.4:grid2+features.6:avg,features.4",
    )
    joined, alone = table.sources
    assert (joined.layer, joined.pooling, joined.tap) == (
        None,
        None,
        "features.4:grid2+features.6:avg",
    )
    assert (alone.layer, alone.pooling, alone.tap) == ("features.4", "avg", "features.4:avg")
    rows = np.arange(5)
    widths = [backbone.card.width(tap) for tap in table.features[0].taps]
    assert table.read(0, rows).shape == (5, sum(widths)) == (5, joined.dim)


def test_flips_add_sources_and_compute_the_mirrored_images_alone(photos, backbone, tmp_path):
    samples, cache = read_image_folder(photos), tmp_path / "cache"
    kept(samples, backbone, cache)
    views = ["plain", "plain+flipped"]
    table = kept(samples, backbone, cache, views=views)
    assert n_computed(table) == 24
    assert [source.view for source in table.sources] == ["plain", "plain+flipped"]
    assert not np.array_equal(table.read(0, np.arange(24)), table.read(1, np.arange(24)))
    again = kept(samples, backbone, cache, views=views)
    assert n_computed(again) == 0
    more = kept(samples, backbone, cache, "features.4,features.6")
    assert n_computed(more) == 24


def test_a_pooling_that_fits_nowhere_is_refused(backbone):
    with pytest.raises(ExtractError, match="grid50"):
        choose_taps(backbone.card, "auto", ["grid50"])


def test_rows_follow_the_samples(photos, backbone, tmp_path):
    samples = read_image_folder(photos)
    table = kept(samples, backbone, tmp_path / "cache")
    rows = np.array([5, 0, 5, 20])
    again = kept(samples[rows[[0, 1, 3]]], backbone, tmp_path / "cache")
    assert np.array_equal(table.read(0, rows)[[0, 1, 3]], again.read(0, np.arange(3)))
    assert n_computed(again) == 0


@pytest.mark.parametrize(
    ("labels", "split", "expected_rows", "contradictions", "dropped"),
    [
        ("aab", None, [0, 2], 0, 1),
        ("aab", ("train", "test", "train"), [1, 2], 0, 1),
        ("abb", None, [2], 2, 0),
        (None, None, [0, 2], 0, 1),
    ],
    ids=["one copy stays", "the test copy stays", "copies that disagree go", "no labels"],
)
def test_copies_are_settled(labels, split, expected_rows, contradictions, dropped):
    samples = Samples(paths="pqr", labels=labels and list(labels), split=split)
    ids = np.array([[1] * 16, [1] * 16, [2] * 16], np.uint8)
    rows, reasons, n = settle_duplicates(samples, ids, np.arange(3))
    assert rows.tolist() == expected_rows
    assert len(reasons) == contradictions
    assert n == dropped


def test_copies_among_many_are_settled_in_their_order():
    numbers = [4, 1, 4, 2, 1, 3, 2]
    samples = Samples(paths="abcdefg", labels=list("xyxxxyz"))
    ids = np.repeat(np.uint8(numbers)[:, None], 16, axis=1)
    rows, reasons, n = settle_duplicates(samples, ids, np.arange(7))
    assert rows.tolist() == [0, 5]
    assert [path for path, _ in reasons] == ["b", "e", "d", "g"]
    assert n == 1


def test_the_cost_of_changes_to_a_folder(photos, backbone, tmp_path, add_photos):
    """10 new images compute 10, a moved folder 0, a new layer that tap alone."""

    def computed(folder, layers="features.4", network=backbone):
        return n_computed(kept(read_image_folder(folder), network, tmp_path / "cache", layers))

    assert computed(photos) == 24
    add_photos(photos, per_class=5, start=100)
    assert computed(photos) == 10
    moved = shutil.move(photos, tmp_path / "moved")
    assert computed(moved) == 0
    assert computed(moved, "features.4,features.6") == 34
    assert computed(moved, "features.6") == 0
    assert computed(moved, network=load_backbone("mobilenet_v3_small", "random", size=40)) == 34
    assert (
        computed(moved, network=load_backbone("mobilenet_v3_small", "random", size=32, seed=1))
        == 34
    )


def test_bad_images_are_left_out_with_their_reason(photos, backbone, tmp_path):
    (photos / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (photos / "cats" / "gone.jpg").symlink_to("nowhere.jpg")
    table = kept(read_image_folder(photos), backbone, tmp_path / "cache")
    assert len(table.samples) == 24
    assert sorted(path.rpartition("/")[2] for path, _ in table.bad) == ["broken.jpg", "gone.jpg"]
    assert all(reason for _, reason in table.bad)
