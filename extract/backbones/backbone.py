"""A frozen network with its weights and preprocessing, loaded when it is first run."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from extract.backbones.card import Built, Card, examine, memory_file, read_card, write_card
from extract.errors import ExtractError
from extract.files import note_use
from extract.preprocessing import Preprocessing
from extract.weights import file_sha256, tensors_digest, weights_file


class Backbone:
    """One frozen network with its weights and preprocessing; it is loaded on first use.

    Made by `load_backbone`. Copies share the network; a pickle leaves it out.

    Parameters
    ----------
    name, weights : str
    build : callable
        Makes the network.
    size : int, (height, width) or None
        What the network sees in pixels; None is the preprocessing's own.
    memory : path or None
        The folder in which its card is remembered.
    key : tuple or None
        What its card depends on beside the size; None remembers nothing.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        build: Callable[[], Built] | None,
        *,
        size: Any = None,
        memory: Any = None,
        key: tuple | None = None,
    ) -> None:
        self.name = name
        self.weights = weights
        self.size = size
        self._build = build
        self.memory = memory
        self.key = key
        self._is_sent = False
        self._built: Built | None = None
        self._card: Card | None = None
        self.ready: dict[tuple, Any] = {}  # what an engine leaves to the next

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, weights={self.weights!r})"

    def __deepcopy__(self, memo: dict) -> "Backbone":
        return self

    def __getstate__(self) -> dict:
        own = self.key is None and not self._is_sent
        return self.__dict__ | {"_built": None, "ready": {}, "_build": None if own else self._build}

    def to_send(self) -> "Backbone":
        """The same for another process: a pickle of it brings one's own module along."""
        sent = Backbone.__new__(Backbone)
        sent.__dict__ |= self.__dict__ | {"_is_sent": True}
        return sent

    @property
    def seed(self) -> int:
        """Of random weights; 0 for others."""
        return getattr(self._build, "seed", 0)

    @property
    def card(self) -> Card:
        """What is known of it, remembered from an earlier run where there was one."""
        if self._card is None:
            self._card = self.known_card or self._make_card()
        return self._card

    @property
    def known_card(self) -> Card | None:
        """The card where it is at hand; None where the network would have to be loaded for it."""
        self._card = self._card or self._remembered()
        return self._card

    @property
    def preprocessing(self) -> Preprocessing | Callable:
        """How an RGB image becomes the network's input."""
        if self._built is None and self.card.preprocessing:
            return Preprocessing.from_dict(self.card.preprocessing)
        return self._load().preprocessing

    @property
    def network(self) -> Any:
        """The torch module, float32, in eval mode, on the CPU."""
        return self._load().network

    def filled_tensors(self) -> dict:
        """The weight tensors that were loaded, by name."""
        built = self._load()
        return {
            name: tensor
            for name, tensor in built.network.state_dict().items()
            if name in built.filled
        }

    def build(self) -> Built:
        """The network made anew, as its loader gives it; ExtractError where it can't be."""
        if self._build is None:
            raise ExtractError(
                f"backbone {self.name} was unpickled without its network: pass the module again"
            )
        return self._build()

    def _load(self) -> Built:
        if self._built is None:
            built = self.build()
            preprocessing = resized(built.preprocessing, self.size)
            network = built.network.eval().float().requires_grad_(False)
            built = replace(built, network=network, preprocessing=preprocessing)
            self._refuse_another(built)
            self._built = built
        return self._built

    def _refuse_another(self, built: Built) -> None:
        """What was remembered may be of another file by now; its rows would pass for the old."""
        card = self._card
        if card is None:
            return
        same = (
            card.architecture == built.architecture
            and card.transform_id == built.preprocessing.transform_id
            and card.digest == tensors_digest(built.network, built.filled)
        )
        if same:
            return
        self._card = None
        path = self._memory_file()
        if path is not None:
            path.unlink(missing_ok=True)
        raise ExtractError(
            f"the weights of {self.name} are not those remembered of {self.weights!r}: run again"
        )

    def _memory_file(self) -> Path | None:
        return memory_file(self.memory, self.key, self.size)

    def _remembered(self) -> Card | None:
        path = self._memory_file()
        if path is None:
            return None
        note_use(path)
        return read_card(path)

    def _make_card(self) -> Card:
        built = self._load()
        source = built.file or weights_file(built.weights)
        card = examine(self.name, built, None if source is None else file_sha256(source))
        path = self._memory_file()
        if path is not None:
            # a cache that can only be read still gives what it holds
            with contextlib.suppress(OSError):
                write_card(path, card)
        return card


def resized(preprocessing: Any, size: Any) -> Any:
    """The preprocessing to another size; ExtractError for one of one's own, which has no other."""
    if size is None:
        return preprocessing
    if isinstance(preprocessing, Preprocessing):
        return replace(preprocessing, size=size)
    if not hasattr(preprocessing, "resized"):
        raise ExtractError(
            f"size={size} can't be set on a preprocessing of one's own: give it the size instead"
        )
    return preprocessing.resized(size)
