"""Under which licence a network's weights are, where that is known."""

import importlib.util

from extract.backbones.wheels import WHEELS

SCHEME = "timm:"


def licence_of(name: str, weights: str) -> str | None:
    """The licence of the weights that a backbone was loaded with, by what its source says.

    Parameters
    ----------
    name : str
        Of the backbone.
    weights : str
        As they were asked for.

    Returns
    -------
    str or None
        None where nothing is said, as of torchvision's and of one's own.

    Examples
    --------
    >>> licence_of("mobilenet_v2", "wheel")
    'MIT'
    >>> licence_of("mobilenet_v2", "random")
    """
    if name in WHEELS and weights == "wheel":
        return WHEELS[name].licence
    if name.startswith(SCHEME) and weights == "DEFAULT" and importlib.util.find_spec("timm"):
        from timm.models import get_pretrained_cfg

        config = get_pretrained_cfg(name.removeprefix(SCHEME), allow_unregistered=True)
        return None if config is None else config.license
    return None
