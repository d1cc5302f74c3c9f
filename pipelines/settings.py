"""What a run is asked for: every option with its default and its check."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import ExtractError
from pipelines.errors import WrongCall, WrongSetting

if TYPE_CHECKING:
    from data import Reading, Samples
    from extract import Backbone

CHOICES = {
    "choose": ("best", "simplest"),
    "duplicates": ("group", "drop", "keep"),
    "class_weight": (None, "balanced"),
    "final": ("train", "all"),
}


AUTO = "auto"
MOST_AUGMENTED = 100  # views: features take so many times the room
MOST_AVERAGED = 11  # beside the plain one: a bundle holds 256 heads, a blend has 20 or fewer
# what is asked of how files are read, and what it may be
READINGS = {
    "intensity": "auto, full, or LOW:HIGH with LOW below HIGH, such as 0:4095",
    "page": "a whole number, 1 for the first page",
    "channels": "1 or 3 numbers of bands, 0 for the first, such as 0,2,1",
}


@dataclass(frozen=True)
class FeatureSettings:
    """Which features of the images are computed, how, and where they are kept.

    Parameters
    ----------
    backbone : str, Backbone or sequence of such
        Names as `load_backbone` takes them, `a,b` for several.
    weights : str or None
        As in `load_backbone`; None takes the backbone's own.
    layers : str
        "auto", "all", or names separated by commas.
    pooling : str or sequence of str
        Poolings of every layer that names none itself.
    size : int or None
        Side in pixels of what the network sees; None is the weights' own, 96 for the digits.
    numerics, device : str
        As in `FeatureExtractor`.
    cache : path or None
        Where features are kept; None is the platform's folder for it.
    seed : int
        Of random weights, of the held-out split and of the folds.
    intensity, page, channels
        How files become RGB images, as in `data.settle_reading`; `intensity="auto"` finds one range
        over the images but a given test part.
    class_level : int or None
        How deep the class folders lie, as in `read_image_folder`.
    on : str or None
        `ray` or `ray://HOST:PORT`, whose workers compute the features; None is this process.
    """

    backbone: "str | Backbone | Sequence[str | Backbone]" = "mobilenet_v2"
    weights: str | None = None
    layers: str = "auto"
    pooling: str | Sequence[str] = ("avg", "grid3")
    size: int | None = None
    numerics: str = "auto"
    device: str = "auto"
    cache: str | Path | None = None
    seed: int = 0
    intensity: str | tuple[float, float] | None = "auto"
    page: int = 1
    channels: str | Sequence[int] | None = None
    class_level: int | None = None
    on: str | None = None

    @property
    def backbones(self) -> list:
        """The backbones, one by one."""
        return _listed(self.backbone)

    @property
    def poolings(self) -> list[str]:
        """The poolings, one by one."""
        return _listed(self.pooling)

    def reading(self, inputs: Sequence = ()) -> "Reading":
        """How files become RGB images; `intensity="auto"` is found over these inputs."""
        from data import settle_reading

        return settle_reading(self.intensity, self.page, self.channels, inputs)

    def check_features(self) -> None:
        """Raise WrongSetting, DataError or ExtractError for what can't be used on this machine."""
        from extract.engines import check_device, check_numerics

        if self.size is not None and self.size < 1:
            raise WrongSetting("size", self.size, "expected a side in pixels, such as 224")
        _refuse_none("backbone", self.backbone)
        self._check_backbones()
        _refuse_none("pooling", self.pooling)
        self._check_reading()
        check_numerics(self.numerics)
        check_device(self.device)
        self._check_on()

    def refuse_maps(self) -> None:
        """Raise ExtractError for a pooling that keeps places, where images are to be vectors."""
        from extract.pooling import parse_taps, refuse_maps

        for layer in self.layers.split(","):
            for pooling in self.poolings:
                refuse_maps(parse_taps(layer, pooling))

    def _check_backbones(self) -> None:
        if AUTO in self.backbones:
            raise WrongSetting(
                "backbone",
                _joined(self.backbones),
                "expected names: auto compares networks by labels, which `run` alone does",
            )

    def _check_on(self) -> None:
        from extract.sharding.cluster import EXPECTED, check_on

        try:
            check_on(self.on)
        except ExtractError as error:
            raise WrongSetting("on", self.on, EXPECTED) from error

    def _check_reading(self) -> None:
        from data import DataError, settle_reading

        for name, expected in READINGS.items():
            value = getattr(self, name)
            try:
                settle_reading(**{name: value})
            except DataError as error:
                raise WrongSetting(name, value, f"expected {expected}") from error


