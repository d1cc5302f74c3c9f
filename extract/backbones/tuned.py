"""Networks that were trained further: one file that holds the tensors and says what they are of."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extract.backbones import huggingface, timm, torchvision, wheels
from extract.backbones.backbone import Backbone
from extract.backbones.card import Built
from extract.backbones.image_processors import LARGEST_SIDE
from extract.backbones.names import (
    NETWORK,
    Asked,
    file_signature,
    is_model,
    is_path,
    refuse_preprocessing,
)
from extract.backbones.tables import bare_names, named_backbone
from extract.errors import ExtractError
from extract.files import written_aside
from extract.preprocessing import Preprocessing
from extract.weights import digest_of, read_metadata, save_tensors, tensors_digest

SCHEME = "tuned"
PERMAFROST = "permafrost"  # under which a file says what it is
SCHEMA = 1
MOST_SAID = 1 << 20  # characters
IN_A_CACHE = re.compile(r"[0-9a-f]{32}\.safetensors")  # as a tuning names what it keeps
# what builds a network that was trained further, by the scheme of the one it was made of
BASES: dict[str, Callable[[Asked], Backbone]] = {
    "torchvision": torchvision.load,
    "timm": timm.load,
    "hf": huggingface.load,
    "wheel": wheels.load,
}


def write_tuned(
    path: str | Path, backbone: Backbone, tensors: Mapping[str, Any], about: dict
) -> None:
    """Write a network that was trained further, as a file that `load_backbone` takes.

    Parameters
    ----------
    path : str or Path
        Ends in `.safetensors`; what is there is replaced as a whole.
    backbone : Backbone
        What was trained further. Of one's own module the file can be loaded into that module alone.
    tensors : mapping of str to torch.Tensor
        All tensors that the network computes with, by the names of `backbone.filled_tensors()`.
    about : dict
        How it was trained, of JSON's values; it is kept, and decides nothing.

    Raises
    ------
    ExtractError
        Tensors that are not those of the network.

    Examples
    --------
    >>> import tempfile
    >>> from extract import load_backbone
    >>> base = load_backbone("squeezenet1_1", "random", size=32)
    >>> further = {name: own * 1.01 for name, own in base.filled_tensors().items()}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = f"{folder}/network.safetensors"
    ...     write_tuned(file, base, further, {"epochs": 1})
    ...     load_backbone(file).name, describe_tuned(file)["about"]
    ('tuned:squeezenet1_1', {'epochs': 1})
    """
    expected = {name: own.shape for name, own in backbone.filled_tensors().items()}
    found = {name: own.shape for name, own in tensors.items()}
    if found != expected:
        odd = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise ExtractError(
            f"{len(odd)} of the tensors to be written are not those of {backbone.name} ({odd[0]}): "
            "expected all that it computes with, by name and shape"
        )
    card = backbone.card
    said = {
        "schema": SCHEMA,
        **_definition(backbone),
        "digest": digest_of(tensors),
        "base_digest": card.digest,
        "about": about,
    }
    with written_aside(Path(path)) as aside:
        save_tensors(tensors, aside, {PERMAFROST: json.dumps(said)})


def _definition(backbone: Backbone) -> dict:
    """What a network is built by, whatever its weights: of our own tables, or of what it says."""
    card, own = backbone.card, backbone.card.definition
    if own is not None and backbone.name.startswith(f"{SCHEME}:"):
        own = own["definition"]  # it was trained further before, and is of the same network
    return {
        "base": named_backbone(card.architecture) or backbone.name,
        "definition": own,
        "size": backbone.size,
        "preprocessing": card.preprocessing,
    }


def describe_tuned(path: str | Path) -> dict:
    """What a file says of the network it holds; neither torch nor the network is loaded for it.

    Parameters
    ----------
    path : str or Path
        The file, or a folder that holds `network.safetensors`.

    Returns
    -------
    dict
        `base`: the name of the network it was made of; `base_digest`, `digest`: of its tensors
        before and after; `definition`: what builds it beside its name, or None; `size`,
        `preprocessing`: what it sees; `about`: how it was trained.

    Raises
    ------
    ExtractError
        No such file, or one that was not written by `write_tuned`.
    """
    file = _found(Path(path).expanduser())
    text = read_metadata(file).get(PERMAFROST)
    if text is None:
        raise ExtractError(
            f"{file} does not say which network it is of: expected a file that a tuning wrote; "
            "a state dict is given as weights, beside the network's name"
        )
    try:
        said = json.loads(text) if len(text) <= MOST_SAID else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or said.get("schema") != SCHEMA:
        raise ExtractError(
            f"{file} was written by another version, or is damaged: expected schema {SCHEMA} "
            "of a tuning's file"
        )
    return said


def _found(path: Path) -> Path:
    """The file that a path means."""
    file = path / NETWORK if path.is_dir() else path
    if IN_A_CACHE.fullmatch(file.name) and not file.exists():
        raise ExtractError(
            f"the tuned network {file} is gone, as where its cache was pruned: fit again, or tune "
            "again; a saved classifier (save_classifier) brings its network with it"
        )
    if not file.is_file() or file.suffix.lower() != ".safetensors":
        raise ExtractError(
            f"no network at {path}: expected a .safetensors file that a tuning wrote, or a folder "
            f"with {NETWORK}; a model of the hub is written hf:ORG/NAME"
        )
    return file


def file_of(name: str) -> str | None:
    """The path that a name means after `tuned:`, or without it; None for the name of a base, as a
    bundle has it, whatever folder there is of that name.

    >>> file_of("out/network.safetensors"), file_of("tuned:resnet18")
    ('out/network.safetensors', None)
    """
    text = name.removeprefix(f"{SCHEME}:")
    return text if is_path(text) or _is_folder(text) else None


def _is_folder(name: str) -> bool:
    return (Path(name) / NETWORK).is_file() and not _is_base(name)


def _is_base(name: str) -> bool:
    return name.partition(":")[0] in BASES or name in bare_names() or is_model(name)


def load(asked: Asked) -> Backbone:
    """A network that was trained further: by its file, or by its base's name and a file as weights.

    What the file says, or a bundle, is a stranger's: the network is built from our own tables.
    Raises ExtractError where it can't be.
    """
    refuse_preprocessing(asked)
    file = _file(asked)
    said = describe_tuned(file) if asked.definition is None else asked.definition
    said = _checked(said, file)
    if file_of(asked.name) is None and asked.name != said["base"]:
        raise ExtractError(f"{file} is of {said['base']}: load it as tuned:{said['base']}")
    size = said["size"] if asked.size is None else asked.size
    base = _base(said, replace(asked, weights=str(file), size=size))
    key = (SCHEME, base.key, file_signature(str(file)), json.dumps(said, sort_keys=True))
    name = f"{SCHEME}:{said['base']}"
    build = TunedBuild(base, said)
    return Backbone(name, str(file), build, size=size, memory=asked.cache, key=key)


def _file(asked: Asked) -> Path:
    named = file_of(asked.name)
    if named is not None and asked.weights is not None:
        raise ExtractError(
            f"weights={asked.weights!r} of {asked.name}: a network that was trained further brings "
            "its own: leave them out"
        )
    path = asked.weights if named is None else named
    if path is None or not (is_path(path) or (Path(path) / NETWORK).is_file()):
        raise ExtractError(
            f"backbone tuned:{asked.name} needs its file: expected weights=PATH of a .safetensors "
            f"file that a tuning wrote, or PATH alone as the backbone (got {path!r})"
        )
    return _found(Path(path).expanduser())


def _checked(said: dict, file: Path) -> dict:
    """What builds the network, of what a file or a bundle says; ExtractError for what can't."""
    base, size, seen = said.get("base"), said.get("size"), said.get("preprocessing")
    definition, digest = said.get("definition"), said.get("digest")
    sides = size if isinstance(size, list) and len(size) == 2 else [size]
    plain = (
        isinstance(base, str)
        and isinstance(digest, str)
        and isinstance(definition, dict | None)
        and isinstance(seen, dict | None)
        and (size is None or all(type(s) is int and 1 <= s <= LARGEST_SIDE for s in sides))
    )
    if not plain:
        raise ExtractError(f"what {file} says of its network can't be used: it is damaged")
    if not _is_of_a_table(str(base), definition):
        raise ExtractError(
            f"{file} is of {ascii(base)[1:81]}, which is one's own, and a file holds no code: "
            "load it in a script, load_backbone(network, weights=PATH)"
        )
    return {
        "base": base,
        "definition": definition,
        "size": tuple(size) if isinstance(size, list) else size,
        "preprocessing": seen,
        "digest": digest,
    }


