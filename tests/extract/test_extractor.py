"""FeatureExtractor as scikit-learn knows transformers, with every (image, tap) computed once."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data import ImageError
from extract import (
    ExtractError,
    FeatureExtractor,
    FeatureStore,
    Tap,
    forward_pass,
    load_backbone,
    loader,
)
from extract.extractor import JoinedExtractor, extractors_of

LAYERS, POOLINGS = ["layer1.0", "layer2.0", "layer3.0"], ["avg", "grid2"]


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def extractor(backbone, cache):
    return FeatureExtractor(
        "layer2.0", backbone=backbone, cache=cache, numerics="float32", device="cpu"
    )


def test_paths_become_rows_in_their_order(extractor, photos, forwarded):
    X = extractor.fit_transform(photos)
    assert X.dtype == np.float32
    assert X.shape == (12, 12)
    assert np.array_equal(extractor.transform([Path(p) for p in photos[::-1]]), X[::-1])
    assert np.array_equal(extractor.transform(np.array(photos)), X)
    assert sum(forwarded) == 12
    assert extractor.extraction_.computed == 0
    assert extractor.numerics_ == "float32"


def test_maps_keep_the_places_of_their_activations(extractor, photos):
    maps = clone(extractor).set_params(pooling="map").fit_transform(photos)
    flat = clone(extractor).set_params(pooling="flatten").transform(photos)
    assert maps.dtype == np.float32
    assert maps.shape[:2] == (12, 12)
    assert np.array_equal(maps.reshape(12, -1), flat.astype(np.float16))


def test_maps_are_neither_joined_nor_columns(extractor, photos):
    joined = clone(extractor).set_params(layer="layer1.0:map+layer2.0")
    with pytest.raises(ExtractError, match=r"layer1.0:map\+layer2.0:avg: maps .* not joined"):
        joined.transform(photos)
    with pytest.raises(ExtractError, match=r"map \(layer2.0:map\) keeps maps, for PixelClassifier"):
        clone(extractor).set_params(pooling="map").get_feature_names_out()


def test_images_in_memory_are_taken_too(extractor, photos, pixels, forwarded):
    X = extractor.transform(photos)
    assert np.array_equal(extractor.transform(pixels), X)
    assert np.array_equal(extractor.transform([Image.fromarray(image) for image in pixels]), X)
    assert np.array_equal(extractor.transform(list(pixels)), X)
    assert np.array_equal(
        extractor.transform([pixels[0], photos[1], Image.fromarray(pixels[2])]), X[:3]
    )
    assert sum(forwarded) == 24


def test_a_column_of_a_table_and_an_iterator_are_lists(extractor, photos):
    """A pandas column after a split is indexed by label, not by place."""

    class Column:
        def __init__(self, values, labels):
            self.values = dict(zip(labels, values, strict=True))

        def __len__(self):
            return len(self.values)

        def __getitem__(self, label):
            return self.values[label]

        def __iter__(self):
            return iter(self.values.values())

    X = extractor.transform(photos[:3])
    assert np.array_equal(extractor.transform(Column(photos[:3], [7, 0, 1])), X)
    assert np.array_equal(extractor.transform(iter(photos[:3])), X)
    assert np.array_equal(extractor.transform(tuple(photos[:3])), X)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("a.png", r"got the single path 'a.png', expected a list of images: pass \[path\]"),
        (Path("a.png"), "got the single path"),
        (np.array("a.png"), "got the single path"),
        ([], "got no images"),
        (np.zeros((0, 8, 8, 3), np.uint8), "got no images"),
        (None, "got a NoneType, expected a list of images"),
        (7, "got a int, expected a list of images"),
        (
            np.zeros((8, 8, 3), np.uint8),
            r"got a uint8 array of shape \(8, 8, 3\), expected \(n, height, width, 3\)",
        ),
        (np.zeros((2, 3, 8, 8), np.uint8), "got a uint8 array of shape"),
        (np.zeros((2, 8, 8, 3)), "got an array of float64, expected uint8 pixels"),
    ],
)
def test_what_is_no_list_of_images_is_one_clear_line(extractor, wrong, said):
    with pytest.raises(ExtractError, match=said):
        extractor.transform(wrong)


def test_a_single_image_is_one_clear_line(extractor):
    with pytest.raises(ExtractError, match="expected a list of images"):
        extractor.transform(Image.new("RGB", (8, 8)))


@pytest.mark.parametrize("n_bad", [1, 2, 3])
def test_an_image_that_can_not_be_read_is_an_image_error(extractor, photos, tmp_path, n_bad):
    """A list of nothing but bad images was a KeyError."""
    gone = [str(tmp_path / f"gone{i}.png") for i in range(n_bad)]
    for inputs in (gone, [photos[0], *gone]):
        for call in (extractor.fit, extractor.transform):
            with pytest.raises(ImageError, match=r"gone0.png: no such file") as caught:
                call(inputs)
            assert (f"and {n_bad - 1} more of {len(inputs)}" in str(caught.value)) == (n_bad > 1)


def test_readable_images_pass_bad_ones_by(extractor, photos, tmp_path):
    gone = str(tmp_path / "gone.png")
    rows, X, bad = extractor.transform_readable([gone, photos[3], gone, photos[1]])
    assert rows.tolist() == [1, 3]
    assert np.array_equal(X, extractor.transform([photos[3], photos[1]]))
    assert sorted(bad) == [0, 2]
    rows, X, bad = extractor.transform_readable([gone])
    assert (rows.tolist(), X.shape, sorted(bad)) == ([], (0, 12), [0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layer": "layer9"}, "unknown layer 'layer9': did you mean"),
        ({"pooling": "mean"}, "unknown pooling 'mean'"),
        ({"pooling": None}, "unknown pooling None"),
        ({"layer": "layer3.0:grid9"}, "layer3.0:grid9: grid9 does not fit a map of 4x4"),
        ({"numerics": "half"}, "unknown numerics 'half'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"keep": ["layer1.0:mean"]}, "unknown pooling 'mean'"),
        (
            {"keep": "layer1.0:avg"},
            r"keep='layer1.0:avg': expected a list of taps, such as \['layer1.0:avg'\]",
        ),
        ({"backbone": "resnet19", "weights": "random"}, "unknown backbone 'resnet19'"),
        ({"size": 64}, "size can't be set on a Backbone"),
    ],
)
def test_settings_that_can_not_be_used_are_one_clear_line(extractor, photos, settings, said):
    with pytest.raises(ExtractError, match=said):
        extractor.set_params(**settings).transform(photos[:1])


def test_nothing_is_done_before_the_first_call(cache):
    FeatureExtractor("anything", "at all", backbone=3, size="big", cache=cache)
    assert not cache.exists()


def test_it_is_an_estimator(extractor, photos):
    assert clone(extractor).get_params() == extractor.get_params()
    assert "numerics_" not in vars(clone(extractor.fit(photos[:2])))
    assert extractor.set_params(pooling="grid2", layer="layer1.0").transform(photos[:2]).shape == (
        2,
        32,
    )
    assert repr(extractor).startswith("FeatureExtractor(")


def test_the_default_layer_is_the_last_block(extractor, photos):
    assert extractor.set_params(layer=None).taps() == (Tap("layer3.0", "avg"),)
    assert extractor.transform(photos[:1]).shape == (1, 16)


def test_joined_taps_are_side_by_side_and_named(extractor, photos):
    joined = clone(extractor).set_params(layer="layer1.0:grid2+layer3.0", pooling="max")
    X = joined.transform(photos)
    first, second = (
        clone(extractor).set_params(layer=layer, pooling=pooling).transform(photos)
        for layer, pooling in [("layer1.0", "grid2"), ("layer3.0", "max")]
    )
    assert np.array_equal(X, np.hstack([first, second]))
    names = joined.get_feature_names_out()
    assert len(names) == X.shape[1]
    assert (names[0], names[31], names[32], names[-1]) == (
        "layer1.0:grid2_0",
        "layer1.0:grid2_31",
        "layer3.0:max_0",
        "layer3.0:max_15",
    )


def test_fresh_and_kept_rows_are_the_same_bit_for_bit(backbone, tmp_path, photos, monkeypatch):
    from extract import engines

    monkeypatch.setattr(engines, "has_bfloat16", lambda kind: True)
    for numerics in ("float32", "bfloat16-torch"):
        found = []
        for cache in (tmp_path / "a", tmp_path / "a", False):
            extractor = FeatureExtractor(
                "layer2.0", backbone=backbone, cache=cache, numerics=numerics, device="cpu"
            )
            found += [extractor.fit_transform(photos), extractor.transform(photos)]
        assert all(np.array_equal(X, found[0]) for X in found)


def test_without_a_cache_nothing_is_written(extractor, photos, tmp_path, forwarded):
    before = sorted(tmp_path.rglob("*"))
    extractor.set_params(cache=False)
    X = extractor.fit_transform(photos)
    assert np.array_equal(extractor.transform(photos), X)
    assert sum(forwarded) == 12
    assert sorted(tmp_path.rglob("*")) == before
    assert not any(Path(os.environ["HOME"]).iterdir())


def test_the_default_cache_is_the_users(backbone, photos):
    FeatureExtractor("layer1.0", backbone=backbone, numerics="float32", device="cpu").transform(
        photos[:2]
    )
    assert list(FeatureStore().cache.glob("*/parts/*.h5"))
    assert Path(os.environ["HOME"]) in FeatureStore().cache.parents


def test_a_damaged_part_is_computed_again(extractor, photos, cache, forwarded):
    X = extractor.transform(photos)
    (part,) = cache.glob("*/parts/*.h5")
    data = bytearray(part.read_bytes())
    data[data.index(X[3].tobytes()) + 1] ^= 1
    part.write_bytes(data)
    assert np.array_equal(extractor.transform(photos), X)
    assert sum(forwarded) == 24
    assert extractor.transform(photos).shape == (12, 12)
    assert sum(forwarded) == 24


def test_a_truncated_part_is_computed_again(extractor, photos, cache, forwarded):
    X = extractor.transform(photos)
    (part,) = cache.glob("*/parts/*.h5")
    os.truncate(part, part.stat().st_size // 2)
    assert np.array_equal(extractor.transform(photos), X)
    assert sum(forwarded) == 24


def test_keep_computes_further_taps_in_the_same_pass(extractor, photos, forwarded):
    X = extractor.set_params(keep=["layer1.0:avg", "layer3.0:grid2+layer2.0"]).transform(photos)
    assert X.shape == (12, 12)
    for layer, pooling in [("layer1.0", "avg"), ("layer3.0", "grid2"), ("layer2.0", "avg")]:
        clone(extractor).set_params(layer=layer, pooling=pooling, keep=()).transform(photos)
    assert sum(forwarded) == 12


@pytest.mark.parametrize("keep", [True, False])
def test_a_grid_search_never_computes_twice(
    extractor, pixels, photos, forwarded, keep, monkeypatch
):
    for name in ("CPU_BATCH", "LARGEST_CHUNK"):
        monkeypatch.setattr(forward_pass, name, 5)
    taps = [f"{layer}:{pooling}" for layer in LAYERS for pooling in POOLINGS]
    labels = np.arange(12) % 2
    search = GridSearchCV(
        make_pipeline(
            extractor.set_params(keep=taps if keep else ()), StandardScaler(), LogisticRegression()
        ),
        {
            "featureextractor__layer": LAYERS,
            "featureextractor__pooling": POOLINGS,
            "logisticregression__C": [0.1, 1],
        },
        cv=2,
    ).fit(photos, labels)
    assert sum(forwarded) == (12 if keep else 12 * 6)
    assert search.predict(photos).shape == (12,)
    assert len(search.cv_results_["params"]) == 12
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert sum(forwarded) == (12 if keep else 12 * 6)


def test_a_pipeline_scores_images_in_memory(extractor, pixels):
    pipeline = make_pipeline(extractor, LogisticRegression())
    assert cross_val_score(
        pipeline, list(map(Image.fromarray, pixels)), np.arange(12) % 2, cv=3
    ).shape == (3,)


def test_a_pickle_leaves_the_network_and_the_rows_out(cache, photos):
    extractor = FeatureExtractor(
        "features.1", backbone="mobilenet_v3_small", weights="random", size=32, device="cpu"
    )
    for setting in (cache, False):
        extractor.set_params(cache=setting)
        X = extractor.fit_transform(photos)
        data = pickle.dumps(extractor)
        assert len(data) < 10_000
        again = pickle.loads(data)
        assert np.array_equal(again.transform(photos), X)
        assert again.recipe() == extractor.recipe()


def test_an_own_module_may_be_given_as_it_is(tiny_net, cache, pixels, forwarded):
    extractor = FeatureExtractor(
        "layer1.0", backbone=tiny_net(), cache=cache, numerics="float32", device="cpu"
    )
    images = pixels[:2]
    X = extractor.transform(images)
    assert np.array_equal(clone(extractor).transform(images), X)
    assert sum(forwarded) == 2
    other = clone(extractor).set_params(backbone=tiny_net(1))
    assert not np.array_equal(other.transform(images), X)


def test_an_own_module_is_kept_between_calls_until_it_changes(tiny_net, pixels):
    """Each call copied it, ran it to see what it gives, and fused it."""
    network = tiny_net()
    extractor = FeatureExtractor(
        "layer1.0", backbone=network, cache=False, numerics="float32", device="cpu"
    )
    X, size = extractor.transform(pixels[:2]), len(pickle.dumps(extractor))
    first = extractor.load_backbone()
    extractor.transform(pixels[2:4])
    assert extractor.load_backbone() is first
    assert len(pickle.dumps(extractor)) == size
    assert not hasattr(clone(extractor), "_kept_backbone")
    for parameter in network.parameters():
        parameter.data.mul_(1.5)  # which moves no counter of changes
    assert extractor.load_backbone() is not first
    assert not np.array_equal(extractor.transform(pixels[:2]), X)


def test_the_recipe_is_settled_by_the_first_call(extractor, photos):
    extractor.set_params(numerics="auto")
    extractor.transform(photos[:1])
    assert extractor.recipe().numerics == extractor.numerics_ != "auto"
    assert extractor.recipe() == extractor.extraction_.recipe


def test_numerics_set_after_a_call_are_taken(extractor, photos, monkeypatch):
    """`recipe` went on with the numerics of the call before."""
    extractor.transform(photos[:1])
    assert extractor.set_params(numerics="bfloat16-torch").recipe().numerics == "bfloat16-torch"


def test_a_reading_set_after_a_call_is_taken(extractor, photos):
    extractor.transform(photos[:1])
    extractor.set_params(intensity=(0, 4095), channels="0").transform(photos[:1])
    assert extractor.reading_.text == "intensity=0:4095 channels=0"
    assert extractor.recipe() == extractor.extraction_.recipe


def test_the_last_features_of_a_named_backbone(photos, cache):
    extractor = FeatureExtractor(
        backbone="mobilenet_v3_small", weights="random", size=32, cache=cache, device="cpu"
    )
    assert extractor.transform(photos[:2]).shape == (2, 576)
    assert (
        load_backbone("mobilenet_v3_small", "random", size=32, cache=cache)
        is extractor.load_backbone()
    )
    assert not (cache / "photos").exists()


def test_flips_are_kept_apart_and_averaged(extractor, photos, pixels, forwarded):
    plain = extractor.transform(photos)
    forwarded.clear()
    flips = clone(extractor).set_params(view="flipped")
    averaged = flips.transform(photos)
    assert (sum(forwarded), flips.extraction_.computed) == (12, 12)
    mirrored = extractor.transform(np.ascontiguousarray(pixels[:, :, ::-1]))
    np.testing.assert_allclose(averaged, (plain + mirrored) / 2, rtol=1e-4, atol=1e-5)
    assert np.array_equal(extractor.transform(photos), plain)
    unkept = clone(flips).set_params(cache=False)
    np.testing.assert_allclose(unkept.transform(photos), averaged, rtol=1e-5, atol=1e-6)


@pytest.fixture
def joined(extractor, other_backbone):
    other = clone(extractor).set_params(backbone=other_backbone, layer="layer1.0")
    return JoinedExtractor([extractor, other])


def test_views_of_one_network_take_one_decode(extractor, photos, cache, forwarded, monkeypatch):
    decoded = []
    decode = loader.decode_noted

    def noted(*args, **more):
        decoded.append(args)
        return decode(*args, **more)

    monkeypatch.setattr(loader, "decode_noted", noted)
    whole = clone(extractor).set_params(view="whole", layer="layer1.0")
    both = JoinedExtractor([clone(extractor), whole])
    found = both.transform(iter(photos))
    assert (len(decoded), sum(forwarded)) == (12, 24)
    alone = [clone(own).set_params(cache=cache / "other") for own in both.extractors]
    expected = np.hstack([own.transform(photos) for own in alone])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_joined_extractors_give_their_columns_side_by_side(joined, photos):
    first, second = (extractor.transform(photos) for extractor in joined.extractors)
    assert np.array_equal(joined.transform(photos), np.hstack([first, second]))


def test_joined_extractors_pass_by_what_one_of_them_can_not_read(joined, photos, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("none")
    rows, X, bad = joined.transform_readable([photos[0], broken, photos[1]])
    assert (rows.tolist(), list(bad)) == ([0, 2], [1])
    assert np.array_equal(X, joined.transform(photos[:2]))
    with pytest.raises(ImageError, match=r"broken\.png"):
        joined.transform([broken])


def test_the_extractors_of_one_and_of_several(extractor, joined):
    assert extractors_of(extractor) == (extractor,)
    assert extractors_of(joined) == joined.extractors
    assert len(joined.extractors) == 2


def test_features_come_as_a_frame_with_the_names_of_taps_and_the_index_of_the_paths(
    extractor, photos
):
    pandas = pytest.importorskip("pandas", reason="NO PANDAS: pip install .[notebook]")
    X = extractor.transform(photos[:3])
    paths = pandas.Series(photos[:3], index=[7, 0, 1])
    joined = clone(extractor).set_params(layer="layer2.0+layer3.0").set_output(transform="pandas")
    for frame in (
        joined.transform(paths),
        joined.fit_transform(paths),
        clone(joined).transform(paths),
    ):
        assert frame.index.tolist() == [7, 0, 1]
        assert frame.columns[[0, 11, 12, 27]].tolist() == [
            "layer2.0:avg_0",
            "layer2.0:avg_11",
            "layer3.0:avg_0",
            "layer3.0:avg_15",
        ]
        assert np.array_equal(frame.filter(like="layer2.0").to_numpy(), X)
    assert isinstance(joined.set_output(transform="default").transform(paths), np.ndarray)


def test_frames_go_through_pipelines_and_stand_beside_columns_of_figures(extractor, photos):
    pandas = pytest.importorskip("pandas", reason="NO PANDAS: pip install .[notebook]")
    y = [*"ab"] * 6
    pipeline = make_pipeline(extractor, StandardScaler(), LogisticRegression())
    pipeline.set_output(transform="pandas").fit(photos, y)
    assert pipeline[-1].feature_names_in_[0] == "layer2.0:avg_0"
    assert pipeline[:-1].get_feature_names_out().tolist() == [
        f"layer2.0:avg_{i}" for i in range(12)
    ]
    assert len(pipeline.predict(photos[:2])) == 2
    frame = pandas.DataFrame({"path": photos, "age": range(12)})
    both = ColumnTransformer([("image", extractor, "path"), ("tells", StandardScaler(), ["age"])])
    found = both.set_output(transform="pandas").fit_transform(frame)
    assert found.columns[[0, -2, -1]].tolist() == [
        "image__layer2.0:avg_0",
        "image__layer2.0:avg_11",
        "tells__age",
    ]
