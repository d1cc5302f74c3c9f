"""The forward pass gives what the plain network gives, in any batch, and runs no further than it
must."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from extract import ExtractError, Preprocessing, Tap, cores, load_backbone
from extract import engines as engines_file
from extract.engines import (
    NUMERICS,
    TorchEngine,
    check_numerics,
    choose_device,
    fastest_numerics,
    lacks_numerics,
)
from extract.layers import hooked

LAYERS = ("conv1", "bn1", "layer1.0", "layer2.0.conv1", "layer2.0.relu", "layer3", "fc.0", "fc")


@pytest.fixture
def batch(pixels, small):
    return np.stack([small(Image.fromarray(image)) for image in pixels])


def rows_of(backbone, batch, taps, numerics="float32"):
    with TorchEngine(backbone, "cpu", numerics, taps).running() as engine:
        return engine(batch)


def plain(network, preprocessing, batch, layer):
    """The layer's output of the eager network without anything fused."""
    seen = {}
    mean, std = (
        torch.tensor(v, dtype=torch.float64)[:, None, None]
        for v in (preprocessing.mean, preprocessing.std)
    )
    images = ((torch.from_numpy(batch).permute(0, 3, 1, 2) / 255 - mean) / std).float()

    def note(name, _module, _inputs, output):
        seen[name] = output.clone()

    with torch.inference_mode(), hooked({layer: network.get_submodule(layer)}, note):
        network(images)
    return seen[layer]


@pytest.mark.parametrize("layer", LAYERS)
def test_float32_is_the_plain_network_within_1e_4(backbone, batch, small, layer):
    tap = Tap(layer, "flatten")
    expected = plain(backbone.network, small, batch, layer).flatten(1).numpy()
    found = rows_of(backbone, batch, [tap])[tap]
    assert found.dtype == np.float32
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)


def test_a_row_does_not_depend_on_its_batch(backbone, batch):
    taps = [Tap(layer, "avg") for layer in LAYERS]
    together = rows_of(backbone, batch, taps)
    for tap in taps:
        alone = np.concatenate(
            [rows_of(backbone, batch[i : i + 1], [tap])[tap] for i in range(len(batch))]
        )
        assert np.linalg.norm(alone - together[tap]) <= 1e-5 * np.linalg.norm(alone)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("pooling", ["flatten", "avg", "max"])
def test_a_row_does_not_depend_on_the_other_taps(backbone, batch, layer, pooling):
    """Where a row was a view of an output that the next module changes in place, a deeper tap
    changed it."""
    tap = Tap(layer, pooling)
    alone = rows_of(backbone, batch, [tap])[tap]
    together = rows_of(backbone, batch, [tap, Tap("fc", "avg")])[tap]
    assert np.array_equal(alone, together)


def test_a_class_token_is_not_changed_by_what_follows(small):
    class Token(nn.Module):
        def forward(self, x):
            return torch.cat([x.flatten(2)[:, :, :1], x.flatten(2)], 2).transpose(1, 2).contiguous()

    class Add(nn.Module):
        def forward(self, x):
            return x.add_(1)

    network = nn.Sequential(nn.Conv2d(3, 4, 16, 16), Token(), Add())
    torch.nn.init.constant_(network[0].bias, 0.5)
    backbone = load_backbone(network, preprocessing=small)
    batch, tap = np.zeros((2, 32, 32, 3), np.uint8), Tap("1", "cls")
    assert backbone.card.activations["1"].prefix_tokens == 1
    together = rows_of(backbone, batch, [tap, Tap("2", "cls")])
    assert np.array_equal(together[tap], rows_of(backbone, batch, [tap])[tap])
    assert np.array_equal(together[tap] + 1, together[Tap("2", "cls")])


def test_all_taps_come_from_one_pass_cut_behind_the_deepest(backbone, batch):
    taps = [
        Tap("layer2.0", "avg"),
        Tap("layer2.0", "grid2"),
        Tap("conv1", "max"),
        Tap("layer2.0", "avg"),
    ]
    engine, calls = TorchEngine(backbone, "cpu", "float32", taps), []

    def note(name, _module, _inputs, _output):
        calls.append(name)

    modules = {
        name: engine.network.get_submodule(name)
        for name in ("conv1", "layer2.0.relu", "down3", "layer3", "fc")
    }
    with hooked(modules, note), engine.running():
        rows = engine(batch)
    assert calls == ["conv1", "layer2.0.relu", "layer2.0.relu"]
    assert {tap: row.shape for tap, row in rows.items()} == {
        taps[0]: (12, 12),
        taps[1]: (12, 48),
        taps[2]: (12, 8),
    }


