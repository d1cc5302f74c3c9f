"""What is known of a backbone without running it again: its layers, weights, preprocessing."""

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.memory import available
from extract.checkpoint import Fit
from extract.cores import threads_for
from extract.errors import ExtractError, is_out_of_memory, too_large
from extract.files import read_remembered, remove_abandoned, write_remembered
from extract.layers import spread, unknown_layer
from extract.pooling import Activation, Tap
from extract.preprocessing import Preprocessing
from extract.weights import tensors_digest

# of a batch's bytes, what the widest layers take at once
TIMES_ITS_INPUT = 8

CARD_SCHEMA = 1


@dataclass(frozen=True)
class Card:
    """All that is known of a backbone at one input size; remembered as JSON.

    Attributes
    ----------
    name, weights, architecture : str
    digest : str
        Of the weight tensors as loaded.
    file_sha256 : str or None
        Of the file they came from.
    transform_id, preprocessing : str, dict or None
        How an image becomes the input; None for a preprocessing of one's own.
    activations : dict of str to Activation
        What each layer gives.
    blocks : list of str
        The layers worth keeping, in order of depth.
    first_untrained : int or None
        Order of the first call that needs weights which were not loaded.
    definition : dict or None
        What its loader needs beside the weights to build it again; None where its name is enough.
    fit : Fit or None
        How the tensors of a file of one's own fit it.
    folds : list of (str, str)
        Convolutions and the batch norms after them that are fused: together they give what one
        convolution gives. (The name is that of the remembered file.)
    """

    name: str
    weights: str
    architecture: str
    digest: str
    file_sha256: str | None
    transform_id: str
    preprocessing: dict | None
    activations: dict[str, Activation]
    blocks: list[str]
    first_untrained: int | None = None
    folds: list[tuple[str, str]] = field(default_factory=list)
    definition: dict | None = None
    fit: Fit | None = None

    def choose_layers(self, text: str) -> list[str]:
        """`auto`, `all` or `a,b` -> layer names; ExtractError for one that isn't there."""
        blocks = [name for name in self.blocks if self._is_trained(self.activations[name])]
        if text in ("auto", "all"):
            if self.blocks and not blocks:
                said = f" ({self.fit.in_words()})" if self.fit else ""
                raise ExtractError(f"no layer has all its weights in {self.weights!r}{said}")
            return spread(blocks) if text == "auto" else blocks
        names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        if not names:
            raise ExtractError(
                f"layers {text!r}: expected auto, all, or names such as {blocks[-1]}"
            )
        for name in names:
            self._find(name)
        return names

    def check(self, tap: Tap) -> Activation:
        """What the tap's layer gives; ExtractError where the tap can't be taken."""
        activation = self._find(tap.layer)
        problem = activation.problem(tap.pooling)
        if problem:
            raise ExtractError(
                f"{tap}: {problem} (layer {tap.layer} gives {activation.shape}); choose another"
            )
        return activation

    def fits(self, tap: Tap) -> bool:
        """Whether the tap's pooling can be taken of its layer."""
        return self._find(tap.layer).problem(tap.pooling) is None

    def width(self, tap: Tap) -> int:
        """Length of the tap's rows."""
        return self.check(tap).width(tap.pooling)

    def _find(self, layer: str) -> Activation:
        if layer not in self.activations:
            raise unknown_layer(layer, self.activations)
        if not self._is_trained(self.activations[layer]):
            raise ExtractError(
                f"layer {layer!r} needs weights that {self.weights!r} does not hold: "
                "choose an earlier one"
            )
        return self.activations[layer]

    def _is_trained(self, activation: Activation) -> bool:
        return self.first_untrained is None or activation.order < self.first_untrained


@dataclass(frozen=True)
class Built:
    """A network just built: with what was filled into it and how its images are made ready."""

    network: Any
    weights: str
    architecture: str
    filled: set[str]
    preprocessing: Any  # Preprocessing, or a callable with a transform_id
    definition: dict | None = None
    file: Path | None = None  # that the weights came from
    fit: Fit | None = None
    patch: tuple[int, int] | None = None  # (height, width) in pixels, where the tokens are of these


