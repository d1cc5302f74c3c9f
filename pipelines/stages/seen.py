"""The stage of a run that finds the patches which excite the channels of the chosen layer most."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from extract import Backbone, ExtractError, Tap
from extract.introspection.fields import find_field
from extract.introspection.patches import CHANNELS, PATCHES, locate_patches
from extract.pooling import RAW, Activation, find_pooling
from extract.preprocessing import parse_view
from pipelines.evaluation.channels import by_channel, channel_use
from pipelines.outcome import Found, Job
from pipelines.stages.remembered import sources_of, task_of

log = logging.getLogger(__name__)

# poolings that give all channels more than once, one way after the other
PARTS = {"avgmax": 2}


@dataclass(frozen=True)
class Looked:
    """The layer that is looked at, and how the chosen row takes it.

    head : fitted, that weighs most among those on it. source : its number in the table that was
    searched. tap : of that source. columns : the tap's among the source's. view : as it was seen.
    """

    head: Any
    source: int
    backbone: Backbone
    tap: Tap
    columns: slice
    view: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the layer's map."""
        return self.backbone.card.activations[self.tap.layer].map_shape

    @property
    def n_channels(self) -> int:
        """Of the layer's map."""
        return self.shape[0]

    def window(self, cell: int) -> tuple[slice, slice]:
        """Rows and columns of the map that a cell of the pooling is of."""
        shares = find_pooling(self.tap.pooling).shares
        if shares is None:
            return slice(0, self.shape[1]), slice(0, self.shape[2])
        down, across = map(shares, self.shape[1:])
        row, column = divmod(cell, len(across))
        return _span(down[row]), _span(across[column])


def see_layer(job: Job, found: Found) -> dict | None:
    """The `seen` of results.json: which training patches excite the layer of the chosen heads.

    Of the ten channels that the heads use most, the nine images in which they are largest as the
    heads have them, cell by cell: that is known of what is kept. These images alone go through the
    network again, up to the layer, to say where in the cell the channel is strongest.
    """
    if not job.settings.report:
        return None
    try:
        return _see(job, found)
    except Exception as error:  # whatever it is: hours of work must not hang on these pictures
        log.debug("nothing is seen of the chosen layer", exc_info=True)
        kind = "" if isinstance(error, ExtractError) else f"{type(error).__name__}: "
        return {"problem": f"{kind}{error}"}


def _see(job: Job, found: Found) -> dict:
    looked = looked_at(job, found)
    members = [
        [own.source, own.head, own.params, own.weight] for own in found.board.members[found.place]
    ]
    task = task_of(found.table, found.split.train, found.search)
    # the tap as well: which of a row's taps is looked at has been another
    decided = [*task, sources_of(found.table), members, str(looked.tap)]
    seen = job.findings.recall("seen", decided)
    if seen is None:
        seen, is_whole = _look(job, found, looked)
        if is_whole:  # an image that is gone may be there the next time
            job.findings.remember("seen", decided, seen)
    samples, ids = found.table.samples, found.table.ids
    # by row until here: the same images may have other names by now
    for patch in (patch for own in seen["channels"] for patch in own["patches"]):
        row = found.split.train[patch.pop("row")]
        patch |= {"path": samples.paths[row], "id": ids[row].tobytes().hex()}
    return seen


def looked_at(job: Job, found: Found) -> Looked:
    """The heaviest of the chosen heads on a layer with a spatial map, of joined ones the deepest.

    Raises ExtractError where there is none.
    """
    fitted = getattr(found.head.estimator, "members", None) or [
        replace(own, estimator=found.head.estimator) for own in found.board.members[found.place]
    ]
    backbones = {own.name: own for own in job.backbones}
    for member in sorted(fitted, key=lambda own: -own.weight):
        kept = found.table.features[member.source]
        backbone = backbones[kept.source.backbone]
        view = parse_view(kept.source.view).parts[0]
        stop = kept.source.dim
        for tap in reversed(kept.taps):
            columns = slice(stop - backbone.card.width(tap), stop)
            stop = columns.start
            if _is_by_channel(backbone.card.activations[tap.layer], tap.pooling):
                return Looked(member.estimator, member.source, backbone, tap, columns, view)
    raise ExtractError("the chosen heads take no layer with a spatial map")


def _is_by_channel(activation: Activation, pooling: str) -> bool:
    """Whether a pooling's columns are channel after channel, each of places of the map."""
    # the whole output of tokens and windows is place after place, a class token's among them
    in_other_order = pooling == RAW and activation.kind != "map"
    return activation.has_positions and pooling != "cls" and not in_other_order


def _look(job: Job, found: Found, looked: Looked) -> tuple[dict, bool]:
    """What is seen, and whether every patch was found."""
    layer, n_parts = looked.tap.layer, PARTS.get(looked.tap.pooling, 1)
    features, train = found.read(looked.source), found.split.train
    own = looked.n_channels, n_parts, looked.columns
    use, by = channel_use(looked.head, features, found.labels, *own)
    channels = np.argsort(-use, kind="stable")[:CHANNELS].tolist()
    largest = find_largest(by_channel(features[:, looked.columns], *own[:2])[:, channels])
    wanted = [
        (row, channel, looked.window(cell))
        for channel, of_channel in zip(channels, largest, strict=True)
        for row, cell, _ in of_channel
    ]
    located = locate_patches(
        looked.backbone,
        layer,
        found.table.samples[train].inputs,
        wanted,
        view=looked.view,
        device=job.settings.device,
        reading=job.settings.reading(),
        ids=found.table.ids[train],
    )
    patches = iter(located)
    field = find_field(looked.backbone, layer)
    seen = {
        "problem": None,
        "backbone": looked.backbone.name,
        "view": looked.view,
        "layer": layer,
        "tap": str(looked.tap),
        "shape": list(looked.shape),
        "field": [field.down.seen, field.across.seen],
        "sides": [field.down.length, field.across.length],
        "by": by,
        "n_images": len({row for row, _, _ in wanted}),
        "channels": [
            {
                "channel": channel,
                "use": _rounded(use[channel]),
                "patches": [
                    {"row": row, "value": _rounded(value), "box": list(map(_rounded, patch.box))}
                    for (row, _, value), patch in zip(of_channel, patches, strict=False)
                    if patch is not None
                ],
            }
            for channel, of_channel in zip(channels, largest, strict=True)
        ],
    }
    return seen, None not in located


def find_largest(values: np.ndarray, n: int = PATCHES) -> list[list[tuple[int, int, float]]]:
    """By channel the images in which its largest cell is largest: row, cell and value.

    values : (images, channels, cells). Of equal ones the first comes first.

    Examples
    --------
    >>> find_largest(np.array([[[1.0, 5.0]], [[7.0, 2.0]], [[0.0, 0.0]]]), n=2)
    [[(1, 0, 7.0), (0, 1, 5.0)]]
    """
    cells, most = values.argmax(axis=2).T, values.max(axis=2).T
    order = np.argsort(-most, axis=1, kind="stable")[:, :n]
    ranked = (np.take_along_axis(own, order, axis=1).tolist() for own in (cells, most))
    return [list(zip(*own, strict=True)) for own in zip(order.tolist(), *ranked, strict=True)]


def _span(shares: np.ndarray) -> slice:
    """From the first place that counts to the last."""
    counted = np.flatnonzero(shares)
    return slice(int(counted[0]), int(counted[-1]) + 1)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
