"""Tests of pipelines/bundle.py."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from data import read_image_folder
from extract import FeatureExtractor, Preprocessing, load_backbone
from extract.extractor import JoinedExtractor
from heads import HEADS, Calibration, fit_calibration, head_scores, make_head
from heads.blended import BlendedHead, Member
from heads.rows import training_rows
from pipelines import BundleError, ImageClassifier, load_classifier, load_pixels, save_classifier
from pipelines.bundle.description import render
from pipelines.bundle.files import describe_files
from pipelines.bundle.reference_files import REFERENCE_FILES

OPTIONS = {
    "backbone": "mobilenet_v3_small",
    "weights": "random",
    "size": 32,
    "layer": "features.4",
    "pooling": "grid2",
}


@pytest.fixture
def samples(photos):
    return read_image_folder(photos)


def fit(samples, tmp_path, **options):
    classifier = ImageClassifier(**{**OPTIONS, "cache": tmp_path / "cache", **options})
    return classifier.fit(samples.paths, samples.labels)


@pytest.fixture(scope="module")
def saved(photos_of_the_module, tmp_path_factory):
    """A bundle, for tests that spoil a copy of it."""
    place = tmp_path_factory.mktemp("saved")
    return save_classifier(fit(read_image_folder(photos_of_the_module), place), place / "bundle")


@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_head_comes_back_the_same(samples, tmp_path, head):
    classifier = fit(samples, tmp_path, head=head)
    loaded = load_classifier(save_classifier(classifier, tmp_path / "bundle"))
    assert np.array_equal(loaded.predict(samples.paths), classifier.predict(samples.paths))
    assert np.array_equal(
        loaded.predict_proba(samples.paths), classifier.predict_proba(samples.paths)
    )
    assert loaded.classes_.tolist() == ["cats", "dogs"]


def test_a_loaded_bundle_keeps_nothing_on_disk(samples, tmp_path):
    loaded = load_classifier(save_classifier(fit(samples, tmp_path), tmp_path / "bundle"))
    shutil.rmtree(tmp_path / "cache")
    before = sorted(tmp_path.rglob("*"))
    loaded.predict(samples.paths)
    assert sorted(tmp_path.rglob("*")) == before


def test_joined_taps_come_back(samples, tmp_path):
    classifier = fit(samples, tmp_path, layer="features.4:grid2+features.6:avg")
    loaded = load_classifier(save_classifier(classifier, tmp_path / "bundle"))
    assert np.array_equal(
        loaded.predict_proba(samples.paths), classifier.predict_proba(samples.paths)
    )


def test_local_weights_are_copied_in(samples, tmp_path):
    import torch

    torch.save(
        load_backbone("mobilenet_v3_small", "random", seed=5).network.state_dict(),
        tmp_path / "w.pth",
    )
    classifier = fit(samples, tmp_path, weights=str(tmp_path / "w.pth"))
    expected = classifier.predict_proba(samples.paths)
    save_classifier(classifier, tmp_path / "bundle")
    (tmp_path / "w.pth").unlink()
    assert np.array_equal(
        load_classifier(tmp_path / "bundle").predict_proba(samples.paths), expected
    )


def test_a_bundle_of_ones_own_module_needs_it_again(samples, tmp_path):
    network = load_backbone("mobilenet_v3_small", "random", size=32).network
    own = load_backbone(network, preprocessing=Preprocessing(size=32))
    classifier = fit(samples, tmp_path, backbone=own, weights=None, size=None)
    save_classifier(classifier, tmp_path / "bundle")
    with pytest.raises(BundleError, match="a bundle holds no code"):
        load_classifier(tmp_path / "bundle")
    loaded = load_classifier(tmp_path / "bundle", backbone=own)
    assert np.array_equal(loaded.predict(samples.paths), classifier.predict(samples.paths))


def test_another_bundle_in_the_same_place_leaves_nothing_of_the_old_one(samples, tmp_path):
    import torch

    torch.save(
        load_backbone("mobilenet_v3_small", "random", seed=5).network.state_dict(),
        tmp_path / "w.pth",
    )
    save_classifier(
        fit(samples, tmp_path, weights=str(tmp_path / "w.pth"), head="knn"), tmp_path / "bundle"
    )
    classifier = fit(samples, tmp_path)
    save_classifier(classifier, tmp_path / "bundle")
    assert np.array_equal(
        load_classifier(tmp_path / "bundle").predict(samples.paths),
        classifier.predict(samples.paths),
    )
    files = {file.name for file in (tmp_path / "bundle").iterdir()}
    assert files == {"bundle.json", "head.skops"} | REFERENCE_FILES
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_ready_backbone_keeps_its_size_and_seed(samples, tmp_path):
    ready = load_backbone("mobilenet_v3_small", "random", size=40, seed=3)
    classifier = fit(samples, tmp_path, backbone=ready, weights=None, size=None)
    loaded = load_classifier(save_classifier(classifier, tmp_path / "bundle"))
    assert np.array_equal(
        loaded.predict_proba(samples.paths), classifier.predict_proba(samples.paths)
    )


def test_ones_own_module_with_weights_of_a_file(samples, tmp_path):
    import torch

    network = load_backbone("mobilenet_v3_small", "random", size=32).network
    torch.save(network.state_dict(), tmp_path / "w.pth")
    own = load_backbone(network, str(tmp_path / "w.pth"), preprocessing=Preprocessing(size=32))
    classifier = fit(samples, tmp_path, backbone=own, weights=None, size=None)
    loaded = load_classifier(save_classifier(classifier, tmp_path / "bundle"), backbone=own)
    assert np.array_equal(loaded.predict(samples.paths), classifier.predict(samples.paths))


def test_a_head_that_could_not_be_loaded_is_not_saved(samples, tmp_path):
    classifier = fit(samples, tmp_path, head=Stranger())
    with pytest.raises(BundleError, match="Stranger"):
        save_classifier(classifier, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_other_weights_are_refused(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "bundle"))
    change(folder, "extractors", 0, "backbone", seed=1)
    with pytest.raises(BundleError, match="was trained with weights"):
        load_classifier(folder)


def seal(folder, content=None):
    """Give all files the checksums of what they hold now, as an enemy would."""
    file = folder / "bundle.json"
    content = content or json.loads(file.read_text())
    file.unlink()
    file.write_bytes(render({**content, "files": describe_files(folder)}))


def change(folder, *path, **values):
    """Set values in bundle.json, below `path`, with right checksums."""
    content = json.loads((folder / "bundle.json").read_text())
    target = content
    for name in path:
        target = target[name]
    target.update(values)
    seal(folder, content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is no bundle"),
        (lambda folder: (folder / "bundle.json").write_text("{"), "is no bundle"),
        (lambda folder: (folder / "bundle.json").write_text('{"schema": 99}'), "schema 99"),
        (lambda folder: (folder / "head.skops").write_bytes(b"no zip"), "has 6 bytes"),
        (lambda folder: (folder / "head.skops").unlink(), "can't read"),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "schema None"),
        (lambda folder: (folder / "bundle.json").write_text('{"schema": 1}'), "has no checksums"),
        (lambda folder: (folder / "bundle.json").write_text("[" * 99999), "nested too deep"),
        (lambda folder: (folder / "bundle.json").write_text("9" * 9999), "is no bundle"),
        (lambda folder: (folder / "bundle.json").unlink(), "has no bundle.json"),
        (
            lambda folder: change(folder, "extractors", 0, "recipe", numerics="bfloat16-foo"),
            "bfloat16-foo",
        ),
        (
            lambda folder: change(folder, "extractors", 0, "recipe", view="sideways"),
            "view 'sideways', expected one of plain, plain",
        ),
        *(
            (
                lambda folder, view=view: change(folder, "extractors", 0, "recipe", view=view),
                f"view {view!r}, expected one of plain, .*or such as light-0-3",
            )
            for view in ("light-0", "dark-0-0", "light-00-0", "light-0-12345678901", "light-0-٣")
        ),
        (
            lambda folder: change(folder, "extractors", 0, "recipe", view=7),
            "the view of extractor 0: got 7",
        ),
        (
            lambda folder: change(folder, "extractors", 0, "recipe", decode="another rule"),
            "trained with another decode rule",
        ),
        (
            lambda folder: change(folder, "extractors", 0, taps=["features.4:avg"]),
            "its taps give 40 features, its head takes 160",
        ),
    ],
)
def test_a_spoilt_bundle_is_one_clear_line(saved, tmp_path, spoil, message):
    folder = Path(shutil.copytree(saved, tmp_path / "bundle"))
    spoil(folder)
    with pytest.raises(BundleError, match=message) as caught:
        load_classifier(folder)
    assert "\n" not in str(caught.value)


def test_types_that_no_head_has_are_not_loaded(saved, tmp_path):
    from skops.io import dump

    folder = Path(shutil.copytree(saved, tmp_path / "bundle"))
    dump(Stranger(), folder / "head.skops")
    seal(folder)
    with pytest.raises(BundleError, match="Stranger"):
        load_classifier(folder)


class Stranger(DummyClassifier):
    """Not a head of the catalogue."""


@pytest.mark.parametrize("load", [load_classifier, load_pixels])
def test_where_there_is_no_folder_none_can_be_copied_again(tmp_path, load):
    with pytest.raises(BundleError, match=r"gone.*there is no such folder.*expected"):
        load(tmp_path / "gone")


def test_a_folder_that_is_no_bundle_is_not_written_over(samples, tmp_path):
    with pytest.raises(BundleError, match="is no bundle"):
        save_classifier(fit(samples, tmp_path), tmp_path / "photos")


def test_a_machine_without_the_numerics_predicts_in_float32_and_says_so(
    samples, tmp_path, monkeypatch
):
    classifier = fit(samples, tmp_path, numerics="float32")
    folder = save_classifier(classifier, tmp_path / "bundle")
    change(folder, "extractors", 0, "recipe", numerics="bfloat16-cuda")
    said = []
    loaded = load_classifier(folder, device="cpu", on_warning=said.append)
    assert len(said) == 1
    assert "float32" in said[0]
    assert np.array_equal(loaded.predict(samples.paths), classifier.predict(samples.paths))


@pytest.mark.parametrize("head", ["rbf_svm", "knn"])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_bundle_is_hardly_larger_than_the_rows_it_keeps(tmp_path, head, kind):
    """Without backbone weights <= 1.2 x its kept rows; with random labels nearly all rows are
    support vectors."""
    rng = np.random.default_rng(0)
    rows, y = (
        rng.gamma(1.0, size=(200, 4096)).astype(kind),
        rng.permutation(np.repeat(["a", "b"], 100)),
    )
    rows[:, 7] = 0.5
    X = rows.astype(np.float32)
    options = {
        "backbone": "mobilenet_v3_small",
        "weights": "random",
        "size": 32,
        "numerics": "float32",
    }
    extractor = FeatureExtractor(layer="features.0", pooling="flatten", **options)
    fitted = make_head(head).fit(X, y)
    even = Calibration(1.0, (0.0, 0.0), ("a", "b"))
    classifier = ImageClassifier().assemble(extractor, fitted, even, training_rows(fitted, X))
    folder = save_classifier(classifier, tmp_path / "bundle")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1.2 * rows.nbytes
    loaded = load_classifier(folder).head_
    assert np.array_equal(head_scores(loaded, X), head_scores(classifier.head_, X))


def test_nothing_in_a_bundle_is_a_pickle(samples, tmp_path):
    folder = save_classifier(fit(samples, tmp_path, head="knn"), tmp_path / "bundle")
    files = {file.name for file in folder.iterdir()}
    assert files == {"bundle.json", "head.skops", "rows.npy"} | REFERENCE_FILES
    np.load(folder / "rows.npy", allow_pickle=False)
    with zipfile.ZipFile(folder / "head.skops") as archive:
        assert {name.rpartition(".")[2] for name in archive.namelist()} <= {"json", "npy"}


def fitted_member(name, head, calibration, columns, weight, features):
    rows = training_rows(head, features)
    return Member(
        name,
        {},
        weight,
        estimator=head,
        calibration=calibration,
        columns=columns,
        rows=rows,
    )


@pytest.fixture
def blend(samples, tmp_path):
    """A classifier of three heads on two taps, one of which keeps training rows."""
    extractor = FeatureExtractor(
        **{**OPTIONS, "layer": "features.4:grid2+features.6:avg"}, cache=tmp_path / "cache"
    )
    X, y = extractor.transform(samples.paths), samples.labels
    width = extractor.load_backbone().card.width(extractor.taps()[0])
    members = []
    for name, columns, weight in (("logistic", (0, width), 0.5), ("rbf_svm", (0, width), 0.2),
                                  ("linear_svm", (width, X.shape[1]), 0.3)):  # fmt: skip
        own = X[:, slice(*columns)]
        head = make_head(name).fit(own, y)
        calibration = (
            None
            if name == "logistic"
            else fit_calibration(head_scores(head, own), y, head.classes_)
        )
        members.append(fitted_member(name, head, calibration, columns, weight, own))
    return ImageClassifier().assemble(extractor, BlendedHead(members))


def test_a_blend_comes_back_the_same(blend, samples, tmp_path):
    folder = save_classifier(blend, tmp_path / "bundle")
    assert {file.name for file in folder.iterdir()} == {
        "bundle.json", "head-0.skops", "head-1.skops", "head-2.skops", "places-1.npy", "rows-0.npy",
    }  # fmt: skip
    loaded = load_classifier(folder)
    assert np.array_equal(loaded.predict_proba(samples.paths), blend.predict_proba(samples.paths))
    assert loaded.predict(samples.paths).tolist() == blend.predict(samples.paths).tolist()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "head-1.skops").unlink(), "can't read"),
        (lambda folder: change(folder, members=[{"weight": 1.0}]), "member 0 has keys"),
        (
            lambda folder: change(folder, "extractors", 0, taps=["features.4:grid2"]),
            "1 taps and 2 widths",
        ),
    ],
)
def test_a_spoilt_blend_is_one_clear_line(blend, tmp_path, spoil, message):
    folder = save_classifier(blend, tmp_path / "bundle")
    spoil(folder)
    with pytest.raises(BundleError, match=message):
        load_classifier(folder)


def test_flips_come_back(samples, tmp_path):
    classifier = fit(samples, tmp_path, view="flipped", head="rbf_svm")
    loaded = load_classifier(save_classifier(classifier, tmp_path / "bundle"))
    assert loaded.extractor_.view == "flipped"
    assert np.array_equal(
        loaded.predict_proba(samples.paths), classifier.predict_proba(samples.paths)
    )


@pytest.fixture
def two_backbones(samples, tmp_path):
    """A blend of heads on two networks, one of them one's own."""
    network = load_backbone("mobilenet_v3_small", "random", size=32, seed=3).network
    own = load_backbone(network, preprocessing=Preprocessing(size=32))
    options = {"layer": "features.4", "pooling": "grid2", "cache": tmp_path / "cache"}
    extractor = JoinedExtractor([
        FeatureExtractor(**options, backbone="mobilenet_v3_small", weights="random", size=32),
        FeatureExtractor(**options, backbone=own),
    ])  # fmt: skip
    X, y = extractor.transform(samples.paths), samples.labels
    half = X.shape[1] // 2
    members = []
    for columns in ((0, half), (half, 2 * half)):
        features = X[:, slice(*columns)]
        head = make_head("knn").fit(features, y)
        members.append(fitted_member("knn", head, None, columns, 0.5, features))
    return ImageClassifier().assemble(extractor, BlendedHead(members)), own


