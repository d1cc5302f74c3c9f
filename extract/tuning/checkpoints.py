"""How far a training has come, kept on disk: after a kill it goes on from there."""

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from extract.files import read_sealed, write_sealed
from extract.tuning.training import Epoch, Progress, Trainer

SECONDS = 10.0  # as much work as a kill may lose
TIMES_ITS_WRITING = 20  # what writing takes is at most such a part of all
MOMENTS = ("exp_avg", "exp_avg_sq")
NOW, BEST = "now", "best"


@dataclass
class Checkpoint:
    """The file in which a training's progress is kept.

    path : of the file; what lies there is believed where its checksum is right.
    """

    path: Path
    _written: float = 0.0
    _took: float = 0.0

    @property
    def exists(self) -> bool:
        """Whether something of the training is on the disk."""
        return self.path.is_file()

    def due(self) -> bool:
        """Whether it is time to write again."""
        since = time.monotonic() - self._written
        return since >= max(SECONDS, TIMES_ITS_WRITING * self._took)

    def write(self, trainer: Trainer) -> None:
        """Replace the file by where the trainer is. Raises OSError where it can't be written."""
        from safetensors.torch import save

        began = time.monotonic()
        body = save(_tensors(trainer), {"progress": json.dumps(asdict(trainer.progress))})
        write_sealed(self.path, body)
        self._written = time.monotonic()
        self._took = self._written - began

    def read(self, trainer: Trainer) -> bool:
        """Have the trainer go on from the file; False where there is none that can be believed."""
        self._written = time.monotonic()
        body = read_sealed(self.path)
        if body is None:
            return False
        # a checkpoint is a convenience: without one the training begins anew
        with contextlib.suppress(ValueError, LookupError, TypeError, RuntimeError):
            _put_back(trainer, body)
            return True
        return False

    def remove(self) -> None:
        """What is over needs none."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def _tensors(trainer: Trainer) -> dict[str, Any]:
    """The trained tensors, those of the best epoch, and the optimiser's moments of each."""
    found = {f"{NOW}/{name}": own for name, own in trainer.tensors().items()}
    found |= {f"{BEST}/{name}": own for name, own in trainer.best_tensors.items()}
    for name, parameter in trainer.named().items():
        state = trainer.optimizer.state.get(parameter, {})
        found |= {f"{kind}/{name}": own for kind, own in state.items()}
    return {name: own.contiguous() for name, own in found.items()}


def _put_back(trainer: Trainer, body: bytes) -> None:
    """All of it, or nothing where anything is missing or of another shape."""
    from safetensors.torch import load

    size = int.from_bytes(body[:8], "little")
    values = json.loads(json.loads(body[8 : 8 + size])["__metadata__"]["progress"])
    progress = Progress(**values | {"history": [Epoch(**own) for own in values["history"]]})
    tensors = load(body)
    parameters = trainer.named()
    moments = {name: _moments(tensors, name, own) for name, own in parameters.items()}
    now = {name: tensors[f"{NOW}/{name}"].view_as(own) for name, own in parameters.items()}
    best = {
        name: tensors[f"{BEST}/{name}"].view_as(own).to(trainer.device)
        for name, own in parameters.items()
    }
    trainer.put_back(now)
    trainer.best_tensors = best
    for name, state in moments.items():
        if state:
            trainer.optimizer.state[parameters[name]] = state
    trainer.progress = progress


def _moments(tensors: dict[str, Any], name: str, parameter: Any) -> dict[str, Any]:
    """The optimiser's state of a parameter, in the parameter's own order in memory; none of one
    that was frozen until then."""
    if f"step/{name}" not in tensors:
        return {}
    empty = parameter.detach()
    moments = {kind: empty.clone().copy_(tensors[f"{kind}/{name}"]) for kind in MOMENTS}
    return {"step": tensors[f"step/{name}"], **moments}