def test_no_hooks_stay(backbone, batch):
    engine = TorchEngine(backbone, "cpu", "float32", [Tap("layer2.0", "avg")])
    with engine.running():
        engine(batch)
    for network in (engine.network, backbone.network):
        assert not any(module._forward_hooks for module in network.modules())


def test_no_hooks_stay_after_an_error(backbone):
    engine = TorchEngine(backbone, "cpu", "float32", [Tap("layer2.0", "avg")])
    with pytest.raises(RuntimeError), engine.running():
        engine(np.zeros((1, 32, 32, 5), np.uint8))
    assert not any(module._forward_hooks for module in engine.network.modules())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: "
            "8192 bytes"
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_halved(error, backbone, batch, monkeypatch):
    sizes, run = [], TorchEngine._run

    def at_most_five(self, images):
        sizes.append(len(images))
        if len(images) > 5:
            raise error
        return run(self, images)

    tap = Tap("layer3.0", "avg")
    expected = rows_of(backbone, batch, [tap])[tap]
    monkeypatch.setattr(TorchEngine, "_run", at_most_five)
    found = rows_of(backbone, batch, [tap])[tap]
    assert sizes == [12, 6, 3, 3, 3, 3]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_one_image_that_does_not_fit_is_an_error(backbone, batch, monkeypatch):
    def never(self, images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TorchEngine, "_run", never)
    with pytest.raises(ExtractError, match=r"size=.* is too large for this machine"):
        rows_of(backbone, batch, [Tap("fc", "avg")])


def test_a_layer_that_gives_another_size_is_an_error(tiny_net):
    class Own:
        transform_id = "own"

        def __call__(self, image):
            return np.zeros((3, *image.size), np.float32)

    backbone = load_backbone(tiny_net(), preprocessing=Own())
    with pytest.raises(
        ExtractError,
        match=r"layer conv1 gave \(8, 16, 16\), expected \(8, 128, 128\): is a size missing",
    ):
        rows_of(backbone, np.zeros((2, 3, 32, 32), np.float32), [Tap("conv1", "avg")])


def test_a_module_called_twice_gives_its_last_call(small):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x))

    network, tap = Twice(), Tap("conv", "flatten")
    batch = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = rows_of(load_backbone(network, preprocessing=small), batch, [tap])[tap]
    np.testing.assert_allclose(
        found, plain(network, small, batch, "conv").flatten(1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        pytest.param(*("vit_b_32", None, "encoder.layers.encoder_layer_1"), marks=pytest.mark.slow),
        ("swin_t", 64, "features.1.1"),
    ],
)
def test_tokens_and_channels_last_are_pooled_as_maps(name, size, layer):
    backbone = load_backbone(name, "random", size=size)
    side, tap = size or 224, Tap(layer, "grid2")
    batch = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    output = plain(backbone.network, backbone.preprocessing, batch, layer)
    if name == "vit_b_32":
        output = output[:, 1:].unflatten(1, (7, 7))
    maps = output.permute(0, 3, 1, 2)
    expected = nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1)
    np.testing.assert_allclose(rows_of(backbone, batch, [tap])[tap], expected, rtol=1e-3, atol=1e-4)


def test_an_autocast_around_the_call_changes_nothing(backbone, batch):
    """Features called float32 were bfloat16 where the caller computed under autocast."""
    tap = Tap("layer3.0", "avg")
    expected = rows_of(backbone, batch, [tap])[tap]
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(rows_of(backbone, batch, [tap])[tap], expected)


def test_tf32_is_off_inside_and_back_after(backbone):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = True
        with TorchEngine(backbone, "cpu", "float32", [Tap("fc", "avg")]).running():
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def test_numerics_that_this_machine_lacks_are_refused(backbone, monkeypatch):
    with pytest.raises(
        ExtractError, match="numerics bfloat16-cuda: bfloat16-cuda is computed on cuda, not on cpu"
    ):
        TorchEngine(backbone, "cpu", "bfloat16-cuda", [Tap("fc", "avg")])
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: False)
    with pytest.raises(ExtractError, match="this machine's cpu has no bfloat16 in hardware"):
        TorchEngine(backbone, "cpu", "bfloat16-torch", [Tap("fc", "avg")])


def test_bfloat16_is_near(backbone, batch, monkeypatch):
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: True)
    tap = Tap("layer3.0", "avg")
    full, reduced = (
        rows_of(backbone, batch, [tap], name)[tap] for name in ("float32", "bfloat16-torch")
    )
    assert reduced.dtype == np.float32
    assert 1e-5 < np.linalg.norm(full - reduced) / np.linalg.norm(full) < 0.1


