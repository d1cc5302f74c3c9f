"""What a notebook shows of our estimators: scikit-learn's own view, and below it what we know."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator

from data.names import counted
from extract.backbones import BASELINES, Backbone, scheme_of
from extract.backbones.card import Card
from extract.errors import ExtractError
from extract.files import read_only
from extract.pooling import parse_taps

if TYPE_CHECKING:
    from extract.extractor import FeatureExtractor

LATER = "how many is known after the first call"
UNKNOWN = "–"
# what parameters that can't be used raise: a view says so
UNUSABLE = (ExtractError, TypeError, ValueError, OSError)
_showing = ContextVar("showing", default=False)


class ShownEstimator(BaseEstimator):
    """An estimator whose view in a notebook has a part of ours below scikit-learn's."""

    def _own_view(self) -> str:
        """HTML of what scikit-learn does not know."""
        raise NotImplementedError

    @property
    def _repr_html_(self) -> Callable[[], str]:
        theirs = super()._repr_html_  # AttributeError where scikit-learn is set to show text

        def both() -> str:
            with _shown():
                return theirs() + self._own_view()

        return both

    def _repr_mimebundle_(self, **kwargs: Any) -> dict:
        with _shown():
            bundle = super()._repr_mimebundle_(**kwargs)
            if "text/html" in bundle:
                bundle["text/html"] += self._own_view()
        return bundle


@contextmanager
def _shown() -> Iterator[None]:
    token = _showing.set(True)
    try:
        yield
    finally:
        _showing.reset(token)


def refuse_while_shown() -> None:
    """Raise ExtractError while a view is made: to look at an estimator loads no network."""
    if _showing.get():
        raise ExtractError("the names of features are not looked up to show an estimator")


def extractor_view(extractor: "FeatureExtractor") -> str:
    """The backbone of an extractor, its layers, poolings and feature sizes, as far as known."""
    # here: whoever only computes needs none of it
    from data.notebook import facts, paragraph, table, view

    card = known_card(extractor)
    try:
        rows = describe_taps(extractor, card)
    except UNUSABLE as error:
        return view("Features", "", paragraph(error, "warning"))
    sizes = [row[2] for row in rows]
    note = LATER if UNKNOWN in sizes else f"{counted(sum(sizes), 'feature')} of each image"
    return view(
        "Features",
        note,
        facts([*describe_network(extractor, card), ("view", extractor.view)]),
        table(["layer", "pooling", "features", "of a map"], rows, figures=[2]),
    )


def describe_network(extractor: "FeatureExtractor", card: Card | None) -> list[tuple[str, Any]]:
    """Names and values: the backbone, its weights, what it sees."""
    backbone = extractor.backbone
    name = backbone if isinstance(backbone, str) else type(backbone).__name__
    name = getattr(backbone, "name", name) if isinstance(backbone, Backbone) else name
    weights = extractor.weights
    if weights is None:
        weights = card.weights if card else "its default" if name not in BASELINES else None
    size = extractor.size or (card and (card.preprocessing or {}).get("size"))
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    return [
        ("backbone", name),
        ("weights", weights),
        ("sees", f"{width} × {height} pixels" if size else None),
        ("numerics", getattr(extractor, "numerics_", extractor.numerics)),
    ]


def describe_taps(extractor: "FeatureExtractor", card: Card | None) -> list[tuple]:
    """Layer, pooling, number of features and shape of the map of each tap; ExtractError."""
    if not extractor.layer and card is None:
        (tap,) = parse_taps("", extractor.pooling)
        return [("the last block", tap.pooling, UNKNOWN, UNKNOWN)]
    layer = extractor.layer or (card.choose_layers("auto")[-1] if card else "")
    found: list[tuple] = []
    for tap in parse_taps(layer, extractor.pooling):
        size: int | str = UNKNOWN
        shape = UNKNOWN
        if card is not None:
            size = card.width(tap)
            shape = " × ".join(map(str, card.activations[tap.layer].map_shape))
        found.append((tap.layer, tap.pooling, size, shape))
    return found


def known_card(extractor: "FeatureExtractor") -> Card | None:
    """What is known of an extractor's network, where that is at hand without loading it."""
    named = isinstance(extractor.backbone, Backbone) or scheme_of(extractor.backbone) != "module"
    if not named and not hasattr(extractor, "numerics_"):
        return None  # a function of one's own would have to be called
    try:
        with read_only():
            return extractor.load_backbone().known_card
    except UNUSABLE:
        return None
