"""Precisions and devices there are, and a network run by torch up to its deepest tap."""

import contextlib
import copy
import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from extract.allocator import kept_memory
from extract.cores import one_thread, threads_for
from extract.errors import ExtractError, is_out_of_memory, too_large
from extract.layers import first_tensor, hooked
from extract.pooling import Tap
from extract.preprocessing import Preprocessing


@dataclass(frozen=True)
class Numerics:
    """How the network computes, and in which type its rows are kept.

    Reduced precisions round differently in each engine and on each kind of device, so each is a
    numerics of its own.
    """

    name: str
    type: str
    stored: Any  # numpy's type of the rows that are kept
    device: str | None = None
    engine: str | None = None


CPU_BATCH, GPU_BATCH = 32, 256
LARGEST_LEFT = 1 << 26  # weights of a network that stays ready between passes
GPU_SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidia0")
DEVICES = ("cpu", "cuda", "mps")
NUMERICS = {
    row.name: row
    for row in (
        Numerics("float32", "float32", np.float32),
        Numerics("bfloat16-torch", "bfloat16", np.float16, "cpu"),
        Numerics("bfloat16-openvino", "bfloat16", np.float16, "cpu", "openvino"),
        Numerics("bfloat16-cuda", "bfloat16", np.float16, "cuda"),
        Numerics("bfloat16-cuda-compiled", "bfloat16", np.float16, "cuda", "torch-compile"),
    )
}


def check_numerics(name: str) -> str:
    """The name if it is `auto` or known; else ExtractError."""
    if name != "auto" and name not in NUMERICS:
        raise ExtractError(f"unknown numerics {name!r}: expected auto, {', '.join(NUMERICS)}")
    return name


def check_device(name: str) -> str:
    """The name if it could be a device on some machine; else ExtractError."""
    if name.partition(":")[0] not in ("auto", *DEVICES):
        raise ExtractError(
            f"unknown device {name!r}: expected auto, {', '.join(DEVICES)}, or such as cuda:1"
        )
    return name


def choose_device(device: str = "auto") -> str:
    """`auto` -> `cuda` when there is one, else `cpu`; another name is checked."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.partition(":")[0]
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(kind, False):
        usable = ", ".join(name for name, is_there in there.items() if is_there)
        raise ExtractError(
            f"device {device!r} is not on this machine: expected auto or one of {usable}"
        )
    number = device.partition(":")[2]
    if kind == "cuda" and number and not number.isdecimal():
        raise ExtractError(f"device {device!r}: expected a number behind the colon, as in cuda:1")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise ExtractError(
            f"device {device!r} is not on this machine: it has {torch.cuda.device_count()}, "
            "counted from cuda:0"
        )
    return device


def fastest_numerics(device: str) -> str:
    """bfloat16 where it is there in hardware, else float32; never what compiles for long.

    On a core with AMX OpenVINO's bfloat16 is the fastest, on one with AVX512-BF16 alone torch's.
    """
    names = ["bfloat16-cuda", "bfloat16-torch"]
    if device == "cpu" and capabilities().get("amx_bf16", False):
        names.insert(0, "bfloat16-openvino")
    return next((name for name in names if lacks_numerics(name, device) is None), "float32")


def numerics_there(device: str) -> tuple[str, list[str]]:
    """The fastest numerics of this machine's device, and all that it has."""
    device = choose_device(device)
    return fastest_numerics(device), [n for n in NUMERICS if lacks_numerics(n, device) is None]


def lacks_numerics(name: str, device: str) -> str | None:
    """Why this device can't compute in these numerics, or None."""
    row, kind = NUMERICS[name], device.partition(":")[0]
    if row.device not in (None, kind):
        return f"{name} is computed on {row.device}, not on {kind}"
    if row.engine == "openvino" and not has_openvino():
        return 'openvino is not installed (pip install "permafrost[fast]")'
    if row.type == "bfloat16" and not has_bfloat16(kind):
        return f"this machine's {kind} has no bfloat16 in hardware"
    return None


def check_there(name: str, device: str) -> None:
    """ExtractError where this device can't compute in these numerics."""
    reason = lacks_numerics(name, device)
    if reason:
        raise ExtractError(f'numerics {name}: {reason}; choose numerics="float32" or auto')


def has_openvino() -> bool:
    """Whether OpenVINO, of the extra `[fast]`, is installed."""
    return importlib.util.find_spec("openvino") is not None


def unused_gpu() -> str | None:
    """One line about an NVIDIA GPU that is there and that torch can't use, or None."""
    import torch

    if not any(Path(sign).exists() for sign in GPU_SIGNS) or torch.cuda.is_available():
        return None
    return (
        f"this machine has an NVIDIA GPU that torch {torch.__version__} can't use, "
        "and everything runs on the processor: "
        "install a torch with CUDA, or update the driver (nvidia-smi shows it)"
    )


def capabilities() -> dict:
    """The processor's vector units by name, as torch finds them."""
    import torch

    return torch.cpu.get_capabilities()


