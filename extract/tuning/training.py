"""The training itself: step by step, from any step on to the same weights."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from extract.backbones.card import Card
from extract.cores import threads_for
from extract.engines import whole_float32
from extract.errors import ExtractError
from extract.layers import first_tensor
from extract.tuning.feeds import PLAIN, Feed, view_of
from extract.tuning.new_layer import NewLayer
from extract.tuning.parts import NEW_LAYER, Group
from extract.tuning.schedules import SCHEDULES, count_unfrozen
from extract.tuning.settings import GRADUAL, Tuning

# what random numbers are for: each purpose has a stream of its own, by epoch and step, so that a
# training that goes on after a kill draws what it would have drawn
ORDER, DROPOUT, MIXUP = range(3)
SHARES = (0.75, 0.5, 0.25)  # of the way from the start, where the whole is compared with
TEMPERATURES = (-3.0, 3.0)  # logarithms


@dataclass(frozen=True)
class Epoch:
    """What an epoch did.

    Attributes
    ----------
    epoch : int
        From 0 on; -1 is the start, before any step.
    train_loss : float or None
        Mean of the loss that was minimised; None of the start.
    val_loss, val_accuracy : float
        Cross-entropy at the best temperature, and accuracy, on the validation images in their plain
        view.
    n_unfrozen : int
        Parts that were trained, the new layer not counted.
    rates : list of float
        By group, the rate of the last step; 0 of one that was frozen.
    seconds : float

    Examples
    --------
    >>> Epoch(0, 0.7, 0.5, 0.9, 5, [1e-4, 1e-4], 3.0).val_accuracy
    0.9
    """

    epoch: int
    train_loss: float | None
    val_loss: float
    val_accuracy: float
    n_unfrozen: int
    rates: list[float]
    seconds: float


@dataclass
class Progress:
    """How far a training has come.

    epoch, step : what comes next. loss : sum over the epoch's images so far. history : of the
    epochs that are over, the start first. seconds : of the epoch so far.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The epoch of the least validation loss, the first of equals; -1 is the start."""
        losses = [own.val_loss for own in self.history]
        return self.history[int(np.argmin(losses))].epoch

    def is_over(self, tuning: Tuning) -> bool:
        """Whether all epochs are done, or the last so many were no better than one before."""
        if self.epoch >= tuning.epochs:
            return True
        waited = bool(self.history) and self.history[-1].epoch - self.best
        return bool(tuning.patience and self.step == 0 and waited >= tuning.patience)


class Trainer:
    """A network's trained part with its new layer, its optimiser and how far they have come.

    network : the copy whose tensors are trained. forward : what the feed gives -> the tap's layer.
    parts : as of `parameters_of`. groups : as of `divide`, of these.
    """

    def __init__(
        self,
        network: Any,
        forward: Callable[[Any], Any],
        card: Card,
        layer: NewLayer,
        parts: Mapping[str, Sequence[tuple[str, Any]]],
        groups: Sequence[Group],
        tuning: Tuning,
        device: str,
        autocast: bool,
    ) -> None:
        import torch

        self._network = network
        self._forward = forward
        self._tap = layer.tap
        self._activation = card.check(layer.tap)
        self.groups = groups
        self.tuning = tuning
        self.device = device
        self._autocast = autocast
        self._parts = parts
        self._mean, self._scale, weight, bias = (
            torch.tensor(np.asarray(own, np.float32), device=device)
            for own in (layer.mean, layer.scale, layer.weight, layer.bias)
        )
        self._weight, self._bias = weight.requires_grad_(), bias.requires_grad_()
        network.requires_grad_(False)
        self.optimizer = self._optimizer()
        self.progress = Progress()
        self.start_tensors = self.tensors()
        self.best_tensors: dict[str, Any] = {}
        self.in_order = True  # whether it could go on from its tensors and progress as they are
        self.share = 1.0  # of the best epoch's weights in those that were taken

    def _optimizer(self) -> Any:
        """AdamW with two groups of parameters for each of ours: with weight decay and without."""
        import torch

        options = []
        for group in self.groups:
            own = [pair for part in group.layers for pair in self._parts[part]]
            if not group.layers:
                own = [("weight", self._weight), ("bias", self._bias)]
            for decay, named in (
                (self.tuning.weight_decay, [p for _, p in own if p.dim() > 1]),
                (0.0, [p for _, p in own if p.dim() <= 1]),
            ):
                # an empty one keeps the groups in step with ours
                options.append({"params": named, "weight_decay": decay, "lr": group.rate})
        return torch.optim.AdamW(options, fused=True)

    def named(self) -> dict[str, Any]:
        """The trained tensors by name: the network's, and the new layer's."""
        layer = {f"{NEW_LAYER}/weight": self._weight, f"{NEW_LAYER}/bias": self._bias}
        return layer | self.of_network()

    def of_network(self) -> dict[str, Any]:
        """The trained tensors of the network, by their names in it."""
        return {name: tensor for part in self._parts.values() for name, tensor in part}

    def tensors(self) -> dict[str, Any]:
        """Copies of the trained tensors, as they are now."""
        return {name: tensor.detach().clone() for name, tensor in self.named().items()}

    def put_back(self, tensors: Mapping[str, Any]) -> None:
        """Take the values of these tensors, by name."""
        import torch

        with torch.no_grad():
            for name, own in self.named().items():
                own.copy_(tensors[name])

    def layer(self) -> NewLayer:
        """The new layer as it is now."""
        arrays = (self._mean, self._scale, self._weight, self._bias)
        return NewLayer(self._tap, *(own.detach().cpu().numpy().copy() for own in arrays))

    def train(
        self,
        feed: Feed,
        targets: np.ndarray,
        validation: np.ndarray,
        after_step: Callable[[], None],
        after_epoch: Callable[[Epoch], None],
    ) -> None:
        """Go on from where it is to the end, and take the weights of the best epoch.

        targets : (n,) int. validation : (n,) bool. after_step : called between two steps, when all
        that a training goes on from is in order.
        """
        trained, held_out = np.flatnonzero(~validation), np.flatnonzero(validation)
        progress = self.progress
        with self._computing():
            if not progress.history:
                loss, accuracy = self._validate(feed, targets, held_out)
                self._end_epoch(Epoch(-1, None, loss, accuracy, 0, [], 0.0), after_epoch)
            while not progress.is_over(self.tuning):
                began = time.perf_counter() - progress.seconds
                for _ in self._steps(feed, targets, trained):
                    progress.seconds = time.perf_counter() - began
                    after_step()
                loss, accuracy = self._validate(feed, targets, held_out)
                done = Epoch(
                    progress.epoch,
                    progress.loss / len(trained),
                    loss,
                    accuracy,
                    self._n_unfrozen(progress.epoch),
                    self._rates(self._steps_of_epoch(len(trained))),
                    round(time.perf_counter() - began, 3),
                )
                self.in_order = False
                progress.epoch, progress.step = progress.epoch + 1, 0
                progress.loss = progress.seconds = 0.0
                self._end_epoch(done, after_epoch)
                after_step()
            self._take_best(feed, targets, held_out)

    def _take_best(self, feed: Feed, targets: np.ndarray, held_out: np.ndarray) -> None:
        """The weights of the best epoch, or, where the loss is less, between them and the start's.

        Along the line from one to the other the loss has no ridge while they lie in one valley, and
        what is between errs less on images unlike those trained on (Wortsman et al., 2022).
        """
        self.in_order = False  # what is tried are no weights of a step
        best, start = self.best_tensors, self.start_tensors
        found = {1.0: self.progress.history[self.progress.best + 1].val_loss}
        for share in SHARES if self.tuning.average and self.progress.best >= 0 else ():
            self.put_back(_between(start, best, share))
            found[share] = self._validate(feed, targets, held_out)[0]
        self.share = min(found, key=found.__getitem__)
        self.put_back(_between(start, best, self.share))

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        import torch

        kind = self.device.partition(":")[0]
        with (
            whole_float32(),
            torch.enable_grad(),
            # what it would keep of a weight until the end is not what a step makes of it
            torch.autocast(kind, torch.bfloat16, enabled=self._autocast, cache_enabled=False),
        ):
            yield

    def _end_epoch(self, done: Epoch, after_epoch: Callable[[Epoch], None]) -> None:
        self.progress.history.append(done)
        if self.progress.best == done.epoch:
            self.best_tensors = self.tensors()
        self.in_order = True
        after_epoch(done)

    def _n_unfrozen(self, epoch: int) -> int:
        gradual = self.tuning.unfreeze == GRADUAL
        return count_unfrozen(len(self._parts), epoch, self.tuning.epochs, gradual)

    def _steps_of_epoch(self, images: int) -> int:
        return -(-images // self.tuning.batch)

    def _rates(self, steps: int) -> list[float]:
        """By our group, the rate of the last of an epoch's steps; 0 where its parts are frozen.

        From the schedule, as a training that goes on at an epoch's end takes no step in it.
        """
        epoch = self.progress.epoch
        factor = self._factor((epoch + 1) * steps - 1, steps)
        unfrozen = {NEW_LAYER, *list(self._parts)[: self._n_unfrozen(epoch)]}
        return [
            own.rate * factor if unfrozen.intersection(own.layers or (NEW_LAYER,)) else 0.0
            for own in self.groups
        ]

    def _factor(self, step: int, steps: int) -> float:
        """Of every rate in a step, counted from the first epoch's first; steps : of an epoch."""
        schedule = SCHEDULES[self.tuning.schedule]
        return schedule(step, steps * self.tuning.epochs, self.tuning.warmup)

    def _refuse_diverged(self, loss: float) -> None:
        if not np.isfinite(loss):
            rates = ", ".join(f"{own.rate:.2g}" for own in self.groups)
            raise ExtractError(
                f"the loss is no number any more in epoch {self.progress.epoch + 1}: learning "
                f"rates {rates} are too high for this network; choose lower ones (higher exponents)"
            )

    def _steps(self, feed: Feed, targets: np.ndarray, trained: np.ndarray) -> Iterator[None]:
        """The steps of this epoch that are left; after each, the progress says so."""
        progress, size = self.progress, self.tuning.batch
        order = trained[self._random(ORDER, progress.epoch).permutation(len(trained))]
        a_epoch = self._steps_of_epoch(len(order))
        self._unfreeze(progress.epoch)
        left = order[progress.step * size :]
        view = view_of(self.tuning, progress.epoch)
        for given in feed.batches(left, view, size):
            at = progress.step * size
            step = progress.epoch * a_epoch + progress.step
            factor = self._factor(step, a_epoch)
            for options, group in zip(self.optimizer.param_groups, self._twice(), strict=True):
                options["lr"] = group.rate * factor
            loss = self._step(given, targets[order[at : at + size]])
            progress.loss += loss
            progress.step += 1
            self.in_order = True
            self._refuse_diverged(loss)
            yield

    def _twice(self) -> list[Group]:
        return [group for group in self.groups for _ in range(2)]

    def _unfreeze(self, epoch: int) -> None:
        for number, own in enumerate(self._parts.values()):
            for _, parameter in own:
                parameter.requires_grad_(number < self._n_unfrozen(epoch))

    def _step(self, given: Any, targets: np.ndarray) -> float:
        """One step of the optimiser -> the sum of the losses."""
        import torch
        from torch.nn.functional import cross_entropy, one_hot

        wanted = torch.from_numpy(targets).to(self.device)
        shares = one_hot(wanted, len(self._bias)).float()
        if self.tuning.mixup:
            given, shares = self._mix(given, shares)
        with threads_for(self._network, len(given)):
            logits = self._logits(given, self._dropped(len(given)))
            loss = cross_entropy(logits, shares, label_smoothing=self.tuning.smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            self.in_order = False  # the weights are a step ahead until the progress says so
            self.optimizer.step()
        return float(loss.detach()) * len(given)

    def _logits(self, given: Any, kept: Any = None) -> Any:
        """(n, classes), float32."""
        import torch
        from torch.nn.functional import linear

        output = first_tensor(self._forward(given), len(given)).float()
        rows = self._activation.pool(output, self._tap.pooling)
        rows = (rows - self._mean) / self._scale
        if kept is not None:
            rows = rows * kept
        # in float32 under autocast too: the losses of two epochs differ by little
        with torch.autocast(self.device.partition(":")[0], enabled=False):
            return linear(rows, self._weight, self._bias)

    def _random(self, purpose: int, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.tuning.seed, purpose, *place])

    def _dropped(self, n: int) -> Any:
        """Factors (n, d) of the new layer's inputs: 0 where dropped, else their mean stays."""
        import torch

        share = self.tuning.dropout
        if not share:
            return None
        random = self._random(DROPOUT, self.progress.epoch, self.progress.step)
        kept = random.random((n, len(self._mean)), np.float32) >= share
        return torch.from_numpy(kept.astype(np.float32) / np.float32(1 - share)).to(self.device)

    def _mix(self, given: Any, shares: Any) -> tuple[Any, Any]:
        """Each with another of the batch, all in one proportion."""
        import torch

        random = self._random(MIXUP, self.progress.epoch, self.progress.step)
        share = float(random.beta(self.tuning.mixup, self.tuning.mixup))
        others = torch.from_numpy(random.permutation(len(given))).to(given.device)
        return (
            share * given + (1 - share) * given[others],
            share * shares + (1 - share) * shares[others],
        )

    def _validate(self, feed: Feed, targets: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
        """(cross-entropy at the best temperature, accuracy) of images that are not trained on."""
        import torch

        with torch.no_grad():
            found = [
                self._logits(given).cpu() for given in feed.batches(rows, PLAIN, self.tuning.batch)
            ]
        logits, wanted = torch.cat(found).double().numpy(), targets[rows]
        self._refuse_diverged(float(np.abs(logits).max()))
        return tempered_loss(logits, wanted), float((logits.argmax(1) == wanted).mean())


def tempered_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Cross-entropy where the logits are divided by the temperature at which it is the least.

    How sure a network is changes from epoch to epoch more than what it knows, and a temperature
    mends it at the end (Guo et al., 2017): by the bare loss, epochs that know more would lose to
    the start. Each target has the share of one more image, of the other classes, against it (as in
    Platt, 1999): of few images all of which are right the least loss would be at absolute zero.

    Parameters
    ----------
    logits : array of shape (n, classes)
    targets : array of shape (n,), int

    Returns
    -------
    float

    Examples
    --------
    >>> logits = np.log([[0.8, 0.2]] * 500)
    >>> targets = np.arange(500) % 5 == 0
    >>> round(tempered_loss(9 * logits, targets.astype(int)), 2)  # as of the logits themselves
    0.5
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    n, classes = logits.shape
    wanted = np.full((n, classes), 1 / (n + 2) / max(classes - 1, 1))
    wanted[np.arange(n), targets] = (n + 1) / (n + 2)

    def loss(log_temperature: float) -> float:
        return -float((wanted * log_softmax(logits * np.exp(-log_temperature), axis=1)).sum()) / n

    return float(minimize_scalar(loss, bounds=TEMPERATURES, method="bounded").fun)


def _between(start: Mapping[str, Any], end: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The way from one to the other, so much of it."""
    if share == 1:
        return dict(end)
    return {name: start[name].lerp(own, share) for name, own in end.items()}
