"""A network trained further, from images and targets to a file of weights."""

import contextlib
import copy
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import Reading
from extract.backbones import Backbone
from extract.backbones.tuned import write_tuned
from extract.cores import cores
from extract.engines import TorchEngine, choose_device, has_bfloat16
from extract.errors import ExtractError, unwritable
from extract.files import note_use, read_remembered, remove_abandoned, write_remembered
from extract.forward_pass import NOT_WATCHED, Watch
from extract.pooling import RAW, Tap
from extract.preprocessing import Preprocessing
from extract.recipe import decode_rule
from extract.store import FeatureStore
from extract.store.ids import image_ids
from extract.tuning.checkpoints import Checkpoint
from extract.tuning.cut import CannotCut, above, check_above, up_to
from extract.tuning.feeds import ActivationFeed, Feed, ImageFeed, keep_activations
from extract.tuning.new_layer import NewLayer
from extract.tuning.norms import fold_norms
from extract.tuning.parts import Group, divide, parameters_of, trained_blocks
from extract.tuning.settings import Tuning
from extract.tuning.training import Epoch, Trainer
from extract.weights import file_sha256

RULE = 2  # of training: another would come to other weights
WEIGHTS, CHECKPOINT, FOUND = ".safetensors", ".checkpoint", ".json"
KEY_BYTES = 16
DECIDING = ("torch", "torchvision", "pillow")  # the views and the steps are made by


@dataclass(frozen=True)
class Tuned:
    """What came of tuning a network.

    Attributes
    ----------
    file : Path
        Its weights, a file that `load_backbone` takes as a name.
    layer : NewLayer
        As it was trained.
    history : list of Epoch
        The start first.
    best : int
        The epoch whose weights were taken; -1 where none was better than the start.
    share : float
        How far from the start's weights to those of that epoch.
    groups : list of Group
    source : {"activations", "images"}
        What it was trained from.
    why_images : str or None
        Why activations could not be kept, where they were to be.
    views_seconds, seconds : float
        Of the last call's pass that kept activations, and of the training over all calls.
    resumed : bool
        Whether it went on from, or was found as, what an earlier call left.

    Examples
    --------
    >>> from extract import tune_network  # gives one
    """

    file: Path
    layer: NewLayer
    history: list[Epoch]
    best: int
    share: float
    groups: list[Group]
    source: str
    why_images: str | None = None
    views_seconds: float = 0.0
    seconds: float = 0.0
    resumed: bool = False


@dataclass(frozen=True)
class _Asked:
    """What `tune_network` was called with, checked."""

    inputs: Sequence
    targets: np.ndarray
    validation: np.ndarray
    backbone: Backbone
    layer: NewLayer
    tuning: Tuning
    store: Any
    numerics: str
    device: str
    reading: Reading
    watch: Watch


