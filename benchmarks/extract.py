"""Files to features against the recipe of the PyTorch documentation and installed peers, as ratios in one run.

python -m benchmarks.extract FOLDER... [--networks resnet18,mobilenet_v3_large] [--images N]
[--repeats 3] FOLDER: class-per-folder photos, 2,000 or more in all for figures worth quoting.
Weights are random on every side, and each side runs in a process of its own. The ratio is of the
seconds from the first image to the last feature, compilation included, or with --whole of the whole
process, its imports and the building of the network included. The peers are those of the extra
[bench] that know the network; permafrost's rows end in a store on disk.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

LAYERS = {
    "resnet18": "layer4.1",
    "resnet50": "layer4.2",
    "mobilenet_v3_large": "features.16",
    "mobilenet_v2": "features.18",
}
TIMM = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mobilenet_v2": "mobilenetv2_100",
}
BATCH = 32


def documented_recipe(paths: list[str], name: str) -> int:
    """A DataLoader worker per core, standard transforms, eager float32, a hook -> images done."""
    import torch
    from torchvision import models
    from torchvision.datasets.folder import default_loader

    network = models.get_model(name, weights=None).eval()
    transform = next(iter(models.get_model_weights(name))).transforms()

    class Files(
        torch.utils.data.Dataset
    ):  # what ImageFolder does with its files, for any list of them
        def __len__(self):
            return len(paths)

        def __getitem__(self, i):
            return transform(default_loader(paths[i]))

    rows = []
    network.get_submodule(LAYERS[name]).register_forward_hook(
        lambda m, i, out: rows.append(out.mean((2, 3)).numpy())
    )
    with torch.inference_mode():
        for batch in torch.utils.data.DataLoader(
            Files(), batch_size=BATCH, num_workers=len(os.sched_getaffinity(0))
        ):
            network(batch)
    return sum(len(row) for row in rows)


def img2vec(paths: list[str], name: str) -> int:
    """img2vec_pytorch on lists of images -> images done."""
    from img2vec_pytorch import Img2Vec
    from PIL import Image
    from torchvision import models

    models.WeightsEnum.get_state_dict = lambda *_, **__: models.get_model(
        name, weights=None
    ).state_dict()
    encoder = Img2Vec(model=name)
    groups = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]
    return sum(
        len(encoder.get_vec([Image.open(path).convert("RGB") for path in group]))
        for group in groups
    )


def embetter(paths: list[str], name: str) -> int:
    """embetter's ImageLoader and TimmEncoder, a batch of files at a time -> images done."""
    import timm
    from embetter.vision import ImageLoader, TimmEncoder

    create = timm.create_model
    timm.create_model = lambda *args, pretrained, **settings: create(
        *args, pretrained=False, **settings
    )
    loader, encoder = ImageLoader(), TimmEncoder(TIMM[name])
    encoder.model.eval()
    groups = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]
    return sum(len(encoder.transform(loader.transform(group))) for group in groups)


def permafrost(paths: list[str], name: str) -> int:
    """The same layer's averages into a fresh store -> images done."""
    from extract import FeatureStore, Tap, extract, load_backbone

    taps = [Tap(LAYERS[name], "avg")]
    with tempfile.TemporaryDirectory() as cache:
        store = FeatureStore(cache)
        done = extract(paths, taps, load_backbone(name, "random", cache=cache), store)
        return len(store.read(done.recipe, taps, done.ids))


# each side: what runs it, the package it needs, and the networks it knows
SIDES = {
    "documented recipe": (documented_recipe, "torchvision", set(LAYERS)),
    "img2vec_pytorch": (img2vec, "img2vec_pytorch", {"resnet18", "resnet50"}),
    "embetter": (embetter, "embetter", set(LAYERS)),
    "permafrost": (permafrost, "extract", set(LAYERS)),
}


def timed(side: str, files: Path, name: str, whole: bool) -> dict:
    """One side in a process of its own -> images, seconds from the first image, seconds of the whole process."""
    call = [
        sys.executable,
        "-m",
        "benchmarks.extract",
        str(files),
        "--networks",
        name,
        "--side",
        side,
    ]
    call += ["--whole"] * whole
    started = time.perf_counter()
    answer = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return answer | {"whole": time.perf_counter() - started}


def enlarged(paths: list[str], megapixels: float, folder: Path) -> list[str]:
    """Copies of the photos with so many million pixels, as cameras write them -> their paths."""
    from PIL import Image

    made = []
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
            size = round(image.width * scale), round(image.height * scale)
            made.append(str(folder / f"{i:05}.jpg"))
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(made[-1], quality=90)
    return made


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--networks", default="resnet18,mobilenet_v3_large,resnet50")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, help="only so many, taken evenly from all")
    parser.add_argument(
        "--megapixels", type=float, help="enlarge the photos to so many million pixels first"
    )
    parser.add_argument(
        "--whole", action="store_true", help="compare whole processes, imports included"
    )
    parser.add_argument("--peers", default=",".join(SIDES), help="the sides to run")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options)
        return
    from data import find_images

    paths, _ = find_images(options.folders)
    paths = [str(path) for path in paths][:: max(1, len(paths) // (options.images or len(paths)))][
        : options.images
    ]
    wanted = dict.fromkeys([*options.peers.split(","), "permafrost"])
    sides = [side for side in wanted if importlib.util.find_spec(SIDES[side][1])]
    measure = "whole" if options.whole else "seconds"
    print(f"{len(paths)} images, median of {options.repeats}, ratio to permafrost of {measure}")
    print(f"{'network':<20} {'side':<18} {'images/s':>9} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        if options.megapixels:
            paths = enlarged(paths, options.megapixels, Path(folder))
        files = Path(folder) / "files.json"
        files.write_text(json.dumps(paths))
        for name in options.networks.split(","):
            knowing = [side for side in sides if name in SIDES[side][2]]
            rounds = [
                {side: timed(side, files, name, options.whole) for side in knowing}
                for _ in range(options.repeats)
            ]
            assert all(
                answer["images"] == len(paths) for answers in rounds for answer in answers.values()
            )
            for side in knowing:
                rate = len(paths) / median(answers[side][measure] for answers in rounds)
                ratio = median(
                    answers[side][measure] / answers["permafrost"][measure] for answers in rounds
                )
                print(f"{name:<20} {side:<18} {rate:>9.1f} {ratio:>6.2f}", flush=True)


def run_side(options: argparse.Namespace) -> None:
    """One side in this process; prints JSON."""
    paths = json.loads(Path(options.folders[0]).read_text())
    if not options.whole:  # every side needs it; its import is not what is compared
        import torchvision  # noqa: F401
    started = time.perf_counter()
    images = SIDES[options.side][0](paths, options.networks)
    print(json.dumps({"images": images, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
