"""Forty of timm's families go from images to a bundle that predicts alike in a new process."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import RunSettings, run_job
from pipelines.predict import main as predict
from tests.extract.timm_families import FAMILIES

ROOT = Path(__file__).parents[2]
# by name, of the size and depth that they come with: the quicker ones, in turns of half a minute
NAMED = [family for family, (_, _, arguments, _) in FAMILIES.items() if arguments is None]
SLOW = {
    "byoanet", "cait", "coat", "convit", "convmixer", "crossvit", "davit", "efficientformer",
    "efficientformer_v2", "eva", "focalnet", "gcvit", "hiera", "hieradet_sam2", "hrnet",
    "inception_resnet_v2", "inception_v3", "inception_v4", "mlp_mixer", "mobilenetv5", "mvitv2",
    "nasnet", "nest", "nextvit", "pnasnet", "rdnet", "res2net", "selecsls", "sequencer", "tnt",
    "tresnet", "vgg", "vitamin", "volo", "xception", "xception_aligned",
}  # fmt: skip
RUN = [family for family in NAMED if family not in SLOW][:40]
# each turn ends in a process of its own, which first has to import timm
TURNS = [RUN[turn::4] for turn in range(4)]
PREDICT = """
import json, sys
from pipelines import load_classifier

bundles, paths = json.loads(sys.argv[1])
labels = [load_classifier(bundle).predict(paths).tolist() for bundle in bundles]
print(json.dumps(labels))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 8 small images of odd shapes, stripes and blobs."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(16):
        label = ("stripes", "blobs")[number % 2]
        height, width = rng.integers(40, 90, 2)
        rough = rng.integers(0, 256, (6, 1 if label == "stripes" else 6, 3), np.uint8)
        (folder / label).mkdir(exist_ok=True)
        made = Image.fromarray(rough).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        made.save(folder / label / f"{number:02}.png")
    return folder


def usual_size(name):
    """A small one for networks that see any size; None where there is one alone."""
    import timm

    return None if timm.get_pretrained_cfg(name).fixed_input_size else 96


def test_forty_families_are_run():
    assert len(RUN) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_a_bundle_predicts_alike_in_a_new_process(turn, photos, tmp_path):
    bundles, expected = [], []
    paths = sorted(map(str, photos.glob("*/*.png")))[6:10]
    for family in TURNS[turn]:
        name, size, _, _ = FAMILIES[family]
        out = tmp_path / family
        result = run_job(
            str(photos),
            RunSettings(
                backbone=f"timm:{name}",
                weights="random",
                size=size or usual_size(name),
                layers="auto",
                pooling="avg",
                heads="logistic",
                views="plain",
                numerics="float32",
                cv=2,
                baselines=False,
                report=False,
                cache=tmp_path / "cache",
                out=out,
            ),
        )
        assert result.results["backbone"]["name"] == f"timm:{name}"
        bundles.append(str(out / "model"))
        expected.append(result.classifier.predict(paths).tolist())
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, json.dumps([bundles, paths])],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


@pytest.mark.slow
def test_a_folder_of_timms_is_in_its_bundle_whole(photos, tmp_path, capsys):
    """What is predicted by the command needs neither the folder nor a cache."""
    import timm

    folder = tmp_path / "own"
    timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=3), folder)
    settings = RunSettings(
        **{"backbone": f"timm:{folder}", "pooling": "avg", "heads": "logistic", "cv": 2},
        **{"views": "plain", "baselines": False, "report": False, "numerics": "float32"},
        **{"cache": tmp_path / "cache", "out": tmp_path / "out"},
    )
    result = run_job(str(photos), settings)
    paths = sorted(map(str, photos.glob("*/*.png")))[6:10]
    expected = result.classifier.predict(paths).tolist()
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "cache")
    assert predict([str(tmp_path / "out" / "model"), *paths, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["label"] for row in rows] == expected
