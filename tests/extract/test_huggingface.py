"""Vision encoders of transformers: their own numbers, their own files, and faults in one line."""

import json
import pickle
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from extract import ExtractError, FeatureExtractor, Preprocessing, load_backbone
from extract.backbones import huggingface, image_processors, named_backbone
from extract.backbones import names as names_file
from extract.backbones.huggingface import ENCODERS
from tests.extract.encoders import (
    MAIN,
    TINY,
    TOKENS,
    make_encoder,
    processor_of,
    write_encoder,
    write_pictures,
)

CLOSE = 1e-5
QUICK = ("vit", "resnet")
REST = sorted(set(ENCODERS) - set(QUICK) - {"clip_vision_model", "siglip_vision_model"})
ALL = [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in REST)]


@pytest.fixture(autouse=True)
def _forget_shared(monkeypatch):
    monkeypatch.setattr(names_file, "_shared", type(names_file._shared)())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """folders(kind) -> the folder of a small encoder, written once."""
    made = {}

    def write(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            write_encoder(made[kind], kind)
        return made[kind]

    return write


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def own_values(folder, kind, paths):
    """What transformers itself makes of the files: its output, with all hidden states."""
    import transformers

    network = getattr(transformers, ENCODERS[kind].network).from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    images = [Image.open(path).convert("RGB") for path in paths]
    with torch.no_grad():
        return network(**processor(images, return_tensors="pt"), output_hidden_states=True)


def pooled_of(output, prefix):
    """The pooled output, or what a classifier on top would take of the last state."""
    found = getattr(output, "pooler_output", None)
    if found is None:
        last = output.last_hidden_state
        found = last[:, 0] if prefix else last.flatten(2).mean(2 if last.dim() == 4 else 1)
        if last.dim() == 3 and not prefix:
            found = last.mean(1)
    return found.flatten(1).numpy()


def taps_of(backbone, layers, paths):
    extractor = FeatureExtractor("+".join(layers), backbone=backbone, numerics="float32")
    extractor.cache = False
    rows = extractor.transform(paths)
    widths = [backbone.card.width(tap) for tap in extractor.taps()]
    return np.split(rows, np.cumsum(widths)[:-1], axis=1)


def assert_close(found, wanted):
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    assert np.linalg.norm(found - wanted) <= CLOSE * np.linalg.norm(wanted)


@pytest.mark.parametrize("kind", ALL)
def test_taps_are_the_librarys_own_values(kind, folders, pictures):
    backbone = load_backbone(f"hf:{folders(kind)}")
    blocks = backbone.card.choose_layers("all")
    assert len(blocks) >= 3
    encoder, tiny = ENCODERS[kind], TINY[kind]
    own = own_values(folders(kind), kind, pictures)
    prefix = encoder.prefix and encoder.prefix + tiny.settings.get("num_register_tokens", 0)
    (pooled,) = taps_of(backbone, ["pooled"], pictures)
    assert_close(
        pooled, pooled_of(own, prefix) if kind != "clip" else clip_pooled(folders, pictures)
    )
    known = backbone.card.activations
    states = {
        tiny.states.format(number): state
        for number, state in enumerate(own.hidden_states[tiny.first :])
        if tiny.states is not None and tiny.states.format(number) in known
    }
    assert tiny.states is None or len(states) > 1
    for layer, state in states.items():
        assert backbone.card.activations[layer].kind == ("map" if state.dim() == 4 else "tokens")
        maps = state.flatten(2).mT if state.dim() == 4 else state[:, prefix or 0 :]
        found = taps_of(backbone, [f"{layer}:avg", f"{layer}:max"], pictures)
        assert_close(found[0], maps.mean(1))
        assert_close(found[1], maps.amax(1))
        if prefix:
            (found,) = taps_of(backbone, [f"{layer}:cls"], pictures)
            assert_close(found, state[:, 0])


def clip_pooled(folders, pictures):
    import transformers

    network = transformers.CLIPVisionModel.from_pretrained(folders("clip")).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folders("clip"))
    images = [Image.open(path).convert("RGB") for path in pictures]
    with torch.no_grad():
        return network(**processor(images, return_tensors="pt")).pooler_output.numpy()


