"""Engines that compile the network, cut after its deepest tap, and the choice by measuring."""

import contextlib
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.engines import NUMERICS, TorchEngine, check_there, has_openvino
from extract.errors import ExtractError
from extract.pooling import Tap

log = logging.getLogger(__name__)

GAIN = 0.2  # share of the time that another engine is expected to save
CLOSE = 1e-4  # relative difference up to which rows are float32's of one recipe
FAR = 0.5  # above it rows are wrong: reduced precisions differ by 9 to 18 % where all is well


class CompiledEngine:
    """A network compiled for batches of one size; the last, smaller one is filled up with zeros.

    eager : the TorchEngine that holds the network and its hooks, in whose `running()` this one is
        called.
    """

    name: str
    batch_size: int
    trial_seconds = 0.0

    def __init__(self, eager: TorchEngine, numerics: str) -> None:
        self._eager = eager
        self._type = NUMERICS[numerics].type
        self.taps = eager.taps
        self._call: Callable[[np.ndarray], Sequence] | None = None

    def running(self) -> Any:
        """Inside, call the engine on batches."""
        return _renamed(self._eager.running(), self)

    def __call__(self, batch: np.ndarray) -> dict[Tap, np.ndarray]:
        """As TorchEngine's."""
        return self.start(batch)()

    def start(self, batch: np.ndarray) -> Callable[[], dict[Tap, np.ndarray]]:
        """As TorchEngine's; the first batch is compiled for."""
        parts = [
            self._full(batch[at : at + self.batch_size])
            for at in range(0, len(batch), self.batch_size)
        ]
        if self._call is None:
            make = self._compile if self._type == "float32" else self._checked
            self._call = make(parts[0])
        call = self._call
        rows = [call(part) for part in parts]
        return lambda: {
            tap: np.concatenate([_as_numpy(row[i]) for row in rows])[: len(batch)]
            for i, tap in enumerate(self.taps)
        }

    def _checked(self, part: np.ndarray) -> Callable:
        """`_compile` in reduced precision, where no other engine can take over: faults are said."""
        try:
            call = self._compile(part)
            found = dict(zip(self.taps, map(_as_numpy, call(part)), strict=True))
        # any: a converter raises what its front end, the compiler or the driver does
        except Exception as error:
            raise ExtractError(
                f"{self.name} can't run this network ({_first_line(error)}): "
                'choose numerics="float32"'
            ) from error
        if not (apart := _difference(found, self._eager(part))) <= FAR:
            raise ExtractError(
                f"{self.name} gives other features than torch ({apart:.1e} relative): "
                'choose numerics="float32"'
            )
        return call

    def _full(self, part: np.ndarray) -> np.ndarray:
        missing = self.batch_size - len(part)
        if not missing:
            return part
        return np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])

    def _compile(self, example: np.ndarray) -> Callable[[np.ndarray], Sequence]:
        """-> function from a batch (batch_size, ...) to rows (batch_size, d), one a tap."""
        raise NotImplementedError


class OpenVinoEngine(CompiledEngine):
    """OpenVINO on the CPU, from a trace of the eager network."""

    name = "openvino"
    batch_size = 16

    def _compile(self, example: np.ndarray) -> Callable[[np.ndarray], Sequence]:
        import openvino
        import torch
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        with warnings.catch_warnings():
            # tracing warns that sizes become constants: the batch's shape is fixed, so they are
            warnings.simplefilter("ignore")
            images = torch.from_numpy(example)
            traced = torch.jit.trace(self._eager.forward, images, check_trace=False)
            # openvino.convert_model does this too, in four times as long, and reports to its maker
            frontend = FrontEndManager().load_by_framework("pytorch")
            decoder = TorchScriptPythonDecoder(traced, example_input=images)
            model = frontend.convert(frontend.load(decoder))
        model.reshape(list(example.shape))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": OPENVINO_TYPES[self._type],
        }
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

        def call(batch: np.ndarray) -> Sequence:
            found = request.infer([batch], share_inputs=True)
            return [found[i] for i in range(len(self.taps))]

        return call


OPENVINO_TYPES = {"float32": "f32", "bfloat16": "bf16"}


class TorchCompileEngine(CompiledEngine):
    """torch.compile of the operators that ran, the weights frozen into the code on a CPU."""

    name = "torch-compile"

    @property
    def batch_size(self) -> int:  # type: ignore[override]  # the eager's own, halved by lack of memory
        return self._eager.batch_size

    def _compile(self, example: np.ndarray) -> Callable[[np.ndarray], Sequence]:
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        with _gradless():
            graph = make_fx(lambda images: self._eager.forward(images))(
                self._eager.on_device(example)
            )
            compiled = torch.compile(graph, options={"freezing": self._eager.device == "cpu"})

        def call(batch: np.ndarray) -> Sequence:
            with _gradless():
                return compiled(self._eager.on_device(batch))

        return call


@contextlib.contextmanager
def _gradless() -> Iterator[None]:
    """No gradients, yet ordinary tensors: the compiler takes none of inference mode's."""
    import torch

    with torch.inference_mode(False), torch.no_grad():
        yield


@contextlib.contextmanager
def _renamed(context: Any, engine: Any) -> Iterator[None]:
    with context:
        yield engine


def _as_numpy(rows: Any) -> np.ndarray:
    return rows if isinstance(rows, np.ndarray) else rows.cpu().numpy()


