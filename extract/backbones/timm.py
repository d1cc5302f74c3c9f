"""timm's models by name, or a folder that timm wrote, with timm's own weights and preprocessing."""

import contextlib
import difflib
import hashlib
import importlib.metadata
import importlib.util
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.backbones.backbone import Backbone
from extract.backbones.bounds import bytes_of, refuse_huge, refuse_large
from extract.backbones.card import Built
from extract.backbones.download import kept_by_torch
from extract.backbones.fetched import find_fetched
from extract.backbones.hub import WEIGHT_FILES, hub_file
from extract.backbones.names import Asked, file_signature, refuse_preprocessing
from extract.checkpoint import Fit
from extract.errors import ExtractError
from extract.preprocessing import FILTERS, Preprocessing
from extract.weights import is_file_source, load_file, read_state_dict, weights_file

CONFIG = "config.json"
FITS = {"center": "shorter", "squash": "squash", "border": "border"}
MOST_CONFIG = 1 << 20  # bytes of a folder's config.json
# of a folder's config.json what is passed on; the rest is not the network's
ARCHITECTURE, ARGUMENTS, PRETRAINED = "architecture", "model_args", "pretrained_cfg"
PRETRAINED_KEYS = (
    "input_size", "fixed_input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std",
    "num_classes", "pool_size", "first_conv", "classifier",
)  # fmt: skip


def load(asked: Asked) -> Backbone:
    """`NAME`, `NAME.tag`, or a folder with timm's config.json and weights.

    Raises ExtractError for a preprocessing of one's own, and where timm is not installed.
    """
    refuse_preprocessing(asked)
    if importlib.util.find_spec("timm") is None:
        raise ExtractError(f'backbone timm:{asked.name} needs timm: pip install "permafrost[timm]"')
    definition = asked.definition
    folder = as_folder(asked.name) if definition is None else None
    if folder is not None:
        definition = read_definition(folder)
    weights = asked.weights or "DEFAULT"
    found = str(folder_weights(folder)) if folder is not None and weights == "DEFAULT" else weights
    build = TimmBuild(asked.name, found, asked.seed, asked.size, _as_text(definition))
    seed = asked.seed if weights == "random" else None
    version = importlib.metadata.version("timm")
    key = ("timm", asked.name, found, file_signature(found), seed, version, build.definition)
    return Backbone(
        f"timm:{asked.name}", weights, build, size=asked.size, memory=asked.cache, key=key
    )


def as_folder(name: str) -> Path | None:
    """The folder that a name means: one with a separator in it, or a leading ~ or dot."""
    is_path = "/" in name or "\\" in name or name.startswith(("~", "."))
    return Path(name).expanduser() if is_path else None


