"""The operators before the heads: pixels resized as by Pillow, networks as the engine runs them."""

import numpy as np
import pytest
import torch
from PIL import Image

from extract import Tap, load_backbone
from extract.engines import TorchEngine, mean_and_std
from extract.preprocessing import VIEWS, Preprocessing

onnx = pytest.importorskip("onnx", reason="NO ONNX: pip install '.[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="NO ONNX: pip install '.[onnx]'")

from extract import onnx as exporting  # noqa: E402
from extract.onnx import NotExported, add_input, export_trunk  # noqa: E402
from pipelines.exporting.graph import Graph  # noqa: E402

SIZES = [(37, 53), (32, 32), (96, 50), (9, 300), (1, 1), (1, 90), (120, 1), (20, 9000), (50, 96)]


def pixels_of(preprocessing, view):
    """A function from an image (h, w, 3) to what the network would see, as grey levels."""
    graph = Graph()
    output = add_input(graph, "images", preprocessing, view)
    given = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["n", "h", "w", 3])
    info = onnx.helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])
    model = graph.model([given], {output: info})
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    mean, std = (own.numpy()[0, :, 0, 0] for own in mean_and_std(preprocessing, "cpu"))

    def run(image):
        found = session.run(None, {"images": image[None]})[0][0].transpose(1, 2, 0)
        return np.rint(found * std + mean).astype(int)

    return run


def images(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("fit", ["box", "shorter", "squash", "border"])
def test_pixels_are_pillows(fit, interpolation):
    for size, crop in ((24, 0.875), ((32, 20), 1.0)):
        own = Preprocessing(size, crop, interpolation=interpolation, fit=fit)
        run = pixels_of(own, "plain")
        for image in images():
            assert np.array_equal(run(image), own(Image.fromarray(image))), (size, image.shape)


@pytest.mark.parametrize("view", ["flipped", "whole"])
def test_pixels_of_other_views_are_pillows(view):
    own = Preprocessing(24)
    run = pixels_of(own, view)
    for image in images():
        assert np.array_equal(run(image), VIEWS[view](own)(Image.fromarray(image))), image.shape


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["shorter", "squash", "border"])
def test_pixels_of_torchvisions_resize_are_torchvisions(fit, interpolation):
    for size, crop in ((24, 0.875), ((20, 32), 0.9)):
        own = Preprocessing(
            size, crop, fit=fit, interpolation=interpolation, resampler="torchvision"
        )
        run = pixels_of(own, "plain")
        for image in images():
            assert np.array_equal(run(image), own(Image.fromarray(image))), (size, image.shape)


def test_an_image_as_the_network_sees_it_stays_as_it_is():
    own = Preprocessing(24, 1.0)
    image = images()[0][:24, :24]
    assert np.array_equal(pixels_of(own, "plain")(image), image)


def test_an_older_pillow_is_found_by_trying(monkeypatch):
    """Before 12.3 columns came first, always; the image would be rounded otherwise."""
    resize = Image.Image.resize

    def columns_first(self, size, *args, **more):
        return resize(resize(self, (size[0], self.height), *args), size, *args, **more)

    exporting.tall_rule.cache_clear()
    assert exporting.tall_rule() in exporting.TALL
    exporting.tall_rule.cache_clear()
    monkeypatch.setattr(Image.Image, "resize", columns_first)
    assert exporting.tall_rule() == "never"
    own, tall = Preprocessing(24, 1.0, fit="squash"), images()[2]
    found = pixels_of(own, "plain")(tall)
    assert np.array_equal(found, own(Image.fromarray(tall)))
    exporting.tall_rule.cache_clear()


@pytest.mark.parametrize(
    ("preprocessing", "view", "said"),
    [
        (lambda image: image, "plain", "a preprocessing of one's own (function)"),
        (Preprocessing(24, interpolation="nearest"), "plain", "expected a resize that is bilinear"),
        (Preprocessing(24), "light-0-1", "the view light-0-1 is drawn anew for each image"),
    ],
)
def test_what_has_no_operators_is_named(preprocessing, view, said):
    with pytest.raises(NotExported) as error:
        add_input(Graph(), "images", preprocessing, view)
    assert said in str(error.value)


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.relu = torch.nn.ReLU(inplace=True)
        self.second = torch.nn.Conv2d(4, 6, 3, stride=2)

    def forward(self, images):
        # called twice: a tap is of the last call, and the activation works in place
        return self.second(self.relu(self.norm(self.first(self.relu(images)))))


def test_a_networks_rows_are_those_of_its_taps():
    torch.manual_seed(0)
    module = Small().eval()
    module.norm.running_mean.uniform_(-1, 1)
    module.norm.running_var.uniform_(0.5, 2)
    backbone = load_backbone(module, preprocessing=Preprocessing(20))
    poolings = ["avg", "max", "avgmax", "gem", "std", "grid2", "flatten"]
    taps = [Tap("norm", "avg"), Tap("relu", "max"), *(Tap("second", own) for own in poolings)]
    model = export_trunk(backbone, taps)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for n in (1, 3):
        batch = torch.randn(n, 3, 20, 20)
        found = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        inner = module.norm(module.first(batch.clamp(min=0)))
        last = module(batch.clone())
        expected = [inner.mean((2, 3)), inner.clamp(min=0).amax((2, 3))]
        expected += [backbone.card.activations["second"].pool(last, own) for own in poolings]
        for tap, rows, own in zip(taps, found, expected, strict=True):
            assert rows == pytest.approx(own.detach().numpy(), abs=1e-5), tap


class Choosing(torch.nn.Module):
    """What it computes depends on the values, which no graph holds."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3)

    def forward(self, images):
        found = self.first(images)
        return found if float(found.sum()) > 0 else -found


def test_a_network_that_can_not_be_written_is_named_with_the_reason():
    backbone = load_backbone(Choosing(), preprocessing=Preprocessing(20))
    backbone.name = "choosing"
    with pytest.raises(NotExported, match=r"^choosing can't be written as ONNX: ") as error:
        export_trunk(backbone, [Tap("first", "avg")])
    assert "\n" not in str(error.value)


# one of convolutions, one of tokens, one of windows; benchmarks.exporting goes through all families
FAMILIES = ["mobilenet_v3_small", "vit_b_32", "swin_t", "timm:test_efficientnet"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_all_kinds_give_the_rows_of_the_engine(name):
    if name.startswith("timm:"):
        pytest.importorskip("timm", reason="NO TIMM: pip install '.[timm]'")
    backbone = load_backbone(name, "random")
    layer = backbone.card.choose_layers("auto")[-1]
    height, width = backbone.preprocessing.shape
    model = export_trunk(backbone, [Tap(layer, "avg")])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    batch = torch.randn(2, 3, height, width)
    engine = TorchEngine(backbone, "cpu", "float32", [Tap(layer, "avg")])
    with engine.running():
        expected = engine.forward(batch)[0].numpy()
    found = session.run(None, {session.get_inputs()[0].name: batch.numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1e-3)
