"""Tests of pipelines/classifier.py."""

import pickle

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from data import ImageError, read_image_folder
from heads import make_head
from heads.rows import take_rows
from pipelines import BundleError, ImageClassifier, load_classifier, save_classifier

OPTIONS = {
    "backbone": "mobilenet_v3_small",
    "weights": "random",
    "size": 32,
    "layer": "features.4",
    "pooling": "grid2",
}


class Contrary(ClassifierMixin, BaseEstimator):
    """Its vote is the least probable class."""

    def fit(self, X, y):
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.shares_ = np.bincount(codes) + np.arange(len(self.classes_))
        self.shares_ = self.shares_ / self.shares_.sum()
        return self

    def predict_proba(self, X):
        return np.tile(self.shares_, (len(X), 1))

    def predict(self, X):
        return np.full(len(X), self.classes_[self.shares_.argmin()])


@pytest.fixture
def samples(photos):
    return read_image_folder(photos)


def make(tmp_path, **options):
    return ImageClassifier(**{**OPTIONS, "cache": tmp_path / "cache", **options})


@pytest.mark.parametrize("head", ["logistic", "linear_svm", "rbf_svm", "knn"])
def test_paths_to_labels_and_probabilities(samples, tmp_path, head):
    classifier = make(tmp_path, head=head).fit(samples.paths, samples.labels)
    assert classifier.score(samples.paths, samples.labels) > 0.9
    shares = classifier.predict_proba(samples.paths[:5])
    assert shares.shape == (5, 2)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert classifier.classes_.tolist() == ["cats", "dogs"]


def test_images_in_memory_are_the_same_as_their_files(samples, tmp_path):
    classifier = make(tmp_path).fit(samples.paths, samples.labels)
    images = [Image.open(path).convert("RGB") for path in samples.paths]
    array = np.stack([np.asarray(image) for image in images])
    expected = classifier.predict_proba(samples.paths)
    assert np.array_equal(classifier.predict_proba(images), expected)
    assert np.array_equal(classifier.predict_proba(array), expected)


def test_grid_search_over_layer_pooling_and_head_parameters(samples, tmp_path):
    classifier = make(
        tmp_path,
        head=make_head("logistic"),
        keep=["features.4:avg", "features.6:avg", "features.6:grid2"],
    )
    grid = {
        "layer": ["features.4", "features.6"],
        "pooling": ["avg", "grid2"],
        "head__logisticregression__C": [0.01, 1.0],
    }
    search = GridSearchCV(classifier, grid, cv=3).fit(samples.paths, samples.labels)
    assert search.best_score_ > 0.9
    assert search.best_estimator_.extractor_.extraction_.computed == 0


def test_it_is_cloned_and_pickled_without_the_network(samples, tmp_path):
    classifier = make(tmp_path).fit(samples.paths, samples.labels)
    assert clone(classifier).get_params() == classifier.get_params()
    data = pickle.dumps(classifier)
    assert len(data) < 200_000
    assert np.array_equal(
        pickle.loads(data).predict(samples.paths), classifier.predict(samples.paths)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "got no labels"),
        ({"labels": ["cats"] * 24}, "two classes or more"),
        ({"labels": ["cats", "dogs"]}, "one label for each image"),
        ({"labels": ["cats"] + ["dogs"] * 23}, "a single image"),
        ({"paths": "photos"}, "a list of images|one label for each"),
        ({"head": "logistik"}, "logistic"),
        ({"layer": "features.99"}, "did you mean"),
    ],
)
def test_wrong_calls_say_what_to_do(samples, tmp_path, change, message):
    options = {key: change[key] for key in ("head", "layer") if key in change}
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **options).fit(
            change.get("paths", samples.paths), change.get("labels", samples.labels)
        )