def test_every_type_is_tried():
    assert set(TINY) | {"clip_vision_model", "siglip_vision_model"} == set(ENCODERS)
    assert set(MAIN) <= set(TINY)


def test_a_classifiers_checkpoint_gives_its_encoder(tmp_path, pictures):
    """Its tensors have a prefix, and no pooler is among them: the class token is pooled."""
    import transformers

    torch.manual_seed(0)
    network = transformers.ViTForImageClassification(transformers.ViTConfig(**TOKENS)).eval()
    assert any(name.startswith("vit.") for name in network.state_dict())
    network.save_pretrained(tmp_path)
    processor_of("vit").save_pretrained(tmp_path)
    backbone = load_backbone(f"hf:{tmp_path}")
    last = own_values(tmp_path, "vit", pictures).last_hidden_state
    found = taps_of(backbone, ["layernorm:cls", "pooled"], pictures)
    assert_close(found[0], last[:, 0])
    assert_close(found[1], last[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_whole_models_image_tower_is_taken(tmp_path, pictures, kind):
    import transformers

    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config, made = {
        "clip": (transformers.CLIPConfig, transformers.CLIPModel),
        "siglip": (transformers.SiglipConfig, transformers.SiglipModel),
    }[kind]
    width = {"projection_dim": 20} if kind == "clip" else {}
    torch.manual_seed(0)
    network = made(config(text_config=text, vision_config=TOKENS, **width)).eval()
    network.save_pretrained(tmp_path)
    processor_of(kind).save_pretrained(tmp_path)
    backbone = load_backbone(f"hf:{tmp_path}")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    images = [Image.open(path).convert("RGB") for path in pictures]
    with torch.no_grad():
        features = network.get_image_features(**processor(images, return_tensors="pt"))
    features = getattr(features, "pooler_output", features)
    layer = "visual_projection" if kind == "clip" else "pooled"
    assert_close(taps_of(backbone, [layer], pictures)[0], features)


def test_a_checkpoint_in_parts_or_of_torch_is_the_same(tmp_path, folders):
    network = make_encoder("vit")
    network.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert (tmp_path / "parts" / "model.safetensors.index.json").is_file()
    (tmp_path / "torch").mkdir()
    network.config.save_pretrained(tmp_path / "torch")
    torch.save(network.state_dict(), tmp_path / "torch" / "pytorch_model.bin")
    for name in ("parts", "torch"):
        processor_of("vit").save_pretrained(tmp_path / name)
        made = load_backbone(f"hf:{tmp_path / name}").card
        whole = load_backbone(f"hf:{folders('vit')}").card
        assert (made.digest, made.architecture) == (whole.digest, whole.architecture)


def test_a_file_of_ones_own_fills_it(tmp_path, folders):
    """By today's names or those of the hub, within a training checkpoint or a classifier."""
    import transformers
    from safetensors.torch import load_file

    network, name = make_encoder("vit", seed=1), f"hf:{folders('vit')}"
    network.save_pretrained(tmp_path)
    of_hub = load_file(tmp_path / "model.safetensors")
    assert set(of_hub) != set(network.state_dict())
    cards = []
    for tensors in (
        network.state_dict(),
        of_hub,
        {"epoch": 3, "model": {f"module.{key}": own for key, own in network.state_dict().items()}},
    ):
        torch.save(tensors, tmp_path / "own.pth")
        cards.append(load_backbone(name, tmp_path / "own.pth").card)
    assert len({card.digest for card in cards}) == 1
    assert {card.architecture for card in cards} == {load_backbone(name).card.architecture}
    assert cards[0].digest != load_backbone(name).card.digest
    assert [card.first_untrained for card in cards] == [None] * 3
    assert [card.fit.under for card in cards] == ["", "", "model.module."]
    classifier = transformers.ViTForImageClassification(transformers.ViTConfig(**TOKENS))
    torch.save(classifier.state_dict(), tmp_path / "own.pth")
    card = load_backbone(name, tmp_path / "own.pth").card
    assert card.first_untrained is None
    assert card.fit.unused == ("classifier.bias", "classifier.weight")
    assert card.fit.without == ("pooler.dense",)


def test_random_weights_are_the_seeds(folders, pictures):
    name = f"hf:{folders('vit')}"
    one, same, other = (load_backbone(name, "random", seed=seed) for seed in (0, 0, 1))
    assert one.card.digest == same.card.digest != other.card.digest
    before = torch.random.get_rng_state()
    assert one.network.pooler is not None
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", ["vit", pytest.param("clip", marks=pytest.mark.slow)])
def test_another_size_asks_for_its_positions(folders, kind):
    import transformers

    backbone = load_backbone(f"hf:{folders(kind)}", size=(64, 40))
    network = getattr(transformers, ENCODERS[kind].network).from_pretrained(folders(kind)).eval()
    images = torch.randn(2, 3, 64, 40)
    with torch.no_grad():
        wanted = network(images, interpolate_pos_encoding=True).last_hidden_state
        found = backbone.network(images).last_hidden_state
    assert torch.allclose(found, wanted, atol=1e-6)
    name = backbone.card.blocks[-1]
    assert backbone.card.activations[name].tokens_grid == (8, 5)


def test_a_small_grid_beside_registers_is_not_taken_for_a_larger_one(folders):
    """Four patches, a class token and four registers were a grid of three by three."""
    backbone = load_backbone(f"hf:{folders('dinov2_with_registers')}", size=16)
    activation = backbone.card.activations["encoder.layer.0"]
    assert (activation.shape[0], activation.tokens_grid) == (9, (2, 2))


def test_what_it_is_made_by_brings_it_back_without_the_folder(tmp_path, pictures):
    folder = tmp_path / "model"
    write_encoder(folder, "dinov3_vit")
    backbone = load_backbone(f"hf:{folder}")
    card = backbone.card
    name = named_backbone(card.architecture)
    assert name == "hf:dinov3_vit"
    rows = taps_of(backbone, ["norm"], pictures)[0]
    weights = tmp_path / "weights.safetensors"
    from safetensors.torch import save_file

    save_file(backbone.filled_tensors(), weights)
    for file in folder.iterdir():
        file.unlink()
    again = load_backbone(name, weights, definition=json.loads(json.dumps(card.definition)))
    assert (again.card.digest, again.card.architecture) == (card.digest, card.architecture)
    assert again.card.transform_id == card.transform_id
    assert np.array_equal(taps_of(again, ["norm"], pictures)[0], rows)


def test_it_is_pickled_without_its_network(folders):
    backbone = load_backbone(f"hf:{folders('vit')}")
    digest = backbone.card.digest
    again = pickle.loads(pickle.dumps(backbone))
    assert again.network.pooled is not None
    assert again.card.digest == digest


def edit(folder, file, **values):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def vit(tmp_path):
    """A folder of a small ViT to spoil."""
    write_encoder(tmp_path / "vit", "vit")
    return tmp_path / "vit"


def test_nothing_that_a_folder_names_is_imported_run_or_fetched(vit, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection"))
    digest = load_backbone(f"hf:{vit}").card.digest
    (vit / "evil.py").write_text("raise AssertionError\n")
    edit(
        vit,
        "config.json",
        auto_map={"AutoModel": "evil.Model"},
        _attn_implementation="kernels-community/flash-attn",
        attn_implementation="kernels-community/flash-attn",
        quantization_config={"quant_method": "bitsandbytes"},
        fusion_config={"patch_embeddings": True},
        transformers_weights="../other.safetensors",
        trust_remote_code=True,
        architectures=["Evil"],
    )
    edit(vit, "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.P"}, device="cuda")
    backbone = load_backbone(f"hf:{vit}")
    assert backbone.card.digest == digest
    assert backbone.network.config._attn_implementation == "sdpa"


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def point(folder):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (folder / "model.safetensors").write_text(text)


def leave_half(folder):
    (folder / "model.safetensors").unlink()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "abc.incomplete").write_bytes(b"")


def lack_a_part(folder):
    (folder / "model.safetensors").unlink()
    make_encoder("vit").save_pretrained(folder, max_shard_size="20KB")
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def name_other_parts(folder):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"weight_map": {"layernorm.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def swap(folder):
    from safetensors.torch import save_file

    save_file({"other.weight": torch.zeros(3)}, folder / "model.safetensors")


def config(**values):
    return lambda folder: edit(folder, "config.json", **values)


def processor(**values):
    return lambda folder: edit(folder, "preprocessor_config.json", **values)


def remove(file):
    return lambda folder: (folder / file).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (remove("config.json"), "no config.json in"),
        (remove("model.safetensors"), "no weights in .*: expected model.safetensors or"),
        (truncate, "can't read weights from .*model.safetensors"),
        (point, "is a pointer to a large file .* run `git lfs pull`"),
        (leave_half, "the download of abc.incomplete was cut off"),
        (lack_a_part, "half of the model is there"),
        (name_other_parts, "names no files beside it"),
        (swap, "none of the 1 tensors fits a ViTModel"),
        (
            config(hidden_size=40),
            r"not those of its config.json: .* \(.*32.*\), expected \(.*40",
        ),
        (config(model_type="bert"), "is a 'bert' model: expected one of the vision encoders beit,"),
        (config(model_type=7), "says no type in its config.json"),
        (config(hidden_size="wide"), "no network can be made of its config.json: .*hidden_size"),
        (config(hidden_act="../x"), "no network can be made of its config.json"),
        (config(num_hidden_layers=10**9), "num_hidden_layers=1000000000 .* is too large"),
        (config(intermediate_size=10**9), "intermediate_size=1000000000 .* is too large"),
        (config(hidden_size=1 << 20, intermediate_size=1 << 20), "GB of memory"),
        (processor(image_processor_type="EvilProcessor"), "'EvilProcessor' is not known"),
        (processor(image_processor_type=3), "'3' is not known"),
        (processor(size={"shortest_edge": 40}), "gives images of several sizes"),
        (processor(image_mean=[0.5] * 7), "ViTImageProcessor does not work with its settings"),
        (processor(size={"side": 3}), "ViTImageProcessor does not work with its settings"),
        (processor(do_resize=False), "gives images of several sizes"),
        (lambda folder: (folder / "config.json").write_text("["), "can't read .*config.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "it holds a list"),
    ],
)
def test_a_spoilt_folder_is_refused_in_one_line(vit, spoil, said):
    spoil(vit)
    with pytest.raises(ExtractError, match=said) as caught:
        _ = load_backbone(f"hf:{vit}").card
    assert "\n" not in str(caught.value)


def test_weights_that_a_model_can_not_have_are_refused(vit):
    with pytest.raises(ExtractError, match="expected random, a file of weights"):
        load_backbone(f"hf:{vit}", "IMAGENET1K_V1")
    with pytest.raises(ExtractError, match="brings its own preprocessing"):
        load_backbone(f"hf:{vit}", preprocessing=Preprocessing())
    with pytest.raises(ExtractError, match="no weights file"):
        load_backbone(f"hf:{vit}", "gone.pth")


def test_without_the_package_it_says_what_to_install(vit, monkeypatch):
    import importlib.metadata as metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(huggingface.importlib.metadata, "version", missing)
    with pytest.raises(ExtractError, match=r'needs transformers: pip install "permafrost\[hf\]"'):
        load_backbone(f"hf:{vit}")


@pytest.mark.parametrize(
    "definition", [{}, {"config": 3, "processor": None}, {"config": {}, "processor": []}]
)
def test_a_definition_that_is_none_is_refused(definition):
    with pytest.raises(ExtractError, match=r"^hf:vit"):
        load_backbone("hf:vit", "random", definition=definition)


def test_without_a_processor_the_librarys_default_is_taken_and_said(vit, caplog):
    (vit / "preprocessor_config.json").unlink()
    backbone = load_backbone(f"hf:{vit}")
    assert backbone.preprocessing.shape == (48, 48)
    assert "images are made ready as ViTImageProcessor does by default" in caplog.text


def test_a_processor_is_read_in_its_other_files(vit):
    told = load_backbone(f"hf:{vit}").card.transform_id
    path = vit / "preprocessor_config.json"
    values = json.loads(path.read_text())
    (vit / "processor_config.json").write_text(
        json.dumps({"processor_class": "X", "image_processor": values})
    )
    path.unlink()
    assert load_backbone(f"hf:{vit}").card.transform_id == told
    # as they were written years ago
    values.pop("image_processor_type")
    path.write_text(
        json.dumps(values | {"feature_extractor_type": "ViTFeatureExtractor", "size": 48})
    )
    assert load_backbone(f"hf:{vit}").card.transform_id == told


PROCESSORS = [
    ("ViTImageProcessor", {"size": {"height": 48, "width": 40}}, "squash"),
    ("ViTImageProcessor", {"resample": 1, "do_normalize": False}, "squash"),
    ("DeiTImageProcessor", {}, "squash"),
    ("CLIPImageProcessor", {"size": 40, "crop_size": 40}, "shorter"),
    ("BitImageProcessor", {"size": {"shortest_edge": 51}, "crop_size": 40}, "shorter"),
    ("BitImageProcessor", {"size": {"shortest_edge": 424}, "crop_size": 160}, "shorter"),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}, "crop_pct": 0.95}, "shorter"),
    ("ConvNextImageProcessor", {}, "squash"),
    ("LevitImageProcessor", {}, "shorter"),
    ("PoolFormerImageProcessor", {"crop_pct": 0.9}, "shorter"),
    ("SiglipImageProcessor", {}, "squash"),
    ("MobileNetV2ImageProcessor", {}, "shorter"),
    ("ViTImageProcessor", {"rescale_factor": 1 / 127}, None),
    ("CLIPImageProcessor", {"size": 40, "crop_size": 64}, None),  # pads
    ("SiglipImageProcessor", {"resample": 0}, None),  # another nearest pixel
    ("DINOv3ViTImageProcessor", {}, None),  # resizes numbers, not bytes
    ("MobileViTImageProcessor", {}, None),  # blue first
    ("EfficientNetImageProcessor", {}, None),
]