def test_a_blend_across_backbones_comes_back_the_same(two_backbones, samples, tmp_path):
    classifier, own = two_backbones
    folder = save_classifier(classifier, tmp_path / "bundle")
    with pytest.raises(BundleError, match="a bundle holds no code"):
        load_classifier(folder)
    loaded = load_classifier(folder, backbone=own)
    assert np.array_equal(
        loaded.predict_proba(samples.paths), classifier.predict_proba(samples.paths)
    )


def test_ones_own_network_is_given_once_for_all_views(samples, tmp_path):
    network = load_backbone("mobilenet_v3_small", "random", size=32, seed=3).network
    own = load_backbone(network, preprocessing=Preprocessing(size=32))
    options = {"layer": "features.4", "pooling": "grid2", "cache": tmp_path / "cache"}
    views = ("plain", "flipped", "whole")
    extractor = JoinedExtractor([
        FeatureExtractor(**options, backbone=own, view=view) for view in views
    ])  # fmt: skip
    X, y = extractor.transform(samples.paths), samples.labels
    width = X.shape[1] // len(views)
    members = []
    for columns in ((number * width, (number + 1) * width) for number in range(len(views))):
        features = X[:, slice(*columns)]
        head = make_head("logistic").fit(features, y)
        members.append(fitted_member("logistic", head, None, columns, 1 / len(views), features))
    classifier = ImageClassifier().assemble(extractor, BlendedHead(members))
    folder = save_classifier(classifier, tmp_path / "bundle")
    with pytest.raises(BundleError, match="a bundle holds no code"):
        load_classifier(folder)
    with pytest.raises(BundleError, match=r"got 2 networks for .*, expected 1: one"):
        load_classifier(folder, backbone=[own, own])
    for given in (own, [own]):
        loaded = load_classifier(folder, backbone=given)
        assert np.array_equal(
            loaded.predict_proba(samples.paths), classifier.predict_proba(samples.paths)
        )


