"""What training is fed with: batches of images, or of the activations that a block gave of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from data import ImageError, Reading
from data.memory import available
from extract.augmentation import random_view
from extract.backbones import Backbone
from extract.engines import made_ready, mean_and_std, stack_for, to_device
from extract.extraction import Extraction, extract
from extract.forward_pass import NOT_WATCHED, Watch
from extract.loader import Decoding, load_batches
from extract.pooling import RAW, Tap
from extract.preprocessing import seen_as
from extract.tuning.settings import OFF, Tuning

PLAIN = "plain"
READ = 256  # rows of a view that are read at a time
AHEAD = 2  # batches that are decoded before they are asked for


def view_of(tuning: Tuning, epoch: int) -> str:
    """The view in which an epoch sees the images.

    >>> [view_of(Tuning(views=2, seed=7), epoch) for epoch in (0, 1, 2)]
    ['strong-7-0', 'strong-7-1', 'strong-7-0']
    >>> view_of(Tuning(views=0), 12), view_of(Tuning(augment="off"), 12)
    ('strong-0-12', 'plain')
    """
    if tuning.augment == OFF:
        return PLAIN
    number = epoch % tuning.views if tuning.views else epoch
    return random_view(tuning.augment, tuning.seed, number)


def views_of(tuning: Tuning) -> list[str]:
    """All views that training sees, each once."""
    return list(dict.fromkeys(view_of(tuning, epoch) for epoch in range(tuning.epochs)))


class Feed(Protocol):
    """What gives what the trained part of the network is given."""

    def batches(self, rows: np.ndarray, view: str, size: int) -> Iterator[Any]:
        """Float32 tensors on the device: so many of these rows at a time, in this order."""
        ...


@dataclass
class ActivationFeed:
    """Kept activations of the block below the part that is trained.

    extraction : the pass that kept them. shape : of one image's. device : where they go.
    """

    extraction: Extraction
    tap: Tap
    shape: tuple[int, ...]
    device: str
    _held: tuple[str, np.ndarray, np.ndarray] | None = None

    def batches(self, rows: np.ndarray, view: str, size: int) -> Iterator[Any]:
        """As of Feed."""
        import torch

        read = self._reader(rows, view)
        for first in range(0, len(rows), size):
            found = read(rows[first : first + size])
            given = torch.from_numpy(found.astype(np.float32)).view(-1, *self.shape)
            yield given.to(self.device)

    def _reader(self, rows: np.ndarray, view: str) -> Any:
        """What reads rows of a view: from memory where a whole view fits, since a batch's rows lie
        in as many chunks of the file, and each would be read as often as it has rows."""
        n, width = len(rows), int(np.prod(self.shape))
        if 4 * 2 * n * width > available():
            return lambda own: self._read(own, view)
        sorted_rows = np.sort(rows)
        held = self._held
        if held is None or held[0] != view or not np.array_equal(held[1], sorted_rows):
            values = np.empty((n, width), np.float16)  # as they are kept: nothing is lost
            for first in range(0, n, READ):
                own = slice(first, first + READ)
                values[own] = self._read(sorted_rows[own], view)
            held = self._held = view, sorted_rows, values
        return lambda own: held[2][np.searchsorted(held[1], own)]

    def _read(self, rows: np.ndarray, view: str) -> np.ndarray:
        return self.extraction.read([self.tap], rows, view)


@dataclass
class ImageFeed:
    """Images, decoded anew each time.

    below : what computes the activations of the block below the trained part from their pixels,
        rounded as they would be kept; None where the trained part takes the images themselves.
    """

    inputs: Sequence
    backbone: Backbone
    reading: Reading
    device: str
    below: Any = None
    shape: tuple[int, ...] = ()

    def batches(self, rows: np.ndarray, view: str, size: int) -> Iterator[Any]:
        """As of Feed; raises ImageError for an image that can't be read."""
        seen = seen_as(view)(self.backbone.preprocessing)
        decoding = Decoding([seen], stack_for(self.device), reading=self.reading)
        found = load_batches(self.inputs, rows, decoding, lambda: size, AHEAD)
        try:
            for batch in found:
                for error in batch.bad.values():
                    raise error
                yield self._given(batch.pixels[0])
        finally:
            found.close()

    def _given(self, pixels: np.ndarray) -> Any:
        import torch

        if self.below is not None:
            with self.below.running():  # around no more: what is trained needs gradients
                (rows,) = self.below(pixels).values()
            return torch.from_numpy(rows).view(-1, *self.shape).to(self.device)
        images = to_device(pixels, self.device)
        if images.dtype != torch.uint8:
            return images
        return made_ready(images, mean_and_std(self.backbone.preprocessing, self.device))


def keep_activations(
    inputs: Sequence,
    validation: np.ndarray,
    backbone: Backbone,
    below: str,
    tuning: Tuning,
    *,
    store: Any,
    numerics: str,
    device: str,
    reading: Reading,
    watch: Watch = NOT_WATCHED,
) -> Extraction:
    """Have the store hold what a block gives of each view of the images that are trained on, and
    of the plain view of those that tell when to stop.

    validation : (n,) bool. Raises ImageError for the first image that can't be read.
    """
    tap = [Tap(below, RAW)]
    how = {"numerics": numerics, "device": device, "reading": reading, "watch": watch}
    trained = np.flatnonzero(~validation).tolist()
    first = extract(
        [inputs[row] for row in trained], tap, backbone, store, views=views_of(tuning), **how
    )
    # in what the first settled on: the two parts are told apart by nothing but their rows
    how |= {"numerics": first.recipe.numerics}
    held_out = np.flatnonzero(validation).tolist()
    second = extract([inputs[row] for row in held_out], tap, backbone, store, **how)
    for rows, own in ((trained, first), (held_out, second)):
        for row in sorted(own.bad):
            raise _named(own.bad[row], inputs, rows[row])
    ids = np.empty((len(inputs), first.ids.shape[1]), np.uint8)
    ids[trained], ids[held_out] = first.ids, second.ids
    assert first.request is not None
    request = replace(first.request, inputs=inputs, watch=NOT_WATCHED)
    return replace(first, ids=ids, request=request, seconds=first.seconds + second.seconds)


def _named(error: ImageError, inputs: Sequence, row: int) -> ImageError:
    return error if error.path else ImageError(f"image {row}", error.reason)
