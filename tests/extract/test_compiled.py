"""Compiled engines give what eager torch gives, run where measuring says so, and are left where
they fail."""

import gc
import importlib.util
import os
import subprocess
import sys
import warnings
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from extract import ExtractError, Preprocessing, Tap, load_backbone
from extract import compiled as compiled_file
from extract import engines as engines_file
from extract.compiled import (
    CompiledEngine,
    EngineCandidate,
    MeasuredEngine,
    OpenVinoEngine,
    TorchCompileEngine,
    start_engine,
)
from extract.engines import TorchEngine, fastest_numerics, lacks_numerics, stack_for

TAPS = [
    Tap("layer1.0", "flatten"),
    Tap("layer2.0", "grid2"),
    Tap("layer3.0", "std"),
    Tap("layer3.0", "avg"),
]

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason='openvino is not installed: pip install ".[fast]"',
)
needs_compiler = pytest.mark.skipif(
    not compiled_file._has_compiler(), reason="no C++ compiler is found"
)

# a ResNet, VGG, MobileNet, EfficientNet, ConvNeXt and ViT, with a middle and a late layer and the
# input's side
ARCHITECTURES = {
    "resnet18": ("layer2.1", "layer4.1", 64),
    "vgg11_bn": ("features.10", "features.28", 64),
    "mobilenet_v3_small": ("features.6", "features.12", 64),
    "efficientnet_b0": ("features.4", "features.8", 64),
    "convnext_tiny": ("features.3", "features.7", 64),
    "vit_b_32": ("encoder.layers.encoder_layer_2", "encoder.ln", 224),
}


@pytest.fixture
def batch(pixels, small):
    return np.stack([small(Image.fromarray(image)) for image in pixels])


@pytest.fixture
def eager(backbone):
    return TorchEngine(backbone, "cpu", "float32", TAPS)


class Renamed(CompiledEngine):
    """Calls the eager network itself: what surrounds a compiler, without one."""

    name = "renamed"
    batch_size = 5
    change = 0.0

    def _compile(self, example):
        assert len(example) == self.batch_size
        return lambda part: [
            rows + self.change for rows in self._eager.forward(torch.from_numpy(part))
        ]


def candidate(make, start_seconds=0.0):
    return EngineCandidate(make, ("float32",), ("cpu",), start_seconds, lambda: True)


def apart(found, expected):
    return max(
        np.linalg.norm(found[tap] - rows) / np.linalg.norm(rows) for tap, rows in expected.items()
    )


@pytest.mark.parametrize("n", [1, 4, 5, 6, 12])
def test_batches_of_any_size_go_through_in_one_size(eager, batch, n):
    with eager.running():
        expected, found = eager(batch[:n]), Renamed(eager, "float32")(batch[:n])
    assert {tap: rows.shape for tap, rows in found.items()} == {
        tap: rows.shape for tap, rows in expected.items()
    }
    assert apart(found, expected) < 1e-5


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_openvino_gives_the_same_float32(name):
    middle, late, size = ARCHITECTURES[name]
    backbone = load_backbone(name, "random", size=size)
    taps = [Tap(middle, "grid2"), Tap(late, "avg"), Tap(late, "gem")]
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    eager = TorchEngine(backbone, "cpu", "float32", taps)
    with eager.running():
        expected, found = eager(images), OpenVinoEngine(eager, "float32")(images)
    assert apart(found, expected) <= 1e-4


@needs_openvino
def test_openvino_takes_what_is_not_square_and_what_is_made_ready(tiny_net):
    class Own:
        transform_id = "own"
        size = (24, 48)

        def __call__(self, image):
            return np.zeros((3, 24, 48), np.float32)

    batch = np.random.default_rng(0).integers(0, 256, (2, 24, 48, 3), np.uint8)
    for preprocessing, images in [
        (Preprocessing(size=(24, 48), crop=1.0), batch),
        (Own(), np.float32(batch.transpose(0, 3, 1, 2) / 255)),
    ]:
        try:
            backbone = load_backbone(tiny_net(), preprocessing=preprocessing)
            eager = TorchEngine(backbone, "cpu", "float32", [Tap("layer2.0", "avg")])
            with eager.running():
                expected = eager(images)
        except ExtractError:
            assert (
                preprocessing.__class__ is Own
            )  # it says no size, so its layers were probed at another
            continue
        with eager.running():
            assert apart(OpenVinoEngine(eager, "float32")(images), expected) <= 1e-4