def test_the_training_images_come_back(samples, tmp_path):
    first = fit(samples, tmp_path)
    loaded = load_classifier(save_classifier(first, tmp_path / "bundle"))
    expected, found = first.judge(samples.paths), loaded.judge(samples.paths)
    assert found.familiarity.tolist() == expected.familiarity.tolist()
    assert loaded.reference_.names.paths.tolist() == list(samples.paths)
    assert loaded.reference_.names.labels.tolist() == samples.labels.tolist()


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"columns": [0, 10**6], "unit": True}, "the columns of reference"),
        ({"columns": [3, 3], "unit": True}, "reference has columns"),
        ({"columns": [0, 1], "unit": 1}, "neither true nor false"),
        ({"columns": [0, 1]}, "reference has keys"),
    ],
)
def test_a_spoilt_description_of_training_images(samples, tmp_path, described, message):
    folder = save_classifier(fit(samples, tmp_path), tmp_path / "bundle")
    change(folder, reference=described)
    with pytest.raises(BundleError, match=message):
        load_classifier(folder)


@pytest.mark.parametrize(
    ("accuracy", "message"),
    [
        ({"right": 9, "images": 8, "on": "test"}, "the right answers of the accuracy"),
        ({"right": 0, "images": 0, "on": "test"}, "the images of the accuracy"),
        ({"right": 1.5, "images": 8, "on": "test"}, "the right answers of the accuracy"),
        ({"right": 1, "images": 8, "on": "<b>"}, "the accuracy is on none of test, folds"),
        ({"right": 1, "images": 8}, "the accuracy has keys"),
        (0.9, "the accuracy has keys"),
    ],
)
def test_a_spoilt_accuracy_is_refused(samples, tmp_path, accuracy, message):
    folder = save_classifier(fit(samples, tmp_path), tmp_path / "bundle")
    change(folder, accuracy=accuracy)
    with pytest.raises(BundleError, match=message):
        load_classifier(folder)


