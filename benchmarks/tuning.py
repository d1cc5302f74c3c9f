"""The last blocks trained further, against a training loop: `python -m benchmarks.tuning IMAGES`.

IMAGES is a class-per-folder directory. All three train the same blocks of mobilenet_v2 with AdamW
on the same views (a random crop, a flip, colours) for so many epochs:

- the loop of PyTorch's transfer-learning tutorial: ImageFolder, torchvision's v2 transforms, a
  DataLoader with a process a core, everything below the trained blocks without gradients and in
  evaluation mode;
- `tune_network` from the images;
- `tune_network` from kept activations: the pass that keeps them counted in, and without it, as a
  second training with other rates has it.

Each epoch of the first two costs the same, so that they run `--timed` epochs, and their time is
told for all.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from data import read_image_folder
from extract import FeatureStore, NewLayer, Tap, Tuning, load_backbone, tune_network
from extract.cores import cores

SIDE, BATCH, RATE = 224, 32, 3e-4


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.tuning", description=__doc__)
    parser.add_argument("images", help="such as photos: a folder of classes, each with its images")
    parser.add_argument(
        "--n", type=int, default=1000, help="images that are trained on, such as 1000"
    )
    parser.add_argument("--epochs", type=int, default=16, help="such as 16")
    parser.add_argument("--timed", type=int, default=1, help="epochs from images that are run")
    parser.add_argument("--unfreeze", type=int, default=5, help="trained blocks, such as 5")
    parser.add_argument("--views", type=int, default=4, help="kept views, such as 4")
    asked = parser.parse_args()
    samples = read_image_folder(asked.images)
    held_out = max(32, len(samples) // 10)
    if len(samples) < asked.n + held_out:
        asked.n = len(samples) - held_out
    rows = np.random.default_rng(0).permutation(len(samples))[: asked.n + held_out]
    paths = [samples.paths[row] for row in rows]
    targets = np.searchsorted(samples.classes, samples.labels[rows])
    what = f"{asked.n} images, {asked.epochs} epochs, the last {asked.unfreeze} blocks"
    print(f"{what}; {cores()} cores")
    with tempfile.TemporaryDirectory() as folder:
        loop = seconds_of_a_loop(paths[: asked.n], targets[: asked.n], asked)
        images, _ = seconds_of_ours(paths, targets, asked, Path(folder) / "a", "images")
        kept, views = seconds_of_ours(paths, targets, asked, Path(folder) / "b", "auto")
    print(f"{'':34}{'seconds':>9}{'ratio':>8}")
    for name, seconds in (
        ("training loop, from images", loop),
        ("tune_network, from images", images),
        ("tune_network, from activations", kept),
        ("the same, activations kept before", kept - views),
    ):
        print(f"{name:34}{seconds:9.1f}{loop / seconds:8.1f}")


def seconds_of_a_loop(paths: list[str], targets: np.ndarray, asked: Any) -> float:
    """Of all epochs, from those that are run."""
    import torch
    from PIL import Image
    from torch import nn
    from torchvision.transforms import v2

    class Photos(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, row: int) -> tuple:
            return seen(Image.open(paths[row]).convert("RGB")), int(targets[row])

    seen = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, scale=(0.25, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    network = load_backbone("mobilenet_v2").network.features
    network.eval().requires_grad_(False)
    trained = network[len(network) - asked.unfreeze :]
    trained.requires_grad_(True)
    new = nn.Linear(1280, int(targets.max()) + 1)
    optimizer = torch.optim.AdamW([*trained.parameters(), *new.parameters()], RATE)
    loader = torch.utils.data.DataLoader(
        Photos(), BATCH, shuffle=True, num_workers=cores(), persistent_workers=True
    )
    began = time.perf_counter()
    for _ in range(asked.timed):
        for images, wanted in loader:
            logits = new(network(images).mean((2, 3)))
            loss = nn.functional.cross_entropy(logits, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - began
    trained.requires_grad_(False)
    return seconds * asked.epochs / asked.timed


def seconds_of_ours(
    paths: list[str], targets: np.ndarray, asked: Any, folder: Path, source: str
) -> tuple[float, float]:
    """(seconds of all epochs, those of the pass that keeps activations)."""
    layer = NewLayer(
        Tap("features.18", "avg"),
        np.zeros(1280),
        np.ones(1280),
        np.zeros((int(targets.max()) + 1, 1280)),
        np.zeros(int(targets.max()) + 1),
    )
    epochs = asked.epochs if source == "auto" else asked.timed
    tuning = Tuning(asked.unfreeze, (3.5, 3.5), epochs, BATCH, views=asked.views, source=source)
    validation = np.arange(len(paths)) >= asked.n
    tuned = tune_network(
        paths,
        targets,
        validation,
        load_backbone("mobilenet_v2"),
        layer,
        tuning,
        folder=folder,
        store=FeatureStore(folder / "store"),
    )
    return tuned.seconds * asked.epochs / epochs + tuned.views_seconds, tuned.views_seconds


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    main()
