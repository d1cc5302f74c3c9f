"""Whether files of `export` answer as their bundles: `python -m benchmarks.exporting FOLDER
[--backbones mobilenet_v2,tf_efficientnet_lite0] [--heads …] [--per-class 40]`, and
`python -m benchmarks.exporting --families`.

FOLDER has `train` and `val`, class by class. Each head of the catalogue, and a blend of three, is
fitted on the last layer of some training images, exported, and compared over 200
images: of `val`, and two dozen of odd shapes. The file's answers are compared with those of the
classifier in float32, which is what the export itself refuses by, and a row says by how much they
differ at most.

`--families` writes the last block of the smallest network of each family of torchvision, and of
five of timm, with random weights, and compares its rows over two images with those of the engine.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data import open_image, read_images
from extract import FeatureExtractor, Tap, load_backbone
from extract.engines import TorchEngine
from extract.onnx import NotExported, export_trunk
from heads import HEADS, fit_calibration, make_head
from heads.blended import BlendedHead, Member
from heads.scores import head_logits
from pipelines import ImageClassifier, export_job
from pipelines.errors import WorkFailed
from pipelines.exporting.checking import made_images, session_of

N_IMAGES = 200
FAMILIES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small",
    "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1",
    "swin_t", "swin_v2_t", "vgg11", "vit_b_32", "wide_resnet50_2", "timm:test_vit",
    "timm:test_convnext", "timm:test_efficientnet", "timm:test_nfnet", "timm:test_mambaout",
]  # fmt: skip
BLENDED = ("logistic", "rbf_svm", "knn")


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="benchmarks.exporting", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--families", action="store_true")
    parser.add_argument("--backbones", default="mobilenet_v2,tf_efficientnet_lite0")
    parser.add_argument("--heads", default=",".join([*HEADS, "blend"]))
    parser.add_argument("--per-class", type=int, default=40)
    options = parser.parse_args(arguments)
    if options.families:
        for name in FAMILIES:
            print(family_row(name), flush=True)
        return
    with tempfile.TemporaryDirectory() as place:
        write_images(options.folder / "val", Path(place) / "images")
        samples = some_of(read_images(options.folder / "train"), options.per_class)
        print("backbone         head        labels  probability  familiarity  seconds    MB")
        for backbone in options.backbones.split(","):
            for head in options.heads.split(","):
                print(row_of(samples, backbone, head, Path(place)), flush=True)


def family_row(name):
    """By how much the rows of a network's last block differ from the engine's, by the largest."""
    backbone = load_backbone(name, "random")
    tap = Tap(backbone.card.choose_layers("auto")[-1], "avg")
    batch = torch.randn(2, 3, *backbone.preprocessing.shape)
    began = time.perf_counter()
    try:
        session = session_of(export_trunk(backbone, [tap]).SerializeToString())
    except NotExported as error:
        return f"{name:<24} {error}"
    seconds = time.perf_counter() - began
    engine = TorchEngine(backbone, "cpu", "float32", [tap])
    with engine.running():
        expected = engine.forward(batch)[0].numpy()
    found = session.run(None, {session.get_inputs()[0].name: batch.numpy()})[0]
    away = np.abs(found - expected).max() / np.abs(expected).max()
    return f"{name:<24} {away:.1e}  {seconds:5.1f} s"


def write_images(folder, to):
    """200 images as PNG: two dozen of odd shapes, and others spread over those of a folder."""
    to.mkdir()
    odd = [*made_images(1), *made_images(2)]
    paths = read_images(folder).paths
    chosen = np.linspace(0, len(paths) - 1, N_IMAGES - len(odd)).astype(int)
    for number, image in enumerate([*odd, *(open_image(paths[row]) for row in chosen)]):
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(to / f"{number}.png")


def some_of(samples, per_class):
    """So many images of each class."""
    rows = [np.flatnonzero(samples.labels == name)[:per_class] for name in samples.classes]
    return samples[np.concatenate(rows)]


def row_of(samples, backbone, head, place):
    began = time.perf_counter()
    classifier = fitted(samples, backbone, head)
    try:
        done = export_job(classifier, place / f"{head}.onnx", images=place / "images")
    except WorkFailed as error:
        return f"{backbone:<16} {head:<10}  {error}"
    found, seconds = done.described["checked"], time.perf_counter() - began
    assert found["images"] == N_IMAGES
    return (
        f"{backbone:<16} {head:<10}  {found['labels']:>6}  {found['probability']:>11.1e}  "
        f"{found['familiarity']:>11.1e}  {seconds:>7.1f}  {done.n_bytes / 1e6:>4.1f}"
    )


def fitted(samples, backbone, head):
    """A classifier on the last layer, or a blend of three heads on its grid."""
    options = {"backbone": backbone, "numerics": "float32"}
    if head != "blend":
        classifier = ImageClassifier(head=head, **options)
        return classifier.fit(samples.paths, samples.labels)
    extractor = FeatureExtractor(pooling="grid3", **options)
    X, y = extractor.fit_transform(samples.paths), samples.labels
    members = []
    for name in BLENDED:
        own = make_head(name).fit(X, y)
        calibration = fit_calibration(head_logits(own, X), y, np.unique(y))
        columns = (0, X.shape[1])
        weight = 1 / len(BLENDED)
        members.append(
            Member(name, {}, weight, estimator=own, calibration=calibration, columns=columns)
        )
    return ImageClassifier(**options).assemble(extractor, BlendedHead(members))


if __name__ == "__main__":
    sys.exit(main())