def memory_file(memory: Any, key: tuple | None, size: Any) -> Path | None:
    """Where the card of the backbone of this key is remembered; None where nothing is."""
    if memory is None or key is None:
        return None
    # another version may name or order the layers in another way
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision")}
    text = json.dumps([CARD_SCHEMA, *key, size, versions], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return Path(memory) / "backbones" / f"{digest}.json"


def read_card(path: Path) -> Card | None:
    """A remembered card; one that can't be read is as good as none, and made anew."""
    values = read_remembered(path)
    try:
        activations = {name: _activation(own) for name, own in values.pop("activations").items()}
        fit = values.pop("fit", None)
        card = Card(**values, activations=activations, fit=fit and Fit.from_dict(fit))
        told = card.preprocessing and Preprocessing.from_dict(card.preprocessing).transform_id
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    # rows are kept under the id: a preprocessing that is not its own would make them wrong
    return card if told in (None, card.transform_id) else None


def write_card(path: Path, card: Card) -> None:
    """Remember a card. Raises OSError where the folder can't be written."""
    write_remembered(path, asdict(card))
    remove_abandoned(path.parent)


def _activation(values: dict) -> Activation:
    grid = values.pop("tokens_grid")
    values["shape"] = tuple(values["shape"])  # JSON has no tuples
    return Activation(**values, tokens_grid=tuple(grid) if grid else None)


def examine(name: str, built: Built, file_digest: str | None) -> Card:
    """Run the network once on a small seeded batch and write down what there is to know."""
    from extract.fusing import find_fusable
    from extract.layers import block_layers, probe_layers

    batch = _probe_batch(built.preprocessing)
    try:
        with threads_for(built.network, len(batch)):
            activations = probe_layers(built.network, batch, built.patch)
            folds = find_fusable(built.network, batch[:1], activations)
    # any: a network's own code, on a size that is not for it
    except Exception as error:
        if is_out_of_memory(error):
            raise too_large(*batch.shape[-2:]) from error
        size = "x".join(str(side) for side in batch.shape[-2:])
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ExtractError(
            f"{name} does not run on {size} px: {reason}; try another size"
        ) from error
    blocks = block_layers(built.network, activations, batch.shape[-2] / batch.shape[-1])
    preprocessing = built.preprocessing
    return Card(
        name=name,
        weights=built.weights,
        architecture=built.architecture,
        digest=tensors_digest(built.network, built.filled),
        file_sha256=file_digest,
        transform_id=preprocessing.transform_id,
        preprocessing=preprocessing.to_dict() if isinstance(preprocessing, Preprocessing) else None,
        activations=activations,
        blocks=blocks,
        first_untrained=_first_untrained(built, activations),
        folds=folds,
        definition=built.definition,
        fit=built.fit,
    )


def _probe_batch(preprocessing: Any) -> Any:
    import numpy as np
    import torch
    from PIL import Image

    if isinstance(preprocessing, Preprocessing):
        shape = (3, *preprocessing.shape)
    else:
        made = np.asarray(preprocessing(Image.new("RGB", (256, 256), (124, 116, 104))))
        shape = made.shape
        if made.dtype.kind != "f" or made.ndim != 3 or shape[0] != 3:
            raise ExtractError(
                f"preprocessing gave {made.dtype} {shape}, "
                "expected a float array (3, height, width)"
            )
    # asked before it is taken: a machine that swaps answers nothing for minutes
    if 2 * 4 * math.prod(shape) * TIMES_ITS_INPUT > available():
        raise too_large(*shape[-2:])
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def _first_untrained(built: Built, activations: Mapping[str, Activation]) -> int | None:
    """Order of the first layer's call that owns a tensor which was not filled."""
    # that counter takes no part in a forward pass
    needed = {key for key in built.network.state_dict() if not key.endswith("num_batches_tracked")}
    missing = needed - built.filled
    owners = {key.rpartition(".")[0] for key in missing}
    return min((_first_order(owner, activations) for owner in owners), default=None)


def _first_order(owner: str, activations: Mapping[str, Activation]) -> int:
    """Order of the first call within a module; 0 for the network itself, whose own tensors
    (positions, class tokens) come before all blocks."""
    while owner:
        inside = [
            activation.order
            for name, activation in activations.items()
            if name == owner or name.startswith(f"{owner}.")
        ]
        if inside:
            return min(inside)
        owner = owner.rpartition(".")[0]  # inside a window's attention, say
    return 0