def has_bfloat16(device: str) -> bool:
    """Whether the device has bfloat16 in hardware."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(
        capabilities().get(name, False) for name in ("amx_bf16", "amx_tile", "avx512_bf16", "bf16")
    )


class TorchEngine:
    """Eager torch: norms fused, channels last, in these numerics; stops after the deepest tap."""

    name = "torch-eager"
    trial_seconds = 0.0  # what trying another engine took of its calls

    def __init__(self, backbone: Any, device: str, numerics: str, taps: Sequence[Tap]) -> None:
        import torch

        check_there(numerics, device)
        self._torch = torch
        self.device = device
        self._type = getattr(torch, NUMERICS[numerics].type)
        self._card = backbone.card
        for tap in taps:
            self._card.check(tap)
        tapped = {tap.layer for tap in taps}
        self._backbone = backbone
        self._pairs = tuple((conv, norm) for conv, norm in self._card.folds if conv not in tapped)
        self.network = self._take()
        self._is_left = False
        self._scale = mean_and_std(backbone.preprocessing, device)
        self.taps = tuple(dict.fromkeys(taps))
        self.batch_size = GPU_BATCH if device.startswith("cuda") else CPU_BATCH
        self._rows: dict[Tap, Any] = {}
        self._calls: Counter[str] = Counter()
        self._n_images = 0

    def _take(self) -> Any:
        """The network made ready, this engine's alone: one that was left, or a new copy."""
        ready = self.take(self._left_as())
        if ready is None:
            with one_thread():
                ready = self._prepared()
        return ready

    def _leave(self) -> None:
        """Leave the network to whoever runs it next, unless it is large; the last one is held."""
        self._is_left = True
        self.leave(self._left_as(), self.network, most=1)

    def _left_as(self) -> tuple:
        return "network", self.device, self._type, self._pairs

    def leave(self, key: tuple, made: Any, most: int) -> None:
        """Keep what was made of the network as long as the backbone, for whoever runs it next.

        Nothing of a large network is kept, and of one kind, the key's first part, the last `most`.
        """
        ready = self._backbone.ready
        if sum(parameter.numel() for parameter in self.network.parameters()) > LARGEST_LEFT:
            return
        ready.pop(key, None)
        alike = [other for other in list(ready) if other[0] == key[0]]
        for other in alike[: len(alike) + 1 - most]:
            ready.pop(other, None)
        ready[key] = made

    def take(self, key: tuple) -> Any:
        """What was left under this key, from now on the caller's alone, or None."""
        return self._backbone.ready.pop(key, None)

    def _prepared(self) -> Any:
        from extract.fusing import fuse

        # fused in float32, then reduced: the products would be rounded twice the other way round
        network = fuse(copy.deepcopy(self._backbone.network), self._pairs)
        network = network.to(device=self.device, dtype=self._type)
        # the layout in which convolutions are fastest, on processors as on GPUs
        return network.to(memory_format=self._torch.channels_last)

    @contextlib.contextmanager
    def running(self) -> Iterator["TorchEngine"]:
        """Inside, call the engine on batches; outside, the network carries no hooks of ours."""
        if self._is_left:  # another may run it by now
            self.network, self._is_left = self._take(), False
        modules = {tap.layer: self.network.get_submodule(tap.layer) for tap in self.taps}
        torch = self._torch
        kind = self.device.partition(":")[0]
        with (
            whole_float32(),
            kept_memory(),
            hooked(modules, self._note),
            torch.inference_mode(),
            torch.autocast(kind, enabled=False),  # the caller's may be on around us
        ):
            yield self
        self._leave()

    def __call__(self, batch: np.ndarray) -> dict[Tap, np.ndarray]:
        """uint8 (n, h, w, 3), or float (n, 3, h, w) made ready -> rows (n, d) float32 by tap."""
        return self.start(batch)()

    def start(self, batch: np.ndarray) -> Callable[[], dict[Tap, np.ndarray]]:
        """Hand the batch to the device -> what waits for its rows; a GPU works meanwhile."""
        parts: list[Callable[[], list[np.ndarray]]] = []
        at = 0
        while at < len(batch):
            part = batch[at : at + self.batch_size]
            try:
                parts.append(self._run(part))
                at += len(part)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    shape = part.shape[1:3] if part.dtype == np.uint8 else part.shape[2:]
                    raise too_large(*shape) from error
                self.batch_size = len(part) // 2
        return lambda: joined(self.taps, parts)

    def _run(self, batch: np.ndarray) -> Callable[[], list[np.ndarray]]:
        with threads_for(self.network, len(batch)):
            return fetching(self.forward(to_device(batch, self.device)))

    def forward(self, images: Any) -> tuple:
        """A batch on the device -> for each tap a tensor of rows (n, d), float32, there."""
        self._rows = {}
        self._calls = Counter()
        self._n_images = len(images)
        with contextlib.suppress(DeepestTapReached):
            self.network(self._as_input(images))
        rows, self._rows = self._rows, {}
        return tuple(rows[tap] for tap in self.taps)

    def _as_input(self, images: Any) -> Any:
        if images.dtype == self._torch.uint8:
            images = made_ready(images, self._scale)
        return images.to(self._type, memory_format=self._torch.channels_last)

    def _note(self, layer: str, _module: Any, _inputs: tuple, output: Any) -> None:
        self._calls[layer] += 1
        activation = self._card.activations[layer]
        if self._calls[layer] < activation.calls:
            return
        # pooled in float32: a sum over a map loses most of a bfloat16's 8 bits
        tensor = first_tensor(output, self._n_images).float()
        if tuple(tensor.shape[1:]) != activation.shape:
            raise ExtractError(
                f"layer {layer} gave {tuple(tensor.shape[1:])}, expected {activation.shape}: "
                "is a size missing?"
            )
        for tap in self.taps:
            if tap.layer == layer:
                # a pooling may give a view, and the next module may work in place
                self._rows[tap] = activation.pool(tensor, tap.pooling).clone()
        if len(self._rows) == len(self.taps):
            raise DeepestTapReached


