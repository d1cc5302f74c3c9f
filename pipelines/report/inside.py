"""What a layer sees, as people look at it: patches, images made to excite, and views back."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image


def look_page(layer: str) -> str:
    """The file's name of a layer's page; pages of several layers lie in one folder.

    Examples
    --------
    >>> look_page("features.14"), look_page("module:blocks/3")
    ('look-features.14.html', 'look-module_blocks_3.html')
    """
    fit = re.sub(r"[^\w.-]", "_", layer)
    return f"look-{fit}.html"


@dataclass(frozen=True, eq=False)
class PatchPicture:
    """A patch that excites a channel, as it is shown.

    path: of its image. value: the activation. picture: cut out of the image, or as the address of
    its own bytes; None where that can't be read any more. back: what in it excites the channel, for
    some; through: the patch where that is strong, and gray elsewhere. label: the image's, if known.
    """

    path: str
    value: float
    picture: Image.Image | str | None
    back: Image.Image | None = None
    through: Image.Image | None = None
    label: str = ""


@dataclass(frozen=True, eq=False)
class ChannelLook:
    """What is shown of a channel: its patches, and an image made to excite it.

    before, after: its mean activation of noise, and of the image that was made of this.
    """

    channel: int
    patches: Sequence[PatchPicture]
    made: Image.Image | None = None
    before: float = 0.0
    after: float = 0.0

    @property
    def classes(self) -> str:
        """What its patches show, the most frequent first: `7 daisy, 2 tulips`."""
        counts = Counter(own.label for own in self.patches if own.label)
        return ", ".join(f"{n} {label}" for label, n in counts.most_common())


@dataclass(frozen=True, eq=False)
class LayerLook:
    """What is shown of a layer.

    backbone, weights: names. shape: (channels, height, width) of its map. n_images: looked
    through. field: pixels (height, width) that a place sees. sides: (height, width) of what the
    network sees. chosen: how its channels were, in words. notes: what could not be shown, and why.
    """

    backbone: str
    weights: str
    layer: str
    shape: tuple[int, int, int]
    field: tuple[int, int]
    sides: tuple[int, int]
    channels: Sequence[ChannelLook]
    n_images: int = 0
    chosen: str = ""
    notes: Sequence[str] = ()
