"""Vision encoders of transformers through the whole job, and their bundles without them."""

import json
import shutil
import subprocess
import sys

import pytest

from pipelines import BundleError, RunSettings, load_classifier, run_job, save_classifier
from pipelines.bundle.description import render
from pipelines.bundle.files import FILE
from pipelines.predict import main as predict
from pipelines.run import main
from tests.extract.encoders import MAIN, write_encoder, write_pictures

PREDICT = """
import json, socket, sys
def refuse(*_): raise AssertionError("a connection")
socket.socket.connect = refuse
from pipelines import load_classifier
folders, paths = json.loads(sys.argv[1])
print(json.dumps({
    kind: load_classifier(folder).predict(paths).tolist() for kind, folder in folders.items()
}))
"""


def trained(photos, name, weights, place):
    """The classifier of a quick run with this backbone."""
    settings = RunSettings(
        **{"backbone": name, "weights": weights, "layers": "auto", "pooling": "avg", "cv": 3},
        **{"heads": ("knn",), "views": "plain", "baselines": False, "cache": place / "cache"},
    )
    return run_job(str(photos), settings).classifier


@pytest.mark.slow
def test_a_run_its_bundle_and_a_new_process_agree(tmp_path, photos_of_the_module):
    paths = write_pictures(tmp_path, 12)
    paths += [str(path) for path in sorted(photos_of_the_module.rglob("*.png"))]
    folders, labels = {}, {}
    for kind in MAIN:
        name = write_encoder(tmp_path / kind, kind)
        classifier = trained(photos_of_the_module, name, None, tmp_path / kind)
        folders[kind] = str(tmp_path / f"{kind}-bundle")
        save_classifier(classifier, folders[kind])
        labels[kind] = classifier.predict(paths).tolist()
        assert len(set(labels[kind])) == 2
        shutil.rmtree(tmp_path / kind)  # the bundle is all that is left
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREDICT, json.dumps([folders, paths])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == labels
    assert done.stderr == ""


@pytest.mark.slow
def test_random_weights_are_in_no_bundle_and_come_back(tmp_path, photos_of_the_module, capsys):
    name = write_encoder(tmp_path / "vit", "vit")
    classifier = trained(photos_of_the_module, name, "random", tmp_path)
    folder = save_classifier(classifier, tmp_path / "bundle")
    paths = write_pictures(tmp_path)
    labels = classifier.predict(paths).tolist()
    shutil.rmtree(tmp_path / "vit")
    assert not [*folder.glob("*.safetensors")]
    assert load_classifier(folder).predict(paths).tolist() == labels
    capsys.readouterr()
    assert predict([str(folder), *paths, "--json"]) == 0  # which keeps nothing of a network
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["label"] for row in rows] == labels


def test_a_bundle_that_names_a_model_and_defines_none_is_refused(tmp_path, photos_of_the_module):
    """It would have been looked for in a folder of that name, then on the hub."""
    name = write_encoder(tmp_path / "vit", "vit")
    classifier = trained(photos_of_the_module, name, None, tmp_path)
    folder = save_classifier(classifier, tmp_path / "bundle")
    content = json.loads((folder / FILE).read_text())
    assert content["extractors"][0]["backbone"].pop("definition")["config"]["model_type"] == "vit"
    (folder / FILE).write_bytes(render(content))
    with pytest.raises(BundleError, match="names backbone"):
        load_classifier(folder)


def lose(folder):
    (folder / "model.safetensors").unlink()


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def widen(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 40}))


def write_of_text(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose, "no weights in"),
        (cut, "can't read weights from"),
        (widen, "its weights are not those of its config.json"),
        (write_of_text, "is a 'bert' model"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_what_cant_be_used_is_said_in_a_line(tmp_path, photos, capsys, spoil, said):
    write_encoder(tmp_path / "vit", "vit")
    spoil(tmp_path / "vit")
    capsys.readouterr()
    arguments = [str(photos), "--backbone", f"hf:{tmp_path / 'vit'}", "--cache", str(tmp_path)]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.strip().count("\n") == 0
