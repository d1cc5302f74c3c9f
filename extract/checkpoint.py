"""Which tensors of a training checkpoint a network takes: one rule for every way of saving one."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data.names import counted

# a part of a path that says its tensors are averages over training
AVERAGED = frozenset({"ema", "swa", "averaged", "teacher"})
COUNTER = "num_batches_tracked"  # of batch norms: takes no part in a forward pass
NAMES_SAID = 3


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file fit a network.

    Attributes
    ----------
    under : str
        What stands before the names of those taken, such as `state_dict.module.`; "" for none.
    n_filled : int
        Tensors taken.
    unused : tuple of str
        Tensors there that the network has no place for.
    misshapen : tuple of str
        Tensors there of another shape or kind than the network's, with both.
    without : tuple of str
        Layers of the network that were left without weights.
    n_beside : int
        Tensors elsewhere in the file: other copies of the network, a queue of features.

    Examples
    --------
    >>> Fit("module.", 120, ("fc2.bias",), (), ("fc",), 0).in_words()
    '120 tensors taken, those under module.; no place for fc2.bias; left without weights: fc'
    """

    under: str
    n_filled: int
    unused: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    n_beside: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Fit":
        """From plain values, of JSON."""
        own: dict[str, Any] = dict(values)
        for name in ("unused", "misshapen", "without"):
            own[name] = tuple(own[name])  # JSON has no tuples
        return cls(**own)

    def in_words(self) -> str:
        """One line: what was taken, and what was not used."""
        parts = [f"{counted(self.n_filled, 'tensor')} taken"]
        if self.under:
            parts[0] += f", those under {self.under}"
        if self.unused:
            parts.append(f"no place for {_few(self.unused)}")
        if self.misshapen:
            parts.append(f"of the wrong shape: {_few(self.misshapen)}")
        if self.without:
            parts.append(f"left without weights: {_few(self.without)}")
        if self.n_beside:
            parts.append(f"{counted(self.n_beside, 'tensor')} elsewhere in the file not looked at")
        return "; ".join(parts)


def _few(names: tuple[str, ...]) -> str:
    more = len(names) - NAMES_SAID
    return ", ".join(names[:NAMES_SAID]) + (f" and {more} more" if more > 0 else "")


def nested_tensors(found: Any) -> Iterator[tuple[str, dict]]:
    """Each dict within what a file holds, by its dotted path: its own plain tensors by name.

    Lists, and dicts by number such as an optimiser's state, are not looked into.
    """
    seen: set[int] = set()
    ahead = [("", found)]
    while ahead:
        path, own = ahead.pop(0)
        if not isinstance(own, Mapping) or id(own) in seen:  # a file may hold a dict within itself
            continue
        seen.add(id(own))
        named = {name: value for name, value in own.items() if isinstance(name, str)}
        yield path, {name: value for name, value in named.items() if _is_plain(value)}
        ahead += [(f"{path}{name}.", value) for name, value in named.items()]


def _is_plain(tensor: Any) -> bool:
    import torch

    if not isinstance(tensor, torch.Tensor):
        return False
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu"
    return dense and not (tensor.is_quantized or tensor.is_complex())


def largest(found: Any) -> dict:
    """The dict with the most tensors within what a file holds; an average of equally large ones."""
    groups = list(nested_tensors(found))
    if not groups:
        return {}
    return min(groups, key=lambda group: (-len(group[1]), not _is_averaged(group[0])))[1]


def fitting_tensors(found: Any, target: Mapping[str, Any]) -> tuple[dict, Fit]:
    """The tensors that a network takes of what a file holds.

    Tensors are known by the dotted path through the dicts they lie in. Those are taken that stand
    under one path (`state_dict.`, `module.`, `model.backbone.`, `state_dict.module.encoder_q.`):
    the one under which most of the network's tensors are found, by name and shape. Of paths
    equally good, one that says it holds averages (`state_dict_ema.`, `model_ema.`, `teacher.`)
    comes first, then the one that stands first in the file.

    Parameters
    ----------
    found : object
        What the file holds.
    target : mapping of str to torch.Tensor
        The network's tensors.

    Returns
    -------
    tensors : dict of str to torch.Tensor
        By the network's names; empty where none fits.
    fit : Fit
    """
    tensors = {path + name: own for path, group in nested_tensors(found) for name, own in
               group.items()}  # fmt: skip
    under = _best_path(tensors, target)
    there = {name.removeprefix(under): own for name, own in tensors.items() if
             name.startswith(under)}  # fmt: skip
    fitting = {name: own for name, own in there.items() if _fits(own, target.get(name))}
    wrong = [name for name in there if name in target and name not in fitting]
    missing = [name for name in target if name not in fitting and not name.endswith(COUNTER)]
    fit = Fit(
        under,
        len(fitting),
        tuple(name for name in there if name not in target),
        tuple(f"{name} {_kind(there[name])}, expected {_kind(target[name])}" for name in wrong),
        tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in missing)),
        len(tensors) - len(there),
    )
    return fitting, fit


def _best_path(tensors: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    """What stands before the names of the tensors that fit best; "" where none fits."""
    found: Counter[str] = Counter()
    for name, own in tensors.items():
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        found.update(name[:start] for start in starts if _fits(own, target.get(name[start:])))
    # the first of equals is the first in the file: that is the order in which they were counted
    return min(found, key=lambda path: (-found[path], not _is_averaged(path)), default="")


def _is_averaged(path: str) -> bool:
    return not AVERAGED.isdisjoint(re.split(r"[._]", path.lower()))


def _fits(tensor: Any, place: Any) -> bool:
    """Of one shape, and numbers of one kind: half precision is widened, whole numbers are not."""
    return (
        place is not None
        and tensor.shape == place.shape
        and tensor.is_floating_point() == place.is_floating_point()
    )


def _kind(tensor: Any) -> str:
    whole = "" if tensor.is_floating_point() else f" of {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{whole}"