def _is_of_a_table(base: str, definition: dict | None) -> bool:
    """Whether a name is one that our tables give: never a folder's, a hub's or a module's."""
    scheme, rest = _split(base)
    if scheme == "hf" and definition is None:
        return False
    end = "/0" if scheme == "hf" else ""
    return scheme in BASES and named_backbone(f"{scheme}.{rest}{end}") == base


def _split(base: str) -> tuple[str, str]:
    """The scheme of a base, and its name there; no folder is looked for."""
    scheme, colon, rest = base.partition(":")
    return (scheme, rest) if colon else (bare_names().get(base, "torchvision"), base)


def _base(said: dict, asked: Asked) -> Backbone:
    """The network that the tensors are of, to be filled with them."""
    scheme, rest = _split(said["base"])
    return BASES[scheme](replace(asked, name=rest, definition=said["definition"]))


@dataclass(frozen=True)
class TunedBuild:
    """Builds a network of the tables and fills it from a file; picklable, unlike the network.

    said : what the file, or a bundle, says of it, checked.
    """

    base: Backbone
    said: dict

    def __call__(self) -> Built:
        built = self.base.build()
        network, file = built.network.float(), self.base.weights
        if built.fit is not None and built.fit.misshapen:
            raise ExtractError(
                f"{file} does not fit {self.said['base']} at this size: {built.fit.misshapen[0]}; "
                f"leave size at {self.said['size']}"
            )
        if tensors_digest(network, built.filled) != self.said["digest"]:
            raise ExtractError(
                f"{file} holds other tensors than were written into it: copy it again, or tune anew"
            )
        return replace(
            built,
            weights=file,
            preprocessing=self._preprocessing(built),
            definition=self.said,
            file=Path(file),
            fit=None,
        )

    def _preprocessing(self, built: Built) -> Any:
        seen = self.said["preprocessing"]
        if seen is None:
            return built.preprocessing
        try:
            return Preprocessing.from_dict(seen)
        except (TypeError, ValueError, LookupError) as error:
            raise ExtractError(
                f"what {self.base.weights} says of its images can't be used: {error}"
            ) from error
