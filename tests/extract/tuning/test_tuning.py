"""A network trained further: what is trained, what is not, and twice the same."""

import errno
import itertools
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load

import extract.tuning.tuning as tuning_module
from data import ImageError
from extract import ExtractError, MemoryStore, NewLayer, Tap, load_backbone
from extract.errors import StoreError
from extract.tuning.schedules import SCHEDULES
from extract.tuning.training import Epoch, Trainer
from tests.extract.tuning.conftest import CLASSES, TAP, WIDTH


def weights_of(tuned):
    return load(tuned.file.read_bytes())  # load_file would show what the file becomes


def same(first, second):
    a, b = weights_of(first), weights_of(second)
    arrays = ("weight", "bias", "mean", "scale")
    return (
        a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
        and all(
            np.array_equal(getattr(first.layer, own), getattr(second.layer, own)) for own in arrays
        )
    )


def worst_difference(first, second):
    a, b = weights_of(first), weights_of(second)
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


def test_what_is_unfrozen_changes_and_nothing_else(call, network):
    """Batch norms keep their averages: those of a few images would be worse than ImageNet's."""
    before, after = network.filled_tensors(), weights_of(call())
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = ("features.10.", "features.11.", "features.12.")
    counts = (".running_mean", ".running_var", ".num_batches_tracked")
    assert changed == {
        name for name in before if name.startswith(trained) and not name.endswith(counts)
    }


def test_the_network_that_was_given_stays_as_it_was(call, network):
    before = {name: own.clone() for name, own in network.filled_tensors().items()}
    call()
    assert all(torch.equal(own, before[name]) for name, own in network.filled_tensors().items())


def test_it_learns(call, labelled):
    tuned = call(epochs=8, rates=(3, 3.5))
    assert tuned.history[0].epoch == -1
    assert tuned.history[-1].train_loss < 0.5 * tuned.history[1].train_loss
    best = tuned.history[tuned.best + 1]
    assert best.val_loss == min(own.val_loss for own in tuned.history)
    assert best.val_loss < 0.8 * tuned.history[0].val_loss
    assert best.val_accuracy > tuned.history[0].val_accuracy


@pytest.mark.parametrize("more", [{}, {"mixup": 0.4, "dropout": 0.3, "smoothing": 0.1}])
def test_a_seed_repeats_and_another_differs(call, tmp_path, more):
    first = call(**more)
    again = replace(call, folder=tmp_path / "other", store=MemoryStore())
    torch.manual_seed(5)  # what others draw of torch's numbers changes nothing
    assert same(first, again(**more))
    assert not same(first, call(seed=1, **more))


def test_what_is_random_leaves_the_callers_numbers_alone(call):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    call(dropout=0.5, mixup=0.5)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("augment", ["light", "off"])
def test_activations_and_images_come_to_the_same_weights(call, augment):
    """Same seeds, same views: what is kept is what the lower part gives, rounded to float16."""
    kept = call(augment=augment, epochs=3, dropout=0.2)
    anew = call(augment=augment, epochs=3, dropout=0.2, source="images")
    assert (kept.source, anew.source) == ("activations", "images")
    assert worst_difference(kept, anew) < 1e-4
    np.testing.assert_allclose(kept.layer.weight, anew.layer.weight, atol=1e-4)


def test_activations_are_kept_as_float16_and_read_again(on_disk, monkeypatch):
    first = on_disk()
    store, tap = on_disk.store, Tap("features.9", "raw16")
    part = next(store.cache.glob("*/parts/*.h5"))
    import h5py

    with h5py.File(part) as file:
        assert file[f"taps/{tap}"].dtype == np.float16
    monkeypatch.setattr("extract.extraction.ForwardPass", None)  # there is nothing to compute
    again = replace(on_disk, folder=on_disk.folder.with_name("again"))
    assert same(first, again())


def test_lost_activations_are_computed_again(on_disk, monkeypatch):
    """In batches of others, whose rounding differs by a float16's last bit at most."""
    first = on_disk()
    train = Trainer.train

    def train_without(*arguments):
        shutil.rmtree(on_disk.store.cache)
        return train(*arguments)

    monkeypatch.setattr(Trainer, "train", train_without)
    again = replace(on_disk, folder=on_disk.folder.with_name("again"))
    assert worst_difference(first, again()) < 1e-3