def tune_network(
    inputs: Sequence,
    targets: np.ndarray,
    validation: np.ndarray,
    backbone: Backbone,
    layer: NewLayer,
    tuning: Tuning,
    *,
    folder: Path,
    store: Any,
    numerics: str = "auto",
    device: str = "auto",
    reading: Reading | None = None,
    watch: Watch = NOT_WATCHED,
    on_epoch: Callable[[Epoch], Any] = lambda epoch: None,
) -> Tuned:
    """Train a network's last blocks, or all of it, with a linear layer on top.

    Batch norms stay as they are in use, their averages are not moved. Where the blocks below the
    trained ones stay as they are, what they give of each view is computed once and kept, and only
    what lies above is run in each epoch.

    Parameters
    ----------
    inputs : n paths, PIL images or uint8 (height, width, 3) arrays
    targets : array of shape (n,), int
        Numbers of classes, from 0 on.
    validation : array of shape (n,), bool
        The images that are not trained on: the epoch whose loss on them is the least is taken.
    backbone : Backbone
    layer : NewLayer
        Where the new layer begins: a frozen head's weights, fitted without the validation images.
    tuning : Tuning
    folder : path
        Where the weights are written, and how far a training has come.
    store : FeatureStore or MemoryStore
        Where activations are kept.
    numerics, device, reading, watch
        Of the pass that keeps activations, as in `extract`.
    on_epoch : callable
        Called with each Epoch.

    Returns
    -------
    Tuned
        A second call with the same arguments finds it; one that was killed goes on where it was,
        and in float32 on a processor comes to the same weights.

    Raises
    ------
    ExtractError
        Settings that don't fit the network, or targets or a layer that don't fit one another; a
        folder that can't be written.
    StoreError
        The disk is full, or fails. What was written before stays, and a further call goes on there.
    ImageError
        For the first image that can't be read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from extract import MemoryStore, NewLayer, Tap, Tuning, load_backbone, tune_network
    >>> images = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), np.uint8)
    >>> targets, held_out = np.array([0, 1] * 3), np.arange(6) > 3
    >>> zeros = np.zeros((2, 1280))
    >>> start = NewLayer(Tap("features.18", "avg"), zeros[0], zeros[0] + 1, zeros, np.zeros(2))
    >>> tuned = tune_network(
    ...     images, targets, held_out, load_backbone("mobilenet_v2", "random", size=32), start,
    ...     Tuning(unfreeze=1, epochs=1, batch=4), folder=tempfile.mkdtemp(), store=MemoryStore(),
    ... )
    >>> [epoch.epoch for epoch in tuned.history], tuned.source
    ([-1, 0], 'activations')
    """
    tuning.check()
    _shape(backbone)
    targets, validation = _checked(len(inputs), targets, validation)
    layer.check(backbone.card.width(layer.tap), int(targets.max()) + 1)
    asked = _Asked(
        inputs,
        targets,
        validation,
        backbone,
        layer,
        tuning,
        store,
        numerics,
        choose_device(device),
        reading or Reading(),
        watch,
    )
    blocks, below = trained_blocks(backbone.card, layer.tap, tuning.unfreeze)
    divide(blocks, tuning)  # said before the pass
    began = time.perf_counter()
    work = _prepare(asked, below)
    views_seconds = time.perf_counter() - began if work.source == "activations" else 0.0
    path = Path(folder) / _key(asked, work, below)
    parts = parameters_of(work.network, backbone.card, blocks, _reached(work.network, asked))
    groups = divide(list(parts), tuning)
    found = _found(path, groups, work)
    if found is not None:
        return found
    trainer = _trainer(asked, work, parts, groups)
    checkpoint = Checkpoint(path.with_name(path.name + CHECKPOINT))
    resumed = checkpoint.read(trainer)
    _train(asked, work, trainer, checkpoint, on_epoch)
    with _writing(path.parent, checkpoint.exists):
        values = _write(asked, work, trainer, path, views_seconds)
    checkpoint.remove()
    remove_abandoned(path.parent)
    return _tuned(path, values, groups, work, resumed)