@pytest.mark.slow
@needs_compiler
def test_torch_compile_gives_the_same_float32(eager, batch):
    with eager.running():
        expected, found = eager(batch), TorchCompileEngine(eager, "float32")(batch)
    assert apart(found, expected) <= 1e-4


def test_the_faster_engine_goes_on(backbone, eager, batch, monkeypatch):
    clock = iter(
        np.cumsum([0.0, 1, 1, 1, 1, 0.5] + [9] * 9)
    )  # the second batch took 1 s, the candidate 0.5 s
    monkeypatch.setattr(compiled_file.time, "perf_counter", lambda: next(clock))
    engine = MeasuredEngine(eager, "float32", [candidate(Renamed)], images=1000)
    names = []
    with engine.running() as running:
        for _ in range(3):
            found = running(batch)
            names.append(engine.name)
        assert apart(found, eager(batch)) < 1e-5
    assert names == ["torch-eager", "renamed", "renamed"]


@pytest.mark.parametrize(
    "why", ["slower", "other features", "no numbers", "fails", "too few images"]
)
def test_an_engine_is_left_where_it_is_no_gain(why, eager, batch, monkeypatch, caplog):
    second = 2.0 if why == "slower" else 0.5
    clock = iter(np.cumsum([0.0, 1, 1, 1, 1, second] + [9] * 9))
    monkeypatch.setattr(compiled_file.time, "perf_counter", lambda: next(clock))

    class Other(Renamed):
        change = {"other features": 0.1, "no numbers": float("nan")}.get(why, 0.0)

        def _compile(self, example):
            if why == "fails":
                raise RuntimeError("no such operator\nat line 3")
            return super()._compile(example)

    start = 1e6 if why == "too few images" else 0.0
    engine = MeasuredEngine(eager, "float32", [candidate(Other, start)], images=1000)
    with engine.running() as running:
        for _ in range(3):
            running(batch)
    assert engine.name == "torch-eager"
    said = {"fails": "renamed can't run this network (no such operator)"}
    said |= dict.fromkeys(["other features", "no numbers"], "gives other features")
    assert len(caplog.messages) == (why in said)
    assert said.get(why, "") in caplog.text


class Counted(Renamed):
    """Compiled once for each kind of batch; as if it were faster."""

    compiled = 0

    def _compile(self, example):
        type(self).compiled += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing, as in OpenVinoEngine
            traced = torch.jit.trace(
                self._eager.forward, torch.from_numpy(example), check_trace=False
            )
        return lambda part: traced(torch.from_numpy(part))


@pytest.fixture
def measured(tiny_net, monkeypatch):
    """Makes the engine of a pass over one backbone; the candidate takes half of torch's time."""
    backbone = load_backbone(tiny_net(), preprocessing=Preprocessing(size=32))
    make = type("Counted", (Counted,), {})

    def engine(images=1000, taps=TAPS, second=0.5, start_seconds=0.0):
        clock = iter(np.cumsum([0.0, 1, 1, 1, 1, second] + [9] * 99))
        monkeypatch.setattr(compiled_file.time, "perf_counter", lambda: next(clock))
        eager = TorchEngine(backbone, "cpu", "float32", taps)
        return MeasuredEngine(eager, "float32", [candidate(make, start_seconds)], images)

    engine.make, engine.backbone = make, backbone
    return engine


def run(engine, batch, times=3):
    with engine.running() as running:
        return [(running(batch), engine.name)[1] for _ in range(times)]


def test_the_faster_engine_is_kept_with_the_backbone(measured, batch):
    """Each part of what predict streams compiled it again: a quarter of its time."""
    assert run(measured(), batch) == ["torch-eager", "renamed", "renamed"]
    assert run(measured(), batch) == ["renamed"] * 3
    assert measured.make.compiled == 1


