"""Explanations: they add up, they are joined where they lie, and they say what the network sees."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from sklearn.naive_bayes import GaussianNB

from data import ImageError, read_image_folder
from extract import loader
from extract.extractor import JoinedExtractor
from heads import HEADS, Calibration
from heads.blended import BlendedHead, Member
from pipelines import ImageClassifier, RunSettings, load_classifier, run_job, save_classifier
from pipelines.explanation import explain, explain_rows, join_maps
from pipelines.predict import main
from pipelines.report.explained import PAGE, TABLE

SMALL = {"backbone": "mobilenet_v3_small", "weights": "random", "size": 80, "numerics": "float32"}
LINEAR = [name for name, row in HEADS.items() if row.is_linear]


def fitted(photos, tmp_path, head="logistic", layer="features.4", **more):
    samples = read_image_folder(photos)
    classifier = ImageClassifier(head, layer, cache=tmp_path / "cache", **(SMALL | more))
    return classifier.fit(samples.paths, samples.labels), list(samples.paths)


def log_odds(classifier, found):
    """What the classifier's own probabilities say."""
    codes = {name: code for code, name in enumerate(classifier.classes_)}
    rows = classifier.predict_proba([own.path for own in found])
    if classifier.calibration_ is None:  # what is surer than that counts as that
        rows = np.maximum(rows, 1e-6)
    return [
        np.log(row[codes[own.label]] / row[codes[own.runner_up]])
        for row, own in zip(rows, found, strict=True)
    ]


@pytest.mark.parametrize("head", LINEAR)
@pytest.mark.parametrize("layer", ["features.4:grid3+features.2:avg", "features.4:flatten"])
def test_exact_maps_add_up_to_the_log_odds(photos, tmp_path, head, layer):
    classifier, paths = fitted(photos, tmp_path, head, layer, view="flipped")
    found = classifier.explain(paths[::4])
    for own, expected in zip(found, log_odds(classifier, found), strict=True):
        assert own.is_exact
        assert own.evidence == pytest.approx(expected, rel=1e-5)
        assert own.map.sum(dtype=float) + own.rest == pytest.approx(own.evidence, rel=1e-5)
        assert own.label != own.runner_up


@pytest.mark.parametrize(
    ("head", "layer"),
    [
        ("rbf_svm", "features.4:avg"),
        ("knn", "features.4:avg"),
        ("centroid", "features.4:avg"),
        ("logistic", "features.4:max"),
        ("logistic", "features.4:avg+features.2:std"),
        (GaussianNB(), "features.4:avg"),
    ],
)
def test_elsewhere_places_are_covered(photos, tmp_path, head, layer):
    classifier, paths = fitted(photos, tmp_path, head, layer)
    found = classifier.explain(paths[::6])
    for own, expected in zip(found, log_odds(classifier, found), strict=True):
        assert not own.is_exact
        assert own.map.shape == (8, 8)
        assert own.evidence == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert own.map.sum(dtype=float) + own.rest == pytest.approx(own.evidence, rel=1e-4)


@pytest.mark.parametrize("other", ["ridge", "knn"])
def test_a_blend_is_the_weighted_sum_of_its_members(photos, tmp_path, other):
    """Of a crop and of the whole picture; each member's log-odds by its weight."""
    members = [
        fitted(photos, tmp_path, "logistic", "features.4:avg+features.2:grid3")[0],
        fitted(photos, tmp_path, other, "features.4:grid2", view="whole")[0],
    ]
    _, paths = fitted(photos, tmp_path)
    weights, start, parts = (0.3, 0.7), 0, []
    for own, weight in zip(members, weights, strict=True):
        stop = start + own.head_.n_features_in_
        part = Member("", {}, weight, 0, None, own.head_, own.calibration_, (start, stop))
        parts.append(part)
        start = stop
    sure = Calibration(1.5, (0.1, -0.1), ("cats", "dogs"))
    joined = JoinedExtractor([own.extractor_ for own in members])
    blend = ImageClassifier().assemble(joined, BlendedHead(parts), sure)
    names = ["cats"] * 4, ["dogs"] * 4
    alone = [list(explain(own, paths[:4], *names)) for own in members]
    for found, one, two in zip(explain(blend, paths[:4], *names), *alone, strict=True):
        expected = 1.5 * (0.3 * one.evidence + 0.7 * two.evidence) + 0.2
        assert found.evidence == pytest.approx(expected, rel=1e-4)
        assert found.map.sum(dtype=float) + found.rest == pytest.approx(found.evidence, rel=1e-4)
        sums = 1.5 * (0.3 * one.map.sum() + 0.7 * two.map.sum())
        assert found.map.sum() == pytest.approx(sums, rel=1e-3, abs=1e-4)
        assert found.box == (0.0, 0.0, 1.0, 1.0)
        assert found.is_exact == (other == "ridge")