def folder_weights(folder: Path) -> Path:
    """The weights of a folder that timm wrote; ExtractError where there are none."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ExtractError(
        f"{folder} has no weights: expected {' or '.join(WEIGHT_FILES)} beside its {CONFIG}"
    )


def read_definition(folder: Path) -> dict:
    """What a folder's config.json says of its network; ExtractError where it is not timm's."""
    file = folder / CONFIG
    if not file.is_file():
        raise ExtractError(
            f"{folder} has no {CONFIG}: expected a name that timm.list_models() has, or a folder "
            "that timm wrote (timm.models.save_for_hf)"
        )
    if file.stat().st_size > MOST_CONFIG:
        raise ExtractError(f"{file} is larger than {MOST_CONFIG} bytes: it is not timm's")
    try:
        said = json.loads(file.read_bytes())
    except ValueError as error:
        raise ExtractError(f"can't read {file}: {error}") from error
    if not (isinstance(said, dict) and isinstance(said.get(ARCHITECTURE), str)):
        hint = " (hf:FOLDER takes those of transformers)" if _is_transformers(said) else ""
        raise ExtractError(f"{file} names no architecture of timm{hint}")
    # newer folders keep what is of the weights in a block of its own
    block = said.get(PRETRAINED)
    of_weights = {**said, **(block if isinstance(block, dict) else {})}
    return {
        ARCHITECTURE: said[ARCHITECTURE],
        ARGUMENTS: said.get(ARGUMENTS) or {},
        PRETRAINED: {name: of_weights[name] for name in PRETRAINED_KEYS if name in of_weights},
        "num_classes": said.get("num_classes"),
    }


def _is_transformers(said: Any) -> bool:
    return isinstance(said, dict) and "model_type" in said


def _as_text(definition: Mapping | None) -> str | None:
    return None if definition is None else json.dumps(definition, sort_keys=True)


@dataclass(frozen=True)
class TimmBuild:
    """Builds a timm model with weights from any source; picklable, unlike the network.

    definition: what a folder's config.json says, as JSON; None for a name of timm's own.
    """

    name: str
    weights: str
    seed: int
    size: Any
    definition: str | None = None

    def __call__(self) -> Built:
        text = self.definition
        said = None if text is None else json.loads(text)
        asked = self.name if said is None else str(said.get(ARCHITECTURE))
        name = check_name(asked)
        arguments = {} if said is None else _arguments(said)
        if said is None and self.weights != "random" and not is_file_source(self.weights):
            name = _tagged(name, self.weights)
            network = self._create(name, self._pretrained(name))
            filled, fit = set(network.state_dict()), None
            label = name.partition(".")[2] or "DEFAULT"
        else:
            network = self._create(name, arguments)
            filled, fit, label = *self._filled(network), self.weights
        try:
            preprocessing = _preprocessing(_data_settings(network, name), name)
        except (TypeError, ValueError, LookupError) as error:
            if isinstance(error, ExtractError):
                raise
            raise ExtractError(
                f"timm:{name}: what its {CONFIG} says of images can't be used: {error}"
            ) from error
        digest = "" if text is None else "/" + hashlib.sha256(text.encode()).hexdigest()[:16]
        return Built(
            network,
            label,
            f"timm.{name}{digest}",
            filled,
            preprocessing,
            definition=said,
            patch=_patch_of(network),
            fit=fit,
        )

    def _filled(self, network: Any) -> tuple[set[str], Fit | None]:
        if self.weights == "random":
            return set(network.state_dict()), None
        path = weights_file(self.weights)
        if path is None:
            raise ExtractError(
                f"unknown weights {self.weights!r} for timm:{self.name}: expected random, or a "
                ".pth or .safetensors file"
            )
        return load_file(network, path)

    def _pretrained(self, name: str) -> dict[str, Any]:
        """What makes timm fill the network with its own weights, by its own rules."""
        import timm

        config = timm.get_pretrained_cfg(name)
        where = config and (config.hf_hub_id or config.url)
        if not where:
            raise ExtractError(
                f"timm has no weights for {name}: choose a tag "
                f"({', '.join(_tags(name)) or 'none has any'}), a file, or random"
            )
        fetched = find_fetched("timm", name)
        if fetched is not None:
            file = folder_weights(fetched)
        elif config.hf_hub_id:
            named = [config.hf_hub_filename] if config.hf_hub_filename else list(WEIGHT_FILES)
            file = hub_file(config.hf_hub_id, f"timm:{name}", named)
        else:
            file = kept_by_torch(config.url, f"of timm's {name}", 'or use weights="random"')
        if file.suffix == ".npz":  # its model reads it by a rule of its own
            return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}}
        given = {"state_dict": read_state_dict(file), "source": "", "custom_load": False}
        return {"pretrained": True, "pretrained_cfg_overlay": given}

    def _create(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """The network, of random weights from the seed where none are given.

        A network of one size is made for the size asked for, as timm does.
        """
        import timm
        import torch

        own = dict(arguments)
        if self.definition is not None:
            _refuse_huge(name, own)
        config = timm.get_pretrained_cfg(name)
        if self.size is not None and config is not None and config.fixed_input_size:
            own["img_size"] = self.size
        try:
            # the caller's random numbers stay as they were; no device is asked for
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.default_generator.manual_seed(self.seed)
                return timm.create_model(name, **own)
        # whatever a model's own code raises on a size or weights that are not for it
        except Exception as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            at = "" if self.size is None else f" at size {self.size}"
            raise ExtractError(f"timm can't make {name}{at}: {said}; try another size") from error


def _patch_of(network: Any) -> tuple[int, int] | None:
    """(height, width) of the patches that all tokens are of; None where there are several sizes."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    is_of_one_size = hasattr(network, "num_prefix_tokens")
    if not (is_of_one_size and isinstance(patch, tuple) and len(patch) == 2):
        return None
    return int(patch[0]), int(patch[1])


