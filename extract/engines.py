"""The forward pass: which precision and device there are, and a network run up to its deepest tap."""

import contextlib
import copy
from collections import Counter
from dataclasses import dataclass

import numpy as np

from extract.allocator import kept_memory
from extract.errors import ExtractError
from extract.layers import first_tensor, hooked
from extract.pooling import Tap
from extract.preprocessing import Preprocessing


@dataclass(frozen=True)
class Numerics:
    """How the network computes, and in which type its rows are kept.

    Reduced precisions round differently on each kind of device, so each is a numerics of its own.
    """

    name: str
    torch_type: str
    stored: type
    device: str | None = None


DEVICES = ("cpu", "cuda", "mps")
NUMERICS = {
    row.name: row
    for row in (
        Numerics("float32", "float32", np.float32),
        Numerics("bfloat16-torch", "bfloat16", np.float16, "cpu"),
        Numerics("bfloat16-cuda", "bfloat16", np.float16, "cuda"),
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
        raise ExtractError(f"unknown device {name!r}: expected auto, {', '.join(DEVICES)}, or such as cuda:1")
    return name


def choose_device(device: str = "auto") -> str:
    """`auto` -> `cuda` when there is one, else `cpu`; another name is checked."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.partition(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        usable = ", ".join(name for name, is_there in there.items() if is_there)
        raise ExtractError(f"device {device!r} is not on this machine: expected auto or one of {usable}")
    return device


def fastest_numerics(device: str) -> str:
    """bfloat16 where the processor or GPU has it in hardware, else float32."""
    for row in NUMERICS.values():
        if row.torch_type == "bfloat16" and lacks_numerics(row.name, device) is None:
            return row.name
    return "float32"


def lacks_numerics(name: str, device: str) -> str | None:
    """Why this device can't compute in these numerics, or None."""
    row, kind = NUMERICS[name], device.partition(":")[0]
    if row.device not in (None, kind):
        return f"{name} is computed on {row.device}, not on {kind}"
    if row.torch_type == "bfloat16" and not _has_bfloat16(kind):
        return f"this machine's {kind} has no bfloat16 in hardware"
    return None


def _has_bfloat16(kind):
    import torch

    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "amx_tile", "avx512_bf16", "bf16"))


class TorchEngine:
    """Eager torch: norms folded, channels last, in the precision of `numerics`; stops after the deepest tap."""

    name = "torch-eager"

    def __init__(self, backbone, device: str, numerics: str, taps: list[Tap]):
        import torch

        reason = lacks_numerics(numerics, device)
        if reason:
            raise ExtractError(f"numerics {numerics}: {reason}; choose --numerics float32 or auto")
        self._torch, self.device = torch, device
        self._type = getattr(torch, NUMERICS[numerics].torch_type)
        self._card = backbone.card
        for tap in taps:
            self._card.check(tap)
        self._network = self._prepared(backbone, {tap.layer for tap in taps})
        self._scale = _mean_and_std(backbone.preprocessing, torch, device)
        self._taps = tuple(dict.fromkeys(taps))
        self._rows, self._calls = {}, Counter()

    def _prepared(self, backbone, tapped):
        from extract.folding import fold

        pairs = [(conv, norm) for conv, norm in self._card.folds if conv not in tapped]
        network = fold(copy.deepcopy(backbone.network), pairs).to(device=self.device, dtype=self._type)
        return network.to(memory_format=self._torch.channels_last)

    @contextlib.contextmanager
    def running(self):
        """Inside, call the engine on batches; outside, the network carries no hooks of ours."""
        modules = {tap.layer: self._network.get_submodule(tap.layer) for tap in self._taps}
        torch = self._torch
        tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        try:
            kind = self.device.partition(":")[0]
            with (
                kept_memory(),
                hooked(modules, self._note),
                torch.inference_mode(),
                torch.autocast(kind, enabled=False),
            ):
                yield self
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32

    def __call__(self, batch: np.ndarray) -> dict[Tap, np.ndarray]:
        """uint8 (n, height, width, 3), or float (n, 3, height, width) made ready -> rows (n, d) float32 by tap."""
        try:
            return self._run(batch)
        except self._torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        first, second = self(batch[:half]), self(batch[half:])
        return {tap: np.concatenate([first[tap], second[tap]]) for tap in first}

    def _run(self, batch):
        self._rows, self._calls = {}, Counter()
        with contextlib.suppress(_DeepestTapReached):
            self._network(self._as_input(batch))
        rows, self._rows = self._rows, {}
        return {tap: pooled.cpu().numpy() for tap, pooled in rows.items()}

    def _as_input(self, batch):
        tensor = self._torch.from_numpy(batch).to(self.device)
        if tensor.dtype == self._torch.uint8:
            mean, std = self._scale
            tensor = tensor.permute(0, 3, 1, 2).float().sub_(mean).div_(std)
        return tensor.to(self._type, memory_format=self._torch.channels_last)

    def _note(self, layer, _module, _inputs, output):
        self._calls[layer] += 1
        activation = self._card.activations[layer]
        if self._calls[layer] < activation.calls:
            return
        tensor = first_tensor(output).float()
        if tuple(tensor.shape[1:]) != activation.shape:
            raise ExtractError(
                f"layer {layer} gave {tuple(tensor.shape[1:])}, expected {activation.shape}: is a size missing?"
            )
        for tap in self._taps:
            if tap.layer == layer:
                rows = activation.pool(tensor, tap.pooling)
                shared = rows.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
                self._rows[tap] = rows.clone() if shared else rows  # the next module may work in place
        if len(self._rows) == len(self._taps):
            raise _DeepestTapReached


class _DeepestTapReached(Exception):
    """Leaves the network as soon as every tap has its rows: nothing behind the deepest one runs."""


def _mean_and_std(preprocessing, torch, device):
    if not isinstance(preprocessing, Preprocessing):
        return None
    values = torch.tensor([preprocessing.mean, preprocessing.std], device=device) * 255
    return tuple(values[:, None, :, None, None].unbind(0))
