"""Networks that a configuration from elsewhere may ask for, refused before they are made."""

from collections.abc import Iterator
from typing import Any

from data.memory import available
from extract.errors import ExtractError

MOST_LAYERS, MOST_WIDTH = 1000, 1 << 20


def refuse_large(
    name: str, key: str, value: Any, *, is_depth: bool, most: int = MOST_WIDTH
) -> None:
    """ExtractError for more modules or wider ones than any network of this name has.

    key, value : of its config.json. is_depth : whether it says how many modules are made.
    """
    numbers = [own for own in _leaves(value) if isinstance(own, int)]
    if (is_depth and sum(numbers) > MOST_LAYERS) or max(numbers, default=0) > most:
        raise ExtractError(f"{name}: {key}={str(value)[:60]} in its config.json is too large")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for own in value:
            yield from _leaves(own)
    else:
        yield value


def bytes_of(network: Any) -> int:
    """What a network's parameters take in float32."""
    return 4 * sum(parameter.numel() for parameter in network.parameters())


def refuse_huge(name: str, needed: int) -> None:
    """ExtractError for a network of so many bytes that this machine can't hold."""
    if needed > available():
        raise ExtractError(
            f"{name} needs {needed / 1e9:,.1f} GB of memory, "
            f"{available() / 1e9:,.1f} GB are free: choose a smaller model"
        )
