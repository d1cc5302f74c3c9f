"""Which networks our own tables name, and how they are written as architectures."""

import re

from extract.backbones.baselines import BASELINES
from extract.backbones.wheels import OF_WHEELS_ALONE

# the schemes that build from a name of a table, ours or their library's, or from what a bundle
# holds, and how their architectures are written
NAMED = {
    "torchvision": re.compile(r"torchvision\.([a-z0-9_]+)"),
    "timm": re.compile(r"timm\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)?)(?:/[0-9a-f]+)?"),
    "hf": re.compile(r"hf\.([a-z0-9_-]+)/[0-9a-f]+"),
    "wheel": re.compile(r"wheel\.([a-z0-9_]+)"),
    "baseline": re.compile(r"permafrost\.([a-z0-9_]+)/\d+"),
}
COPIED = ("timm", "hf", "tuned")  # the schemes whose weights a bundle holds


def bare_names() -> dict[str, str]:
    """The schemes of names that are written without one and are not torchvision's, as they are now.

    >>> bare_names()["pixels"]
    'baseline'
    """
    return {**dict.fromkeys(BASELINES, "baseline"), **dict.fromkeys(OF_WHEELS_ALONE, "wheel")}


def named_backbone(architecture: str) -> str | None:
    """The name of the backbone of an architecture in our own tables; None for one's own network.

    A name that comes from elsewhere is looked up here and never as `module:function`, which would
    import and call what it says, nor as a folder.

    >>> named_backbone("torchvision.resnet18"), named_backbone("permafrost.pixels/1")
    ('resnet18', 'pixels')
    >>> named_backbone("own:package.Net:0123:")
    """
    for scheme, pattern in NAMED.items():
        match = pattern.fullmatch(architecture)
        if not match:
            continue
        if scheme in COPIED:
            return f"{scheme}:{match[1]}"
        if bare_names().get(match[1], "torchvision") == scheme:
            return match[1]
    return None
