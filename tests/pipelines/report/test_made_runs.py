"""No sentence of the advice is wrong on runs that are made, so that the truth is known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from data import folds
from heads.blended import answers
from heads.search import fit_head
from pipelines.evaluation.baselines import measure_baselines
from pipelines.evaluation.choice import choose_row, describe_choice, fit_chosen, trace_curve
from pipelines.evaluation.differences import MARGIN, compare_others, compare_rows
from pipelines.evaluation.leaderboard import make_leaderboard
from pipelines.evaluation.search import Search
from pipelines.features import Source
from pipelines.report.advice import find_imbalance
from tests.pipelines.report.test_advice import sentences

RUNS = 40  # in all, a run of each kind more for each ten
TRUTH = 4000
SLACK = 0.004  # the truth's own standard error
HEADS = {
    "logistic": {"logisticregression__C": (0.01, 0.1)},
    "knn": {"kneighborsclassifier__n_neighbors": (5,)},
}
LAYERS = ("early", "late")


@dataclass(frozen=True)
class Kind:
    """A population: how far apart the classes' means are in the features of every source."""

    early: float = 0.0
    late: float = 0.0
    pixels: float = 0.0
    untrained: float | None = 0.0  # None: the network itself is untrained
    n: int = 150
    classes: int = 3
    width: int = 12
    shares: tuple[float, ...] | None = None


KINDS = {
    "separable early": Kind(early=1.6, late=0.5, untrained=0.6),
    "separable late": Kind(early=0.6, late=1.6, untrained=0.5),
    "alike": Kind(early=0.8, late=0.8, pixels=0.4, untrained=0.8),
    "hopeless": Kind(),
    "saturated": Kind(early=5, late=5, pixels=5, untrained=5, n=300),
    "tiny": Kind(early=0.8, late=0.6, pixels=0.4, untrained=0.5, n=18),
    "imbalanced": Kind(early=1.0, late=0.7, pixels=0.5, shares=(0.8, 0.15, 0.05), n=200),
    "untrained network": Kind(early=0.7, late=0.9, pixels=0.5, untrained=None, n=200),
    "many images": Kind(early=1.0, late=1.0, pixels=1.0, untrained=0.3, n=700, width=6),
    "steep": Kind(early=0.7, late=0.3, untrained=0.2, n=160, classes=8, width=60),
}


def draw(kind, means, n, rng):
    """{source: (n, width) features}, (n,) labels."""
    codes = np.resize(np.arange(kind.classes), n)
    if kind.shares:
        codes = np.repeat(np.arange(kind.classes), np.round(np.array(kind.shares) * n).astype(int))
    found = {}
    for name, own in means.items():
        X = own[codes] + rng.normal(size=(len(codes), kind.width))
        found[name] = X.astype(np.float32)
    return found, np.array([f"class {code}" for code in codes])


@dataclass(frozen=True)
class Made:
    """One run of made features, and what the same heads are truly worth."""

    results: dict
    truths: dict


