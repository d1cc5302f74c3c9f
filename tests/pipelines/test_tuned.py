"""A network that was trained further beside the one it was made of: run, bundled, timed."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from extract import FeatureExtractor, load_backbone
from extract.backbones.tuned import write_tuned
from heads import make_head
from pipelines import BundleError, ImageClassifier, load_classifier, save_classifier
from pipelines.bundle.description import render

ROOT = Path(__file__).parent.parent.parent
BRIEF = ("--heads", "knn", "--layers", "features.4", "--pooling", "avg", "--cv", "3")
BASE, TUNED = "mobilenet_v3_small", "tuned:mobilenet_v3_small"
OTHERS = ("--weights", "random", "--views", "plain")


def write_network(folder, factor=1.02, base=BASE):
    base = load_backbone(base, "random", size=32)
    tensors = {
        name: own * factor if own.is_floating_point() else own
        for name, own in base.filled_tensors().items()
    }
    write_tuned(folder / "network.safetensors", base, tensors, {"epochs": 1})
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="module")
def compared(tmp_path_factory, photos_of_the_module, network):
    """A run of both networks: its arguments but for --out, and the folder of its `cache`, `out`."""
    from pipelines.run import main

    place = tmp_path_factory.mktemp("compared")
    given = [str(photos_of_the_module), "--backbone", f"{BASE},{network}", "--size", "32"]
    given += [*BRIEF, *OTHERS, "--cache", str(place / "cache")]
    assert main([*given, "--out", str(place / "out")]) == 0
    return given, place


def results_of(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def test_both_stand_in_one_leaderboard(compared, network):
    results = results_of(compared[1] / "out")
    first, second = results["backbones"]
    assert (first["name"], second["name"]) == (BASE, TUNED)
    assert second["weights"] == str(network / "network.safetensors")
    assert first["architecture"] == second["architecture"]
    assert first["sha256"] != second["sha256"]
    assert {BASE, TUNED} <= {row["backbone"] for row in results["leaderboard"]}


def test_a_second_run_takes_its_features_from_the_store_and_no_torch(compared, tmp_path):
    given, place = compared
    arguments = [*given, "--out", str(tmp_path)]
    code = (
        "import sys\nfrom pipelines.run import main\n"
        f"assert main({arguments!r}) == 0\nassert not {{'torch', 'torchvision'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)
    assert results_of(tmp_path)["extraction"]["computed"] == 0
    assert results_of(tmp_path)["chosen"] == results_of(place / "out")["chosen"] | {
        "seconds": results_of(tmp_path)["chosen"]["seconds"]
    }


def test_a_bundle_of_it_opens_where_the_file_is_gone(photos, tmp_path, capsys):
    from pipelines.run import main

    folder = tmp_path / "tuned"
    folder.mkdir()
    given = [
        "--backbone",
        str(write_network(folder)),
        *BRIEF,
        "--views",
        "plain",
        "--baselines",
        "off",
    ]
    place = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    assert main([str(photos), *given, *place]) == 0
    paths = [str(path) for path in sorted(photos.rglob("*.png"))]
    before = load_classifier(tmp_path / "out" / "model").predict_proba(paths)
    (folder / "network.safetensors").unlink()
    opened = load_classifier(tmp_path / "out" / "model", cache=False)
    assert opened.predict_proba(paths).tolist() == before.tolist()
    assert opened.extractor_.load_backbone().name == TUNED
    assert opened.extractor_.load_backbone().size == 32


@pytest.mark.parametrize("command", ["run", "tune", "extract"])
def test_weights_that_no_network_of_the_call_takes_are_refused(
    command, photos, network, tmp_path, capsys
):
    main = importlib.import_module(f"pipelines.{command}").main
    out = [] if command == "extract" else ["--out", str(tmp_path / "out")]
    given = ["--backbone", str(network), "--weights", "random", "--cache", str(tmp_path / "cache")]
    assert main([str(photos), *given, *out]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"--weights random: expected none beside {network}, which brings its own" in said


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("tuned:resnet18", {}, "names backbone 'tuned:resnet18' for squeezenet1_1"),
        ("out/network.safetensors", {}, "names backbone 'out/network.safetensors'"),
        ("tuned:squeezenet1_1", None, "names backbone 'tuned:squeezenet1_1' for squeezenet1_1"),
        ("tuned:squeezenet1_1", {"base": "os:system"}, "is one's own, and a file holds no code"),
        ("tuned:squeezenet1_1", {"size": 1 << 30}, "it is damaged"),
        ("tuned:squeezenet1_1", {"digest": "0"}, "other tensors than were written"),
    ],
)
def test_a_bundle_that_says_other_things_of_it_is_refused(small_bundle, name, changed, said):
    content = json.loads((small_bundle / "bundle.json").read_bytes())
    source = content["extractors"][0]["backbone"]
    source["name"] = name
    definition = source.pop("definition")
    if changed is not None:
        source["definition"] = definition | changed
    (small_bundle / "bundle.json").write_bytes(render(content))
    with pytest.raises(BundleError, match=said):
        load_classifier(small_bundle)


@pytest.fixture
def small_bundle(tmp_path):
    network = write_network(tmp_path, base="squeezenet1_1")
    images = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), np.uint8)
    extractor = FeatureExtractor(backbone=str(network), cache=False)
    head = make_head("logistic").fit(extractor.transform(images), np.arange(8) % 2)
    classifier = ImageClassifier().assemble(extractor, head)
    return save_classifier(classifier, tmp_path / "bundle")


def test_two_of_one_name_are_refused_in_one_line(run, photos, network, tmp_path):
    (tmp_path / "other").mkdir()
    other = write_network(tmp_path / "other", 1.03)
    code, _, err = run(
        photos, "--backbone", f"{network},{other}", *BRIEF, "--views", "plain", defaults=False
    )
    assert code == 2
    assert "both are tuned:mobilenet_v3_small: compare them in two runs" in err


def test_a_damaged_file_is_one_line(run, photos, tmp_path):
    (tmp_path / "network.safetensors").write_bytes(b"\xff" * 100)
    code, out, err = run(photos, "--backbone", str(tmp_path), *BRIEF, defaults=False)
    assert (code, out) == (2, "")
    assert err.startswith("error: can't read")
    assert err.count("\n") == 1


def test_extract_takes_it(photos, network, tmp_path, capsys):
    from pipelines.extract import main

    place = ["--cache", str(tmp_path / "cache"), "--layers", "features.4", "--pooling", "avg"]
    assert main([str(photos), "--backbone", str(network), *place]) == 0
    assert f"{TUNED}: 24 images to compute" in capsys.readouterr().err


def test_the_doctor_times_it(photos, network, tmp_path, capsys):
    from pipelines.doctor import main

    given = ["--backbone", str(network), "--weights", "random", "--layers", "features.4"]
    given += ["--pooling", "avg"]
    assert main([str(photos), *given, "--seconds", "0.01", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["backbones"]
    assert (row["size"], row["backbone"]) == ([32, 32], str(network))


def test_it_is_nothing_to_fetch(network, capsys):
    from pipelines.fetch import main

    assert main([str(network)]) == 2
    assert "can't fetch" in capsys.readouterr().err