def test_a_second_call_finds_what_the_first_left(call, monkeypatch):
    first = call()
    monkeypatch.setattr(Trainer, "train", None)
    second = call()
    assert second.resumed
    assert not first.resumed
    assert same(first, second)
    assert second.history == first.history
    assert (second.best, second.groups, second.seconds) == (first.best, first.groups, first.seconds)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_damage_to_what_was_left_is_trained_again(call, suffix):
    first = call()
    expected = weights_of(first)
    file = first.file.with_suffix(suffix)
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    second = call()
    assert not second.resumed
    assert all(torch.equal(own, expected[name]) for name, own in weights_of(second).items())


def test_what_is_found_again_was_used(call):
    """Of a network its history's time says so: by the time of its weights a replaced file is told
    from the one whose card is remembered."""
    weights = call().file
    history = weights.with_suffix(".json")
    for path in (weights, history):
        os.utime(path, (1000, 1000))
    call()
    assert weights.stat().st_mtime == 1000
    assert time.time() - history.stat().st_mtime < 3600


def refuse(monkeypatch, suffix, number):
    """Have the disk refuse files of this suffix."""
    replace_file = os.replace

    def refusing(old, new):
        if str(new).endswith(suffix):
            raise OSError(number, os.strerror(number))
        replace_file(old, new)

    monkeypatch.setattr("extract.files.os.replace", refusing)


