"""Networks are compared on the same images, and taken while they add and their passes fit."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.model_selection import StratifiedKFold

from heads.blended import answers
from pipelines.evaluation.choice import fit_chosen
from pipelines.evaluation.leaderboard import make_leaderboard
from pipelines.evaluation.networks import (
    BEST_ONE,
    ENOUGH,
    GAIN,
    MOST,
    NO_GAIN,
    TOO_LONG,
    UNUSABLE,
    WORTH,
    NetworkTried,
    choose_networks,
    look_at,
)
from pipelines.evaluation.scoring import ACCURACY
from pipelines.evaluation.search import Search
from pipelines.evaluation.views import BEST
from pipelines.features import Source

RUNS = 20  # made ones, whose truth is known

LABELS = np.repeat([*"abc"], 40)


def features_of(strength, seed, columns=20):
    """(120, columns) noise around a class mean as far from the others as `strength`; what each
    seed knows of the classes is its own."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(3, columns))
    return strength * np.repeat(means, 40, axis=0) + rng.normal(size=(120, columns))


def look(*arrays, groups=None):
    return look_at(lambda source: arrays[source], len(arrays), LABELS, groups)


def choose(looks, seconds, within=300.0, passed=None):
    """By name what was judged of networks of these looks and passes; a look may be None."""
    tried = [
        NetworkTried(name, "DEFAULT", images_per_second=10.0, seconds=own)
        for name, own in seconds.items()
    ]
    passed = passed or next(iter(looks))
    return {own.name: own for own in choose_networks(tried, looks, LABELS, within, passed)}


WEAK, STRONG = look(features_of(0.2, 0)), look(features_of(0.6, 1))
ALIKE = {"one": look(features_of(0.4, 2)), "two": look(features_of(0.4, 3))}


def test_the_best_is_taken_and_the_others_stand_beside_it():
    found = choose({"weak": WEAK, "strong": STRONG}, {"weak": 1, "strong": 1})
    assert (found["strong"].taken, found["strong"].why) == (True, BEST_ONE)
    assert found["strong"].difference is None
    weak = found["weak"]
    assert weak.images == 120
    assert weak.difference == pytest.approx(weak.log_loss - found["strong"].log_loss)
    assert 0 < weak.low < weak.difference < weak.high


def test_one_that_adds_is_taken_too():
    found = choose(ALIKE, {"one": 100, "two": 150})
    assert {own.why for own in found.values()} == {BEST_ONE, GAIN}
    assert all(own.taken for own in found.values())
    added = next(own for own in found.values() if own.why == GAIN)
    assert added.gain >= WORTH


def test_one_that_says_nothing_new_is_left_out():
    same = ALIKE["one"]
    found = choose({"one": same, "again": same}, {"one": 1, "again": 1})
    assert [own.why for own in found.values()] == [BEST_ONE, NO_GAIN]
    assert found["again"].gain < WORTH


def test_passes_beside_the_first_fit_into_the_time():
    """The network that all images went through takes no more of it."""
    looks = {"first": WEAK, "strong": STRONG}
    seconds = {"first": 1000, "strong": 400}
    late = choose(looks, seconds, within=300)
    assert [own.taken for own in late.values()] == [True, False]
    assert late["strong"].why == TOO_LONG
    assert late["strong"].gain > WORTH
    assert late["first"].difference > 0  # what was left out is measured all the same
    assert choose(looks, seconds, within=401)["strong"].taken


def test_their_passes_fit_together():
    looks = {"first": WEAK, **ALIKE}
    seconds = {"first": 10, "one": 200, "two": 200}
    found = choose(looks, seconds, within=300)
    assert sorted(own.why for own in found.values() if own.name != "first") == [BEST_ONE, TOO_LONG]
    assert all(choose(looks, seconds, within=400)[name].taken for name in ALIKE)


def test_one_that_was_not_looked_at_has_its_time_alone():
    found = choose({"first": WEAK}, {"first": 1, "slow": 5000})["slow"]
    assert (found.why, found.images, found.log_loss, found.gain) == (TOO_LONG, 0, None, None)


def test_there_are_no_more_than_a_few():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.eye(3), 40, axis=0)
    looks = {
        str(i): softmax(truth + 3 * rng.normal(size=(120, 3)), axis=1)[None]
        for i in range(MOST + 3)
    }
    found = choose(looks, dict.fromkeys(looks, 1))
    assert sum(own.taken for own in found.values()) == MOST
    assert ENOUGH in {own.why for own in found.values()}


def test_one_that_cannot_be_used_stays_so():
    tried = [NetworkTried("good", "DEFAULT", seconds=1), NetworkTried("bad", "x", problem="gone")]
    found = choose_networks(tried, {"good": STRONG}, LABELS, 300, "good")
    assert (found[1].why, found[1].taken, found[1].problem) == (UNUSABLE, False, "gone")


def test_a_look_is_of_the_best_taps():
    arrays = [features_of(0.05 * i, i) for i in range(BEST + 2)]
    found = look(*arrays)
    assert found.shape == (BEST, 120, 3)
    assert np.array_equal(found[0], look(arrays[-1])[0])


def test_a_groups_images_vouch_for_none_of_their_own():
    """A network that knows each subject, and nothing of its class, comes out poor."""
    subjects = np.arange(120) // 4
    own = np.random.default_rng(0).normal(size=(30, 200))[subjects]
    alone, together = (
        choose({"a": look(own, groups=groups)}, {"a": 1})["a"].log_loss
        for groups in (None, subjects)
    )
    assert alone < 0.3
    assert together > 0.9 * np.log(3)


@pytest.mark.slow
def test_the_choice_among_equal_networks_hardly_flatters_the_corrected_score():
    """Its interval holds the truth about as often as it says, though the look saw all labels."""
    held = [holds_the_truth(seed) for seed in range(RUNS)]
    assert np.mean(held) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / RUNS)


def holds_the_truth(seed, n=150, n_networks=4, truth=3000):
    """One run: networks of equal worth, the best of them by a look, searched and tried."""
    rng = np.random.default_rng(seed)
    names = np.array([*"abc"])
    codes, of_truth = np.arange(n) % 3, rng.integers(0, 3, truth)
    means = 0.3 * rng.normal(size=(n_networks, 3, 12))
    arrays = [means[i][codes] + rng.normal(size=(n, 12)) for i in range(n_networks)]
    looks = {
        str(i): look_at(lambda _, own=own: own, 1, names[codes]) for i, own in enumerate(arrays)
    }
    tried = [NetworkTried(name, "DEFAULT", seconds=1) for name in looks]
    judged = choose_networks(tried, looks, names[codes], 300, "0")
    best = int(next(own.name for own in judged if own.why == BEST_ONE))
    X = arrays[best].astype(np.float32)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(X, codes))
    search = Search(["ridge"], folds, ACCURACY, None, seed)
    source = Source("net", "layer", "avg", X.shape[1])
    board = make_leaderboard(lambda _: X, [source], names[codes], search)
    head = fit_chosen(board, 0, lambda _: X, names[codes], None)
    others = (means[best][of_truth] + rng.normal(size=(truth, 12))).astype(np.float32)
    worth = (answers(head.estimator, head.calibration, others)[0] == names[of_truth]).mean()
    _, low, high = board.corrected
    return low <= worth <= high
