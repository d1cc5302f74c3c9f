"""The command `export`: a bundle in, a file out, and what is said of both."""

import json

import pytest

from data import read_image_folder
from pipelines import ImageClassifier, export, save_classifier
from pipelines.export import main

pytest.importorskip("onnx", reason="NO ONNX: pip install '.[onnx]'")
pytest.importorskip("onnxruntime", reason="NO ONNX: pip install '.[onnx]'")


@pytest.fixture(scope="module")
def bundle(photos_of_the_module, tmp_path_factory):
    samples = read_image_folder(photos_of_the_module)
    options = {"backbone": "squeezenet1_1", "weights": "random", "size": 48, "layer": "features.3"}
    classifier = ImageClassifier(**options, numerics="float32", cache=False)
    classifier.fit(samples.paths, samples.labels)
    return save_classifier(classifier, tmp_path_factory.mktemp("bundle") / "model")


def test_a_bundle_becomes_a_file_that_describes_itself(
    bundle, photos_of_the_module, tmp_path, capsys
):
    file = tmp_path / "photos.onnx"
    code = main([str(bundle), "--to", str(file), "--images", str(photos_of_the_module), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "comparing its answers" in err
    described = json.loads(out)
    assert described["checked"]["images"] == 24
    assert described["checked"]["labels"] == 0

    assert main(["--describe", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == described
    assert main(["--describe", str(file)]) == 0
    out = capsys.readouterr().out
    for line in (
        "classes: cats, dogs",
        "network: squeezenet1_1, weights random (licence not known), view plain, taps "
        "features.3:avg",
        "head: logistic",
        "all labels equal, probabilities differ by",
        "beside predict, as it reads and computes: 0 labels differ",
    ):
        assert line in out
    assert "float32" not in out


def test_a_reduced_precision_is_told():
    described = {"extractors": [{"recipe": {"numerics": "bfloat16-torch"}}]}
    (line,) = export._numerics_in_words(described)
    assert "the bundle's features are bfloat16-torch, the file's float32" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected a BUNDLE and --to FILE.onnx, or --describe FILE.onnx"),
        (["{bundle}"], "expected a BUNDLE and --to FILE.onnx, or --describe FILE.onnx"),
        (["{bundle}", "--to", "model.pt"], "--to model.pt: expected a file that ends in .onnx"),
        (["nowhere", "--to", "{tmp}/model.onnx"], "nowhere is no bundle"),
        (["{bundle}", "--to", "{tmp}/model.onnx", "--images", "nowhere"], "nowhere"),
        (["{bundle}", "--describe", "x.onnx"], "--describe FILE.onnx stands alone"),
        (["--describe", "nowhere.onnx"], "nowhere.onnx: No such file or directory"),
    ],
)
def test_wrong_calls_are_one_line_and_exit_2(bundle, tmp_path, capsys, words, said):
    code = main([own.format(bundle=bundle, tmp=tmp_path) for own in words])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    assert not list(tmp_path.iterdir())
