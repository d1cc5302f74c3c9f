"""What fine-tuning tells on the way, and what it found."""

from dataclasses import dataclass

from extract import Tuned
from extract.tuning.training import Epoch
from pipelines.evaluation.ways import Way
from pipelines.outcome import RunResult


@dataclass(frozen=True)
class TuningBegun:
    """The frozen run is over, and its network is about to be trained further."""

    backbone: str
    n_trained: int
    n_validation: int


@dataclass(frozen=True)
class EpochEnded:
    """An epoch of so many is over; the first is the start, before any step."""

    epoch: Epoch
    epochs: int


@dataclass(frozen=True, repr=False)
class TuneResult(RunResult):
    """What a run with fine-tuning found: all of the frozen run, and the ways beside it.

    Attributes
    ----------
    table, found, tested, images
        Of the frozen run, as in `RunResult`.
    classifier : ImageClassifier
        Of the way that is kept.
    results : dict
        What results.json holds: that of the frozen run, `tuning` and `ways`.
    tuned : Tuned
        The network's weights, its new layer and the epochs.
    ways : list of Way
    kept : int
        The place of the way that is kept.
    unlabelled : None
    """

    tuned: Tuned
    ways: list[Way]
    kept: int

    @property
    def way(self) -> Way:
        """The way that is kept."""
        return self.ways[self.kept]

    def __repr__(self) -> str:
        own = self.results["ways"]["rows"][self.kept]
        accuracy = own["test_metrics"]["accuracy"]
        return (
            f"TuneResult({self.results['data']['name']!r}: {own['name']}, test accuracy "
            f"{accuracy['value']:.4f} ({accuracy['low']:.4f} to {accuracy['high']:.4f}))"
        )