def test_another_kind_of_batch_is_compiled_for_anew(measured, batch, monkeypatch):
    run(measured(), batch)
    for change in ("type", "taps", "threads"):
        other, taps = batch, TAPS
        if change == "type":
            other = np.float32(batch.transpose(0, 3, 1, 2) / 255)
        elif change == "taps":
            taps = TAPS[:1]
        else:
            monkeypatch.setattr(compiled_file, "cores", lambda: 77)
        before = measured.make.compiled
        assert run(measured(taps=taps), other)[0] == "torch-eager", change
        assert measured.make.compiled == before + 1, change


def test_a_compiled_network_is_lent_to_one_pass_at_a_time(measured, batch):
    run(measured(), batch)
    first, second = measured(), measured()
    with first.running(), second.running():
        first(batch)
        second(batch)
        assert (first.name, second.name) == ("renamed", "torch-eager")


def test_few_images_are_not_filled_up_for_an_engine_that_is_kept(measured, batch):
    run(measured(), batch)
    assert run(measured(images=2), batch[:2], times=1) == ["torch-eager"]
    assert run(measured(), batch) == ["renamed"] * 3  # it is still kept


@pytest.mark.parametrize("why", ["slower", "fails"])
def test_an_engine_that_was_no_gain_costs_no_second_start(why, measured, batch, caplog):
    if why == "fails":
        measured.make._compile = lambda self, example: 1 / 0
    assert run(measured(second=2.0), batch) == ["torch-eager"] * 3
    assert run(measured(second=2.0), batch) == ["torch-eager"] * 3
    assert measured.make.compiled == (why == "slower")
    assert len(caplog.messages) == (why == "fails")


def test_parts_that_are_too_short_to_pay_for_an_engine_pay_together(measured, batch):
    """Of wide features a part is of a few hundred images, and none of them was worth a start."""
    images = 3 * len(batch)
    names = [run(measured(images, start_seconds=0.2 * 5), batch)[-1] for _ in range(5)]
    assert names[0] == "torch-eager"
    assert names[-1] == "renamed"


@needs_openvino
def test_what_is_kept_goes_with_its_backbone(tiny_net, batch):
    backbone = load_backbone(tiny_net(), preprocessing=Preprocessing(size=32))
    eager = TorchEngine(backbone, "cpu", "float32", TAPS)
    with eager.running():
        expected = eager(batch)
    for _ in range(2):
        engine = OpenVinoEngine(TorchEngine(backbone, "cpu", "float32", TAPS), "float32")
        with engine.running() as running:
            assert apart(running(batch), expected) <= 1e-4
    kept = weakref.ref(backbone)
    assert any(key[0] == "compiled" for key in backbone.ready)
    del backbone, eager, engine, running
    gc.collect()
    assert kept() is None


def test_the_last_engines_alone_are_kept(measured, batch):
    for tap in TAPS:
        run(measured(taps=[tap]), batch)
    run(measured(), batch)
    kept = [key for key in measured.backbone.ready if key[0] == "compiled"]
    assert len(kept) == compiled_file.MOST_LEFT


@pytest.mark.parametrize("change", [0.0, 9.0, float("nan"), None])
def test_an_engine_that_nothing_stands_in_for_says_what_is_wrong(change, eager, batch):
    class Reduced(Renamed):
        def _compile(self, example):
            if change is None:
                raise TypeError("no such operator\nat line 3")
            self.change = change
            return super()._compile(example)

    said = (
        r"can't run this network \(no such operator\)"
        if change is None
        else "gives other features than torch"
    )
    with eager.running():
        if change == 0:
            assert apart(Reduced(eager, "bfloat16-openvino")(batch), eager(batch)) < 1e-5
            return
        with pytest.raises(ExtractError, match=f"renamed {said}.*: choose numerics=.float32."):
            Reduced(eager, "bfloat16-openvino")(batch)


def test_an_engine_is_chosen_by_its_numerics(backbone, monkeypatch):
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: True)
    monkeypatch.setattr(engines_file, "has_openvino", lambda: True)
    monkeypatch.setattr(
        compiled_file,
        "CANDIDATES",
        [
            EngineCandidate(
                OpenVinoEngine, ("float32", "bfloat16-openvino"), ("cpu",), 1.0, lambda: True
            ),
        ],
    )
    made = start_engine(backbone, "cpu", "bfloat16-openvino", TAPS, 10)
    assert isinstance(made, OpenVinoEngine)
    assert next(made._eager.network.parameters()).dtype == torch.float32  # what is traced
    eager = start_engine(backbone, "cpu", "bfloat16-torch", TAPS, 10)
    assert eager.name == "torch-eager"
    assert not eager._candidates


