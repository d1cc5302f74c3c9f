"""What this machine has for the pass, how fast it decodes images and runs a network."""

import contextlib
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from extract.backbones import Backbone
from extract.compiled import list_engines
from extract.cores import cores
from extract.engines import (
    NUMERICS,
    capabilities,
    check_numerics,
    choose_device,
    fastest_numerics,
    has_openvino,
    lacks_numerics,
    stack_for,
    unused_gpu,
)
from extract.loader import Decoding, load_batches
from extract.pooling import Tap

PHOTO = (500, 375)
MADE_UP = 32
SHOWN = ("amx_bf16", "avx512_bf16", "avx512_f", "avx2")


@dataclass(frozen=True)
class Speed:
    """What a machine reaches with a backbone.

    Parameters
    ----------
    device, numerics : str
    decode : float
        Images a second, decoding alone on all cores.
    forward : dict of str to float
        Images a second of the network alone, by engine.
    start : float
        Seconds from the first batch to its rows.

    Examples
    --------
    >>> Speed("cpu", "float32", 10.0, {"torch-eager": 20.0}, 1.0).seconds(100)
    16.0
    """

    device: str
    numerics: str
    decode: float
    forward: dict[str, float]
    start: float

    def seconds(self, images: int) -> float:
        """What a pass over so many images takes: on a CPU both in turn, on a GPU side by side."""
        fastest = max(self.forward.values())
        if self.device == "cpu":
            return self.start + images / self.decode + images / fastest
        return self.start + images / min(self.decode, fastest)


def machine(cache: Path) -> dict[str, str]:
    """What there is on this machine, in words.

    Parameters
    ----------
    cache : Path
        The store's folder; it need not be there yet.

    Returns
    -------
    dict of str to str
        A line each for processor, GPU, decoder, engines, numerics and cache.
    """
    import torch

    found = capabilities()
    has = [name for name in SHOWN if found.get(name)] or ["no vector units of note"]
    openvino = (
        f"openvino {version('openvino')}"
        if has_openvino()
        else 'no openvino (pip install "permafrost[fast]")'
    )
    folder = next(f for f in (cache, *cache.parents) if f.exists())
    device = choose_device("auto")
    numerics = [name for name in NUMERICS if lacks_numerics(name, device) is None]
    return {
        "processor": f"{_processor()}, {cores()} cores for this process, {', '.join(has)}",
        "GPU": _gpu(),
        "decoder": f"Pillow {version('pillow')} with {_jpeg_library()}",
        "engines": f"torch {torch.__version__}, {openvino}",
        "numerics": f"{', '.join(numerics)} on {device}; auto takes {fastest_numerics(device)}",
        "cache": f"{cache}, {shutil.disk_usage(folder).free / 1e9:.0f} GB free",
    }


def measure_speed(
    backbone: Backbone,
    taps: Sequence[Tap],
    paths: Sequence,
    device: str,
    numerics: str,
    seconds: float,
) -> Speed:
    """Decode these images and run the network on them, each alone.

    Parameters
    ----------
    backbone : Backbone
    taps : sequence of Tap
        The network runs up to the deepest.
    paths : sequence of n paths
        Taken again where they are fewer than a batch.
    device : str
        `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
    numerics : str
        `auto`, `float32` or a reduced precision.
    seconds : float
        What all measuring takes, about.

    Returns
    -------
    Speed

    Raises
    ------
    ExtractError
        For a device or numerics that this machine lacks.
    ImageError
        Where no image can be read.
    """
    device = choose_device(device)
    numerics = fastest_numerics(device) if check_numerics(numerics) == "auto" else numerics
    engines = list(list_engines(backbone, device, numerics, list(taps)))
    size = engines[0].batch_size
    rows = np.resize(np.arange(len(paths)), max(len(paths), size))

    def batches() -> Any:
        decoding = Decoding([backbone.preprocessing], stack_for(device))
        return load_batches(paths, rows, decoding, lambda: size, 0)

    with contextlib.closing(batches()) as first:
        batch = next(first)
    if not batch.pixels:
        raise next(iter(batch.bad.values()))
    share = seconds / (1 + len(engines))
    decode = _rate(share, lambda: sum(len(batch.rows) for batch in batches()))
    forward, start = {}, 0.0
    for engine in engines:
        with engine.running():
            began = time.perf_counter()
            engine(batch.pixels[0])
            start = start or time.perf_counter() - began
            forward[engine.name] = _rate(
                share, partial(_images_run, engine, batch.pixels[0], taps[0])
            )
    return Speed(device, numerics, decode, forward, start)


def made_up_photos(folder: Path) -> list[str]:
    """Write 32 JPEG files with edges and grain like a photo's, 500 x 375 px, the same each time.

    Parameters
    ----------
    folder : Path
        It must be there.

    Returns
    -------
    list of str
        Their paths.
    """
    rng = np.random.default_rng(0)
    paths = []
    for i in range(MADE_UP):
        rough = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize(
            PHOTO, Image.Resampling.BICUBIC
        )
        # wider than a byte while grain is added: uint8 would wrap around
        grain = np.asarray(rough, np.int16) + rng.integers(-12, 13, (*PHOTO[::-1], 3))
        path = folder / f"{i:02}.jpg"
        Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(str(path))
    return paths


def _images_run(engine: Any, pixels: np.ndarray, tap: Tap) -> int:
    return len(engine(pixels)[tap])


def _rate(seconds: float, work: Callable[[], int]) -> float:
    """Images a second that `work`, which says how many it did, gets through."""
    done, began = 0, time.perf_counter()
    while not done or time.perf_counter() - began < seconds:
        done += work()
    return done / (time.perf_counter() - began)


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str:
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    return unused_gpu() or (
        'Apple\'s, with device="mps"' if torch.backends.mps.is_available() else "none"
    )


def _jpeg_library() -> str:
    if features.check_feature("libjpeg_turbo"):
        return f"libjpeg-turbo {features.version_feature('libjpeg_turbo')}"
    return "a libjpeg that is not libjpeg-turbo: install Pillow from PyPI for its speed"
