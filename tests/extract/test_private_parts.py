"""What we use of torch, torchvision and OpenVINO without a promise: each test says what changed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from extract import compiled as compiled_file
from extract.backbones.module import _constants
from extract.engines import capabilities
from extract.errors import is_out_of_memory


def test_torch_lists_buffers_that_are_not_in_the_state_dict():
    module = nn.Module()
    module.register_buffer("hidden", torch.ones(2), persistent=False)
    module.register_buffer("shown", torch.ones(2))
    found = getattr(module, "_non_persistent_buffers_set", None)
    assert found == {"hidden"}, (
        "torch.nn.Module no longer names its non-persistent buffers in "
        "`_non_persistent_buffers_set`: two networks that differ in them alone would share a recipe"
    )
    assert [name for name, _ in _constants(module)] == ["hidden"]


def test_torch_keeps_parameters_and_buffers_out_of_a_modules_own_attributes():
    module = nn.Conv2d(3, 4, 1)
    own = set(vars(module)) - set(vars(nn.Module()))
    assert own.isdisjoint({"weight", "bias"}), (
        "torch.nn.Module now holds its parameters among its plain attributes: "
        "they would be hashed as constants, and every recipe of an own module would change"
    )


def test_torch_says_lack_of_memory_on_a_processor_in_these_words():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value), (
        "torch words a lack of memory on a processor in another way: a batch that is too large "
        f"would end the pass instead of being halved ({str(caught.value)[:100]})"
    )
    assert not is_out_of_memory(RuntimeError("no such operator"))


def test_torch_tells_the_processors_vector_units_by_these_names():
    names = set(capabilities())
    assert names >= {"amx_bf16", "avx512_bf16"} or "bf16" in names, (
        "torch.cpu.get_capabilities names bfloat16's units in another way, "
        f"and float32 would be taken for the fastest: {sorted(names)}"
    )


def test_torchvision_asks_one_function_of_the_compiler():
    package = Path(importlib.util.find_spec("torchvision").origin).parent
    lines = {
        line.strip()
        for file in package.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from ")) and "torch._dynamo" in line
    }
    assert lines <= {"from torch._dynamo.utils import is_compile_supported"}, (
        "torchvision asks for more of torch's compiler when it is imported, so the stand-in no "
        f"longer spares that import: {sorted(lines)}"
    )


def test_torch_fuses_a_norm_into_a_convolution():
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    conv, norm = nn.Conv2d(3, 4, 3).eval(), nn.BatchNorm2d(4).eval()
    norm.running_mean.fill_(0.5)
    norm.running_var.fill_(2.0)
    images = torch.ones(1, 3, 5, 5)
    fused = fuse_conv_bn_eval(conv, norm)
    assert torch.allclose(fused(images), norm(conv(images)), atol=1e-6), (
        "fuse_conv_bn_eval no longer gives the convolution that both are together"
    )
    assert fused is not conv, "fuse_conv_bn_eval now works in place: a network would be spoilt"


def test_torch_traces_a_forward_pass_into_a_graph():
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(lambda images: (images * 2, images + 1))(torch.ones(2))
    assert [rows.tolist() for rows in graph(torch.zeros(2))] == [[0, 0], [1, 1]], (
        "make_fx no longer gives a graph that is called as the function it was made of: "
        "torch.compile needs another way to the cut network"
    )


@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason='openvino is not installed: pip install ".[fast]"',
)
@pytest.mark.filterwarnings("ignore")
def test_openvino_reads_a_trace_by_its_front_end():
    openvino = compiled_file._openvino()
    from openvino.frontend import FrontEndManager

    try:
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    except ImportError as error:
        pytest.fail(f"OpenVINO's decoder of traces has moved, and convert_model is slow: {error}")
    images = torch.ones(2, 3)
    traced = torch.jit.trace(lambda x: (x * 2, x + 3), images, check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=images)
    model = frontend.convert(frontend.load(decoder))
    found = openvino.Core().compile_model(model, "CPU")([images.numpy()])
    assert len(found) == 2, "OpenVINO's front end no longer gives an output for each of a tuple"
    assert np.allclose(found[0], 2), "OpenVINO's front end gives the outputs in another order"
    assert np.allclose(found[1], 4), "OpenVINO's front end gives the outputs in another order"