@pytest.mark.parametrize(("has", "expected"), [(True, "bfloat16-torch"), (False, "float32")])
def test_the_fastest_numerics_are_those_in_hardware(monkeypatch, has, expected):
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: has)
    assert fastest_numerics("cpu") == expected
    assert fastest_numerics("cuda:1") == expected.replace("torch", "cuda")
    assert fastest_numerics("mps") == "float32"
    assert lacks_numerics("float32", "cpu") is None


def test_names_that_are_none_are_refused():
    assert [check_numerics(name) for name in ("auto", *NUMERICS)] == ["auto", *NUMERICS]
    with pytest.raises(ExtractError, match="unknown numerics 'float16': expected auto, float32"):
        check_numerics("float16")
    assert choose_device("cpu") == "cpu"
    for device in ("tpu", "", "gpu"):
        with pytest.raises(
            ExtractError,
            match=f"device '{device}' is not on this machine: expected auto or one of cpu",
        ):
            choose_device(device)


def test_a_tap_that_can_not_be_taken_is_refused(backbone):
    for tap, said in [
        (Tap("gone", "avg"), "unknown layer"),
        (Tap("fc", "grid2"), "does not fit"),
        (Tap("fc", "x"), "unknown"),
    ]:
        with pytest.raises(ExtractError, match=said):
            TorchEngine(backbone, "cpu", "float32", [tap])


def test_an_input_that_is_not_square(tiny_net):
    preprocessing = Preprocessing(size=(24, 48), crop=1.0)
    backbone, tap = load_backbone(tiny_net(), preprocessing=preprocessing), Tap("layer1.0", "grid2")
    batch = np.random.default_rng(0).integers(0, 256, (2, 24, 48, 3), np.uint8)
    expected = nn.functional.adaptive_avg_pool2d(
        plain(backbone.network, preprocessing, batch, "layer1.0"), 2
    )
    np.testing.assert_allclose(
        rows_of(backbone, batch, [tap])[tap], expected.flatten(1), rtol=1e-4, atol=1e-5
    )


def test_a_network_made_ready_is_left_to_the_next_engine_and_lent_to_one_at_a_time(backbone):
    """To copy and fuse it took three times as long as one image."""
    taps = [Tap("layer2.0", "avg")]
    make = partial(TorchEngine, backbone, "cpu", "float32", taps)
    backbone.ready.clear()
    with make().running() as first, make().running() as second:
        assert second.network is not first.network
    left = first.network
    with make().running() as third:
        assert third.network is left
        assert make().network is not left
    assert not any(module._forward_hooks for module in left.modules())
    with third.running(), make().running() as other:  # once it was left it may be another's
        assert other.network is not third.network
    assert len(backbone.ready) == 1
    assert backbone.__getstate__()["ready"] == {}


def test_a_large_network_is_not_held(backbone, monkeypatch):
    monkeypatch.setattr(engines_file, "LARGEST_LEFT", 10)
    backbone.ready.clear()
    with TorchEngine(backbone, "cpu", "float32", [Tap("layer2.0", "avg")]).running():
        pass
    assert not backbone.ready


@pytest.mark.parametrize(("images", "threads"), [(1, 1), (9, 3)])
def test_little_work_takes_one_thread(images, threads, monkeypatch):
    """Beside other work each layer waited for a second core: a second and a half for one image."""
    network, before = torch.nn.Linear(10, 10), torch.get_num_threads()
    monkeypatch.setattr(cores, "LITTLE_WORK", 500)
    torch.set_num_threads(3)
    try:
        with cores.threads_for(network, images):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_gpu_that_is_not_there_is_refused_by_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [engines_file.choose_device(name) for name in ("cuda", "cuda:0", "cuda:1")] == [
        "cuda",
        "cuda:0",
        "cuda:1",
    ]
    with pytest.raises(ExtractError, match="'cuda:2' is not on this machine: it has 2"):
        engines_file.choose_device("cuda:2")
    with pytest.raises(ExtractError, match="expected a number behind the colon"):
        engines_file.choose_device("cuda:first")


@pytest.mark.parametrize("by", ["as it is", "older names", "newer names", "both"])
def test_no_tf32_whatever_the_caller_has_set_it_by(by):
    """torch refuses its older names where a caller has used the newer: the pass ended with that."""
    backends = torch.backends

    def told():
        parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
        return [part.fp32_precision for part in parts]

    if by in ("older names", "both"):
        backends.cuda.matmul.allow_tf32 = True
    if by in ("newer names", "both"):
        backends.fp32_precision = "tf32"
    before = told()
    try:
        with engines_file.whole_float32():
            within = told()
        after = told()
    finally:
        if by in ("older names", "both"):
            backends.cuda.matmul.allow_tf32 = False
        backends.fp32_precision = "none"
    assert within == ["ieee"] * 3
    assert after == before