class DeepestTapReached(Exception):
    """Leaves the network as soon as every tap has its rows: nothing behind the deepest one runs."""


def mean_and_std(preprocessing: Any, device: str) -> Any:
    """What uint8 pixels are made ready with, by channel; None of a preprocessing of one's own."""
    import torch

    if not isinstance(preprocessing, Preprocessing):
        return None
    values = torch.tensor([preprocessing.mean, preprocessing.std], device=device) * 255
    return tuple(values[:, None, :, None, None].unbind(0))


def made_ready(pixels: Any, scale: Any) -> Any:
    """uint8 (n, height, width, 3) -> (n, 3, height, width) less the mean, by the std.

    In float32 whatever the network's type, so that every numerics sees the same input.

    scale : as of `mean_and_std`.
    """
    mean, std = scale
    return pixels.permute(0, 3, 1, 2).float().sub_(mean).div_(std)


@contextlib.contextmanager
def whole_float32() -> Iterator[None]:
    """No TF32 within: it keeps 10 bits of a float32's 23, and its rows were of another recipe."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    newer = [(part, part.fp32_precision) for part in (matmul, cudnn.conv, cudnn.rnn)]
    older: list[tuple[Any, bool]] = []
    # torch refuses its older names where a caller has set the newer alone; both, as what asks for
    # the older within, a compiler say, would be refused where they differ
    with contextlib.suppress(RuntimeError):
        older = [(part, part.allow_tf32) for part in (matmul, cudnn)]
    for part, _ in older:
        part.allow_tf32 = False
    for part, _ in newer:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, allowed in older:
            part.allow_tf32 = allowed
        for part, precision in newer:
            part.fp32_precision = precision


def to_device(batch: np.ndarray, device: str) -> Any:
    """The batch as a tensor on the device, of the type it came in.

    To a GPU it is copied on a stream of its own, while the network runs on the batch before it.
    """
    import torch

    images = torch.from_numpy(batch)
    if not device.startswith("cuda"):
        return images.to(device, non_blocking=True)
    copying, computing = _copy_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copying):
        there = images.to(device, non_blocking=True)
    computing.wait_stream(copying)
    there.record_stream(computing)  # its memory is not given to another copy before it was used
    return there


@cache
def _copy_stream(device: str) -> Any:
    import torch

    return torch.cuda.Stream(device)


def fetching(rows: Sequence[Any]) -> Callable[[], list[np.ndarray]]:
    """Have rows copied from the device as soon as they are there -> what waits for these alone.

    Asked for later, the copy would wait behind the batch that was started meanwhile.
    """
    import torch

    if not any(isinstance(row, torch.Tensor) and row.is_cuda for row in rows):
        return lambda: [row if isinstance(row, np.ndarray) else row.cpu().numpy() for row in rows]
    copies = [row.to("cpu", non_blocking=True) for row in rows]
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(rows[0].device))

    def wait() -> list[np.ndarray]:
        done.synchronize()
        return [copy.numpy() for copy in copies]

    return wait


def joined(
    taps: Sequence[Tap], parts: Sequence[Callable[[], list[np.ndarray]]]
) -> dict[Tap, np.ndarray]:
    """The rows of a batch that went through in parts, by tap, waited for."""
    found = [part() for part in parts]
    return {tap: np.concatenate([rows[i] for rows in found]) for i, tap in enumerate(taps)}


def stack_for(device: str) -> Callable:
    """`np.stack`; for a GPU into memory that it copies from by itself meanwhile."""
    if not device.startswith("cuda"):
        return np.stack

    def stack(images: Sequence[np.ndarray]) -> Any:
        import torch

        kind = torch.from_numpy(images[0]).dtype
        buffer = torch.empty((len(images), *images[0].shape), dtype=kind, pin_memory=True)
        return np.stack(images, out=buffer.numpy())

    return stack