@pytest.mark.parametrize(("kind", "values", "fit"), PROCESSORS)
def test_a_processor_is_translated_or_run_itself(kind, values, fit):
    import transformers

    found = image_processors.preprocessing_of("it", {"image_processor_type": kind, **values})
    assert getattr(found, "fit", None) == fit
    own = getattr(transformers, kind)(**values)
    random = np.random.default_rng(5)
    for height, width in [(77, 203), (211, 90), (640, 479), (35, 36)]:
        image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
        wanted = own(image, return_tensors="np")["pixel_values"][0]
        made = found(image) if fit is None else image_processors._as_input(found, image)
        assert np.allclose(made, wanted, 1e-6, 1e-6)


def test_a_processor_itself_takes_another_size(folders):
    backbone = load_backbone(f"hf:{folders('dinov3_vit')}", size=(64, 32))
    image = Image.fromarray(np.zeros((50, 70, 3), np.uint8))
    assert backbone.preprocessing(image).shape == (3, 64, 32)
    plain = load_backbone(f"hf:{folders('dinov3_vit')}")
    assert plain.card.transform_id != backbone.card.transform_id


@pytest.mark.slow
def test_what_is_known_of_it_needs_neither_torch_nor_transformers(tmp_path, vit, pictures):
    code = (
        "import sys; from extract import FeatureExtractor\n"
        "FeatureExtractor('layers.1', backbone=sys.argv[1], cache=sys.argv[2], numerics='float32')"
        ".transform(sys.argv[3:])\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code, f"hf:{vit}", str(tmp_path), *pictures]
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert said == [["True", "True"], ["False", "False"]]
