"""What fine-tuning is asked for: the options of a run, and how its network is trained further."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from extract.tuning.settings import CHECKS, Tuning
from pipelines.errors import WrongSetting
from pipelines.settings import RunSettings

if TYPE_CHECKING:
    from data import Samples

# by field of Tuning the option where that has another name: a run's views are others
OPTION_OF = {"views": "kept_views"}


@dataclass(frozen=True)
class TuneSettings(RunSettings):
    """Every option of `python -m pipelines.tune`, under the same names.

    Parameters
    ----------
    backbone, weights, layers, pooling, size, numerics, device, cache, seed, intensity
    page, channels, class_level, on, within, test, labels, split, heads, cv, groups
    duplicates, views, baselines, thorough, scoring, class_weight, report, max_bad, out
        Of the frozen run, as in `RunSettings`; of backbones one.
    final : {"train"}
        What is kept is what was tested.
    augmented : {0}
        The ways are compared by heads that are trained on the images as they are.
    average_views : {False}
        Without random views there is no mean over them.
    unlabelled, target_labels : {None}
        Images without labels are tried by `run` alone.
    choose : {"best", "simplest"}
        Which row of the frozen run, and which of the ways, as in
        `pipelines.evaluation.ways.choose_way`: both joined unless that is beaten beyond chance, or
        the simplest that is not.
    unfreeze, rates, epochs, batch, schedule, warmup, weight_decay, augment, mixup, smoothing
    dropout, average, patience, precision, source
        How the network is trained further, as in `extract.Tuning`; of a network with no more
        blocks than the default depth, all but the first are trained.
    kept_views : int
        How many random views of each image are kept; 0 takes a fresh one in every epoch: `views` of
        `extract.Tuning`.
    validation : float
        Share of the training images that the network is not trained on: they say which epoch's
        weights are taken, how the ways are joined, and which is kept.

    Examples
    --------
    >>> settings = TuneSettings(unfreeze="gradual", rates=(2, 4, 6), kept_views=4)
    >>> settings.tuning.views, settings.views
    (4, 'auto')
    """

    unfreeze: int | str = Tuning.unfreeze
    rates: tuple[float, ...] = Tuning.rates
    epochs: int = Tuning.epochs
    batch: int = Tuning.batch
    schedule: str = Tuning.schedule
    warmup: float = Tuning.warmup
    weight_decay: float = Tuning.weight_decay
    augment: str = Tuning.augment
    kept_views: int = Tuning.views
    mixup: float = Tuning.mixup
    smoothing: float = Tuning.smoothing
    dropout: float = Tuning.dropout
    average: bool = Tuning.average
    patience: int = Tuning.patience
    precision: str = Tuning.precision
    source: str = Tuning.source
    validation: float = 0.2

    @property
    def tuning(self) -> Tuning:
        """How the network is trained further."""
        names = (own.name for own in fields(Tuning))
        return Tuning(**{name: getattr(self, OPTION_OF.get(name, name)) for name in names})

    def check(self, samples: "Samples") -> None:
        """Refuse before the frozen run what would fail after it, as `RunSettings.check` does."""
        self.check_tuning()
        super().check(samples)

    def check_tuning(self) -> None:
        """Raise WrongSetting for the first of the options of tuning that can't be used."""
        if len(self.backbones) != 1 or self.chooses_networks:
            given = ",".join(str(getattr(own, "name", own)) for own in self.backbones)
            raise WrongSetting("backbone", given, "expected the name of one network to tune")
        if self.augmented:
            raise WrongSetting(
                "augmented",
                self.augmented,
                "expected 0: the ways are compared by heads on the images as they are",
            )
        if self.unlabelled is not None:
            raise WrongSetting(
                "unlabelled", self.unlabelled, "expected none: a run without tuning tries them"
            )
        if self.target_labels is not None:
            raise WrongSetting(
                "target_labels", self.target_labels, "expected none, as of --unlabelled"
            )
        if self.final != "train":
            raise WrongSetting(
                "final", self.final, "expected train: what is kept is what is tested"
            )
        if not 0 < self.validation < 1:
            raise WrongSetting(
                "validation", self.validation, "expected a share of the training images in (0, 1)"
            )
        for name, (is_right, expected) in CHECKS.items():
            option = OPTION_OF.get(name, name)
            value = getattr(self, option)
            if not is_right(value):
                # as it is typed
                is_list = name == "rates" and isinstance(value, tuple | list)
                given = ":".join(map(str, value)) if is_list else value
                raise WrongSetting(option, given, f"expected {expected}")
