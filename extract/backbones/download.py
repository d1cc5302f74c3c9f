"""Files brought over the network: one by its address, or those of a model on a hub."""

import contextlib
import hashlib
import logging
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from data.offline import NOT_ALLOWED, is_offline
from extract.errors import ExtractError
from extract.files import sync_file, written_aside
from extract.weights import file_sha256

CHUNK = 1 << 20
SECONDS = 30.0  # without a byte, after which a server is taken for gone
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")  # as torch.hub names its files
Told = Callable[[int, int | None], Any]  # of bytes that came, and how many there are if known


def refuse_offline(what: str, instead: str) -> None:
    """ExtractError where nothing may be downloaded: what is missing, and what to do."""
    if is_offline():
        raise ExtractError(f"{what}, and {NOT_ALLOWED}: {instead}")


def has_named_hash(path: Path) -> bool:
    """Whether a file's SHA-256 begins as its name says; so where the name says nothing."""
    named = HASH_IN_NAME.search(path.name)
    return named is None or file_sha256(path).startswith(named[1])


def download(url: str, path: Path, told: Told = lambda came, all_of_it: None) -> None:
    """Bring one file; under its name there is all of it, its hash as its name says, or nothing.

    Raises ExtractError for an address that answers otherwise, and where the disk does not take it.
    """
    try:
        with written_aside(path) as aside:
            _stream(url, aside, told)
            _refuse_another(aside, path.name)
    except HTTPError as error:
        error.close()
        raise ExtractError(f"{url} answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, ExtractError):
            raise
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ExtractError(f"{url} can't be brought to {path.parent} ({reason})") from error


def torch_folder() -> Path:
    """Where torch keeps what it downloads."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def file_name(url: str) -> str:
    """By which torch keeps a file, with the first digits of its hash where its maker named them."""
    return Path(urlsplit(url).path).name


def kept_by_torch(url: str, what: str, carried: str) -> Path:
    """A file of weights where torch keeps it, downloaded to there if it has not been.

    what : whose weights, as an error says. carried : what else can be done than put it there.

    Raises ExtractError where it is not whole, or can't be brought.
    """
    path = torch_folder() / file_name(url)
    if path.is_file():
        if not has_named_hash(path):
            raise ExtractError(
                f"{path} is not whole, its sha256 does not begin as its name says: remove it, and "
                "it is downloaded again"
            )
        return path
    by_hand = f"put {path.name} into {path.parent}"
    refuse_offline(f"the weights {what} are not here", f"{by_hand}, {carried}")
    try:
        download(url, path)
    except ExtractError as error:
        raise ExtractError(f"{error}: {by_hand}, {carried}") from (error.__cause__ or error)
    return path


def _stream(url: str, path: Path, told: Told) -> None:
    asked = urllib.request.Request(url, headers={"User-Agent": "permafrost"})
    with urllib.request.urlopen(asked, timeout=SECONDS) as answer, open(path, "wb") as file:
        length = answer.headers.get("Content-Length")
        size = int(length) if length else None
        came = 0
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            came += len(chunk)
            told(len(chunk), size)
    if size not in (None, came):
        raise ExtractError(f"{url} ended after {came} of {size} bytes: try again")


def _refuse_another(path: Path, name: str) -> None:
    named = HASH_IN_NAME.search(name)
    if named is None:
        return
    found = file_sha256(path)
    if not found.startswith(named[1]):
        raise ExtractError(
            f"what came for {name} has sha256 {found}, expected one that begins with {named[1]}: "
            "it was changed on the way, by a proxy it may be"
        )


@dataclass(frozen=True)
class HubFile:
    """A file of a model on a hub: its size, and one of two digests of its bytes."""

    name: str
    bytes: int | None
    sha256: str | None
    git_sha1: str | None  # of small files; git's own, with their length before them


@dataclass(frozen=True)
class HubModel:
    """A model on a hub as it was at one commit."""

    repository: str
    commit: str
    files: dict[str, HubFile]

    @property
    def address(self) -> str:
        """Where a person would look at it."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.repository}/tree/{self.commit}"


def look_up(repository: str) -> HubModel:
    """What a hub has of a model. Raises ExtractError where it has none, or does not show it."""
    from huggingface_hub import HfApi

    with_reason = HubAnswers(repository)
    info = with_reason(lambda: HfApi().model_info(repository, files_metadata=True))
    files = {}
    for row in info.siblings or ():
        digest = row.lfs.sha256 if row.lfs else None
        files[row.rfilename] = HubFile(
            row.rfilename, row.size, digest, None if digest else row.blob_id
        )
    return HubModel(repository, info.sha or "main", files)


def bring(model: HubModel, name: str, folder: Path) -> Path:
    """Bring one file of a model into a folder; one that was brought whole before is left.

    Raises ExtractError for one that is not as the hub says.
    """
    from huggingface_hub import hf_hub_download

    path = Path(
        HubAnswers(model.repository)(
            lambda: hf_hub_download(model.repository, name, revision=model.commit, local_dir=folder)
        )
    )
    if not _is_as_told(path, model.files[name]):
        path.unlink()
        raise ExtractError(
            f"what came for {name} of {model.repository} is not what the hub names: try again"
        )
    sync_file(path)
    return path


def _is_as_told(path: Path, told: HubFile) -> bool:
    if told.bytes is not None and path.stat().st_size != told.bytes:
        return False
    if told.sha256:
        return file_sha256(path) == told.sha256
    if told.git_sha1:
        data = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == told.git_sha1
    return True


@dataclass(frozen=True)
class HubAnswers:
    """Calls a hub, and says in one line what it answered instead; its client shows nothing itself.

    otherwise: what can be done where the hub can't be reached.
    """

    repository: str
    otherwise: str = "try again"

    def __call__(self, call: Callable[[], Any]) -> Any:
        from huggingface_hub import errors

        try:
            with _unheard():
                return call()
        except errors.GatedRepoError as error:
            raise ExtractError(self._gated()) from error
        except errors.RepositoryNotFoundError as error:
            raise ExtractError(self._unknown()) from error
        except errors.HfHubHTTPError as error:
            code = error.response.status_code
            if code in (401, 403):
                raise ExtractError(self._unknown() if code == 401 else self._gated()) from error
            raise ExtractError(
                f"the hub answers {code} for {self.repository}: try again later"
            ) from error
        except errors.HFValidationError as error:
            raise ExtractError(
                f"{self.repository!r} is no name of a model on a hub: expected ORG/NAME"
            ) from error
        # the hub's client raises those of the library below it, which has changed its name
        except Exception as error:
            raise ExtractError(
                f"the files of {self.repository} can't be brought ({_first_cause(error)}): "
                f"{self.otherwise}"
            ) from error

    def _unknown(self) -> str:
        return (
            f"the hub knows no model {self.repository}, or shows it to its own alone: look at the "
            "spelling, or log in with `hf auth login`"
        )

    def _gated(self) -> str:
        from huggingface_hub import constants

        return (
            f"{self.repository} is gated: accept its terms at "
            f"{constants.ENDPOINT}/{self.repository}, log in with `hf auth login`, and try again"
        )


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Inside, the hub's client draws no bars, and says nothing of what it tries again."""
    from huggingface_hub import utils

    log = logging.getLogger("huggingface_hub")
    level, shown = log.level, not utils.are_progress_bars_disabled()
    log.setLevel(logging.CRITICAL)
    if shown:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(level)
        if shown:
            utils.enable_progress_bars()


def _first_cause(error: BaseException) -> str:
    """What began it: the client wraps the network's own words in paragraphs of advice."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