def _checked(n: int, targets: np.ndarray, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    targets, validation = np.asarray(targets), np.asarray(validation)
    if targets.shape != (n,) or targets.dtype.kind not in "iu" or validation.shape != (n,):
        raise ExtractError(
            f"got targets {targets.dtype} {targets.shape} and validation {validation.shape}: "
            f"expected a whole number and a truth value for each of {n} images"
        )
    if validation.dtype != bool or validation.all() or not validation.any():
        raise ExtractError(
            f"validation names {int(validation.astype(bool).sum())} of {n} images: "
            "expected some to train on and some to tell when to stop"
        )
    if targets.min() < 0 or len(np.unique(targets[~validation])) < 2:
        raise ExtractError("expected targets from 0 on, two classes or more among those trained on")
    return targets.astype(np.int64), validation


@dataclass(frozen=True)
class _Work:
    """What is trained and what it is fed with.

    network : a copy, whose tensors are trained. identity : of what it is fed with.
    """

    network: Any
    forward: Callable[[Any], Any]
    feed: Feed
    source: str
    identity: list
    why_images: str | None = None


def _prepare(asked: _Asked, below: str | None) -> _Work:
    """The trained part and its feed: from kept activations where it can be."""
    import torch

    # the layout in which convolutions are fastest
    network = copy.deepcopy(asked.backbone.network).to(
        asked.device, memory_format=torch.channels_last
    )
    fold_norms(network, asked.backbone.card.folds)
    part, why = None, None
    if below is not None:
        try:
            part = _above(asked, network, below)
        except CannotCut as error:
            why = str(error)
    forward = part or up_to(network, asked.layer.tap.layer)
    if part is None or asked.tuning.is_from_images:
        feed, identity = _from_images(asked, below if part is not None else None)
        return _Work(network, forward, feed, "images", identity, why)
    assert below is not None
    kept = keep_activations(
        asked.inputs,
        asked.validation,
        asked.backbone,
        below,
        asked.tuning,
        store=asked.store,
        numerics=asked.numerics,
        device=asked.device,
        reading=asked.reading,
        watch=asked.watch,
    )
    shape = asked.backbone.card.activations[below].shape
    activations = ActivationFeed(kept, Tap(below, RAW), shape, asked.device)
    return _Work(network, forward, activations, "activations", [kept.recipe.id, _hex(kept.ids)])


def _above(asked: _Asked, network: Any, below: str) -> Any:
    """What lies above the block below, seen to give what the whole network gives."""
    import torch

    card, layer = asked.backbone.card, asked.layer.tap.layer
    part = above(network, below, layer, card.blocks)
    some = torch.randn(2, 3, *_shape(asked.backbone), generator=torch.Generator().manual_seed(0))
    some = some.to(asked.device)
    with torch.no_grad():
        given, wanted = up_to(network, below)(some), up_to(network, layer)(some)
    check_above(part, given, wanted, below)
    return part


def _shape(backbone: Backbone) -> tuple[int, int]:
    """(height, width) of what the network sees; ExtractError where its preprocessing says none."""
    known = backbone.preprocessing
    if not isinstance(known, Preprocessing):
        raise ExtractError(
            f"tuning needs extract.Preprocessing, which says the network's size: "
            f"got {type(known).__name__}"
        )
    return known.shape


def _from_images(asked: _Asked, below: str | None) -> tuple[ImageFeed, list]:
    store = asked.store
    remembered = store.cache / "ids" if isinstance(store, FeatureStore) else None
    ids, bad = image_ids(asked.inputs, remembered, cores())
    for row in sorted(bad):
        raise bad[row]
    feed = ImageFeed(asked.inputs, asked.backbone, asked.reading, asked.device)
    if below is not None:
        engine = TorchEngine(asked.backbone, asked.device, "float32", [Tap(below, RAW)])
        feed.below, feed.shape = engine, asked.backbone.card.activations[below].shape
    rule = [asked.backbone.card.digest, asked.backbone.card.transform_id]
    return feed, [*rule, decode_rule(asked.reading), _hex(ids)]


def _key(asked: _Asked, work: _Work, below: str | None) -> str:
    """Of all that decides the weights."""
    layer = asked.layer
    arrays = (layer.mean, layer.scale, layer.weight, layer.bias)
    decides = [
        RULE,
        asked.backbone.card.architecture,
        work.source,
        work.identity,
        below,
        str(layer.tap),
        [_hex(np.asarray(own, np.float32)) for own in arrays],
        [_hex(asked.targets), _hex(asked.validation)],
        asked.tuning.to_dict(),
        [asked.device.partition(":")[0], _autocasts(asked)],
        {name: importlib.metadata.version(name) for name in DECIDING},
    ]
    text = json.dumps(decides, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()


def _hex(values: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()


def _found(path: Path, groups: list[Group], work: _Work) -> Tuned | None:
    """What an earlier call left, where the weights are those that it wrote."""
    history = path.with_name(path.name + FOUND)
    values = read_remembered(history)
    file = path.with_name(path.name + WEIGHTS)
    if values is None or not file.is_file() or file_sha256(file) != values["sha256"]:
        return None
    note_use(history)  # of both: the time of the weights is part of what their card is kept under
    return _tuned(path, values, groups, work, True)


def _tuned(path: Path, values: dict, groups: list[Group], work: _Work, resumed: bool) -> Tuned:
    history = [Epoch(**own) for own in values["history"]]
    return Tuned(
        path.with_name(path.name + WEIGHTS),
        NewLayer.from_dict(values["layer"]),
        history,
        values["best"],
        values["share"],
        groups,
        work.source,
        work.why_images,
        values["views_seconds"],
        sum(own.seconds for own in history),
        resumed,
    )


def _trainer(
    asked: _Asked, work: _Work, parts: dict[str, list[tuple[str, Any]]], groups: list[Group]
) -> Trainer:
    autocast, card = _autocasts(asked), asked.backbone.card
    how = (asked.tuning, asked.device, autocast)
    return Trainer(work.network, work.forward, card, asked.layer, parts, groups, *how)


def _autocasts(asked: _Asked) -> bool:
    """Whether the training computes in bfloat16 where torch's autocast does."""
    if asked.tuning.precision == "auto":
        return has_bfloat16(asked.device)  # emulated it is slower than float32
    return asked.tuning.precision == "bfloat16"


def _reached(network: Any, asked: _Asked) -> list[str]:
    """The names of the parameters that the tap is computed from."""
    import torch

    one = torch.zeros(1, 3, *_shape(asked.backbone), device=asked.device)
    named = dict(network.named_parameters())
    network.requires_grad_(True)
    with torch.enable_grad():
        output = up_to(network, asked.layer.tap.layer)(one)
        found = torch.autograd.grad(output.sum(), list(named.values()), allow_unused=True)
    network.requires_grad_(False)
    return [name for name, own in zip(named, found, strict=True) if own is not None]


def _train(
    asked: _Asked,
    work: _Work,
    trainer: Trainer,
    checkpoint: Checkpoint,
    on_epoch: Callable[[Epoch], Any],
) -> None:
    """To the end, or to where it is stopped: what there is of it is kept."""

    def write() -> None:
        # where there is no room for it, none is left for the weights: at the end all were lost
        with _writing(checkpoint.path.parent, checkpoint.exists):
            checkpoint.write(trainer)

    def after_step() -> None:
        if checkpoint.due():
            write()

    try:
        trainer.train(work.feed, asked.targets, asked.validation, after_step, on_epoch)
    # any: Ctrl-C and the end of the process as well
    except BaseException as error:
        stopped = not isinstance(error, Exception)
        if stopped and trainer.in_order and trainer.progress.history:
            write()
        raise


def _write(
    asked: _Asked, work: _Work, trainer: Trainer, path: Path, views_seconds: float
) -> dict[str, Any]:
    """Write the weights and what is said of them, which is returned."""
    progress, file = trainer.progress, path.with_name(path.name + WEIGHTS)
    # from the network: a tensor that has two names has them in its state
    state = work.network.state_dict()
    tensors = {name: state[name].detach().cpu() for name in asked.backbone.filled_tensors()}
    about = {"unfreeze": asked.tuning.unfreeze, "epoch": progress.best}
    write_tuned(file, asked.backbone, tensors, about)
    values = {
        "sha256": file_sha256(file),
        "layer": trainer.layer().to_dict(),
        "history": [asdict(own) for own in progress.history],
        "best": progress.best,
        "share": trainer.share,
        "views_seconds": views_seconds,
    }
    write_remembered(path.with_name(path.name + FOUND), values)
    return values


@contextlib.contextmanager
def _writing(folder: Path, begun: bool) -> Iterator[None]:
    """Within it a disk that refuses is one line; `begun` where it took a part of the training."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error, begun) from error
