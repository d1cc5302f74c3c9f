"""The ways that a tuned network is compared with and joined to, each ready to be kept.

What has not seen the validation images answers them: frozen heads out of fold, the tuned network
since it is not trained on them. All answers to them are calibrated alike, by the other validation
images: what is fitted on more images would else be surer, and win by that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from extract import Backbone, FeatureExtractor, Tap, extract
from extract.extractor import JoinedExtractor, extractors_of
from heads import Calibration, as_logits, fit_calibration
from heads.blended import BlendedHead, Member, probabilities
from heads.search import fit_head
from pipelines.classifier import ImageClassifier, MeasuredAccuracy
from pipelines.evaluation.search import Search, judged_probabilities, search_heads
from pipelines.evaluation.ways import Way, calibrated, join, mixed
from pipelines.exploration.reference import Reference, fit_reference
from pipelines.features import KeptFeatures, describe_source, refuse_changed, watching
from pipelines.outcome import Job, RunResult
from pipelines.stages.classifier import make_extractor
from pipelines.stages.familiarity import name_images
from pipelines.stages.remembered import task_of
from pipelines.tuning.training import HEAD, TunedHead

LAST, FROZEN, TUNED, JOINED = "last layer", "frozen", "tuned", "joined"


@dataclass(frozen=True)
class Made:
    """A way with what it is made of.

    extractors : whose features, side by side, `head` takes. calibration : of its scores.
    reference : makes the training images in these features.
    """

    way: Way
    extractors: Sequence[FeatureExtractor]
    head: Any
    calibration: Calibration | None
    reference: Callable[[], Reference | None]
    rows: np.ndarray | None = None


def keep_last(job: Job, frozen: RunResult, backbone: Backbone, tap: Tap) -> KeptFeatures:
    """A network's last layer of all images of the frozen run; kept rows are not computed again."""
    samples = frozen.samples
    done = extract(
        samples.inputs,
        [tap],
        backbone,
        job.store,
        numerics=job.settings.numerics,
        device=job.settings.device,
        on=job.settings.on,
        reading=job.settings.reading(),
        watch=watching(backbone.name, [tap], job.on_event),
    )
    refuse_changed(samples, done.ids, frozen.ids, done.bad)
    return KeptFeatures(describe_source(backbone, [tap], "plain"), (tap,), done)


def last_way(job: Job, frozen: RunResult, last: KeptFeatures, held: np.ndarray) -> Made:
    """The usual recipe: logistic regression on the last layer, C by the run's own folds.

    held : (n_train,) bool, of the validation images.
    """
    split, labels, settings = frozen.split, frozen.found.labels, job.settings
    scoring = frozen.leaderboard.scoring
    search = Search([HEAD], split.folds, scoring, settings.class_weight, settings.seed)
    features = last.read(split.train)

    def searched() -> dict:
        best = search_heads(features, labels, search).best[HEAD]
        return {"params": best.params, "oof": best.oof}

    decided = [*task_of(frozen.table, split.train, search), last.recipe.id, str(last.taps[0])]
    best = job.findings.of("last layer", decided, searched)
    head = fit_head(HEAD, best["params"], features, labels, settings.class_weight)
    oof = np.asarray(best["oof"])
    calibration = fit_calibration(oof, labels, np.unique(labels), settings.class_weight)
    judged = judged_probabilities(oof, HEAD, labels, search)
    shares = _alike(frozen, judged, held, settings.class_weight)
    way = Way(LAST, shares, probabilities(head, calibration, last.read(split.test)))
    extractor = make_extractor(job, last.source.backbone, [last])
    return Made(way, [extractor], head, calibration, lambda: _reference_of(frozen, last))


def frozen_way(frozen: RunResult, held: np.ndarray, class_weight: str | None = None) -> Made:
    """What the frozen run chose, as it chose it; out of fold on the validation images."""
    kept = frozen.classifier
    extractors = extractors_of(kept.extractor_)
    shares = _alike(frozen, frozen.oof_probabilities(), held, class_weight)
    way = Way(FROZEN, shares, frozen.test_probabilities, len(extractors), len(frozen.members))
    return Made(way, extractors, kept.head_, kept.calibration_, lambda: kept.reference_, kept.rows_)