def _refuse_huge(name: str, arguments: Mapping[str, Any]) -> None:
    """ExtractError for a network that no machine of this kind holds, before it is made."""
    import timm
    import torch

    for key, value in arguments.items():
        refuse_large(f"timm:{name}", key, value, is_depth="depth" in key)
    needed = 0
    # not every model can be made without memory; those that can't are made as they are
    with (
        contextlib.suppress(Exception),
        torch.device("meta"),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        made = timm.create_model(name, **arguments)
        needed = bytes_of(made)
    refuse_huge(f"timm:{name}", needed)


def check_name(name: str) -> str:
    """The name if timm knows it, with its tag if one is written; else ExtractError."""
    import timm

    bare, _, tag = name.partition(".")
    if not timm.is_model(bare):
        near = difflib.get_close_matches(bare, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise ExtractError(f"timm has no model {bare!r}: {hint}")
    if tag and tag not in _tags(bare):
        raise ExtractError(
            f"timm has no weights {tag!r} of {bare}: expected {', '.join(_tags(bare)) or 'no tag'}"
        )
    return name


def _tagged(name: str, weights: str) -> str:
    """The name with the tag of its weights: the one written, the one asked for, or the default."""
    import timm

    bare, _, tag = name.partition(".")
    if weights != "DEFAULT":
        if tag and tag != weights:
            raise ExtractError(f"weights {weights!r} were asked for of {name}: leave one out")
        return check_name(f"{bare}.{weights}")
    config = timm.get_pretrained_cfg(name)
    found = tag or (config.tag if config is not None else "")
    return f"{bare}.{found}" if found else bare


def _tags(bare: str) -> list[str]:
    import timm

    named = timm.list_pretrained(f"{bare}.*")
    return [own.partition(".")[2] for own in named if own.partition(".")[0] == bare]


def _arguments(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder's config.json makes timm build, and nothing that would fetch or open more."""
    refused = ("pretrained", "cache_dir", "checkpoint", "features_only", "device", "dtype")
    arguments = said.get(ARGUMENTS) or {}
    if not isinstance(arguments, dict):
        raise ExtractError(f"{ARGUMENTS} of a timm folder is no object of settings")
    own = {
        name: value
        for name, value in arguments.items()
        if not name.startswith(refused) and _is_plain(value)
    }
    if isinstance(said.get("num_classes"), int):
        own.setdefault("num_classes", said["num_classes"])
    config = said.get(PRETRAINED)
    if isinstance(config, dict):
        own["pretrained_cfg_overlay"] = {
            name: config[name] for name in PRETRAINED_KEYS if name in config
        }
    return own


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str))


def _data_settings(network: Any, name: str) -> dict[str, Any]:
    from timm.data import resolve_data_config

    settings = resolve_data_config(model=network)
    if settings["input_size"][0] != 3:
        raise ExtractError(
            f"timm:{name} takes images of {settings['input_size'][0]} channels, expected 3"
        )
    return settings


def _preprocessing(settings: Mapping[str, Any], name: str) -> Preprocessing:
    """timm's own, for its `timm.data.create_transform`, equal to the pixel."""
    interpolation, fit = settings["interpolation"], settings["crop_mode"]
    if interpolation not in FILTERS or fit not in FITS:
        raise ExtractError(
            f"timm:{name} resizes by {interpolation!r} and crops by {fit!r}, which can't be done "
            f"here: expected {', '.join(FILTERS)}, and {', '.join(FITS)}"
        )
    height, width = settings["input_size"][-2:]
    return Preprocessing(
        height if height == width else (height, width),
        settings["crop_pct"],
        interpolation,
        tuple(settings["mean"]),
        tuple(settings["std"]),
        fit=FITS[fit],
    )