@pytest.mark.parametrize("suffix", [".checkpoint", ".safetensors", ".json"])
def test_a_full_disk_is_one_line_and_what_is_kept_stays(call, monkeypatch, suffix):
    monkeypatch.setattr("extract.tuning.checkpoints.SECONDS", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        refuse(patch, suffix, errno.ENOSPC)
        said = r"can't write to the cache .*tuned: No space .* what it holds stays: make room"
        with pytest.raises(StoreError, match=said):
            call()
    left = {path.suffix for path in call.folder.iterdir()}
    assert (
        left
        == {
            ".checkpoint": set(),
            ".safetensors": {".checkpoint"},
            ".json": {".checkpoint", ".safetensors"},
        }[suffix]
    )
    assert call().resumed == bool(left)


def test_a_folder_that_can_only_be_read_is_a_wrong_call(call, monkeypatch):
    """One that could be written before is not."""
    with pytest.MonkeyPatch.context() as patch:
        refuse(patch, ".safetensors", errno.EROFS)
        with pytest.raises(ExtractError, match="Read-only file system; choose another") as caught:
            call()
        assert not isinstance(caught.value, StoreError)
        patch.setattr("extract.tuning.checkpoints.SECONDS", 0.0)
        with pytest.raises(StoreError, match="Read-only file system; what it holds stays"):
            call()


CHANGES = [
    {"seed": 2},
    {"epochs": 3},
    {"unfreeze": 2},
    {"rates": (3, 4)},
    {"augment": "strong"},
    {"views": 1},
    {"warmup": 0.5},
    {"weight_decay": 0.5},
    {"patience": 5},
    {"average": True},
]


def test_all_that_decides_is_in_the_key(call, monkeypatch):
    def train(trainer, *_):
        trainer.progress.history = [Epoch(-1, None, 1.0, 0.5, 0, [], 0.0)]

    monkeypatch.setattr(Trainer, "train", train)  # the name of its file is all that is asked
    found = [call(**change).file.name for change in ({}, *CHANGES)]
    assert len(set(found)) == len(found)
    layer = call.layer
    other = NewLayer(TAP, layer.mean, layer.scale, 2 * layer.weight, layer.bias)
    targets = np.roll(call.targets, 1)
    assert replace(call, layer=other)().file.name not in found
    assert replace(call, targets=targets)().file.name not in found
    assert replace(call, images=call.images[::-1].copy())().file.name not in found


class Watched:
    """Every step that the optimiser takes: its rates, and which parameters moved."""

    def __init__(self, monkeypatch):
        self.rates, self.moved, self.decays = [], [], []
        step = torch.optim.AdamW.step

        def watched(optimizer, *arguments):
            groups = optimizer.param_groups
            before = [[p.detach().clone() for p in group["params"]] for group in groups]
            result = step(optimizer, *arguments)
            self.rates.append([group["lr"] for group in groups])
            self.decays.append([group["weight_decay"] for group in groups])
            self.moved.append(
                [
                    [not torch.equal(a, b) for a, b in zip(old, group["params"], strict=True)]
                    for old, group in zip(before, groups, strict=True)
                ]
            )
            return result

        monkeypatch.setattr(torch.optim.AdamW, "step", watched)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("rates", [(2, 4, 6), (2, 3, 4), (3, 3)])
def test_the_optimiser_uses_the_rates_that_are_asked_for(call, monkeypatch, rates, schedule):
    watched = Watched(monkeypatch)
    tuned = call(rates=rates, schedule=schedule, warmup=0.3)
    assert len(watched.rates) == 2 * 3  # 12 images in batches of 4
    for step, found in enumerate(watched.rates):
        factor = SCHEDULES[schedule](step, 6, 0.3)
        expected = [10.0**-rate * factor for rate in rates for _ in range(2)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(tuned.history[-1].rates, watched.rates[-1][::2])
    assert watched.decays[0] == [1e-2, 0.0] * len(rates)


def test_blocks_are_unfrozen_from_the_last_down(call, monkeypatch, network):
    """13 blocks, and nothing outside; what is frozen does not move, by weight decay neither."""
    watched = Watched(monkeypatch)
    rates = tuple(range(2, 2 + 14))  # a group for each part
    tuned = call(unfreeze="gradual", rates=rates, epochs=4, schedule="cosine")
    n_moved = [
        sum(any(itertools.chain(*own[2 * part : 2 * part + 2])) for part in range(1, 14))
        for own in watched.moved
    ]
    assert n_moved == [7] * 3 + [13] * 9
    for own in watched.moved:
        assert any(own[0])
        assert any(own[1])
        still = [any(itertools.chain(*own[2 * k : 2 * k + 2])) for k in range(1, 14)]
        assert still == sorted(still, reverse=True)
    assert [own.n_unfrozen for own in tuned.history[1:]] == [7, 13, 13, 13]
    assert [own.layers for own in tuned.groups[1:3]] == [("features.12",), ("features.11",)]
    assert tuned.groups[-1].layers == ("features.0",)
    assert tuned.history[1].rates[8:] == [0.0] * 6
    assert tuned.source == "images"


def test_weights_alone_decay(call, monkeypatch):
    groups = []
    init = torch.optim.AdamW.__init__

    def watched(optimizer, parameters, **options):
        groups.extend(parameters)
        init(optimizer, parameters, **options)

    monkeypatch.setattr(torch.optim.AdamW, "__init__", watched)
    call(weight_decay=0.3, epochs=1)
    assert {p.dim() > 1 for own in groups[::2] for p in own["params"]} == {True}
    assert {p.dim() > 1 for own in groups[1::2] for p in own["params"]} == {False}
    assert [own["weight_decay"] for own in groups] == [0.3, 0.0] * 2


def test_where_no_epoch_is_better_the_start_is_taken(call, network, labelled):
    _, targets, validation = labelled
    shuffled = targets.copy()
    shuffled[validation] = (shuffled[validation] + 1) % CLASSES  # what is learnt is wrong there
    tuned = replace(call, targets=shuffled)(rates=(1, 2), epochs=3)
    assert tuned.best == -1
    before = network.filled_tensors()
    assert all(torch.equal(own, before[name]) for name, own in weights_of(tuned).items())
    np.testing.assert_array_equal(tuned.layer.weight, call.layer.weight.astype(np.float32))


def test_weights_between_the_start_and_the_best_epoch(call, monkeypatch):
    """Of the line from one to the other, the place of the least loss; here it is made up."""
    whole = call(epochs=3)
    assert whole.best >= 0
    losses = {0.75: 9.0, 0.5: 0.0, 0.25: 1.0}
    validate = Trainer._validate
    shares = iter(losses.values())

    def made_up(trainer, *arguments):
        found = validate(trainer, *arguments)
        is_over = trainer.progress.is_over(trainer.tuning)
        return (next(shares), 0.0) if is_over else found

    monkeypatch.setattr(Trainer, "_validate", made_up)
    tuned = call(epochs=3, average=True)
    assert (tuned.best, tuned.share, whole.share) == (whole.best, 0.5, 1.0)
    start, end, found = call.backbone.filled_tensors(), weights_of(whole), weights_of(tuned)
    name = "features.12.0.weight"
    np.testing.assert_allclose(found[name], (start[name] + end[name]) / 2, rtol=1e-5, atol=1e-7)
    expected = (call.layer.weight + whole.layer.weight) / 2
    np.testing.assert_allclose(tuned.layer.weight, expected, rtol=1e-5, atol=1e-7)


def test_patience_ends_it_and_takes_the_best(call, labelled):
    _, targets, validation = labelled
    shuffled = targets.copy()
    shuffled[validation] = (shuffled[validation] + 1) % CLASSES
    tuned = replace(call, targets=shuffled)(rates=(1, 2), epochs=9, patience=2)
    assert [own.epoch for own in tuned.history] == [-1, 0, 1]
    assert tuned.best == -1


def test_a_fresh_view_in_every_epoch(call, monkeypatch):
    seen = []
    see = "extract.tuning.feeds.seen_as"
    import extract.tuning.feeds as feeds

    whole = feeds.seen_as
    monkeypatch.setattr(see, lambda view: (seen.append(view), whole(view))[1])
    call(views=0, source="images", epochs=3, seed=4)
    assert [own for own in seen if own != "plain"] == ["light-4-0", "light-4-1", "light-4-2"]


def test_fresh_views_are_not_kept(on_disk):
    tuned = on_disk(views=0, epochs=3)
    assert tuned.source == "images"
    assert not list(on_disk.store.cache.glob("*/parts/*.h5"))
    assert on_disk(views=0, augment="off").source == "activations"


@pytest.mark.parametrize("where", ["_step", "_logits"])
def test_a_loss_that_is_no_number_is_said_and_nothing_is_left(call, monkeypatch, where):
    """In a step, or where the validation images are judged."""
    own = getattr(Trainer, where)
    spoil = {"_step": lambda found: float("nan"), "_logits": lambda found: found + torch.inf}[where]

    def spoilt(trainer, *arguments):
        return spoil(own(trainer, *arguments))

    monkeypatch.setattr(Trainer, where, spoilt)
    said = "the loss is no number any more in epoch 1: learning rates 0.001, 0.001 are too high"
    with pytest.raises(ExtractError, match=said):
        call()
    assert not call.folder.exists()


def test_numpys_numbers_are_numbers(call):
    plain = call(epochs=1, seed=3, unfreeze=2, rates=(3.0, 4.0))
    numpys = call(
        epochs=np.int64(1), seed=np.int64(3), unfreeze=np.int32(2), rates=np.array([3.0, 4.0])
    )
    assert numpys.resumed
    assert plain.file == numpys.file


def test_a_tensor_with_two_names_is_written_under_both(call, monkeypatch):
    """As language models tie their first layer and their last."""
    import extract.tuning.tuning as tuning

    written = {}
    monkeypatch.setattr(
        tuning, "write_tuned", lambda file, backbone, tensors, about: written.update(tensors)
    )
    monkeypatch.setattr(tuning, "file_sha256", lambda file: "")
    made = Trainer.__init__

    def tied(trainer, network, *arguments):
        network.features[0][0].weight = network.features[0][0].weight
        network.register_parameter("again", network.features[12][0].weight)
        made(trainer, network, *arguments)

    monkeypatch.setattr(Trainer, "__init__", tied)
    kept = type(call.backbone).filled_tensors
    monkeypatch.setattr(
        type(call.backbone),
        "filled_tensors",
        lambda own: kept(own) | {"again": kept(own)["features.12.0.weight"]},
    )
    call()
    assert torch.equal(written["again"], written["features.12.0.weight"])
    assert not torch.equal(written["again"], kept(call.backbone)["features.12.0.weight"])


def test_bfloat16_where_it_is_asked_for(call):
    exact, reduced = call(), call(precision="bfloat16")
    a, b = weights_of(exact)["features.12.0.weight"], weights_of(reduced)["features.12.0.weight"]
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert float((a - b).norm() / a.norm()) < 0.05


def test_in_bfloat16_every_step_computes_with_the_weights_of_the_one_before(call, monkeypatch):
    """torch's autocast keeps what it made of a weight until it is left: of these without a norm
    behind them the loss would be that of the start's."""
    made = []
    trained = Trainer._logits

    def noted(own, given, kept=None):
        logits = trained(own, given, kept)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            exact = trained(own, given, kept)
        made.append(float(((logits - exact).norm() / exact.norm()).detach()))
        return logits

    monkeypatch.setattr(Trainer, "_logits", noted)
    call(precision="bfloat16", epochs=6, rates=(3, 2.5))
    assert 0 < max(made) < 0.02


def test_bfloat16_by_itself_where_it_is_there_in_hardware(call, monkeypatch):
    asked = []
    whole = Trainer.__init__

    def noted(own, *arguments):
        asked.append(arguments[-1])
        whole(own, *arguments)

    monkeypatch.setattr(Trainer, "__init__", noted)
    for there in (True, False):
        monkeypatch.setattr(tuning_module, "has_bfloat16", lambda device, there=there: there)
        call(precision="auto")
    assert asked == [True, False]


def test_a_network_that_can_not_be_cut_is_trained_from_its_images(call, monkeypatch):
    from extract.tuning.cut import CannotCut

    def refuse(*_):
        raise CannotCut("its code hangs on the values it sees")

    monkeypatch.setattr(tuning_module, "above", refuse)
    tuned = call()
    assert (tuned.source, tuned.why_images) == ("images", "its code hangs on the values it sees")


def test_an_image_that_can_not_be_read(call, tmp_path, photos):
    targets, held_out = np.arange(12) % 3, np.arange(12) > 8
    (tmp_path / "photos" / "04.png").write_bytes(b"no image")
    broken = replace(call, images=photos, targets=targets, validation=held_out)
    for source in ("auto", "images"):
        with pytest.raises(ImageError, match=r"04\.png"):
            broken(source=source)


def test_a_preprocessing_of_ones_own_is_refused(call, tiny_net):
    class Own:
        transform_id = "own"

        def __call__(self, image):
            return np.asarray(image.resize((32, 32)), np.float32).transpose(2, 0, 1)

    own = load_backbone(tiny_net(), preprocessing=Own())
    with pytest.raises(ExtractError, match=r"tuning needs extract\.Preprocessing.* got Own"):
        replace(call, backbone=own)()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"targets": np.zeros(18, int)}, "two classes or more"),
        ({"targets": np.zeros(3, int)}, "a truth value for each of 18 images"),
        ({"targets": np.full(18, "a")}, "got targets <U1"),
        ({"targets": np.arange(18) % 3 - 1}, "expected targets from 0 on"),
        ({"validation": np.zeros(18, bool)}, "validation names 0 of 18"),
        ({"validation": np.ones(18, bool)}, "validation names 18 of 18"),
        ({"layer": NewLayer(TAP, *[np.ones(3)] * 2, np.ones((3, 3)), np.ones(3))}, "mean has the"),
        (
            {
                "layer": NewLayer(
                    TAP, np.ones(WIDTH), np.zeros(WIDTH), np.ones((3, WIDTH)), np.ones(3)
                )
            },
            "scale holds numbers of 0",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(call, changed, said):
    with pytest.raises(ExtractError, match=said):
        replace(call, **changed)()


def test_the_new_layer_is_as_it_was_written(start):
    layer = start
    again = NewLayer.from_dict(layer.to_dict())
    for name in ("mean", "scale", "weight", "bias"):
        np.testing.assert_array_equal(getattr(again, name), getattr(layer, name).astype(np.float32))
    features = np.random.default_rng(0).normal(size=(4, WIDTH))
    expected = (features - layer.mean) / layer.scale @ layer.weight.T + layer.bias
    np.testing.assert_allclose(layer.logits(features), expected)