def test_the_label_is_weighed_against_the_class_asked_for(photos, tmp_path):
    classifier, paths = fitted(photos, tmp_path)
    one, other = (
        list(explain(classifier, paths[:2], [label] * 2, [against] * 2))
        for label, against in (("cats", "dogs"), ("dogs", "cats"))
    )
    for a, b in zip(one, other, strict=True):
        assert (a.label, a.runner_up) == ("cats", "dogs")
        assert a.evidence == pytest.approx(-b.evidence)
        np.testing.assert_allclose(a.map, -b.map, atol=1e-6)
    with pytest.raises(ValueError, match="'cows' is no class"):
        list(explain(classifier, paths[:1], ["cows"]))


def test_an_image_that_cannot_be_read_is_passed_over_or_named(photos, tmp_path):
    classifier, paths = fitted(photos, tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    mixed = [paths[0], str(tmp_path / "broken.jpg"), paths[1]]
    found = list(explain(classifier, mixed))
    assert isinstance(found[1], ImageError)
    assert [found[0].row, found[2].row] == [0, 2]
    assert [found[0].path, found[2].path] == paths[:2]
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        classifier.explain(mixed)


def test_a_loaded_bundle_explains_as_the_one_that_was_saved(photos, tmp_path):
    classifier, paths = fitted(photos, tmp_path, "linear_svm", "features.4:grid2")
    loaded = load_classifier(save_classifier(classifier, tmp_path / "bundle"))
    for a, b in zip(classifier.explain(paths[:3]), loaded.explain(paths[:3]), strict=True):
        assert (a.id, a.label) == (b.id, b.label)
        np.testing.assert_allclose(a.map, b.map, atol=1e-5)


def test_nearest_are_training_images_and_never_the_image_itself(photos, tmp_path):
    classifier, paths = fitted(photos, tmp_path)
    for own in classifier.explain(paths[:2]):
        assert len(own.nearest) == 5
        assert own.path not in [near.path for near in own.nearest]
        assert {near.path for near in own.nearest} <= set(paths)
        assert {near.label for near in own.nearest} <= {"cats", "dogs"}
        distances = [near.distance for near in own.nearest]
        assert distances == sorted(distances)


def test_rows_of_a_run_are_explained_by_id_against_their_own_labels(photos, tmp_path):
    settings = RunSettings(
        backbone="mobilenet_v3_small",
        weights="random",
        size=80,
        layers="features.4",
        heads=("logistic",),
        cv=3,
        baselines=False,
        cache=tmp_path / "cache",
    )
    result = run_job(read_image_folder(photos), settings)
    rows = [int(result.split.test[0]), int(result.split.train[0])]
    other = {"cats": "dogs", "dogs": "cats"}
    wrong = [other[label] for label in result.samples.labels[rows]]
    found = explain_rows(result, rows, wrong)
    assert list(found) == [result.ids[row].tobytes().hex() for row in rows]
    for row, own in zip(rows, found.values(), strict=True):
        label = result.samples.labels[row]
        assert (own.label, own.runner_up) == (other[label], label)
    assert {own.label for own in explain_rows(result, rows).values()} <= set(other)


@pytest.mark.parametrize("head", ["logistic", "rbf_svm"])
@pytest.mark.parametrize("pooling", ["grid2", "avg"])
def test_without_decoding_maps_are_of_the_kept_features(
    photos, tmp_path, monkeypatch, head, pooling
):
    settings = RunSettings(
        backbone="mobilenet_v3_small",
        weights="random",
        size=80,
        layers="features.4",
        pooling=pooling,
        heads=head,
        cv=3,
        views="plain",
        baselines=False,
        cache=tmp_path / "cache",
    )
    result = run_job(read_image_folder(photos), settings)
    rows = result.split.test[:3]
    decoded = explain_rows(result, rows)
    monkeypatch.setattr("extract.loader.decode_noted", None)
    monkeypatch.setattr("extract.loader.load_batches", None)
    found = explain_rows(result, rows, decode=False)
    side = 2 if pooling == "grid2" else 1
    for own, other in zip(found.values(), decoded.values(), strict=True):
        assert own.map.shape == (side, side)
        assert own.evidence == pytest.approx(other.evidence, rel=1e-5)
        assert own.map.sum(dtype=float) + own.rest == pytest.approx(own.evidence)
        assert own.box == pytest.approx(other.box, abs=0.02)
        if (head, pooling) == ("logistic", "grid2"):
            # 5 places in 2 cells overlap by one: the sums are the same, but for the rounding of
            # features that are kept in a reduced precision where the machine has one
            assert own.map.sum() == pytest.approx(other.map.sum(), rel=5e-4)
            assert own.rest == pytest.approx(other.rest, rel=1e-3, abs=1e-5)


def test_joined_maps_keep_their_sum_wherever_they_lie():
    rng = np.random.default_rng(0)
    boxes = [(0.0, 0.0, 1.0, 1.0), (0.2, 0.1, 0.8, 0.9), (0.2, 0.1, 0.8, 0.9)]
    sides = [(3, 3), (7, 7), (2, 5)]
    maps = [(rng.normal(size=side), box) for side, box in zip(sides, boxes, strict=True)]
    places, box = join_maps(maps)
    assert box == boxes[0]
    assert places.sum() == pytest.approx(sum(own.sum() for own, _ in maps))
    same, box = join_maps(maps[1:])
    assert (same.shape, box) == ((7, 7), boxes[1])
    assert join_maps(maps[1:2])[0] == pytest.approx(maps[1][0])


def test_the_folder_of_a_prediction(photos, tmp_path, capsys):
    classifier, _ = fitted(photos, tmp_path)
    bundle = save_classifier(classifier, tmp_path / "bundle")
    odd = photos / "cats" / "<b>&=1.png"
    (photos / "cats" / "0.png").rename(odd)
    (photos / "cats" / "1.png").write_bytes(b"no image")
    out = tmp_path / "why"
    code = main([str(bundle), str(photos / "cats"), "--explain", str(out), "--json"])
    said = {row["path"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    rows = [json.loads(line) for line in (out / TABLE).read_text().splitlines()]
    assert code == 1
    assert len(rows) == 11
    assert [row["path"] for row in rows] == [p for p in said if said[p]["error"] is None]
    for row in rows:
        assert row["label"] == said[row["path"]]["label"]
        assert (out / row["picture"]).read_bytes().startswith(b"\xff\xd8\xff")
        assert row["exact"]
    page = (out / PAGE).read_text()
    assert page.count("<figure>") == 11
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;=1.png" in page
    assert "http" not in page
    assert main([str(bundle), str(odd), "--explain", str(out)]) == 2
    assert "expected a new or an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize("view", ["plain", "flipped"])
def test_answers_and_explanations_are_of_one_decode(photos, tmp_path, capsys, monkeypatch, view):
    """The network ran once for the answer, once more for the features and again for the maps."""
    classifier, _ = fitted(photos, tmp_path, layer="features.4:grid2", view=view)
    bundle = save_classifier(classifier, tmp_path / "bundle")
    decoded, decode_noted = [], loader.decode_noted

    def counting(data, name, *rest, **more):
        decoded.append(name)
        return decode_noted(data, name, *rest, **more)

    monkeypatch.setattr(loader, "decode_noted", counting)
    asked = [str(bundle), str(photos / "cats"), "--cache", str(tmp_path / "none"), "--csv"]
    assert main(asked) == 0
    alone = capsys.readouterr().out
    assert len(decoded) == 12
    assert main([*asked, "--explain", str(tmp_path / "why")]) == 0
    assert capsys.readouterr().out == alone
    assert len(decoded) == 24


def test_an_overlay_is_as_small_as_it_is_asked_for(photos, tmp_path):
    classifier, paths = fitted(photos, tmp_path)
    (found,) = classifier.explain([paths[0]])
    picture = Image.open(io.BytesIO(found.overlay(24)))
    assert (picture.format, max(picture.size)) == ("JPEG", 24)
    assert len(found.overlay(96)) < 8192


@pytest.fixture(scope="module")
def real_photos():
    """Training and held-out paths with their labels, of ants and bees."""
    shared = Path(os.environ.get("PERMAFROST_SHARED", Path(__file__).parents[2].parent / "shared"))
    folder = shared / "data" / "hymenoptera"
    if not folder.is_dir():
        pytest.skip(
            f"NO REAL PHOTOS, SO WHAT MAPS SAY IS NOT TESTED: no {folder}; set PERMAFROST_SHARED "
            "to the folder that holds data/hymenoptera"
        )
    samples = read_image_folder(folder)
    train = np.flatnonzero(samples.split == "train")[::2]
    held = np.flatnonzero(samples.split == "test")[::8]
    paths = np.array(samples.paths, object)
    return paths[train].tolist(), samples.labels[train], paths[held].tolist()


def trained(real_photos, place, head="logistic", weights=None):
    paths, labels, _ = real_photos
    settings = {"size": 128, "numerics": "float32", "cache": place / "cache", "weights": weights}
    return ImageClassifier(head, "features.18", **settings).fit(paths, labels)


def covered(found, places):
    """The picture with these places of the map in its mean colour."""
    picture = np.array(found.picture)
    colour = picture.mean(axis=(0, 1)).round()
    height, width = picture.shape[:2]
    left, top, right, bottom = found.box
    rows = np.linspace(top * height, bottom * height, found.map.shape[0] + 1).round().astype(int)
    columns = np.linspace(left * width, right * width, found.map.shape[1] + 1).round().astype(int)
    for place in places:
        y, x = divmod(int(place), found.map.shape[1])
        picture[rows[y] : rows[y + 1], columns[x] : columns[x + 1]] = colour
    return picture


def log_odds_left(classifier, found, orders):
    """(orders, n): without a fifth of the places of each image, the first in an order."""
    number = found[0].map.size // 5
    images = [
        covered(own, places[:number])
        for order in orders
        for own, places in zip(found, order, strict=True)
    ]
    codes = [classifier.classes_.tolist().index(own.label) for own in found] * len(orders)
    shares = classifier.predict_proba(images)
    of_label = shares[np.arange(len(codes)), codes]
    return (np.log(of_label) - np.log1p(-of_label)).reshape(len(orders), -1)  # of two classes


@pytest.mark.slow
@pytest.mark.parametrize("head", ["logistic", "rbf_svm"])
def test_without_its_highest_places_an_image_loses_its_label_sooner(real_photos, tmp_path, head):
    classifier = trained(real_photos, tmp_path, head)
    found = classifier.explain(real_photos[2])
    rng = np.random.default_rng(0)
    highest = [np.argsort(-own.map.ravel()) for own in found]
    lowest = [order[::-1] for order in highest]
    drawn = [[rng.permutation(own.map.size) for own in found] for _ in range(3)]
    left = log_odds_left(classifier, found, [highest, lowest, *drawn])
    sooner = left[2:].mean(axis=0) - left[0]
    assert sooner.mean() > 2 * sooner.std() / np.sqrt(len(sooner))  # two standard errors
    assert (left[1] - left[2:].mean(axis=0)).mean() > 0


@pytest.mark.slow
def test_the_maps_of_an_untrained_network_are_others(real_photos, tmp_path):
    maps = {}
    for weights in (None, "random"):
        classifier = trained(real_photos, tmp_path, weights=weights)
        labels = ["ants"] * len(real_photos[2])
        found = list(explain(classifier, real_photos[2], labels, ["bees"] * len(labels)))
        maps[weights] = [own.map.ravel() for own in found]
    alike = [spearmanr(*pair)[0] for pair in zip(maps[None], maps["random"], strict=True)]
    assert abs(np.median(alike)) < 0.4