@pytest.mark.parametrize("fitted_on", [None, "train", "all"])
def test_which_images_it_was_fitted_on_comes_back(samples, tmp_path, fitted_on):
    first = fit(samples, tmp_path)
    first.fitted_on_ = fitted_on
    loaded = load_classifier(save_classifier(first, tmp_path / "bundle"))
    again = load_classifier(save_classifier(loaded, tmp_path / "again"))
    assert (loaded.fitted_on_, again.fitted_on_) == (fitted_on, fitted_on)
    assert first.accuracy_ == loaded.accuracy_ == again.accuracy_


def test_a_head_without_probabilities_is_neither_saved_nor_loaded(samples, tmp_path):
    classifier = fit(samples, tmp_path, head="linear_svm")
    folder = save_classifier(classifier, tmp_path / "bundle")
    change(folder, calibration=None)
    with pytest.raises(BundleError, match=r"can't use .*: LinearSVC gives no probabilities"):
        load_classifier(folder)
    classifier.calibration_ = None
    with pytest.raises(BundleError, match="LinearSVC gives no probabilities"):
        save_classifier(classifier, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_image_that_one_backbone_can_not_read_is_passed_over(two_backbones, samples, tmp_path):
    classifier, _ = two_backbones
    (tmp_path / "broken.png").write_text("none")
    paths = [*samples.paths[:2], tmp_path / "broken.png", samples.paths[2]]
    rows, _, shares, bad = classifier.predict_readable(paths)
    assert (rows.tolist(), list(bad)) == ([0, 1, 3], [2])
    assert np.array_equal(shares, classifier.predict_proba(samples.paths[:3]))


def test_rows_that_several_heads_of_a_blend_keep_are_stored_once(tmp_path):
    """<= 1.2 x the distinct rows and the linear heads, though an SVM and kNN on each of two taps
    keep nearly all."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(["a", "b"], 100))
    options = {
        "backbone": "mobilenet_v3_small",
        "weights": "random",
        "size": 32,
        "numerics": "float32",
    }
    extractor = FeatureExtractor(layer="features.0:flatten+features.0:grid16", **options)
    rows = rng.gamma(1.0, size=(200, 2 * 4096)).astype(np.float16)
    X, members = rows.astype(np.float32), []
    for columns in ((0, 4096), (4096, 8192)):
        own = X[:, slice(*columns)]
        for name in ("rbf_svm", "knn", "linear_svm"):
            head = make_head(name).fit(own, y)
            calibration = (
                None if name == "knn" else fit_calibration(head_scores(head, own), y, head.classes_)
            )
            members.append(fitted_member(name, head, calibration, columns, 1 / 6, own))
    classifier = ImageClassifier().assemble(extractor, BlendedHead(members))
    folder = save_classifier(classifier, tmp_path / "bundle")
    linear = 2 * 3 * 4096 * 8  # mean, scale and coefficients
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1.2 * (rows.nbytes + linear)
    loaded = load_classifier(folder).head_
    assert np.array_equal(loaded.predict_proba(X), classifier.head_.predict_proba(X))
