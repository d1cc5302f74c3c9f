"""What a layer of a backbone sees, gathered for a page: patches, images made, views back."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from data import Reading
from data.names import counted
from extract import Backbone, ExtractError
from pipelines.evaluation.channels import f_statistic
from pipelines.report.inside import ChannelLook, LayerLook, PatchPicture

if TYPE_CHECKING:
    from extract.introspection.deconvolution import ViewBack
    from extract.introspection.patches import Choose, Strongest

GRAY = (127, 127, 127)
SHOWN_BACK = 3  # patches of a channel that a view back is shown of


def look_at(
    backbone: Backbone,
    layer: str,
    inputs: Sequence = (),
    channels: Sequence[int] | int = 10,
    *,
    labels: np.ndarray | None = None,
    device: str = "auto",
    reading: Reading | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> LayerLook:
    """Everything that is shown of a layer's channels.

    Parameters
    ----------
    backbone : Backbone
    layer : str
        With a spatial map.
    inputs : n paths, PIL images or uint8 arrays, optional
        To find patches in; without them each channel has its made image alone.
    channels : sequence of int, or int
        Their numbers; or how many of those that stand out most: by `labels` those in whose average
        the classes lie farthest apart, without labels those whose strongest answers lie farthest
        above their mean, without images some spread over all; all there are where it is more.
    labels : (n,) str, optional
    device, reading
        As of `extract.introspection.patches.find_patches`.
    seed : int
        Of the images that are made.
    on_progress : callable of (int, int), optional
        Of these images, as of `extract.introspection.maximisation.maximise`.

    Returns
    -------
    LayerLook
        Where images can't be read or made, or no view leads back, its notes say so.

    Raises
    ------
    ExtractError
        A layer or channel that is not there; without images also where none can be made.
    """
    from extract.introspection.fields import find_field
    from extract.introspection.layer_run import check_channels, spatial_layer
    from extract.introspection.patches import find_patches

    activation = spatial_layer(backbone, layer)
    shape = activation.map_shape
    if not isinstance(channels, int):
        check_channels(activation, layer, channels)
    notes = _lacking_channels(channels, layer, shape[0])
    found: dict[int, list] = {}
    read: list[int] = []
    if len(inputs):
        chosen = _telling(channels, labels, read)
        found = find_patches(backbone, layer, inputs, chosen, device=device, reading=reading)
        if len(read) < len(inputs):
            unread = counted(len(inputs) - len(read), "image")
            notes.append(f"{unread} of {len(inputs)} can't be read, and left out")
    shown = list(found) if found else _spread(channels, shape[0])
    made = _made(backbone, layer, shown, seed, notes if len(inputs) else None, on_progress)
    patches = _pictured(backbone, layer, inputs, found, reading, notes)
    field = find_field(backbone, layer)
    return LayerLook(
        backbone.name,
        backbone.weights,
        layer,
        shape,
        (field.down.seen, field.across.seen),
        (field.down.length, field.across.length),
        [ChannelLook(own, patches.get(own, []), **made.get(own, {})) for own in shown],
        len(read),
        _chosen_in_words(channels, shape[0], len(inputs), labels),
        notes,
    )


def _lacking_channels(channels: Sequence[int] | int, layer: str, among: int) -> list[str]:
    if not isinstance(channels, int) or channels <= among:
        return []
    return [f"{channels} channels were asked for, and layer {layer!r} has {among}: all are shown"]


def _chosen_in_words(
    channels: Sequence[int] | int, among: int, n_images: int, labels: np.ndarray | None
) -> str:
    if not isinstance(channels, int):
        return "those asked for"
    if channels >= among:
        return "all there are"
    if not n_images:
        return "spread over all"
    if labels is None:
        return "those whose strongest answers lie farthest above their mean"
    return "those in whose average the classes lie farthest apart"


def _telling(channels: Sequence[int] | int, labels: np.ndarray | None, read: list[int]) -> "Choose":
    """The channels as they were asked for; of how many those that tell the classes apart best.

    read : takes the rows of the images that could be.
    """

    def choose(found: "Strongest") -> Sequence[int]:
        read.extend(found.images.tolist())
        if not isinstance(channels, int):
            return channels
        if labels is None:
            return found.standing_out(channels)
        apart = f_statistic(found.averages.astype(np.float64), labels[found.images])
        return np.argsort(-apart, kind="stable")[:channels].tolist()

    return choose


def _spread(channels: Sequence[int] | int, among: int) -> list[int]:
    """The channels that were named, or so many spread over all."""
    if not isinstance(channels, int):
        return list(channels)
    return np.unique(np.linspace(0, among - 1, channels).astype(int)).tolist()


def _made(
    backbone: Backbone,
    layer: str,
    channels: Sequence[int],
    seed: int,
    notes: list[str] | None,
    on_progress: Callable[[int, int], None] | None,
) -> dict[int, dict[str, Any]]:
    """By channel the image that is made to excite it; why there is none where notes take it."""
    from extract.introspection.maximisation import maximise

    try:
        found = maximise(backbone, layer, channels, seed, on_progress=on_progress)
    except ExtractError as error:
        if notes is None:
            raise
        notes.append(f"no images were made: {error}")
        return {}
    return {
        own.channel: {
            "made": Image.fromarray(own.image),
            "before": own.before,
            "after": own.after,
        }
        for own in found
    }


def _pictured(
    backbone: Backbone,
    layer: str,
    inputs: Sequence,
    found: dict[int, list],
    reading: Reading | None,
    notes: list[str],
) -> dict[int, list[PatchPicture]]:
    """By channel its patches cut out, with views back of the first."""
    from extract.introspection.patches import cut_patches

    flat = [patch for own in found.values() for patch in own]
    cut = iter(cut_patches(inputs, flat, reading))
    back = _views_back(backbone, layer, inputs, found, reading, notes)
    return {
        channel: [
            _with_view(
                PatchPicture(_name(inputs[patch.row]), patch.value, next(cut)),
                back.get((channel, i)),
            )
            for i, patch in enumerate(own)
        ]
        for channel, own in found.items()
    }


def _with_view(patch: PatchPicture, view: "ViewBack | None") -> PatchPicture:
    """The patch with what in it excites the channel, and itself through where that is strong."""
    from extract.introspection.patches import crop

    if view is None or not isinstance(patch.picture, Image.Image):
        return patch
    picture = patch.picture.convert("RGB")
    strong = crop(Image.fromarray(view.strength()), view.shown).resize(picture.size)
    return replace(
        patch,
        back=crop(Image.fromarray(view.drawn()), view.shown),
        through=Image.composite(picture, Image.new("RGB", picture.size, GRAY), strong),
    )


def _name(item: Any) -> str:
    """The path of an image; nothing of one that is no file."""
    return os.fspath(item) if isinstance(item, (str, os.PathLike)) else ""


def _views_back(
    backbone: Backbone,
    layer: str,
    inputs: Sequence,
    found: dict[int, list],
    reading: Reading | None,
    notes: list[str],
) -> "dict[tuple[int, int], ViewBack]":
    """By channel and number of the patch what in it excites the channel."""
    from extract.introspection.deconvolution import view_back

    wanted = [(channel, i) for channel, own in found.items() for i in range(len(own[:SHOWN_BACK]))]
    images = [inputs[found[channel][i].row] for channel, i in wanted]
    try:
        views = view_back(
            backbone, layer, images, [channel for channel, _ in wanted], reading=reading
        )
    except ExtractError as error:
        notes.append(f"no views back: {error}")
        return {}
    return dict(zip(wanted, views, strict=True))