ESTIMATORS = {
    "margins": SVC(gamma=1e-4),
    "searched": GridSearchCV(SVC(), {"C": [0.1, 1.0]}, cv=2),
    "probabilities": make_head("logistic"),
    "both": Contrary(),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_label_is_the_most_probable_class_of_any_estimator(samples, tmp_path, kind, n_classes):
    labels = np.array([*"abc"[:n_classes]])[np.arange(24) % n_classes]
    classifier = make(tmp_path, head=ESTIMATORS[kind]).fit(samples.paths, labels)
    assert (classifier.calibration_ is None) == hasattr(classifier.head_, "predict_proba")
    shares = classifier.predict_proba(samples.paths)
    assert shares.sum(axis=1) == pytest.approx(1)
    expected = classifier.classes_[shares.argmax(axis=1)]
    assert classifier.predict(samples.paths).tolist() == expected.tolist()
    assert classifier.predict_readable(samples.paths)[1].tolist() == expected.tolist()
    assert classifier.score(samples.paths, labels) == np.mean(expected == labels)
    if kind != "searched" and kind != "both":  # no head of the catalogue
        loaded = load_classifier(save_classifier(classifier, tmp_path / "model"))
        assert loaded.predict(samples.paths).tolist() == expected.tolist()


def test_scores_of_ones_own_estimator_are_calibrated_on_rows_it_was_not_fitted_on(
    samples, tmp_path
):
    """Labels that say nothing: an SVM that knows its own rows by heart is not to be sure."""
    labels = np.random.default_rng(0).permutation(["a", "b"] * 12)
    classifier = make(tmp_path, head=SVC(C=1e6, gamma=10.0)).fit(samples.paths, labels)
    assert np.abs(classifier.predict_proba(samples.paths) - 0.5).max() < 0.2


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (VotingClassifier([("a", SVC()), ("b", SVC())]), "neither probabilities nor scores"),
        (SVC(decision_function_shape="ovo"), 'expected "ovr"'),
        (GridSearchCV(SVC(decision_function_shape="ovo"), {"C": [1.0]}), 'expected "ovr"'),
    ],
)
def test_an_estimator_that_no_probability_comes_of_is_refused(samples, tmp_path, head, said):
    with pytest.raises(ValueError, match=said):
        make(tmp_path, head=head).fit(samples.paths, samples.labels)


def test_an_unreadable_image_is_named(samples, tmp_path):
    classifier = make(tmp_path).fit(samples.paths, samples.labels)
    (tmp_path / "x.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"x\.jpg"):
        classifier.predict([samples.paths[0], str(tmp_path / "x.jpg")])


def test_values_are_named_without_their_type(samples, tmp_path):
    """`np.str_('00')` stood in a message."""
    with pytest.raises(ValueError, match="got the one class '00': expected"):
        ImageClassifier(cache=tmp_path).fit(["a.jpg", "b.jpg"], np.array(["00", "00"]))


def test_what_is_no_fitted_classifier_is_not_saved(tmp_path):
    for given, said in (
        (ImageClassifier(), "the ImageClassifier is not fitted: call fit"),
        (DummyClassifier(), "got DummyClassifier, expected a fitted ImageClassifier"),
    ):
        with pytest.raises(BundleError, match=said):
            save_classifier(given, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_unfitted_is_said(samples, tmp_path):
    with pytest.raises(NotFittedError):
        make(tmp_path).predict(samples.paths)


@pytest.mark.parametrize("head", ["rbf_svm", "knn"])
def test_the_rows_a_head_keeps_are_those_its_scaler_gives(samples, tmp_path, head):
    """Else a bundle could not hold them unscaled, in the narrow type they were kept in."""
    classifier = make(tmp_path, head=head).fit(samples.paths, samples.labels)
    slim, rows = take_rows(classifier.head_, classifier.rows_)
    assert slim is not classifier.head_
    assert rows is not None


def test_parameters_are_chosen_by_the_scoring(samples, tmp_path):
    for scoring in ("neg_log_loss", "roc_auc"):
        classifier = make(tmp_path, head="linear_svm", scoring=scoring).fit(
            samples.paths, samples.labels
        )
        assert classifier.score(samples.paths, samples.labels) > 0.9
    with pytest.raises(ValueError, match="unknown scoring 'acuracy'"):
        make(tmp_path, scoring="acuracy").fit(samples.paths, samples.labels)


def test_class_weights_reach_the_head(samples, tmp_path):
    classifier = make(tmp_path, class_weight="balanced").fit(samples.paths, samples.labels)
    assert classifier.head_[-1].class_weight == "balanced"


def test_flips_are_averaged_in_fit_and_predict(samples, tmp_path):
    plain = make(tmp_path).fit(samples.paths, samples.labels)
    flips = make(tmp_path, view="flipped").fit(samples.paths, samples.labels)
    assert flips.extractor_.extraction_.computed == 24
    assert not np.array_equal(
        flips.predict_proba(samples.paths), plain.predict_proba(samples.paths)
    )
    mirrored = [ImageOps.mirror(Image.open(path).convert("RGB")) for path in samples.paths]
    np.testing.assert_allclose(
        flips.predict_proba(mirrored), flips.predict_proba(samples.paths), rtol=1e-3, atol=1e-4
    )