def tuned_way(
    job: Job,
    frozen: RunResult,
    seen: KeptFeatures,
    head: TunedHead,
    network: str,
    learnt: bool = True,
) -> Made:
    """The tuned network with its new layer.

    seen : its last layer. network : the file of its weights. learnt : whether they are not those
    that it began with.
    """
    test = probabilities(head.estimator, head.calibration, seen.read(frozen.split.test))
    own = make_extractor(job, job.backbones[0].name, [seen])
    own = own.set_params(backbone=network, weights=None, size=None)
    way = Way(TUNED, head.held, test, n_weights=1, learnt=learnt)
    return Made(way, [own], head.estimator, head.calibration, lambda: _reference_of(frozen, seen))


def joined_way(
    frozen: RunResult,
    alone: Made,
    tuned: Made,
    held: np.ndarray,
    class_weight: str | None = None,
) -> tuple[float, Made | None]:
    """The tuned network as one more member of what the frozen run chose, and its share.

    No way where the validation images give it all of the weight, or none.
    """
    codes = np.searchsorted(frozen.leaderboard.classes, frozen.found.labels[held])
    members, of_folds, of_test = _averaged(frozen)
    answers = of_folds[held], tuned.way.validation
    share, shares = join(*answers, codes, class_weight, groups_held(frozen, held))
    if share in (0.0, 1.0):
        return share, None
    start = max(member.columns[1] for member in members)
    width = tuned.head.n_features_in_
    last = Member(
        HEAD, {}, share, estimator=tuned.head, calibration=tuned.calibration,
        columns=(start, start + width),
    )  # fmt: skip
    blend = BlendedHead([*(replace(m, weight=(1 - share) * m.weight) for m in members), last])
    classes = frozen.leaderboard.classes
    logits = as_logits(mixed(*answers, share), "probabilities")
    calibration = fit_calibration(logits, frozen.found.labels[held], classes, class_weight)
    test = as_logits(mixed(of_test, tuned.way.test, share), "probabilities")
    way = Way(
        JOINED,
        shares,
        calibration.probabilities(test),
        alone.way.n_networks + 1,
        alone.way.n_heads + 1,
        n_weights=1,
        learnt=tuned.way.learnt,
    )
    extractors = [*alone.extractors, *tuned.extractors]
    return share, Made(way, extractors, blend, calibration, alone.reference)


def groups_held(frozen: RunResult, held: np.ndarray) -> np.ndarray | None:
    """(n_validation,) groups of the validation images, where there are groups."""
    split = frozen.split
    return None if split.groups is None else split.groups[split.train][held]


def _alike(
    frozen: RunResult, shares: np.ndarray, held: np.ndarray, class_weight: str | None
) -> np.ndarray:
    """Of probabilities (n_train, classes) those of the validation images, calibrated by them."""
    classes = frozen.leaderboard.classes
    codes = np.searchsorted(classes, frozen.found.labels[held])
    return calibrated(shares[held], codes, len(classes), class_weight, groups_held(frozen, held))


def _averaged(frozen: RunResult) -> tuple[list[Member], np.ndarray, np.ndarray]:
    """The members of what was chosen, fitted, and the mean of their probabilities before a blend's
    own calibration: out of fold of the training images, and of the test images."""
    found, kept = frozen.found, frozen.classifier
    board, head = found.board, found.head
    features = [found.table.read(source, found.split.test) for source in head.sources]
    joined = np.hstack(features)
    if isinstance(kept.head_, BlendedHead):
        assert board.blend_logits is not None
        return (
            list(kept.head_.members),
            np.exp(board.blend_logits),
            kept.head_.predict_proba(joined),
        )
    alone = replace(
        found.board.members[found.place][0],
        estimator=kept.head_,
        calibration=kept.calibration_,
        rows=kept.rows_,
        columns=(0, joined.shape[1]),
    )
    return [alone], frozen.oof_probabilities(), frozen.test_probabilities


def make_kept(frozen: RunResult, made: Made) -> ImageClassifier:
    """The classifier of a way; the frozen run's own where that is the way."""
    if made.way.name == FROZEN:
        return frozen.classifier
    extractors = made.extractors
    extractor = extractors[0] if len(extractors) == 1 else JoinedExtractor(extractors)
    classifier = ImageClassifier().assemble(
        extractor,
        made.head,
        made.calibration,
        made.rows,
        fitted_on="train",
        reference=made.reference(),
    )
    labels = frozen.tested.samples.labels
    predicted = frozen.leaderboard.classes[made.way.test.argmax(axis=1)]
    classifier.accuracy_ = MeasuredAccuracy.of(labels, predicted, "test")
    return classifier


def _reference_of(frozen: RunResult, kept: KeptFeatures) -> Reference:
    """The training images in one layer's features."""
    split = frozen.split
    names = name_images(frozen.table, split.train)
    return fit_reference(kept.read(split.train), split.folds, names)