# where things are kept and written decides no figure
NO_FIGURES = {"cache", "device", "on", "split", "report", "max_bad", "out"}


@dataclass(frozen=True)
class RunSettings(FeatureSettings):
    """Every option of `python -m pipelines.run`, under the same names.

    Parameters
    ----------
    backbone, weights, layers, pooling, size, numerics, device, cache, seed, intensity
    page, channels, class_level, on
        Which features, as in `FeatureSettings`; `backbone="auto"` tries the networks whose weights
        are here and takes the best of them.
    within : float
        Seconds that the passes of the networks that `backbone="auto"` takes may be together; that
        of the first, which tells near copies, is not counted.
    test : str or None
        A folder or manifest of test images, beside images without a split inside.
    labels : path or None
        A CSV of corrected labels, as in `data.read_corrections`, laid over those of the images.
    unlabelled : path or None
        A folder at any depth or a manifest of further images, whose labels, if any, are not looked
        at: they are answered, and tried as neighbours of the labelled ones.
    target_labels : path or None
        A CSV of labels of some of those, as in `data.read_corrections`: where they are of another
        place than the labelled ones, it chooses how features are brought from one to the other.
    split : path or None
        The results.json of an earlier run, or its folder, whose split is taken: images that it has
        not are placed as usual.
    heads : str or sequence of str
        Names of the catalogue, `a,b` for several.
    cv : int
        Folds of the cross-validation on the training images.
    groups : str or None
        A regular expression: images whose paths match alike stay on one side of every split.
    choose : {"best", "simplest"}
        Which of the rows that the best one does not beat beyond chance.
    duplicates : {"group", "drop", "keep"}
        Near copies: on one side of every split, one of each kept, or left.
    views : str or sequence of str
        What is seen of each image: `plain`, `flipped` and `whole` as in `FeatureExtractor`, or
        `auto`, those of them that a first look says are worth their time.
    augmented : int
        So many random views of each training image, crops and mirror images, are trained on beside
        it; images are judged as they are, and seen `plain` alone. 0 for none.
    average_views : bool
        Whether an image is predicted, in the test too, by the mean of the probabilities of the
        plain view and of so many random ones of it; else by the plain one alone.
    baselines : bool
        Whether raw pixels, colours, Gabor filters and the untrained network are measured.
    thorough : bool
        Whether every setting of every head sees every fold; else those that are beaten beyond
        chance after the first are stopped (with the scoring accuracy, and three folds or more).
    scoring : str
        What settings, rows and the blend are chosen by, such as "balanced_accuracy".
    class_weight : None or "balanced"
    final : {"train", "all"}
        Which images the classifier that is kept is fitted on: those the figures are of, or the
        chosen setting once more on all, the test images included; the figures stay the same.
    report : bool
        Whether the images are mapped and the page `report.html` is written.
    max_bad : float
        Share of unreadable images above which the run fails.
    out : path or None
        Where the results go; None writes nothing.
    """

    test: str | None = None
    labels: str | Path | None = None
    unlabelled: str | Path | None = None
    target_labels: str | Path | None = None
    split: str | Path | None = None
    heads: str | Sequence[str] = ("logistic", "linear_svm", "rbf_svm", "knn")
    cv: int = 5
    groups: str | None = None
    choose: str = "best"
    duplicates: str = "group"
    views: str | Sequence[str] = "auto"
    within: float = 300.0
    augmented: int = 0
    average_views: bool = False
    baselines: bool = True
    thorough: bool = False
    scoring: str = "accuracy"
    class_weight: str | None = None
    final: str = "train"
    report: bool = True
    max_bad: float = 0.05
    out: str | Path | None = None

    @property
    def head_names(self) -> list[str]:
        """The heads, one by one."""
        return _listed(self.heads)

    @property
    def view_names(self) -> list[str]:
        """The views, one by one."""
        return _listed(self.views)

    @property
    def looks_at_views(self) -> bool:
        """Whether the views are those that a first look says are worth their time."""
        return self.view_names == [AUTO] and not self.augmented

    @property
    def chooses_networks(self) -> bool:
        """Whether the networks are those that are here, tried on these images."""
        return self.backbones == [AUTO]

    def told(self) -> dict[str, Any]:
        """Every option that figures may depend on, as it was asked for and as JSON has it."""
        asked = {own.name: getattr(self, own.name) for own in fields(self)}
        asked |= {
            "backbone": [getattr(own, "name", own) for own in self.backbones],
            "pooling": self.poolings,
            "heads": self.head_names,
            "views": self.view_names,
        }
        return {name: _plain(value) for name, value in asked.items() if name not in NO_FIGURES}

    def check(self, samples: "Samples") -> None:
        """Refuse before the pass what would fail after it.

        Raises WrongSetting, ExtractError, or DataError for one class or too few images for the
        folds.
        """
        from data import DataError
        from pipelines.samples import split_samples

        if len(samples.classes) < 2:
            raise DataError(
                f"{samples.name} has the one class {samples.classes[0]!r}: "
                "expected two classes or more"
            )
        if not 0 <= self.max_bad <= 1:
            raise WrongSetting("max_bad", self.max_bad, "expected a fraction from 0 to 1")
        if self.cv < 2:
            raise WrongSetting("cv", self.cv, "expected 2 folds or more")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                expected = " or ".join(map(repr, choices))
                raise WrongSetting(name, getattr(self, name), f"expected {expected}")
        if self.split is not None and samples.split is not None:
            given = f"--test {self.test}" if self.test else "a split inside"
            raise WrongCall(
                f"--split {self.split} was given and {samples.name} has {given}: "
                "leave one of them out"
            )
        self.check_features()
        self.refuse_maps()
        self._check_names(len(samples.classes))
        self._check_views()
        if not 0 < self.within < math.inf:
            raise WrongSetting("within", self.within, "expected seconds above 0, such as 300")
        if self.target_labels is not None and self.unlabelled is None:
            raise WrongSetting(
                "target_labels", self.target_labels, "expected --unlabelled, whose images it labels"
            )
        split_samples(samples, [], self.cv, self.seed)

    def _check_backbones(self) -> None:
        if AUTO not in self.backbones:
            return
        if not self.chooses_networks:
            raise WrongSetting(
                "backbone",
                _joined(self.backbones),
                "expected auto alone, which tries the networks whose weights are here, or names",
            )
        if self.weights is not None:
            raise WrongSetting(
                "weights",
                self.weights,
                "expected none beside --backbone auto, which takes the weights that are here",
            )
        if self.layers not in (AUTO, "all"):
            raise WrongSetting(
                "layers",
                self.layers,
                "expected auto or all beside --backbone auto: each network names its own layers",
            )

    def _check_names(self, n_classes: int) -> None:
        from heads import make_head
        from pipelines.evaluation.scoring import find_scoring

        _refuse_none("heads", self.heads)
        try:
            find_scoring(self.scoring, n_classes)
            for head in self.head_names:
                make_head(head)
        except ValueError as error:
            raise WrongCall(str(error)) from error

    def _check_views(self) -> None:
        from extract.preprocessing import NAMED_VIEWS

        names = self.view_names
        if names != [AUTO] and not (names and set(names) <= NAMED_VIEWS.keys()):
            raise WrongSetting(
                "views",
                ",".join(names) or self.views,
                f"expected {AUTO}, or one or more of {', '.join(NAMED_VIEWS)}, separated by commas",
            )
        if self.augmented not in range(MOST_AUGMENTED + 1):
            raise WrongSetting(
                "augmented",
                self.augmented,
                f"expected so many random views of each training image, 0 to {MOST_AUGMENTED}",
            )
        if self.augmented and names not in ([AUTO], ["plain"]):
            raise WrongSetting(
                "augmented",
                self.augmented,
                f"expected 0 beside --views {','.join(names)}: random views are of the plain one",
            )
        if self.average_views and not 0 < self.augmented <= MOST_AVERAGED:
            raise WrongSetting(
                "average_views",
                self.average_views,
                f"expected --augmented from 1 to {MOST_AVERAGED} beside it, got {self.augmented}: "
                "it averages over these random views",
            )


def _plain(value: Any) -> Any:
    """What JSON gives back as it was."""
    if isinstance(value, (list, tuple)):
        return [_plain(own) for own in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _joined(backbones: Sequence) -> str:
    return ",".join(str(getattr(own, "name", own)) for own in backbones)


def _refuse_none(name: str, value: Any) -> None:
    if not _listed(value):
        raise WrongSetting(name, value, "expected one name or more")


def _listed(value: Any) -> list:
    """`"a,b"` -> ["a", "b"], each once; one thing alone is a list of it."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    elif not isinstance(value, (list, tuple)):
        return [value]
    return list(dict.fromkeys(value))
