"""Files to kept features against the recipe of the PyTorch documentation, as ratios in one run.

python -m benchmarks.extract FOLDER... [--networks resnet18,mobilenet_v3_large] [--repeats 3]
FOLDER: class-per-folder photos, 2,000 or more in all for figures worth quoting. Weights are random on both sides,
each side runs in a process of its own, and both are timed from their first image to their last feature.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

LAYERS = {"resnet18": "layer4.1", "resnet50": "layer4.2", "mobilenet_v3_large": "features.16"}


def documented_recipe(folders: list[str], name: str) -> int:
    """ImageFolder, a DataLoader worker per core, standard transforms, eager float32, a hook -> images done."""
    import os

    import torch
    from torchvision import datasets, models

    network = models.get_model(name, weights=None).eval()
    transform = next(iter(models.get_model_weights(name))).transforms()
    images = torch.utils.data.ConcatDataset([datasets.ImageFolder(folder, transform) for folder in folders])
    rows = []
    network.get_submodule(LAYERS[name]).register_forward_hook(lambda m, i, out: rows.append(out.mean((2, 3)).numpy()))
    with torch.inference_mode():
        for batch, _ in torch.utils.data.DataLoader(images, batch_size=32, num_workers=os.cpu_count()):
            network(batch)
    return sum(len(row) for row in rows)


def ours(folders: list[str], name: str) -> int:
    """The same layer's averages into a fresh store -> images done."""
    from data import find_images
    from extract import FeatureExtractor

    paths, _ = find_images(folders)
    with tempfile.TemporaryDirectory() as cache:
        extractor = FeatureExtractor(layer=LAYERS[name], backbone=name, weights="random", cache=cache)
        return len(extractor.transform(paths))


SIDES = {"documented recipe": documented_recipe, "permafrost": ours}


def timed(side: str, folders: list[str], name: str) -> tuple[int, float]:
    """One side in a process of its own -> (images, seconds, torch's import left out)."""
    call = [sys.executable, "-m", "benchmarks.extract", *folders, "--networks", name, "--side", side]
    answer = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return answer["images"], answer["seconds"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--networks", default="resnet18,mobilenet_v3_large,resnet50")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        import torchvision  # noqa: F401 (both sides need it; its import is not what is compared)

        started = time.perf_counter()
        images = SIDES[options.side](options.folders, options.networks)
        print(json.dumps({"images": images, "seconds": time.perf_counter() - started}))
        return
    print(
        f"{'network':<20} {'images':>6} {'recipe/s':>9} {'permafrost/s':>12} {'ratio':>6}  median of {options.repeats}"
    )
    for name in options.networks.split(","):
        pairs = [{side: timed(side, options.folders, name) for side in SIDES} for _ in range(options.repeats)]
        images = pairs[0]["permafrost"][0]
        seconds = {side: median(pair[side][1] for pair in pairs) for side in SIDES}
        ratio = median(pair["documented recipe"][1] / pair["permafrost"][1] for pair in pairs)
        rates = [images / seconds[side] for side in SIDES]
        print(f"{name:<20} {images:>6} {rates[0]:>9.1f} {rates[1]:>12.1f} {ratio:>6.2f}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
