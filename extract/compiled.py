"""Engines that compile the network, cut after its deepest tap, and the choice by measuring."""

import contextlib
import importlib
import logging
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from extract.cores import cores, share
from extract.engines import (
    NUMERICS,
    TorchEngine,
    check_there,
    fetching,
    has_openvino,
    joined,
    to_device,
)
from extract.errors import ExtractError, is_out_of_memory
from extract.pooling import Tap

log = logging.getLogger(__name__)

GAIN = 0.2  # share of the time that another engine is expected to save
CLOSE = 1e-4  # relative difference up to which rows are float32's of one recipe
MOST_LEFT = 2  # compiled networks that stay ready: of an explanation's features and of its maps
FAR = 0.5  # above it rows are wrong: reduced precisions differ by 9 to 18 % where all is well


@dataclass(frozen=True)
class Known:
    """What earlier passes over batches of one kind leave to the next.

    call: the compiled network, or None. is_faster: as it was measured. is_usable: whether it ran
    and gave the same rows. images: how many went through without it.
    """

    call: Callable[[np.ndarray], Sequence] | None = None
    is_faster: bool = False
    is_usable: bool = True
    images: int = 0


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
        self._numerics = numerics
        self._type = NUMERICS[numerics].type
        self.taps = eager.taps
        self._key: tuple = ()
        self.known = Known()

    @contextlib.contextmanager
    def running(self) -> Iterator["CompiledEngine"]:
        """Inside, call the engine on batches."""
        with self._eager.running():
            yield self
        self.leave()

    def resume(self, batch: np.ndarray) -> Known:
        """What earlier passes found out for such batches, the compiled network among it."""
        if not self._key:
            self._key = self._key_of(batch)
            self.known = self._eager.take(("compiled", *self._key)) or self.known
        return self.known

    def _key_of(self, batch: np.ndarray) -> tuple:
        part = (self.batch_size, *batch.shape[1:])
        # it is compiled for a number of threads too
        return type(self), self._numerics, self.taps, part, batch.dtype.str, cores()

    def leave(self) -> None:
        """Leave what is known to the next pass; the compiled network is not this engine's then."""
        if self._key:
            self._eager.leave(("compiled", *self._key), self.known, MOST_LEFT)
        self._key, self.known = (), Known()

    def __call__(self, batch: np.ndarray) -> dict[Tap, np.ndarray]:
        """As TorchEngine's."""
        return self.start(batch)()

    def start(self, batch: np.ndarray) -> Callable[[], dict[Tap, np.ndarray]]:
        """As TorchEngine's; the first batch is compiled for."""
        call = self.resume(batch).call or self._first_call(batch)
        parts = [
            fetching(call(self._full(batch[at : at + self.batch_size])))
            for at in range(0, len(batch), self.batch_size)
        ]
        return lambda: {tap: rows[: len(batch)] for tap, rows in joined(self.taps, parts).items()}

    def _first_call(self, batch: np.ndarray) -> Callable[[np.ndarray], Sequence]:
        """Compile for a batch, or for half of it where the device's memory is full."""
        make = self._compile if self._type == "float32" else self._checked
        while True:
            size = self.batch_size
            try:
                call = make(self._full(batch[:size]))
            except (RuntimeError, ExtractError) as error:
                cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
                if not (is_out_of_memory(cause) and self._halve()):
                    raise
            if size == self.batch_size:  # comparing with eager torch may have halved it
                self.known, self._key = replace(self.known, call=call), self._key_of(batch)
                return call

    def _halve(self) -> bool:
        """Take half the images at a time; False where that can't be."""
        return False

    def _checked(self, part: np.ndarray) -> Callable:
        """`_compile` in reduced precision, where no other engine can take over: faults are said."""
        try:
            call = self._compile(part)
            found = dict(zip(self.taps, fetching(call(part))(), strict=True))
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
        import torch

        openvino = _openvino()
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
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": OPENVINO_TYPES[self._type],
        }
        if (own := share()) is not None:  # else it would take its neighbours' as well
            settings["INFERENCE_NUM_THREADS"] = own
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        n_taps = len(self.taps)  # what is left to the next pass must not hold this engine

        def call(batch: np.ndarray) -> Sequence:
            found = request.infer([batch], share_inputs=True)
            return [found[i] for i in range(n_taps)]

        return call


