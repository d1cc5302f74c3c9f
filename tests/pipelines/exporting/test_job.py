"""A classifier as one file: its answers, what it says of itself, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import read_image_folder
from extract import FeatureExtractor, load_backbone
from extract.extractor import JoinedExtractor
from extract.preprocessing import Preprocessing
from heads import fit_calibration, make_head
from heads.blended import BlendedHead, Member
from heads.scores import head_logits
from pipelines import ImageClassifier
from pipelines.errors import WorkFailed, WrongCall
from pipelines.exploration.reference import Names, fit_reference

pytest.importorskip("onnx", reason="NO ONNX: pip install '.[onnx]'")
pytest.importorskip("onnxruntime", reason="NO ONNX: pip install '.[onnx]'")

from pipelines.exporting import checking, job
from pipelines.exporting.checking import made_images, session_of
from pipelines.exporting.job import RUNNER, export_job, read_given
from pipelines.exporting.texts import read_described


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 6, 5, stride=2)
        self.last = torch.nn.Conv2d(6, 8, 3, stride=2)

    def forward(self, images):
        return self.last(self.first(images).relu()).relu()


@pytest.fixture(scope="module")
def samples(photos_of_the_module):
    return read_image_folder(photos_of_the_module)


def fitted(samples, labels=None, **options):
    torch.manual_seed(0)
    options = {"layer": "first:grid2+last:avg", "backbone": Small().eval()} | options
    classifier = ImageClassifier(cache=False, numerics="float32", size=24, **options)
    return classifier.fit(samples.paths, samples.labels if labels is None else labels)


@pytest.fixture(scope="module")
def exported(samples, tmp_path_factory):
    """(classifier, what was left) of a classifier with a reference and a measured accuracy."""
    classifier = fitted(samples)
    file = tmp_path_factory.mktemp("exported") / "small.onnx"
    return classifier, export_job(classifier, file, images=samples.paths[0].rpartition("/")[0])


def answer(file, image):
    session = session_of(file.read_bytes())
    names = [own.name for own in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": image}), strict=True))


def test_the_file_answers_as_the_classifier(exported):
    classifier, done = exported
    for image in made_images(seed=1):
        found, expected = answer(done.file, image[None]), classifier.judge(image[None])
        assert found["label"].tolist() == expected.labels.tolist()
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert found["familiarity"] == pytest.approx(expected.familiarity, abs=1e-6)


def test_images_of_one_size_go_through_together(exported):
    classifier, done = exported
    images = np.random.default_rng(0).integers(0, 256, (5, 30, 41, 3), np.uint8)
    found = answer(done.file, images)
    assert found["label"].tolist() == classifier.predict(images).tolist()
    assert found["probabilities"] == pytest.approx(classifier.predict_proba(images), abs=1e-5)


def test_what_a_file_says_of_itself_comes_back(exported):
    _, done = exported
    found = read_described(done.file)
    assert found == json.loads(json.dumps(done.described))
    assert found["classes"] == ["cats", "dogs"]
    assert found["accuracy"]["images"] == 24
    assert found["accuracy"]["low"] <= found["accuracy"]["value"] <= found["accuracy"]["high"]
    assert found["heads"][0]["head"] == "logistic"
    assert found["extractors"][0]["recipe"]["view"] == "plain"
    assert found["checked"]["images"] == 12
    assert found["checked"]["labels"] == 0
    assert found["checked"]["of_files"] == pytest.approx([0, 0], abs=1e-5)


def test_the_runner_beside_it_needs_numpy_and_onnxruntime_alone(exported, samples):
    _, done = exported
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(done.file.parent)!r})\n"
        "for name in ('torch', 'sklearn', 'PIL', 'onnx', 'scipy'): sys.modules[name] = None\n"
        "import numpy as np, permafrost_onnx\n"
        f"model = permafrost_onnx.Model({str(done.file)!r})\n"
        "found = model(np.zeros((30, 40, 3), np.uint8))\n"
        "print(found['label'], *found['probabilities'], *model.described['classes'])\n"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0] in run.stdout.split()[3:] == ["cats", "dogs"]

    words = [sys.executable, done.file.with_name(RUNNER), done.file, samples.paths[0]]
    run = subprocess.run(words, capture_output=True, text=True)
    path, label, *numbers = run.stdout.rstrip().split("\t")
    assert (path, label, len(numbers)) == (samples.paths[0], samples.labels[0], 2), run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("view", ["flipped", "whole"])
def test_other_views(samples, tmp_path, view):
    classifier = fitted(samples, view=view, head=make_head("logistic"))
    done = export_job(classifier, tmp_path / "own.onnx")
    assert done.described["checked"]["images"] == len(checking.SHAPES)


def joined(samples):
    """A blend over two views of one network and a second network, calibrated, with a reference."""
    module, other = Small().eval(), Small().eval()
    options = {"cache": False, "numerics": "float32", "size": 24}
    extractors = [
        FeatureExtractor("last:avg+first:max", backbone=module, **options),
        FeatureExtractor("first:grid2", backbone=module, view="flipped", **options),
        FeatureExtractor("last:std", backbone=other, **options),
    ]
    both = JoinedExtractor(extractors)
    X, y = both.transform(samples.paths), samples.labels
    members = []
    for name, columns in (("rbf_svm", (0, 14)), ("knn", (14, 38)), ("lda", (38, 46))):
        own = X[:, slice(*columns)]
        head = make_head(name).fit(own, y)
        calibration = fit_calibration(head_logits(head, own), y, np.unique(y))
        members.append(
            Member(name, {}, 1 / 3, estimator=head, calibration=calibration, columns=columns)
        )
    names = Names(np.array(samples.paths, object), y, np.zeros((len(y), 16), np.uint8))
    folds = [(np.arange(1, len(y), 2), np.arange(0, len(y), 2))]
    reference = fit_reference(X[:, 14:38], folds, names, start=14)
    classifier = ImageClassifier()
    classifier.assemble(both, BlendedHead(members), None, reference=reference)
    return classifier


@pytest.mark.slow
def test_a_blend_of_views_and_networks(samples, tmp_path):
    torch.manual_seed(3)
    classifier = joined(samples)
    done = export_job(classifier, tmp_path / "blend.onnx")
    assert [own["head"] for own in done.described["heads"]] == ["rbf_svm", "knn", "lda"]
    for image in made_images(seed=2)[:5]:
        found, expected = answer(done.file, image[None]), classifier.judge(image[None])
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
        assert found["familiarity"] == pytest.approx(expected.familiarity, abs=1e-6)


@pytest.mark.slow
def test_features_are_those_of_the_extractor(samples, tmp_path):
    torch.manual_seed(3)
    classifier = joined(samples)
    done = export_job(classifier, tmp_path / "features.onnx", features=True)
    found = answer(done.file, np.asarray(Image.open(samples.paths[0]))[None])
    assert {name: rows.shape[1] for name, rows in found.items()} == done.described["widths"]
    expected = classifier.extractor_.transform(samples.paths[:1])
    assert np.hstack(list(found.values())) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_numbers_as_classes_stay_numbers(samples, tmp_path):
    classifier = fitted(samples, np.arange(24) % 3, head=make_head("ridge"))
    done = export_job(classifier, tmp_path / "numbers.onnx")
    found = answer(done.file, made_images()[0][None])["label"]
    assert found.dtype == np.int64
    assert found.tolist() == classifier.predict(made_images()[0][None]).tolist()


def test_a_name_of_no_encoding_is_escaped(samples, tmp_path):
    labels = np.where(samples.labels == "cats", "caf\udce9", "dogs").astype(object)
    classifier = fitted(samples, labels, head=make_head("ridge"))
    done = export_job(classifier, tmp_path / "names.onnx")
    session = session_of(done.file.read_bytes())
    found = {session.run(None, {"images": own[None]})[0][0] for own in made_images()}
    assert found <= {"caf\\udce9", "dogs"}
    assert read_described(done.file)["classes"] == ["caf\udce9", "dogs"]


def test_answers_that_are_not_the_classifiers_leave_the_earlier_file(exported, monkeypatch):
    classifier, done = exported
    before = done.file.read_bytes()

    def another(*_):
        return lambda images: classifier.extractor_.transform(255 - images)

    monkeypatch.setattr(checking, "in_float32", another)
    with pytest.raises(WorkFailed, match=r"no file was left: over 12 images \d+ labels differ"):
        export_job(classifier, done.file)
    assert done.file.read_bytes() == before
    with pytest.raises(WorkFailed, match=r"no file was left: over 12 images features differ by"):
        export_job(classifier, done.file, features=True)
    assert {own.name for own in done.file.parent.glob("*.*")} == {RUNNER, done.file.name}


def test_a_file_that_gives_no_number_is_refused(exported, monkeypatch):
    classifier, done = exported
    given = checking._answers_of

    def odd(*arguments):
        found = given(*arguments)
        found[3]["probabilities"] = np.full(2, np.nan, np.float32)
        return found

    monkeypatch.setattr(checking, "_answers_of", odd)
    with pytest.raises(WorkFailed, match=r"0 labels differ, probabilities by nan"):
        checking.check_answers(done.file.read_bytes(), classifier, made_images(), of_files=False)


def test_images_that_can_not_be_read_are_passed_over(exported, samples, tmp_path):
    (tmp_path / "broken.png").write_bytes(Path(samples.paths[0]).read_bytes()[:200])
    with pytest.raises(WrongCall, match="none of 1 image can be read"):
        read_given(tmp_path)
    shutil.copy(samples.paths[0], tmp_path / "whole.png")
    assert [Path(own).name for own in read_given(tmp_path)] == ["whole.png"]


def test_a_preprocessing_that_has_no_operators_is_named(samples, tmp_path):
    own = Preprocessing(24, interpolation="nearest")
    backbone = load_backbone(Small().eval(), preprocessing=own)
    classifier = ImageClassifier(layer="last", backbone=backbone, cache=False, numerics="float32")
    classifier.fit(samples.paths, samples.labels)
    with pytest.raises(WorkFailed, match=r"it can't be written as ONNX: .*nearest"):
        export_job(classifier, tmp_path / "own.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("model.pt", r"--to .*model.pt: expected a file that ends in \.onnx"),
        ("nowhere/model.onnx", r"there is no folder .*nowhere; make it first"),
    ],
)
def test_a_place_that_can_not_be_used_is_refused_at_once(tmp_path, to, said):
    with pytest.raises(WrongCall, match=said):
        export_job(tmp_path / "no bundle either", tmp_path / to)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(WrongCall, match=r"no_such_package is not installed: .*permafrost\[onnx\]"):
        export_job(tmp_path, tmp_path / "model.onnx")


def test_what_is_no_file_of_ours_is_refused(tmp_path):
    import onnx

    file = tmp_path / "model.onnx"
    for content, said in (
        (None, "No such file"),
        (b"no protobuf at all", "is no ONNX file"),
        (onnx.ModelProto().SerializeToString(), "(is no ONNX file|says nothing of itself)"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(WrongCall, match=said):
            read_described(file)
