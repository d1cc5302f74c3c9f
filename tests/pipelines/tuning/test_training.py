"""Tests of pipelines/tuning/training.py."""

import numpy as np
import pytest

from data import DataError
from extract import Tuning, load_backbone
from pipelines.errors import WrongSetting
from pipelines.evaluation.scoring import ACCURACY
from pipelines.tuning.training import check_network, depth_within, hold_back, probe, tuned_tap


def test_the_new_layer_stands_on_the_last_block():
    assert str(tuned_tap(load_backbone("squeezenet1_1", "random", size=64))) == "features.12:avg"


@pytest.mark.parametrize(
    ("name", "asked", "found"),
    [
        ("alexnet", 5, 4),
        ("alexnet", 6, 6),
        ("alexnet", "all", "all"),
        ("squeezenet1_1", 5, 5),
        ("gabor", 5, 5),
    ],
)
def test_of_a_network_with_few_blocks_the_default_leaves_the_first(name, asked, found):
    of_network = {} if name == "gabor" else {"weights": "random", "size": 64}
    backbone = load_backbone(name, **of_network)
    assert depth_within(backbone, asked) == found
    if found == 4:
        check_network(backbone, Tuning(unfreeze=found))


def test_a_share_of_every_class_is_held_back_and_no_group_is_split():
    labels = np.array([*"ab"])[np.arange(60) % 2]
    groups = np.arange(60) // 4
    held = hold_back(labels, groups, 0.2, seed=0)
    assert 6 <= held.sum() <= 18
    assert set(labels[held]) == {"a", "b"}
    assert not set(groups[held]) & set(groups[~held])


def test_what_is_held_back_follows_from_the_seed_and_the_keys_alone():
    labels = np.array([*"ab"])[np.arange(60) % 2]
    keys = [f"image {i}" for i in range(60)]
    first = hold_back(labels, None, 0.2, 0, keys)
    order = np.random.default_rng(0).permutation(60)
    again = hold_back(labels[order], None, 0.2, 0, [keys[i] for i in order])
    assert np.array_equal(first[order], again)
    assert not np.array_equal(first, hold_back(labels, None, 0.2, 1, keys))


def test_a_class_of_one_image_is_named():
    with pytest.raises(DataError, match="validation part of the training images: class 'b'"):
        hold_back(np.array([*"aaaab"]), None, 0.2, 0)


@pytest.mark.parametrize("least", [2, 3])
def test_probing_takes_as_many_folds_as_the_smallest_class_allows(least):
    rng = np.random.default_rng(0)
    labels = np.array(["a"] * 20 + ["b"] * least)
    X = rng.normal(0, 1, (len(labels), 4)) + 9 * (labels == "b")[:, None]
    head = probe(X, labels, None, 5, ACCURACY, None, 0)
    assert head.predict(X).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("groups", "left"),
    [(None, "1 image"), (np.arange(60) // 20 + 3 * (np.arange(60) % 2), "1 group")],
)
def test_a_share_that_leaves_a_class_too_few_to_train_on_is_refused(groups, left):
    labels = np.array([*"ab"])[np.arange(60) % 2]
    with pytest.raises(WrongSetting, match=f"leaves class 'a' {left} to train on: expected 2 or"):
        hold_back(labels, groups, 0.98, seed=0)
