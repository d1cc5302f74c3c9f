"""The folder of fetched networks: what is in it, and whether it is whole. Nothing is downloaded."""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

from extract.errors import ExtractError
from extract.files import write_text
from extract.weights import file_sha256

WEIGHTS_FOLDER = "PERMAFROST_WEIGHTS"
RECORD = "network.json"
SHA256 = re.compile(r"[0-9a-f]{64}")
TYPED = {"torchvision": ""}  # what is put before a name of this scheme; of others `scheme:`


@dataclass(frozen=True)
class FetchedFile:
    """A file as it was when it was fetched."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Fetched:
    """A network that was brought into the folder.

    Attributes
    ----------
    folder : Path
        Where its files are.
    scheme, name : str
        `torchvision`, `timm` or `hf`, and the name behind it.
    weights : str
        As `--weights` takes them; `DEFAULT` where a name says which.
    source : str
        Where the files come from.
    also : tuple of str
        Other names by which it is asked for, such as a timm name without its tag.
    files : dict of str to FetchedFile
        By name.
    """

    folder: Path
    scheme: str
    name: str
    weights: str
    source: str
    also: tuple[str, ...] = ()
    files: dict[str, FetchedFile] = field(default_factory=dict)

    @property
    def typed(self) -> str:
        """The name as `--backbone` takes it."""
        return TYPED.get(self.scheme, f"{self.scheme}:") + self.name

    def answers(self, name: str, weights: str | None) -> bool:
        """Whether it is what such a name and such weights ask for."""
        return name in (self.name, *self.also) and weights in (None, self.weights)


def weights_folder() -> Path:
    """`PERMAFROST_WEIGHTS`, else a folder of the user's own; it need not be there."""
    import platformdirs

    named = os.environ.get(WEIGHTS_FOLDER)
    if named:
        return Path(named).expanduser()
    return platformdirs.user_data_path("permafrost") / "weights"


def folder_name(scheme: str, name: str, weights: str) -> str:
    """A name fit for a folder: `google/vit` -> `google--vit`, and torchvision's weights behind it.

    >>> folder_name("torchvision", "resnet50", "IMAGENET1K_V2")
    'resnet50-IMAGENET1K_V2'
    """
    safe = re.sub(r"[^\w.\-]", "_", name.replace("/", "--"))
    return f"{safe}-{weights}" if scheme == "torchvision" else safe


def find_fetched(
    scheme: str, name: str, weights: str | None = None, folder: Path | None = None
) -> Path | None:
    """The folder of a fetched network with its files, each looked at; None where it is not there.

    Raises ExtractError for one that is not whole.
    """
    found = find_record(scheme, name, weights, folder)
    if found is None:
        return None
    check_files(found)
    return found.folder


def find_record(
    scheme: str, name: str, weights: str | None = None, folder: Path | None = None
) -> Fetched | None:
    """What the folder says of a network, its files not looked at; None where it has none."""
    for found in fetched_in(folder or weights_folder(), scheme):
        if found.answers(name, weights):
            return found
    return None


def networks_fetched() -> list[tuple[str, str]]:
    """Name and weights of each, as `--backbone` and `--weights` take them."""
    folder = weights_folder()
    try:
        schemes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return []
    return [
        (found.typed, found.weights) for scheme in schemes for found in fetched_in(folder, scheme)
    ]


def fetched_in(folder: Path, scheme: str) -> list[Fetched]:
    """The networks of a scheme in such a folder; what has no record is none of them."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder / scheme))
    except OSError:
        return []
    # one that is being fetched begins with a dot, one that was not whole ends so
    there = [name for name in names if not name.startswith(".") and not name.endswith(".damaged")]
    found = (read_record(folder / scheme / name) for name in there)
    return [one for one in found if one is not None and one.scheme == scheme]


def read_record(folder: Path) -> Fetched | None:
    """What a folder says that it holds; None where it says nothing that makes sense."""
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = {name: FetchedFile(**own) for name, own in values.pop("files").items()}
        also = tuple(values.pop("also"))
        found = Fetched(folder, files=files, also=also, **values)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    texts = (found.scheme, found.name, found.weights, found.source, *found.also)
    if not all(isinstance(text, str) for text in texts):
        return None
    return found if all(_is_plain(name, own) for name, own in files.items()) else None


def _is_plain(name: str, own: FetchedFile) -> bool:
    """A folder may have been carried from anywhere: no file of it lies elsewhere."""
    inside = Path(name).name == name and "\\" not in name and name not in ("", ".", "..", RECORD)
    sized = isinstance(own.bytes, int) and isinstance(own.sha256, str)
    return inside and sized and SHA256.fullmatch(own.sha256) is not None


def write_record(found: Fetched) -> None:
    """Say in a folder what it holds."""
    values = asdict(found)
    del values["folder"]
    write_text(found.folder / RECORD, json.dumps(values, indent=1) + "\n")


def check_files(found: Fetched) -> None:
    """ExtractError unless every file is there with its size and its SHA-256."""
    for name, own in found.files.items():
        path = found.folder / name
        try:
            stat = path.stat()
            if stat.st_size != own.bytes:
                raise _not_whole(found, path, f"has {stat.st_size} bytes, expected {own.bytes}")
            if _sha256(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) != own.sha256:
                raise _not_whole(found, path, f"has another sha256 than {own.sha256}")
        except OSError as error:
            raise _not_whole(found, path, f"can't be read ({error.strerror or error})") from error


@lru_cache(maxsize=64)
def _sha256(path: Path, *_as_it_is: int) -> str:
    """Once a process: a network is looked for as often as it is named."""
    return file_sha256(path)


def _not_whole(found: Fetched, path: Path, problem: str) -> ExtractError:
    return ExtractError(
        f"the fetched network {found.typed} is not whole: {path} {problem}; "
        f"`permafrost fetch {found.typed}` again, or remove {found.folder}"
    )