def make_run(kind, seed):
    rng = np.random.default_rng([17, seed])
    strengths = {"early": kind.early, "late": kind.late, "pixels": kind.pixels}
    if kind.untrained is not None:
        strengths["net untrained"] = kind.untrained
    # directions of about unit distance between any two classes, times the strength
    means = {
        name: strength * rng.normal(size=(kind.classes, kind.width)) * np.sqrt(6 / kind.width)
        for name, strength in strengths.items()
    }
    arrays, labels = draw(kind, means, kind.n, rng)
    tested, test_labels = draw(kind, means, max(kind.n // 3, 3 * kind.classes), rng)
    sources = [Source("net", layer, "avg", kind.width) for layer in LAYERS]
    search = Search(HEADS, folds(labels, 3 if kind.n < 50 else 5, seed=seed), seed=seed)

    def read(source):
        return arrays[LAYERS[source]]

    board = make_leaderboard(read, sources, labels, search)
    place = choose_row(board)
    plain = [Source(name, "x", "avg", kind.width) for name in means if name not in LAYERS]
    majority = Source("majority", None, None, 0)
    entries = measure_baselines(
        majority, ((own, arrays[own.backbone]) for own in plain), labels, search
    )
    head = fit_chosen(board, place, read, labels)
    joined = np.hstack([tested[LAYERS[source]] for source in head.sources])
    chosen = describe_choice(
        board, place, test_labels, *answers(head.estimator, head.calibration, joined)
    )
    curve = trace_curve(board, place, read, labels, search)
    comparisons = compare_rows(board, place, entries, {"net": LAYERS}, labels, search)
    comparisons |= compare_others(curve, chosen, (len(labels), len(test_labels)))
    results = {
        "data": {
            "name": "made",
            "imbalance": find_imbalance(labels),
            "split": "held_out",
            "n_train": len(labels),
            "n_test": len(test_labels),
        },
        "scoring": "accuracy",
        "class_weight": None,
        "layers": {"net": list(LAYERS)},
        "backbones": [
            {
                "name": "net",
                "weights": "random" if kind.untrained is None else "wheel",
                "architecture": "torchvision.net",
            }
        ],
        "leaderboard": [vars(row) for row in board.rows],
        "baselines": [vars(entry.row) for entry in entries],
        "screened_out": [],
        "learning_curve": curve,
        "chosen": chosen,
        "comparisons": comparisons,
    }
    return Made(results, true_differences(kind, means, board, place, (arrays, labels), rng))


def true_differences(kind, means, board, place, drawn, rng):
    """What the comparisons would say of endless images, by name."""
    more, truth = draw(kind, means, TRUTH, rng)
    arrays, labels = drawn

    def worth(at, arrays, labels):
        head = fit_chosen(board, at, lambda source: arrays[LAYERS[source]], labels)
        joined = np.hstack([more[LAYERS[source]] for source in head.sources])
        return np.mean(answers(head.estimator, head.calibration, joined)[0] == truth)

    alone = [place for place, row in enumerate(board.rows) if row.head != "blend"]
    rows = {at: worth(at, arrays, labels) for at in alone}

    def of(layer):
        return next(worth for at, worth in rows.items() if board.rows[at].layer == layer)

    def plain(name):
        board_of_one = make_leaderboard(
            lambda source: arrays[name],
            [Source(name, "x", "avg", kind.width)],
            labels,
            Search({"logistic": HEADS["logistic"]}, folds(labels, 3, seed=0)),
        )
        head = fit_chosen(board_of_one, 0, lambda source: arrays[name], labels)
        return np.mean(answers(head.estimator, head.calibration, more[name])[0] == truth)

    logistic = next(at for at in alone if board.rows[at].head == "logistic")
    majority = np.mean(truth == max(set(labels), key=labels.tolist().count))
    found = {
        "depth": of("early") - of("late"),
        "learnt": rows[alone[0]] - majority,
        "simple": rows[alone[0]] - plain("pixels"),
        "more_images": next_gain(kind, means, board, place, (more, truth), rng),
        "test": 0.0,
    }
    if "net untrained" in means:
        found["pretraining"] = rows[logistic] - plain("net untrained")
    return found


def next_gain(kind, means, board, place, test, rng):
    """What twice the images would bring the chosen setting, over a few draws."""
    more, truth = test
    members = board.members[place]
    worths = []
    for n in (kind.n, 2 * kind.n):
        own = []
        for _ in range(3):
            arrays, labels = draw(kind, means, n, rng)
            read = {layer: arrays[layer] for layer in LAYERS}
            fitted = fit_by_hand(members, read, labels)
            own.append(np.mean(fitted(more) == truth))
        worths.append(np.mean(own))
    return worths[1] - worths[0]


def fit_by_hand(members, arrays, labels):
    """A row's members fitted, their probabilities averaged -> predict(features by source)."""

    heads = [
        (
            replace(member),
            fit_head(member.head, member.params, arrays[LAYERS[member.source]], labels),
        )
        for member in members
    ]

    def predict(more):
        shares = sum(
            member.weight * head.predict_proba(more[LAYERS[member.source]])
            for member, head in heads
        )
        return np.unique(labels)[shares.argmax(axis=1)]

    return predict


# what each sentence claims of the true difference
CLAIMS = {
    "an earlier layer beats the last": ("depth", lambda true: true > -SLACK),
    "the last layer beats the earlier": ("depth", lambda true: true < SLACK),
    "early and late layers do equally well": ("depth", lambda true: abs(true) < MARGIN + SLACK),
    "pretraining is worth no more": ("pretraining", lambda true: true < MARGIN + SLACK),
    "pretraining is worth +": ("pretraining", lambda true: true > -SLACK),
    "more are a likely gain": ("more_images", lambda true: true > -SLACK),
    "hardly help": ("more_images", lambda true: true < MARGIN + SLACK),
    "alone does as well": ("simple", lambda true: true < MARGIN + SLACK),
    "no head does better than the largest": ("learnt", lambda true: true < MARGIN + SLACK),
    "the test images differ": ("test", lambda true: true < -SLACK),
}
SILENT = ("can't tell yet", "the classes are of unequal size")


def wrong_sentences(made):
    """Sentences that the truth gives the lie; AssertionError for one that is not known here."""
    wrong = []
    for sentence in sentences(made.results):
        if sentence.startswith(SILENT):
            continue
        (claim,) = [own for words, own in CLAIMS.items() if words in sentence]
        name, holds = claim
        if not holds(made.truths[name]):
            wrong.append((sentence, name, made.truths[name]))
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_no_sentence_is_wrong(name):
    wrong = []
    for seed in range(RUNS // len(KINDS)):
        wrong += wrong_sentences(make_run(KINDS[name], seed))
    assert wrong == []


def test_few_images_can_not_tell_and_it_is_said_how_many_would():
    few = replace(KINDS["alike"], early=0.15, late=0.15, pixels=0.1, untrained=0.1, n=24)
    said = sentences(make_run(few, 1).results)
    assert len(said) > 2
    assert all(sentence.startswith("can't tell yet") for sentence in said)
    assert any("labelled images in all would tell" in sentence for sentence in said)


def test_a_random_network_has_no_best_layer():
    said = sentences(make_run(KINDS["untrained network"], 0).results)
    assert not any("layer" in sentence or "pretraining" in sentence for sentence in said)