@dataclass(frozen=True)
class EngineCandidate:
    """An engine that may compute some numerics faster, once started.

    start_seconds: what converting or compiling usually takes. there: whether this machine has what
    it needs.
    """

    make: type[CompiledEngine]
    numerics: tuple[str, ...]
    devices: tuple[str, ...]
    start_seconds: float
    there: Callable[[], bool]


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in ("g++", "clang++", "cl"))


CANDIDATES = (
    EngineCandidate(OpenVinoEngine, ("float32", "bfloat16-openvino"), ("cpu",), 1.0, has_openvino),
    # not on a CPU: measured there, it is rarely a tenth faster and takes 10 to 30 s to start
    EngineCandidate(
        TorchCompileEngine, ("float32", "bfloat16-cuda-compiled"), ("cuda",), 30.0, _has_compiler
    ),
)


class MeasuredEngine:
    """Eager torch from the first image on, and another engine once it was measured to be faster.

    One is tried where a gain of a fifth on the images left would pay for its start. Rows that
    differ by more than 1e-4 relative from eager torch's, and a network it can't run, rule it out.
    """

    def __init__(
        self, eager: TorchEngine, numerics: str, candidates: Sequence[EngineCandidate], images: int
    ) -> None:
        self._eager = eager
        self._engine: Any = eager
        self._numerics = numerics
        self._candidates = list(candidates)
        self._left = images
        self._warm = False
        self.trial_seconds = 0.0

    @property
    def name(self) -> str:
        """Of the engine that runs now."""
        return self._engine.name

    def running(self) -> Any:
        """Inside, call the engine on batches."""
        return _renamed(self._eager.running(), self)

    def __call__(self, batch: np.ndarray) -> dict[Tap, np.ndarray]:
        """As TorchEngine's."""
        return self.start(batch)()

    def start(self, batch: np.ndarray) -> Callable[[], dict[Tap, np.ndarray]]:
        """As TorchEngine's, which is waited for as long as there is something to measure."""
        self._left -= len(batch)
        if not self._candidates:
            return self._engine.start(batch)
        began = time.perf_counter()
        rows = self._engine(batch)
        seconds = time.perf_counter() - began
        if self._warm:
            candidate = self._candidates.pop(0)
            if GAIN * seconds / len(batch) * self._left > candidate.start_seconds:
                self._try(candidate, batch, rows, seconds)
            self.trial_seconds += time.perf_counter() - began - seconds
        self._warm = True
        return lambda: rows

    def _try(
        self, candidate: "EngineCandidate", batch: np.ndarray, rows: dict, seconds: float
    ) -> None:
        engine = candidate.make(self._eager, self._numerics)
        try:
            found = engine(batch)
            began = time.perf_counter()
            engine(batch)
            spent = time.perf_counter() - began
        # any, as above; the pass goes on without it
        except Exception as error:
            log.warning(
                "%s can't run this network (%s): it stays with torch",
                engine.name,
                _first_line(error),
            )
            return
        apart = _difference(found, rows)
        log.info(
            "%s: %.1f images/s against %.1f, %.1e apart",
            engine.name,
            len(batch) / spent,
            len(batch) / seconds,
            apart,
        )
        if not apart <= CLOSE:
            log.warning(
                "%s gives other features (%.1e relative): it stays with torch", engine.name, apart
            )
        elif spent < seconds:
            self._engine = engine
            self._candidates = []


def _difference(found: Mapping[Tap, np.ndarray], rows: Mapping[Tap, np.ndarray]) -> float:
    """The largest relative difference of a tap's rows; NaN where there is one."""
    return np.max(
        [np.linalg.norm(found[tap] - rows[tap]) / (np.linalg.norm(rows[tap]) or 1) for tap in rows]
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def start_engine(backbone: Any, device: str, numerics: str, taps: list[Tap], images: int) -> Any:
    """The engine for a pass over so many images; ExtractError for numerics not there."""
    eager, candidates = _eager_and_candidates(backbone, device, numerics, taps)
    if NUMERICS[numerics].engine is None:
        return MeasuredEngine(eager, numerics, candidates, images)
    return candidates[0].make(eager, numerics)


def list_engines(backbone: Any, device: str, numerics: str, taps: list[Tap]) -> list:
    """Every engine that computes these numerics here, sharing a network; ExtractError for none."""
    eager, candidates = _eager_and_candidates(backbone, device, numerics, taps)
    engines = [row.make(eager, numerics) for row in candidates]
    return [eager, *engines] if NUMERICS[numerics].engine is None else engines


def _eager_and_candidates(
    backbone: Any, device: str, numerics: str, taps: Sequence[Tap]
) -> tuple[Any, list]:
    kind = device.partition(":")[0]
    wanted = NUMERICS[numerics].engine
    check_there(numerics, device)
    usable = [
        row
        for row in CANDIDATES
        if numerics in row.numerics and kind in row.devices and row.there()
    ]
    if wanted and not usable:
        raise ExtractError(
            f'numerics {numerics}: no C++ compiler is found; choose numerics="float32" or auto'
        )
    # OpenVINO reduces the precision itself, of the float32 network that it is given
    traced = "float32" if wanted == "openvino" else numerics
    return TorchEngine(backbone, device, traced, taps), usable