def test_numerics_without_their_engine_are_refused(backbone, monkeypatch):
    monkeypatch.setattr(engines_file, "has_openvino", lambda: False)
    monkeypatch.setattr(engines_file, "has_bfloat16", lambda kind: True)
    with pytest.raises(
        ExtractError, match=r"bfloat16-openvino: openvino is not installed \(pip install"
    ):
        start_engine(backbone, "cpu", "bfloat16-openvino", TAPS, 10)
    monkeypatch.setattr(compiled_file, "CANDIDATES", [])
    monkeypatch.setattr(engines_file, "has_openvino", lambda: True)
    with pytest.raises(ExtractError, match="no C\\+\\+ compiler is found"):
        start_engine(backbone, "cpu", "bfloat16-openvino", TAPS, 10)


@pytest.mark.parametrize(
    ("capabilities", "openvino", "expected"),
    [
        ({}, True, "float32"),
        ({"avx512_bf16": True}, True, "bfloat16-torch"),
        ({"amx_bf16": True}, True, "bfloat16-openvino"),
        ({"amx_bf16": True}, False, "bfloat16-torch"),
    ],
)
def test_the_fastest_numerics_follow_the_processor(capabilities, openvino, expected, monkeypatch):
    monkeypatch.setattr(engines_file, "capabilities", lambda: capabilities)
    monkeypatch.setattr(engines_file, "has_openvino", lambda: openvino)
    assert fastest_numerics("cpu") == expected
    assert lacks_numerics(expected, "cpu") is None


def test_images_are_stacked_as_they_are(pixels):
    assert np.array_equal(stack_for("cpu")(list(pixels)), pixels)


def test_a_gpu_that_torch_can_not_use_is_named(monkeypatch, tmp_path):
    assert engines_file.unused_gpu() is None or not torch.cuda.is_available()
    monkeypatch.setattr(engines_file, "GPU_SIGNS", (str(tmp_path),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "has an NVIDIA GPU that torch" in engines_file.unused_gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert engines_file.unused_gpu() is None


class OutOfMemory(TorchCompileEngine):
    """Has memory for so many images at a time, and compiles nothing."""

    most = 2

    def _compile(self, example):
        def call(batch):
            if len(batch) > self.most:
                raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB.")
            assert len(batch) == len(example)
            return self._eager.forward(torch.from_numpy(batch))

        return call


def test_a_compiled_engine_takes_half_where_memory_is_full(backbone):
    taps = [Tap("layer1.0", "avg"), Tap("layer3.0", "grid2")]
    batch = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), np.uint8)
    eager = TorchEngine(backbone, "cpu", "float32", taps)
    with eager.running():
        expected = eager(batch)
    eager.batch_size = 8
    engine = OutOfMemory(eager, "bfloat16-cuda-compiled")
    with engine.running():
        found = engine(batch)
    assert engine.batch_size == 2
    for tap in taps:
        np.testing.assert_allclose(found[tap], expected[tap], rtol=1e-4, atol=1e-5)
    eager.batch_size, OutOfMemory.most = 8, 0
    with engine.running(), pytest.raises(ExtractError, match="CUDA out of memory"):
        engine(batch)
    OutOfMemory.most = 2


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="no openvino")
def test_openvinos_import_tells_nobody(tmp_path):
    """It sends an event to an address of Google's where nothing keeps it from that."""
    code = (
        "import os, sys, time\n"
        "tried = []\n"
        "events = ('urllib.Request', 'socket.connect', 'socket.getaddrinfo')\n"
        "sys.addaudithook(lambda name, given: name in events and tried.append(name))\n"
        "from extract.compiled import _openvino\n"
        "assert _openvino().Core().available_devices\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "time.sleep(1)\n"  # a thread of its own would send it
        "assert not tried, tried\n"
        "assert os.listdir(os.environ['HOME']) == []\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