def _openvino() -> Any:
    """The package, without the message that its import sends to its maker over the network."""
    telling = "openvino_telemetry"
    before = sys.modules.get(telling)
    sys.modules[telling] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        return importlib.import_module("openvino")
    finally:
        sys.modules.pop(telling)
        if before is not None:
            sys.modules[telling] = before


OPENVINO_TYPES = {"float32": "f32", "bfloat16": "bf16"}


class TorchCompileEngine(CompiledEngine):
    """torch.compile of the operators that ran, the weights frozen into the code on a CPU."""

    name = "torch-compile"

    @property
    def batch_size(self) -> int:  # type: ignore[override]  # the eager's own, halved by lack of memory
        return self._eager.batch_size

    def _halve(self) -> bool:
        if self._eager.batch_size == 1:
            return False
        self._eager.batch_size //= 2
        return True

    def _compile(self, example: np.ndarray) -> Callable[[np.ndarray], Sequence]:
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        with _gradless():
            graph = make_fx(lambda images: self._eager.forward(images))(
                to_device(example, self._eager.device)
            )
            compiled = torch.compile(graph, options={"freezing": self._eager.device == "cpu"})
        device = self._eager.device  # alone, as above

        def call(batch: np.ndarray) -> Sequence:
            with _gradless():
                return compiled(to_device(batch, device))

        return call


@contextlib.contextmanager
def _gradless() -> Iterator[None]:
    """No gradients, yet ordinary tensors: the compiler takes none of inference mode's."""
    import torch

    with torch.inference_mode(False), torch.no_grad():
        yield


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
    What was found out is left to the backbone's next pass, which runs the faster engine at once.
    """

    def __init__(
        self, eager: TorchEngine, numerics: str, candidates: Sequence[EngineCandidate], images: int
    ) -> None:
        self._eager = eager
        self._engine: Any = eager
        self._numerics = numerics
        self._candidates = [(row, row.make(eager, numerics)) for row in candidates]
        self._all = [engine for _, engine in self._candidates]
        self._left = images
        self._eager_images = 0
        self._warm = False
        self.trial_seconds = 0.0

    @property
    def name(self) -> str:
        """Of the engine that runs now."""
        return self._engine.name

    @contextlib.contextmanager
    def running(self) -> Iterator["MeasuredEngine"]:
        """Inside, call the engine on batches."""
        with self._eager.running():
            yield self
        for engine in self._all:
            images = engine.known.images + self._eager_images
            engine.known = replace(engine.known, images=images)
            engine.leave()

    def __call__(self, batch: np.ndarray) -> dict[Tap, np.ndarray]:
        """As TorchEngine's."""
        return self.start(batch)()

    def start(self, batch: np.ndarray) -> Callable[[], dict[Tap, np.ndarray]]:
        """As TorchEngine's, which is waited for as long as there is something to measure."""
        if not self._warm:
            self._resume(batch)
        self._left -= len(batch)
        if not self._candidates:
            return self._engine.start(batch)
        began = time.perf_counter()
        rows = self._engine(batch)
        seconds = time.perf_counter() - began
        self._eager_images += len(batch)
        if self._warm:
            candidate, engine = self._candidates.pop(0)
            start_seconds = candidate.start_seconds if engine.known.call is None else 0.0
            # passes over parts of a whole go on for about as long as they have gone on
            ahead = self._left + engine.known.images
            if engine.known.is_usable and GAIN * seconds / len(batch) * ahead > start_seconds:
                self._try(engine, batch, rows, seconds)
            self.trial_seconds += time.perf_counter() - began - seconds
        self._warm = True
        return lambda: rows

    def _resume(self, batch: np.ndarray) -> None:
        """Go on with what was faster in an earlier pass; few images are not filled up for it."""
        for engine in self._all:
            if engine.resume(batch).is_faster and self._left >= engine.batch_size:
                self._engine, self._candidates = engine, []
                return

    def _try(self, engine: CompiledEngine, batch: np.ndarray, rows: dict, seconds: float) -> None:
        try:
            found = engine(batch)
            began = time.perf_counter()
            engine(batch)
            spent = time.perf_counter() - began
        # any, as above; the pass goes on without it
        except Exception as error:
            engine.known = Known(is_usable=False)
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
            engine.known = Known(is_usable=False)
            log.warning(
                "%s gives other features (%.1e relative): it stays with torch", engine.name, apart
            )
            return
        engine.known = replace(engine.known, is_faster=spent < seconds)
        if spent < seconds:
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
